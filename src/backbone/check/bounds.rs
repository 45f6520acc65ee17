//! Checks that the numbers in a graph are plausible for an image network. An engine trusts attributes: a window of
//! 10¹² pixels, an axis of -9, or a list that names an axis twice make it loop or fill the memory.
//!
//! Every check takes time proportional to the file size.

use std::collections::HashSet;

use tract_onnx::pb;

use super::ranks::{Facts, Rank};
use super::{graphs, inner_graphs, said};

/// Default maximum number of nodes of a graph, including its subgraphs; see [`MOST_NODES_VARIABLE`]. Large networks have
/// about 5,000.
const MOST_NODES: usize = 10_000;

/// The environment variable that sets another number.
const MOST_NODES_VARIABLE: &str = "TL_MAX_NODES";

/// Maximum number of inputs, and of outputs, of one node.
const MOST_TENSORS: usize = 1_024;

/// Most inputs and outputs of all nodes together, for each node that a graph may have.
const MOST_TENSORS_PER_NODE: usize = 8;

/// How deep graphs may be nested in nodes.
const MOST_NESTED: usize = 4;

/// Maximum length of a list attribute, such as `perm`.
const MOST_IN_A_LIST: usize = 64;

/// Maximum number of dimensions of a tensor.
const MOST_DIMENSIONS: usize = 32;

/// Largest extent of a window, stride or padding in pixels: many times the largest input.
const MOST_PIXELS: i64 = 1 << 16;

/// Most steps that all windows of a graph may take to lay out. The engine compares each place of a window with each
/// place of the padding: some 2,400 steps for 7 x 7 pixels with 3 of padding, 900,000 for 31 x 31 with 15.
const MOST_LAYOUT_STEPS: u64 = 1 << 27;

/// What is out of bounds in `graph`, as a clause. Nodes must be in execution order.
pub(in crate::backbone) fn excess(graph: &pb::GraphProto) -> Option<String> {
    let most_nodes = match most_nodes() {
        Ok(number) => number,
        Err(problem) => return Some(problem),
    };
    count_excess(graph, most_nodes).or_else(|| value_excess(graph, None, &mut 0))
}

fn most_nodes() -> Result<usize, String> {
    let Ok(text) = std::env::var(MOST_NODES_VARIABLE) else {
        return Ok(MOST_NODES);
    };
    let number = text.trim().parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        format!(
            "{MOST_NODES_VARIABLE} is `{text}`; it must be a number of nodes, such as {MOST_NODES}"
        )
    })
}

/// Numbers of nodes, tensors and dimensions, and names that are given twice.
fn count_excess(graph: &pb::GraphProto, most_nodes: usize) -> Option<String> {
    let (mut nodes, mut tensors) = (0, 0);
    for (graph, depth) in graphs(graph) {
        if depth > MOST_NESTED {
            return Some(format!(
                "its subgraphs are nested more than {MOST_NESTED} deep"
            ));
        }
        nodes += graph.node.len();
        if nodes > most_nodes {
            return Some(format!(
                "it has more than {most_nodes} nodes; if you trust its source, set {MOST_NODES_VARIABLE} to a larger number"
            ));
        }
        for node in &graph.node {
            let own = node.input.len().max(node.output.len());
            tensors += own;
            if own > MOST_TENSORS {
                return Some(format!(
                    "{} has {own} inputs or outputs; the limit is {MOST_TENSORS}",
                    said(node)
                ));
            }
        }
        if tensors > most_nodes.saturating_mul(MOST_TENSORS_PER_NODE) {
            return Some("its nodes have too many inputs".to_owned());
        }
        if let Some(problem) = repeated(graph) {
            return Some(problem);
        }
    }
    None
}

/// A name that two weights, or two results, have.
fn repeated(graph: &pb::GraphProto) -> Option<String> {
    let mut made: HashSet<&str> = HashSet::new();
    let weights = graph.initializer.iter().map(|t| t.name.as_str());
    let results = graph.node.iter().flat_map(|n| &n.output);
    let names = weights.chain(results.map(String::as_str));
    let mut twice = names.filter(|name| !name.is_empty() && !made.insert(name));
    twice
        .next()
        .map(|name| format!("two of its nodes or weights define the tensor `{name}`"))
}

/// Attributes, ranks and windows of the nodes of `graph`, which stands in a graph of which `outer` is known. `steps` is
/// what windows have taken so far.
fn value_excess(graph: &pb::GraphProto, outer: Option<&Facts>, steps: &mut u64) -> Option<String> {
    let mut facts = Facts::of(graph, outer);
    for node in &graph.node {
        let rank = facts.learn(node);
        if let Some(rank) = rank.filter(|rank| rank.most > MOST_DIMENSIONS) {
            return Some(format!(
                "{} creates a tensor of {} dimensions; the limit is {MOST_DIMENSIONS}",
                said(node),
                rank.most
            ));
        }
        if let Some(problem) = attribute_excess(node, &facts) {
            return Some(format!("{} {problem}", said(node)));
        }
        match layout_steps(node, &facts) {
            Ok(own) => *steps = steps.saturating_add(own),
            Err(problem) => return Some(format!("{} {problem}", said(node))),
        }
        if *steps > MOST_LAYOUT_STEPS {
            return Some(format!(
                "{} has a window or padding far too large for an image network",
                said(node)
            ));
        }
        let inner = inner_graphs(node).find_map(|g| value_excess(g, Some(&facts), steps));
        if inner.is_some() {
            return inner;
        }
    }
    None
}

