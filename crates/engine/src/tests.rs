//! Every operator against tract's own, for every instruction set of this processor.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::cnn::{
    Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool,
};
use tract_onnx::tract_core::ops::nn::{self, DataFormat, Reduce, Reducer};
use tract_onnx::tract_core::ops::{change_axes::AxisOp, math};

use super::simd::InstructionSet;
use super::{Engine, Region, replace};

mod tokens;

/// Largest difference, relative to the largest value of the reference.
const TOLERANCE: f32 = 1e-4;

/// Marsaglia's 32-bit xorshift, for values and for the choice of cases; its seed is not 0.
pub(super) struct Random(pub u32);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A number less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|_| (self.next() as f32 / u32::MAX as f32 - 0.5) * 2.0 * scale)
            .collect();
        Tensor::from_shape(shape, &values).unwrap()
    }
}

/// Random cases of a table: `usual`, or `TL_CAMPAIGN` if that is more.
pub(super) fn cases(usual: u32) -> u32 {
    let asked = std::env::var("TL_CAMPAIGN").ok();
    let asked = asked.and_then(|n| n.parse().ok()).unwrap_or(0);
    usual.max(asked)
}

fn window(kernel: usize, stride: usize, dilation: usize, padding: PaddingSpec) -> PoolSpec {
    PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: tvec!(kernel, kernel),
        padding,
        dilations: Some(tvec!(dilation, dilation)),
        strides: Some(tvec!(stride, stride)),
        input_channels: 0,
        output_channels: 0,
    }
}

fn paddings(kernel: usize) -> Vec<PaddingSpec> {
    let most = kernel - 1;
    vec![
        PaddingSpec::Valid,
        PaddingSpec::SameUpper,
        PaddingSpec::SameLower,
        PaddingSpec::Explicit(tvec!(0, most), tvec!(most, 0)),
        PaddingSpec::Explicit(tvec!(most, most / 2), tvec!(most / 2, most)),
    ]
}

/// A model under construction, and the random numbers for its weights.
struct Sketch {
    model: TypedModel,
    random: Random,
    count: usize,
    /// Largest bias of a convolution.
    bias: f32,
}

impl Sketch {
    fn new(seed: u32, shape: &[usize]) -> (Sketch, OutletId) {
        let mut model = TypedModel::default();
        let source = model.add_source("input", f32::fact(shape)).unwrap();
        let random = Random(seed);
        let sketch = Sketch {
            model,
            random,
            count: 0,
            bias: 0.3,
        };
        (sketch, source)
    }

    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        self.count += 1;
        let name = format!("node{}", self.count);
        self.model.wire_node(name, op, inputs).unwrap()[0]
    }

    fn weight(&mut self, shape: &[usize], scale: f32) -> OutletId {
        self.count += 1;
        let tensor = self.random.tensor(shape, scale);
        let name = format!("weight{}", self.count);
        self.model.add_const(name, tensor).unwrap()
    }

    fn channels(&self, outlet: OutletId) -> usize {
        let shape = &self.model.outlet_fact(outlet).unwrap().shape;
        shape.as_concrete().unwrap()[1]
    }

    fn conv(&mut self, x: OutletId, outputs: usize, depthwise: bool, spec: PoolSpec) -> OutletId {
        let groups = if depthwise { self.channels(x) } else { 1 };
        self.grouped(x, outputs, groups, spec)
    }

    fn grouped(
        &mut self,
        x: OutletId,
        outputs: usize,
        groups: usize,
        mut spec: PoolSpec,
    ) -> OutletId {
        let inputs = self.channels(x);
        spec.input_channels = inputs;
        spec.output_channels = outputs;
        let depth = inputs / groups;
        let kernel = [outputs, depth, spec.kernel_shape[0], spec.kernel_shape[1]];
        let scale = (1.0 / (depth * kernel[2] * kernel[3]) as f32).sqrt();
        let weight = self.weight(&kernel, 2.0 * scale);
        let bias = self.weight(&[outputs], self.bias);
        let op = Conv {
            pool_spec: spec,
            kernel_fmt: KernelFormat::OIHW,
            group: groups,
            q_params: None,
        };
        self.wire(op, &[x, weight, bias])
    }

    fn by_channel(&mut self, op: impl Into<Box<dyn TypedOp>>, x: OutletId) -> OutletId {
        let channels = self.channels(x);
        let weight = self.weight(&[1, channels, 1, 1], 1.0);
        self.wire(op, &[x, weight])
    }

    fn bound(&mut self, op: impl Into<Box<dyn TypedOp>>, x: OutletId, bound: f32) -> OutletId {
        let tensor = Tensor::from_shape(&[1, 1, 1, 1], &[bound]).unwrap();
        self.count += 1;
        let name = format!("bound{}", self.count);
        let constant = self.model.add_const(name, tensor).unwrap();
        self.wire(op, &[x, constant])
    }

    /// Compares what tract gives with what every instruction set gives; whether the engine took anything over.
    fn agrees(mut self, outputs: &[OutletId], scale: f32, what: &str) -> bool {
        self.model.select_output_outlets(outputs).unwrap();
        let model = self.model.into_decluttered().unwrap();
        let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap();
        let input = self.random.tensor(shape, scale);
        let expected = run(model.clone(), &input);
        for isa in InstructionSet::available() {
            let ours = replace(model.clone(), isa, u64::MAX).unwrap();
            if !ours.nodes().iter().any(|n| n.op_is::<Region>()) {
                return false;
            }
            let what = format!("{what} with {}", isa.name());
            let plan = ours.into_optimized().unwrap().into_runnable().unwrap();
            let mut state = plan.spawn().unwrap();
            let found = outputs_of(&mut state, &input);
            compare(&found, &expected, scale, &what);
            crate::set_threads(&mut state, 2).unwrap();
            let bits = |all: &[Vec<f32>]| -> Vec<u32> {
                all.iter().flatten().map(|x| x.to_bits()).collect()
            };
            let together = outputs_of(&mut state, &input);
            assert!(bits(&together) == bits(&found), "{what}, by two threads");
        }
        true
    }

    /// As [`agrees`](Self::agrees), where the engine has to take something over.
    fn check(self, outputs: &[OutletId], scale: f32, what: &str) {
        let taken = self.agrees(outputs, scale, what);
        assert!(taken, "nothing was replaced: {what}");
    }
}

