//! A network of layers over feature maps: forward, and backward to the weights that are trained.
//!
//! Values are numbered: 0 is the input, i + 1 what layer i makes; the last layer makes the output. A value is
//! the maps of a shard of pictures, `[channels, images, height, width]`, see [`super::maps`]. A batch is some
//! shards: most layers take one shard after another, each a piece of work of its own; [`super::winograd`]'s
//! take all shards together. Results do not depend on the executor.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;

use super::conv::{self, Conv, matrix, matrix_mut};
use super::maps::{FlatOrder, Maps, flat_places};
use super::norm::BatchNorm;
use super::parallel::{Executor, for_each};
use super::pointwise::Pointwise;
use super::pool::Pool;
use super::winograd;

/// What a layer does; `usize` fields are numbers of weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution.
    Conv {
        /// Its geometry.
        conv: Conv,
        /// `[output channels, input channels / groups, kernel height, kernel width]`.
        weights: usize,
        /// `[output channels]`.
        bias: Option<usize>,
    },
    /// Matrix product of vectors.
    Dense {
        /// `[inputs, outputs]`, or `[outputs, inputs]`.
        weights: usize,
        /// `[outputs]`.
        bias: Option<usize>,
        /// Whether the inputs are the rows of the weights.
        inputs_first: bool,
    },
    /// Batch normalisation with frozen statistics.
    BatchNorm {
        /// The statistics.
        norm: BatchNorm,
        /// γ, `[channels]`.
        scale: usize,
        /// β, `[channels]`.
        shift: usize,
    },
    /// Adds a weight to each channel, `[channels]`.
    ChannelBias(usize),
    /// A function of single values.
    Pointwise(Pointwise),
    /// Pooling.
    Pool(Pool),
    /// Sum of two values of one shape.
    Add,
    /// Product of two values of one shape, or of maps with a value a channel.
    Multiply,
    /// Channels of all inputs, one after another.
    Concat,
    /// Maps as one vector.
    Flatten(FlatOrder),
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Numbers of the values that it reads.
    pub inputs: Vec<usize>,
    /// Shape of what it makes.
    pub output: Maps,
}

/// Layers in an order of execution.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNet {
    shapes: Vec<Maps>,
    layers: Vec<Layer>,
    /// Whether each weight is trained.
    trained: Vec<bool>,
    /// Whether each value depends on a weight that is trained.
    depends: Vec<bool>,
    /// Layers in order: runs of those that take one shard after another, and single ones that take all.
    steps: Vec<Range<usize>>,
}

/// The weights of a network as its layers take them.
#[derive(Debug)]
pub struct Weights<'a> {
    values: &'a [Vec<f32>],
    /// Weights that a layer wants transformed; the others are empty.
    transformed: Vec<Vec<f32>>,
}

/// Memory that is used again from batch to batch.
#[derive(Debug, Default)]
pub struct Workspace {
    buffers: winograd::Buffers,
    transformed: Vec<Vec<f32>>,
    /// Derivatives by each weight of each shard.
    gradients: Vec<Vec<Vec<f32>>>,
}

impl Workspace {
    /// Takes the memory of weights that are no longer wanted.
    pub fn reclaim(&mut self, weights: Weights) {
        self.transformed = weights.transformed;
    }
}

/// A shard on its way through the network.
struct Passing {
    images: usize,
    values: Vec<Vec<f32>>,
    /// Layers that have yet to read each value; none if all values are kept.
    readers: Option<Vec<usize>>,
}

impl Passing {
    /// Takes what `layer` has made, and lets go what nothing reads any more.
    fn push(&mut self, layer: &Layer, output: Vec<f32>) {
        self.values.push(output);
        let Some(readers) = &mut self.readers else {
            return;
        };
        for &value in &layer.inputs {
            readers[value] -= 1;
            if readers[value] == 0 {
                self.values[value] = Vec::new();
            }
        }
    }
}

