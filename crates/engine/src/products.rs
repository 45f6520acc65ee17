//! One product in the place of a sum of products.
//!
//! tract cuts the product of a matrix with maps that lie side by side: into the products of each map with its rows of the
//! matrix, and their sum. One product over all of them is faster than reading and writing the sum once for each,
//! and often they lie side by side anyway, for another reader.

use std::collections::HashMap;

use super::geometry::Window;
use super::graph::{Node, NodeId, Operation, readers};
use super::pixelwise::Pair;

/// Puts a product over maps side by side in the place of every sum of products of one pixel that are read by that
/// sum alone. `outputs` are renumbered.
pub(super) fn join_products(nodes: Vec<Node>, outputs: &mut [NodeId]) -> Vec<Node> {
    let readers = readers(&nodes, outputs);
    if !(0..nodes.len()).any(|id| terms(&nodes, &readers, id).is_some()) {
        return nodes;
    }
    // Orders in which maps are put side by side anyway, by the maps in order of their numbers.
    let orders: HashMap<Vec<NodeId>, Vec<NodeId>> = nodes
        .iter()
        .filter(|node| matches!(node.operation, Operation::Concat))
        .map(|node| (sorted(&node.inputs), node.inputs.clone()))
        .collect();
    let mut joined: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut home: Vec<NodeId> = Vec::with_capacity(nodes.len());
    // Where maps lie side by side, by their numbers in that order.
    let mut side_by_side: HashMap<Vec<NodeId>, NodeId> = HashMap::new();
    for (id, node) in nodes.iter().enumerate() {
        let terms = terms(&nodes, &readers, id);
        if let Some(terms) = terms {
            let maps: Vec<NodeId> = terms.iter().map(|&term| nodes[term].inputs[0]).collect();
            let order = orders.get(&sorted(&maps)).unwrap_or(&maps);
            let whole = *side_by_side.entry(order.clone()).or_insert_with(|| {
                let [height, width, _] = node.shape;
                let channels = order.iter().map(|&map| nodes[map].shape[2]).sum();
                joined.push(Node {
                    name: format!("{}.maps", node.name),
                    operation: Operation::Concat,
                    inputs: order.iter().map(|&map| home[map]).collect(),
                    shape: [height, width, channels],
                    ..node.clone()
                });
                joined.len() - 1
            });
            let in_order = order.iter().filter_map(|&map| {
                let place = maps.iter().position(|&m| m == map)?;
                Some(&nodes[terms[place]])
            });
            let in_order: Vec<&Node> = in_order.collect();
            joined.push(Node {
                operation: product(&in_order),
                inputs: vec![whole],
                ..node.clone()
            });
            home.push(joined.len() - 1);
            continue;
        }
        if matches!(node.operation, Operation::Concat)
            && let Some(&there) = side_by_side.get(&node.inputs)
        {
            home.push(there);
            continue;
        }
        let inputs = node.inputs.iter().map(|&input| home[input]).collect();
        joined.push(Node {
            inputs,
            ..node.clone()
        });
        home.push(joined.len() - 1);
        if matches!(node.operation, Operation::Concat) {
            side_by_side.insert(node.inputs.clone(), joined.len() - 1);
        }
    }
    for output in outputs.iter_mut() {
        *output = home[*output];
    }
    joined
}

fn sorted(ids: &[NodeId]) -> Vec<NodeId> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted
}

/// The products of different maps whose sum the node is, at least two.
fn terms(nodes: &[Node], readers: &[usize], id: NodeId) -> Option<Vec<NodeId>> {
    let is_sum = |id: NodeId| matches!(nodes[id].operation, Operation::Pair(Pair::Sum));
    if !is_sum(id) {
        return None;
    }
    let mut terms = Vec::new();
    let mut waiting = nodes[id].inputs.clone();
    while let Some(part) = waiting.pop() {
        let alike = nodes[part].shape == nodes[id].shape && readers[part] == 1;
        if alike && is_sum(part) {
            waiting.extend(&nodes[part].inputs);
        } else if alike && is_product(&nodes[part].operation) {
            terms.push(part);
        } else {
            return None;
        }
    }
    let mut maps = sorted(
        &terms
            .iter()
            .map(|&term| nodes[term].inputs[0])
            .collect::<Vec<_>>(),
    );
    maps.dedup();
    (terms.len() > 1 && maps.len() == terms.len()).then_some(terms)
}

/// Whether an operation is a dense convolution of one pixel that takes every pixel.
fn is_product(operation: &Operation) -> bool {
    let one = |w: &Window| w.size == 1 && w.stride == 1 && w.before == 0 && w.input == w.output;
    match operation {
        Operation::Convolution {
            rows,
            columns,
            groups: 1,
            ..
        } => one(rows) && one(columns),
        _ => false,
    }
}

/// The product over the maps of `terms` side by side.
fn product(terms: &[&Node]) -> Operation {
    let parts: Vec<(&[f32], &[f32], [Window; 2])> = terms
        .iter()
        .filter_map(|term| match &term.operation {
            Operation::Convolution {
                rows,
                columns,
                weights,
                bias,
                ..
            } => Some((&weights[..], &bias[..], [*rows, *columns])),
            _ => None,
        })
        .collect();
    let outputs = parts[0].1.len();
    let mut sums = vec![0.0; outputs];
    let mut all = Vec::new();
    for (output, sum) in sums.iter_mut().enumerate() {
        for (weights, bias, _) in &parts {
            let depth = weights.len() / outputs;
            all.extend_from_slice(&weights[output * depth..(output + 1) * depth]);
            *sum += bias[output];
        }
    }
    let [rows, columns] = parts[0].2;
    Operation::Convolution {
        rows,
        columns,
        weights: all,
        bias: sums,
        groups: 1,
    }
}
