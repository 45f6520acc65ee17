//! Inverted dropout.

use ndarray::Array2;
use rand::{Rng, RngExt};

/// A mask `shape` = (rows, features) of independent draws: 0 with probability `rate`, else
/// 1 / (1 − rate), so that the expected value of a masked number is the number itself.
///
/// Forward and backward are both the product with the same mask; prediction needs none. `rate` is from
/// 0 to below 1. Source: Srivastava et al., JMLR 15 (2014), in the inverted form.
pub fn mask(shape: (usize, usize), rate: f32, rng: &mut impl Rng) -> Array2<f32> {
    let kept = 1.0 / (1.0 - rate);
    Array2::from_shape_simple_fn(shape, || {
        if rng.random::<f32>() < rate {
            0.0
        } else {
            kept
        }
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;

    #[test]
    fn drops_the_asked_share_and_keeps_the_mean() {
        let mask = mask((1000, 100), 0.3, &mut Pcg32::seed_from_u64(1));
        let dropped = mask.iter().filter(|&&value| value == 0.0).count();
        // Five standard deviations of a binomial count: 5 · √(10⁵ · 0.3 · 0.7) = 725.
        assert!(dropped.abs_diff(30_000) < 725, "{dropped}");
        assert!(mask.iter().all(|&value| value == 0.0 || value == 1.0 / 0.7));
    }

    #[test]
    fn gives_the_same_mask_for_the_same_seed() {
        let draw = |seed| mask((5, 7), 0.5, &mut Pcg32::seed_from_u64(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
