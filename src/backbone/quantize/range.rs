//! Chooses the quantisation range of a tensor from its values. Pure.

use serde::{Deserialize, Serialize};

/// Bins of a histogram.
const BINS: usize = 2048;
/// Share of values that a percentile range keeps.
const KEPT_SHARE: f64 = 0.9999;
/// Ranges tried on each side by the search for the least error.
const CANDIDATES: u32 = 100;

/// How the range of a tensor is chosen from its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calibration {
    /// All values, from the least to the largest.
    MinMax,
    /// All but the outermost 0.01 %.
    Percentile,
    /// The range with the least mean squared error of the rounded values.
    #[default]
    Mse,
}

impl Calibration {
    /// Its name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Calibration::MinMax => "minmax",
            Calibration::Percentile => "percentile",
            Calibration::Mse => "mse",
        }
    }
}

/// The values that a tensor's integers can stand for; contains 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub low: f32,
    pub high: f32,
}

impl Range {
    /// An empty range.
    pub const EMPTY: Range = Range {
        low: 0.0,
        high: 0.0,
    };

    /// The smallest range that contains both.
    pub fn union(self, other: Range) -> Range {
        Range {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    /// The smallest range that contains 0 and `values`.
    pub fn of(values: &[f32]) -> Range {
        let wider = |range: Range, &x: &f32| Range {
            low: range.low.min(x),
            high: range.high.max(x),
        };
        values.iter().fold(Range::EMPTY, wider)
    }

    /// The step between two integers and the integer that stands for 0, for integers from 0 to 255:
    /// `x = (q − zero_point) · scale`.
    pub fn uint8(self) -> (f32, u8) {
        let scale = (self.high - self.low) / 255.0;
        if scale.is_nan() || scale <= f32::MIN_POSITIVE {
            // Nothing but zeros: any step will do.
            return (1.0 / 255.0, 0);
        }
        let zero_point = (-self.low / scale).round_ties_even().clamp(0.0, 255.0);
        (scale, zero_point as u8)
    }
}

/// How often values fall into the bins of a range.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    range: Range,
    counts: Vec<u64>,
}

impl Histogram {
    pub fn new(range: Range) -> Histogram {
        Histogram {
            range,
            counts: vec![0; BINS],
        }
    }

    fn bin_width(&self) -> f32 {
        (self.range.high - self.range.low) / BINS as f32
    }

    /// Counts values, which lie in the range.
    pub fn add(&mut self, values: &[f32]) {
        let per_bin = 1.0 / self.bin_width().max(f32::MIN_POSITIVE);
        for &x in values {
            let bin = ((x - self.range.low) * per_bin) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    /// Adds what another histogram of the same range has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The range that `calibration` chooses.
    pub fn choose(&self, calibration: Calibration) -> Range {
        match calibration {
            Calibration::MinMax => self.range,
            Calibration::Percentile => self.percentile(),
            Calibration::Mse => self.least_error(),
        }
    }

    fn percentile(&self) -> Range {
        let total: u64 = self.counts.iter().sum();
        let most = ((1.0 - KEPT_SHARE) * total as f64) as u64;
        // Bins that can be left out from one side.
        let skipped = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    sum <= most
                })
                .count()
        };
        let (below, above) = (
            skipped(&mut self.counts.iter()),
            skipped(&mut self.counts.iter().rev()),
        );
        Range {
            low: (self.range.low + below as f32 * self.bin_width()).min(0.0),
            high: (self.range.high - above as f32 * self.bin_width()).max(0.0),
        }
    }

    /// Tries bounds from a hundredth of the outermost value to that value: the upper ones, then the lower ones,
    /// then the upper ones again.
    fn least_error(&self) -> Range {
        let mut best = (self.error(self.range), self.range);
        for side in [1, 0, 1] {
            for i in 1..=CANDIDATES {
                let share = i as f32 / CANDIDATES as f32;
                let mut tried = best.1;
                match side {
                    0 => tried.low = self.range.low * share,
                    _ => tried.high = self.range.high * share,
                }
                let error = self.error(tried);
                if error < best.0 {
                    best = (error, tried);
                }
            }
        }
        best.1
    }

    /// Sum of the squared differences between values and what integers of `range` make of them.
    fn error(&self, range: Range) -> f64 {
        let (scale, zero_point) = range.uint8();
        let zero_point = f32::from(zero_point);
        let (width, per_step) = (self.bin_width(), 1.0 / scale);
        let counts = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        counts
            .map(|(bin, &count)| {
                let start = self.range.low + bin as f32 * width;
                // After a ReLU most values are 0.
                let has_zero = start <= 0.0 && 0.0 < start + width;
                let x = if has_zero { 0.0 } else { start + 0.5 * width };
                let steps = (x * per_step).round_ties_even() + zero_point;
                let rounded = (steps.clamp(0.0, 255.0) - zero_point) * scale;
                count as f64 * f64::from(x - rounded).powi(2)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new(Range::of(values));
        histogram.add(values);
        histogram
    }

    #[test]
    fn zero_is_always_an_integer() {
        for (low, high) in [
            (0.0, 6.0),
            (-1.0, 3.0),
            (-0.01, 900.0),
            (-2.0, 0.0),
            (0.0, 0.0),
        ] {
            let (scale, zero_point) = Range { low, high }.uint8();
            assert!(scale > 0.0);
            for bound in [low, high] {
                let q = (bound / scale).round_ties_even() + f32::from(zero_point);
                let back = (q.clamp(0.0, 255.0) - f32::from(zero_point)) * scale;
                assert!((back - bound).abs() <= scale, "{low} {high}: {back}");
            }
        }
    }

    #[test]
    fn a_range_contains_zero() {
        assert_eq!(
            Range::of(&[2.0, 3.0]),
            Range {
                low: 0.0,
                high: 3.0
            }
        );
        assert_eq!(
            Range::of(&[-2.0]),
            Range {
                low: -2.0,
                high: 0.0
            }
        );
    }

    /// 100,000 values spread evenly from -1 to 1, and one of 50.
    fn with_an_outlier() -> Histogram {
        let mut values: Vec<f32> = (0..100_000).map(|i| i as f32 / 50_000.0 - 1.0).collect();
        values.push(50.0);
        histogram(&values)
    }

    #[test]
    fn methods_differ_in_what_they_make_of_an_outlier() {
        let histogram = with_an_outlier();
        assert_eq!(histogram.choose(Calibration::MinMax).high, 50.0);
        let percentile = histogram.choose(Calibration::Percentile);
        assert!((0.95..1.1).contains(&percentile.high), "{percentile:?}");
        assert!((-1.0..-0.95).contains(&percentile.low), "{percentile:?}");
        let mse = histogram.choose(Calibration::Mse);
        assert!(histogram.error(mse) < histogram.error(histogram.range));
        // The least of n·((h + 1)/255)²/12 + (50 − h)², rounding n values to steps of (h + 1)/255 and cutting the
        // outlier to h, is at h = 44.2.
        assert!((41.0..48.0).contains(&mse.high), "{mse:?}");
        assert!((-1.0..-0.9).contains(&mse.low), "{mse:?}");
    }

    #[test]
    fn histograms_of_parts_make_that_of_the_whole() {
        let values: Vec<f32> = (0..999).map(|i| (i * 7919 % 1999) as f32 - 500.0).collect();
        let whole = histogram(&values);
        let mut parts = Histogram::new(whole.range);
        for part in values.chunks(100) {
            let mut other = Histogram::new(whole.range);
            other.add(part);
            parts.merge(&other);
        }
        assert_eq!(parts, whole);
    }
}
