//! Standardises features, inside the first dense layer or before it.

use ndarray::{Array2, Axis};

use super::batches::Batches;
use super::head::{Head, Standardization};
use crate::error::Result;
use crate::features::FeatureMatrix;
use crate::nn::Dense;
use crate::progress::Progress;

/// A feature that varies in a few rows alone counts as one of at least this share of the median deviation.
///
/// Otherwise a ReLU feature that is 0 except in one row would become √n there, and mark only that row.
const FLOOR: f64 = 0.3;

/// Kurtosis above which a feature varies in a few rows alone, as that of one which is on in one row of sixteen.
/// A normal distribution has 3, an exponential one 9.
const RARE: f64 = 16.0;

/// Rows that should make a deviation: where there are so few that one in sixteen is fewer, less kurtosis is rare.
const ENOUGH: f64 = 8.0;

/// Kurtosis that is not rare, however few the rows.
const COMMON: f64 = 4.0;

/// A mean of more deviations than this is taken off before the first layer: folded into its weights, the sums
/// of large products would cancel.
const FAR: f64 = 64.0;

/// Deviations that are further than these factors above and below their median are divided by before the first
/// layer: folded into its weights, float16 or int8 could not hold them beside each other.
const WIDE: [f64; 2] = [16.0, 1024.0];

/// Minimum standard deviation, in steps of the stored numbers at the feature's mean, that is represented well.
const STEPS: f64 = 8.0;

/// x ↦ (x − mean) / scale for each feature, with its standard deviation as the scale, as scikit-learn's
/// `StandardScaler` has it.
///
/// Features that do not vary, or vary in a few rows alone, have a scale of at least 0.3 times the median
/// deviation of the others, so that they do not explode.
#[derive(Clone, Debug)]
pub(crate) struct Standardizer {
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// Features whose values are too few steps of the stored numbers apart.
    blurred: Vec<usize>,
}

impl Standardizer {
    /// Leaves features as they are.
    pub(crate) fn identity(dim: usize) -> Standardizer {
        Standardizer::from_parts(vec![0.0; dim], vec![1.0; dim])
    }

