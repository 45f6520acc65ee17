//! The event log of a long job, a file in its feature store, so that another process can follow it.
//!
//! The file has one JSON object per line, as printed by `--json`. It belongs to one run: the next run on the store starts
//! a new one. It is a convenience, not a result: if it cannot be written, the job continues without it.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crossbeam::channel::TryRecvError;

use crate::disk::open_own_to_read;
use crate::error::{Error, Result};
use crate::progress::{Event, Phase, Progress};

/// Name of the file in the feature store.
pub const EVENTS_FILE: &str = "events.jsonl";

/// Number of lines kept until the log may begin.
const MAX_HELD_LINES: usize = 10_000;

/// Maximum bytes of a line.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Maximum bytes that a reader takes at a time.
const MAX_READ_BYTES: u64 = 1 << 20;

/// Runs `job` with a progress whose events go to `progress` and into the event log in `store`.
///
/// Events pass through a separate thread, so that workers do not wait for the disk or the reader until the channel is
/// full.
pub(super) fn recorded<T>(
    store: &Path,
    progress: &Progress,
    job: impl FnOnce(&Progress) -> Result<T>,
) -> Result<T> {
    let (inner, events) = progress.tapped();
    std::thread::scope(|scope| {
        let outer = progress.clone();
        let forward = move || {
            let mut record = Record::new(store);
            loop {
                let event = match events.try_recv() {
                    Ok(event) => event,
                    Err(TryRecvError::Empty) => {
                        record.flush();
                        match events.recv() {
                            Ok(event) => event,
                            Err(_) => break,
                        }
                    }
                    Err(TryRecvError::Disconnected) => break,
                };
                record.write(&event);
                outer.emit(event);
            }
            record.flush();
        };
        let forwarder = std::thread::Builder::new().name("tl-record".into());
        // Drop the job's end of the channel before the scope waits for the forwarder.
        let inner = inner;
        match forwarder.spawn_scoped(scope, forward) {
            Ok(_) => job(&inner),
            Err(_) => job(progress),
        }
    })
}

/// The log being written.
enum Record {
    /// The job has not started to work in the store, which may belong to another run or not be a store at all.
    Waiting { path: PathBuf, lines: Vec<Vec<u8>> },
    /// Lines go to the file.
    Open(BufWriter<File>),
    /// It could not be written.
    Ended,
}

impl Record {
    fn new(store: &Path) -> Record {
        Record::Waiting {
            path: store.join(EVENTS_FILE),
            lines: Vec::new(),
        }
    }

    fn write(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        match self {
            Record::Waiting { path, lines } => {
                if lines.len() < MAX_HELD_LINES {
                    lines.push(line);
                }
                // From these events on the job owns the store, so no other run's log is overwritten.
                let holds_store = matches!(
                    event,
                    Event::Phase {
                        phase: Phase::Extract | Phase::Train,
                        ..
                    }
                );
                if holds_store {
                    *self = match begin(path, lines) {
                        Ok(file) => Record::Open(file),
                        Err(_) => Record::Ended,
                    };
                }
            }
            Record::Open(file) => {
                if file.write_all(&line).is_err() {
                    *self = Record::Ended;
                }
            }
            Record::Ended => {}
        }
    }

    fn flush(&mut self) {
        if let Record::Open(file) = self
            && file.flush().is_err()
        {
            *self = Record::Ended;
        }
    }
}

/// Starts a new file; a process that still writes or reads the old one keeps it.
fn begin(path: &Path, lines: &[Vec<u8>]) -> std::io::Result<BufWriter<File>> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = File::create_new(path)?;
    // Held while this process writes: another process that can take it knows that this one has ended. Without
    // lock support, nobody can take it.
    let _ = file.try_lock();
    let mut file = BufWriter::new(file);
    for line in lines {
        file.write_all(line)?;
    }
    Ok(file)
}

/// Follows a growing event log.
pub struct EventTail {
    path: PathBuf,
    file: Option<File>,
    read: u64,
    /// The start of an incomplete line.
    rest: Vec<u8>,
}

impl EventTail {
    /// Follows the event log of `dir`: a feature store, or the saved model beside it.
    pub fn new(dir: &Path) -> EventTail {
        let store = if dir.is_dir() {
            dir.to_owned()
        } else {
            dir.with_extension("features")
        };
        EventTail {
            path: store.join(EVENTS_FILE),
            file: None,
            read: 0,
            rest: Vec::new(),
        }
    }

