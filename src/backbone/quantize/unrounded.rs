//! A quantised graph without rounding, for comparison. No file access.

use std::collections::HashMap;

use crate::backbone::onnx::OnnxGraph;

/// `graph` with every tensor as it is before it is rounded: the same layers with floats for integers.
pub(in crate::backbone) fn unrounded(graph: &OnnxGraph) -> OnnxGraph {
    let mut graph = graph.clone();
    let nodes = graph.nodes();
    let rounded: HashMap<&str, &str> = nodes
        .iter()
        .filter(|node| node.op_type == "QuantizeLinear")
        .filter_map(|node| {
            Some((
                node.outputs.first()?.as_str(),
                node.inputs.first()?.as_str(),
            ))
        })
        .collect();
    let mut before: HashMap<String, String> = HashMap::new();
    for node in nodes.iter().filter(|n| n.op_type == "DequantizeLinear") {
        if let (Some(input), Some(output)) = (node.inputs.first(), node.outputs.first())
            && let Some(&float) = rounded.get(input.as_str())
        {
            let float = before.get(float).cloned().unwrap_or(float.to_owned());
            before.insert(output.clone(), float);
        }
    }
    for node in &mut graph.graph_mut().node {
        for input in &mut node.input {
            if let Some(float) = before.get(input) {
                input.clone_from(float);
            }
        }
    }
    graph
}
