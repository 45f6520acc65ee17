//! Reading and decoding with a time limit.
//!
//! A decoder cannot be stopped, and neither can a read from a network folder whose server went away. So the
//! work is done on a separate thread, which is abandoned when it takes too long: it keeps its image until it finishes,
//! while the run continues with a new thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::store::SourceFacts;
use crate::backbone::hex_sha256;
use crate::error::{Error, Result};
use crate::pixels::{DecodeLimits, DecodeOptions, Picture, read_file};

/// Number of abandoned threads after which a run ends: then the disk or network is at fault, not the images.
const MAX_GIVEN_UP: usize = 16;

/// Reads and decodes images, each within a time limit.
pub(super) struct Reader {
    thread: Thread<PathBuf, Result<(Picture, SourceFacts)>>,
    time_limit: Duration,
    given_up: usize,
}

impl Reader {
    /// For images that are decoded as `decode_options` says.
    pub fn new(
        limits: DecodeLimits,
        decode_options: DecodeOptions,
        time_limit: Duration,
    ) -> Result<Reader> {
        let work = move |path: PathBuf| {
            let (bytes, file) = read_file(&path)?;
            let (picture, (width, height)) =
                Picture::decode_sized(&bytes, &path, &limits, decode_options)?;
            let facts = SourceFacts {
                width,
                height,
                bytes: bytes.len() as u64,
                modified_ns: modified_ns(&file),
                sha256: hex_sha256(&bytes),
            };
            Ok((picture, facts))
        };
        Ok(Reader {
            thread: Thread::start(Arc::new(work))?,
            time_limit,
            given_up: 0,
        })
    }

    /// The image in the file `path`, and the file's facts.
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be used or takes too long; [`Error::Io`] if no thread can be started.
    pub fn read(&mut self, path: &Path) -> Result<(Picture, SourceFacts)> {
        let seconds = self.time_limit.as_secs();
        let bad = |reason: &str| Error::Image {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        match self.thread.run(path.to_owned(), self.time_limit)? {
            Ran::Done(result) => result,
            Ran::Died => Err(bad("cannot be decoded")),
            Ran::TooLong => {
                self.given_up += 1;
                if self.given_up >= MAX_GIVEN_UP {
                    return Err(Error::io("read", path)(std::io::Error::new(
                        std::io::ErrorKind::TimedOut,
                        format!(
                            "{} images took longer than {seconds} s each; check the disk or network",
                            self.given_up
                        ),
                    )));
                }
                Err(bad(&format!(
                    "takes longer than {seconds} s to read and decode; raise --max-seconds"
                )))
            }
        }
    }
}

/// How a piece of work ended.
#[derive(Debug, PartialEq)]
enum Ran<R> {
    Done(R),
    TooLong,
    /// It panicked.
    Died,
}

type Work<T, R> = Arc<dyn Fn(T) -> R + Send + Sync>;

/// A thread that does one task at a time, and can be abandoned.
struct Thread<T, R> {
    work: Work<T, R>,
    tasks: Sender<T>,
    results: Receiver<R>,
}

impl<T: Send + 'static, R: Send + 'static> Thread<T, R> {
    fn start(work: Work<T, R>) -> Result<Thread<T, R>> {
        // Whoever asks waits for the answer: there is never more than one of each.
        let (tasks, to_do) = bounded::<T>(1);
        let (done, results) = bounded(1);
        let own = work.clone();
        std::thread::Builder::new()
            .name("tl-reader".into())
            .spawn(move || {
                for task in to_do {
                    if done.send(own(task)).is_err() {
                        break;
                    }
                }
            })
            .map_err(Error::io("start", "a thread that reads images"))?;
        Ok(Thread {
            work,
            tasks,
            results,
        })
    }

    /// Does `task`; if that takes longer than `limit`, or dies of it, the next task gets a new thread.
    fn run(&mut self, task: T, limit: Duration) -> Result<Ran<R>> {
        let sent = self.tasks.send(task);
        let found = match sent.is_ok() {
            true => self.results.recv_timeout(limit),
            false => Err(RecvTimeoutError::Disconnected),
        };
        let ran = match found {
            Ok(result) => return Ok(Ran::Done(result)),
            Err(RecvTimeoutError::Timeout) => Ran::TooLong,
            Err(RecvTimeoutError::Disconnected) => Ran::Died,
        };
        *self = Thread::start(self.work.clone())?;
        Ok(ran)
    }
}

/// Time of a file's last change in nanoseconds since 1970, negative before; 0 if the system does not report it, or if it
/// is centuries away.
pub(super) fn modified_ns(facts: &fs::Metadata) -> i64 {
    let Ok(modified) = facts.modified() else {
        return 0;
    };
    let nanoseconds = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(0);
    match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => nanoseconds(after),
        Err(before) => -nanoseconds(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_or_panics_is_left_behind_and_the_next_is_done() {
        let (release, held) = bounded::<()>(0);
        let work = move |task: u32| match task {
            0 => {
                let _ = held.recv();
                0
            }
            1 => panic!("the decoder is at fault"),
            n => 10 * n,
        };
        let mut thread = Thread::start(Arc::new(work)).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(thread.run(2, long).unwrap(), Ran::Done(20));
        assert_eq!(
            thread.run(0, Duration::from_millis(1)).unwrap(),
            Ran::TooLong
        );
        assert_eq!(thread.run(3, long).unwrap(), Ran::Done(30));
        assert_eq!(thread.run(1, long).unwrap(), Ran::Died);
        assert_eq!(thread.run(4, long).unwrap(), Ran::Done(40));
        drop(release);
    }

    #[test]
    fn a_picture_with_too_little_time_is_skipped_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("large.png");
        image::RgbImage::new(4000, 3000).save(&picture).unwrap();
        let mut reader = Reader::new(
            DecodeLimits::default(),
            [255; 3].into(),
            Duration::from_nanos(1),
        )
        .unwrap();
        // On a busy machine the thread may be done before its time is looked at.
        let mut read = || reader.read(&picture);
        let first = (0..100).find_map(|_| read().err()).unwrap().to_string();
        assert!(
            first.contains("large.png: takes longer than 0 s"),
            "{first}"
        );
        let last = (0..100).find_map(|_| match read() {
            Err(Error::Io { source, .. }) => Some(source.to_string()),
            _ => None,
        });
        assert!(last.unwrap().contains("check the disk or network"));
    }
}
