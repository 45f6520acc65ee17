//! Where a graph ends: its logits, its features, and the pooling put behind a cut. Touches no file.

use std::collections::HashMap;

use super::card::Pool;
use super::layers::{Detail, group, pick};
use super::onnx::{Attribute, OnnxGraph, OnnxNode};
use crate::error::{Error, Result};
use crate::pixels::Layout;

/// Operators that change no value's channel: a search for the features walks through them.
const TRANSPARENT: [&str; 12] = [
    "Identity",
    "Dropout",
    "Cast",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Softmax",
    "LogSoftmax",
    "Sigmoid",
    "Relu",
    "Clip",
];

/// The two tensors at the end of an ImageNet classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// The tensor before the softmax; none if the graph ends in feature maps.
    pub logits: Option<String>,
    /// The tensor that the classifier's last dense layer reads; without a classifier, the output.
    pub features: String,
}

/// Finds the logits and the features of a graph by walking back from its first output.
///
/// The classifier is the last operator that multiplies by a weight matrix (`Gemm`, or `MatMul`, or a 1×1
/// `Conv` that a global pooling follows, as in SqueezeNet) and whose output is not read by a convolution.
///
/// # Errors
/// [`Error::Model`] if the graph has no output.
pub fn find_tail(graph: &OnnxGraph) -> Result<Tail> {
    let nodes = graph.nodes();
    let weights = graph.weight_shapes();
    let producers = producers(&nodes);
    let output = graph
        .outputs()
        .into_iter()
        .next()
        .ok_or_else(|| graph.fail("it has no output"))?;
    let mut logits = output.clone();
    let mut tensor = output.clone();
    let mut past_pool = false;
    while let Some(node) = producers.get(tensor.as_str()).map(|&i| &nodes[i]) {
        let reads_weight = node.inputs.iter().skip(1).any(|i| weights.contains_key(i));
        let Some(input) = node.inputs.first().cloned() else {
            break;
        };
        match node.op_type.as_str() {
            "Softmax" | "LogSoftmax" => {
                logits = input.clone();
                tensor = input;
            }
            "Add" if reads_weight || weights.contains_key(&input) => {
                tensor = node
                    .inputs
                    .iter()
                    .find(|i| !weights.contains_key(*i))
                    .cloned()
                    .unwrap_or(input);
            }
            "Gemm" | "MatMul" if reads_weight => {
                return Ok(Tail {
                    logits: Some(logits),
                    features: features_behind(&input, &nodes, &producers),
                });
            }
            "Conv" if past_pool && node.kernel_shape == [1, 1] => {
                return Ok(Tail {
                    logits: Some(logits),
                    features: features_behind(&input, &nodes, &producers),
                });
            }
            "GlobalAveragePool" | "ReduceMean" | "AveragePool" => {
                past_pool = true;
                tensor = input;
            }
            op if TRANSPARENT.contains(&op) => tensor = input,
            _ => break,
        }
    }
    Ok(Tail {
        logits: None,
        features: output,
    })
}

/// Walks back over dropout, which does nothing when a network is used.
fn features_behind(tensor: &str, nodes: &[OnnxNode], producers: &HashMap<&str, usize>) -> String {
    let mut tensor = tensor.to_owned();
    while let Some(node) = producers.get(tensor.as_str()).map(|&i| &nodes[i])
        && matches!(node.op_type.as_str(), "Dropout" | "Identity")
    {
        tensor = node.inputs[0].clone();
    }
    tensor
}

fn producers(nodes: &[OnnxNode]) -> HashMap<&str, usize> {
    nodes
        .iter()
        .enumerate()
        .flat_map(|(i, node)| node.outputs.iter().map(move |o| (o.as_str(), i)))
        .collect()
}

/// Finds the tensor that a user means by `cut`: the result of a layer of the summary (by its name, a part
/// that no other layer's name has, or `-3` for the third from the end), or a tensor or node by its name.
///
/// # Errors
/// [`Error::Parameter`] with the names that come close.
pub fn find_cut(graph: &OnnxGraph, cut: &str) -> Result<String> {
    let layers = group(graph, Detail::Layers)?;
    if let Some(layer) = layers.iter().skip(1).find(|layer| layer.name == cut) {
        return Ok(layer.tensor.clone());
    }
    let nodes = graph.nodes();
    if nodes.iter().any(|n| n.outputs.iter().any(|o| o == cut)) {
        return Ok(cut.to_owned());
    }
    if let Some(node) = nodes.iter().find(|n| n.name == cut) {
        return Ok(node.outputs.first().cloned().unwrap_or_default());
    }
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let place = pick(&names, cut, "cut", graph.name())?;
    if place == 0 {
        return Err(Error::Parameter {
            name: "cut",
            value: cut.to_owned(),
            problem: "this is the input; features come from a layer behind it".into(),
        });
    }
    Ok(layers[place].tensor.clone())
}

