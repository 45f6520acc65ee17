//! Pictures through the base, as the events tell it. Pure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use crate::progress::{Event, Phase};

/// Skipped files that are listed; more are only counted.
const LISTED: usize = 10_000;

/// Seconds whose pictures are kept for the curve of the speed.
const SECONDS: usize = 600;

/// Seconds over which the present speed is measured.
const RECENT: usize = 10;

/// A picture is shown for at least this long.
const SHOWN: Duration = Duration::from_secs(2);

/// What a worker does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// The picture that it has; none between pictures.
    pub path: Option<PathBuf>,
    /// When it took it.
    pub since: Duration,
    /// Pictures that it has done.
    pub done: u64,
}

/// The extraction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extract {
    /// Pictures done, those of earlier runs and skipped ones included.
    pub done: u64,
    /// Pictures in all; 0 if not known yet.
    pub total: u64,
    /// Pictures that an earlier run did.
    pub resumed: u64,
    /// Pictures known to be safe on disk.
    pub safe: u64,
    /// Files that could not be used, with the reason; the first ten thousand.
    pub skipped: Vec<(PathBuf, String)>,
    /// All files that could not be used.
    pub skipped_count: usize,
    /// The line of the skipped files that is selected.
    pub cursor: Cursor,
    /// The workers, by number.
    pub workers: Vec<Worker>,
    /// Microseconds in decoding, inference and writing.
    pub spent_us: [u64; 3],
    /// When the phase began; none before.
    pub began: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// A picture in work, and since when it is shown.
    pub shown: Option<(PathBuf, Duration)>,
    /// Pictures in each of the last seconds, the present one at the end.
    pub rates: VecDeque<u64>,
    /// The second since the phase began that the last of `rates` is.
    second: u64,
    /// Time for which the job was held.
    held: Duration,
    held_since: Option<Duration>,
}