    /// Measures the features over `rows`, in one pass.
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
        // Powers of differences from the first row: no digits are lost to a large common mean.
        let mut origin = vec![0.0f32; dim];
        if let Some(&first) = rows.first() {
            matrix.row_into(first, &mut origin)?;
        }
        let mut sums = vec![[0.0f64; 4]; dim];
        let mut batches = Batches::new(matrix, rows);
        while let Some(batch) = batches.next_batch(progress)? {
            for row in batch.features.rows() {
                for ((&value, &origin), sums) in row.iter().zip(&origin).zip(&mut sums) {
                    let difference = f64::from(value) - f64::from(origin);
                    let square = difference * difference;
                    let powers = [difference, square, square * difference, square * square];
                    for (sum, power) in sums.iter_mut().zip(powers) {
                        *sum += power;
                    }
                }
            }
        }
        let count = rows.len().max(1) as f64;
        let moments = sums.iter().map(|sums| Moments::of(sums.map(|s| s / count)));
        let moments: Vec<Moments> = moments.collect();
        let mean: Vec<f64> = origin
            .iter()
            .zip(&moments)
            .map(|(&origin, moments)| f64::from(origin) + moments.mean)
            .collect();
        // Differences below the resolution of the stored numbers.
        let step = matrix.epsilon();
        let steps: Vec<f64> = mean.iter().map(|mean| step * mean.abs()).collect();
        let deviations = |counts: &dyn Fn(&Moments, f64) -> bool| {
            let these = moments
                .iter()
                .zip(&steps)
                .filter(|(m, step)| counts(m, **step));
            median(these.map(|(m, _)| m.deviation).collect())
        };
        let rare = (count / ENOUGH).clamp(COMMON, RARE);
        let usual = deviations(&|moments, step| moments.is_steady(step, rare))
            .or_else(|| deviations(&|moments, step| moments.deviation > step))
            .unwrap_or(0.0);
        // A constant feature has no scale.
        let floor = if usual > 0.0 { FLOOR * usual } else { 1.0 };
        let scale = moments.iter().zip(&steps).map(|(moments, &step)| {
            let scale = match moments.is_steady(step, rare) {
                true => moments.deviation,
                false => moments.deviation.max(floor).max(step),
            };
            // Below float32's least number, nothing could be divided by it.
            scale.max(f64::from(f32::MIN_POSITIVE))
        });
        let is_blurred = |&i: &usize| {
            // Of one that is the same throughout, all may be lost; a 0 throughout is a feature that is never on.
            mean[i] != 0.0 && moments[i].deviation < STEPS * steps[i]
        };
        Ok(Standardizer {
            scale: scale.collect(),
            blurred: (0..dim).filter(is_blurred).collect(),
            mean,
        })
    }

    /// Why results may be poor: many features whose mean is so large that the stored numbers hardly tell their
    /// values apart; `None` if there are few.
    pub(crate) fn warning(&self) -> Option<String> {
        let (blurred, dim) = (self.blurred.len(), self.mean.len());
        let &example = self.blurred.first().filter(|_| 10 * blurred > dim)?;
        Some(format!(
            "{blurred} of {dim} features are so far from 0 (number {example}: about {:.4e}) that rounding hides their differences; \
             choose an earlier --feature-layer, and do not store features as float16",
            self.mean[example]
        ))
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
        Standardizer {
            mean,
            scale,
            blurred: Vec::new(),
        }
    }

    /// The head that does on raw features what `layers` do on standardised ones.
    ///
    /// # Errors
    /// [`Mismatch`](crate::Error::Mismatch) if the layers do not fit.
    pub(crate) fn head(&self, layers: &[Dense]) -> Result<Head> {
        let mut layers = layers.to_vec();
        if !self.stands_apart() {
            if let Some(first) = layers.first_mut() {
                *first = self.fold(first);
            }
            return Head::new(layers);
        }
        let apart = Standardization {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            factor: self
                .scale
                .iter()
                .map(|&scale| (1.0 / scale) as f32)
                .collect(),
        };
        if let Some(first) = layers.first_mut() {
            // What the means lost when they became float32.
            let lost: Vec<f64> = self
                .mean
                .iter()
                .zip(&apart.mean)
                .map(|(&mean, &rounded)| mean - f64::from(rounded))
                .collect();
            let rest = Standardizer::from_parts(lost, self.scale.clone());
            first.bias = rest.fold(first).bias;
        }
        Head::with_standardization(apart, layers)
    }

    /// Whether folding into a layer's weights would cost digits.
    fn stands_apart(&self) -> bool {
        let Some(usual) = median(self.scale.clone()) else {
            return false;
        };
        let [above, below] = WIDE;
        self.mean.iter().zip(&self.scale).any(|(mean, &scale)| {
            mean.abs() > FAR * scale || scale > above * usual || scale * below < usual
        })
    }

    /// The layer that does on raw features what `first` does on standardised ones:
    /// W' = W / scale by rows, b' = b − Σ mean/scale · W.
    fn fold(&self, first: &Dense) -> Dense {
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
}

/// Statistics of a feature.
struct Moments {
    /// The mean, from where it is measured.
    mean: f64,
    /// The population standard deviation.
    deviation: f64,
    /// The fourth central moment by the square of the variance.
    kurtosis: f64,
}

impl Moments {
    /// Of the means of the first four powers.
    fn of([mean, second, third, fourth]: [f64; 4]) -> Moments {
        let square = mean * mean;
        let variance = (second - square).max(0.0);
        let central = fourth - 4.0 * mean * third + 6.0 * square * second - 3.0 * square * square;
        Moments {
            mean,
            deviation: variance.sqrt(),
            kurtosis: central / (variance * variance),
        }
    }

    /// Whether many rows make the feature's deviation, by a kurtosis of at most `rare`, and it is more than the
    /// rounding `step` of its values.
    fn is_steady(&self, step: f64, rare: f64) -> bool {
        self.deviation > step && self.kurtosis <= rare
    }
}

