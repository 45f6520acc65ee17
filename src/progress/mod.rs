//! Events from a running job, and the tokens that stop or pause it.
//!
//! A job gets a [`Progress`](crate::progress::Progress) and calls its `emit`; the caller reads the other
//! end of the channel. Progress bars, JSON lines and the dashboard all read the same events.
//!
//! The order of events in one job:
//!
//! ```text
//! Started
//! └─ Phase (scan)      ─ Scanned, Warning*
//! └─ Phase (extract)   ─ (ImageStarted, ImageDone | ImageSkipped)*, Checkpoint*
//! └─ Phase (train)     ─ (Epoch* FoldDone?)*
//! (RecipeTried comes after the folds of each recipe that is compared)
//! └─ Phase (warm_up)   ─ Epoch*
//! └─ Phase (tune)      ─ Epoch*
//! └─ Phase (evaluate)  ─ (PictureScored* Evaluated)*
//! └─ Phase (save)      ─ Saved
//! └─ Phase (verify)    ─ Check*, Verified
//! Finished | Failed | Cancelled
//! ```

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crossbeam::channel::{Receiver, Sender, bounded};

mod event;

pub use event::{Check, EpochStats, Event, Phase};

/// Events that may wait for a reader; a job that is this far ahead of its reader waits for it.
///
/// At most some 300 bytes an event: 300 kB.
const EVENT_CAPACITY: usize = 1024;

/// Stops every stage of a job; cloneable and cheap to check.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Requests a stop; calling it again has no effect.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether a stop was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Pauses a job; cloneable like [`Cancel`].
#[derive(Clone, Debug, Default)]
pub struct Pause(Arc<AtomicBool>);

impl Pause {
    /// Pauses the job (`true`) or resumes it (`false`).
    pub fn set(&self, paused: bool) {
        self.0.store(paused, Ordering::Relaxed);
    }

    /// Returns whether the job is paused.
    pub fn is_paused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The end of the event channel that a job holds, with its cancel and pause tokens.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    events: Option<Sender<Event>>,
    cancel: Cancel,
    pause: Pause,
    /// When the job is out of time.
    deadline: Option<Instant>,
    /// Messages already sent that are to be sent only once.
    said: Arc<Mutex<HashSet<String>>>,
}

impl Progress {
    /// Makes a channel: the job's end, and the reader's.
    pub fn channel() -> (Progress, Receiver<Event>) {
        let (sender, receiver) = bounded(EVENT_CAPACITY);
        let progress = Progress {
            events: Some(sender),
            ..Progress::default()
        };
        (progress, receiver)
    }

    /// A channel whose job is controlled by the tokens of `self`.
    pub fn tapped(&self) -> (Progress, Receiver<Event>) {
        let (mut progress, receiver) = Progress::channel();
        progress.cancel = self.cancel.clone();
        progress.pause = self.pause.clone();
        progress.deadline = self.deadline;
        progress.said = self.said.clone();
        (progress, receiver)
    }

    /// A progress whose events nobody reads, with the same tokens as this one.
    pub fn muted(&self) -> Progress {
        Progress {
            events: None,
            ..self.clone()
        }
    }

    /// This progress, whose job has to stop at `deadline`.
    pub fn until(&self, deadline: Instant) -> Progress {
        Progress {
            deadline: Some(deadline),
            ..self.clone()
        }
    }

    /// A progress that nobody reads.
    pub fn silent() -> Progress {
        Progress::default()
    }

    /// Sends an event; does nothing if nobody reads.
    pub fn emit(&self, event: Event) {
        if let Some(events) = &self.events {
            // A reader that went away must not stop the job.
            let _ = events.send(event);
        }
    }

    /// Sends an [`Event::Info`].
    pub fn info(&self, message: impl Into<String>) {
        self.emit(Event::Info {
            message: message.into(),
        });
    }

