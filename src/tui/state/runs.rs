//! The runs of this session, one line each. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use crate::job::FitConfig;
use crate::progress::{Event, Phase};

/// How a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It runs.
    Running,
    /// It ended well, after this many seconds.
    Finished(f64),
    /// It ended with this error.
    Failed(String),
    /// Its user stopped it; how to go on.
    Stopped(String),
}

/// Accuracy and loss on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitScore {
    /// The split's name.
    pub split: String,
    /// Pictures in it.
    pub images: usize,
    /// Share of pictures whose class came first.
    pub accuracy: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
}

/// One job as its events tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The job's name, such as `fit`.
    pub job: String,
    /// Its configuration, where it is one of a whole road.
    pub config: Option<FitConfig>,
    /// Its output.
    pub out: Option<PathBuf>,
    /// When it began, since the dashboard began.
    pub began: Duration,
    /// The phase that it is in, or was in last.
    pub phase: Option<Phase>,
    /// How it stands.
    pub status: Status,
    /// Epochs that ran.
    pub epochs: usize,
    /// The best epoch.
    pub best_epoch: usize,
    /// Scores of the splits.
    pub scores: Vec<SplitScore>,
    /// Accuracies of the folds of a cross-validation.
    pub folds: Vec<f32>,
    /// What the verification found.
    pub same_results: Option<bool>,
}

impl Run {
    /// The score that counts: of the test pictures, else of those held out, else of the training pictures.
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
            // The folds that follow are another recipe's.
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

/// All runs, the latest last.
#[derive(Default)]
pub struct Runs {
    /// The runs.
    pub all: Vec<Run>,
    /// The line that is selected.
    pub cursor: Cursor,
}

impl Runs {
    /// Takes an event of the latest run, or the beginning of another one.
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

    /// The run that runs.
    pub fn running(&self) -> Option<&Run> {
        self.latest().filter(|run| run.status == Status::Running)
    }
}
