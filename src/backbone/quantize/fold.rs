//! Prepares a float graph for quantisation: folds BatchNorm into the preceding weights and removes nodes that do nothing.
//! No file access.

use std::collections::HashMap;

use tract_onnx::pb;

use super::constants::move_weights;
use crate::backbone::onnx::OnnxGraph;

/// `epsilon` of a BatchNormalization that does not give it.
const EPSILON: f32 = 1e-5;

/// Folds every BatchNormalization that alone reads the result of a convolution into that convolution's weights
/// and bias, takes out `Identity` and `Dropout`, and puts weights into the form in which they are used.
pub(super) fn folded(graph: &OnnxGraph) -> OnnxGraph {
    let mut folded = graph.clone();
    drop_passing(&mut folded);
    move_weights(&mut folded);
    fold_batch_norms(&mut folded);
    drop_unread(&mut folded);
    folded
}

/// How often each tensor is read, the graph's outputs included.
pub(super) fn readers(graph: &OnnxGraph) -> HashMap<String, usize> {
    let mut readers = HashMap::new();
    for node in graph.nodes() {
        for input in node.inputs {
            *readers.entry(input).or_default() += 1;
        }
    }
    for output in graph.outputs() {
        *readers.entry(output).or_default() += 1;
    }
    readers
}

/// Removes nodes that return their input; their readers read that input.
fn drop_passing(graph: &mut OnnxGraph) {
    let outputs = graph.outputs();
    let mut passed: HashMap<String, String> = HashMap::new();
    graph.graph_mut().node.retain_mut(|node| {
        for input in &mut node.input {
            if let Some(before) = passed.get(input) {
                input.clone_from(before);
            }
        }
        let passes = matches!(node.op_type.as_str(), "Identity" | "Dropout");
        match (node.input.first(), node.output.first()) {
            (Some(input), Some(output)) if passes && !outputs.contains(output) => {
                passed.insert(output.clone(), input.clone());
                false
            }
            _ => true,
        }
    });
}

fn fold_batch_norms(graph: &mut OnnxGraph) {
    let readers = readers(graph);
    let nodes = graph.nodes();
    let alone = |name: &str| readers.get(name) == Some(&1);
    let makers: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(i, node)| node.outputs.iter().map(move |o| (o.as_str(), i)))
        .collect();
    let mut gone = Vec::new();
    for (place, norm) in nodes.iter().enumerate() {
        let Some(&before) = norm.inputs.first().and_then(|x| makers.get(x.as_str())) else {
            continue;
        };
        let convolution = &nodes[before];
        if norm.op_type != "BatchNormalization"
            || convolution.op_type != "Conv"
            || !alone(&norm.inputs[0])
        {
            continue;
        }
        let constant = |i: usize| graph.weight_values(norm.inputs.get(i)?);
        let (Some(gamma), Some(beta), Some(mean), Some(variance)) =
            (constant(1), constant(2), constant(3), constant(4))
        else {
            continue;
        };
        let dims = graph.constant_dims(&convolution.inputs[1]);
        let Some(mut weights) = graph.weight_values(&convolution.inputs[1]) else {
            continue;
        };
        let channels = gamma.len();
        let has_bias = convolution.inputs.get(2).is_some_and(|b| !b.is_empty());
        let bias = match has_bias {
            true => graph.weight_values(&convolution.inputs[2]),
            false => Some(vec![0.0; channels]),
        };
        let Some(mut bias) = bias.filter(|bias| bias.len() == channels) else {
            continue;
        };
        let lengths = [beta.len(), mean.len(), variance.len()];
        let fits = dims.first() == Some(&channels) && lengths.iter().all(|&n| n == channels);
        if !fits || channels == 0 || convolution.outputs.len() != 1 {
            continue;
        }
        let epsilon = graph.attributes(place).float("epsilon").unwrap_or(EPSILON);
        let each = weights.len() / channels;
        for (c, (kernel, bias)) in weights.chunks_exact_mut(each).zip(&mut bias).enumerate() {
            let deviation = (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
            let scale = f64::from(gamma[c]) / deviation;
            for weight in kernel {
                *weight = (f64::from(*weight) * scale) as f32;
            }
            *bias = ((f64::from(*bias) - f64::from(mean[c])) * scale + f64::from(beta[c])) as f32;
        }
        let kernel = graph.fresh_name(&format!("{}/folded_kernel", convolution.name));
        graph.add_weight(&kernel, &dims, weights.into_iter());
        let bias_name = graph.fresh_name(&format!("{}/folded_bias", convolution.name));
        graph.add_weight(&bias_name, &[channels], bias.into_iter());
        let node = &mut graph.graph_mut().node[before];
        node.input.truncate(1);
        node.input.extend([kernel, bias_name]);
        node.output.clone_from(&norm.outputs);
        node.output.truncate(1);
        gone.push(place);
    }
    let mut place = 0;
    graph.graph_mut().node.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
}

/// Removes unused weights and constants.
pub(super) fn drop_unread(graph: &mut OnnxGraph) {
    let readers = readers(graph);
    let is_read = |name: &str| readers.contains_key(name);
    let proto = graph.graph_mut();
    let unread = |node: &pb::NodeProto| {
        node.op_type == "Constant" && !node.output.iter().any(|output| is_read(output))
    };
    proto.node.retain(|node| !unread(node));
    let gone: Vec<String> = proto
        .initializer
        .extract_if(.., |tensor| !is_read(&tensor.name))
        .map(|tensor| tensor.name)
        .collect();
    proto.input.retain(|input| !gone.contains(&input.name));
    proto.value_info.clear();
}
