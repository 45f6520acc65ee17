//! The learning rate over the steps of a training.

use std::f64::consts::PI;

/// How the learning rate goes once it has warmed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// Stays at the peak.
    Constant,
    /// Half a cosine from the peak to 0 at the end.
    ///
    /// Source: Loshchilov and Hutter, SGDR, ICLR 2017, formula 5 with η_min = 0.
    Cosine,
    /// Multiplied by `factor` after every `every` steps.
    Step {
        /// Steps between two drops, at least 1.
        every: u64,
        /// What the rate is multiplied by.
        factor: f32,
    },
}

/// The learning rate of each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f32,
    /// Course after the warm-up.
    pub curve: Curve,
    /// Steps in which the rate rises linearly to the peak (Goyal et al., 2017).
    pub warmup_steps: u64,
    /// Steps in all, the warm-up's included.
    pub total_steps: u64,
}

impl Schedule {
    /// The rate of 0-based step `step`.
    ///
    /// In the warm-up peak · (step + 1) / warmup_steps; after it the curve, with time counted from
    /// the warm-up's end.
    pub fn rate(&self, step: u64) -> f32 {
        let peak = f64::from(self.peak);
        if step < self.warmup_steps {
            return (peak * (step + 1) as f64 / self.warmup_steps as f64) as f32;
        }
        let since = step - self.warmup_steps;
        let rate = match self.curve {
            Curve::Constant => peak,
            Curve::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let progress = (since as f64 / length as f64).min(1.0);
                peak * 0.5 * (1.0 + (PI * progress).cos())
            }
            Curve::Step { every, factor } => {
                peak * f64::from(factor).powf((since / every.max(1)) as f64)
            }
        };
        rate as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(curve: Curve, warmup_steps: u64) -> Vec<f32> {
        let schedule = Schedule {
            peak: 0.1,
            curve,
            warmup_steps,
            total_steps: 8,
        };
        (0..8).map(|step| schedule.rate(step)).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn cosine_gives_the_rates_of_pytorch() {
        // The closed form in the documentation of torch.optim.lr_scheduler.CosineAnnealingLR, with
        // T_max = 8 from 0.1, in NumPy: 0.05 · (1 + cos(π t / 8)) for t = 0 … 7.
        let expected = [
            0.1,
            0.096_193_98,
            0.085_355_34,
            0.069_134_17,
            0.05,
            0.030_865_83,
            0.014_644_66,
            0.003_806_02,
        ];
        assert_close(&rates(Curve::Cosine, 0), &expected);
    }

    #[test]
    fn step_drops_after_every_so_many_steps() {
        let curve = Curve::Step {
            every: 3,
            factor: 0.1,
        };
        let expected = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001];
        assert_close(&rates(curve, 0), &expected);
    }

    #[test]
    fn warms_up_linearly_and_then_begins_at_the_peak() {
        let expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1];
        assert_close(&rates(Curve::Constant, 4), &expected);
        let cosine = rates(Curve::Cosine, 4);
        assert_close(&cosine[3..7], &[0.1, 0.1, 0.085_355_34, 0.05]);
    }
}