impl Extract {
    /// Takes an event; `live` tells whether it happens now, or is told of the past.
    pub fn event(&mut self, now: Duration, event: &Event, live: bool) {
        match event {
            Event::Phase {
                phase: Phase::Extract,
                total,
            } => {
                *self = Extract {
                    total: total.unwrap_or(0),
                    began: Some(now),
                    rates: VecDeque::from([0]),
                    ..Extract::default()
                };
            }
            Event::Phase { .. }
            | Event::Finished { .. }
            | Event::Failed { .. }
            | Event::Cancelled { .. }
                if self.began.is_some() && self.ended.is_none() =>
            {
                self.ended = Some(now);
                self.workers.iter_mut().for_each(|w| w.path = None);
            }
            _ if self.ended.is_some() => {}
            Event::Resumed { rows } => {
                self.resumed = *rows;
                self.done = *rows;
                self.total = self.total.max(*rows);
            }
            Event::Checkpoint { rows } => self.safe = *rows,
            Event::ImageStarted { worker, path } => {
                if self.workers.len() <= *worker {
                    self.workers.resize(worker + 1, Worker::default());
                }
                self.workers[*worker].path = Some(path.clone());
                self.workers[*worker].since = now;
                if self.shown.as_ref().is_none_or(|(_, at)| now >= *at + SHOWN) {
                    self.shown = Some((path.clone(), now));
                }
            }
            Event::ImageDone {
                worker,
                done,
                total,
                decode_us,
                infer_us,
                write_us,
                ..
            } => {
                self.count(*done, *total, live);
                if let Some(worker) = self.workers.get_mut(*worker) {
                    worker.path = None;
                    worker.done += 1;
                }
                for (sum, us) in self
                    .spent_us
                    .iter_mut()
                    .zip([decode_us, infer_us, write_us])
                {
                    *sum += us;
                }
            }
            Event::ImageSkipped {
                path,
                reason,
                done,
                total,
            } => {
                self.count(*done, *total, live);
                self.skipped_count += 1;
                // There is nothing to see of it.
                self.shown.take_if(|(shown, _)| shown == path);
                if self.skipped.len() < LISTED {
                    self.skipped.push((path.clone(), reason.clone()));
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, done: u64, total: u64, live: bool) {
        self.done = done;
        self.total = total;
        if !live {
            // Nobody knows when it was done: it does not count for the speed.
            self.resumed = done;
        } else if let Some(last) = self.rates.back_mut() {
            *last += 1;
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration, paused: bool) {
        let Some(began) = self.began.filter(|_| self.ended.is_none()) else {
            return;
        };
        match (paused, self.held_since) {
            (true, None) => self.held_since = Some(now),
            (false, Some(since)) => {
                self.held += now.saturating_sub(since);
                self.held_since = None;
            }
            _ => {}
        }
        let second = now.saturating_sub(began).as_secs();
        while self.second < second {
            self.second += 1;
            self.rates.push_back(0);
            if self.rates.len() > SECONDS {
                self.rates.pop_front();
            }
        }
    }

    /// Time in which the job worked.
    pub fn worked(&self, now: Duration) -> Duration {
        let end = self.ended.or(self.held_since).unwrap_or(now);
        end.saturating_sub(self.began.unwrap_or(end))
            .saturating_sub(self.held)
    }

    /// Pictures a second over all of the run; none before there is one.
    pub fn mean_rate(&self, now: Duration) -> Option<f64> {
        let done = self.done.saturating_sub(self.resumed);
        let seconds = self.worked(now).as_secs_f64();
        (done > 0 && seconds > 0.2).then(|| done as f64 / seconds)
    }

    /// Pictures a second lately; none before a whole second has passed.
    pub fn rate(&self, now: Duration) -> Option<f64> {
        if self.rates.len() < 4 || self.ended.is_some() {
            return self.mean_rate(now);
        }
        // The present second is not over.
        let recent: Vec<u64> = self
            .rates
            .iter()
            .rev()
            .skip(1)
            .take(RECENT)
            .copied()
            .collect();
        Some(recent.iter().sum::<u64>() as f64 / recent.len() as f64)
    }

    /// Time that is left; none if it cannot be told.
    pub fn eta(&self, now: Duration) -> Option<f64> {
        let left = self.total.saturating_sub(self.done);
        let rate = self.rate(now).filter(|&rate| rate > 0.0)?;
        (left > 0 && self.ended.is_none()).then(|| left as f64 / rate)
    }

    /// Shares of the workers' time in decoding, inference and writing, if any was spent.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let all: u64 = self.spent_us.iter().sum();
        (all > 0).then(|| self.spent_us.map(|us| us as f64 / all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(number: u64) -> Event {
        Event::ImageDone {
            worker: 0,
            path: "a.jpg".into(),
            done: number,
            total: 100,
            decode_us: 1_000,
            infer_us: 8_000,
            write_us: 1_000,
        }
    }

    fn begun() -> Extract {
        let mut extract = Extract::default();
        let phase = Event::Phase {
            phase: Phase::Extract,
            total: Some(100),
        };
        extract.event(Duration::ZERO, &phase, true);
        extract
    }

    #[test]
    fn speed_and_time_left_follow_from_the_last_seconds() {
        let mut extract = begun();
        for second in 0..20 {
            for picture in 1..=2 {
                let now = Duration::from_millis(second * 1000 + picture * 400);
                extract.tick(now, false);
                extract.event(now, &done(second * 2 + picture), true);
            }
        }
        let now = Duration::from_secs(20);
        extract.tick(now, false);
        assert_eq!(extract.rate(now), Some(2.0));
        assert_eq!(extract.eta(now), Some(30.0));
        assert_eq!(extract.shares(), Some([0.1, 0.8, 0.1]));
    }

    #[test]
    fn a_pause_does_not_make_the_mean_speed_worse() {
        let mut extract = begun();
        for (second, paused) in [(1, false), (5, true), (50, true), (51, false)] {
            extract.tick(Duration::from_secs(second), paused);
        }
        extract.event(Duration::from_secs(51), &done(12), true);
        assert_eq!(
            extract.worked(Duration::from_secs(51)),
            Duration::from_secs(5)
        );
    }

    #[test]
    fn what_was_done_before_does_not_count_for_the_speed() {
        let mut extract = begun();
        extract.event(Duration::ZERO, &Event::Resumed { rows: 40 }, true);
        extract.event(Duration::from_secs(2), &done(50), true);
        assert_eq!(extract.mean_rate(Duration::from_secs(2)), Some(5.0));
        assert_eq!((extract.done, extract.resumed), (50, 40));
    }
}
