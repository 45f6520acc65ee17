//! Tokens, the transformer counterpart of feature maps. No file access.

use std::collections::HashSet;

use super::card::Pool;
use super::flow::Flow;
use super::onnx::{OnnxGraph, OnnxNode};

/// A class token is looked for as far back as this.
const MOST_NODES: usize = 20_000;

/// How tensors of these shapes, without the batch, are pooled where nobody says how: tokens by their class token, if
/// all tokens have one and there are no maps beside them; everything else by the mean.
pub(super) fn default_pool(graph: &OnnxGraph, tensors: &[(&str, &[usize])]) -> Pool {
    let nodes = graph.nodes();
    let flow = Flow::of(graph, &nodes);
    let mut pool = Pool::Avg;
    for (tensor, shape) in tensors {
        match shape.len() {
            2 if has_class_token(graph, &flow, tensor) => pool = Pool::Cls,
            2 | 3 => return Pool::Avg,
            _ => {}
        }
    }
    pool
}

/// Height and width of the images that a graph takes whose tokens have learnt positions, in pixels: so many patches
/// as there are positions, less those of class tokens and registers. `None` if it has none.
pub(super) fn picture_side(graph: &OnnxGraph) -> Option<u32> {
    /// Numbers of tokens that are not patches: the class token, none, one for distillation, four registers.
    const BESIDE: [usize; 4] = [1, 0, 2, 5];
    let nodes = graph.nodes();
    let shapes = graph.weight_shapes();
    let (place, weight) = nodes.iter().enumerate().find_map(|(place, node)| {
        let weight = shapes.get(node.inputs.get(1)?)?;
        (node.op_type == "Conv").then_some((place, weight))
    })?;
    let [width, 3, patch, patch_width] = weight[..] else {
        return None;
    };
    let strides = graph.attributes(place).ints("strides");
    let is_patches = patch == patch_width && patch > 1 && strides == [patch as i64; 2];
    let count = shapes.values().find_map(|dims| match dims[..] {
        [1, count, wide] if wide == width && count > 1 => Some(count),
        _ => None,
    })?;
    let row = BESIDE.iter().find_map(|beside| {
        let patches = count.checked_sub(*beside)?;
        let row = patches.isqrt();
        (row * row == patches && row > 0).then_some(row)
    })?;
    u32::try_from(row * patch).ok().filter(|_| is_patches)
}

/// Whether the first of the tokens `tensor` is one that was learnt: a constant that the graph puts in front of what it
/// makes of the image, and that is followed only by transformer layers.
fn has_class_token(graph: &OnnxGraph, flow: &Flow, tensor: &str) -> bool {
    let mut seen = HashSet::new();
    let mut todo = vec![tensor];
    while let Some(tensor) = todo.pop() {
        let Some((place, node)) = flow.maker(tensor) else {
            return false;
        };
        if !seen.insert(place) || seen.len() > MOST_NODES {
            continue;
        }
        let inputs = flow.data_inputs(node);
        match node.op_type.as_str() {
            "Concat" if is_put_in_front(flow, node) => return true,
            // Registers, put between the class token and the others.
            "Concat" if node.inputs.first().is_some_and(|i| !flow.is_fixed(i)) => {
                todo.extend(node.inputs.first().map(String::as_str));
            }
            "Slice" if begins_at_first(graph, node) => todo.extend(inputs),
            op if keeps_tokens(op) => todo.extend(inputs),
            // Branches whose results are added to the tokens.
            op if op.contains("MatMul") => {}
            "Gemm" | "Einsum" | "Attention" | "MultiHeadAttention" | "Reshape" => {}
            _ => return false,
        }
    }
    false
}

fn is_put_in_front(flow: &Flow, concat: &OnnxNode) -> bool {
    let mut inputs = concat.inputs.iter();
    inputs.next().is_some_and(|first| flow.is_fixed(first))
        && inputs.any(|other| !flow.is_fixed(other))
}

fn begins_at_first(graph: &OnnxGraph, slice: &OnnxNode) -> bool {
    let starts = slice
        .inputs
        .get(1)
        .and_then(|starts| graph.integers(starts));
    starts.is_some_and(|starts| starts == [0])
}

/// Operators that change every token by itself.
fn keeps_tokens(op: &str) -> bool {
    matches!(
        op,
        "LayerNormalization"
            | "RMSNormalization"
            | "SkipLayerNormalization"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Sqrt"
            | "Reciprocal"
            | "ReduceMean"
            | "Identity"
            | "Dropout"
            | "Cast"
            | "QuantizeLinear"
            | "DequantizeLinear"
    )
}
