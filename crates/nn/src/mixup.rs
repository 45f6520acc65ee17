//! Mixup and CutMix: training on mixtures of two examples and of their labels.
//!
//! x̃ = λ x_i + (1 − λ) x_j and ỹ = λ y_i + (1 − λ) y_j, with λ from Beta(α, α), one for a batch, and j a
//! permutation of the batch: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. On what a frozen
//! base gives, it is the manifold mixup of Verma et al., ICML 2019.
//!
//! CutMix takes a rectangle of x_j in place of that of x_i, and the share of the rest for λ: Yun et al., "CutMix:
//! Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use rand::{Rng, RngExt, seq::SliceRandom};

use super::loss::CrossEntropy;

/// Which examples of a batch are mixed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixup {
    /// λ, the share of an example itself, 0 to 1.
    pub share: f32,
    /// j: the partner of each example.
    pub partners: Vec<usize>,
    /// CutMix's rectangle of the partner; none to mix all values.
    pub patch: Option<Patch>,
}

/// A rectangle of maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Height and width of the maps.
    size: [usize; 2],
}

impl Patch {
    /// A rectangle with the proportions of the maps, a share 1 − `share` of them before what stands out over
    /// their edges is cut off; its centre is anywhere in them.
    fn draw(share: f32, size: [usize; 2], rng: &mut impl Rng) -> Patch {
        let [rows, columns] = size.map(|length| {
            let half = length as f32 * (1.0 - share).sqrt() / 2.0;
            let centre = length as f32 * rng.random::<f32>();
            let within = |place: f32| place.round().clamp(0.0, length as f32) as usize;
            within(centre - half)..within(centre + half)
        });
        Patch {
            rows,
            columns,
            size,
        }
    }

    /// Share of the maps that it covers.
    fn share(&self) -> f32 {
        (self.rows.len() * self.columns.len()) as f32 / (self.size[0] * self.size[1]) as f32
    }

    /// Copies the rectangle of every map of `partner`, `[…, height, width]`, over that of `own`.
    fn copy(&self, own: &mut [f32], partner: &[f32]) {
        let [height, width] = self.size;
        let maps = own.chunks_exact_mut(height * width);
        for (own, partner) in maps.zip(partner.chunks_exact(height * width)) {
            for row in self.rows.clone() {
                let run = row * width + self.columns.start..row * width + self.columns.end;
                own[run.clone()].copy_from_slice(&partner[run]);
            }
        }
    }
}

impl Mixup {
    /// Draws the mixture of a batch of `rows` examples for α = `alpha`; none, and nothing drawn, for 0.
    pub fn draw(alpha: f32, rows: usize, rng: &mut impl Rng) -> Option<Mixup> {
        if alpha <= 0.0 {
            return None;
        }
        let share = beta(alpha, rng);
        let mut partners: Vec<usize> = (0..rows).collect();
        partners.shuffle(rng);
        Some(Mixup {
            share,
            partners,
            patch: None,
        })
    }

    /// Draws the mixture of a batch of maps `[…, height, width]` by Mixup or CutMix, with an α for each; where
    /// neither is 0, each batch takes one of them by chance.
    pub fn draw_maps(
        mixup: f32,
        cutmix: f32,
        size: [usize; 2],
        rows: usize,
        rng: &mut impl Rng,
    ) -> Option<Mixup> {
        if cutmix <= 0.0 || (mixup > 0.0 && rng.random::<bool>()) {
            return Mixup::draw(mixup, rows, rng);
        }
        let mut drawn = Mixup::draw(cutmix, rows, rng)?;
        let patch = Patch::draw(drawn.share, size, rng);
        drawn.share = 1.0 - patch.share();
        drawn.patch = Some(patch);
        Some(drawn)
    }

    /// `own` ← λ · `own` + (1 − λ) · `partner`, or the rectangle of `partner` over that of `own`.
    ///
    /// # Panics
    /// If `partner` is shorter than `own`.
    pub fn mix(&self, own: &mut [f32], partner: &[f32]) {
        let partner = &partner[..own.len()];
        if let Some(patch) = &self.patch {
            return patch.copy(own, partner);
        }
        for (own, partner) in own.iter_mut().zip(partner) {
            *own = self.share * *own + (1.0 - self.share) * partner;
        }
    }

