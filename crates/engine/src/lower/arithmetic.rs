//! Arithmetic by pixel: with constants, of two maps, and curves.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid};

use super::{Axis, Lowered, Lowering, broadcast};
use crate::activation::Curve;
use crate::graph::Operation;
use crate::pixelwise::Pair;
use crate::step::Clamp;

impl Lowering<'_> {
    pub(super) fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Option<Lowered> {
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

    /// An operation with a constant that has one value, or one for each channel.
    pub(super) fn with_constant(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        outlet: OutletId,
        (shape, values): (Vec<usize>, &[f32]),
        constant_first: bool,
    ) -> Option<Lowered> {
        let from = self.known(outlet)?;
        let map = self.graph.shape(from.node);
        if shape.len() != from.axes.len() || self.shape(outlet)? != self.shape(node.id.into())? {
            return None;
        }
        let by_channel = |(axis, &n): (&Axis, &usize)| n == 1 || *axis == Axis::Channel;
        if !from.axes.iter().zip(&shape).all(by_channel) {
            return None;
        }
        let c = broadcast(values, map[2])?;
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
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from.node], map)?,
            axes: from.axes,
        })
    }

    pub(super) fn pair(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        a: OutletId,
        b: OutletId,
    ) -> Option<Lowered> {
        let pair = if op.0.is::<Add>() {
            Pair::Sum
        } else if op.0.is::<Mul>() {
            Pair::Product
        } else {
            return None;
        };
        let axes = self.known(a).or_else(|| self.known(b))?.axes;
        let (left, right) = (self.read(a, &axes)?, self.read(b, &axes)?);
        let (left_shape, right_shape) = (self.graph.shape(left), self.graph.shape(right));
        // A single pixel may go with all pixels of the other.
        let pixel = [1, 1, left_shape[2]];
        let inputs = if left_shape == right_shape || right_shape == pixel {
            [left, right]
        } else if left_shape == [1, 1, right_shape[2]] {
            [right, left]
        } else {
            return None;
        };
        let shape = self.graph.shape(inputs[0]);
        Some(Lowered {
            node: self
                .graph
                .add(&node.name, Operation::Pair(pair), &inputs, shape)?,
            axes,
        })
    }

    pub(super) fn curve(&mut self, node: &TypedNode, op: &ElementWiseOp) -> Option<Lowered> {
        let curve = if op.0.is::<Sigmoid>() {
            Curve::Sigmoid
        } else if op.0.is::<Silu>() {
            Curve::Silu
        } else if op.0.is::<HardSwish>() {
            Curve::HardSwish
        } else {
            let alpha = op.0.downcast_ref::<LeakyRelu>()?.alpha;
            Curve::LeakyRelu { alpha }
        };
        let from = self.known(node.inputs[0])?;
        let shape = self.graph.shape(from.node);
        let operation = Operation::Curve(curve);
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from.node], shape)?,
            axes: from.axes,
        })
    }
}
