//! The training loop of the head.

use super::head::Head;
use super::head_params::{Monitor, ValidHeadParams};
use super::score::{Score, check_labels, check_rows, evaluate};
use super::standardizer::Standardizer;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::Dense;
use crate::progress::{EpochStats, Event, Progress};

/// A trained head and its history.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The head, on raw features.
    pub head: Head,
    /// One entry for each epoch that ran.
    pub history: Vec<EpochStats>,
    /// 1-based epoch after which the head was taken: with early stopping (and validation rows) the
    /// best one, else the last.
    pub best_epoch: usize,
    /// The layers of `head` as trained, on standardised features.
    pub(super) layers: Vec<Dense>,
    /// How features are standardised for them.
    pub(super) standardizer: Standardizer,
}

/// Trains a head on the rows `training` of `matrix`, validating on the rows `validation`.
///
/// `labels` has a class below `classes` for each row of the matrix; only those of the two lists are
/// used. `validation` may be empty: training then runs to the last epoch. Without hidden layers
/// the weights start at 0, the middle of a convex problem; else hidden layers start with He's and the
/// last one with Glorot's uniform weights. One batch of rows is in memory at a time; results are the
/// same to the bit for the same input, seed and kind of machine.
///
/// Emits an [`Event::Epoch`] after each epoch, with `fold` in it. The training loss in it is the mean
/// cross-entropy without smoothing, class weights or penalty, so that it compares with the
/// validation loss; `best_epoch` in it follows the validation rows, or is the epoch itself without any.
///
/// # Errors
/// [`Error::Mismatch`] if rows, labels and classes do not fit, if there are less than two classes or no
/// training rows, or if a feature is not finite; [`Error::Diverged`]; [`Error::Cancelled`].
#[allow(clippy::too_many_arguments)]
pub fn fit(
    matrix: &FeatureMatrix,
    labels: &[usize],
    classes: usize,
    training: &[usize],
    validation: &[usize],
    params: &ValidHeadParams,
    progress: &Progress,
    fold: Option<usize>,
) -> Result<Fitted> {
    params.require_memory(training.len(), matrix.dim(), classes)?;
    let params = params.get();
    check(matrix, labels, classes, training, validation)?;
    let measured = Standardizer::measure(matrix, training, progress)?;
    if let Some(warning) = measured.warning().filter(|_| fold.is_none()) {
        progress.warn(warning);
    }
    let standardizer = if params.standardize {
        measured
    } else {
        Standardizer::identity(matrix.dim())
    };
    let patience = if validation.is_empty() {
        0
    } else {
        params.early_stopping
    };
    let mut trainer = Trainer::new(matrix, labels, classes, training, params, standardizer);
    let mut best = Best::new(params.monitor);
    let mut history = Vec::new();
    // Replaced after the first epoch, which is the best until then.
    let mut kept = (trainer.head()?, trainer.layers().to_vec(), 0);
    for epoch in 1..=params.epochs {
        let seen = trainer.epoch(epoch, progress)?;
        let head = trainer.head()?;
        let score = match validation {
            [] => None,
            rows => Some(evaluate(&head, matrix, labels, rows, progress)?),
        };
        let loss = score.as_ref().map_or(seen.loss, |score| score.loss);
        if !loss.is_finite() {
            return Err(Error::Diverged { epoch, loss });
        }
        let improved = best.improves(epoch, score.as_ref());
        let since = epoch - best.epoch;
        let stats = EpochStats {
            epoch,
            epochs: params.epochs,
            learning_rate: seen.learning_rate,
            loss: seen.loss,
            accuracy: seen.accuracy,
            val_loss: score.as_ref().map(|score| score.loss),
            val_accuracy: score.as_ref().map(|score| score.accuracy),
            best_epoch: best.epoch,
            patience_left: (patience > 0).then(|| patience.saturating_sub(since)),
        };
        history.push(stats);
        let class_accuracy = score.as_ref().map_or_else(Vec::new, |score| {
            let classes = score.confusion.class_scores();
            classes.iter().map(|class| class.recall as f32).collect()
        });
        progress.emit(Event::Epoch {
            fold,
            stats,
            class_accuracy,
        });
        if patience == 0 || improved {
            kept = (head, trainer.layers().to_vec(), epoch);
        }
        if patience > 0 && since >= patience {
            break;
        }
    }
    let (head, layers, best_epoch) = kept;
    Ok(Fitted {
        head,
        history,
        best_epoch,
        layers,
        standardizer: trainer.standardizer().clone(),
    })
}