    /// The file that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Events written since the last call, at most 1 MiB; empty if there is nothing new. Lines that this version does
    /// not know are skipped. A new log at the same path is read from its start after the old one is read to its end.
    ///
    /// # Errors
    /// [`Error::Io`] if the file exists but cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Event>> {
        let mut bytes = self.read_more().map_err(Error::io("read", &self.path))?;
        if bytes.is_empty() && self.is_replaced() {
            *self = EventTail {
                path: std::mem::take(&mut self.path),
                file: None,
                read: 0,
                rest: Vec::new(),
            };
            bytes = self.read_more().map_err(Error::io("read", &self.path))?;
        }
        self.rest.append(&mut bytes);
        let Some(end) = self.rest.iter().rposition(|&b| b == b'\n') else {
            // A line that long is not an event.
            if self.rest.len() > MAX_LINE_BYTES {
                self.rest = Vec::new();
            }
            return Ok(Vec::new());
        };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        Ok(lines
            .split(|&b| b == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// Whether the process that wrote the log has ended, successfully or not.
    pub fn is_left(&self) -> bool {
        let is_left = |file: &File| file.try_lock_shared().is_ok() && file.unlock().is_ok();
        self.file.as_ref().is_some_and(is_left)
    }

    fn read_more(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.file.is_none() {
            self.file = match open_own_to_read(&self.path) {
                Ok(file) => Some(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(bytes),
                Err(e) => return Err(e),
            };
        }
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(self.read))?;
            self.read += file.take(MAX_READ_BYTES).read_to_end(&mut bytes)? as u64;
        }
        Ok(bytes)
    }

    /// Whether the name now belongs to another file.
    fn is_replaced(&self) -> bool {
        let Some(Ok(ours)) = self.file.as_ref().map(File::metadata) else {
            return false;
        };
        let Ok(named) = fs::symlink_metadata(&self.path) else {
            return false;
        };
        #[cfg(unix)]
        {
            !crate::disk::is_same_file(&ours, &named)
        }
        #[cfg(not(unix))]
        {
            named.len() < self.read || ours.created().ok() != named.created().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch_lines(progress: &Progress, count: usize) {
        for _ in 0..count {
            progress.info("a line");
        }
    }

    #[test]
    fn a_record_begins_when_the_job_holds_the_store_and_has_what_came_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = EventTail::new(dir.path());
        recorded(dir.path(), &Progress::silent(), |progress| {
            epoch_lines(progress, 2);
            assert!(tail.poll()?.is_empty());
            progress.phase(Phase::Extract, Some(3));
            epoch_lines(progress, 1);
            while tail.poll()?.is_empty() {
                std::thread::yield_now();
            }
            assert!(!tail.is_left(), "it is being written");
            Ok(())
        })
        .unwrap();
        assert!(tail.is_left());
        let events = EventTail::new(dir.path()).poll().unwrap();
        assert_eq!(events.len(), 4);
        assert_eq!(
            events[2],
            Event::Phase {
                phase: Phase::Extract,
                total: Some(3)
            }
        );
        tail.poll().unwrap();
        assert!(tail.poll().unwrap().is_empty());
        recorded(dir.path(), &Progress::silent(), |progress| {
            progress.phase(Phase::Train, None);
            Ok(())
        })
        .unwrap();
        assert_eq!(
            tail.poll().unwrap().len(),
            1,
            "the next run's record is new"
        );
    }

    #[test]
    fn a_job_that_is_refused_leaves_the_record_of_another_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EVENTS_FILE), "old\n").unwrap();
        recorded(dir.path(), &Progress::silent(), |progress| {
            epoch_lines(progress, 5);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(dir.path().join(EVENTS_FILE)).unwrap(), b"old\n");
    }

    #[test]
    fn a_record_that_cannot_be_written_does_not_hinder_the_job() {
        let (progress, events) = Progress::channel();
        let result = recorded(Path::new("/nonexistent/store"), &progress, |progress| {
            progress.phase(Phase::Train, None);
            epoch_lines(progress, 3);
            Ok(7)
        });
        assert_eq!(result.unwrap(), 7);
        drop(progress);
        assert_eq!(events.iter().count(), 4);
    }

    #[test]
    fn a_torn_line_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EVENTS_FILE);
        let line = "{\"event\":\"info\",\"message\":\"a\"}\n";
        fs::write(&path, format!("{line}{}", &line[..10])).unwrap();
        let mut tail = EventTail::new(dir.path());
        assert_eq!(tail.poll().unwrap().len(), 1);
        assert!(tail.poll().unwrap().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&line.as_bytes()[10..]).unwrap();
        assert_eq!(tail.poll().unwrap().len(), 1);
    }
}
