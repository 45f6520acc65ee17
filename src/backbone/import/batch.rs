//! Makes a batch size that the exporter fixed inside the graph free, where that changes nothing for the fixed one.
//! No file access.

use std::collections::HashMap;

use tract_onnx::pb;

use super::build::integers;
use crate::backbone::network::tensor_shapes;
use crate::backbone::onnx::OnnxGraph;
use crate::error::Result;

/// Maximum number of passes over a graph: each `Reshape` may depend on the one before it.
const MOST_ROUNDS: usize = 48;

type Shapes = HashMap<String, Vec<usize>>;

/// Makes `graph` take any number of images, as far as `Reshape`s to constant shapes stand in the way. `input_shape`
/// is that of one image. Returns whether it takes two images and gives the results of two.
///
/// A `Reshape` changes no order of values: in the target, the batch belongs where as many values come before it as in
/// the tensor that is read. For the batch that the file was made for, the result is the same.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no image input or a tensor is too large.
pub(in crate::backbone) fn free_batch(
    graph: &mut OnnxGraph,
    input_shape: [usize; 4],
) -> Result<bool> {
    // Some exporters declare a free batch even if the graph fixes it.
    let exported = graph.input()?.1[0].unwrap_or(1);
    let [_, a, b, c] = input_shape;
    let more = [exported.saturating_mul(2), a, b, c];
    let outputs = graph.outputs();
    let is_free = |shapes: &Shapes| {
        let doubled = |name: &String| {
            shapes
                .get(name)
                .is_some_and(|s| s.first() == Some(&more[0]))
        };
        outputs.iter().all(doubled)
    };
    // What is too large for two images may work for one.
    let Ok(mut doubled) = tensor_shapes(graph, more) else {
        return Ok(graph.batch().is_none());
    };
    if is_free(&doubled) {
        return Ok(true);
    }
    let single = tensor_shapes(graph, [exported, a, b, c])?;
    for _ in 0..MOST_ROUNDS {
        if !rewrite(graph, &single, &doubled) {
            return Ok(false);
        }
        // Targets that nobody reads any more are gone.
        graph.keep(&outputs)?;
        doubled = tensor_shapes(graph, more)?;
        if is_free(&doubled) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Rewrites each `Reshape` whose input has the batch and whose constant target has not; returns whether there was one.
fn rewrite(graph: &mut OnnxGraph, single: &Shapes, doubled: &Shapes) -> bool {
    let mut targets: Vec<(usize, Vec<i64>)> = Vec::new();
    for (place, node) in graph.nodes().iter().enumerate() {
        let [data, shape, ..] = &node.inputs[..] else {
            continue;
        };
        if node.op_type != "Reshape" {
            continue;
        }
        let Some(target) = graph.integers(shape) else {
            continue;
        };
        let Some((before, after)) = single.get(data).zip(doubled.get(data)) else {
            continue;
        };
        let result = node.outputs.first().and_then(|output| single.get(output));
        let free = result.and_then(|result| free_target(before, after, result, &target));
        targets.extend(free.map(|free| (place, free)));
    }
    let changed = !targets.is_empty();
    for (place, target) in targets {
        let name = graph.fresh_name("free_shape");
        let proto = graph.graph_mut();
        proto.initializer.push(pb::TensorProto {
            name: name.clone(),
            ..integers(&[target.len() as i64], &target)
        });
        let node = &mut proto.node[place];
        node.input[1] = name;
        node.attribute.retain(|a| a.name != "allowzero");
    }
    changed
}

/// The target of a `Reshape` from `before`, which is `after` with twice the batch, to `result`, with the batch left
/// open; `None` if `target` leaves it open already, or if the batch is not one axis of the input.
fn free_target(
    before: &[usize],
    after: &[usize],
    result: &[usize],
    target: &[i64],
) -> Option<Vec<i64>> {
    let differing: Vec<usize> = (0..before.len())
        .filter(|&axis| before[axis] != after.get(axis).copied().unwrap_or(0))
        .collect();
    let [axis] = differing[..] else {
        return None;
    };
    if before.len() != after.len() || before.contains(&0) || result.len() != target.len() {
        return None;
    }
    let ahead: usize = before[..axis].iter().product();
    // The first place whose values reach beyond those ahead of the batch; an axis of 1 where the batch is 1.
    let mut values = 1_usize;
    let mut chosen = None;
    for (place, &length) in result.iter().enumerate() {
        let starts_here = values == ahead;
        if starts_here && length == before[axis] || values.checked_mul(length)? > ahead {
            chosen = Some(place);
            break;
        }
        values *= length;
    }
    let chosen = chosen?;
    // Lengths that are copied or worked out belong to the batch already.
    let copies_batch = target[chosen] == 0 && chosen == axis;
    if target[chosen] == -1 || copies_batch {
        return None;
    }
    let mut free: Vec<i64> = result
        .iter()
        .map(|&length| i64::try_from(length).ok())
        .collect::<Option<_>>()?;
    match (
        chosen == axis && result[chosen] == before[axis],
        target.iter().position(|&t| t == -1),
    ) {
        // Copying the batch leaves room for a length that is worked out.
        (true, worked_out) => {
            free[chosen] = 0;
            if let Some(place) = worked_out {
                free[place] = -1;
            }
        }
        (false, _) => free[chosen] = -1,
    }
    Some(free)
}

#[cfg(test)]
mod tests {
    use super::free_target;

    #[test]
    fn the_batch_stays_where_as_many_values_come_before_it() {
        let free = |before: &[usize], axis: usize, result: &[usize], target: &[i64]| {
            let mut after = before.to_vec();
            after[axis] *= 2;
            free_target(before, &after, result, target)
        };
        // A classifier's flattening, with and without a length that is worked out.
        assert_eq!(
            free(&[1, 8, 2, 2], 0, &[1, 32], &[1, 32]),
            Some(vec![0, 32])
        );
        assert_eq!(
            free(&[1, 8, 2, 2], 0, &[1, 32], &[1, -1]),
            Some(vec![0, -1])
        );
        assert_eq!(
            free(&[4, 8], 0, &[4, 2, 4], &[4, 2, 4]),
            Some(vec![0, 2, 4])
        );
        // Heads, with the batch second: [tokens, batch, values] to [tokens, batch · heads, size].
        assert_eq!(
            free(&[50, 1, 12], 1, &[50, 3, 4], &[50, 3, 4]),
            Some(vec![50, -1, 4])
        );
        // Batch and tokens as one axis.
        assert_eq!(
            free(&[1, 50, 12], 0, &[50, 12], &[50, 12]),
            Some(vec![-1, 12])
        );
        // Open already.
        assert_eq!(free(&[1, 8, 2, 2], 0, &[1, 32], &[-1, 32]), None);
        assert_eq!(free(&[1, 8, 2, 2], 0, &[1, 32], &[0, 32]), None);
    }
}
