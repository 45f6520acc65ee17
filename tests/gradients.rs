//! Derivatives of the layers: against finite differences, and one training step against TensorFlow.

use std::fs;

use ndarray::Array2;
use tl::nn::conv::Conv;
use tl::nn::convnet::{ConvNet, Layer, Op, Workspace};
use tl::nn::maps::{FlatOrder, Maps};
use tl::nn::norm::BatchNorm;
use tl::nn::parallel::Sequential;
use tl::nn::pointwise::Pointwise;
use tl::nn::pool::{Pool, Reduce};
use tl::nn::{CrossEntropy, Optimizer, Parameter, Rule};

use crate::program::repository;

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

/// The output for one shard.
fn forward(net: &ConvNet, weights: &[Vec<f32>], images: usize, input: Vec<f32>) -> Vec<f32> {
    let mut workspace = Workspace::default();
    let weights = net.prepare(weights, &mut workspace, &Sequential);
    let mut output = net.forward(
        &weights,
        &[images],
        vec![input],
        &mut workspace,
        &Sequential,
    );
    output.pop().unwrap()
}

/// All values of one shard.
fn trace(net: &ConvNet, weights: &[Vec<f32>], images: usize, input: Vec<f32>) -> Vec<Vec<f32>> {
    let mut workspace = Workspace::default();
    let weights = net.prepare(weights, &mut workspace, &Sequential);
    let mut traces = net.trace(
        &weights,
        &[images],
        vec![input],
        &mut workspace,
        &Sequential,
    );
    traces.pop().unwrap()
}

/// The derivatives of one shard.
fn backward(
    net: &ConvNet,
    weights: &[Vec<f32>],
    images: usize,
    values: &[Vec<f32>],
    slope: Vec<f32>,
    gradients: &mut [Vec<f32>],
) {
    let mut workspace = Workspace::default();
    let weights = net.prepare(weights, &mut workspace, &Sequential);
    net.backward(
        &weights,
        &[images],
        &[values.to_vec()],
        vec![slope],
        gradients,
        &mut workspace,
        &Sequential,
    );
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
        let output = forward(&net, weights, images, input.clone());
        assert_eq!(output.len(), r.len(), "{name}");
        output
            .iter()
            .zip(&r)
            .map(|(y, r)| f64::from(*y) * f64::from(*r))
            .sum()
    };
    let values = trace(&net, &weights, images, input.clone());
    assert_eq!(
        values.last().unwrap(),
        &forward(&net, &weights, images, input.clone()),
        "{name}"
    );
    let mut gradients: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
    backward(&net, &weights, images, &values, r.clone(), &mut gradients);
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
    let values = trace(&net, &weights, 1, numbers.take(18));
    let mut gradients = vec![vec![0.0; 36], Vec::new()];
    backward(&net, &weights, 1, &values, vec![1.0; 18], &mut gradients);
    assert!(gradients[0].iter().all(|&g| g != 0.0));
    assert!(gradients[1].is_empty());
}