fn check(
    matrix: &FeatureMatrix,
    labels: &[usize],
    classes: usize,
    training: &[usize],
    validation: &[usize],
) -> Result<()> {
    let too_few = |what: &str, expected: &str, found: usize| Error::Mismatch {
        what: what.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
        hint: "training needs images of at least 2 classes".to_string(),
    };
    if classes < 2 {
        return Err(too_few("number of classes", "at least 2", classes));
    }
    if training.is_empty() {
        return Err(too_few("rows to train on", "at least 1", 0));
    }
    for rows in [training, validation] {
        check_rows(matrix, rows)?;
        check_labels(matrix, labels, rows, classes)?;
    }
    Ok(())
}

/// The best epoch so far by the validation rows.
pub(super) struct Best {
    monitor: Monitor,
    pub(super) epoch: usize,
    pub(super) value: f32,
    /// Whether an epoch was measured before.
    pub(super) started: bool,
}

impl Best {
    pub(super) fn new(monitor: Monitor) -> Best {
        Best {
            monitor,
            epoch: 0,
            value: f32::INFINITY,
            started: false,
        }
    }

    /// Records an epoch and returns whether it is the best so far; without a score it always is.
    pub(super) fn improves(&mut self, epoch: usize, score: Option<&Score>) -> bool {
        let value = match (score, self.monitor) {
            (None, _) => f32::NEG_INFINITY,
            (Some(score), Monitor::ValLoss) => score.loss,
            (Some(score), Monitor::ValAccuracy) => -score.accuracy,
        };
        let improved = !self.started || score.is_none() || value < self.value;
        self.started = true;
        if improved {
            self.epoch = epoch;
            self.value = value;
        }
        improved
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::train::head_params::{ClassWeights, HeadParams, OptimizerName};
    use crate::train::log_loss;

    /// Rows around one centre for each of three classes, classes in turn; 5 features.
    fn blobs(rows: usize, spread: f32) -> (FeatureMatrix, Vec<usize>) {
        let mut state = 1u32;
        let mut noise = || {
            // Numerical Recipes' linear congruential generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let array = Array2::from_shape_fn((rows, 5), |(row, feature)| {
            let centre = if row % 3 == feature { 10.0 } else { 5.0 };
            centre + spread * noise()
        });
        (
            FeatureMatrix::from_array(array),
            (0..rows).map(|row| row % 3).collect(),
        )
    }

    fn params(change: impl FnOnce(&mut HeadParams)) -> ValidHeadParams {
        let mut params = HeadParams {
            epochs: 20,
            learning_rate: 0.05,
            ..HeadParams::default()
        };
        change(&mut params);
        params.check().unwrap()
    }

    fn run(
        data: &(FeatureMatrix, Vec<usize>),
        training: &[usize],
        validation: &[usize],
        params: &ValidHeadParams,
    ) -> Result<Fitted> {
        let silent = Progress::silent();
        fit(
            &data.0, &data.1, 3, training, validation, params, &silent, None,
        )
    }

    fn range(begin: usize, end: usize) -> Vec<usize> {
        (begin..end).collect()
    }

