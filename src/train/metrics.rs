//! Classification metrics, as defined by scikit-learn; a division by zero gives 0.

use ndarray::{Array2, ArrayView1, ArrayView2};

/// A confusion matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Array2<u64>,
}

/// Precision, recall and F1, of one class or as an average over classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// Share of rows predicted as the class that belong to it, 0 to 1.
    pub precision: f64,
    /// Share of rows of the class that are predicted as it, 0 to 1.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Rows of the class; of all classes in an average.
    pub support: u64,
}

impl ConfusionMatrix {
    /// A matrix `[classes, classes]` of zeros.
    pub fn new(classes: usize) -> ConfusionMatrix {
        ConfusionMatrix {
            counts: Array2::zeros((classes, classes)),
        }
    }

    /// Counts a row of class `truth` predicted as class `prediction`.
    ///
    /// # Panics
    /// If one of them is not below [`classes`](Self::classes).
    pub fn record(&mut self, truth: usize, prediction: usize) {
        self.counts[[truth, prediction]] += 1;
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.counts.nrows()
    }

    /// Counts, `[[truth, prediction]]`.
    pub fn counts(&self) -> ArrayView2<'_, u64> {
        self.counts.view()
    }

    /// Counts as rows of truth, for [`Event::Evaluated`](crate::progress::Event::Evaluated).
    pub fn to_rows(&self) -> Vec<Vec<u64>> {
        self.counts
            .rows()
            .into_iter()
            .map(|row| row.to_vec())
            .collect()
    }

    /// Number of rows counted.
    pub fn total(&self) -> u64 {
        self.counts.sum()
    }

    /// Share of rows on the diagonal, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        ratio(self.counts.diag().sum() as f64, self.total() as f64)
    }

    /// Scores of each class, in the order of classes.
    pub fn class_scores(&self) -> Vec<ClassScores> {
        (0..self.classes())
            .map(|class| {
                let hits = self.counts[[class, class]] as f64;
                let support = self.counts.row(class).sum();
                let predicted = self.counts.column(class).sum() as f64;
                ClassScores {
                    precision: ratio(hits, predicted),
                    recall: ratio(hits, support as f64),
                    f1: ratio(2.0 * hits, predicted + support as f64),
                    support,
                }
            })
            .collect()
    }

    /// Mean of the classes' scores, each class counting the same.
    pub fn macro_average(&self) -> ClassScores {
        self.average(|_| 1.0)
    }

    /// Mean of the classes' scores, each class counting by its rows.
    pub fn weighted_average(&self) -> ClassScores {
        self.average(|scores| scores.support as f64)
    }

    fn average(&self, weight: impl Fn(&ClassScores) -> f64) -> ClassScores {
        let classes = self.class_scores();
        let weights: f64 = classes.iter().map(&weight).sum();
        let mean = |measure: fn(&ClassScores) -> f64| {
            let sum: f64 = classes.iter().map(|c| weight(c) * measure(c)).sum();
            ratio(sum, weights)
        };
        ClassScores {
            precision: mean(|scores| scores.precision),
            recall: mean(|scores| scores.recall),
            f1: mean(|scores| scores.f1),
            support: self.total(),
        }
    }
}

/// Index of the largest value; on a tie the lowest index; 0 for an empty row.
pub fn first_of(values: ArrayView1<f32>) -> usize {
    let mut first = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[first] {
            first = index;
        }
    }
    first
}

/// Share of rows whose class is among the `k` with the largest scores, 0 to 1.
///
/// `scores` is `[rows, classes]`, probabilities or logits; among equal scores the class with the lower
/// number comes first, so that `k` = 1 is the accuracy (scikit-learn's takes the higher number).
///
/// # Panics
/// If there are fewer rows than labels, or a label is not below the number of classes.
pub fn top_k_accuracy(scores: ArrayView2<f32>, labels: &[usize], k: usize) -> f64 {
    let hits = labels
        .iter()
        .enumerate()
        .filter(|&(row, &label)| {
            let own = scores[[row, label]];
            let before = scores
                .row(row)
                .iter()
                .enumerate()
                .filter(|&(class, &score)| score > own || (score == own && class < label))
                .count();
            before < k
        })
        .count();
    ratio(hits as f64, labels.len() as f64)
}

