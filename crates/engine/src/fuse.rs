//! Operations that are parts of the one before them.

use super::graph::{Node, NodeId, Operation, readers};
use super::pixelwise::Pair;
use super::pool::Pooling;
use super::step::Clamp;

/// Joins operations to the one before where it is read by them alone. `outputs` are renumbered.
pub(super) fn fuse(nodes: Vec<Node>, outputs: &mut [NodeId]) -> Vec<Node> {
    let readers = readers(&nodes, outputs);
    // The node of `fused` that computes each node's output; a node that moved on leaves a hole.
    let mut fused: Vec<Option<Node>> = Vec::new();
    let mut home: Vec<usize> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let alone = |id: NodeId| readers[id] == 1;
        let mut joined = None;
        if let [input] = node.inputs[..]
            && alone(input)
            && let Some(before) = fused[home[input]].as_mut()
            && join(before, &node.operation)
        {
            joined = Some(home[input]);
        }
        if let (Operation::Pair(Pair::Sum), [a, b]) = (&node.operation, &node.inputs[..]) {
            for (product, other) in [(*a, *b), (*b, *a)] {
                if joined.is_none()
                    && product != other
                    && alone(product)
                    && let Some(before) = fused[home[product]].as_ref()
                    && takes_residual(before)
                    && before.shape == node.shape
                    && fused[home[other]]
                        .as_ref()
                        .is_some_and(|o| o.shape == node.shape)
                    && let Some(mut before) = fused[home[product]].take()
                {
                    before.residual = Some(home[other]);
                    fused.push(Some(before));
                    joined = Some(fused.len() - 1);
                }
            }
        }
        home.push(joined.unwrap_or_else(|| {
            let inputs = node.inputs.iter().map(|&i| home[i]).collect();
            fused.push(Some(Node { inputs, ..node }));
            fused.len() - 1
        }));
    }
    // Close the holes.
    let mut places = Vec::with_capacity(fused.len());
    let mut count = 0;
    for node in &fused {
        places.push(count);
        count += usize::from(node.is_some());
    }
    for output in outputs.iter_mut() {
        *output = places[home[*output]];
    }
    let mut whole: Vec<Node> = fused.into_iter().flatten().collect();
    for node in &mut whole {
        for input in node.inputs.iter_mut().chain(&mut node.residual) {
            *input = places[*input];
        }
    }
    whole
}

/// Whether a map can be added to what `node` computes before it is stored.
fn takes_residual(node: &Node) -> bool {
    matches!(node.operation, Operation::Convolution { groups: 1, .. })
        && node.residual.is_none()
        && node.clamp == Clamp::NONE
        && node.curve.is_none()
}

/// Makes `operation` a part of the node `before` it, if it can be.
fn join(before: &mut Node, operation: &Operation) -> bool {
    let fixed = matches!(
        before.operation,
        Operation::Input { .. }
            | Operation::Curve(_)
            | Operation::Concat
            | Operation::Copy(_)
            | Operation::Constant(_)
    ) || before.operation.is_integer();
    if fixed || before.curve.is_some() {
        return false;
    }
    let is_clamped = !matches!(
        before.operation,
        Operation::Normalize { .. } | Operation::Attention(_)
    );
    match operation {
        Operation::Clamp(clamp) if is_clamped => {
            let within = |x: f32| x.max(clamp.low).min(clamp.high);
            before.clamp = Clamp {
                low: within(before.clamp.low),
                high: within(before.clamp.high),
            };
            true
        }
        Operation::Curve(curve) => {
            before.curve = Some(*curve);
            true
        }
        Operation::Affine { scale, shift }
            if before.residual.is_none() && before.clamp == Clamp::NONE =>
        {
            match &mut before.operation {
                Operation::Convolution { weights, bias, .. } => {
                    let each = weights.len() / bias.len().max(1);
                    for ((weights, bias), (scale, shift)) in weights
                        .chunks_exact_mut(each.max(1))
                        .zip(bias)
                        .zip(scale.iter().zip(shift))
                    {
                        weights.iter_mut().for_each(|w| *w *= scale);
                        *bias = *bias * scale + shift;
                    }
                    true
                }
                Operation::Affine {
                    scale: first_scale,
                    shift: first_shift,
                }
                | Operation::Normalize {
                    scale: first_scale,
                    shift: first_shift,
                    ..
                } => {
                    let first = first_scale.iter_mut().zip(first_shift);
                    for ((s, t), (scale, shift)) in first.zip(scale.iter().zip(shift)) {
                        *s *= scale;
                        *t = *t * scale + shift;
                    }
                    true
                }
                Operation::PoolAll(Pooling::Sum { scale: factor })
                | Operation::Pool {
                    pooling: Pooling::Sum { scale: factor },
                    ..
                } if shift.iter().all(|&s| s == 0.0) && scale.iter().all(|s| s == &scale[0]) => {
                    *factor *= scale[0];
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}
