//! First weights of dense layers.

use ndarray::Array2;
use rand::{Rng, RngExt};

/// Glorot's uniform weights, from ±√(6 / (inputs + outputs)), `[inputs, outputs]`.
///
/// Source: Glorot and Bengio, AISTATS 2010, formula 16; Keras' default for `Dense`.
pub fn glorot_uniform(inputs: usize, outputs: usize, rng: &mut impl Rng) -> Array2<f32> {
    uniform(
        (inputs, outputs),
        (6.0 / (inputs + outputs) as f32).sqrt(),
        rng,
    )
}

/// He's uniform weights for layers before a ReLU, from ±√(6 / inputs), `[inputs, outputs]`.
///
/// Source: He et al., ICCV 2015; Keras' `HeUniform`.
pub fn he_uniform(inputs: usize, outputs: usize, rng: &mut impl Rng) -> Array2<f32> {
    uniform((inputs, outputs), (6.0 / inputs as f32).sqrt(), rng)
}

fn uniform(shape: (usize, usize), limit: f32, rng: &mut impl Rng) -> Array2<f32> {
    Array2::from_shape_simple_fn(shape, || limit * (2.0 * rng.random::<f32>() - 1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;

    #[test]
    fn draws_with_the_variance_of_the_papers() {
        // Glorot: 2 / (inputs + outputs); He: 2 / inputs.
        let mut rng = Pcg32::seed_from_u64(7);
        for (weights, variance) in [
            (glorot_uniform(300, 100, &mut rng), 2.0 / 400.0),
            (he_uniform(300, 100, &mut rng), 2.0 / 300.0),
        ] {
            assert!((weights.var(0.0) / variance - 1.0).abs() < 0.03);
            let limit = (3.0 * variance).sqrt();
            assert!(weights.iter().all(|weight| weight.abs() <= limit));
        }
    }
}
