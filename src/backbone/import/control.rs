//! Resolves control-flow operators once the size of the input is known. No file access.

use super::branches::fold_decided;
use super::loops::{Known, unroll};
use crate::backbone::network::known;
use crate::backbone::onnx::OnnxGraph;
use crate::error::Result;

/// Replaces each `If` whose condition depends only on the shape of the input, as exporters write them, by the branch
/// taken, and each `Loop` and `Scan` whose number of rounds does by its rounds; both must be the same
/// for one image and for two.
pub(in crate::backbone) fn settle(graph: &mut OnnxGraph, input_shape: [usize; 4]) -> Result<()> {
    /// Maximum nesting that is followed.
    const MOST_ROUNDS: usize = 32;
    let outputs = graph.outputs();
    for _ in 0..MOST_ROUNDS {
        let is_control = |op: &str| matches!(op, "If" | "Loop" | "Scan");
        if !graph.nodes().iter().any(|node| is_control(&node.op_type)) {
            break;
        }
        let [_, a, b, c] = input_shape;
        let one = known(graph, input_shape)?;
        let two = known(graph, [2, a, b, c])?;
        // Where two images cannot be analysed, the batch is fixed anyway.
        let number = |name: &str| {
            let value = one.numbers.get(name).copied();
            value.filter(|value| two.numbers.get(name).is_none_or(|other| other == value))
        };
        let length = |name: &str, axis: i64| {
            let at = |shape: &Vec<usize>| {
                let place = if axis < 0 {
                    axis + shape.len() as i64
                } else {
                    axis
                };
                shape.get(usize::try_from(place).ok()?).copied()
            };
            let found = at(one.shapes.get(name)?)?;
            let other = two.shapes.get(name).and_then(at);
            other.is_none_or(|other| other == found).then_some(found)
        };
        let version = graph.operator_set();
        let proto = graph.graph_mut();
        let tensors = Known {
            number: &number,
            length: &length,
        };
        let unrolled = unroll(proto, version, &tensors);
        let folded = fold_decided(proto, &mut |name| number(name).map(|n| n != 0));
        if !unrolled && !folded {
            break;
        }
        graph.keep(&outputs)?;
    }
    Ok(())
}
