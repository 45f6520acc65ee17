//! Paired comparison of two ways to train on the same folds: is the difference in accuracy more than noise?

use serde::{Deserialize, Serialize};

/// Two-sided 95 % points of Student's t distribution with 1, 2, 3 … degrees of freedom.
const STUDENT: [f32; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The difference in accuracy of two ways to train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean over the folds of the difference of the accuracies, −1 to 1.
    pub mean: f32,
    /// Half the width of its 95 % interval: a difference within it may be noise.
    pub margin: f32,
}

impl PairedDifference {
    /// The difference `after` − `before`, accuracies on the same two or more folds.
    ///
    /// The interval is that of the corrected t test of Nadeau and Bengio (Machine Learning 52, 2003): the
    /// folds' variance times 1/k + 1/(k − 1), since their training rows overlap.
    pub fn of(before: &[f32], after: &[f32]) -> PairedDifference {
        let differences: Vec<f32> = before.iter().zip(after).map(|(a, b)| b - a).collect();
        let folds = differences.len() as f32;
        let mean = differences.iter().sum::<f32>() / folds;
        let squares = differences.iter().map(|d| (d - mean).powi(2));
        let variance = squares.sum::<f32>() / (folds - 1.0);
        let freedom = differences.len().clamp(2, STUDENT.len() + 1) - 2;
        let error = ((1.0 / folds + 1.0 / (folds - 1.0)) * variance).sqrt();
        PairedDifference {
            mean,
            margin: STUDENT[freedom] * error,
        }
    }

    /// Whether the difference is larger than its margin.
    pub fn is_more_than_noise(&self) -> bool {
        self.mean.abs() > self.margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        // SciPy 1.17: t.ppf(0.975, 4) * sqrt((1/5 + 1/4) * var(differences, ddof=1)).
        let before = [0.90, 0.86, 0.91, 0.84, 0.88];
        let after = [0.92, 0.90, 0.91, 0.90, 0.90];
        let found = PairedDifference::of(&before, &after);
        assert!((found.mean - 0.028).abs() < 1e-6);
        assert!((found.margin - 0.042_471).abs() < 1e-5, "{found:?}");
        assert!(!found.is_more_than_noise());
        let steady = [0.94, 0.91, 0.95, 0.89, 0.93];
        assert!(PairedDifference::of(&before, &steady).is_more_than_noise());
        assert!(!PairedDifference::of(&before, &before).is_more_than_noise());
    }
}
