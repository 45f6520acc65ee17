//! Reads attributes and constants of a graph for training.

pub(super) use cnn_engine::proto::{Attributes, float_values};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::onnx::{OnnxGraph, OnnxNode};

/// Values of a tensor of 32-bit floating-point numbers or of 32- or 64-bit integers; `None` if it is of another type.
pub(super) fn small_values(tensor: &pb::TensorProto) -> Option<Vec<f64>> {
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => Some(float_values(tensor)?.into_iter().map(f64::from).collect()),
        DataType::Int64 if raw.is_empty() => {
            Some(tensor.int64_data.iter().map(|&i| i as f64).collect())
        }
        DataType::Int64 => {
            let (values, _) = raw.as_chunks::<8>();
            Some(
                values
                    .iter()
                    .map(|b| i64::from_le_bytes(*b) as f64)
                    .collect(),
            )
        }
        DataType::Int32 if raw.is_empty() => {
            Some(tensor.int32_data.iter().map(|&i| f64::from(i)).collect())
        }
        DataType::Int32 => {
            let (values, _) = raw.as_chunks::<4>();
            Some(
                values
                    .iter()
                    .map(|b| f64::from(i32::from_le_bytes(*b)))
                    .collect(),
            )
        }
        _ => None,
    }
}

impl OnnxGraph {
    fn node_protos(&self) -> &[pb::NodeProto] {
        self.proto().graph.as_ref().map_or(&[], |g| &g.node)
    }

    /// The attributes of the node at place `index`.
    pub(super) fn attributes(&self, index: usize) -> Attributes<'_> {
        let node = self.node_protos().get(index);
        Attributes(node.map_or(&[], |n| &n.attribute))
    }

    /// A weight, or the value of a `Constant` node.
    fn constant(&self, name: &str) -> Option<&pb::TensorProto> {
        let graph = self.proto().graph.as_ref()?;
        let weight = graph.initializer.iter().find(|t| t.name == name);
        weight.or_else(|| {
            let node = graph
                .node
                .iter()
                .find(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name))?;
            node.attribute
                .iter()
                .find(|a| a.name == "value")?
                .t
                .as_ref()
        })
    }

    /// The node at place `index`.
    pub(super) fn node_proto(&self, index: usize) -> Option<&pb::NodeProto> {
        self.node_protos().get(index)
    }

    /// Whether a tensor is a float32 constant.
    pub(super) fn is_float_constant(&self, name: &str) -> bool {
        let tensor = self.constant(name);
        tensor.is_some_and(|t| t.data_type == DataType::Float as i32)
    }

    /// Dimensions of a constant; empty for a number, and where there is none.
    pub(super) fn constant_dims(&self, name: &str) -> Vec<usize> {
        let dims = self.constant(name).map(|t| t.dims.clone());
        let dims = dims.unwrap_or_default().into_iter();
        dims.map(|d| usize::try_from(d).unwrap_or(0)).collect()
    }

    /// Number of values of a vector; 0 for a constant of other dimensions, and where there is none.
    pub(super) fn constant_length(&self, name: &str) -> usize {
        match self.constant_dims(name)[..] {
            [length] => length,
            _ => 0,
        }
    }

    /// Values of a float32 constant, row-major; `None` if it is of another type or not there.
    pub(super) fn weight_values(&self, name: &str) -> Option<Vec<f32>> {
        float_values(self.constant(name)?)
    }

    /// Whether the smallest number that a `QuantizeLinear` node can write is 0.
    pub(super) fn is_rounded_from_zero(&self, node: &OnnxNode) -> bool {
        let Some(name) = node.inputs.get(2).filter(|name| !name.is_empty()) else {
            // Without a zero point, bytes from 0 on.
            return true;
        };
        let Some(tensor) = self.constant(name) else {
            return false;
        };
        let first = match tensor.raw_data.first() {
            Some(&byte) => Some(i32::from(byte)),
            None => tensor.int32_data.first().map(|value| value & 0xff),
        };
        match first {
            Some(0) => tensor.data_type == DataType::Uint8 as i32,
            Some(0x80) => tensor.data_type == DataType::Int8 as i32,
            _ => false,
        }
    }

    /// Values of an int64 constant; `None` if it is of another type or not there.
    pub(super) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constant(name)?;
        if tensor.data_type != DataType::Int64 as i32 {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        let (values, _) = tensor.raw_data.as_chunks::<8>();
        Some(values.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }
}
