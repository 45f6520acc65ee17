//! Blocks of transformers against tract's own operators.

use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::gelu_approximate::gelu_approximate;
use tract_onnx::tract_core::ops::nn::gelu_exact::gelu_exact;
use tract_onnx::tract_core::ops::nn::{RmsNorm, Softmax};

use super::*;

impl Sketch {
    fn shape(&self, outlet: OutletId) -> Vec<usize> {
        let shape = &self.model.outlet_fact(outlet).unwrap().shape;
        shape.as_concrete().unwrap().to_vec()
    }

    fn einsum(&mut self, formula: &str, inputs: &[OutletId]) -> OutletId {
        let axes = formula.parse().unwrap();
        self.wire(EinSum::new(axes, f32::datum_type()), inputs)
    }

    /// A product over the last of three axes, with a bias.
    fn linear(&mut self, x: OutletId, outputs: usize) -> OutletId {
        let inputs = self.shape(x)[2];
        let weight = self.weight(&[inputs, outputs], (3.0 / inputs as f32).sqrt());
        let product = self.einsum("amk,kn->amn", &[x, weight]);
        let bias = self.weight(&[1, 1, outputs], 0.3);
        self.wire(math::add(), &[product, bias])
    }

    fn layer_norm(&mut self, x: OutletId) -> OutletId {
        let channels = self.shape(x)[2];
        let sum = Reduce {
            axes: tvec!(2),
            reducer: Reducer::Sum,
        };
        let sum = self.wire(sum, &[x]);
        let share = Tensor::from_shape(&[1, 1, 1], &[1.0 / channels as f32]).unwrap();
        let mean = self.constant(math::mul(), sum, share);
        let centred = self.wire(math::sub(), &[x, mean]);
        let norm = RmsNorm {
            axis: 2,
            eps: tensor0(1e-6f32).into(),
        };
        let y = self.wire(norm, &[centred]);
        let scale = self.weight(&[1, 1, channels], 1.0);
        let y = self.wire(math::mul(), &[y, scale]);
        let shift = self.weight(&[1, 1, channels], 0.5);
        self.wire(math::add(), &[y, shift])
    }

    fn constant(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        x: OutletId,
        tensor: Tensor,
    ) -> OutletId {
        self.count += 1;
        let name = format!("constant{}", self.count);
        let constant = self.model.add_const(name, tensor).unwrap();
        self.wire(op, &[x, constant])
    }

    fn reshape(&mut self, x: OutletId, at: usize, from: &[usize], to: &[usize]) -> OutletId {
        let dims = |n: &[usize]| n.iter().map(|n| n.to_dim()).collect();
        self.wire(AxisOp::Reshape(at, dims(from), dims(to)), &[x])
    }

    /// Self-attention of `heads`; queries, keys and values are parts of one product if `packed`.
    fn attention(
        &mut self,
        x: OutletId,
        heads: usize,
        depth: usize,
        packed: bool,
        bias: Option<Tensor>,
    ) -> OutletId {
        let channels = self.shape(x)[2];
        let width = heads * depth;
        let [q, k, v] = if packed {
            let all = self.linear(x, 3 * width);
            let all = self.reshape(all, 2, &[3 * width], &[3, heads, depth]);
            [0, 1, 2].map(|i| {
                let part = self.wire(Slice::new(2, i, i + 1), &[all]);
                self.wire(AxisOp::Rm(2), &[part])
            })
        } else {
            [0, 1, 2].map(|_| {
                let part = self.linear(x, width);
                self.reshape(part, 2, &[width], &[heads, depth])
            })
        };
        let scale = Tensor::from_shape(&[1, 1, 1, 1], &[1.0 / (depth as f32).sqrt()]).unwrap();
        let (q, mut scores_scale) = match packed {
            true => (self.constant(math::mul(), q, scale), None),
            false => (q, Some(scale)),
        };
        let mut scores = self.einsum("ambk,anbk->abmn", &[q, k]);
        if let Some(scale) = scores_scale.take() {
            scores = self.constant(math::mul(), scores, scale);
        }
        if let Some(bias) = bias {
            scores = self.constant(math::add(), scores, bias);
        }
        let softmax = Softmax {
            axes: tvec!(3),
            ..Softmax::default()
        };
        let shares = self.wire(softmax, &[scores]);
        let y = self.einsum("abmk,akbn->ambn", &[shares, v]);
        let weight = self.weight(&[heads, depth, channels], (3.0 / width as f32).sqrt());
        self.einsum("ambk,bkn->amn", &[y, weight])
    }
}