/// Which four-dimensional tensors of a graph have their channels second, and which last.
///
/// ONNX convolutions and poolings are channels first; a graph that was channels last in another format
/// carries transpositions, and the last one before the tensor decides. With neither, the input's layout.
pub struct Layouts {
    /// What makes each tensor: a node that decides, or one that leaves things as they are in its input.
    makers: HashMap<String, Maker>,
    input: Layout,
}

enum Maker {
    Decides(Layout),
    Keeps(Option<String>),
}

impl Layouts {
    /// Of a graph whose picture input has the layout `input`.
    pub fn of(graph: &OnnxGraph, input: Layout) -> Layouts {
        let (weights, copies) = (graph.weight_shapes(), graph.weight_copies());
        let is_constant = |name: &String| weights.contains_key(name) || copies.contains_key(name);
        let mut makers = HashMap::new();
        for node in graph.nodes() {
            for output in node.outputs {
                let maker = match node.op_type.as_str() {
                    "Transpose" if node.perm == [0, 2, 3, 1] => Maker::Decides(Layout::Nhwc),
                    "Transpose" if node.perm == [0, 3, 1, 2] => Maker::Decides(Layout::Nchw),
                    op if op.contains("Conv") || op.contains("Pool") => {
                        Maker::Decides(Layout::Nchw)
                    }
                    _ => Maker::Keeps(node.inputs.iter().find(|i| !is_constant(i)).cloned()),
                };
                makers.insert(output, maker);
            }
        }
        Layouts { makers, input }
    }

    /// That of `tensor`.
    pub fn at(&self, tensor: &str) -> Layout {
        let mut tensor = tensor;
        loop {
            match self.makers.get(tensor) {
                Some(Maker::Decides(layout)) => return *layout,
                Some(Maker::Keeps(Some(input))) => tensor = input,
                Some(Maker::Keeps(None)) | None => return self.input,
            }
        }
    }
}

/// Puts `pool` behind `tensor`, whose shape without the batch is `shape`. Returns the name of the result
/// and its shape without the batch: `[C]`, `[H·W·C]` or `[H, W, C]`.
///
/// # Errors
/// [`Error::Model`] if the tensor has another rank than 2 or 4.
pub fn pooled(
    graph: &mut OnnxGraph,
    tensor: &str,
    shape: &[usize],
    layout: Layout,
    pool: Pool,
) -> Result<(String, Vec<usize>)> {
    match *shape {
        [features] => Ok((tensor.to_owned(), vec![features])),
        [a, b, c] => {
            let [h, w, channels] = match layout {
                Layout::Nchw => [b, c, a],
                Layout::Nhwc => [a, b, c],
            };
            Ok(match pool {
                Pool::Avg | Pool::Max => {
                    let op = if pool == Pool::Avg {
                        "GlobalAveragePool"
                    } else {
                        "GlobalMaxPool"
                    };
                    let maps = transposed(graph, tensor, layout, Layout::Nchw);
                    let pooled = graph.fresh_name("pooled");
                    graph.add_node(op, &pooled, &[&maps], &[]);
                    (flattened(graph, &pooled), vec![channels])
                }
                Pool::None => (
                    transposed(graph, tensor, layout, Layout::Nhwc),
                    vec![h, w, channels],
                ),
                Pool::Flatten => {
                    let maps = transposed(graph, tensor, layout, Layout::Nhwc);
                    (flattened(graph, &maps), vec![h * w * channels])
                }
            })
        }
        _ => Err(graph.fail(format!(
            "the tensor `{tensor}` has {} dimensions; features have two or four: choose another --cut",
            shape.len() + 1
        ))),
    }
}

/// Puts several features, each with its shape without the batch, side by side: `[ΣD]`.
pub fn side_by_side(graph: &mut OnnxGraph, features: &[(String, Vec<usize>)]) -> (String, usize) {
    let flat: Vec<String> = features
        .iter()
        .map(|(tensor, shape)| match shape.len() {
            1 => tensor.clone(),
            _ => flattened(graph, tensor),
        })
        .collect();
    let inputs: Vec<&str> = flat.iter().map(String::as_str).collect();
    let name = graph.fresh_name("all_features");
    graph.add_node("Concat", &name, &inputs, &[("axis", Attribute::Int(1))]);
    let lengths = features
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>());
    (name, lengths.sum())
}

fn transposed(graph: &mut OnnxGraph, tensor: &str, from: Layout, to: Layout) -> String {
    let perm = match (from, to) {
        (Layout::Nchw, Layout::Nhwc) => vec![0, 2, 3, 1],
        (Layout::Nhwc, Layout::Nchw) => vec![0, 3, 1, 2],
        _ => return tensor.to_owned(),
    };
    let name = graph.fresh_name("feature_maps");
    graph.add_node(
        "Transpose",
        &name,
        &[tensor],
        &[("perm", Attribute::Ints(perm))],
    );
    name
}

pub(crate) fn flattened(graph: &mut OnnxGraph, tensor: &str) -> String {
    let name = graph.fresh_name("flat_features");
    graph.add_node("Flatten", &name, &[tensor], &[("axis", Attribute::Int(1))]);
    name
}
