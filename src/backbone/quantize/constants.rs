//! Folds nodes that only transpose or reshape weights into the weights.
//! No file access.

use crate::backbone::onnx::OnnxGraph;

/// Replaces nodes that only transpose or reshape a weight by the resulting weight.
pub(super) fn move_weights(graph: &mut OnnxGraph) {
    let outputs = graph.outputs();
    let mut gone = Vec::new();
    for (place, node) in graph.nodes().iter().enumerate() {
        let (Some(input), [output]) = (node.inputs.first(), &node.outputs[..]) else {
            continue;
        };
        let moves = matches!(
            node.op_type.as_str(),
            "Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity"
        );
        if !moves || outputs.contains(output) || !graph.is_float_constant(input) {
            continue;
        }
        let dims = graph.constant_dims(input);
        let Some(values) = graph.weight_values(input) else {
            continue;
        };
        let moved = match node.op_type.as_str() {
            "Transpose" => transposed(&dims, &values, &node.perm),
            "Identity" => Some((dims, values)),
            op => shape(graph, place, op, &dims).map(|dims| (dims, values)),
        };
        let sound = moved.filter(|(dims, values)| dims.iter().product::<usize>() == values.len());
        if let Some((dims, values)) = sound {
            graph.add_weight(output, &dims, values.into_iter());
            gone.push(place);
        }
    }
    let mut place = 0;
    graph.graph_mut().node.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
}

/// The dimensions that a node of the kind `op` at `place` gives to a weight of `dims`; `None` if they are not known.
fn shape(graph: &OnnxGraph, place: usize, op: &str, dims: &[usize]) -> Option<Vec<usize>> {
    let node = graph.node_proto(place)?;
    let attributes = graph.attributes(place);
    let given = |name: &str| -> Option<Vec<i64>> {
        match node.input.get(1).filter(|name| !name.is_empty()) {
            Some(input) => graph.integers(input),
            None => Some(attributes.ints(name)),
        }
    };
    let total: usize = dims.iter().product();
    match op {
        "Reshape" => {
            let zero_is_zero = attributes.int("allowzero").unwrap_or(0) != 0;
            let wanted = given("shape")?;
            let known = |(i, &n): (usize, &i64)| match n {
                0 if !zero_is_zero => dims.get(i).copied(),
                -1 => Some(1),
                n => usize::try_from(n).ok(),
            };
            let mut found: Vec<usize> = wanted
                .iter()
                .enumerate()
                .map(known)
                .collect::<Option<_>>()?;
            if let Some(rest) = wanted.iter().position(|&n| n == -1) {
                found[rest] = total.checked_div(found.iter().product())?;
            }
            Some(found)
        }
        "Flatten" => {
            let axis = attributes.int("axis").unwrap_or(1);
            let axis = from_end(axis, dims.len())?;
            let (before, after) = dims.split_at(axis);
            Some(vec![before.iter().product(), after.iter().product()])
        }
        "Squeeze" => {
            let axes = given("axes")?;
            let axes: Vec<usize> = axes
                .iter()
                .map(|&a| from_end(a, dims.len()))
                .collect::<Option<_>>()?;
            let all = axes.is_empty();
            let kept = dims.iter().enumerate();
            let kept = kept.filter(|(i, n)| !(axes.contains(i) || all && **n == 1));
            Some(kept.map(|(_, &n)| n).collect())
        }
        "Unsqueeze" => {
            let axes = given("axes")?;
            let rank = dims.len() + axes.len();
            let axes: Vec<usize> = axes
                .iter()
                .map(|&a| from_end(a, rank))
                .collect::<Option<_>>()?;
            let mut rest = dims.iter();
            let all = (0..rank).map(|i| match axes.contains(&i) {
                true => Some(1),
                false => rest.next().copied(),
            });
            all.collect()
        }
        _ => None,
    }
}

/// An axis that may be counted from the end, of `rank`.
fn from_end(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    usize::try_from(axis).ok().filter(|&a| a as i64 <= rank)
}

/// Values of the dimensions `dims` with axis `perm[i]` as axis i, all reversed if `perm` is empty.
fn transposed(dims: &[usize], values: &[f32], perm: &[i64]) -> Option<(Vec<usize>, Vec<f32>)> {
    let perm: Vec<usize> = match perm {
        [] => (0..dims.len()).rev().collect(),
        perm => perm.iter().map(|&p| p as usize).collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..dims.len()).collect::<Vec<_>>() {
        return None;
    }
    let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
    let strides: Vec<usize> = perm.iter().map(|&axis| stride(axis)).collect();
    let moved: Vec<usize> = perm.iter().map(|&axis| dims[axis]).collect();
    let mut index = vec![0; moved.len()];
    let mut found = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        found.push(*values.get(at)?);
        for (axis, i) in index.iter_mut().enumerate().rev() {
            *i += 1;
            if *i < moved[axis] {
                break;
            }
            *i = 0;
        }
    }
    Some((moved, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_places() {
        let values: Vec<f32> = (0..6).map(|v| v as f32).collect();
        let (dims, found) = transposed(&[1, 2, 3], &values, &[2, 0, 1]).unwrap();
        assert_eq!(dims, [3, 1, 2]);
        assert_eq!(found, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(transposed(&[2, 3], &values, &[]).unwrap().0, [3, 2]);
        assert!(transposed(&[2, 3], &values, &[0, 0]).is_none());
    }
}
