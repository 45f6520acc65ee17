//! The runs of this session. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use crate::job::FitConfig;
use crate::progress::{Event, Phase};

/// Status of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It is running.
    Running,
    /// It finished after this many seconds.
    Finished(f64),
    /// It failed with this error.
    Failed(String),
    /// The user stopped it; contains how to resume it.
    Stopped(String),
}

/// Accuracy and loss on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitScore {
    /// The split's name.
    pub split: String,
    /// Number of images in it.
    pub images: usize,
    /// Accuracy, 0 to 1.
    pub accuracy: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
}

/// A job and its results.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The job's name, such as `fit`.
    pub job: String,
    /// Its configuration, if it is a fit.
    pub config: Option<FitConfig>,
    /// Its output.
    pub out: Option<PathBuf>,
    /// Time from the start of the dashboard to the start of the job.
    pub began: Duration,
    /// The current or last phase.
    pub phase: Option<Phase>,
    /// Its status.
    pub status: Status,
    /// Number of epochs so far.
    pub epochs: usize,
    /// The best epoch.
    pub best_epoch: usize,
    /// Scores of the splits.
    pub scores: Vec<SplitScore>,
    /// Accuracies of the folds of a cross-validation.
    pub folds: Vec<f32>,
    /// The result of the verification.
    pub same_results: Option<bool>,
}

impl Run {
    /// The most relevant score: on the test split, else on the validation split, else on the training split.
    pub fn score(&self) -> Option<&SplitScore> {
        self.scores.last()
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Phase { phase, .. } => self.phase = Some(*phase),
            Event::Epoch {
                fold: None, stats, ..
            } => {
                self.epochs = stats.epoch;
                self.best_epoch = stats.best_epoch;
            }
            Event::FoldDone { accuracy, .. } => self.folds.push(*accuracy),
            // The next folds belong to another recipe.
            Event::RecipeTried { .. } => self.folds.clear(),
            Event::Evaluated {
                split,
                images,
                accuracy,
                loss,
                ..
            } => self.scores.push(SplitScore {
                split: split.clone(),
                images: *images,
                accuracy: *accuracy,
                loss: *loss,
            }),
            Event::Verified { same_results, .. } => self.same_results = Some(*same_results),
            Event::Finished { seconds } => self.status = Status::Finished(*seconds),
            Event::Failed { message, .. } => self.status = Status::Failed(message.clone()),
            Event::Cancelled { resume } => self.status = Status::Stopped(resume.clone()),
            _ => {}
        }
    }
}

/// All runs, latest last.
#[derive(Default)]
pub struct Runs {
    /// The runs.
    pub all: Vec<Run>,
    /// The selected line.
    pub cursor: Cursor,
}

impl Runs {
    /// Handles an event of the latest run, or the start of a new one.
    pub fn event(&mut self, now: Duration, event: &Event) {
        if let Event::Started {
            job, out, config, ..
        } = event
        {
            self.all.push(Run {
                job: job.clone(),
                config: match job.as_str() {
                    "fit" => serde_json::from_value(config.clone()).ok(),
                    _ => None,
                },
                out: out.clone().map(PathBuf::from),
                began: now,
                phase: None,
                status: Status::Running,
                epochs: 0,
                best_epoch: 0,
                scores: Vec::new(),
                folds: Vec::new(),
                same_results: None,
            });
            self.cursor.at = self.all.len() - 1;
        } else if let Some(run) = self.all.last_mut() {
            run.event(event);
        }
    }

    /// The latest run.
    pub fn latest(&self) -> Option<&Run> {
        self.all.last()
    }

    /// The running job.
    pub fn running(&self) -> Option<&Run> {
        self.latest().filter(|run| run.status == Status::Running)
    }
}
