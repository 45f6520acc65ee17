//! Rewrites `Attention` (one operator since opset 23) as matrix products and a softmax. No file access.

use std::collections::HashMap;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto;

use super::build::{Replacement, floats, int, ints, is_own_domain, value};
use crate::backbone::attributes::Attributes;
use crate::backbone::onnx::walk::{each_graph_mut, each_node};

/// Declared facts about a tensor.
#[derive(Clone, Debug, Default)]
struct Told {
    rank: Option<usize>,
    /// Length of the axis of heads of a tensor with four dimensions.
    heads: Option<i64>,
    is_flag: bool,
}

/// Rewrites every `Attention` of `graph` and its subgraphs as simpler operators.
///
/// # Errors
/// A clause that names a node with cached keys of earlier calls, or of an unsupported form.
pub(super) fn decompose(graph: &mut pb::GraphProto) -> Result<(), String> {
    let mut has_some = false;
    each_node(graph, &mut |node| has_some |= is_attention(node));
    if !has_some {
        return Ok(());
    }
    let mut problem = None;
    each_graph_mut(graph, &mut |graph| {
        let told = told(graph);
        let nodes = std::mem::take(&mut graph.node);
        for node in nodes {
            match is_attention(&node).then(|| products(&node, &told)) {
                None => graph.node.push(node),
                Some(Ok(nodes)) => graph.node.extend(nodes),
                Some(Err(clause)) => {
                    problem = Some(format!(
                        "the operator Attention of the node `{}` {clause}; export the model with opset 22 or below",
                        node.name
                    ));
                    graph.node.push(node);
                }
            }
        }
    });
    problem.map_or(Ok(()), Err)
}

fn is_attention(node: &pb::NodeProto) -> bool {
    node.op_type == "Attention" && is_own_domain(&node.domain)
}

/// What the file says of the tensors of a graph, and what its operators tell.
fn told(graph: &pb::GraphProto) -> HashMap<String, Told> {
    let mut told: HashMap<String, Told> = HashMap::new();
    let values = graph.value_info.iter().chain(&graph.input);
    for value in values {
        let kind = value.r#type.as_ref().and_then(|t| t.value.as_ref());
        let Some(type_proto::Value::TensorType(tensor)) = kind else {
            continue;
        };
        let dims = tensor.shape.as_ref().map(|shape| &shape.dim);
        let heads = dims
            .filter(|dims| dims.len() == 4)
            .and_then(|dims| match dims[1].value {
                Some(dimension::Value::DimValue(heads)) if heads > 0 => Some(heads),
                _ => None,
            });
        let entry = Told {
            rank: dims.map(Vec::len),
            heads,
            is_flag: tensor.elem_type == DataType::Bool as i32,
        };
        told.insert(value.name.clone(), entry);
    }
    for tensor in &graph.initializer {
        let is_flag = tensor.data_type == DataType::Bool as i32;
        let entry = told.entry(tensor.name.clone()).or_default();
        entry.rank = Some(tensor.dims.len());
        entry.is_flag = is_flag;
    }
    for node in &graph.node {
        let is_flag = match node.op_type.as_str() {
            "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "Not" | "And"
            | "Or" | "Xor" | "IsNaN" | "IsInf" => true,
            "Cast" => Attributes(&node.attribute).int("to") == Some(DataType::Bool as i64),
            "Constant" | "ConstantOfShape" => {
                let value = node.attribute.iter().find(|a| a.name == "value");
                let tensor = value.and_then(|a| a.t.as_ref());
                tensor.is_some_and(|t| t.data_type == DataType::Bool as i32)
            }
            "Where" => node.input.get(1).is_some_and(|i| flagged(&told, i)),
            "Identity" | "Reshape" | "Expand" | "Unsqueeze" | "Squeeze" | "Slice" | "Gather"
            | "Concat" | "Transpose" | "Tile" | "Trilu" | "Pad" => {
                node.input.first().is_some_and(|i| flagged(&told, i))
            }
            _ => false,
        };
        let perm = match node.op_type.as_str() {
            "Transpose" => Attributes(&node.attribute).ints("perm").len(),
            _ => 0,
        };
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            let entry = told.entry(output.clone()).or_default();
            entry.is_flag |= is_flag;
            if perm > 0 {
                entry.rank = Some(perm);
            }
        }
    }
    told
}

fn flagged(told: &HashMap<String, Told>, name: &str) -> bool {
    told.get(name).is_some_and(|t| t.is_flag)
}

