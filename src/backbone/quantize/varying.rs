//! Finds the tensors of a graph that depend on the image. No file access.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::OnnxGraph;

/// Operators whose results are not float32 numbers, whatever they are given, or may be anything.
const NOT_FLOAT: [&str; 22] = [
    "ArgMax",
    "ArgMin",
    "NonZero",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "And",
    "Or",
    "Not",
    "Xor",
    "IsNaN",
    "IsInf",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "NonMaxSuppression",
    "If",
    "Loop",
    "Scan",
];

/// Names of the float32 tensors whose values depend on the image's.
///
/// A shape does not: positions, tokens and masks that are made of shapes and weights are the same for every image.
pub(super) fn varying(graph: &OnnxGraph) -> HashSet<String> {
    let mut is_float: HashMap<String, bool> = graph
        .weight_shapes()
        .into_keys()
        .map(|name| (name.clone(), graph.is_float_constant(&name)))
        .collect();
    let mut varying: HashSet<String> = HashSet::new();
    if let Ok((input, _)) = graph.input() {
        is_float.insert(input.clone(), true);
        varying.insert(input);
    }
    for (place, node) in graph.nodes().iter().enumerate() {
        let attributes = graph.attributes(place);
        let op = node.op_type.as_str();
        // What a subgraph reads from outside is not among its node's inputs.
        let has_subgraph = matches!(op, "If" | "Loop" | "Scan");
        let reads = has_subgraph || node.inputs.iter().any(|input| varying.contains(input));
        let varies = reads && !matches!(op, "Shape" | "Size");
        let like = |place: usize| {
            let input = node.inputs.get(place);
            input.is_some_and(|input| is_float.get(input) == Some(&true))
        };
        let float = match op {
            "Cast" => attributes.int("to") == Some(DataType::Float as i64),
            "CastLike" | "Where" => like(1),
            "OneHot" => like(2),
            "Shape" | "Size" => false,
            // A constant, or float32 zeros.
            "ConstantOfShape" => attributes
                .tensor("value")
                .is_none_or(|value| value.data_type == DataType::Float as i32),
            _ if NOT_FLOAT.contains(&op) || op.starts_with("QLinear") => false,
            "Constant" => continue,
            _ => like(0),
        };
        for (number, output) in node.outputs.iter().enumerate() {
            let is_index = number > 0 && matches!(op, "MaxPool" | "TopK");
            is_float.insert(output.clone(), float && !is_index);
            if varies {
                varying.insert(output.clone());
            }
        }
    }
    varying.retain(|tensor| is_float.get(tensor) == Some(&true));
    varying
}
