//! A network of layers over feature maps: forward, and backward to the weights that are trained.
//!
//! Values are numbered: 0 is the input, i + 1 what layer i makes; the last layer makes the output. A value is
//! the maps of a shard of pictures, `[channels, images, height, width]`, see [`super::maps`]. A batch is some
//! shards: most layers take one shard after another, each a piece of work of its own; `nn::winograd`'s
//! take all shards together. Results do not depend on the executor.

mod backward;
mod layer;

use std::ops::Range;

use ndarray::linalg::general_mat_mul;

pub use self::layer::{Layer, Op};
use super::conv::{matrix, matrix_mut};
use super::maps::{Maps, flat_places};
use super::parallel::{Executor, for_each};
use super::winograd;

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
