//! Cross-validation of the head: how well its parameters work on rows that were not used in training.

use super::fit::fit;
use super::head_params::{HeadParams, ValidHeadParams};
use super::metrics::{ConfusionMatrix, first_of};
use super::score::probabilities;
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::progress::{Event, Progress};

/// Results of a cross-validation: each row is predicted once, by a head not trained on it.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossValidation {
    /// Accuracy on each fold's held-out rows, 0 to 1.
    pub fold_accuracy: Vec<f32>,
    /// The predicted class of each row of the matrix.
    pub predictions: Vec<usize>,
    /// Probability of that class, for each row of the matrix.
    pub confidences: Vec<f32>,
    /// Mean cross-entropy over all rows, in nats.
    pub loss: f32,
    /// The confusion matrix over all rows.
    pub confusion: ConfusionMatrix,
}

impl CrossValidation {
    /// Accuracy over all rows, 0 to 1.
    pub fn accuracy(&self) -> f32 {
        self.confusion.accuracy() as f32
    }

    /// Sample standard deviation (n − 1) of the folds' accuracies; 0 for one fold.
    pub fn standard_deviation(&self) -> f32 {
        let folds = self.fold_accuracy.len();
        if folds < 2 {
            return 0.0;
        }
        let mean = self.fold_accuracy.iter().sum::<f32>() / folds as f32;
        let squares: f32 = self
            .fold_accuracy
            .iter()
            .map(|accuracy| (accuracy - mean).powi(2))
            .sum();
        (squares / (folds - 1) as f32).sqrt()
    }
}

/// Trains one head for each fold on the rows of all other folds, and predicts the fold's rows with it.
///
/// `fold_of` has the 0-based fold of each row of the matrix; every fold up to the largest has rows.
/// Each head trains for all of `epochs`: early stopping is off, since stopping by the held-out rows
/// would let them choose the head that is then measured on them. The held-out rows are only watched:
/// the events show their loss and accuracy at each epoch.
///
/// Emits [`Event::Epoch`] with the fold in it, and [`Event::FoldDone`].
///
/// # Errors
/// [`Error::Mismatch`] if there are less than two folds, a fold has no rows, or as for [`fit`];
/// [`Error::Diverged`]; [`Error::Cancelled`].
pub fn cross_validate(
    matrix: &FeatureMatrix,
    labels: &[usize],
    classes: usize,
    fold_of: &[usize],
    params: &ValidHeadParams,
    progress: &Progress,
) -> Result<CrossValidation> {
    let folds = count_folds(matrix, fold_of)?;
    let params = HeadParams {
        early_stopping: 0,
        ..params.get().clone()
    }
    .check()?;
    let mut result = CrossValidation {
        fold_accuracy: Vec::with_capacity(folds),
        predictions: vec![0; matrix.rows()],
        confidences: vec![0.0; matrix.rows()],
        loss: 0.0,
        confusion: ConfusionMatrix::new(classes),
    };
    let mut loss = 0.0;
    for fold in 0..folds {
        let (held_out, training): (Vec<usize>, Vec<usize>) =
            (0..matrix.rows()).partition(|&row| fold_of[row] == fold);
        let fitted = fit(
            matrix,
            labels,
            classes,
            &training,
            &held_out,
            &params,
            progress,
            Some(fold),
        )?;
        let found = probabilities(&fitted.head, matrix, &held_out, progress)?;
        let mut hits = 0;
        for (&row, probabilities) in held_out.iter().zip(found.rows()) {
            let prediction = first_of(probabilities);
            result.predictions[row] = prediction;
            result.confidences[row] = probabilities[prediction];
            result.confusion.record(labels[row], prediction);
            hits += usize::from(prediction == labels[row]);
        }
        if let Some(last) = fitted.history.last() {
            loss += f64::from(last.val_loss.unwrap_or(0.0)) * held_out.len() as f64;
        }
        let accuracy = hits as f32 / held_out.len() as f32;
        result.fold_accuracy.push(accuracy);
        progress.emit(Event::FoldDone {
            fold,
            folds,
            accuracy,
        });
    }
    result.loss = (loss / matrix.rows() as f64) as f32;
    Ok(result)
}

