//! Standardising features, and folding that into the first dense layer.

use ndarray::{Array2, Axis};

use super::batches::Batches;
use crate::error::Result;
use crate::features::FeatureMatrix;
use crate::nn::Dense;
use crate::progress::Progress;

/// A feature's deviation counts at least as this share of the root mean square of all deviations.
///
/// A ReLU feature that is 0 but for one row would else become √n there, and mark that row alone.
const FLOOR: f64 = 0.3;

/// x ↦ (x − mean) / scale for each feature, with scale = max(standard deviation, floor).
///
/// The floor is 0.3 times the root mean square of the standard deviations of all features.
#[derive(Clone, Debug)]
pub(crate) struct Standardizer {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standardizer {
    /// Leaves features as they are.
    pub(crate) fn identity(dim: usize) -> Standardizer {
        Standardizer {
            mean: vec![0.0; dim],
            scale: vec![1.0; dim],
        }
    }

    /// Mean and population standard deviation of the features over `rows`, in one pass.
    ///
    /// # Errors
    /// [`Mismatch`](crate::Error::Mismatch) for a number that is not finite, and
    /// [`Cancelled`](crate::Error::Cancelled).
    pub(crate) fn measure(
        matrix: &FeatureMatrix,
        rows: &[usize],
        progress: &Progress,
    ) -> Result<Standardizer> {
        let dim = matrix.dim();
        // Sums of differences from the first row: no digits are lost to a large common mean.
        let mut origin = vec![0.0f32; dim];
        if let Some(&first) = rows.first() {
            matrix.row_into(first, &mut origin)?;
        }
        let mut sums = vec![0.0f64; dim];
        let mut squares = vec![0.0f64; dim];
        let mut batches = Batches::new(matrix, rows);
        while let Some(batch) = batches.next_batch(progress)? {
            for row in batch.features.rows() {
                for (feature, &value) in row.iter().enumerate() {
                    let difference = f64::from(value) - f64::from(origin[feature]);
                    sums[feature] += difference;
                    squares[feature] += difference * difference;
                }
            }
        }
        let count = rows.len().max(1) as f64;
        let variance: Vec<f64> = sums
            .iter()
            .zip(&squares)
            .map(|(sum, square)| (square / count - (sum / count).powi(2)).max(0.0))
            .collect();
        let floor = FLOOR * (variance.iter().sum::<f64>() / dim.max(1) as f64).sqrt();
        Ok(Standardizer {
            mean: origin
                .iter()
                .zip(&sums)
                .map(|(&origin, sum)| f64::from(origin) + sum / count)
                .collect(),
            scale: variance
                .iter()
                .map(|variance| variance.sqrt().max(floor))
                // All features constant: nothing to scale by.
                .map(|scale| if scale > 0.0 { scale } else { 1.0 })
                .collect(),
        })
    }

    /// Standardises rows `[rows, dim]` in place.
    pub(crate) fn apply(&self, features: &mut Array2<f32>) {
        for mut row in features.rows_mut() {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *value = ((f64::from(*value) - mean) / scale) as f32;
            }
        }
    }

    /// Turns ∂L by standardised rows `[rows, dim]` into ∂L by raw ones, in place: divides by the scale.
    pub(crate) fn backward(&self, gradient: &mut Array2<f32>) {
        for mut row in gradient.rows_mut() {
            for (value, scale) in row.iter_mut().zip(&self.scale) {
                *value = (f64::from(*value) / scale) as f32;
            }
        }
    }

    /// Mean, then scale, of each feature.
    pub(crate) fn parts(&self) -> (&[f64], &[f64]) {
        (&self.mean, &self.scale)
    }

    /// With a mean and a scale for each feature.
    pub(crate) fn from_parts(mean: Vec<f64>, scale: Vec<f64>) -> Standardizer {
        Standardizer { mean, scale }
    }

    /// The layer that does on raw features what `first` does on standardised ones:
    /// W' = W / scale by rows, b' = b − Σ mean/scale · W.
    pub(crate) fn fold(&self, first: &Dense) -> Dense {
        let mut folded = first.clone();
        let mut bias: Vec<f64> = first.bias.iter().map(|&bias| f64::from(bias)).collect();
        for (feature, mut row) in folded.weights.axis_iter_mut(Axis(0)).enumerate() {
            for (weight, bias) in row.iter_mut().zip(&mut bias) {
                let scaled = f64::from(*weight) / self.scale[feature];
                *bias -= self.mean[feature] * scaled;
                *weight = scaled as f32;
            }
        }
        for (folded, bias) in folded.bias.iter_mut().zip(bias) {
            *folded = bias as f32;
        }
        folded
    }

    /// The inverse of [`fold`](Self::fold), but for rounding: W = W' · scale, b = b' + Σ mean · W'.
    pub(crate) fn unfold(&self, first: &Dense) -> Dense {
        let inverse = Standardizer {
            mean: self
                .mean
                .iter()
                .zip(&self.scale)
                .map(|(m, s)| -m / s)
                .collect(),
            scale: self.scale.iter().map(|scale| 1.0 / scale).collect(),
        };
        inverse.fold(first)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn measure(array: Array2<f32>) -> Standardizer {
        let rows: Vec<usize> = (0..array.nrows()).collect();
        let matrix = FeatureMatrix::from_array(array);
        Standardizer::measure(&matrix, &rows, &Progress::silent()).unwrap()
    }

    #[test]
    fn gives_mean_and_population_deviation_of_large_numbers() {
        // numpy.std of (1, 2, 4) + 10⁵ is 1.2472191, of (2, 2, 5) is √2.
        let found = measure(array![[100_001.0, 2.0], [100_002.0, 2.0], [100_004.0, 5.0]]);
        assert!((found.mean[0] - 100_002.333_333).abs() < 1e-5);
        assert!((found.scale[0] - 1.247_219_1).abs() < 1e-6);
        assert!((found.scale[1] - 2.0f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn keeps_features_that_hardly_vary_from_exploding() {
        let mut rows = Array2::zeros((100, 3));
        for row in 0..100 {
            rows[[row, 0]] = if row % 2 == 0 { -1.0 } else { 1.0 };
        }
        rows[[7, 1]] = 1e-3;
        let standardizer = measure(rows.clone());
        standardizer.apply(&mut rows);
        assert!(rows.iter().all(|value| value.abs() <= 1.0 + 1e-6));
        assert!(rows.column(2).iter().all(|&value| value == 0.0));
    }

    #[test]
    fn leaves_constant_features_finite() {
        let mut rows = array![[3.0, 4.0], [3.0, 4.0]];
        measure(rows.clone()).apply(&mut rows);
        assert_eq!(rows, array![[0.0, 0.0], [0.0, 0.0]]);
    }

    #[test]
    fn the_folded_layer_does_the_same_on_raw_features() {
        let raw = array![[1.0, 20.0], [2.0, -5.0], [4.0, 8.0]];
        let standardizer = measure(raw.clone());
        let dense = Dense {
            weights: array![[0.5, -1.0], [2.0, 0.25]],
            bias: array![0.1, -0.2],
        };
        let mut standardised = raw.clone();
        standardizer.apply(&mut standardised);
        let expected = dense.forward(standardised.view());
        let found = standardizer.fold(&dense).forward(raw.view());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
