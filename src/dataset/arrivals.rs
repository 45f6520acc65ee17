//! Reports files that arrive in a folder once they are completely written, through inotify, without polling files.
//!
//! inotify watches a folder, not a path, and its queue can overflow. So the path is checked regularly: if it leads to
//! another folder, that one is watched from then on. After an overflow the folder is listed, and unreported files count
//! as arrived.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::leftovers::is_leftover;
use super::scan::is_plainly_other;
use crate::error::{Error, PathRole, Result};

/// Suffixes of files that are still being written and are renamed when complete.
const UNFINISHED: [&str; 6] = ["crdownload", "filepart", "part", "partial", "swp", "tmp"];

/// Buffer for the events of one read: each takes 16 bytes and the name.
const EVENT_BYTES: usize = 64 * 1024;

/// A folder missing for longer than this is considered gone.
const AWAY: Duration = Duration::from_secs(10);

/// Files that are remembered before it is looked which of them are still there.
const REMEMBERED: usize = 1 << 16;

/// A folder that is watched for new files. Folders inside it are not.
pub struct Arrivals {
    folder: PathBuf,
    state: State,
    events: Vec<MaybeUninit<u8>>,
    /// Hashes of the files, as they were, that were there before or have arrived.
    known: HashSet<u64>,
    /// Those of them that were found by listing the folder, and of which the system may tell yet.
    listed: HashSet<u64>,
    hasher: RandomState,
    /// When [`known`](Self::known) has so many, those that are gone are forgotten.
    forget_at: usize,
}

enum State {
    /// The folder that is watched, by device and number.
    Watching(OwnedFd, (u64, u64)),
    /// The folder does not exist.
    Away(Instant),
}

/// Change of the watched folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FolderNews {
    /// Nothing.
    #[default]
    None,
    /// It was removed or renamed; waiting for it to return.
    Gone,
    /// Another folder has its name, and is watched from now on. All files in it have arrived.
    MadeAnew,
}

/// Result of [`Arrivals::wait`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Names of files that can be images, in the order in which they were completed.
    pub names: Vec<PathBuf>,
    /// How many of them, the last, were found by listing the folder, since more files came than the system could
    /// tell of; `None` if that was not so.
    pub listed: Option<usize>,
    /// Change of the folder.
    pub folder: FolderNews,
}

impl Arrivals {
    /// Starts to watch `folder`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Dataset`] if it is not a folder; [`Error::Io`].
    pub fn watch(folder: &Path) -> Result<Arrivals> {
        if !folder.exists() {
            return Err(Error::NotFound {
                what: PathRole::Folder,
                path: folder.to_owned(),
            });
        }
        let mut arrivals = Arrivals {
            folder: folder.to_owned(),
            state: start(folder)?,
            events: vec![MaybeUninit::uninit(); EVENT_BYTES],
            known: HashSet::new(),
            listed: HashSet::new(),
            hasher: RandomState::new(),
            forget_at: REMEMBERED,
        };
        arrivals.new_files()?;
        arrivals.listed.clear();
        Ok(arrivals)
    }

    /// Waits for files, at most for `most`, and returns completed ones.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the folder was removed or renamed and does not come back; [`Error::Io`].
    pub fn wait(&mut self, most: Duration) -> Result<Arrived> {
        let mut arrived = Arrived::default();
        let (is_gone, is_lost) = match &self.state {
            State::Watching(inotify, _) => read_events(
                inotify,
                &self.folder,
                &mut self.events,
                most,
                &mut arrived.names,
            )?,
            State::Away(since) if since.elapsed() > AWAY => {
                return Err(Error::Dataset {
                    path: self.folder.clone(),
                    problem: format!(
                        "the folder was removed or renamed while it was watched, and did not return within {} s",
                        AWAY.as_secs()
                    ),
                });
            }
            State::Away(_) => {
                if !self.folder.is_dir() {
                    std::thread::sleep(most);
                    return Ok(arrived);
                }
                (true, false)
            }
        };
        let told = std::mem::take(&mut arrived.names).into_iter();
        arrived.names = told.filter(|name| self.is_news(name)).collect();
        self.listed.clear();
        let is_here = match &self.state {
            State::Watching(_, watched) => identity(&self.folder) == Some(*watched),
            State::Away(_) => false,
        };
        if is_gone || !is_here {
            let was_away = matches!(self.state, State::Away(_));
            match start(&self.folder) {
                Ok(state) => {
                    self.state = state;
                    arrived.folder = FolderNews::MadeAnew;
                    arrived.names.extend(self.new_files()?);
                }
                Err(_) if !was_away => {
                    self.state = State::Away(Instant::now());
                    arrived.folder = FolderNews::Gone;
                }
                Err(_) => {}
            }
        } else if is_lost {
            let found = self.new_files()?;
            arrived.listed = Some(found.len());
            arrived.names.extend(found);
        }
        if self.known.len() >= self.forget_at {
            self.forget()?;
        }
        Ok(arrived)
    }