fn count_folds(matrix: &FeatureMatrix, fold_of: &[usize]) -> Result<usize> {
    let mismatch = |what: String, expected: String, found: usize| Error::Mismatch {
        what,
        expected,
        found: found.to_string(),
        hint: "set --folds from 2 to the number of images in the smallest class".to_string(),
    };
    if fold_of.len() != matrix.rows() {
        return Err(mismatch(
            "rows that have a fold".to_string(),
            matrix.rows().to_string(),
            fold_of.len(),
        ));
    }
    let folds = fold_of
        .iter()
        .max()
        .map_or(0, |&last| last.saturating_add(1));
    if folds < 2 {
        return Err(mismatch(
            "folds".to_string(),
            "at least 2".to_string(),
            folds,
        ));
    }
    match (0..folds).find(|fold| !fold_of.contains(fold)) {
        None => Ok(folds),
        Some(fold) => Err(mismatch(
            format!("rows of fold {fold}"),
            "at least 1".to_string(),
            0,
        )),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// Alternating classes, separated by the first of two features.
    fn data(rows: usize) -> (FeatureMatrix, Vec<usize>) {
        let array = Array2::from_shape_fn((rows, 2), |(row, feature)| match feature {
            0 => (row % 2) as f32 * 4.0 + (row % 3) as f32 * 0.1,
            _ => (row % 5) as f32,
        });
        (
            FeatureMatrix::from_array(array),
            (0..rows).map(|row| row % 2).collect(),
        )
    }

    fn params() -> ValidHeadParams {
        HeadParams {
            epochs: 30,
            learning_rate: 0.05,
            early_stopping: 2,
            ..HeadParams::default()
        }
        .check()
        .unwrap()
    }

    #[test]
    fn predicts_each_row_with_a_head_that_did_not_see_it() {
        // Row 0 alone has the label of the other class: a head that saw it could not be told apart,
        // one that did not must miss it and nothing else.
        let (matrix, mut labels) = data(40);
        labels[0] = 1;
        let fold_of: Vec<usize> = (0..40).map(|row| row / 2 % 4).collect();
        let (progress, events) = Progress::channel();
        let found = cross_validate(&matrix, &labels, 2, &fold_of, &params(), &progress).unwrap();
        assert_eq!(
            found.predictions,
            (0..40).map(|row| row % 2).collect::<Vec<_>>()
        );
        assert_eq!(found.fold_accuracy, [0.9, 1.0, 1.0, 1.0]);
        assert_eq!(found.accuracy(), 39.0 / 40.0);
        assert!((found.standard_deviation() - 0.05).abs() < 1e-6);
        assert_eq!(found.confusion.to_rows(), [[19, 0], [1, 20]]);
        assert!(found.confidences.iter().all(|&p| (0.5..=1.0).contains(&p)));
        assert!(found.loss > 0.0 && found.loss < 0.5);

        let events: Vec<Event> = events.try_iter().collect();
        let epochs = events
            .iter()
            .filter(|event| matches!(event, Event::Epoch { .. }));
        assert_eq!(epochs.count(), 4 * 30);
        let done = events
            .iter()
            .filter(|event| matches!(event, Event::FoldDone { .. }));
        assert_eq!(done.count(), 4);
    }

    #[test]
    fn rejects_folds_that_cannot_be() {
        let (matrix, labels) = data(4);
        for fold_of in [vec![0, 0, 0, 0], vec![0, 1, 0], vec![0, 2, 0, 2]] {
            let found = cross_validate(
                &matrix,
                &labels,
                2,
                &fold_of,
                &params(),
                &Progress::silent(),
            );
            assert!(matches!(found, Err(Error::Mismatch { .. })), "{fold_of:?}");
        }
    }
}