fn run(model: TypedModel, input: &Tensor) -> Vec<Vec<f32>> {
    values(
        model.into_optimized().unwrap().into_runnable().unwrap(),
        input,
    )
}

fn values(plan: Arc<TypedRunnableModel>, input: &Tensor) -> Vec<Vec<f32>> {
    outputs_of(&mut plan.spawn().unwrap(), input)
}

fn outputs_of(state: &mut TypedSimpleState, input: &Tensor) -> Vec<Vec<f32>> {
    let outputs = state.run(tvec!(input.clone().into_tvalue())).unwrap();
    let values = outputs.iter().map(|o| {
        let plain = o.try_as_plain_ram().unwrap();
        plain.as_slice::<f32>().unwrap().to_vec()
    });
    values.collect()
}

/// Holds outputs, for an input of so large values, against what was expected.
fn compare(found: &[Vec<f32>], expected: &[Vec<f32>], scale: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let least = 1e-3 * scale.min(1.0);
        let largest = expected.iter().fold(least, |m, x| m.max(x.abs()));
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let difference = (a - b).abs() / largest;
            assert!(difference <= TOLERANCE, "{what}: {a} for {b} at {i}");
        }
    }
}

#[test]
fn grouped_convolutions_agree_with_tract() {
    let mut choice = Random(11);
    for case in 0..cases(60) {
        let groups = choice.of(&[2, 3, 5, 6, 8, 13, 32]);
        let inputs = groups * choice.of(&[1, 1, 2, 3, 4, 8]);
        let outputs = groups * choice.of(&[1, 2, 3, 4, 8, 16]);
        let (kernel, stride) = (choice.of(&[1, 2, 3, 3, 5, 7]), choice.of(&[1, 1, 2]));
        let (height, width) = (choice.of(&[7, 8, 13]), choice.of(&[7, 9, 20]));
        let what = format!(
            "case {case}: {inputs} x {height} x {width} in {groups} groups to {outputs}, kernel {kernel}, stride {stride}"
        );
        let (mut sketch, input) = Sketch::new(case + 1, &[1, inputs, height, width]);
        let first = sketch.conv(input, inputs, false, window(1, 1, 1, PaddingSpec::Valid));
        let spec = window(
            kernel,
            stride,
            1,
            paddings(kernel)[case as usize % 3].clone(),
        );
        let from = if case % 4 == 0 { input } else { first };
        let y = sketch.grouped(from, outputs, groups, spec);
        let y = sketch.by_channel(math::mul(), y);
        let other = sketch.conv(y, outputs, false, window(1, 1, 1, PaddingSpec::Valid));
        let y = sketch.wire(math::sub(), &[y, other]);
        let taken = sketch.agrees(&[y, first], 1.0, &what);
        assert!(taken, "{what}: not taken over");
    }
}