    /// Names of the files that are there now, in order, as far as they can be images.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn present(&self) -> Result<Vec<PathBuf>> {
        let files = self.files()?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// The files that are there now, in order of their names, each with its hash.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let fail = || Error::io("read", &self.folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail())? {
            let name = PathBuf::from(entry.map_err(fail())?.file_name());
            if can_be_picture(name.as_os_str())
                && let Some(key) = self.key(&name)
            {
                files.push((name, key));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Records that the system reported a file; returns whether it had not been found by listing before.
    fn is_news(&mut self, name: &Path) -> bool {
        let Some(key) = self.key(name) else {
            return true;
        };
        self.known.insert(key);
        !self.listed.remove(&key)
    }

    /// Names of the files that are there and have not arrived as they are now, which from now on they have.
    fn new_files(&mut self) -> Result<Vec<PathBuf>> {
        let mut files = self.files()?;
        files.retain(|(_, key)| self.known.insert(*key));
        self.listed.extend(files.iter().map(|(_, key)| *key));
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// Forgets files that are no longer there: memory grows with the folder, not with what came through it.
    fn forget(&mut self) -> Result<()> {
        let present: HashSet<u64> = self.files()?.into_iter().map(|(_, key)| key).collect();
        self.known.retain(|key| present.contains(key));
        self.forget_at = REMEMBERED + 2 * self.known.len();
        Ok(())
    }

    /// A hash of the file `name` as it is now; `None` if it is not there, or no file. Written anew, a file has another.
    fn key(&self, name: &Path) -> Option<u64> {
        let facts = fs::metadata(self.folder.join(name)).ok();
        let facts = facts.filter(Metadata::is_file)?;
        let written = (facts.mtime(), facts.mtime_nsec());
        Some(
            self.hasher
                .hash_one((name, facts.ino(), facts.len(), written)),
        )
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let facts = fs::metadata(folder).ok()?;
    Some((facts.dev(), facts.ino()))
}

/// Starts to watch the folder that `folder` leads to.
fn start(folder: &Path) -> Result<State> {
    let fail = |e: Errno| match e {
        Errno::NOTDIR => Error::Dataset {
            path: folder.to_owned(),
            problem: "it is not a folder; give the folder in which images arrive".into(),
        },
        other => Error::io("watch", folder)(other.into()),
    };
    let wanted = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    loop {
        let before = identity(folder);
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(fail)?;
        inotify::add_watch(&inotify, folder, wanted).map_err(fail)?;
        // Otherwise it was replaced just now, and it is unclear which one is watched.
        if let Some(watched) = identity(folder).filter(|after| Some(*after) == before) {
            return Ok(State::Watching(inotify, watched));
        }
    }
}

/// Waits for events, at most for `most`, and adds the names that they tell. Says whether the folder is gone, and
/// whether events were lost.
fn read_events(
    inotify: &OwnedFd,
    folder: &Path,
    buffer: &mut [MaybeUninit<u8>],
    most: Duration,
    names: &mut Vec<PathBuf>,
) -> Result<(bool, bool)> {
    let fail = |e: Errno| Error::io("watch", folder)(e.into());
    let timeout = Timespec {
        tv_sec: most.as_secs() as i64,
        tv_nsec: i64::from(most.subsec_nanos()) as _,
    };
    match poll(&mut [PollFd::new(inotify, PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => return Ok((false, false)),
        Ok(_) => {}
        Err(e) => return Err(fail(e)),
    }
    let (mut is_gone, mut is_lost) = (false, false);
    let mut events = inotify::Reader::new(inotify, buffer);
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::AGAIN | Errno::INTR) => return Ok((is_gone, is_lost)),
            Err(e) => return Err(fail(e)),
        };
        let kind = event.events();
        is_gone |= kind.intersects(
            ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED,
        );
        is_lost |= kind.contains(ReadFlags::QUEUE_OVERFLOW);
        if let Some(name) = event.file_name() {
            let name = OsStr::from_bytes(name.to_bytes());
            if !kind.contains(ReadFlags::ISDIR) && can_be_picture(name) {
                names.push(PathBuf::from(name));
            }
        }
        // If files arrive faster than they are read, this would never end.
        if names.len() >= REMEMBERED {
            return Ok((is_gone, is_lost));
        }
    }
}

fn can_be_picture(name: &OsStr) -> bool {
    let path = Path::new(name);
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or("");
    !is_leftover(name) && !is_plainly_other(path) && !UNFINISHED.contains(&ending)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(20);

    fn names(arrived: Arrived) -> Vec<String> {
        let names = arrived.names.iter();
        names.map(|n| n.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_file_arrives_when_it_is_closed_or_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut arrivals = Arrivals::watch(dir.path()).unwrap();
        let mut file = File::create(dir.path().join("a.jpg")).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(arrivals.wait(SHORT).unwrap(), Arrived::default());
        drop(file);
        assert_eq!(names(arrivals.wait(LONG).unwrap()), ["a.jpg"]);

        fs::write(dir.path().join(".b.jpg.x1"), b"hidden").unwrap();
        fs::write(dir.path().join("c.jpg.part"), b"unfinished").unwrap();
        fs::write(dir.path().join("notes.txt"), b"no image").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::rename(dir.path().join(".b.jpg.x1"), dir.path().join("b.jpg")).unwrap();
        assert_eq!(names(arrivals.wait(LONG).unwrap()), ["b.jpg"]);
        assert_eq!(
            arrivals.present().unwrap(),
            [Path::new("a.jpg"), Path::new("b.jpg")]
        );
    }

    #[test]
    fn a_folder_that_is_made_anew_is_watched_even_if_the_old_one_is_still_held() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        for held in [false, true] {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("old.jpg"), b"before").unwrap();
            let mut arrivals = Arrivals::watch(&folder).unwrap();
            // The system reports a removed folder when its last handle is closed.
            let _handle = held.then(|| File::open(&folder).unwrap());
            fs::remove_dir_all(&folder).unwrap();
            let gone = arrivals.wait(SHORT).unwrap();
            assert_eq!((gone.folder, gone.names.len()), (FolderNews::Gone, 0));
            assert_eq!(arrivals.wait(SHORT).unwrap(), Arrived::default());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("old.jpg"), b"another").unwrap();
            let back = arrivals.wait(SHORT).unwrap();
            assert_eq!(back.folder, FolderNews::MadeAnew);
            assert_eq!(names(back), ["old.jpg"]);
            fs::write(folder.join("b.jpg"), b"later").unwrap();
            assert_eq!(names(arrivals.wait(LONG).unwrap()), ["b.jpg"]);
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(Arrivals::watch(&folder).is_err());
    }

    #[test]
    fn a_folder_that_does_not_come_back_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        fs::create_dir(&folder).unwrap();
        let mut arrivals = Arrivals::watch(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
        assert_eq!(arrivals.wait(SHORT).unwrap().folder, FolderNews::Gone);
        let long_ago = Instant::now().checked_sub(2 * AWAY).unwrap();
        arrivals.state = State::Away(long_ago);
        let error = arrivals.wait(SHORT).unwrap_err().to_string();
        assert!(error.contains("did not return within 10 s"), "{error}");
    }

    #[test]
    fn files_that_the_system_could_not_tell_of_arrive_once_each() {
        let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").ok();
        let queue: usize = queue.and_then(|n| n.trim().parse().ok()).unwrap_or(16384);
        // With a very long queue, files are reported and not lost, which is fine too.
        let count = (queue + 2000).min(20_000);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("before.jpg"), b"").unwrap();
        let mut arrivals = Arrivals::watch(dir.path()).unwrap();
        for i in 0..count {
            File::create(dir.path().join(format!("{i}.jpg"))).unwrap();
        }
        // Written again while nobody listens: it arrives in its current state.
        fs::write(dir.path().join("before.jpg"), b"anew").unwrap();
        let arrived = arrivals.wait(LONG).unwrap();
        assert_eq!(arrived.listed.is_some(), count > queue);
        let mut found = names(arrived);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count + 1);
        assert_eq!(names(arrivals.wait(SHORT).unwrap()), [""; 0]);

        // What is gone is forgotten.
        arrivals.forget_at = 0;
        for i in 10..count {
            fs::remove_file(dir.path().join(format!("{i}.jpg"))).unwrap();
        }
        arrivals.wait(SHORT).unwrap();
        assert_eq!(arrivals.known.len(), 11);
    }
}