    #[test]
    fn learns_to_tell_classes_apart_with_every_optimizer_and_with_hidden_layers() {
        let data = blobs(150, 2.0);
        let cases = [
            params(|_| {}),
            params(|p| p.optimizer = OptimizerName::AdamW),
            params(|p| p.optimizer = OptimizerName::Sgd),
            params(|p| {
                p.hidden = vec![16, 8];
                p.dropout = 0.1;
                p.label_smoothing = 0.1;
                p.class_weights = ClassWeights::Balanced;
            }),
        ];
        for case in &cases {
            let fitted = run(&data, &range(0, 90), &range(90, 150), case).unwrap();
            let last = fitted.history.last().unwrap();
            assert_eq!(last.val_accuracy, Some(1.0), "{case:?}");
            assert_eq!((fitted.history.len(), fitted.best_epoch), (20, 20));
        }
    }

    #[test]
    fn gives_the_same_bits_for_the_same_seed() {
        let data = blobs(60, 5.0);
        let fitted = |seed| {
            let params = params(|p| {
                p.hidden = vec![8];
                p.dropout = 0.3;
                p.seed = seed;
            });
            run(&data, &range(0, 60), &[], &params).unwrap()
        };
        assert_eq!(fitted(1).head, fitted(1).head);
        assert_eq!(fitted(1).history, fitted(1).history);
        assert_ne!(fitted(1).head, fitted(2).head);
    }

    #[test]
    fn early_stopping_restores_the_best_epoch() {
        // Broad clouds and a hidden layer: the validation loss rises again.
        let data = blobs(90, 9.0);
        let (training, validation) = (range(0, 30), range(30, 90));
        let params = params(|p| {
            p.hidden = vec![64];
            p.epochs = 200;
            p.early_stopping = 5;
            p.l2 = 0.0;
        });
        let fitted = run(&data, &training, &validation, &params).unwrap();
        let losses: Vec<f32> = fitted.history.iter().filter_map(|e| e.val_loss).collect();
        let least = losses.iter().copied().fold(f32::INFINITY, f32::min);
        assert_eq!(losses[fitted.best_epoch - 1], least);
        assert_eq!(losses.len(), fitted.best_epoch + 5);
        assert!(losses.len() < 200);
        assert_eq!(fitted.history.last().unwrap().patience_left, Some(0));

        let silent = Progress::silent();
        let score = evaluate(&fitted.head, &data.0, &data.1, &validation, &silent).unwrap();
        assert_eq!(score.loss, least);
    }

    #[test]
    fn early_stopping_can_watch_the_accuracy() {
        let data = blobs(90, 9.0);
        let params = params(|p| {
            p.early_stopping = 3;
            p.monitor = Monitor::ValAccuracy;
        });
        let fitted = run(&data, &range(0, 30), &range(30, 90), &params).unwrap();
        let found = |e: &EpochStats| e.val_accuracy.unwrap();
        let most = fitted.history.iter().map(found).fold(0.0, f32::max);
        let first = fitted.history.iter().find(|e| found(e) == most).unwrap();
        assert_eq!(fitted.best_epoch, first.epoch);
    }

    #[test]
    fn emits_an_event_for_each_epoch() {
        let data = blobs(30, 2.0);
        let (progress, events) = Progress::channel();
        let params = params(|p| p.epochs = 3);
        let rows = range(0, 30);
        let fitted = fit(&data.0, &data.1, 3, &rows, &[], &params, &progress, Some(4)).unwrap();
        let expected: Vec<Event> = fitted
            .history
            .iter()
            .map(|&stats| Event::Epoch {
                fold: Some(4),
                stats,
                class_accuracy: Vec::new(),
            })
            .collect();
        assert_eq!(events.try_iter().collect::<Vec<_>>(), expected);
        assert_eq!(fitted.history[2].epoch, 3);
        assert_eq!(fitted.history[2].val_loss, None);
        assert_eq!(fitted.history[2].best_epoch, 3);
    }

