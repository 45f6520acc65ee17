//! Worker threads for training.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::nn::parallel::Executor;

/// Up to this many threads, including the calling one.
pub(super) struct Threads(pub(super) usize);

impl Executor for Threads {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let run = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                work(index);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.0.min(count) {
                // If a thread cannot be started, the others do its work.
                let _ = std::thread::Builder::new()
                    .name("tl-tune".into())
                    .spawn_scoped(scope, run);
            }
            run();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parallel::map;

    #[test]
    fn each_piece_is_done_once_and_results_come_in_order() {
        for threads in [0, 1, 3, 80] {
            let squares = map(&Threads(threads), 50, |i| i * i);
            assert_eq!(squares, (0..50).map(|i| i * i).collect::<Vec<_>>());
        }
        assert!(map(&Threads(3), 0, |i| i).is_empty());
    }
}