/// The middle of some numbers, the upper of two; `None` if there are none.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    let middle = numbers.len() / 2;
    numbers.sort_by(f64::total_cmp);
    numbers.get(middle).copied()
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
    fn a_feature_of_another_scale_does_not_change_the_others() {
        // What scikit-learn's StandardScaler makes of it, whatever the scales.
        let rows = Array2::from_shape_fn((100, 4), |(row, feature)| {
            let value = ((row * 37 + feature * 11) % 100) as f32 / 100.0;
            value * [1.0, 100.0, 1e6, 1e-6][feature]
        });
        let found = measure(rows);
        for (scale, factor) in found.scale.iter().zip([1.0, 100.0, 1e6, 1e-6]) {
            let expected = factor * ((100.0f64 * 100.0 - 1.0) / 12.0).sqrt() / 100.0;
            assert!((scale / expected - 1.0).abs() < 1e-5, "{scale} {expected}");
        }
    }

    #[test]
    fn keeps_features_that_hardly_vary_from_exploding() {
        let mut rows = Array2::zeros((100, 4));
        for row in 0..100 {
            rows[[row, 0]] = if row % 2 == 0 { -1.0 } else { 1.0 };
            // The last digit of float32 alone.
            rows[[row, 3]] = if row % 2 == 0 { 1e6 } else { 1e6 + 0.0625 };
        }
        rows[[7, 1]] = 1e-3;
        let standardizer = measure(rows.clone());
        standardizer.apply(&mut rows);
        assert!(rows.iter().all(|value| value.abs() <= 1.0 + 1e-6));
        assert!(rows.column(2).iter().all(|&value| value == 0.0));
        assert!(rows.column(3).iter().all(|&value| value.abs() < 0.4));
    }

    #[test]
    fn where_most_features_are_zero_the_others_say_what_is_usual() {
        let mut rows = Array2::zeros((64, 9));
        for row in 0..64 {
            rows[[row, 8]] = row as f32;
        }
        rows[[5, 0]] = 1.0;
        let found = measure(rows);
        let usual = found.scale[8];
        assert!((usual - (4095.0f64 / 12.0).sqrt()).abs() < 1e-9);
        assert!(found.scale[..8].iter().all(|&scale| scale == FLOOR * usual));
    }

    #[test]
    fn a_feature_that_is_on_in_two_of_few_rows_does_not_explode() {
        let rows = Array2::from_shape_fn((18, 9), |(row, feature)| match feature {
            0 => f32::from(row < 2) * 1e-3,
            _ => ((row * 7 + feature) % 18) as f32,
        });
        let found = measure(rows);
        assert!((found.scale[0] - FLOOR * found.scale[1]).abs() < 1e-9);
    }

    #[test]
    fn features_that_all_are_rare_are_measured_by_each_other() {
        let rows = Array2::from_shape_fn((100, 10), |(row, feature)| f32::from(row == feature));
        let found = measure(rows);
        let deviation = (0.01f64 * 0.99).sqrt();
        assert!(found.scale.iter().all(|s| (s - deviation).abs() < 1e-12));
    }

    #[test]
    fn what_float32_cannot_hold_is_said() {
        let shifted =
            |shift: f32| Array2::from_shape_fn((50, 2), |(row, _)| shift + (row % 7) as f32 / 7.0);
        for (shift, said) in [(0.0, false), (1e4, false), (1e7, true), (1e10, true)] {
            assert_eq!(measure(shifted(shift)).warning().is_some(), said, "{shift}");
        }
    }

    #[test]
    fn leaves_constant_features_finite() {
        let mut rows = array![[3.0, 4.0], [3.0, 4.0]];
        measure(rows.clone()).apply(&mut rows);
        assert_eq!(rows, array![[0.0, 0.0], [0.0, 0.0]]);
    }

    #[test]
    fn the_head_does_the_same_on_raw_features_wherever_they_lie() {
        for shift in [0.0, 20.0, 500.0, 1e4, 1e6] {
            let raw = Array2::from_shape_fn((20, 3), |(row, feature)| {
                // Multiples of an eighth, which float32 holds beside a million.
                let value = ((row * 7 + feature * 5) % 16) as f32 / 8.0;
                if feature == 1 { value } else { value + shift }
            });
            let standardizer = measure(raw.clone());
            let dense = Dense {
                weights: array![[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]],
                bias: array![0.1, -0.2],
            };
            let mut standardised = raw.clone();
            standardizer.apply(&mut standardised);
            let expected = dense.forward(standardised.view());
            let head = standardizer.head(&[dense]).unwrap();
            assert_eq!(head.standardization().is_some(), shift > 100.0, "{shift}");
            for (found, expected) in head.logits(raw.view()).iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{shift}: {found} {expected}"
                );
            }
        }
    }
}
