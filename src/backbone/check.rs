//! Checks a graph before it is used, so that a damaged or malicious file costs no time or memory.
//! No file access.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::onnx::walk::captures;

mod bounds;
mod ranks;
mod shapes;
mod sizes;

pub(super) use bounds::excess;
pub(super) use sizes::oversize;

/// Maximum number of values that a node may make out of a constant shape.
const MOST_FILLED: i64 = 1 << 26;

/// Finds a constant that is external, has the wrong size, or asks for a huge tensor; names it in a clause.
pub(super) fn damage(graph: &pb::GraphProto) -> Option<String> {
    graphs(graph).into_iter().find_map(|(graph, _)| {
        constants(graph)
            .find_map(|(name, tensor)| tensor_damage(name, tensor))
            .or_else(|| huge_fill(graph))
    })
}

/// `graph`, and the graphs in its nodes with how deep each lies; `graph` itself, at 0, comes first.
fn graphs(graph: &pb::GraphProto) -> Vec<(&pb::GraphProto, usize)> {
    let mut found = vec![(graph, 0)];
    let mut next = 0;
    while let Some(&(graph, depth)) = found.get(next) {
        let inner = graph.node.iter().flat_map(inner_graphs);
        found.extend(inner.map(|graph| (graph, depth + 1)));
        next += 1;
    }
    found
}

/// The graphs in the attributes of a node, such as the branches of an `If`.
fn inner_graphs(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// The name of a node for messages.
fn said(node: &pb::NodeProto) -> String {
    let output = node.output.first().filter(|_| node.name.is_empty());
    let name = output.unwrap_or(&node.name);
    format!("the node `{name}` ({})", node.op_type)
}

/// Weights, and what `Constant` nodes make.
fn constants(graph: &pb::GraphProto) -> impl Iterator<Item = (&str, &pb::TensorProto)> {
    let values = graph.node.iter().flat_map(|node| {
        let tensors = node
            .attribute
            .iter()
            .flat_map(|a| a.t.iter().chain(&a.tensors));
        tensors.map(|tensor| (node.output.first().map_or("", String::as_str), tensor))
    });
    let weights = graph.initializer.iter();
    weights.map(|t| (t.name.as_str(), t)).chain(values)
}

fn tensor_damage(name: &str, tensor: &pb::TensorProto) -> Option<String> {
    if !tensor.external_data.is_empty()
        || tensor.data_location == Some(DataLocation::External as i32)
    {
        return Some(format!(
            "the weights of `{name}` are in another file, but a saved model is a single file; give the one that `fit` or `train` wrote"
        ));
    }
    let claimed = tensor
        .dims
        .iter()
        .try_fold(1_i64, |values, &dim| values.checked_mul(dim))
        .filter(|&values| values >= 0);
    // Types of fewer bits and texts are left to the engine.
    let size = value_bytes(tensor.data_type)?;
    let found = match tensor.raw_data.len() {
        0 => typed_values(tensor),
        bytes if bytes % size == 0 => bytes / size,
        bytes => {
            return Some(format!(
                "the tensor `{name}` has {bytes} bytes, which are no whole values of {size}; the file is damaged"
            ));
        }
    };
    match claimed {
        Some(values) if u64::try_from(values) == Ok(found as u64) => None,
        _ => Some(format!(
            "the tensor `{name}` has the shape {:?} but {found} values; the file is damaged",
            tensor.dims
        )),
    }
}

/// Number of the values that a tensor has in the field of its type, as `onnx.proto` assigns them.
fn typed_values(tensor: &pb::TensorProto) -> usize {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => tensor.float_data.len(),
        Ok(DataType::Double) => tensor.double_data.len(),
        Ok(DataType::Int64) => tensor.int64_data.len(),
        Ok(DataType::Uint32 | DataType::Uint64) => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    }
}

/// Bytes of one value of a tensor's type; `None` for texts and for types of fewer bits than a byte has.
pub(super) fn value_bytes(data_type: i32) -> Option<usize> {
    match DataType::try_from(data_type) {
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => Some(4),
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64) => Some(8),
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => Some(2),
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => Some(1),
        _ => None,
    }
}

/// Finds a node that makes a huge tensor of a constant shape.
fn huge_fill(graph: &pb::GraphProto) -> Option<String> {
    let shapes: HashMap<&str, i64> = constants(graph)
        .filter(|(_, tensor)| tensor.data_type == DataType::Int64 as i32 && tensor.dims.len() == 1)
        .map(|(name, tensor)| {
            let raw = tensor.raw_data.as_chunks::<8>().0.iter();
            let dims = raw
                .map(|bytes| i64::from_le_bytes(*bytes))
                .chain(tensor.int64_data.iter().copied());
            let values = dims.fold(1_i64, |values, dim| values.saturating_mul(dim.max(1)));
            (name, values)
        })
        .collect();
    graph.node.iter().find_map(|node| {
        let place = match node.op_type.as_str() {
            "ConstantOfShape" => 0,
            "Expand" | "Tile" => 1,
            _ => return None,
        };
        let values = *shapes.get(node.input.get(place)?.as_str())?;
        (values > MOST_FILLED).then(|| {
            format!(
                "{} creates a tensor of {values} values, too large for a backbone",
                said(node)
            )
        })
    })
}

/// The order in which nodes can be executed, that of the file where it is one.
///
/// # Errors
/// A clause that names a node which waits for itself.
pub(super) fn execution_order(graph: &pb::GraphProto) -> Result<Vec<usize>, String> {
    let makers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(i, node)| node.output.iter().map(move |o| (o.as_str(), i)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let mut waits = vec![0; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (i, node) in graph.node.iter().enumerate() {
        let captured = captures(node);
        for maker in node
            .input
            .iter()
            .chain(&captured)
            .filter_map(|input| makers.get(input.as_str()))
        {
            waits[i] += 1;
            readers[*maker].push(i);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..waits.len())
        .filter(|&i| waits[i] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &reader in &readers[i] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match (0..waits.len()).find(|&i| waits[i] > 0) {
        None => Ok(order),
        Some(i) => Err(format!(
            "its graph has a cycle: {} depends on its own output",
            said(&graph.node[i])
        )),
    }
}
