//! Cross-validation of fine-tuning.

use super::{FinetuneInputs, finetune};
use crate::error::Result;
use crate::features::FeatureMatrix;
use crate::progress::{Event, Progress};
use crate::train::cross_validation::CrossValidation;
use crate::train::head_params::HeadParams;
use crate::train::metrics::{ConfusionMatrix, first_of};
use crate::train::score::probabilities;

/// Cross-validates fine-tuning: one model per fold, trained on the other folds for all epochs; the held-out
/// rows do not choose the epoch.
///
/// Emits [`Event::Epoch`] with the fold in it, and [`Event::FoldDone`].
///
/// # Errors
/// Like [`finetune`].
pub fn finetune_folds(
    inputs: &FinetuneInputs,
    fold_of: &[usize],
    progress: &Progress,
) -> Result<CrossValidation> {
    let folds = fold_of.iter().max().map_or(0, |largest| largest + 1);
    let head = HeadParams {
        early_stopping: 0,
        ..inputs.head.get().clone()
    };
    let head = head.check()?;
    let mut found = CrossValidation {
        fold_accuracy: Vec::with_capacity(folds),
        predictions: vec![0; fold_of.len()],
        confidences: vec![0.0; fold_of.len()],
        loss: 0.0,
        confusion: ConfusionMatrix::new(inputs.classes),
    };
    let mut sum = 0.0;
    for fold in 0..folds {
        let (held_out, training): (Vec<usize>, Vec<usize>) =
            (0..fold_of.len()).partition(|&row| fold_of[row] == fold);
        let of_fold = FinetuneInputs {
            head: &head,
            checkpoint: None,
            ..*inputs
        };
        let tuned = finetune(&of_fold, &training, &[], progress, Some(fold))?;
        let model = &tuned.model;
        let features = model.features(inputs.maps, &held_out, inputs.threads, progress)?;
        let matrix = FeatureMatrix::from_array(features);
        let all: Vec<usize> = (0..held_out.len()).collect();
        let rows = probabilities(&model.head()?, &matrix, &all, progress)?;
        let mut hits = 0;
        for (&row, shares) in held_out.iter().zip(rows.rows()) {
            let first = first_of(shares);
            found.predictions[row] = first;
            found.confidences[row] = shares[first];
            found.confusion.record(inputs.labels[row], first);
            sum -= f64::from(shares[inputs.labels[row]].max(f32::MIN_POSITIVE)).ln();
            hits += usize::from(first == inputs.labels[row]);
        }
        let accuracy = hits as f32 / held_out.len().max(1) as f32;
        found.fold_accuracy.push(accuracy);
        progress.emit(Event::FoldDone {
            fold,
            folds,
            accuracy,
        });
    }
    found.loss = (sum / fold_of.len().max(1) as f64) as f32;
    Ok(found)
}