#[test]
fn transformers_of_odd_sizes_are_one_region() {
    for case in 0..cases(40) {
        let mut choice = Random(case + 77);
        let tokens = choice.of(&[1, 2, 3, 7, 16, 17, 49, 50, 63, 197, 300]);
        let heads = choice.of(&[1, 1, 2, 3, 6]);
        let depth = choice.of(&[1, 5, 16, 17, 32, 40, 64, 96]);
        let channels = choice.of(&[4, 9, 24, 31, 48]);
        let packed = choice.of(&[false, true]);
        let what = format!("case {case}: {tokens} tokens, {heads} x {depth}, {channels} channels");
        let (mut sketch, input) = Sketch::new(case + 1, &[1, tokens, channels]);
        let mut x = sketch.linear(input, channels);
        let embedding = sketch.weight(&[1, tokens, channels], 1.0);
        x = sketch.wire(math::add(), &[x, embedding]);
        let normal = sketch.layer_norm(x);
        let bias = (case % 3 == 1).then(|| {
            let mut bias = sketch.random.tensor(&[1, heads, tokens, tokens], 1.0);
            let mut plain = bias.try_as_plain_ram_mut().unwrap();
            for (i, value) in plain.as_slice_mut::<f32>().unwrap().iter_mut().enumerate() {
                // Some keys are hidden from some queries; none from itself.
                if i % 7 == 3 && i % tokens != i / tokens % tokens {
                    *value = f32::NEG_INFINITY;
                }
            }
            bias
        });
        let y = sketch.attention(normal, heads, depth, packed, bias);
        x = sketch.wire(math::add(), &[x, y]);
        let normal = sketch.layer_norm(x);
        let hidden = sketch.linear(normal, 2 * channels);
        let hidden = match case % 2 {
            0 => sketch.wire(gelu_exact(), &[hidden]),
            _ => sketch.wire(gelu_approximate(false), &[hidden]),
        };
        let y = sketch.linear(hidden, channels);
        let y = sketch.by_last(math::mul(), y);
        x = sketch.wire(math::add(), &[x, y]);
        let first = sketch.wire(Slice::new(1, 0, 1), &[x]);
        sketch.check_region(&[x, first], 1.0, &what, tokens > 1);
    }
}

/// A class token before the patches of a convolution, which is dropped at the end.
#[test]
fn tokens_are_put_before_patches_and_dropped() {
    for (case, channels) in [8, 17, 24].into_iter().enumerate() {
        let (mut sketch, input) = Sketch::new(case as u32 + 5, &[1, 3, 20, 24]);
        let patches = sketch.conv(input, channels, false, window(4, 4, 1, PaddingSpec::Valid));
        let patches = sketch.reshape(patches, 2, &[5, 6], &[30]);
        let patches = sketch.wire(AxisOp::Move(1, 2), &[patches]);
        let token = sketch.weight(&[1, 2, channels], 1.0);
        let x = sketch.wire(TypedConcat { axis: 1 }, &[token, patches]);
        let x = sketch.layer_norm(x);
        let y = sketch.attention(x, 2, 12, true, None);
        let x = sketch.wire(math::add(), &[x, y]);
        let patches = sketch.wire(Slice::new(1, 2, 32), &[x]);
        let map = sketch.reshape(patches, 1, &[30], &[5, 6]);
        let map = sketch.wire(AxisOp::Move(3, 1), &[map]);
        let map = sketch.conv(map, 9, false, window(3, 1, 1, PaddingSpec::SameUpper));
        sketch.check_region(&[map, x], 1.0, &format!("{channels}"), true);
    }
}

#[test]
fn layer_norm_stands_large_values_and_equal_rows() {
    for scale in [0.0, 1e-3, 1e4] {
        let (mut sketch, input) = Sketch::new(4, &[1, 13, 37]);
        let x = sketch.linear(input, 37);
        let y = sketch.layer_norm(x);
        let z = sketch.linear(y, 20);
        sketch.check(&[z], scale, &format!("{scale}"));
    }
}

impl Sketch {
    fn by_last(&mut self, op: impl Into<Box<dyn TypedOp>>, x: OutletId) -> OutletId {
        let channels = self.shape(x)[2];
        let weight = self.weight(&[1, 1, channels], 1.0);
        self.wire(op, &[x, weight])
    }

    /// As [`check`](Self::check); with `whole`, all of it has to be in one region.
    fn check_region(self, outputs: &[OutletId], scale: f32, what: &str, whole: bool) {
        if whole {
            let mut model = self.model.clone();
            model.select_output_outlets(outputs).unwrap();
            let model = model.into_decluttered().unwrap();
            let ours = replace(model, InstructionSet::best(), u64::MAX).unwrap();
            // tract cuts the input apart where a layer is read in parts.
            let is_part = |n: &TypedNode| n.op_is::<Slice>() && n.inputs[0].node == 0;
            let left: Vec<&TypedNode> = ours
                .nodes()
                .iter()
                .filter(|n| !n.op_is::<Region>() && !n.inputs.is_empty() && !is_part(n))
                .collect();
            assert!(left.is_empty(), "{what}: tract runs {left:?}");
        }
        self.check(outputs, scale, what);
    }
}

