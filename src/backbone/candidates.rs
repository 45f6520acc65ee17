//! Chooses candidate feature layers. No file access.

use std::collections::{HashMap, HashSet};

use super::card::ModelCard;
use super::cut::find_cut;
use super::input_size::InputSize;
use super::layers::{Detail, Group, group};
use super::onnx::OnnxGraph;
use super::summary::{Layer, Summary};
use super::{FoundModel, input_shape, input_size};
use crate::error::Result;

/// Networks with fewer bottlenecks than this, such as NASNet, whose cells read the last two, have their sums
/// and concatenations tried in their place.
const FEWEST_BOTTLENECKS: usize = 4;

/// Chooses at most `most` layers of a backbone whose outputs may make good features, in the order of
/// execution, the default feature layer last: layers through which all data passes, the last of each resolution
/// first of all, and evenly spread by multiply-adds.
///
/// # Errors
/// [`crate::Error::Model`] or [`crate::Error::Parameter`] if the backbone or its default cut cannot be used.
pub fn candidate_layers(
    found: &FoundModel,
    size: Option<InputSize>,
    most: usize,
) -> Result<Vec<Layer>> {
    let card: &ModelCard = &found.card;
    let layout = card.preprocess.layout;
    let shape = input_shape(&found.graph, layout, input_size(card, size)?)?;
    let mut graph = found.graph.clone();
    let last = find_cut(&graph, &found.tail.features)?;
    graph.keep(std::slice::from_ref(&last))?;
    let groups = group(&graph, Detail::Layers)?;
    let rows = Summary::of(&graph, shape, layout, Detail::Layers)?.layers;
    let bottlenecks = bottlenecks(&graph);
    let follows = followers(&graph, &groups);
    let usable = |place: usize| {
        let row = &rows[place];
        let is_maps = row.output_shape.as_ref().is_some_and(|s| s.len() == 3);
        let is_vector = row.kind == "Dense";
        let is_tokens = row.output_shape.as_ref().is_some_and(|s| s.len() == 2)
            && matches!(row.kind.as_str(), "Add" | "LayerNormalization");
        is_maps && !is_preparation(&row.kind) || is_vector || is_tokens
    };
    let mut places: Vec<usize> = (1..rows.len())
        .filter(|&i| usable(i) && bottlenecks.contains(&rows[i].tensor))
        .filter(|&i| !is_refined(i, &follows, &rows, &bottlenecks))
        .collect();
    if places.len() < FEWEST_BOTTLENECKS {
        places = (1..rows.len())
            .filter(|&i| usable(i) && matches!(rows[i].kind.as_str(), "Add" | "Concatenate"))
            .collect();
    }
    // Maps whose mean is the default cut anyway would be tried twice.
    let end = rows.iter().position(|row| row.tensor == last);
    let end = end.unwrap_or(rows.len() - 1);
    places.retain(|&i| i != end && !is_pooled_into(i, end, &follows, &rows));
    let chosen = spread(&places, &rows, most.saturating_sub(1));
    Ok(chosen
        .into_iter()
        .chain([end])
        .map(|i| rows[i].clone())
        .collect())
}

/// Layers that bring the image into shape or maps into another order, and poolings that a cut before them
/// has anyway.
fn is_preparation(kind: &str) -> bool {
    matches!(
        kind,
        "InputLayer"
            | "GlobalAveragePooling2D"
            | "GlobalMaxPooling2D"
            | "ZeroPadding2D"
            | "Permute"
            | "Reshape"
            | "Flatten"
            | "Rescaling"
            | "Normalization"
            | "Multiply"
            | "Subtract"
            | "Cropping2D"
    )
}