/// Mean of −ln p(class of the row), in nats, with p at least f32's machine epsilon.
///
/// `probabilities` is `[rows, classes]`. scikit-learn's `log_loss` on float32 probabilities.
///
/// # Panics
/// If there are fewer rows than labels, or a label is not below the number of classes.
pub fn log_loss(probabilities: ArrayView2<f32>, labels: &[usize]) -> f64 {
    let epsilon = f64::from(f32::EPSILON);
    let sum: f64 = labels
        .iter()
        .enumerate()
        .map(|(row, &label)| {
            -f64::from(probabilities[[row, label]])
                .clamp(epsilon, 1.0 - epsilon)
                .ln()
        })
        .sum();
    ratio(sum, labels.len() as f64)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn matrix(classes: usize, truths: &[usize], predictions: &[usize]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(classes);
        for (&truth, &prediction) in truths.iter().zip(predictions) {
            matrix.record(truth, prediction);
        }
        matrix
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn gives_the_scores_of_scikit_learn() {
        // sklearn.metrics.precision_recall_fscore_support(truths, predictions, labels=range(4),
        // zero_division=0) of scikit-learn 1.9.1: class 3 has a row but is never predicted,
        // and nothing divides by zero for class 2, which is predicted and has no rows.
        let matrix = matrix(4, &[0, 0, 0, 1, 1, 3, 0, 1], &[0, 1, 0, 1, 1, 0, 2, 0]);
        let expected = [
            (0.5, 0.5, 0.5, 4),
            (0.666_666_667, 0.666_666_667, 0.666_666_667, 3),
            (0.0, 0.0, 0.0, 0),
            (0.0, 0.0, 0.0, 1),
        ];
        for (found, (precision, recall, f1, support)) in matrix.class_scores().iter().zip(expected)
        {
            assert_close(found.precision, precision);
            assert_close(found.recall, recall);
            assert_close(found.f1, f1);
            assert_eq!(found.support, support);
        }
        for (found, (precision, recall, f1)) in [
            (
                matrix.macro_average(),
                (0.291_666_667, 0.291_666_667, 0.291_666_667),
            ),
            (matrix.weighted_average(), (0.5, 0.5, 0.5)),
        ] {
            assert_close(found.precision, precision);
            assert_close(found.recall, recall);
            assert_close(found.f1, f1);
            assert_eq!(found.support, 8);
        }
        assert_close(matrix.accuracy(), 0.5);
        assert_eq!(matrix.to_rows()[0], [2, 1, 1, 0]);
    }

    #[test]
    fn gives_the_top_k_accuracy_and_log_loss_of_scikit_learn() {
        // top_k_accuracy_score and log_loss of scikit-learn 1.9.1.
        let probabilities = array![
            [0.7f32, 0.2, 0.1],
            [0.25, 0.35, 0.4],
            [0.5, 0.3, 0.2],
            [0.9, 0.0, 0.1]
        ];
        let labels = [0, 1, 2, 1];
        for (k, expected) in [(1, 0.25), (2, 0.5), (3, 1.0)] {
            assert_close(top_k_accuracy(probabilities.view(), &labels, k), expected);
        }
        assert_close(log_loss(probabilities.view(), &labels), 4.739_580_154);
    }

    #[test]
    fn takes_the_lower_class_first_among_equals() {
        let equal = array![[0.25f32, 0.25, 0.25, 0.25]];
        assert_eq!(first_of(equal.row(0)), 0);
        assert_eq!(top_k_accuracy(equal.view(), &[1], 1), 0.0);
        assert_eq!(top_k_accuracy(equal.view(), &[1], 2), 1.0);
    }

    #[test]
    fn gives_zero_without_rows() {
        let empty = ConfusionMatrix::new(2);
        assert_eq!(empty.accuracy(), 0.0);
        assert_eq!(empty.weighted_average().f1, 0.0);
        assert_eq!(log_loss(Array2::zeros((0, 2)).view(), &[]), 0.0);
    }
}
