//! Replaces `If` operators with a known condition by the branch taken. No file access.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::walk::{self, rename, subgraphs_mut};

/// Replaces every `If` with a constant condition by the branch taken, at any depth.
pub(super) fn fold(graph: &mut pb::GraphProto) {
    fold_in(graph, &HashMap::new(), &mut |_| None);
}

/// Like [`fold`], where `decide` knows the values of more conditions by the names of their tensors. Returns whether
/// anything changed.
pub(in crate::backbone) fn fold_decided(
    graph: &mut pb::GraphProto,
    decide: &mut impl FnMut(&str) -> Option<bool>,
) -> bool {
    fold_in(graph, &HashMap::new(), decide)
}

fn fold_in(
    graph: &mut pb::GraphProto,
    outside: &HashMap<String, bool>,
    decide: &mut impl FnMut(&str) -> Option<bool>,
) -> bool {
    let has_if = graph.node.iter().any(|node| !is_plain(node));
    if !has_if {
        return false;
    }
    let mut flags = outside.clone();
    for tensor in &graph.initializer {
        flags.extend(flag(tensor).map(|value| (tensor.name.clone(), value)));
    }
    let mut taken = HashSet::new();
    walk::names(graph, &mut taken);
    let mut changed = false;
    // The next node last; what a branch holds is looked at in turn.
    let mut todo: Vec<pb::NodeProto> = std::mem::take(&mut graph.node);
    todo.reverse();
    while let Some(mut node) = todo.pop() {
        note_flag(&node, &mut flags);
        let condition = node.input.first().map_or("", String::as_str);
        let known = match node.op_type.as_str() {
            "If" => flags.get(condition).copied().or_else(|| decide(condition)),
            _ => None,
        };
        let branch = known.and_then(|value| take_branch(&mut node, value));
        match branch {
            Some(branch) => {
                changed = true;
                let nodes = written_out(branch, &node, &mut taken, &mut graph.initializer);
                todo.extend(nodes.into_iter().rev());
            }
            None => {
                for inner in subgraphs_mut(&mut node) {
                    changed |= fold_in(inner, &flags, decide);
                }
                graph.node.push(node);
            }
        }
    }
    changed
}

fn is_plain(node: &pb::NodeProto) -> bool {
    walk::subgraphs(node).next().is_none()
}

/// The value of a constant of one truth value.
fn flag(tensor: &pb::TensorProto) -> Option<bool> {
    let is_one = tensor.dims.iter().all(|&dim| dim == 1);
    if !is_one || tensor.data_type != DataType::Bool as i32 {
        return None;
    }
    match (&tensor.raw_data[..], &tensor.int32_data[..]) {
        ([value], []) => Some(*value != 0),
        ([], [value]) => Some(*value != 0),
        _ => None,
    }
}

/// Notes the value of what `node` makes, if it is known.
fn note_flag(node: &pb::NodeProto, flags: &mut HashMap<String, bool>) {
    let Some(output) = node.output.first() else {
        return;
    };
    let input = |place: usize| flags.get(node.input.get(place)?).copied();
    let value = match node.op_type.as_str() {
        "Constant" => {
            let value = node.attribute.iter().find(|a| a.name == "value");
            value.and_then(|a| flag(a.t.as_ref()?))
        }
        "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" => input(0),
        "Not" => input(0).map(|value| !value),
        "And" => input(0).zip(input(1)).map(|(a, b)| a && b),
        "Or" => input(0).zip(input(1)).map(|(a, b)| a || b),
        "Xor" => input(0).zip(input(1)).map(|(a, b)| a != b),
        _ => None,
    };
    flags.extend(value.map(|value| (output.clone(), value)));
}

fn take_branch(node: &mut pb::NodeProto, value: bool) -> Option<pb::GraphProto> {
    let name = if value { "then_branch" } else { "else_branch" };
    let attribute = node.attribute.iter_mut().find(|a| a.name == name)?;
    // A branch takes nothing but what it captures, and gives what the operator gives.
    let fits = |g: &pb::GraphProto| g.input.is_empty() && g.output.len() >= node.output.len();
    attribute.g.take_if(|graph| fits(graph))
}

/// The operators of `branch`, to replace `node`; its weights go to `weights`.
fn written_out(
    mut branch: pb::GraphProto,
    node: &pb::NodeProto,
    taken: &mut HashSet<String>,
    weights: &mut Vec<pb::TensorProto>,
) -> Vec<pb::NodeProto> {
    let mut inner = HashSet::new();
    walk::names(&branch, &mut inner);
    inner.remove("");
    // Tensors of the two branches, and of different operators, may have the same names.
    let output = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() {
        output
    } else {
        &node.name
    };
    let mut names: HashMap<String, String> = HashMap::new();
    for old in inner {
        let mut new = format!("{name}/{old}");
        while !taken.insert(new.clone()) {
            new.push('_');
        }
        names.insert(old, new);
    }
    let mut copies = Vec::new();
    let mut made: HashSet<&str> = HashSet::new();
    let node_outputs: HashSet<&String> = branch.node.iter().flat_map(|n| &n.output).collect();
    for (wanted, result) in node.output.iter().zip(&branch.output) {
        let is_made = node_outputs.contains(&result.name) && made.insert(&result.name);
        if wanted.is_empty() {
            continue;
        }
        if is_made {
            names.insert(result.name.clone(), wanted.clone());
        } else {
            let from = names.get(&result.name).unwrap_or(&result.name);
            copies.push(pb::NodeProto {
                op_type: "Identity".to_owned(),
                name: wanted.clone(),
                input: vec![from.clone()],
                output: vec![wanted.clone()],
                ..Default::default()
            });
        }
    }
    for inner in &mut branch.node {
        rename(inner, &names);
        if !inner.name.is_empty() {
            inner.name = format!("{name}/{}", inner.name);
        }
    }
    for tensor in &mut branch.initializer {
        if let Some(new) = names.get(&tensor.name) {
            tensor.name.clone_from(new);
        }
    }
    weights.append(&mut branch.initializer);
    branch.node.extend(copies);
    branch.node
}
