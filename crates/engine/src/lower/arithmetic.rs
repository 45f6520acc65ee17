//! Arithmetic by pixel: with constants, of two maps, and curves.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{
    Add, Div, Max, Min, Mul, Neg, Recip, Rsqrt, Sqrt, Square, Sub,
};
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;
use tract_onnx::tract_core::ops::nn::gelu_exact::GeluExact;
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid};

use super::Lowering;
use super::patterns::Norm;
use super::view::{Axis, View, places};
use crate::activation::Curve;
use crate::geometry::Window;
use crate::graph::{NodeId, Operation};
use crate::pixelwise::Pair;
use crate::pool::Pooling;
use crate::step::Clamp;

impl Lowering<'_> {
    pub(super) fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Option<View> {
        let [a, b] = node.inputs[..] else {
            return None;
        };
        match (self.constant(a), self.constant(b)) {
            (None, Some(right)) => self.with_constant(node, op, a, right, false),
            (Some(left), None) => self.with_constant(node, op, b, left, true),
            (None, None) => self.pair(node, op, a, b),
            _ => None,
        }
    }

    /// An operation with a constant.
    fn with_constant(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        outlet: OutletId,
        (shape, values): (Vec<usize>, &[f32]),
        constant_first: bool,
    ) -> Option<View> {
        let known = self.known(outlet)?;
        if shape.len() != known.axes.len() || self.shape(outlet)? != self.shape(node.id.into())? {
            return None;
        }
        let is_scale = op.0.is::<Mul>() || op.0.is::<Div>() && !constant_first;
        if let (&[value], true) = (values, is_scale)
            && !known.is_whole(self.graph.shape(known.node))
        {
            // What reads a part of a map may have a place for a factor.
            let factor = known.factor * if op.0.is::<Mul>() { value } else { 1.0 / value };
            return Some(View { factor, ..known });
        }
        let from = self.whole(&node.name, outlet)?;
        let map = self.graph.shape(from.node);
        let by_channel = |(axis, &n): (&Axis, &usize)| n == 1 || axis.is_in_pixel();
        if !from.axes.iter().zip(&shape).all(by_channel) {
            return self.with_constant_map(node, op, &from, &shape, values);
        }
        let mut c = vec![0.0; map[2]];
        match values {
            &[value] => c.fill(value),
            _ => {
                // The first pixel stands for all.
                let in_pixel = |axis: &Axis| axis.is_in_pixel();
                let axes = from.axes.iter().zip(&shape);
                let axes = axes.map(|(axis, &n)| match n {
                    1 if !in_pixel(axis) && axis.is_across_pixels() => Axis::ONE,
                    _ => axis.clone(),
                });
                let axes: Vec<Axis> = axes.collect();
                for ([pixel, channel], value) in spread(&axes, &shape, values) {
                    if pixel == 0 {
                        *c.get_mut(channel)? = value;
                    }
                }
            }
        }
        let uniform = c.iter().all(|x| x == &c[0]).then_some(c[0]);
        let affine = |scale: Vec<f32>, shift: Vec<f32>| Operation::Affine { scale, shift };
        let (ones, zeros) = (vec![1.0; map[2]], vec![0.0; map[2]]);
        let negative = |values: Vec<f32>| values.into_iter().map(|x| -x).collect();
        let operation = if op.0.is::<Add>() {
            affine(ones, c)
        } else if op.0.is::<Mul>() {
            affine(c, zeros)
        } else if op.0.is::<Sub>() && constant_first {
            affine(negative(ones), c)
        } else if op.0.is::<Sub>() {
            affine(ones, negative(c))
        } else if op.0.is::<Div>() && !constant_first {
            affine(c.into_iter().map(|x| 1.0 / x).collect(), zeros)
        } else if op.0.is::<Max>() {
            Operation::Clamp(Clamp {
                low: uniform?,
                ..Clamp::NONE
            })
        } else if op.0.is::<Min>() {
            Operation::Clamp(Clamp {
                high: uniform?,
                ..Clamp::NONE
            })
        } else {
            return None;
        };
        let node = self.graph.add(&node.name, operation, &[from.node], map)?;
        Some(View::new(node, from.axes))
    }

    /// Sum or product with a constant that has other values for other pixels, such as an embedding of positions.
    fn with_constant_map(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        from: &View,
        shape: &[usize],
        values: &[f32],
    ) -> Option<View> {
        let pair = if op.0.is::<Add>() {
            Pair::Sum
        } else if op.0.is::<Mul>() {
            Pair::Product
        } else {
            return None;
        };
        let map = self.graph.shape(from.node);
        let mut constant = vec![0.0; map.iter().product()];
        for ([pixel, channel], value) in spread(&from.axes, shape, values) {
            *constant.get_mut(pixel * map[2] + channel)? = value;
        }
        let name = format!("{}.constant", node.name);
        let operation = Operation::Constant(constant);
        let constant = self.graph.add(&name, operation, &[], map)?;
        let inputs = [from.node, constant];
        let node = self
            .graph
            .add(&node.name, Operation::Pair(pair), &inputs, map)?;
        Some(View::new(node, from.axes.clone()))
    }

    fn pair(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        a: OutletId,
        b: OutletId,
    ) -> Option<View> {
        let is_quotient = op.0.is::<Div>();
        let pair = if op.0.is::<Add>() {
            Pair::Sum
        } else if op.0.is::<Mul>() || is_quotient {
            Pair::Product
        } else if op.0.is::<Sub>() {
            Pair::Difference
        } else {
            return None;
        };
        let (a_shape, b_shape) = (self.shape(a)?, self.shape(b)?);
        let out = self.shape(node.id.into())?;
        // That which has the shape of the result is read as it lies, if it can be.
        let is_first =
            |outlet: OutletId, shape: &[usize]| shape == out && self.known(outlet).is_some();
        let (first, second, second_shape) = match (is_first(a, &a_shape), is_first(b, &b_shape)) {
            (true, _) => (a, b, b_shape),
            (_, true) => (b, a, a_shape),
            _ => return None,
        };
        let mut left = self.whole(&node.name, first)?;
        let mut map = self.graph.shape(left.node);
        let mut right = if second_shape == out {
            // A map of rows and columns stays one.
            if let Some(other) = self.known(second)
                && other.is_whole(self.graph.shape(other.node))
                && left.axes != other.axes
                && map[1] == 1
            {
                let size = self.graph.shape(other.node);
                left.node = self.read(first, &other.axes, size)?;
                (left.axes, map) = (other.axes, size);
            }
            self.read(second, &left.axes, map)?
        } else {
            self.spread_out(&node.name, second, &second_shape, &left)?
        };
        let swapped = first != a;
        if is_quotient {
            let inverted = if swapped { left.node } else { right };
            let size = self.graph.shape(inverted);
            let name = format!("{}.reciprocal", node.name);
            let operation = Operation::Curve(Curve::Reciprocal);
            let inverse = self.graph.add(&name, operation, &[inverted], size)?;
            match swapped {
                true => left.node = inverse,
                false => right = inverse,
            }
        }
        for [x, gate] in [[left.node, right], [right, left.node]] {
            if pair == Pair::Product
                && let Some(factor) = self.graph.quick_gelu([x, gate])
            {
                let operation = Operation::Curve(Curve::QuickGelu { factor });
                let node = self.graph.add(&node.name, operation, &[x], map)?;
                return Some(View::new(node, left.axes));
            }
        }
        let inputs = [left.node, right];
        let result = self
            .graph
            .add(&node.name, Operation::Pair(pair), &inputs, map)?;
        if pair == Pair::Difference && swapped {
            let name = format!("{}.negative", node.name);
            return self.scaled(&name, View::new(result, left.axes), -1.0);
        }
        Some(View::new(result, left.axes))
    }

    /// A tensor for all pixels, or for all channels, or for all of both, of another: the map of its single pixel, or
    /// one with all channels.
    fn spread_out(
        &mut self,
        name: &str,
        outlet: OutletId,
        shape: &[usize],
        over: &View,
    ) -> Option<NodeId> {
        if shape.len() != over.axes.len() {
            return None;
        }
        let map = self.graph.shape(over.node);
        let whole = |in_pixel: bool| {
            let axes = over.axes.iter().zip(shape);
            let mut of_kind =
                axes.filter(|(axis, _)| axis.len() > 1 && axis.is_in_pixel() == in_pixel);
            let count = of_kind.clone().count();
            let there = of_kind
                .clone()
                .filter(|(axis, n)| axis.len() == **n)
                .count();
            let alike = of_kind.all(|(axis, n)| axis.len() == *n || *n == 1);
            alike.then_some((there == count, there == 0))
        };
        // An axis of pixels and channels at once cannot be told apart.
        let plain = |axis: &Axis| axis.is_in_pixel() || axis.is_across_pixels();
        if !over.axes.iter().all(plain) {
            return (shape.iter().all(|&n| n == 1)).then(|| self.single(name, outlet, map[2]))?;
        }
        let ((all_channels, no_channels), (all_pixels, no_pixels)) = (whole(true)?, whole(false)?);
        let axes: Vec<Axis> = over
            .axes
            .iter()
            .zip(shape)
            .map(|(axis, &n)| if n == 1 { Axis::ONE } else { axis.clone() })
            .collect();
        if no_pixels && all_channels {
            return self.read(outlet, &axes, [1, 1, map[2]]);
        }
        if all_pixels && no_channels {
            self.known(outlet)?;
            let single = self.read(outlet, &axes, [map[0], map[1], 1])?;
            return self.with_channels(name, single, map[2]);
        }
        if no_pixels && no_channels {
            return self.single(name, outlet, map[2]);
        }
        None
    }

    /// A tensor of one value as a pixel of so many channels.
    fn single(&mut self, name: &str, outlet: OutletId, channels: usize) -> Option<NodeId> {
        let rank = self.known(outlet)?.axes.len();
        let single = self.read(outlet, &vec![Axis::ONE; rank], [1, 1, 1])?;
        self.with_channels(name, single, channels)
    }

    /// A map of one channel with so many that are the same.
    fn with_channels(&mut self, name: &str, node: NodeId, channels: usize) -> Option<NodeId> {
        let [height, width, one] = self.graph.shape(node);
        if one != 1 || channels == 1 {
            return (one == 1).then_some(node);
        }
        let name = format!("{name}.spread");
        self.pointwise(&name, node, vec![1.0; channels], [height, width, channels])
    }

    /// A product of each pixel with a matrix `[output][input]`.
    fn pointwise(
        &mut self,
        name: &str,
        node: NodeId,
        weights: Vec<f32>,
        map: [usize; 3],
    ) -> Option<NodeId> {
        let operation = Operation::Convolution {
            rows: Window::every(1, map[0])?,
            columns: Window::every(1, map[1])?,
            weights,
            bias: vec![0.0; map[2]],
            groups: 1,
        };
        self.graph.add(name, operation, &[node], map)
    }

    /// The sum over the channels of each pixel, times a factor.
    pub(super) fn channel_sum(&mut self, name: &str, node: NodeId, factor: f32) -> Option<NodeId> {
        let [height, width, channels] = self.graph.shape(node);
        let name = format!("{name}.channels");
        self.pointwise(&name, node, vec![factor; channels], [height, width, 1])
    }

    /// A tensor with the values of its map multiplied by `factor`.
    pub(super) fn scaled(&mut self, name: &str, view: View, factor: f32) -> Option<View> {
        let map = self.graph.shape(view.node);
        let operation = Operation::Affine {
            scale: vec![factor; map[2]],
            shift: vec![0.0; map[2]],
        };
        let node = self.graph.add(name, operation, &[view.node], map)?;
        Some(View { node, ..view })
    }

    /// Normalisation over a whole map.
    fn whole_normalization(&mut self, node: &TypedNode, norm: &Norm) -> Option<View> {
        let from = self.whole(&node.name, norm.from)?;
        let others = |(i, axis): (usize, &Axis)| i == norm.axis || axis.len() == 1;
        if !from.axes.iter().enumerate().all(others) {
            return None;
        }
        let map = self.graph.shape(from.node);
        let name = |what: &str| format!("{}.{what}", node.name);
        let share = 1.0 / map.iter().product::<usize>() as f32;
        let mean = |lowering: &mut Self, what: &str, of: NodeId| {
            let pooling = Operation::PoolAll(Pooling::Sum { scale: 1.0 });
            let sums = lowering
                .graph
                .add(&name(what), pooling, &[of], [1, 1, map[2]])?;
            lowering.channel_sum(&name(what), sums, share)
        };
        let mut at = from.node;
        if norm.is_centred {
            let mean = mean(self, "mean", at)?;
            let mean = self.with_channels(&name("mean"), mean, map[2])?;
            let difference = Operation::Pair(Pair::Difference);
            at = self
                .graph
                .add(&name("difference"), difference, &[at, mean], map)?;
        }
        let square = Operation::Curve(Curve::Square);
        let squares = self.graph.add(&name("square"), square, &[at], map)?;
        let variance = mean(self, "variance", squares)?;
        let epsilon = Operation::Affine {
            scale: vec![1.0],
            shift: vec![norm.epsilon],
        };
        let variance = self
            .graph
            .add(&name("epsilon"), epsilon, &[variance], [1, 1, 1])?;
        let root = Operation::Curve(Curve::InverseRoot);
        let factor = self
            .graph
            .add(&name("root"), root, &[variance], [1, 1, 1])?;
        let factor = self.with_channels(&name("root"), factor, map[2])?;
        let product = Operation::Pair(Pair::Product);
        let result = self.graph.add(&node.name, product, &[at, factor], map)?;
        Some(View::new(result, from.axes))
    }

    /// Layer normalisation, or that by the root mean square.
    pub(super) fn normalization(&mut self, node: &TypedNode, norm: &Norm) -> Option<View> {
        let mut is_channel = vec![false; self.shape(norm.from)?.len()];
        *is_channel.get_mut(norm.axis)? = true;
        let known = self.known(norm.from)?;
        let axis = known.axes.get(norm.axis)?;
        let alone = known.axes.iter().filter(|axis| axis.len() > 1).count() == 1;
        if alone && !axis.is_in_pixel() && !axis.is_across_pixels() {
            return self.whole_normalization(node, norm);
        }
        let from = self.operand(&node.name, norm.from, &is_channel)?;
        let map = self.graph.shape(from.node);
        let operation = Operation::Normalize {
            scale: vec![1.0; map[2]],
            shift: vec![0.0; map[2]],
            epsilon: norm.epsilon,
            is_centred: norm.is_centred,
        };
        let node = self.graph.add(&node.name, operation, &[from.node], map)?;
        Some(View::new(node, from.axes))
    }

    pub(super) fn curve(&mut self, node: &TypedNode, op: &ElementWiseOp) -> Option<View> {
        if op.0.is::<Neg>() {
            let known = self.known(node.inputs[0])?;
            let view = View {
                factor: -known.factor,
                ..known
            };
            return Some(view);
        }
        let curve = if op.0.is::<Sigmoid>() {
            Curve::Sigmoid
        } else if op.0.is::<Silu>() {
            Curve::Silu
        } else if op.0.is::<HardSwish>() {
            Curve::HardSwish
        } else if op.0.is::<GeluExact>() {
            Curve::Gelu
        } else if let Some(gelu) = op.0.downcast_ref::<GeluApproximate>() {
            if gelu.fast_impl {
                return None;
            }
            Curve::GeluTanh
        } else if op.0.is::<Square>() {
            Curve::Square
        } else if op.0.is::<Sqrt>() {
            Curve::SquareRoot
        } else if op.0.is::<Recip>() {
            Curve::Reciprocal
        } else if op.0.is::<Rsqrt>() {
            Curve::InverseRoot
        } else {
            let alpha = op.0.downcast_ref::<LeakyRelu>()?.alpha;
            Curve::LeakyRelu { alpha }
        };
        self.apply(node, node.inputs[0], curve)
    }

    /// A curve of a tensor.
    pub(super) fn apply(
        &mut self,
        node: &TypedNode,
        outlet: OutletId,
        curve: Curve,
    ) -> Option<View> {
        let from = self.whole(&node.name, outlet)?;
        let map = self.graph.shape(from.node);
        let operation = Operation::Curve(curve);
        let node = self.graph.add(&node.name, operation, &[from.node], map)?;
        Some(View::new(node, from.axes))
    }
}

/// Where in a map each element of a tensor is, and the value that it gets from a constant of `shape`, of which axes of
/// one go with all elements.
fn spread<'a>(
    axes: &[Axis],
    shape: &[usize],
    values: &'a [f32],
) -> impl Iterator<Item = ([usize; 2], f32)> + use<'a> {
    let mut at = vec![0];
    for (axis, &n) in axes.iter().zip(shape) {
        let along = (0..axis.len()).map(|i| if n == 1 { 0 } else { i });
        let along: Vec<usize> = along.collect();
        let next = |start: usize| along.iter().map(move |i| start * n + i);
        at = at.into_iter().flat_map(next).collect();
    }
    let places = places([0, 0], axes);
    places.into_iter().zip(at.into_iter().map(|i| values[i]))
}
