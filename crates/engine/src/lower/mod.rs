//! From tract's decluttered operators to the engine's graph.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, MaxPool, SumPool};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::Reduce;

use self::maps::sum_pooling;
use self::patterns::{Form, Pattern};
use self::view::{Axis, Stride, View, places, row_major};
use super::copy::Moves;
use super::graph::{Graph, NodeId, Operation};
use super::map::Element;
use super::operator::IntegerOp;
use super::pool::Pooling;
use super::strided::Strided;

mod arithmetic;
mod attention;
mod curves;
mod linear;
mod maps;
pub(super) mod patterns;
pub(super) mod view;

/// Values of a copied map at most: each may need a place of its own.
const MOST_COPIED: usize = 1 << 24;

/// Nodes of a tract model that were taken over into a [`Graph`].
pub(super) struct Lowering<'a> {
    model: &'a TypedModel,
    pub graph: Graph,
    known: HashMap<OutletId, View>,
    /// Tensors that come from outside, by the graph's input number.
    pub inputs: Vec<OutletId>,
    /// What `known` had where the node that is being taken over changed it.
    changed: Vec<(OutletId, Option<View>)>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(model: &'a TypedModel) -> Lowering<'a> {
        Lowering {
            model,
            graph: Graph::default(),
            known: HashMap::new(),
            inputs: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Takes `node` over if the engine can compute it; whether it did.
    pub(super) fn take(&mut self, node: &TypedNode) -> bool {
        let integer = node.op_as::<IntegerOp>();
        if integer.is_none()
            && !node.op_is::<Gather>()
            && !node.inputs.iter().all(|&i| self.is_float(i))
        {
            return false;
        }
        self.attempt(node, |lowering| {
            if let Some(op) = integer {
                lowering.integer(node, &op.kind)
            } else if let Some(op) = node.op_as::<Conv>() {
                lowering.convolution(node, op)
            } else if let Some(op) = node.op_as::<EinSum>() {
                lowering.product(node, op)
            } else if let Some(op) = node.op_as::<MaxPool>() {
                let plain = op.with_index_outputs.is_none();
                plain
                    .then(|| lowering.pool(node, &op.pool_spec, Pooling::Max))
                    .flatten()
            } else if let Some(op) = node.op_as::<SumPool>() {
                sum_pooling(op).and_then(|pooling| lowering.pool(node, &op.pool_spec, pooling))
            } else if let Some(op) = node.op_as::<Reduce>() {
                lowering.reduction(node, op)
            } else if let Some(op) = node.op_as::<TypedBinOp>() {
                lowering.binary(node, op)
            } else if let Some(op) = node.op_as::<ElementWiseOp>() {
                lowering.curve(node, op)
            } else if let Some(op) = node.op_as::<TypedConcat>() {
                lowering.concat(node, op)
            } else if let Some(op) = node.op_as::<Slice>() {
                lowering.slice(node, op)
            } else if let Some(op) = node.op_as::<Gather>() {
                lowering.gather(node, op)
            } else if let Some(op) = node.op_as::<Downsample>() {
                lowering.downsampling(node, op)
            } else if let Some(op) = node.op_as::<Strided>() {
                lowering.downsampling(node, &op.0)
            } else if let Some(op) = node.op_as::<AxisOp>() {
                lowering.axes(node, op)
            } else {
                None
            }
        })
    }

    /// Takes `pattern` over, which ends in `node`, if the engine can compute it; whether it did.
    pub(super) fn take_pattern(&mut self, node: &TypedNode, pattern: &Pattern) -> bool {
        self.attempt(node, |lowering| match &pattern.form {
            Form::Norm(norm) => lowering.normalization(node, norm),
            Form::Attention(attention) => lowering.attention(node, attention),
            Form::Curve(from, curve) => lowering.apply(node, *from, *curve),
        })
    }

    /// Makes `node`'s output known if `lower` gives it; leaves all as it was if not.
    fn attempt(&mut self, node: &TypedNode, lower: impl FnOnce(&mut Self) -> Option<View>) -> bool {
        let outlet = OutletId::new(node.id, 0);
        let (inputs, nodes) = (self.inputs.len(), self.graph.len());
        self.changed.clear();
        let is_plain =
            node.outputs.len() == 1 && (self.is_float(outlet) || node.op_is::<IntegerOp>());
        let view = is_plain.then(|| lower(self)).flatten();
        let shape = self.shape(outlet);
        let Some(view) = view.filter(|view| Some(view.shape()) == shape) else {
            // Inputs that were taken in for it alone, and copies that were made for it.
            for (outlet, before) in std::mem::take(&mut self.changed).into_iter().rev() {
                match before {
                    Some(view) => self.known.insert(outlet, view),
                    None => self.known.remove(&outlet),
                };
            }
            self.inputs.truncate(inputs);
            self.graph.truncate(nodes);
            return false;
        };
        self.known.insert(outlet, view);
        true
    }

    /// The node that the tensor `outlet`, which was taken over, lies in, and how; multiplied by its factor.
    pub(super) fn result(&mut self, outlet: OutletId) -> Option<View> {
        let name = self.model.node(outlet.node).name.clone();
        self.settled(&name, outlet)
    }

    /// Whether a tensor is of floats and of a fixed size.
    fn is_float(&self, outlet: OutletId) -> bool {
        let fact = self.model.outlet_fact(outlet);
        fact.is_ok_and(|f| f.datum_type == f32::datum_type() && f.shape.is_concrete())
    }

    fn shape(&self, outlet: OutletId) -> Option<Vec<usize>> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        let shape = fact.shape.as_concrete()?.to_vec();
        (!shape.contains(&0)).then_some(shape)
    }

    /// The values of a constant float tensor, row-major.
    fn constant(&self, outlet: OutletId) -> Option<(Vec<usize>, &'a [f32])> {
        let tensor = self.model.outlet_fact(outlet).ok()?.konst.as_ref()?;
        let values = tensor.as_plain_ram()?.as_slice::<f32>().ok()?;
        Some((tensor.shape().to_vec(), values))
    }

    /// A tensor that was taken over before.
    fn known(&self, outlet: OutletId) -> Option<View> {
        self.known.get(&outlet).cloned()
    }

    fn learn(&mut self, outlet: OutletId, view: View) {
        let before = self.known.insert(outlet, view);
        self.changed.push((outlet, before));
    }

    /// A tensor that was taken over before, multiplied by its factor.
    fn settled(&mut self, name: &str, outlet: OutletId) -> Option<View> {
        let view = self.known(outlet)?;
        if view.factor == 1.0 {
            return Some(view);
        }
        let factor = view.factor;
        let view = self.scaled(
            name,
            View {
                factor: 1.0,
                ..view
            },
            factor,
        )?;
        self.learn(outlet, view.clone());
        Some(view)
    }

    /// A tensor that was taken over before as one that has every value of its map just once: copied if it is not.
    fn whole(&mut self, name: &str, outlet: OutletId) -> Option<View> {
        let view = self.settled(name, outlet)?;
        if view.is_whole(self.graph.shape(view.node)) {
            return Some(view);
        }
        let copy = self.arranged(name, &view, &view.in_pixel())?;
        self.learn(outlet, copy.clone());
        Some(copy)
    }

    /// A copy in a map of its own, in which the axes of `is_channel` are in the pixels and all others across them.
    fn arranged(&mut self, name: &str, view: &View, is_channel: &[bool]) -> Option<View> {
        let shape = view.shape();
        let (axes, pixels, channels) = row_major(&shape, is_channel);
        self.copied(name, view, axes, [pixels, 1, channels])
    }

    /// A copy in a new map, in which the axes are `axes`.
    fn copied(
        &mut self,
        name: &str,
        view: &View,
        axes: Vec<Axis>,
        map: [usize; 3],
    ) -> Option<View> {
        let to = View::new(0, axes);
        let moves = moves(view, &to)?;
        let operation = Operation::Copy(vec![moves]);
        let name = format!("{name}.copy");
        let node = self.graph.add(&name, operation, &[view.node], map)?;
        Some(View { node, ..to })
    }

    /// The map of `outlet` with so many rows, columns and channels, in which it has the given axes. A tensor from
    /// outside becomes an input of the graph; one that lies otherwise is copied.
    fn read(&mut self, outlet: OutletId, axes: &[Axis], map: [usize; 3]) -> Option<NodeId> {
        let wanted = View::new(0, axes.to_vec());
        if Some(wanted.shape()) != self.shape(outlet) || !wanted.is_whole(map) {
            return None;
        }
        let name = self.model.node(outlet.node).name.clone();
        if self.known.contains_key(&outlet) {
            let view = self.settled(&name, outlet)?;
            let same = view.axes == axes && view.first == [0, 0];
            if same && self.graph.shape(view.node) == map {
                return Some(view.node);
            }
            if self.graph.element(view.node) != Element::Float {
                return None;
            }
            let copy = self.copied(&name, &view, axes.to_vec(), map)?;
            return Some(copy.node);
        }
        let fact = self.model.outlet_fact(outlet).ok()?;
        let element = match fact.datum_type {
            DatumType::F32 => Element::Float,
            DatumType::U8 => Element::Byte,
            _ => return None,
        };
        if fact.konst.is_some() {
            return None;
        }
        let strides = outer_strides(axes, map)?;
        let number = self.inputs.len();
        self.inputs.push(outlet);
        let operation = Operation::Input {
            number,
            strides,
            element,
        };
        let node = self.graph.add(&name, operation, &[], map)?;
        self.learn(outlet, View { node, ..wanted });
        Some(node)
    }

    /// A map of constants: a tensor whose axes of `is_channel` are in the pixels.
    fn constant_map(&mut self, outlet: OutletId, is_channel: &[bool]) -> Option<View> {
        let (shape, values) = self.constant(outlet)?;
        if shape.len() != is_channel.len() || shape.contains(&0) {
            return None;
        }
        let (axes, pixels, channels) = row_major(&shape, is_channel);
        let mut map = vec![0.0; values.len()];
        for (&[pixel, channel], &value) in places([0, 0], &axes).iter().zip(values) {
            map[pixel * channels + channel] = value;
        }
        let name = &self.model.node(outlet.node).name;
        let operation = Operation::Constant(map);
        let node = self
            .graph
            .add(name, operation, &[], [pixels, 1, channels])?;
        Some(View::new(node, axes))
    }
}

/// What has to be copied so that the tensor in `from` lies as in `to`; none if that is too much.
fn moves(from: &View, to: &View) -> Option<Moves> {
    let shape = from.shape();
    if shape != to.shape() || shape.iter().product::<usize>() > MOST_COPIED {
        return None;
    }
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let run = |i: usize| gcd(from.axes[i].run(), to.axes[i].run());
    let along = (0..shape.len()).max_by_key(|&i| run(i));
    let run = along.map_or(1, run);
    let heads = |view: &View| {
        let mut all = vec![view.first];
        for (i, axis) in view.axes.iter().enumerate() {
            let step = if Some(i) == along { run } else { 1 };
            let inner: Vec<[usize; 2]> = axis.places().into_iter().step_by(step).collect();
            let next = |[pixel, channel]: [usize; 2]| {
                inner.iter().map(move |[p, c]| [pixel + p, channel + c])
            };
            all = all.into_iter().flat_map(next).collect();
        }
        all
    };
    let pairs = heads(from).into_iter().zip(heads(to));
    Some(Moves {
        run,
        places: pairs.map(|(from, to)| [from, to]).collect(),
    })
}

/// Values from one row, column and channel to the next of a dense tensor that has the given axes in a map; none if
/// these are not the same everywhere.
fn outer_strides(axes: &[Axis], [_, width, channels]: [usize; 3]) -> Option<[usize; 3]> {
    let mut strides: [Option<usize>; 3] = [None; 3];
    let mut stride: usize = 1;
    for axis in axes.iter().rev() {
        for part in axis.parts().iter().rev() {
            let (place, unit, spans_rows) = match part.stride {
                Stride::Channel(s) => (2, s, false),
                Stride::Pixel(s) if s.is_multiple_of(width) => (0, s / width, false),
                Stride::Pixel(s) => (1, s, s * part.count > width),
            };
            let mut set = |place: usize, value: usize| match strides[place] {
                Some(there) => (there == value).then_some(()),
                None => {
                    strides[place] = Some(value);
                    Some(())
                }
            };
            if !stride.is_multiple_of(unit) {
                return None;
            }
            set(place, stride / unit)?;
            if spans_rows {
                set(0, stride / unit * width)?;
            }
            stride *= part.count;
        }
    }
    let channel = strides[2].or((channels == 1).then_some(1))?;
    let column = strides[1].unwrap_or(if channel == 1 { channels } else { 1 });
    let row = strides[0].unwrap_or(column * width);
    Some([row, column, channel])
}

/// One value, or one for each of `channels`, as one for each.
fn broadcast(values: &[f32], channels: usize) -> Option<Vec<f32>> {
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n if n == channels => Some(values.to_vec()),
        _ => None,
    }
}
