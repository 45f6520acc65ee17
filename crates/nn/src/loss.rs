//! Softmax cross-entropy.

use ndarray::{Array2, ArrayView2};

use super::activation::{log_softmax, softmax};

/// Softmax cross-entropy with label smoothing and class weights.
///
/// For a batch of n rows with logits z, labels y and K classes,
///
/// L = 1/n · Σ_i w(y_i) · (− Σ_c q_i(c) · ln softmax(z_i)_c), with q_i(c) = (1 − s) · \[c = y_i\] + s/K.
///
/// Label smoothing s as in Szegedy et al., CVPR 2016, formula 7. The mean divides by the number of rows,
/// not by the sum of their weights, as Keras does with `class_weight`; with scikit-learn's balanced
/// weights, which sum to n over the training rows, the two are the same over an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// s, from 0 to below 1.
    pub label_smoothing: f32,
    /// w, one for each class; none for 1 throughout.
    pub class_weights: Option<Vec<f32>>,
}

impl CrossEntropy {
    /// L of `logits` `[rows, classes]`, and ∂L/∂z in the same shape:
    /// w(y_i)/n · (softmax(z_i)_c − q_i(c)).
    ///
    /// `labels` has a class below `classes` for each row, of which there must be at least one.
    ///
    /// # Panics
    /// If there are fewer labels than rows or a label or weight is missing.
    pub fn with_gradient(&self, logits: ArrayView2<f32>, labels: &[usize]) -> (f32, Array2<f32>) {
        let (rows, classes) = logits.dim();
        let logs = log_softmax(logits);
        let mut gradient = softmax(logits);
        let spread = self.label_smoothing / classes as f32;
        let mut sum = 0.0f64;
        for (row, &label) in labels.iter().enumerate().take(rows) {
            let weight = self
                .class_weights
                .as_ref()
                .map_or(1.0, |weights| weights[label]);
            let mut cross = 0.0f64;
            for class in 0..classes {
                let hit = if class == label { 1.0 } else { 0.0 };
                let target = (1.0 - self.label_smoothing) * hit + spread;
                if target > 0.0 {
                    cross -= f64::from(target) * f64::from(logs[[row, class]]);
                }
                let derivative = &mut gradient[[row, class]];
                *derivative = weight / rows as f32 * (*derivative - target);
            }
            sum += f64::from(weight) * cross;
        }
        ((sum / rows as f64) as f32, gradient)
    }
}

/// Sum over the rows of − ln softmax(z_i)_{y_i}, in nats; `logits` `[rows, classes]`.
///
/// # Panics
/// If there are fewer labels than rows, or a label is not below the number of classes.
pub fn cross_entropy_sum(logits: ArrayView2<f32>, labels: &[usize]) -> f64 {
    let logs = log_softmax(logits);
    (0..logs.nrows())
        .map(|row| -f64::from(logs[[row, labels[row]]]))
        .sum()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn losses() -> Vec<CrossEntropy> {
        let weights = Some(vec![0.5, 2.0, 1.25]);
        vec![
            CrossEntropy::default(),
            CrossEntropy {
                label_smoothing: 0.1,
                class_weights: None,
            },
            CrossEntropy {
                label_smoothing: 0.2,
                class_weights: weights,
            },
        ]
    }

    #[test]
    fn agrees_with_numpy() {
        // NumPy, float64, from the formula above: logits and labels as here.
        let logits = array![[2.0, -1.0, 0.5], [0.0, 0.3, -0.2]];
        let labels = [0, 2];
        let expected = [0.797_298_9, 0.860_632_3, 0.951_965_3];
        for (loss, expected) in losses().iter().zip(expected) {
            let (value, _) = loss.with_gradient(logits.view(), &labels);
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
        let sum = cross_entropy_sum(logits.view(), &labels);
        assert!((sum - 2.0 * f64::from(expected[0])).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let logits = array![[2.0, -1.0, 0.5], [0.0, 0.3, -0.2], [-3.0, 1.0, 2.0]];
        let labels = [0, 2, 1];
        let step = 1e-2;
        for loss in losses() {
            let (_, gradient) = loss.with_gradient(logits.view(), &labels);
            for index in ndarray::indices(logits.dim()) {
                let at = |delta: f32| {
                    let mut moved = logits.clone();
                    moved[index] += delta;
                    loss.with_gradient(moved.view(), &labels).0
                };
                let difference = (at(step) - at(-step)) / (2.0 * step);
                assert!(
                    (difference - gradient[index]).abs() < 5e-5,
                    "{index:?}: {difference} {}",
                    gradient[index]
                );
            }
        }
    }
}