#[test]
fn convolutions_of_odd_shapes_agree_with_tract() {
    let mut choice = Random(7);
    for case in 0..cases(220) {
        let kernel = choice.of(&[1, 1, 2, 3, 3, 3, 5, 7]);
        let stride = choice.of(&[1, 1, 2, 2, 3]);
        let dilation = choice.of(&[1, 1, 1, 2]);
        let padding = choice.of(&[0, 1, 2, 3, 4]);
        let depthwise = choice.of(&[false, true]);
        let inputs = choice.of(&[1, 2, 3, 5, 8, 13, 16, 17, 24, 31, 33, 48, 67]);
        let outputs = choice.of(&[1, 3, 4, 7, 16, 19, 32, 40, 49, 64, 67]);
        let (height, width) = (
            choice.next() as usize % 17 + 1,
            choice.next() as usize % 17 + 1,
        );
        let padding = paddings(kernel)[padding].clone();
        let reach = (kernel - 1) * dilation + 1;
        let too_small = height.min(width) < reach;
        if too_small && matches!(padding, PaddingSpec::Valid | PaddingSpec::Explicit(..)) {
            continue;
        }
        let what = format!(
            "case {case}: {inputs} x {height} x {width} to {outputs}, kernel {kernel}, stride {stride}, dilation {dilation}, {padding:?}, depthwise {depthwise}"
        );
        let (mut sketch, input) = Sketch::new(case + 1, &[1, inputs, height, width]);
        // Behind a first convolution, maps have the engine's own layout.
        let first = sketch.conv(input, inputs, false, window(1, 1, 1, PaddingSpec::Valid));
        let outputs = if depthwise { inputs } else { outputs };
        let spec = window(kernel, stride, dilation, padding);
        let from = if case % 4 == 0 { input } else { first };
        let mut y = sketch.conv(from, outputs, depthwise, spec);
        match case % 5 {
            0 => {}
            1 => {
                y = sketch.by_channel(math::mul(), y);
                y = sketch.by_channel(math::add(), y);
                y = sketch.bound(math::max(), y, 0.0);
                y = sketch.bound(math::min(), y, 0.4);
            }
            2 => {
                y = sketch.by_channel(math::sub(), y);
                y = sketch.wire(nn::silu::silu(), &[y]);
            }
            3 => {
                let other = sketch.conv(y, outputs, false, window(1, 1, 1, PaddingSpec::Valid));
                y = sketch.wire(math::add(), &[y, other]);
                y = sketch.bound(math::max(), y, 0.0);
            }
            _ => {
                let other = sketch.conv(y, outputs, false, window(3, 1, 1, PaddingSpec::SameUpper));
                y = sketch.wire(math::add(), &[other, y]);
            }
        }
        let ends = if case % 4 == 0 {
            vec![y, first]
        } else {
            vec![y]
        };
        // To tract, a convolution of one value is a product with a constant.
        let taken = sketch.agrees(&ends, 1.0, &what);
        assert!(
            taken || inputs == 1 && kernel == 1,
            "nothing was replaced: {what}"
        );
    }
}

