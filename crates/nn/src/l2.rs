//! The L2 penalty on the weights of dense layers.

use super::{Dense, DenseGradient};

/// λ/2 · Σ w² over the weights of all layers; biases are free.
pub fn penalty(layers: &[Dense], lambda: f32) -> f32 {
    let squares: f64 = layers
        .iter()
        .flat_map(|layer| &layer.weights)
        .map(|&weight| f64::from(weight).powi(2))
        .sum();
    (0.5 * f64::from(lambda) * squares) as f32
}

/// Adds the derivative of [`penalty`], λ · w, to the gradients of the same layers.
pub fn add_gradient(layers: &[Dense], lambda: f32, gradients: &mut [DenseGradient]) {
    for (layer, gradient) in layers.iter().zip(gradients) {
        gradient.weights.scaled_add(lambda, &layer.weights);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn penalises_weights_and_not_biases() {
        let layers = [Dense {
            weights: array![[3.0], [-4.0]],
            bias: array![100.0],
        }];
        assert_eq!(penalty(&layers, 0.2), 2.5);
        let mut gradients = [DenseGradient {
            weights: array![[1.0], [1.0]],
            bias: array![1.0],
        }];
        add_gradient(&layers, 0.5, &mut gradients);
        assert_eq!(gradients[0].weights, array![[2.5], [-1.0]]);
        assert_eq!(gradients[0].bias, array![1.0]);
    }
}
