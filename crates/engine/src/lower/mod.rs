//! From tract's decluttered operators to the engine's graph.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, MaxPool, SumPool};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::Reduce;

use self::maps::sum_pooling;
use super::geometry::product;
use super::graph::{Graph, NodeId, Operation};
use super::map::Element;
use super::operator::IntegerOp;
use super::pool::Pooling;

mod arithmetic;
mod linear;
mod maps;

/// What an axis of a tensor is in the feature map that the tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// One long, without meaning: the batch of one.
    Unit,
    Height,
    Width,
    Channel,
}

/// The axes of a tensor in order; height or width may be missing where it is one.
pub(super) type Axes = Vec<Axis>;

/// A tensor that is a map of the engine's graph.
#[derive(Clone, Debug)]
pub(super) struct Lowered {
    pub node: NodeId,
    pub axes: Axes,
}

/// Nodes of a tract model that were taken over into a [`Graph`].
pub(super) struct Lowering<'a> {
    model: &'a TypedModel,
    pub graph: Graph,
    pub known: HashMap<OutletId, Lowered>,
    /// Tensors that come from outside, by the graph's input number.
    pub inputs: Vec<OutletId>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(model: &'a TypedModel) -> Lowering<'a> {
        Lowering {
            model,
            graph: Graph::default(),
            known: HashMap::new(),
            inputs: Vec::new(),
        }
    }

    /// Takes `node` over if the engine can compute it; whether it did.
    pub(super) fn take(&mut self, node: &TypedNode) -> bool {
        let float = |outlet: &OutletId| {
            self.model
                .outlet_fact(*outlet)
                .is_ok_and(|f| f.datum_type == f32::datum_type() && f.shape.is_concrete())
        };
        let integer = node.op_as::<IntegerOp>();
        if node.outputs.len() != 1
            || integer.is_none()
                && !(node.inputs.iter().all(float) && float(&OutletId::new(node.id, 0)))
        {
            return false;
        }
        let (inputs, nodes) = (self.inputs.len(), self.graph.len());
        let lowered = if let Some(op) = integer {
            self.integer(node, &op.kind)
        } else if let Some(op) = node.op_as::<Conv>() {
            self.convolution(node, op)
        } else if let Some(op) = node.op_as::<EinSum>() {
            self.product(node, op)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            let plain = op.with_index_outputs.is_none();
            plain
                .then(|| self.pool(node, &op.pool_spec, Pooling::Max))
                .flatten()
        } else if let Some(op) = node.op_as::<SumPool>() {
            sum_pooling(op).and_then(|pooling| self.pool(node, &op.pool_spec, pooling))
        } else if let Some(op) = node.op_as::<Reduce>() {
            self.reduction(node, op)
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            self.binary(node, op)
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            self.curve(node, op)
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            self.concat(node, op)
        } else if let Some(op) = node.op_as::<Slice>() {
            self.part(node, op)
        } else if let Some(op) = node.op_as::<Downsample>() {
            self.downsampling(node, op)
        } else if let Some(op) = node.op_as::<AxisOp>() {
            self.axes(node, op)
        } else {
            None
        };
        let Some(lowered) = lowered else {
            // Inputs that were taken in for it alone.
            for outlet in self.inputs.drain(inputs..) {
                self.known.remove(&outlet);
            }
            self.graph.truncate(nodes);
            return false;
        };
        self.known.insert(node.id.into(), lowered);
        true
    }

    fn shape(&self, outlet: OutletId) -> Option<Vec<usize>> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        Some(fact.shape.as_concrete()?.to_vec())
    }

    /// The values of a constant float tensor, row-major.
    fn constant(&self, outlet: OutletId) -> Option<(Vec<usize>, &'a [f32])> {
        let tensor = self.model.outlet_fact(outlet).ok()?.konst.as_ref()?;
        let values = tensor.as_plain_ram()?.as_slice::<f32>().ok()?;
        Some((tensor.shape().to_vec(), values))
    }

    /// The map of `outlet` with the given axes; a tensor from outside becomes an input of the graph.
    fn read(&mut self, outlet: OutletId, axes: &Axes) -> Option<NodeId> {
        let shape = self.shape(outlet)?;
        let extent = |axis| {
            let place = axes.iter().position(|&a| a == axis);
            place.map_or(1, |i| shape[i])
        };
        let map = [
            extent(Axis::Height),
            extent(Axis::Width),
            extent(Axis::Channel),
        ];
        let sound = shape.len() == axes.len()
            && axes.contains(&Axis::Channel)
            && product(&map).is_some_and(|values| Some(values) == product(&shape))
            && map.iter().all(|&n| n > 0);
        if !sound {
            return None;
        }
        if let Some(known) = self.known.get(&outlet) {
            // Axes of one are alike.
            let agrees = known
                .axes
                .iter()
                .zip(axes)
                .zip(&shape)
                .all(|((a, b), &n)| a == b || n == 1);
            return (agrees && self.graph.shape(known.node) == map).then_some(known.node);
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
        let stride = |axis| {
            let place = axes.iter().position(|&a| a == axis);
            place.map(|i| shape[i + 1..].iter().product::<usize>())
        };
        let channel = stride(Axis::Channel)?;
        let column = stride(Axis::Width).unwrap_or(if channel == 1 { map[2] } else { 1 });
        let row = stride(Axis::Height).unwrap_or(column * map[1]);
        let number = self.inputs.len();
        self.inputs.push(outlet);
        let name = &self.model.node(outlet.node).name;
        let operation = Operation::Input {
            number,
            strides: [row, column, channel],
            element,
        };
        let node = self.graph.add(name, operation, &[], map)?;
        let axes = axes.clone();
        self.known.insert(outlet, Lowered { node, axes });
        Some(node)
    }

    /// The map of a tensor that was taken over before.
    fn known(&self, outlet: OutletId) -> Option<Lowered> {
        self.known.get(&outlet).cloned()
    }
}

/// One value, or one for each of `channels`, as one for each.
fn broadcast(values: &[f32], channels: usize) -> Option<Vec<f32>> {
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n if n == channels => Some(values.to_vec()),
        _ => None,
    }
}