/// The network of tests/python/tensorflow_step.py.
fn step_layers() -> Vec<Layer> {
    let (half, small) = (maps(6, 5, 5), maps(12, 2, 2));
    let first = Conv {
        stride: [2, 2],
        ..conv(maps(4, 9, 9), 6, 3)
    };
    let depthwise = Conv {
        groups: 6,
        ..conv(half, 6, 3)
    };
    let mut numbers = Numbers(STATISTICS_STATE);
    let mean: Vec<f32> = numbers.take(6).iter().map(|v| 0.1 * v).collect();
    let variance: Vec<f32> = numbers.take(6).iter().map(|v| 1.0 + 0.5 * v).collect();
    let convolution = |conv: Conv, weights, bias| Op::Conv {
        conv,
        weights,
        bias,
    };
    let pool = |input, output, window, stride, pad, reduce| {
        Op::Pool(Pool {
            input,
            output,
            window: [window; 2],
            stride: [stride; 2],
            pad_before: [pad; 2],
            reduce,
        })
    };
    let norm = Op::BatchNorm {
        norm: BatchNorm::new(mean, &variance, 1e-3),
        scale: 2,
        shift: 3,
    };
    let relu6 = Pointwise::Clip {
        low: 0.0,
        high: 6.0,
    };
    let both = maps(12, 5, 5);
    let dense = Op::Dense {
        weights: 6,
        bias: Some(7),
        inputs_first: true,
    };
    let last = maps(8, 2, 2);
    vec![
        layer(convolution(first, 0, Some(1)), &[0], half),
        layer(norm, &[1], half),
        layer(Op::Pointwise(relu6), &[2], half),
        layer(convolution(depthwise, 4, None), &[3], half),
        layer(Op::Pointwise(Pointwise::Sigmoid), &[4], half),
        layer(Op::Multiply, &[4, 5], half),
        layer(Op::Add, &[6, 3], half),
        layer(pool(half, half, 3, 1, 1, Reduce::Mean), &[7], half),
        layer(Op::Concat, &[7, 8], both),
        layer(pool(both, small, 2, 2, 0, Reduce::Max), &[9], small),
        layer(convolution(conv(small, 8, 1), 5, None), &[10], last),
        layer(Op::Pointwise(Pointwise::Relu), &[11], last),
        layer(
            Op::Pool(Pool::global(last, Reduce::Mean)),
            &[12],
            Maps::vector(8),
        ),
        layer(dense, &[13], Maps::vector(5)),
    ]
}

const STEP_LENGTHS: [usize; 8] = [216, 6, 6, 6, 54, 96, 40, 5];

/// State of the generator once input and weights are drawn.
const STATISTICS_STATE: u32 = 874_563_442;

#[test]
fn one_training_step_is_that_of_tensorflow() {
    let mut numbers = Numbers(11);
    let input = numbers.take(4 * 2 * 81);
    let mut weights: Vec<Vec<f32>> = STEP_LENGTHS.iter().map(|&n| numbers.take(n)).collect();
    assert_eq!(numbers.0, STATISTICS_STATE);
    let net = ConvNet::new(maps(4, 9, 9), step_layers(), vec![true; 8]);
    let values = trace(&net, &weights, 2, input);
    let output = values.last().unwrap();
    let logits = Array2::from_shape_fn((2, 5), |(image, class)| output[class * 2 + image]);
    let (loss, slope) = CrossEntropy::default().with_gradient(logits.view(), &[1, 4]);
    let mut gradients: Vec<Vec<f32>> = STEP_LENGTHS.iter().map(|&n| vec![0.0; n]).collect();
    let slope = slope.t().iter().copied().collect();
    backward(&net, &weights, 2, &values, slope, &mut gradients);
    let mut optimizer = Optimizer::new(Rule::Adam { weight_decay: 0.0 });
    let parameters = weights.iter_mut().zip(&gradients);
    let mut parameters: Vec<Parameter> = parameters
        .map(|(values, gradient)| Parameter {
            values,
            gradient,
            decays: false,
        })
        .collect();
    optimizer.step(0.01, &mut parameters, &Sequential);

    let path = repository("tests/fixtures/tensorflow_step.json");
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let close = |what: &str, found: &[f32], expected: &serde_json::Value| {
        let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(largest > 1e-3, "{what}");
        for (found, expected) in found.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error <= 1e-4 * expected.abs() + 1e-6 * largest,
                "{what}: {found} {expected}"
            );
        }
    };
    close("loss", &[loss], &serde_json::json!([expected["loss"]]));
    for (number, name) in [
        "conv",
        "bias",
        "scale",
        "shift",
        "depthwise",
        "1x1",
        "dense",
        "dense bias",
    ]
    .iter()
    .enumerate()
    {
        close(
            &format!("gradient of {name}"),
            &gradients[number],
            &expected["gradients"][number],
        );
        close(
            &format!("{name} after a step"),
            &weights[number],
            &expected["after_adam"][number],
        );
    }
}
