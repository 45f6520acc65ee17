//! A bounded queue of images to classify; the oldest is dropped when it is full.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::features::PictureSource;

/// How often a waiting reader checks for a stop.
const TICK: Duration = Duration::from_millis(100);

/// First all images that existed at the start; then arriving ones, up to the limit.
pub(super) struct DropOldestQueue {
    state: Mutex<State>,
    came: Condvar,
    capacity: usize,
}

struct State {
    /// Images that existed at the start, the last first.
    existing: Vec<PathBuf>,
    waiting: VecDeque<PathBuf>,
    taken: usize,
    dropped: u64,
    closed: bool,
}

impl DropOldestQueue {
    pub fn new(capacity: usize, mut existing: Vec<PathBuf>) -> DropOldestQueue {
        existing.reverse();
        DropOldestQueue {
            state: Mutex::new(State {
                existing,
                waiting: VecDeque::new(),
                taken: 0,
                dropped: 0,
                closed: false,
            }),
            came: Condvar::new(),
            capacity,
        }
    }

    /// Queues `picture`; returns the one dropped for it. An image that is already queued is not queued twice.
    pub fn enter(&self, picture: PathBuf) -> Option<PathBuf> {
        let mut state = self.state();
        if state.waiting.contains(&picture) {
            return None;
        }
        let dropped = match state.waiting.len() >= self.capacity {
            true => state.waiting.pop_front(),
            false => None,
        };
        state.dropped += u64::from(dropped.is_some());
        state.waiting.push_back(picture);
        self.came.notify_one();
        dropped
    }

    /// No more images will arrive.
    pub fn close(&self) {
        self.state().closed = true;
        self.came.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Number of dropped images.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when it goes out of scope, also on a panic, so that readers stop waiting.
pub(super) struct CloseOnDrop<'a>(pub &'a DropOldestQueue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl PictureSource for DropOldestQueue {
    fn count(&self) -> Option<usize> {
        None
    }

    fn next(&self, goes_on: &dyn Fn() -> bool) -> Option<(usize, PathBuf)> {
        let mut state = self.state();
        loop {
            if !goes_on() {
                return None;
            }
            let next = state.existing.pop();
            if let Some(picture) = next.or_else(|| state.waiting.pop_front()) {
                let place = state.taken;
                state.taken += 1;
                return Some((place, picture));
            }
            if state.closed {
                return None;
            }
            let waited = self.came.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &DropOldestQueue) -> Vec<(usize, String)> {
        let next = || queue.next(&|| true);
        std::iter::from_fn(next)
            .map(|(place, path)| (place, path.display().to_string()))
            .collect()
    }

    #[test]
    fn the_oldest_goes_and_is_counted_and_none_waits_twice() {
        let queue = DropOldestQueue::new(2, vec!["there".into(), "before".into()]);
        let dropped: Vec<Option<PathBuf>> = ["a", "b", "b", "c", "d"]
            .iter()
            .map(|name| queue.enter(name.into()))
            .collect();
        assert_eq!(
            dropped,
            [None, None, None, Some("a".into()), Some("b".into())]
        );
        queue.close();
        let names = ["there", "before", "c", "d"].map(str::to_owned);
        let expected: Vec<(usize, String)> = names.into_iter().enumerate().collect();
        assert_eq!(drain(&queue), expected);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn waiting_ends_when_there_is_no_going_on() {
        let queue = DropOldestQueue::new(1, Vec::new());
        assert_eq!(queue.next(&|| false), None);
    }
}