    /// Loss of mixed examples and its derivative by the logits, as [`CrossEntropy::with_gradient`]: linear in
    /// the target, it is that of the labels times λ, and that of the partners' labels times 1 − λ.
    pub fn loss(
        &self,
        loss: &CrossEntropy,
        logits: ArrayView2<f32>,
        labels: &[usize],
        partners: &[usize],
    ) -> (f32, Array2<f32>) {
        let (own, mut gradient) = loss.with_gradient(logits, labels);
        let (other, more) = loss.with_gradient(logits, partners);
        let rest = 1.0 - self.share;
        gradient.zip_mut_with(&more, |a, b| *a = self.share * *a + rest * b);
        (self.share * own + rest * other, gradient)
    }
}

/// A number from Beta(α, α), by Jöhnk's method (Metrika 8, 1964).
fn beta(alpha: f32, rng: &mut impl Rng) -> f32 {
    loop {
        let x = rng.random::<f64>().powf(1.0 / f64::from(alpha));
        let y = rng.random::<f64>().powf(1.0 / f64::from(alpha));
        if x + y > 0.0 && x + y <= 1.0 {
            return (x / (x + y)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;

    #[test]
    fn shares_have_the_mean_and_variance_of_the_beta_distribution() {
        let mut rng = Pcg32::seed_from_u64(1);
        for alpha in [0.2f32, 1.0, 2.0] {
            let shares: Vec<f64> = (0..20_000)
                .map(|_| f64::from(beta(alpha, &mut rng)))
                .collect();
            let mean = shares.iter().sum::<f64>() / 20_000.0;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 20_000.0;
            // 1/2 and 1/(4 (2α + 1)); five standard deviations of the mean are at most 0.018.
            assert!((mean - 0.5).abs() < 0.018, "{alpha}: {mean}");
            let expected = 1.0 / (4.0 * (2.0 * f64::from(alpha) + 1.0));
            assert!(
                (variance - expected).abs() < 0.06 * expected,
                "{alpha}: {variance}"
            );
        }
    }

    #[test]
    fn the_loss_is_that_of_the_mixed_target() {
        let mixup = Mixup {
            share: 0.25,
            partners: vec![1, 0],
            patch: None,
        };
        let logits = array![[2.0, -1.0, 0.5], [0.0, 0.3, -0.2]];
        let loss = CrossEntropy::default();
        let (value, gradient) = mixup.loss(&loss, logits.view(), &[0, 2], &[2, 0]);
        // NumPy, float64: −Σ ỹ ln softmax(z) and (softmax(z) − ỹ)/2 for ỹ = (1/4, 0, 3/4), (3/4, 0, 1/4).
        assert!((value - 1.2847989).abs() < 1e-6, "{value}");
        for (found, expected) in gradient.iter().zip([
            0.2677985, 0.0195563, -0.2873548, -0.2172011, 0.2130063, 0.0041948,
        ]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let mut own = [1.0, -2.0];
        mixup.mix(&mut own, &[3.0, 2.0]);
        assert_eq!(own, [2.5, 1.0]);
    }

    #[test]
    fn cutmix_takes_a_rectangle_and_the_share_of_the_rest() {
        let mut rng = Pcg32::seed_from_u64(1);
        let (mut shares, mut different) = (0.0, 0);
        for _ in 0..2000 {
            let drawn = Mixup::draw_maps(0.0, 1.0, [5, 7], 3, &mut rng).unwrap();
            // Two maps, of zeros and of ones.
            let mut own = vec![0.0; 70];
            drawn.mix(&mut own, &[1.0; 70]);
            let taken = own.iter().sum::<f32>();
            assert!((taken / 70.0 - (1.0 - drawn.share)).abs() < 1e-6);
            assert_eq!(own[..35], own[35..]);
            let rows: Vec<f32> = own[..35].chunks(7).map(|row| row.iter().sum()).collect();
            let widths: Vec<&f32> = rows.iter().filter(|&&width| width > 0.0).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{rows:?}");
            shares += drawn.share;
            different += usize::from(taken > 0.0);
        }
        // λ is uniform for α = 1; what stands out over the edges adds to it.
        assert!((0.5..0.75).contains(&(shares / 2000.0)), "{shares}");
        assert!(different > 1800, "{different}");
        let kinds: Vec<bool> = (0..100)
            .map(|_| Mixup::draw_maps(0.2, 1.0, [5, 7], 3, &mut rng).unwrap())
            .map(|drawn| drawn.patch.is_some())
            .collect();
        assert!(kinds.contains(&true) && kinds.contains(&false));
        assert_eq!(Mixup::draw_maps(0.0, 0.0, [5, 7], 3, &mut rng), None);
    }
}
