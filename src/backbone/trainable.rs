//! The end of a backbone, from the cut to the features, as a trainable network.
//!
//! ```text
//! image ─► frozen prefix ─► cut ─► (frozen layers of the same block) ─► first trained layer ─► … ─► features
//!          run once per image,     run again in each step
//!          its maps are stored
//! ```
//!
//! The cut is the last tensor before the first trained layer through which everything passes: if the backbone
//! has branches there, that is before the block.

use std::collections::HashSet;

use super::Backbone;
use super::onnx::{OnnxGraph, OnnxNode};
use super::operators::{Compiler, TailWeight, is_supported};
use crate::error::{Error, Result};
use crate::nn::ConvNet;

/// The end of a backbone, ready to be trained.
#[derive(Clone, Debug)]
pub struct TrainableTail {
    /// The output of the frozen layers, and input of the network.
    pub cut: String,
    /// Name of the first trained layer.
    pub first_layer: String,
    /// From the maps at the cut to the features.
    pub net: ConvNet,
    /// Its weights, in the order of the network's numbers.
    pub weights: Vec<TailWeight>,
}

impl TrainableTail {
    /// The end of `backbone`, starting with the layer `from`.
    ///
    /// `from` is the name of a layer, the beginning of the names of a block (its first layer is meant), a part
    /// of one name, a number of layers to train counted from the end, or a share of their parameters such as
    /// `25%`: as many whole layers from the end as stay within it. With `train_batchnorm` the scale and shift
    /// of batch normalisations are also trained; their statistics never are.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no such layer, if nothing would stay frozen before it, or if an
    /// operator after it cannot be trained through: the error names the earliest layer that can.
    pub fn of(backbone: &Backbone, from: &str, train_batchnorm: bool) -> Result<TrainableTail> {
        let (graph, output) = backbone.graph();
        let graph = &*graph.with_filled();
        let nodes = graph.nodes();
        let constants = constants(graph, &nodes);
        let layers: Vec<usize> = (0..nodes.len())
            .filter(|&i| has_weights(&nodes[i], graph, train_batchnorm))
            .collect();
        let wrong = |problem: String| Error::Parameter {
            name: "--unfreeze-from",
            value: from.to_owned(),
            problem,
        };
        let first = find_layer(&nodes, &layers, graph, from).map_err(&wrong)?;
        let Some((begin, cut)) = cut_before(&nodes, &constants, first) else {
            let next = layers
                .iter()
                .find(|&&i| i > first && cut_before(&nodes, &constants, i).is_some());
            return Err(wrong(match next {
                Some(&i) => format!(
                    "no layer of {} would stay frozen; the first layer that can be trained is {}",
                    graph.name(),
                    nodes[i].name
                ),
                None => format!("no layer of {} would stay frozen", graph.name()),
            }));
        };
        let cannot_train_at = |at: usize| {
            let deepest = layers.iter().find(|&&i| {
                i > at && cut_before(&nodes, &constants, i).is_some_and(|(begin, _)| begin > at)
            });
            cannot_train(&nodes[at], deepest.map(|&i| &nodes[i]))
        };
        let unsupported = (begin..nodes.len())
            .rev()
            .find(|&i| !is_supported(&nodes[i].op_type));
        if let Some(at) = unsupported {
            return Err(wrong(cannot_train_at(at)));
        }
        let shared: HashSet<&str> = nodes[..first]
            .iter()
            .flat_map(|node| node.inputs.iter().map(String::as_str))
            .collect();
        let mut compiler = Compiler::new(graph, backbone.tensor_shapes()?, train_batchnorm);
        compiler.start(&cut, backbone.layout_at(&cut))?;
        for (i, node) in nodes.iter().enumerate().skip(begin) {
            compiler
                .add(i, node, i >= first, &shared)
                .map_err(|problem| wrong(format!("{} ({problem})", cannot_train_at(i))))?;
        }
        let (net, weights) = compiler.finish(output)?;
        if !weights.iter().any(|w| w.trained) {
            return Err(wrong(
                "there are no weights to train from this layer on".into(),
            ));
        }
        Ok(TrainableTail {
            cut,
            first_layer: nodes[first].name.clone(),
            net,
            weights,
        })
    }

    /// Number of trainable parameters.
    pub fn trained_parameters(&self) -> u64 {
        let trained = self.weights.iter().filter(|w| w.trained);
        trained.map(|w| w.values.len() as u64).sum()
    }
}