/// The operators of one `Attention`.
fn products(
    node: &pb::NodeProto,
    told: &HashMap<String, Told>,
) -> Result<Vec<pb::NodeProto>, String> {
    let attributes = Attributes(&node.attribute);
    let input = |place: usize| node.input.get(place).filter(|name| !name.is_empty());
    let (Some(query), Some(key), Some(values), Some(output)) =
        (input(0), input(1), input(2), node.output.first())
    else {
        return Err("lacks a query, key or value".into());
    };
    if (4..7).any(|place| input(place).is_some()) {
        return Err("uses a key/value cache, which is not supported".into());
    }
    if node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("has more than one output, which is not supported".into());
    }
    let is_windowed = ["left_window_size", "right_window_size"]
        .iter()
        .any(|name| attributes.int(name).is_some_and(|size| size >= 0));
    if is_windowed {
        return Err("uses a sliding window, which is not supported".into());
    }
    let heads = [
        attributes.int("q_num_heads"),
        attributes.int("kv_num_heads"),
    ];
    let heads = heads.map(|heads| heads.filter(|&h| h > 0));
    let is_flat = match told.get(query).and_then(|t| t.rank) {
        Some(rank) => rank == 3,
        None => heads[0].is_some(),
    };
    let mut r = Replacement::of(output);
    // [N, heads, length, size]
    let (mut q, mut k, mut v) = (query.clone(), key.clone(), values.clone());
    if is_flat {
        let [Some(of_query), Some(of_key)] = heads else {
            return Err("does not state its number of heads".into());
        };
        q = split_heads(&mut r, &q, of_query);
        k = split_heads(&mut r, &k, of_key);
        v = split_heads(&mut r, &v, of_key);
        if of_query != of_key {
            if of_query % of_key != 0 {
                return Err(format!("has {of_query} heads for {of_key} of its keys"));
            }
            let repeated: Vec<i64> = (0..of_query).map(|head| head * of_key / of_query).collect();
            let places = r.integers(&repeated);
            k = r.add("Gather", &[&k, &places], &[int("axis", 1)]);
            v = r.add("Gather", &[&v, &places], &[int("axis", 1)]);
        }
    } else {
        let known = |name: &str| told.get(name).and_then(|t| t.heads);
        let of_both = known(query).zip(known(key));
        if of_both.is_none_or(|(a, b)| a != b) {
            k = repeat_heads(&mut r, &q, &k);
            v = repeat_heads(&mut r, &q, &v);
        }
    }
    let scaled = match attributes.float("scale") {
        Some(scale) => {
            let scale = r.number(scale);
            r.add("Mul", &[&q, &scale], &[])
        }
        None => {
            let size = length(&mut r, &q, 3);
            let size = r.add("Cast", &[&size], &[int("to", DataType::Float as i64)]);
            let root = r.add("Sqrt", &[&size], &[]);
            r.add("Div", &[&q, &root], &[])
        }
    };
    let keys = r.add("Transpose", &[&k], &[ints("perm", &[0, 1, 3, 2])]);
    let mut scores = r.add("MatMul", &[&scaled, &keys], &[]);
    if let Some(cap) = attributes.float("softcap").filter(|&cap| cap > 0.0) {
        let cap = r.number(cap);
        scores = r.add("Div", &[&scores, &cap], &[]);
        scores = r.add("Tanh", &[&scores], &[]);
        scores = r.add("Mul", &[&scores, &cap], &[]);
    }
    if let Some(mask) = input(3) {
        let mask = match flagged(told, mask) {
            true => hidden(&mut r, mask),
            false => mask.clone(),
        };
        scores = r.add("Add", &[&scores, &mask], &[]);
    }
    if attributes.int("is_causal").is_some_and(|v| v != 0) {
        let (rows, columns) = (length(&mut r, &q, 2), length(&mut r, &k, 2));
        let shape = r.add("Concat", &[&rows, &columns], &[int("axis", 0)]);
        let ones = value(floats(&[1], &[1.0]));
        let ones = r.add("ConstantOfShape", &[&shape], &[ones]);
        let before = r.add("Trilu", &[&ones], &[int("upper", 0)]);
        let before = r.add("Cast", &[&before], &[int("to", DataType::Bool as i64)]);
        let mask = hidden(&mut r, &before);
        scores = r.add("Add", &[&scores, &mask], &[]);
    }
    let weights = r.add("Softmax", &[&scores], &[int("axis", -1)]);
    if is_flat {
        let result = r.add("MatMul", &[&weights, &v], &[]);
        let result = r.add("Transpose", &[&result], &[ints("perm", &[0, 2, 1, 3])]);
        let shape = r.integers(&[0, 0, -1]);
        r.make("Reshape", &[&result, &shape], &[], output);
    } else {
        r.make("MatMul", &[&weights, &v], &[], output);
    }
    Ok(r.nodes())
}

/// [N, length, heads · size] → [N, heads, length, size].
fn split_heads(r: &mut Replacement, tensor: &str, heads: i64) -> String {
    let shape = r.integers(&[0, 0, heads, -1]);
    let split = r.add("Reshape", &[tensor, &shape], &[]);
    r.add("Transpose", &[&split], &[ints("perm", &[0, 2, 1, 3])])
}

/// Repeats each head of `tensor` until there are as many as those of `query`: [N, k, length, size] → [N, q, length,
/// size].
fn repeat_heads(r: &mut Replacement, query: &str, tensor: &str) -> String {
    let (wanted, found) = (length(r, query, 1), length(r, tensor, 1));
    let times = r.add("Div", &[&wanted, &found], &[]);
    let one = r.integers(&[1]);
    let repeats = r.add(
        "Concat",
        &[&one, &one, &times, &one, &one],
        &[int("axis", 0)],
    );
    let axes = r.integers(&[2]);
    let lifted = r.add("Unsqueeze", &[tensor, &axes], &[]);
    let repeated = r.add("Tile", &[&lifted, &repeats], &[]);
    let (batch, rows, size) = (
        length(r, tensor, 0),
        length(r, tensor, 2),
        length(r, tensor, 3),
    );
    let shape = r.add(
        "Concat",
        &[&batch, &wanted, &rows, &size],
        &[int("axis", 0)],
    );
    r.add("Reshape", &[&repeated, &shape], &[])
}

/// The length of an axis, as a vector of one integer.
fn length(r: &mut Replacement, tensor: &str, axis: i64) -> String {
    let shape = r.add("Shape", &[tensor], &[]);
    let place = r.integers(&[axis]);
    r.add("Gather", &[&shape, &place], &[int("axis", 0)])
}

/// What is added to a score: 0 where `seen` is true, −∞ where it is not.
fn hidden(r: &mut Replacement, seen: &str) -> String {
    let (zero, infinite) = (r.number(0.0), r.number(f32::NEG_INFINITY));
    r.add("Where", &[seen, &zero, &infinite], &[])
}