#[test]
fn pools_curves_and_joins_agree_with_tract() {
    for case in 0..cases(60) {
        let mut choice = Random(case + 1000);
        let channels = choice.of(&[1, 3, 8, 17, 32, 50]);
        let (height, width) = (
            choice.next() as usize % 14 + 3,
            choice.next() as usize % 14 + 3,
        );
        let (mut sketch, input) = Sketch::new(case + 1, &[1, channels, height, width]);
        let x = sketch.conv(input, channels, false, window(1, 1, 1, PaddingSpec::Valid));
        let kernel = choice.of(&[2, 3]);
        let padding = paddings(kernel)[choice.of(&[0, 1, 2, 3])].clone();
        let mut spec = window(kernel, choice.of(&[1, 2]), 1, padding);
        spec.input_channels = channels;
        spec.output_channels = channels;
        let what = format!("case {case}: {channels} x {height} x {width}, {spec:?}");
        let y = match case % 10 {
            0 | 1 => sketch.wire(
                MaxPool {
                    pool_spec: spec,
                    with_index_outputs: None,
                },
                &[x],
            ),
            2..=4 => sketch.wire(
                SumPool {
                    pool_spec: spec,
                    count_include_pad: case % 10 == 2,
                    normalize: case % 10 < 4,
                },
                &[x],
            ),
            5 => sketch.wire(nn::sigmoid(), &[x]),
            6 => sketch.wire(nn::hard_swish(), &[x]),
            7 => sketch.wire(nn::leaky_relu(0.1), &[x]),
            8 => {
                let other = sketch.conv(input, 9, false, window(1, 1, 1, PaddingSpec::Valid));
                let joined = sketch.wire(TypedConcat { axis: 1 }, &[x, other, x]);
                sketch.bound(math::max(), joined, 0.1)
            }
            _ => {
                // Squeeze and excitation.
                let sum = Reduce {
                    axes: tvec!(2, 3),
                    reducer: Reducer::Sum,
                };
                let mean = sketch.wire(sum, &[x]);
                let mean = sketch.bound(math::mul(), mean, 1.0 / (height * width) as f32);
                let gate = sketch.conv(mean, channels, false, window(1, 1, 1, PaddingSpec::Valid));
                let gate = sketch.wire(nn::sigmoid(), &[gate]);
                sketch.wire(math::mul(), &[x, gate])
            }
        };
        sketch.check(&[y], 3.0, &what);
    }
}

/// The branches of an Inception module read maps side by side by products of one pixel, and by a pool.
#[test]
fn products_of_maps_side_by_side_are_one() {
    let one = || window(1, 1, 1, PaddingSpec::Valid);
    for (case, channels) in [[16, 9, 33], [8, 64, 5], [3, 3, 3]].into_iter().enumerate() {
        let (mut sketch, input) = Sketch::new(case as u32 + 1, &[1, 12, 7, 10]);
        let maps = channels.map(|channels| {
            let map = sketch.conv(
                input,
                channels,
                false,
                window(3, 1, 1, PaddingSpec::SameUpper),
            );
            sketch.bound(math::max(), map, 0.0)
        });
        let joined = sketch.wire(TypedConcat { axis: 1 }, &maps);
        let mut outputs: Vec<OutletId> = [20, 16]
            .map(|channels| sketch.conv(joined, channels, false, one()))
            .map(|branch| sketch.bound(math::max(), branch, 0.0))
            .into();
        let mut pool_spec = window(3, 1, 1, PaddingSpec::SameUpper);
        pool_spec.input_channels = sketch.channels(joined);
        pool_spec.output_channels = pool_spec.input_channels;
        let pool = MaxPool {
            pool_spec,
            with_index_outputs: None,
        };
        outputs.push(sketch.wire(pool, &[joined]));
        let mut model = sketch.model.clone();
        model.select_output_outlets(&outputs).unwrap();
        let model = model.into_decluttered().unwrap();
        let slices = |model: &TypedModel| model.nodes().iter().any(|n| n.op_is::<Slice>());
        assert!(slices(&model), "tract leaves the products whole");
        let ours = replace(model, InstructionSet::best(), u64::MAX).unwrap();
        let regions = ours.nodes().iter().filter(|n| n.op_is::<Region>()).count();
        assert!(regions == 1 && !slices(&ours), "{regions} regions");
        sketch.check(&outputs, 1.0, &format!("{channels:?}"));
    }
}

/// Strided 1 x 1 convolutions beside others, as in a residual network, and regions that follow each other.
#[test]
fn residual_blocks_with_strides_agree_with_tract() {
    for (case, size) in [7, 8, 15].into_iter().enumerate() {
        let (mut sketch, input) = Sketch::new(case as u32 + 9, &[1, 20, size, size + 1]);
        let x = sketch.conv(input, 24, false, window(3, 1, 1, PaddingSpec::SameUpper));
        let short = sketch.conv(x, 40, false, window(1, 2, 1, PaddingSpec::Valid));
        let y = sketch.conv(x, 24, false, window(1, 1, 1, PaddingSpec::Valid));
        let y = sketch.conv(
            y,
            40,
            false,
            window(3, 2, 1, PaddingSpec::Explicit(tvec!(1, 1), tvec!(1, 1))),
        );
        let y = sketch.wire(math::add(), &[y, short]);
        let unknown = sketch.wire(math::tanh(), &[y]);
        let z = sketch.conv(y, 16, false, window(1, 2, 1, PaddingSpec::Valid));
        let w = sketch.conv(unknown, 16, false, window(1, 2, 1, PaddingSpec::Valid));
        let z = sketch.wire(math::add(), &[z, w]);
        sketch.check(&[z], 1.0, &format!("{size}"));
    }
}

