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

#[cfg(test)]
mod tests {
    use super::super::pool::Reduce;
    use super::*;

    /// Numbers between −1 and 1 that are all different.
    struct Numbers(u32);

    impl Numbers {
        fn take(&mut self, count: usize) -> Vec<f32> {
            (0..count)
                .map(|_| {
                    // Numerical Recipes' linear congruential generator.
                    self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect()
        }
    }

    fn maps(channels: usize, height: usize, width: usize) -> Maps {
        Maps {
            channels,
            height,
            width,
        }
    }

    fn conv(input: Maps, output_channels: usize, kernel: usize) -> Conv {
        Conv {
            input,
            output_channels,
            kernel: [kernel; 2],
            stride: [1, 1],
            dilation: [1, 1],
            pad_before: [kernel / 2; 2],
            pad_after: [kernel / 2; 2],
            groups: 1,
        }
    }

    fn layer(op: Op, inputs: &[usize], output: Maps) -> Layer {
        Layer {
            name: String::new(),
            op,
            inputs: inputs.to_vec(),
            output,
        }
    }

    /// A layer behind a 1×1 convolution, so that its input's derivative is looked at, too.
    fn behind_a_convolution(input: Maps, op: Op, output: Maps, lengths: &[usize]) -> Case {
        let first = Op::Conv {
            conv: conv(input, input.channels, 1),
            weights: lengths.len(),
            bias: None,
        };
        let mut lengths = lengths.to_vec();
        lengths.push(input.channels * input.channels);
        Case {
            input,
            layers: vec![layer(first, &[0], input), layer(op, &[1], output)],
            lengths,
        }
    }

    struct Case {
        input: Maps,
        layers: Vec<Layer>,
        lengths: Vec<usize>,
    }

    fn conv_case(conv: Conv, bias: bool) -> Case {
        let (output, weights) = (conv.output(), conv.weights());
        let op = Op::Conv {
            conv: conv.clone(),
            weights: 0,
            bias: bias.then_some(1),
        };
        behind_a_convolution(conv.input, op, output, &[weights, conv.output_channels])
    }

    /// L = Σ r · y with fixed r, in f64; its derivative by y is r.
    fn check_against_finite_differences(name: &str, case: Case) {
        let images = 3;
        let mut numbers = Numbers(11);
        let trained = vec![true; case.lengths.len()];
        let net = ConvNet::new(case.input, case.layers, trained);
        let weights: Vec<Vec<f32>> = case.lengths.iter().map(|&n| numbers.take(n)).collect();
        let input = numbers.take(case.input.values() * images);
        let r = numbers.take(net.output().values() * images);
        let loss = |weights: &[Vec<f32>]| -> f64 {
            let output = net.forward(weights, images, input.clone());
            assert_eq!(output.len(), r.len(), "{name}");
            output
                .iter()
                .zip(&r)
                .map(|(y, r)| f64::from(*y) * f64::from(*r))
                .sum()
        };
        let trace = net.trace(&weights, images, input.clone());
        assert_eq!(
            trace.last().unwrap(),
            &net.forward(&weights, images, input.clone()),
            "{name}"
        );
        let mut gradients: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
        net.backward(&weights, images, &trace, r.clone(), &mut gradients);
        let step = 1.0 / 256.0;
        let mut largest = 0.0f32;
        for (weight, gradient) in gradients.iter().enumerate() {
            for place in 0..gradient.len() {
                let at = |delta: f32| {
                    let mut moved = weights.clone();
                    moved[weight][place] += delta;
                    loss(&moved)
                };
                let difference = ((at(step) - at(-step)) / f64::from(2.0 * step)) as f32;
                let scale = 1.0 + difference.abs();
                let error = (difference - gradient[place]).abs() / scale;
                assert!(
                    error < 3e-3,
                    "{name}, weight {weight}[{place}]: {difference} {}",
                    gradient[place]
                );
                largest = largest.max(gradient[place].abs());
            }
        }
        assert!(largest > 0.01, "{name}: all derivatives are 0");
    }

    #[test]
    fn convolutions_agree_with_finite_differences() {
        let input = maps(4, 5, 6);
        let plain = conv(input, 3, 3);
        let cases = [
            ("1x1", conv(input, 3, 1)),
            ("padded", plain.clone()),
            (
                "strided, unevenly padded",
                Conv {
                    stride: [2, 3],
                    pad_before: [0, 1],
                    pad_after: [1, 2],
                    ..plain.clone()
                },
            ),
            (
                "dilated",
                Conv {
                    dilation: [2, 1],
                    ..plain.clone()
                },
            ),
            (
                "oblong",
                Conv {
                    kernel: [1, 5],
                    pad_before: [0, 2],
                    pad_after: [0, 2],
                    ..plain.clone()
                },
            ),
            (
                "grouped",
                Conv {
                    output_channels: 6,
                    groups: 2,
                    ..plain.clone()
                },
            ),
            (
                "grouped 1x1",
                Conv {
                    output_channels: 6,
                    groups: 2,
                    ..conv(input, 6, 1)
                },
            ),
            (
                "depthwise",
                Conv {
                    output_channels: 4,
                    groups: 4,
                    ..plain.clone()
                },
            ),
            (
                "depthwise, strided, two a channel",
                Conv {
                    output_channels: 8,
                    groups: 4,
                    stride: [2, 2],
                    pad_before: [0, 1],
                    ..plain.clone()
                },
            ),
        ];
        for (name, conv) in cases {
            check_against_finite_differences(name, conv_case(conv, true));
        }
    }

    #[test]
    fn blocks_of_images_give_what_one_block_gives() {
        // 1 · 3 · 3 taps times 420² pixels are more than half a block: one image at a time.
        let geometry = conv(maps(1, 420, 420), 2, 3);
        let mut numbers = Numbers(5);
        let input = numbers.take(2 * 420 * 420);
        let weights = numbers.take(18);
        let both = geometry.forward(2, &input, &weights, None);
        for image in 0..2 {
            let pixels = 420 * 420;
            let alone = geometry.forward(
                1,
                &input[image * pixels..(image + 1) * pixels],
                &weights,
                None,
            );
            for channel in 0..2 {
                let at = (channel * 2 + image) * pixels;
                assert_eq!(
                    both[at..at + pixels],
                    alone[channel * pixels..(channel + 1) * pixels]
                );
            }
        }
    }

    #[test]
    fn other_layers_agree_with_finite_differences() {
        let input = maps(3, 4, 4);
        let pool = |window, stride, pad, reduce, output| {
            Op::Pool(Pool {
                input,
                output,
                window: [window; 2],
                stride: [stride; 2],
                pad_before: [pad; 2],
                reduce,
            })
        };
        let norm = BatchNorm::new(vec![0.1, -0.4, 0.2], &[0.5, 2.0, 1.0], 1e-3);
        let whole = |reduce| Op::Pool(Pool::global(input, reduce));
        let half = maps(3, 2, 2);
        let same = [
            (
                "batch norm",
                Op::BatchNorm {
                    norm,
                    scale: 0,
                    shift: 1,
                },
                vec![3, 3],
            ),
            ("bias", Op::ChannelBias(0), vec![3]),
        ];
        for (name, op, lengths) in same {
            let case = behind_a_convolution(input, op, input, &lengths);
            check_against_finite_differences(name, case);
        }
        let functions = [
            Pointwise::Relu,
            Pointwise::LeakyRelu { slope: 0.1 },
            Pointwise::Clip {
                low: -0.3,
                high: 0.6,
            },
            Pointwise::Sigmoid,
            Pointwise::Tanh,
            Pointwise::HardSigmoid {
                slope: 0.5,
                offset: 0.4,
            },
            Pointwise::HardSwish,
            Pointwise::Affine {
                factor: -2.0,
                offset: 0.5,
            },
        ];
        for function in functions {
            // Far fewer values than finite differences across a kink would spoil.
            let small = maps(2, 1, 2);
            let case = behind_a_convolution(small, Op::Pointwise(function), small, &[]);
            check_against_finite_differences(&format!("{function:?}"), case);
        }
        let pools = [
            ("max", pool(2, 2, 0, Reduce::Max, half), half),
            (
                "overlapping max, padded",
                pool(3, 2, 1, Reduce::Max, half),
                half,
            ),
            ("mean, padded", pool(3, 1, 1, Reduce::Mean, input), input),
            (
                "mean with padding",
                pool(3, 2, 1, Reduce::MeanWithPadding, half),
                half,
            ),
            ("global mean", whole(Reduce::Mean), Maps::vector(3)),
            ("global max", whole(Reduce::Max), Maps::vector(3)),
            (
                "flatten",
                Op::Flatten(FlatOrder::ChannelsFirst),
                Maps::vector(48),
            ),
            (
                "flatten, channels last",
                Op::Flatten(FlatOrder::ChannelsLast),
                Maps::vector(48),
            ),
        ];
        for (name, op, output) in pools {
            let case = behind_a_convolution(input, op, output, &[]);
            check_against_finite_differences(name, case);
        }
        for inputs_first in [true, false] {
            let op = Op::Dense {
                weights: 0,
                bias: Some(1),
                inputs_first,
            };
            let vector = Maps::vector(5);
            let case = behind_a_convolution(vector, op, Maps::vector(4), &[20, 4]);
            check_against_finite_differences("dense", case);
        }
    }

    #[test]
    fn branches_agree_with_finite_differences() {
        // A residual block with a squeeze-and-excitation branch, then a concatenation.
        let input = maps(3, 4, 4);
        let convolution = |weights| Op::Conv {
            conv: conv(input, 3, 3),
            weights,
            bias: None,
        };
        let squeezed = Maps::vector(3);
        let layers = vec![
            layer(convolution(0), &[0], input),
            layer(convolution(1), &[1], input),
            layer(Op::Pool(Pool::global(input, Reduce::Mean)), &[2], squeezed),
            layer(Op::Pointwise(Pointwise::Sigmoid), &[3], squeezed),
            layer(Op::Multiply, &[2, 4], input),
            layer(Op::Add, &[5, 1], input),
            layer(Op::Concat, &[6, 1, 6], maps(9, 4, 4)),
            layer(Op::Multiply, &[7, 7], maps(9, 4, 4)),
        ];
        let case = Case {
            input,
            layers,
            lengths: vec![81, 81],
        };
        check_against_finite_differences("branches", case);
    }

    #[test]
    fn frozen_weights_get_no_gradient_and_those_before_them_do() {
        let input = maps(2, 3, 3);
        let convolution = |weights| Op::Conv {
            conv: conv(input, 2, 3),
            weights,
            bias: None,
        };
        let layers = vec![
            layer(convolution(0), &[0], input),
            layer(convolution(1), &[1], input),
        ];
        let net = ConvNet::new(input, layers, vec![true, false]);
        let mut numbers = Numbers(3);
        let weights = vec![numbers.take(36), numbers.take(36)];
        let trace = net.trace(&weights, 1, numbers.take(18));
        let mut gradients = vec![vec![0.0; 36], Vec::new()];
        net.backward(&weights, 1, &trace, vec![1.0; 18], &mut gradients);
        assert!(gradients[0].iter().all(|&g| g != 0.0));
        assert!(gradients[1].is_empty());
    }
}
