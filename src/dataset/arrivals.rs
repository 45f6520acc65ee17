//! Files as they arrive in a folder, once they are completely written: told by the system (inotify), so that
//! nothing is looked at while it waits.

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::leftovers::is_leftover;
use super::scan::is_plainly_other;
use crate::error::{Error, Result};

/// Endings of files that are still written and get another name when they are whole.
const UNFINISHED: [&str; 6] = ["crdownload", "filepart", "part", "partial", "swp", "tmp"];

/// Room for the events of one read: each takes 16 bytes and the name.
const EVENT_BYTES: usize = 64 * 1024;

/// A folder that is watched for new files. Folders inside it are not.
pub struct Arrivals {
    folder: PathBuf,
    inotify: OwnedFd,
    events: Vec<MaybeUninit<u8>>,
}

/// What [`Arrivals::wait`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Names of files that can be pictures, in the order in which they became whole.
    pub names: Vec<PathBuf>,
    /// Whether more files came than the system could tell of: some are missing from the names.
    pub lost: bool,
}

impl Arrivals {
    /// Starts to watch `folder`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Dataset`] if it is no folder; [`Error::Io`].
    pub fn watch(folder: &Path) -> Result<Arrivals> {
        if !folder.exists() {
            return Err(Error::NotFound {
                what: "folder",
                path: folder.to_owned(),
            });
        }
        let fail = |e: Errno| match e {
            Errno::NOTDIR => Error::Dataset {
                path: folder.to_owned(),
                problem: "is no folder; give the folder in which pictures arrive".into(),
            },
            other => Error::io("watch", folder)(other.into()),
        };
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(fail)?;
        let wanted = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, folder, wanted).map_err(fail)?;
        Ok(Arrivals {
            folder: folder.to_owned(),
            inotify,
            events: vec![MaybeUninit::uninit(); EVENT_BYTES],
        })
    }

    /// Waits for files, at most for `most`, and returns those that became whole.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the folder was removed or renamed; [`Error::Io`].
    pub fn wait(&mut self, most: Duration) -> Result<Arrived> {
        let mut arrived = Arrived::default();
        let fail = |e: Errno| Error::io("watch", &self.folder)(e.into());
        let timeout = Timespec {
            tv_sec: most.as_secs() as i64,
            tv_nsec: i64::from(most.subsec_nanos()) as _,
        };
        match poll(
            &mut [PollFd::new(&self.inotify, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) | Err(Errno::INTR) => return Ok(arrived),
            Ok(_) => {}
            Err(e) => return Err(fail(e)),
        }
        let mut events = inotify::Reader::new(&self.inotify, &mut self.events);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(arrived),
                Err(e) => return Err(fail(e)),
            };
            let kind = event.events();
            if kind.intersects(
                ReadFlags::DELETE_SELF
                    | ReadFlags::MOVE_SELF
                    | ReadFlags::UNMOUNT
                    | ReadFlags::IGNORED,
            ) {
                return Err(Error::Dataset {
                    path: self.folder.clone(),
                    problem: "the folder was removed or renamed while it was watched".into(),
                });
            }
            arrived.lost |= kind.contains(ReadFlags::QUEUE_OVERFLOW);
            let Some(name) = event.file_name() else {
                continue;
            };
            let name = OsStr::from_bytes(name.to_bytes());
            if !kind.contains(ReadFlags::ISDIR) && can_be_picture(name) {
                arrived.names.push(PathBuf::from(name));
            }
        }
    }

    /// Names of the files that are there now, in order, as far as they can be pictures.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn present(&self) -> Result<Vec<PathBuf>> {
        let fail = || Error::io("read", &self.folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail())? {
            let entry = entry.map_err(fail())?;
            let is_file = fs::metadata(entry.path()).is_ok_and(|facts| facts.is_file());
            if is_file && can_be_picture(&entry.file_name()) {
                names.push(PathBuf::from(entry.file_name()));
            }
        }
        names.sort();
        Ok(names)
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
        fs::write(dir.path().join("notes.txt"), b"no picture").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::rename(dir.path().join(".b.jpg.x1"), dir.path().join("b.jpg")).unwrap();
        assert_eq!(names(arrivals.wait(LONG).unwrap()), ["b.jpg"]);
        assert_eq!(
            arrivals.present().unwrap(),
            [Path::new("a.jpg"), Path::new("b.jpg")]
        );
    }

    #[test]
    fn a_folder_that_goes_away_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        fs::create_dir(&folder).unwrap();
        let mut arrivals = Arrivals::watch(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
        let error = arrivals.wait(LONG).unwrap_err().to_string();
        assert!(error.contains("was removed or renamed"), "{error}");
        assert!(Arrivals::watch(&folder).is_err());
    }
}
