//! Fine-tuning: the head alone first, then the end of the backbone and the head jointly.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::run::Run;
use super::finetune_params::ValidFinetuneParams;
use super::head_params::ValidHeadParams;
use super::score::{Score, evaluate};
use super::tuned::TunedModel;
use crate::backbone::TrainableTail;
use crate::error::Result;
use crate::features::FeatureMatrix;
use crate::progress::{EpochStats, Event, Phase, Progress};

mod folds;
mod run;

pub use folds::finetune_folds;

/// The checkpoint from which a stopped or killed run resumes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The file.
    pub path: PathBuf,
    /// Identifies the run: the checkpoint of another run is not used.
    pub fingerprint: String,
    /// Minimum time between two checkpoints: the work that a killed run may have to repeat, besides one epoch.
    pub interval: Duration,
}

/// Inputs of fine-tuning: network, data and parameters.
pub struct FinetuneInputs<'a> {
    /// The end of the backbone.
    pub tail: &'a TrainableTail,
    /// Feature maps at the tail's cut, one row per image.
    pub maps: &'a FeatureMatrix,
    /// The class of each row.
    pub labels: &'a [usize],
    /// Number of classes.
    pub classes: usize,
    /// Parameters of the head, of its training alone, and those shared with the joint training.
    pub head: &'a ValidHeadParams,
    /// The joint training.
    pub params: &'a ValidFinetuneParams,
    /// Threads; the result does not depend on them.
    pub threads: usize,
    /// The checkpoint to resume from; `None` to start from scratch.
    pub checkpoint: Option<Checkpoint>,
}

/// Result of fine-tuning.
#[derive(Clone, Debug)]
pub struct Finetuned {
    /// Backbone and head of the best epoch.
    pub model: TunedModel,
    /// Epochs of the head alone.
    pub warmup: Vec<EpochStats>,
    /// Epoch that the head alone was taken from.
    pub warmup_best: usize,
    /// Joint epochs.
    pub history: Vec<EpochStats>,
    /// The joint epoch that the model was taken from; 0 if none was better than the head alone.
    pub best_epoch: usize,
}

/// Trains the head on the features of the frozen backbone, then the end of the backbone with it, on the rows
/// `training`; the best joint epoch by the rows `validation` is kept, or the head alone if none is better;
/// without validation rows the last epoch.
///
/// Emits the phases warm-up and tune with an [`Event::Epoch`] after each epoch. The same input, seed and
/// kind of machine give the same bits, whatever the number of threads and however often the run was killed.
///
/// # Errors
/// Those of [`fit`](super::fit::fit()); [`Error::Diverged`](crate::Error::Diverged);
/// [`Error::Cancelled`](crate::Error::Cancelled); [`Error::Io`](crate::Error::Io) on the checkpoint.
pub fn finetune(
    inputs: &FinetuneInputs,
    training: &[usize],
    validation: &[usize],
    progress: &Progress,
    fold: Option<usize>,
) -> Result<Finetuned> {
    let mut run = match Run::resume(inputs, training)? {
        Some(run) => {
            progress.info(format!(
                "resuming after epoch {} of {}",
                run.done.epoch,
                inputs.params.get().tune_epochs
            ));
            run
        }
        None => {
            let run = Run::begin(inputs, training, validation, progress, fold)?;
            run.save(inputs)?;
            run
        }
    };
    let epochs = inputs.params.get().tune_epochs;
    if fold.is_none() {
        progress.phase(Phase::Tune, Some(epochs as u64));
    }
    for stats in &run.done.history {
        progress.emit(Event::Epoch {
            fold,
            stats: *stats,
            class_accuracy: Vec::new(),
        });
    }
    let mut saved = Instant::now();
    while run.done.epoch < epochs {
        run.epoch(inputs, training, validation, progress)?;
        if let Some(&stats) = run.done.history.last() {
            progress.emit(Event::Epoch {
                fold,
                stats,
                class_accuracy: Vec::new(),
            });
        }
        let interval = inputs.checkpoint.as_ref().map(|c| c.interval);
        if interval.is_some_and(|i| saved.elapsed() >= i) || run.done.epoch == epochs {
            run.save(inputs)?;
            saved = Instant::now();
        }
    }
    Ok(Finetuned {
        model: run.best,
        warmup: run.done.warmup,
        warmup_best: run.done.warmup_best,
        history: run.done.history,
        best_epoch: run.done.best_epoch,
    })
}

/// The results of a model on labelled rows.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub fn score(
    model: &TunedModel,
    inputs: &FinetuneInputs,
    rows: &[usize],
    progress: &Progress,
) -> Result<Score> {
    let features = model.features(inputs.maps, rows, inputs.threads, progress)?;
    let labels: Vec<usize> = rows.iter().map(|&row| inputs.labels[row]).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    let matrix = FeatureMatrix::from_array(features);
    evaluate(&model.head()?, &matrix, &labels, &all, progress)
}
