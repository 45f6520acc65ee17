//! The way back through a network: from the derivative by its output to those by its weights.

use ndarray::linalg::general_mat_mul;

use super::layer::{Layer, Op};
use super::{ConvNet, Weights, Workspace, multiply};
use crate::conv::{self, matrix, matrix_mut};
use crate::maps::flat_places;
use crate::parallel::{Executor, for_each};
use crate::winograd;

impl ConvNet {
    /// Adds the derivatives of a loss by the trained weights to `gradients`, from its derivative by the
    /// output of each shard. `traces` are the [`trace`](Self::trace) of the same pictures; gradients of
    /// weights that are not trained stay as they are and may be empty.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        weights: &Weights,
        images: &[usize],
        traces: &[Vec<Vec<f32>>],
        output_gradient: Vec<Vec<f32>>,
        gradients: &mut [Vec<f32>],
        workspace: &mut Workspace,
        executor: &dyn Executor,
    ) {
        let mut shards: Vec<Vec<Option<Vec<f32>>>> = Vec::with_capacity(images.len());
        for slope in output_gradient {
            let mut slopes = vec![None; self.shapes.len()];
            slopes[self.layers.len()] = Some(slope);
            shards.push(slopes);
        }
        self.clear_gradients(weights.values, images.len(), workspace);
        for step in self.steps.iter().rev() {
            if self.layers[step.start].takes_all_shards() {
                let buffers = &mut workspace.buffers;
                self.joint_gradients(
                    step.start,
                    weights,
                    images,
                    traces,
                    &mut shards,
                    gradients,
                    buffers,
                    executor,
                );
                continue;
            }
            let parts = shards.iter_mut().zip(&mut workspace.gradients);
            for_each(executor, parts, |shard, (slopes, gradients)| {
                let (images, values) = (images[shard], &traces[shard]);
                for index in step.clone().rev() {
                    let Some(slope) = slopes[index + 1].take() else {
                        continue;
                    };
                    if !self.depends[index + 1] {
                        continue;
                    }
                    let (layer, weights) = (&self.layers[index], weights.values);
                    self.weight_gradients(layer, weights, images, values, &slope, gradients);
                    for (place, &value) in layer.inputs.iter().enumerate() {
                        if self.depends[value] {
                            let part =
                                self.input_gradient(layer, place, weights, images, values, &slope);
                            add_slope(&mut slopes[value], part);
                        }
                    }
                }
            });
        }
        add_in_order(&workspace.gradients[..images.len()], gradients, executor);
    }

    /// Zeros for the derivatives of each shard, none for those that all shards are taken together for.
    fn clear_gradients(&self, weights: &[Vec<f32>], shards: usize, workspace: &mut Workspace) {
        let mut lengths: Vec<usize> = weights.iter().map(Vec::len).collect();
        let joint = self.layers.iter().filter(|l| l.takes_all_shards());
        for weight in joint.flat_map(|layer| layer.op.weights()) {
            lengths[weight] = 0;
        }
        // A weight that another layer reads, too.
        let others = self.layers.iter().filter(|l| !l.takes_all_shards());
        for weight in others.flat_map(|layer| layer.op.weights()) {
            lengths[weight] = weights[weight].len();
        }
        for (length, trained) in lengths.iter_mut().zip(&self.trained) {
            *length *= usize::from(*trained);
        }
        if workspace.gradients.len() < shards {
            workspace.gradients.resize_with(shards, Vec::new);
        }
        for shard in &mut workspace.gradients {
            shard.resize_with(weights.len(), Vec::new);
            for (gradient, &length) in shard.iter_mut().zip(&lengths) {
                gradient.clear();
                gradient.resize(length, 0.0);
            }
        }
    }

    /// The way back through layer `index`, which takes all shards together.
    #[allow(clippy::too_many_arguments)]
    fn joint_gradients(
        &self,
        index: usize,
        weights: &Weights,
        images: &[usize],
        traces: &[Vec<Vec<f32>>],
        shards: &mut [Vec<Option<Vec<f32>>>],
        gradients: &mut [Vec<f32>],
        buffers: &mut winograd::Buffers,
        executor: &dyn Executor,
    ) {
        let layer = &self.layers[index];
        let Some((conv, weight)) = layer.winograd() else {
            return;
        };
        let slopes: Vec<Vec<f32>> = shards
            .iter_mut()
            .filter_map(|slopes| slopes[index + 1].take())
            .collect();
        if slopes.len() < shards.len() || !self.depends[index + 1] {
            return;
        }
        if let Op::Conv {
            bias: Some(bias), ..
        } = layer.op
            && self.trained[bias]
        {
            for slope in &slopes {
                conv::bias_gradient(slope, &mut gradients[bias]);
            }
        }
        let value = layer.inputs[0];
        let mut parts: Vec<Vec<f32>> = match self.depends[value] {
            true => images
                .iter()
                .map(|n| vec![0.0; conv.input.values() * n])
                .collect(),
            false => Vec::new(),
        };
        let gradient = self.trained[weight].then(|| &mut gradients[weight][..]);
        winograd::backward(
            conv,
            images,
            &traces.iter().map(|t| &t[value][..]).collect::<Vec<_>>(),
            &slopes.iter().map(|s| &s[..]).collect::<Vec<_>>(),
            &weights.transformed[weight],
            gradient,
            self.depends[value].then_some(&mut parts[..]),
            buffers,
            executor,
        );
        for (slopes, part) in shards.iter_mut().zip(parts) {
            add_slope(&mut slopes[value], part);
        }
    }

    fn weight_gradients(
        &self,
        layer: &Layer,
        weights: &[Vec<f32>],
        images: usize,
        values: &[Vec<f32>],
        slope: &[f32],
        gradients: &mut [Vec<f32>],
    ) {
        let trains = |weight: &usize| self.trained[*weight];
        let input = &values[layer.inputs[0]][..];
        match &layer.op {
            Op::Conv {
                conv,
                weights: w,
                bias,
            } => {
                if trains(w) {
                    conv.weight_gradient(images, input, slope, &mut gradients[*w]);
                }
                if let Some(bias) = bias.as_ref().filter(|b| trains(b)) {
                    conv::bias_gradient(slope, &mut gradients[*bias]);
                }
            }
            Op::Dense {
                weights: w,
                bias,
                inputs_first,
            } => {
                if trains(w) {
                    let outputs = layer.output.values();
                    let inputs = weights[*w].len() / outputs.max(1);
                    let input = matrix(inputs, images, input);
                    let slope = matrix(outputs, images, slope);
                    let (a, b, rows) = match inputs_first {
                        true => (input, slope, inputs),
                        false => (slope, input, outputs),
                    };
                    let columns = weights[*w].len() / rows.max(1);
                    let mut gradient = matrix_mut(rows, columns, &mut gradients[*w]);
                    general_mat_mul(1.0, &a, &b.t(), 1.0, &mut gradient);
                }
                if let Some(bias) = bias.as_ref().filter(|b| trains(b)) {
                    conv::bias_gradient(slope, &mut gradients[*bias]);
                }
            }
            Op::BatchNorm { norm, scale, shift } => {
                if trains(scale) {
                    norm.scale_gradient(input, slope, &mut gradients[*scale]);
                }
                if trains(shift) {
                    conv::bias_gradient(slope, &mut gradients[*shift]);
                }
            }
            Op::ChannelBias(bias) if trains(bias) => {
                conv::bias_gradient(slope, &mut gradients[*bias]);
            }
            _ => {}
        }
    }

    /// The derivative by the layer's input number `place`, from `slope`, that by its output.
    fn input_gradient(
        &self,
        layer: &Layer,
        place: usize,
        weights: &[Vec<f32>],
        images: usize,
        values: &[Vec<f32>],
        slope: &[f32],
    ) -> Vec<f32> {
        let input = &values[layer.inputs[place]][..];
        let shape = self.shapes[layer.inputs[place]];
        match &layer.op {
            Op::Conv {
                conv, weights: w, ..
            } => conv.input_gradient(images, slope, &weights[*w]),
            Op::Dense {
                weights: w,
                inputs_first,
                ..
            } => {
                let (inputs, outputs) = (shape.values(), layer.output.values());
                let slope = matrix(outputs, images, slope);
                let mut gradient = vec![0.0; inputs * images];
                let mut view = matrix_mut(inputs, images, &mut gradient);
                if *inputs_first {
                    let kernel = matrix(inputs, outputs, &weights[*w]);
                    general_mat_mul(1.0, &kernel, &slope, 0.0, &mut view);
                } else {
                    let kernel = matrix(outputs, inputs, &weights[*w]);
                    general_mat_mul(1.0, &kernel.t(), &slope, 0.0, &mut view);
                }
                gradient
            }
            Op::BatchNorm { norm, scale, .. } => norm.input_gradient(slope, &weights[*scale]),
            Op::ChannelBias(_) | Op::Add => slope.to_vec(),
            Op::Pointwise(function) => function.input_gradient(input, slope),
            Op::Pool(pool) => pool.input_gradient(images, input, slope),
            Op::Multiply => {
                let other = &values[layer.inputs[1 - place]];
                multiply_gradient(input, other, slope)
            }
            Op::Concat => {
                let before = layer.inputs[..place].iter();
                let begin: usize = before.map(|&value| self.shapes[value].values()).sum();
                slope[begin * images..(begin + shape.values()) * images].to_vec()
            }
            Op::Flatten(order) => {
                let mut gradient = vec![0.0; slope.len()];
                let places = flat_places(shape, images, *order);
                for (place, &value) in places.into_iter().zip(slope) {
                    gradient[place] = value;
                }
                gradient
            }
        }
    }
}

