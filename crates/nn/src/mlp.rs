//! Dense layers one after another, with ReLU between them: forward, and backward for training.

use ndarray::{Array2, ArrayView2};
use rand::Rng;

use super::activation::{relu, relu_backward};
use super::dropout;
use super::{Dense, DenseGradient};

/// Logits of `input` `[rows, inputs of the first layer]`; returns `[rows, outputs of the last layer]`.
///
/// ReLU follows every layer but the last. Without layers the input comes back.
///
/// # Panics
/// If the widths do not fit.
pub fn forward(layers: &[Dense], input: ArrayView2<f32>) -> Array2<f32> {
    let mut values: Option<Array2<f32>> = None;
    for layer in layers {
        let output = match values {
            None => layer.forward(input),
            Some(mut hidden) => {
                relu(&mut hidden);
                layer.forward(hidden.view())
            }
        };
        values = Some(output);
    }
    values.unwrap_or_else(|| input.to_owned())
}

/// What [`backward`] needs from a forward pass in training.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The last layer's output, `[rows, outputs]`.
    pub logits: Array2<f32>,
    /// What each layer was given, `[rows, inputs]`: after ReLU and dropout.
    inputs: Vec<Array2<f32>>,
    /// The dropout mask that each of these inputs was multiplied by.
    masks: Vec<Option<Array2<f32>>>,
}

/// The forward pass with dropout at `rate` on the hidden activations, or on the input if there are none.
///
/// # Panics
/// If the widths do not fit.
pub fn forward_training(
    layers: &[Dense],
    input: Array2<f32>,
    rate: f32,
    rng: &mut impl Rng,
) -> Trace {
    let mut trace = Trace {
        logits: input,
        inputs: Vec::with_capacity(layers.len()),
        masks: Vec::with_capacity(layers.len()),
    };
    for (index, layer) in layers.iter().enumerate() {
        let mut values = trace.logits;
        if index > 0 {
            relu(&mut values);
        }
        let dropped = rate > 0.0 && (index > 0 || layers.len() == 1);
        let mask = dropped.then(|| dropout::mask(values.dim(), rate, rng));
        if let Some(mask) = &mask {
            values *= mask;
        }
        trace.logits = layer.forward(values.view());
        trace.inputs.push(values);
        trace.masks.push(mask);
    }
    trace
}

/// Gradients of all layers, in their order, from ∂L/∂logits `[rows, outputs]`.
///
/// # Panics
/// If `trace` is not of these layers.
pub fn backward(layers: &[Dense], trace: &Trace, logits: Array2<f32>) -> Vec<DenseGradient> {
    backward_to_first(layers, trace, logits).0
}

/// As [`backward`], with ∂L/∂input `[rows, inputs]`, for what stands before the layers.
///
/// # Panics
/// If `trace` is not of these layers.
pub fn backward_to_input(
    layers: &[Dense],
    trace: &Trace,
    logits: Array2<f32>,
) -> (Vec<DenseGradient>, Array2<f32>) {
    let (gradients, first_output) = backward_to_first(layers, trace, logits);
    let Some(first) = layers.first() else {
        return (gradients, first_output);
    };
    let mut input = first.input_gradient(first_output.view());
    if let Some(mask) = &trace.masks[0] {
        input *= mask;
    }
    (gradients, input)
}