/// Maps large enough to be made strip by strip, with windows of all kinds in the chain.
#[test]
fn chains_of_large_maps_agree_with_tract() {
    for (case, size) in [97, 128, 131].into_iter().enumerate() {
        let (mut sketch, input) = Sketch::new(case as u32 + 1, &[1, 3, size, size + 3]);
        let x = sketch.conv(input, 24, false, window(3, 1, 1, PaddingSpec::SameUpper));
        let x = sketch.bound(math::max(), x, 0.0);
        let y = sketch.conv(x, 30, false, window(3, 1, 1, PaddingSpec::SameLower));
        let y = sketch.conv(y, 30, true, window(5, 1, 1, PaddingSpec::SameUpper));
        let y = sketch.conv(y, 24, false, window(1, 1, 1, PaddingSpec::Valid));
        let y = sketch.wire(math::add(), &[y, x]);
        let y = sketch.conv(y, 40, false, window(1, 1, 1, PaddingSpec::Valid));
        let y = sketch.conv(y, 40, true, window(3, 2, 1, PaddingSpec::SameUpper));
        let y = sketch.conv(y, 48, false, window(3, 1, 1, PaddingSpec::SameUpper));
        let mut spec = window(2, 2, 1, PaddingSpec::Valid);
        spec.input_channels = 48;
        spec.output_channels = 48;
        let pool = MaxPool {
            pool_spec: spec,
            with_index_outputs: None,
        };
        let y = sketch.wire(pool, &[y]);
        sketch.check(&[y], 1.0, &format!("{size}"));
    }
}

#[test]
fn winograd_stands_large_and_small_values() {
    for scale in [1e-30, 1e-3, 1e4, 1e30] {
        let (mut sketch, input) = Sketch::new(3, &[1, 32, 21, 19]);
        // Others would drown the small values, or be drowned.
        sketch.bias = 0.3 * scale;
        let x = sketch.conv(input, 32, false, window(3, 1, 1, PaddingSpec::SameUpper));
        let y = sketch.conv(x, 32, false, window(3, 1, 1, PaddingSpec::SameUpper));
        sketch.check(&[y], scale, &format!("{scale}"));
    }
}

#[test]
fn operators_that_the_engine_does_not_know_stay_with_tract() {
    let (mut sketch, input) = Sketch::new(5, &[1, 8, 9, 9]);
    let x = sketch.conv(input, 16, false, window(3, 1, 1, PaddingSpec::SameUpper));
    let unknown = sketch.wire(math::tanh(), &[x]);
    let y = sketch.conv(unknown, 16, false, window(3, 2, 1, PaddingSpec::SameUpper));
    let y = sketch.wire(math::add(), &[y, y]);
    let flat = AxisOp::Reshape(
        1,
        tvec!(16.to_dim(), 5.to_dim(), 5.to_dim()),
        tvec!(400.to_dim()),
    );
    let flat = sketch.wire(flat, &[y]);
    sketch.check(&[flat, x], 1.0, "tanh between convolutions");
}

#[test]
fn a_nan_is_not_hidden_by_an_activation() {
    for isa in InstructionSet::available() {
        let (mut sketch, input) = Sketch::new(5, &[1, 8, 12, 12]);
        let x = sketch.conv(input, 16, false, window(3, 1, 1, PaddingSpec::SameUpper));
        let x = sketch.bound(math::max(), x, 0.0);
        let y = sketch.conv(x, 16, true, window(3, 1, 1, PaddingSpec::SameUpper));
        let y = sketch.bound(math::min(), y, 6.0);
        sketch.model.select_output_outlets(&[y]).unwrap();
        let model = sketch.model.into_decluttered().unwrap();
        let values = run(
            replace(model, isa, u64::MAX).unwrap(),
            &Tensor::from_shape(&[1, 8, 12, 12], &[f32::NAN; 8 * 144]).unwrap(),
        );
        assert!(values[0].iter().all(|x| x.is_nan()), "{}", isa.name());
    }
}

#[test]
fn an_engine_is_known_by_its_name() {
    assert_eq!(Engine::parse("tract"), Ok(Engine::Tract));
    for set in InstructionSet::available() {
        assert_eq!(Engine::parse(set.name()), Ok(Engine::Kernels(set)));
    }
    let problem = Engine::parse("mmx").unwrap_err();
    assert!(problem.contains("TL_ENGINE is `mmx`"), "{problem}");
}