    #[test]
    fn the_first_loss_of_a_linear_head_is_that_of_guessing() {
        let data = blobs(30, 2.0);
        let params = params(|p| {
            p.epochs = 1;
            p.batch_size = 30;
        });
        let fitted = run(&data, &range(0, 30), &[], &params).unwrap();
        assert!((fitted.history[0].loss - 3.0f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn standardising_does_not_change_what_the_head_takes() {
        // Features shifted and scaled by powers of two standardise to the same numbers.
        let (matrix, labels) = blobs(60, 3.0);
        let mut raw = Array2::zeros((60, 5));
        matrix.gather(&range(0, 60), &mut raw.view_mut()).unwrap();
        let moved = raw.mapv(|value| value * 8.0 - 64.0);
        let params = params(|_| {});
        let fitted = |array: &Array2<f32>| {
            let data = (FeatureMatrix::from_array(array.clone()), labels.clone());
            run(&data, &range(0, 60), &[], &params).unwrap().head
        };
        let expected = fitted(&raw).probabilities(raw.view());
        let found = fitted(&moved).probabilities(moved.view());
        assert!(log_loss(expected.view(), &labels) < 0.5);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    #[test]
    fn names_the_row_with_a_number_that_is_not_finite() {
        for (row, training, validation) in
            [(4, range(0, 30), vec![]), (33, range(0, 30), range(30, 36))]
        {
            for value in [f32::NAN, f32::INFINITY] {
                let (matrix, labels) = blobs(36, 2.0);
                let mut array = Array2::zeros((36, 5));
                matrix.gather(&range(0, 36), &mut array.view_mut()).unwrap();
                array[[row, 3]] = value;
                let data = (FeatureMatrix::from_array(array), labels);
                let error = run(&data, &training, &validation, &params(|_| {})).unwrap_err();
                let text = error.to_string();
                assert!(text.contains(&format!("row {row}")), "{text}");
                assert!(text.contains("column 3"), "{text}");
            }
        }
    }

    #[test]
    fn tells_that_training_diverged() {
        let data = blobs(30, 2.0);
        let params = params(|p| {
            p.optimizer = OptimizerName::Sgd;
            p.learning_rate = 1e30;
            p.l2 = 1.0;
        });
        let error = run(&data, &range(0, 30), &[], &params).unwrap_err();
        assert!(matches!(error, Error::Diverged { .. }), "{error}");
    }

    #[test]
    fn stops_when_asked() {
        let data = blobs(30, 2.0);
        let progress = Progress::silent();
        progress.cancel().cancel();
        let rows = range(0, 30);
        let error = fit(
            &data.0,
            &data.1,
            3,
            &rows,
            &[],
            &params(|_| {}),
            &progress,
            None,
        );
        assert!(matches!(error, Err(Error::Cancelled)));
    }

    #[test]
    fn rejects_rows_labels_and_classes_that_do_not_fit() {
        let (matrix, labels) = blobs(30, 2.0);
        let params = params(|_| {});
        let silent = Progress::silent();
        let rejects = |labels: &[usize], classes, training: &[usize], validation: &[usize]| {
            let found = fit(
                &matrix, labels, classes, training, validation, &params, &silent, None,
            );
            assert!(matches!(found, Err(Error::Mismatch { .. })), "{found:?}");
        };
        rejects(&labels, 1, &[0], &[]);
        rejects(&labels, 3, &[], &[]);
        rejects(&labels, 2, &[0, 2], &[]);
        rejects(&labels, 3, &[0, 30], &[]);
        rejects(&labels, 3, &[0], &[30]);
        rejects(&labels[..29], 3, &[0], &[]);
    }

    #[test]
    fn one_row_and_a_class_without_rows_are_enough() {
        let data = blobs(30, 2.0);
        let params = params(|p| p.class_weights = ClassWeights::Balanced);
        for training in [vec![0], vec![0, 1]] {
            let fitted = run(&data, &training, &[], &params).unwrap();
            let loss = fitted.history.last().unwrap().loss;
            assert!(loss.is_finite(), "{loss}");
        }
    }
}
