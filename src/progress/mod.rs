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
