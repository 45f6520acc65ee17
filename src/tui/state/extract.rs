//! Progress of the feature extraction. Pure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use crate::progress::{Event, Phase};

/// Maximum number of skipped files to list; more are only counted.
const LISTED: usize = 10_000;

/// Length of the speed history in seconds.
const SECONDS: usize = 600;

/// Seconds over which the current speed is measured.
const RECENT: usize = 10;

/// Minimum time to show an image.
const SHOWN: Duration = Duration::from_secs(2);

/// State of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// Its current image; none if it is idle.
    pub path: Option<PathBuf>,
    /// When it started on that image.
    pub since: Duration,
    /// Number of images that it has finished.
    pub done: u64,
}

/// State of the extraction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extract {
    /// Images done, including skipped ones and those of earlier runs.
    pub done: u64,
    /// Total number of images; 0 if not known yet.
    pub total: u64,
    /// Images whose features were stored by an earlier run.
    pub resumed: u64,
    /// Images whose features are safely on disk.
    pub safe: u64,
    /// The first ten thousand skipped files, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// Number of skipped files.
    pub skipped_count: usize,
    /// The selected line among the skipped files.
    pub cursor: Cursor,
    /// The workers, by number.
    pub workers: Vec<Worker>,
    /// Microseconds spent on decoding, inference and writing.
    pub spent_us: [u64; 3],
    /// When the phase started; none before that.
    pub began: Option<Duration>,
    /// When the phase ended.
    pub ended: Option<Duration>,
    /// The image on display, and when it was first shown.
    pub shown: Option<(PathBuf, Duration)>,
    /// Number of images in each of the last seconds; the current second is last.
    pub rates: VecDeque<u64>,
    /// The second, counted from the start of the phase, of the last entry of `rates`.
    second: u64,
    /// Time that the job was paused.
    held: Duration,
    held_since: Option<Duration>,
}

impl Extract {
    /// Handles an event; `live` is false for an event of the past.
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
                // It cannot be shown.
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
            // Nobody knows when it was done, so it does not count for the speed.
            self.resumed = done;
        } else if let Some(last) = self.rates.back_mut() {
            *last += 1;
        }
    }

    /// Advances the time.
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

    /// Duration of the phase without pauses.
    pub fn worked(&self, now: Duration) -> Duration {
        let end = self.ended.or(self.held_since).unwrap_or(now);
        end.saturating_sub(self.began.unwrap_or(end))
            .saturating_sub(self.held)
    }

    /// Images per second over the whole phase; none if not known yet.
    pub fn mean_rate(&self, now: Duration) -> Option<f64> {
        let done = self.done.saturating_sub(self.resumed);
        let seconds = self.worked(now).as_secs_f64();
        (done > 0 && seconds > 0.2).then(|| done as f64 / seconds)
    }

    /// Current images per second; none if not known yet.
    pub fn rate(&self, now: Duration) -> Option<f64> {
        if self.rates.len() < 4 || self.ended.is_some() {
            return self.mean_rate(now);
        }
        // Leave out the current second, which is not over.
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

    /// Estimated time left in seconds; none if it cannot be estimated.
    pub fn eta(&self, now: Duration) -> Option<f64> {
        let left = self.total.saturating_sub(self.done);
        let rate = self.rate(now).filter(|&rate| rate > 0.0)?;
        (left > 0 && self.ended.is_none()).then(|| left as f64 / rate)
    }

    /// Fractions of the workers' time spent on decoding, inference and writing; none before the first image.
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
    fn images_of_an_earlier_run_do_not_count_for_the_speed() {
        let mut extract = begun();
        extract.event(Duration::ZERO, &Event::Resumed { rows: 40 }, true);
        extract.event(Duration::from_secs(2), &done(50), true);
        assert_eq!(extract.mean_rate(Duration::from_secs(2)), Some(5.0));
        assert_eq!((extract.done, extract.resumed), (50, 40));
    }
}
