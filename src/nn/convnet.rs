//! A network of layers over feature maps: forward, and backward to the weights that are trained.
//!
//! Values are numbered: 0 is the input, i + 1 what layer i makes; the last layer makes the output. A value is
//! the maps of a shard of pictures, `[channels, images, height, width]`, see [`super::maps`].

use ndarray::linalg::general_mat_mul;

use super::conv::{self, Conv, matrix, matrix_mut};
use super::maps::{FlatOrder, Maps, flat_places};
use super::norm::BatchNorm;
use super::pointwise::Pointwise;
use super::pool::Pool;

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
        ConvNet {
            shapes,
            layers,
            trained,
            depends,
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

    /// The output for `input` of `images` pictures; a value is let go once nothing reads it any more.
    ///
    /// # Panics
    /// If `input` or a weight has another length than its shape; so in the other functions here.
    pub fn forward(&self, weights: &[Vec<f32>], images: usize, input: Vec<f32>) -> Vec<f32> {
        let mut readers = vec![0usize; self.shapes.len()];
        for value in self.layers.iter().flat_map(|layer| &layer.inputs) {
            readers[*value] += 1;
        }
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(self.shapes.len());
        values.push(input);
        for layer in &self.layers {
            let output = self.run(layer, weights, images, &values);
            values.push(output);
            for &value in &layer.inputs {
                readers[value] -= 1;
                if readers[value] == 0 {
                    values[value] = Vec::new();
                }
            }
        }
        values.pop().unwrap_or_default()
    }

    /// All values for `input` of `images` pictures: what [`backward`](Self::backward) needs; the last is
    /// the output.
    pub fn trace(&self, weights: &[Vec<f32>], images: usize, input: Vec<f32>) -> Vec<Vec<f32>> {
        let mut values = Vec::with_capacity(self.shapes.len());
        values.push(input);
        for layer in &self.layers {
            let output = self.run(layer, weights, images, &values);
            values.push(output);
        }
        values
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
    /// output. `values` is the [`trace`](Self::trace) of the same pictures; gradients of weights that are
    /// not trained stay as they are and may be empty.
    pub fn backward(
        &self,
        weights: &[Vec<f32>],
        images: usize,
        values: &[Vec<f32>],
        output_gradient: Vec<f32>,
        gradients: &mut [Vec<f32>],
    ) {
        let mut slopes: Vec<Option<Vec<f32>>> = vec![None; self.shapes.len()];
        slopes[self.layers.len()] = Some(output_gradient);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let Some(slope) = slopes[index + 1].take() else {
                continue;
            };
            if !self.depends[index + 1] {
                continue;
            }
            self.weight_gradients(layer, weights, images, values, &slope, gradients);
            for (place, &value) in layer.inputs.iter().enumerate() {
                if !self.depends[value] {
                    continue;
                }
                let part = self.input_gradient(layer, place, weights, images, values, &slope);
                match &mut slopes[value] {
                    Some(all) => {
                        for (all, part) in all.iter_mut().zip(&part) {
                            *all += part;
                        }
                    }
                    empty => *empty = Some(part),
                }
            }
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