/// Gradients of all layers, and the derivative by the first layer's output.
fn backward_to_first(
    layers: &[Dense],
    trace: &Trace,
    logits: Array2<f32>,
) -> (Vec<DenseGradient>, Array2<f32>) {
    let mut gradients = Vec::with_capacity(layers.len());
    let mut output = logits;
    for (index, layer) in layers.iter().enumerate().rev() {
        let input = &trace.inputs[index];
        gradients.push(layer.gradient(input.view(), output.view()));
        if index > 0 {
            output = layer.input_gradient(output.view());
            // A number that dropout set to 0 gets no gradient from the mask, so that the masked
            // input serves ReLU as well as the unmasked.
            if let Some(mask) = &trace.masks[index] {
                output *= mask;
            }
            relu_backward(input.view(), &mut output);
        }
    }
    gradients.reverse();
    (gradients, output)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;
    use crate::CrossEntropy;
    use crate::initializer::{glorot_uniform, he_uniform};

    fn network(widths: &[usize]) -> Vec<Dense> {
        let mut rng = Pcg32::seed_from_u64(5);
        widths
            .windows(2)
            .map(|pair| Dense {
                weights: he_uniform(pair[0], pair[1], &mut rng),
                bias: Array1::linspace(-0.2, 0.3, pair[1]),
            })
            .collect()
    }

    #[test]
    fn puts_relu_between_layers_and_not_after_the_last() {
        let layers = [
            Dense::without_bias(array![[1.0, -1.0]]),
            Dense::without_bias(array![[1.0], [-2.0]]),
        ];
        let output = forward(&layers, array![[3.0], [-4.0]].view());
        assert_eq!(output, array![[3.0], [-8.0]]);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut rng = Pcg32::seed_from_u64(6);
        let input = glorot_uniform(7, 4, &mut rng) * 3.0;
        let labels = [0, 1, 2, 2, 1, 0, 1];
        let loss = CrossEntropy::default();
        for (widths, rate) in [
            (vec![4, 3], 0.0),
            (vec![4, 3], 0.4),
            (vec![4, 6, 3], 0.0),
            (vec![4, 6, 5, 3], 0.3),
        ] {
            let layers = network(&widths);
            let trace = |layers: &[Dense]| {
                forward_training(layers, input.clone(), rate, &mut Pcg32::seed_from_u64(8))
            };
            let value =
                |layers: &[Dense]| loss.with_gradient(trace(layers).logits.view(), &labels).0;
            let found = trace(&layers);
            let (_, logits) = loss.with_gradient(found.logits.view(), &labels);
            let gradients = backward(&layers, &found, logits);
            let step = 2e-3;
            for (index, gradient) in gradients.iter().enumerate() {
                let check = |found: f32, change: &dyn Fn(&mut Dense, f32)| {
                    let at = |delta| {
                        let mut moved = layers.clone();
                        change(&mut moved[index], delta);
                        value(&moved)
                    };
                    let difference = (at(step) - at(-step)) / (2.0 * step);
                    assert!(
                        (difference - found).abs() < 2e-4,
                        "{widths:?}, layer {index}: {difference} {found}"
                    );
                };
                for (place, &found) in gradient.weights.indexed_iter() {
                    check(found, &|layer, delta| layer.weights[place] += delta);
                }
                for (place, &found) in gradient.bias.indexed_iter() {
                    check(found, &|layer, delta| layer.bias[place] += delta);
                }
            }
            let (_, logits) = loss.with_gradient(found.logits.view(), &labels);
            let (same, slope) = backward_to_input(&layers, &found, logits);
            assert_eq!(same, gradients);
            for (place, &found) in slope.indexed_iter() {
                let at = |delta: f32| {
                    let mut moved = input.clone();
                    moved[place] += delta;
                    let mut rng = Pcg32::seed_from_u64(8);
                    let trace = forward_training(&layers, moved, rate, &mut rng);
                    loss.with_gradient(trace.logits.view(), &labels).0
                };
                let difference = (at(step) - at(-step)) / (2.0 * step);
                assert!(
                    (difference - found).abs() < 2e-4,
                    "{widths:?}, input {place:?}: {difference} {found}"
                );
            }
        }
    }

    #[test]
    fn training_without_dropout_gives_the_logits_of_prediction() {
        let layers = network(&[4, 6, 3]);
        let input = glorot_uniform(7, 4, &mut Pcg32::seed_from_u64(6));
        let trace = forward_training(&layers, input.clone(), 0.0, &mut Pcg32::seed_from_u64(8));
        assert_eq!(trace.logits, forward(&layers, input.view()));
    }
}