/// The range of the attribute `name`, of each of its numbers.
fn range(name: &str) -> Option<std::ops::RangeInclusive<i64>> {
    Some(match name {
        "kernel_shape" | "strides" | "dilations" => 1..=MOST_PIXELS,
        "pads" | "output_padding" => -MOST_PIXELS..=MOST_PIXELS,
        "output_shape" | "shape" => -1..=1 << 26,
        "blocksize" | "block_size" | "size" => 1..=4_096,
        "group" | "num_groups" => 1..=1 << 20,
        "hidden_size" => 1..=1 << 16,
        "num_outputs" => 1..=MOST_TENSORS as i64,
        "sample_size" => 0..=1 << 20,
        "axis" | "axes" | "batch_axis" | "time_axis" | "batch_dims" | "scan_input_axes"
        | "scan_output_axes" => -(MOST_DIMENSIONS as i64)..=MOST_DIMENSIONS as i64,
        _ => return None,
    })
}

fn attribute_excess(node: &pb::NodeProto, facts: &Facts) -> Option<String> {
    let is_free = node.op_type == "Constant" || node.domain == "ai.onnx.ml";
    for attribute in &node.attribute {
        let name = attribute.name.as_str();
        let lists = [attribute.ints.len(), attribute.floats.len()];
        let most = match name {
            "split" => MOST_TENSORS,
            _ => MOST_IN_A_LIST,
        };
        if !is_free && lists.iter().any(|&length| length > most) {
            return Some(format!("has too many values in `{name}`"));
        }
        let numbers = || attribute.ints.iter().copied().chain([attribute.i]);
        let is_list = !attribute.ints.is_empty();
        let is_int = attribute.r#type == pb::attribute_proto::AttributeType::Int as i32;
        let own = || numbers().take(attribute.ints.len() + usize::from(!is_list));
        if let Some(range) = range(name)
            && (is_list || attribute.i != 0 || is_int)
            && let Some(wrong) = own().find(|number| !range.contains(number))
        {
            return Some(format!(
                "has {wrong} in `{name}`, which must be from {} to {}",
                range.start(),
                range.end()
            ));
        }
        if name == "perm" && !is_permutation(&attribute.ints) {
            return Some(format!(
                "permutes the axes {:?}; each axis must occur once",
                attribute.ints
            ));
        }
    }
    axis_excess(node, facts)
}

fn is_permutation(axes: &[i64]) -> bool {
    let mut seen = vec![false; axes.len()];
    axes.iter().all(|&axis| {
        let place = usize::try_from(axis).ok();
        let place = place.and_then(|place| seen.get_mut(place));
        place.is_some_and(|seen| !std::mem::replace(seen, true))
    })
}

/// An axis that the first input of a node does not have.
fn axis_excess(node: &pb::NodeProto, facts: &Facts) -> Option<String> {
    let (axis, is_given) = match node.attribute.iter().find(|a| a.name == "axis") {
        Some(attribute) => (attribute.i, true),
        None => (-1, false),
    };
    let rank = node.input.first().map_or(Rank::UNKNOWN, |x| facts.rank(x));
    let known = i64::try_from(rank.most).ok().filter(|_| rank.exact);
    // Where the engine counts these from the end of too few dimensions, it counts to 2⁶⁴.
    let added = match node.op_type.as_str() {
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => Some(0),
        "OneHot" => Some(1),
        _ => None,
    };
    let is_in_range = match (known, added) {
        (Some(rank), Some(added)) => (-rank - added..rank + added).contains(&axis),
        // Some operators may name the axis after the last.
        (Some(rank), None) => !is_given || (-rank - 1..=rank + 1).contains(&axis),
        (None, Some(_)) => axis >= -1,
        (None, None) => true,
    };
    (!is_in_range).then(|| match known {
        Some(rank) => format!("has the axis {axis}, but its input has {rank} dimensions"),
        None => format!("has the axis {axis}, but the rank of its input is unknown"),
    })
}

/// Steps that the window of a node takes to lay out; 0 for a node without one.
fn layout_steps(node: &pb::NodeProto, facts: &Facts) -> Result<u64, String> {
    let weights = match node.op_type.as_str() {
        "Conv" | "ConvInteger" | "ConvTranspose" => Some(1),
        "QLinearConv" => Some(3),
        "MaxPool" | "AveragePool" | "LpPool" => None,
        _ => return Ok(0),
    };
    let ints = |name: &str| {
        let attribute = node.attribute.iter().find(|a| a.name == name);
        attribute.map_or(&[][..], |a| &a.ints)
    };
    let given = ints("kernel_shape");
    let weights = weights.and_then(|place| facts.dims(node.input.get(place)?));
    let of_weights = weights.and_then(|dims| dims.get(2..)).unwrap_or(&[]);
    let (strides, dilations, pads) = (ints("strides"), ints("dilations"), ints("pads"));
    let is_padded = node
        .attribute
        .iter()
        .any(|a| a.name == "auto_pad" && a.s.starts_with(b"SAME"));
    let at = |list: &[i64], place: usize| list.get(place).map_or(0, |n| n.unsigned_abs());
    let axes = given.len().max(of_weights.len());
    let mut steps = 1_u64;
    for axis in 0..axes {
        let window = at(given, axis).max(at(of_weights, axis)).max(1);
        let extent = (window - 1).saturating_mul(at(dilations, axis).max(1)) + 1;
        if extent > MOST_PIXELS.unsigned_abs() {
            return Err(format!(
                "has a window of {extent} pixels; the limit is {MOST_PIXELS}"
            ));
        }
        let padding = at(pads, axis) + at(pads, axis + pads.len() / 2);
        let padded = match is_padded {
            true => extent,
            false => padding,
        };
        let places = padded.div_ceil(at(strides, axis).max(1)) + 2;
        // Without padding, the window is laid out once.
        let places = if padded == 0 { 1 } else { places };
        steps = steps.saturating_mul(window.saturating_mul(places));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests;