impl ConvNet {
    /// A network for pictures with maps of shape `input`; `trained` has an entry for each weight.
    ///
    /// # Panics
    /// If a layer reads a value that is not made before it, or a weight that is not there.
    pub fn new(input: Maps, layers: Vec<Layer>, trained: Vec<bool>) -> ConvNet {
        let mut shapes = vec![input];
        let mut depends = vec![false];
        for layer in &layers {
            let own = layer.op.weights().into_iter().any(|weight| trained[weight]);
            depends.push(own || layer.inputs.iter().any(|&value| depends[value]));
            shapes.push(layer.output);
        }
        let joint = |index: usize| layers[index].takes_all_shards();
        let mut steps: Vec<Range<usize>> = Vec::new();
        for index in 0..layers.len() {
            match steps.last_mut() {
                Some(step) if !joint(index) && !joint(step.start) => step.end = index + 1,
                _ => steps.push(index..index + 1),
            }
        }
        ConvNet {
            shapes,
            layers,
            trained,
            depends,
            steps,
        }
    }

    /// Shape of the input.
    pub fn input(&self) -> Maps {
        self.shapes[0]
    }

    /// Shape of the output.
    pub fn output(&self) -> Maps {
        self.shapes[self.layers.len()]
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether each weight is trained.
    pub fn trained(&self) -> &[bool] {
        &self.trained
    }

    /// The weights made ready for the layers, in memory of `workspace`.
    pub fn prepare<'a>(
        &self,
        weights: &'a [Vec<f32>],
        workspace: &mut Workspace,
        executor: &dyn Executor,
    ) -> Weights<'a> {
        let mut transformed = std::mem::take(&mut workspace.transformed);
        transformed.resize_with(weights.len(), Vec::new);
        for (conv, weight) in self.layers.iter().filter_map(Layer::winograd) {
            let to = &mut transformed[weight];
            winograd::transform_weights(conv, &weights[weight], to, executor);
        }
        Weights {
            values: weights,
            transformed,
        }
    }

    /// The output of each shard, for `input` of `images` pictures each; a value is let go once nothing reads
    /// it any more.
    ///
    /// # Panics
    /// If `input` or a weight has another length than its shape; so in the other functions here.
    pub fn forward(
        &self,
        weights: &Weights,
        images: &[usize],
        input: Vec<Vec<f32>>,
        workspace: &mut Workspace,
        executor: &dyn Executor,
    ) -> Vec<Vec<f32>> {
        let mut readers = vec![0usize; self.shapes.len()];
        for value in self.layers.iter().flat_map(|layer| &layer.inputs) {
            readers[*value] += 1;
        }
        let readers = Some(readers);
        let shards = self.pass(weights, images, input, readers, workspace, executor);
        let mut shards = shards.into_iter();
        std::iter::from_fn(|| shards.next()?.values.pop()).collect()
    }

    /// All values of each shard, for `input` of `images` pictures each: what [`backward`](Self::backward)
    /// needs; the last is the output.
    pub fn trace(
        &self,
        weights: &Weights,
        images: &[usize],
        input: Vec<Vec<f32>>,
        workspace: &mut Workspace,
        executor: &dyn Executor,
    ) -> Vec<Vec<Vec<f32>>> {
        let shards = self.pass(weights, images, input, None, workspace, executor);
        shards.into_iter().map(|shard| shard.values).collect()
    }

    fn pass(
        &self,
        weights: &Weights,
        images: &[usize],
        input: Vec<Vec<f32>>,
        readers: Option<Vec<usize>>,
        workspace: &mut Workspace,
        executor: &dyn Executor,
    ) -> Vec<Passing> {
        let shards = images.iter().zip(input).map(|(&images, input)| Passing {
            images,
            values: vec![input],
            readers: readers.clone(),
        });
        let mut shards: Vec<Passing> = shards.collect();
        for step in &self.steps {
            let layers = &self.layers[step.clone()];
            if let Some((conv, weight)) = layers[0].winograd() {
                let mut outputs: Vec<Vec<f32>> = shards
                    .iter()
                    .map(|shard| vec![0.0; layers[0].output.values() * shard.images])
                    .collect();
                if let Op::Conv {
                    bias: Some(bias), ..
                } = layers[0].op
                {
                    for output in &mut outputs {
                        add_to_channels(output, &weights.values[bias]);
                    }
                }
                let inputs = shards.iter().map(|s| &s.values[layers[0].inputs[0]][..]);
                winograd::forward(
                    conv,
                    images,
                    &inputs.collect::<Vec<_>>(),
                    &weights.transformed[weight],
                    &mut outputs,
                    &mut workspace.buffers,
                    executor,
                );
                for (shard, output) in shards.iter_mut().zip(outputs) {
                    shard.push(&layers[0], output);
                }
                continue;
            }
            for_each(executor, shards.iter_mut(), |_, shard| {
                for layer in layers {
                    let output = self.run(layer, weights.values, shard.images, &shard.values);
                    shard.push(layer, output);
                }
            });
        }
        shards
    }

    fn run(
        &self,
        layer: &Layer,
        weights: &[Vec<f32>],
        images: usize,
        values: &[Vec<f32>],
    ) -> Vec<f32> {
        let input = &values[layer.inputs[0]][..];
        let shape = self.shapes[layer.inputs[0]];
        match &layer.op {
            Op::Conv {
                conv,
                weights: w,
                bias,
            } => {
                let bias = bias.map(|b| &weights[b][..]);
                conv.forward(images, input, &weights[*w], bias)
            }
            Op::Dense {
                weights: w,
                bias,
                inputs_first,
            } => {
                let (inputs, outputs) = (shape.values(), layer.output.values());
                let mut output = vec![0.0; outputs * images];
                if let Some(bias) = bias {
                    add_to_channels(&mut output, &weights[*bias]);
                }
                let input = matrix(inputs, images, input);
                let mut view = matrix_mut(outputs, images, &mut output);
                if *inputs_first {
                    let kernel = matrix(inputs, outputs, &weights[*w]);
                    general_mat_mul(1.0, &kernel.t(), &input, 1.0, &mut view);
                } else {
                    let kernel = matrix(outputs, inputs, &weights[*w]);
                    general_mat_mul(1.0, &kernel, &input, 1.0, &mut view);
                }
                output
            }
            Op::BatchNorm { norm, scale, shift } => {
                norm.forward(input, &weights[*scale], &weights[*shift])
            }
            Op::ChannelBias(bias) => {
                let mut output = input.to_vec();
                add_to_channels(&mut output, &weights[*bias]);
                output
            }
            Op::Pointwise(function) => function.forward(input),
            Op::Pool(pool) => pool.forward(images, input),
            Op::Add => sum(input, &values[layer.inputs[1]]),
            Op::Multiply => multiply(input, &values[layer.inputs[1]]),
            Op::Concat => layer
                .inputs
                .iter()
                .flat_map(|&value| values[value].iter().copied())
                .collect(),
            Op::Flatten(order) => {
                let places = flat_places(shape, images, *order);
                places.into_iter().map(|place| input[place]).collect()
            }
        }
    }

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