fn cannot_train(node: &OnnxNode, deepest: Option<&OnnxNode>) -> String {
    let advice = match deepest {
        Some(layer) => format!("; the earliest layer to train from is {}", layer.name),
        None => String::new(),
    };
    format!(
        "cannot backpropagate through {}, an operator {}{advice}",
        node.name, node.op_type
    )
}

/// Tensors that do not depend on the image.
fn constants(graph: &OnnxGraph, nodes: &[OnnxNode]) -> HashSet<String> {
    let mut constants: HashSet<String> = graph.weight_shapes().into_keys().collect();
    for node in nodes.iter().filter(|n| n.op_type == "Constant") {
        constants.extend(node.outputs.iter().cloned());
    }
    constants
}

/// Whether a node is a layer whose weights are to be trained.
fn has_weights(node: &OnnxNode, graph: &OnnxGraph, train_batchnorm: bool) -> bool {
    let is_layer = match node.op_type.as_str() {
        "Conv" | "Gemm" | "MatMul" => true,
        "BatchNormalization" => train_batchnorm,
        _ => false,
    };
    is_layer
        && node
            .inputs
            .get(1)
            .is_some_and(|name| graph.weight_values(name).is_some())
}

/// The node that a user means, or the problem.
fn find_layer(
    nodes: &[OnnxNode],
    layers: &[usize],
    graph: &OnnxGraph,
    from: &str,
) -> std::result::Result<usize, String> {
    if let Ok(count) = from.parse::<usize>() {
        return match layers.len().checked_sub(count) {
            Some(i) if count > 0 => Ok(layers[i]),
            _ => Err(format!(
                "{} has {} layers with weights; unfreeze at least 1 of them",
                graph.name(),
                layers.len()
            )),
        };
    }
    if let Some(share) = from.strip_suffix('%').and_then(|n| n.parse::<f64>().ok()) {
        return within_share(nodes, layers, graph, share);
    }
    let named = |test: &dyn Fn(&str) -> bool| {
        (0..nodes.len())
            .filter(|&i| test(&nodes[i].name) || nodes[i].outputs.iter().any(|o| test(o)))
            .collect::<Vec<_>>()
    };
    if let Some(&i) = named(&|name| name == from).first() {
        return Ok(i);
    }
    if let Some(&i) = named(&|name| name.starts_with(from)).first() {
        return Ok(i);
    }
    match named(&|name| name.contains(from))[..] {
        [i] => Ok(i),
        [] => Err(format!(
            "{} has no layer of this name; `tl-batch summary` lists them",
            graph.name()
        )),
        [a, b, ..] => Err(format!(
            "several layers of {} match ({}, {}, …); give the full name",
            graph.name(),
            nodes[a].name,
            nodes[b].name
        )),
    }
}

/// The first of as many layers from the end as have at most `share` percent of the weights.
fn within_share(
    nodes: &[OnnxNode],
    layers: &[usize],
    graph: &OnnxGraph,
    share: f64,
) -> std::result::Result<usize, String> {
    let shapes = graph.weight_shapes();
    let size = |i: usize| -> f64 {
        let inputs = nodes[i].inputs.iter().filter_map(|name| shapes.get(name));
        inputs
            .map(|dims| dims.iter().product::<usize>() as f64)
            .sum()
    };
    let total: f64 = layers.iter().map(|&i| size(i)).sum();
    let mut sum = 0.0;
    let mut first = None;
    for &i in layers.iter().rev() {
        sum += size(i);
        if sum > total * share / 100.0 {
            break;
        }
        first = Some(i);
    }
    first.ok_or_else(|| {
        format!(
            "the last layer alone has more than {share} % of the parameters of {}",
            graph.name()
        )
    })
}

/// The last place before or at node `first` where all that follows depends on one tensor: the node there
/// and the tensor. None if that tensor would be the image itself.
fn cut_before(
    nodes: &[OnnxNode],
    constants: &HashSet<String>,
    first: usize,
) -> Option<(usize, String)> {
    let mut read: HashSet<&str> = HashSet::new();
    for begin in (0..nodes.len()).rev() {
        for output in &nodes[begin].outputs {
            read.remove(output.as_str());
        }
        let inputs = nodes[begin].inputs.iter();
        read.extend(
            inputs
                .map(String::as_str)
                .filter(|name| !name.is_empty() && !constants.contains(*name)),
        );
        if begin <= first && read.len() == 1 {
            let cut = read.iter().next().map(|name| (*name).to_owned())?;
            let made = nodes[..begin].iter().any(|n| n.outputs.contains(&cut));
            return made.then_some((begin, cut));
        }
    }
    None
}