/// Tensors through which all data passes on its way from the input to the output.
fn bottlenecks(graph: &OnnxGraph) -> HashSet<String> {
    let nodes = graph.nodes();
    let mut last_reader: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            last_reader.insert(input, i);
        }
    }
    // Constants depend on no input: data does not pass through them.
    let input = graph.input().map(|(name, _)| name).unwrap_or_default();
    let mut live: HashSet<&str> = HashSet::from([input.as_str()]);
    let mut found = HashSet::new();
    for (i, node) in nodes.iter().enumerate() {
        if !node
            .inputs
            .iter()
            .any(|input| live.contains(input.as_str()))
        {
            continue;
        }
        live.retain(|tensor| last_reader.get(tensor).is_some_and(|&reader| reader > i));
        live.extend(node.outputs.iter().map(String::as_str));
        if live.len() == 1 {
            found.extend(live.iter().map(|&tensor| tensor.to_owned()));
        }
    }
    found
}

/// For each layer, the layers that read it.
fn followers(graph: &OnnxGraph, groups: &[Group]) -> Vec<Vec<usize>> {
    let nodes = graph.nodes();
    groups
        .iter()
        .map(|layer| {
            (0..groups.len())
                .filter(|&i| {
                    groups[i].tensor != layer.tensor
                        && groups[i]
                            .nodes
                            .iter()
                            .any(|&n| nodes[n].inputs.contains(&layer.tensor))
                })
                .collect()
        })
        .collect()
}

/// Returns whether the one layer after `place` only normalises or activates what it makes: then that one's
/// result is the better candidate.
fn is_refined(
    place: usize,
    follows: &[Vec<usize>],
    rows: &[Layer],
    bottlenecks: &HashSet<String>,
) -> bool {
    let [next] = follows[place][..] else {
        return false;
    };
    let kind = rows[next].kind.as_str();
    let refines = matches!(
        kind,
        "BatchNormalization"
            | "ReLU"
            | "PReLU"
            | "LeakyReLU"
            | "Activation"
            | "HardSwish"
            | "Dropout"
    );
    refines && bottlenecks.contains(&rows[next].tensor)
}

fn is_pooled_into(place: usize, end: usize, follows: &[Vec<usize>], rows: &[Layer]) -> bool {
    let mut at = place;
    // Past flattenings between the pooling and the default cut.
    for _ in 0..3 {
        let [next] = follows[at][..] else {
            return false;
        };
        let is_pooling = rows[next].kind == "GlobalAveragePooling2D";
        let is_shape = matches!(rows[next].kind.as_str(), "Flatten" | "Reshape");
        let goes_on = is_pooling || at != place && is_shape;
        if !goes_on {
            return false;
        }
        if next == end {
            return true;
        }
        at = next;
    }
    false
}

/// Chooses `most` of `places`: the last of each resolution, the latest first, then those that fill the
/// widest gaps in multiply-adds.
fn spread(places: &[usize], rows: &[Layer], most: usize) -> Vec<usize> {
    let mut cost = vec![0; rows.len() + 1];
    for (i, row) in rows.iter().enumerate() {
        cost[i + 1] = cost[i] + row.macs;
    }
    let side = |place: usize| {
        rows[place]
            .output_shape
            .as_ref()
            .map(|s| s[..s.len() - 1].to_vec())
    };
    let mut chosen: Vec<usize> = Vec::new();
    for (n, &place) in places.iter().enumerate().rev() {
        let is_last = places
            .get(n + 1)
            .is_none_or(|&next| side(next) != side(place));
        if is_last && chosen.len() < most {
            chosen.push(place);
        }
    }
    while chosen.len() < most.min(places.len()) {
        let distance = |place: usize| {
            let to = chosen
                .iter()
                .map(|&c| cost[c + 1].abs_diff(cost[place + 1]));
            // From the beginning and the end of the network, too.
            to.chain([cost[place + 1]]).min().unwrap_or(u64::MAX)
        };
        let open = places
            .iter()
            .copied()
            .filter(|place| !chosen.contains(place));
        // Of equally far ones the later.
        match open.max_by_key(|&place| (distance(place), place)) {
            Some(place) => chosen.push(place),
            None => break,
        }
    }
    chosen.sort_unstable();
    chosen
}