/// Adds to the derivative by a value that several layers may read.
fn add_slope(slope: &mut Option<Vec<f32>>, part: Vec<f32>) {
    match slope {
        Some(all) => {
            for (all, part) in all.iter_mut().zip(&part) {
                *all += part;
            }
        }
        empty => *empty = Some(part),
    }
}

/// Adds the derivatives of the shards, one after another, to `sums`.
fn add_in_order(shards: &[Vec<Vec<f32>>], sums: &mut [Vec<f32>], executor: &dyn Executor) {
    /// Values that are one piece of work.
    const PIECE: usize = 1 << 16;
    let pieces = sums.iter_mut().enumerate().flat_map(|(weight, sum)| {
        let parts = sum.chunks_mut(PIECE).enumerate();
        parts.map(move |(i, part)| (weight, i * PIECE, part))
    });
    for_each(executor, pieces, |_, (weight, begin, sum)| {
        for shard in shards.iter().filter(|s| !s[*weight].is_empty()) {
            let part = &shard[*weight][*begin..*begin + sum.len()];
            for (sum, value) in sum.iter_mut().zip(part) {
                *sum += value;
            }
        }
    });
}

/// The derivative by `own`, a factor of a product with `other`.
fn multiply_gradient(own: &[f32], other: &[f32], slope: &[f32]) -> Vec<f32> {
    if own.len() >= other.len() {
        return multiply(slope, other);
    }
    let each = slope.len() / own.len().max(1);
    slope
        .chunks_exact(each)
        .zip(other.chunks_exact(each))
        .map(|(slope, other)| conv::dot(slope, other))
        .collect()
}