/// tract cannot move a stride before a reshape that makes the axis.
#[test]
fn strides_stay_where_they_are() {
    let (mut sketch, input) = Sketch::new(3, &[1, 12, 20]);
    let x = sketch.linear(input, 10);
    let map = sketch.reshape(x, 1, &[12], &[3, 4]);
    let op = |axis, modulo| Downsample {
        axis,
        stride: 2,
        modulo,
    };
    let rows = sketch.wire(op(1, 0), &[map]);
    let columns = sketch.wire(op(2, 1), &[rows]);
    let tokens = sketch.reshape(columns, 1, &[2, 2], &[4]);
    let y = sketch.linear(tokens, 7);
    let mut model = sketch.model.clone();
    model.select_output_outlets(&[y]).unwrap();
    assert!(model.clone().into_decluttered().is_err());
    let input = sketch.random.tensor(&[1, 12, 20], 1.0);
    let expected = values(model.clone().into_runnable().unwrap(), &input);
    for isa in InstructionSet::available() {
        let ours = replace(crate::declutter(model.clone()).unwrap(), isa, u64::MAX).unwrap();
        assert!(ours.nodes().iter().any(|node| node.op_is::<Region>()));
        compare(&run(ours, &input), &expected, 1.0, "strided");
    }
}

/// Queries and keys rotated by their position: pairs of neighbouring channels, or of the two halves.
#[test]
fn rotary_positions_are_in_the_region() {
    for (case, interleaved) in [(1, true), (2, false)] {
        let (mut sketch, input) = Sketch::new(case, &[1, 17, 24]);
        let x = sketch.linear(input, 36);
        let x = sketch.reshape(x, 2, &[36], &[3, 12]);
        let head = sketch.wire(Slice::new(1, 0, 1), &[x]);
        let rest = sketch.wire(Slice::new(1, 1, 17), &[x]);
        let turned = if interleaved {
            let of = |modulo| Downsample {
                axis: 3,
                stride: 2,
                modulo,
            };
            let even = sketch.wire(of(0), &[rest]);
            let odd = sketch.wire(of(1), &[rest]);
            let odd = sketch.wire(math::neg(), &[odd]);
            let parts = [odd, even].map(|part| sketch.wire(AxisOp::Add(4), &[part]));
            let both = sketch.wire(TypedConcat { axis: 4 }, &parts);
            sketch.reshape(both, 3, &[6, 2], &[12])
        } else {
            let first = sketch.wire(Slice::new(3, 0, 6), &[rest]);
            let second = sketch.wire(Slice::new(3, 6, 12), &[rest]);
            let second = sketch.wire(math::neg(), &[second]);
            sketch.wire(TypedConcat { axis: 3 }, &[second, first])
        };
        let sine = sketch.weight(&[1, 16, 1, 12], 1.0);
        let turned = sketch.wire(math::mul(), &[turned, sine]);
        let cosine = sketch.weight(&[1, 16, 1, 12], 1.0);
        let straight = sketch.wire(math::mul(), &[rest, cosine]);
        let rest = sketch.wire(math::add(), &[straight, turned]);
        let y = sketch.wire(TypedConcat { axis: 1 }, &[head, rest]);
        let weight = sketch.weight(&[3, 12, 9], 0.3);
        let y = sketch.einsum("ambk,bkn->amn", &[y, weight]);
        sketch.check_region(&[y], 1.0, &format!("{interleaved}"), true);
    }
}

/// Global response normalisation, and that of a whole map.
#[test]
fn norms_over_a_whole_map_are_in_the_region() {
    for channels in [8, 21] {
        let (mut sketch, input) = Sketch::new(6, &[1, 3, 8, 10]);
        let x = sketch.conv(
            input,
            channels,
            false,
            window(3, 1, 1, PaddingSpec::SameUpper),
        );
        let square = sketch.wire(math::square(), &[x]);
        let reduce = |axes| Reduce {
            axes,
            reducer: Reducer::Sum,
        };
        let sums = sketch.wire(reduce(tvec!(2, 3)), &[square]);
        let norms = sketch.wire(math::sqrt(), &[sums]);
        let total = sketch.wire(reduce(tvec!(1)), &[norms]);
        let share = Tensor::from_shape(&[1, 1, 1, 1], &[1.0 / channels as f32]).unwrap();
        let mean = sketch.constant(math::mul(), total, share);
        let recip = sketch.wire(math::recip(), &[mean]);
        let shares = sketch.wire(math::mul(), &[norms, recip]);
        let y = sketch.wire(math::mul(), &[x, shares]);
        let x = sketch.wire(math::sub(), &[x, y]);
        let flat = sketch.reshape(x, 1, &[channels, 8, 10], &[channels * 80]);
        let norm = RmsNorm {
            axis: 1,
            eps: tensor0(1e-5f32).into(),
        };
        let flat = sketch.wire(norm, &[flat]);
        let x = sketch.reshape(flat, 1, &[channels * 80], &[channels, 8, 10]);
        let divisor = sketch.bound(math::add(), square, 2.0);
        let quotient = sketch.wire(math::div(), &[y, divisor]);
        let z = sketch.conv(quotient, 5, false, window(1, 1, 1, PaddingSpec::Valid));
        sketch.check_region(&[z, x], 1.0, &format!("{channels}"), true);
    }
}