impl Layer {
    /// A convolution that [`winograd`] does, and the number of its weights.
    fn winograd(&self) -> Option<(&Conv, usize)> {
        match &self.op {
            Op::Conv { conv, weights, .. } if winograd::suits(conv) => Some((conv, *weights)),
            _ => None,
        }
    }

    fn takes_all_shards(&self) -> bool {
        self.winograd().is_some()
    }
}

impl Op {
    /// Numbers of the weights that it reads.
    pub fn weights(&self) -> Vec<usize> {
        match self {
            Op::Conv { weights, bias, .. } | Op::Dense { weights, bias, .. } => {
                std::iter::once(*weights).chain(*bias).collect()
            }
            Op::BatchNorm { scale, shift, .. } => vec![*scale, *shift],
            Op::ChannelBias(bias) => vec![*bias],
            _ => Vec::new(),
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

fn add_to_channels(maps: &mut [f32], bias: &[f32]) {
    let length = maps.len() / bias.len().max(1);
    for (map, &bias) in maps.chunks_exact_mut(length.max(1)).zip(bias) {
        for value in map {
            *value += bias;
        }
    }
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Maps times maps, or the longer of the two times a value a map of the shorter.
fn multiply(a: &[f32], b: &[f32]) -> Vec<f32> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let each = long.len() / short.len().max(1);
    let maps = long.chunks_exact(each.max(1)).zip(short);
    maps.flat_map(|(map, &factor)| map.iter().map(move |value| value * factor))
        .collect()
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