    /// Sends an [`Event::Warning`].
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Event::Warning {
            message: message.into(),
        });
    }

    /// Sends an [`Event::Info`], if this message was not sent so before.
    pub fn info_once(&self, message: impl Into<String>) {
        let message = message.into();
        if self.is_new(&message) {
            self.info(message);
        }
    }

    /// Sends an [`Event::Warning`], if this message was not sent so before.
    pub fn warn_once(&self, message: impl Into<String>) {
        let message = message.into();
        if self.is_new(&message) {
            self.warn(message);
        }
    }

    /// Marks `message` as sent; false if it was sent before. If nobody reads, it does not count as sent.
    fn is_new(&self, message: &str) -> bool {
        let said = self.said.lock();
        // A thread that panicked while it held a set of texts left it whole.
        let mut said = said.unwrap_or_else(PoisonError::into_inner);
        self.events.is_some() && said.insert(message.to_owned())
    }

    /// Sends an [`Event::Phase`].
    pub fn phase(&self, phase: Phase, total: Option<u64>) {
        self.emit(Event::Phase { phase, total });
    }

    /// The token that stops this job.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The token that pauses this job.
    pub fn pause(&self) -> &Pause {
        &self.pause
    }

    /// Waits while the job is paused, then tells whether it may continue.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if a stop was requested, or the deadline has passed.
    pub fn checkpoint(&self) -> Result<()> {
        while self.pause.is_paused() && !self.cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let is_over = self.deadline.is_some_and(|end| Instant::now() >= end);
        if self.cancel.is_cancelled() || is_over {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(events: &Receiver<Event>) -> Vec<String> {
        let texts = events.try_iter().filter_map(|event| match event {
            Event::Info { message } | Event::Warning { message } => Some(message),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn a_paused_job_waits_and_a_stop_ends_the_wait() {
        let progress = Progress::silent();
        progress.pause().set(true);
        let (done, ends) = bounded(2);
        let waiting = |progress: Progress| {
            let done = done.clone();
            std::thread::spawn(move || done.send(progress.checkpoint().is_ok()))
        };
        waiting(progress.clone());
        assert!(ends.recv_timeout(Duration::from_millis(100)).is_err());
        progress.pause().set(false);
        assert!(ends.recv_timeout(Duration::from_secs(60)).unwrap());

        progress.pause().set(true);
        waiting(progress.clone());
        progress.cancel().cancel();
        assert!(!ends.recv_timeout(Duration::from_secs(60)).unwrap());
        progress.pause().set(false);
        assert!(matches!(progress.checkpoint(), Err(Error::Cancelled)));
    }

    #[test]
    fn a_deadline_is_that_of_the_job_that_has_it() {
        let progress = Progress::silent();
        let late = progress.until(Instant::now());
        assert!(matches!(late.checkpoint(), Err(Error::Cancelled)));
        assert!(matches!(
            late.tapped().0.checkpoint(),
            Err(Error::Cancelled)
        ));
        assert!(progress.checkpoint().is_ok());
        let early = progress.until(Instant::now() + Duration::from_secs(3600));
        assert!(early.checkpoint().is_ok());
    }

    #[test]
    fn a_tapped_job_stops_and_waits_with_its_own_but_is_read_elsewhere() {
        let (progress, events) = Progress::channel();
        let (tapped, tapped_events) = progress.tapped();
        tapped.info("inner");
        progress.info("outer");
        assert_eq!(messages(&events), ["outer"]);
        assert_eq!(messages(&tapped_events), ["inner"]);
        progress.pause().set(true);
        assert!(tapped.pause().is_paused());
        progress.cancel().cancel();
        assert!(tapped.checkpoint().is_err());
    }

    #[test]
    fn what_is_to_be_said_once_is_said_once_to_somebody() {
        let (progress, events) = Progress::channel();
        // Nobody reads this one.
        progress.muted().warn_once("two classes");
        progress.warn_once("two classes");
        progress.clone().info_once("two classes");
        progress.tapped().0.warn_once("two classes");
        progress.info_once("another");
        progress.warn("two classes");
        assert_eq!(messages(&events), ["two classes", "another", "two classes"]);
    }

    #[test]
    fn a_reader_that_went_away_holds_nothing_up() {
        let (progress, events) = Progress::channel();
        drop(events);
        for number in 0..2 * EVENT_CAPACITY {
            progress.info(number.to_string());
        }
    }
}
