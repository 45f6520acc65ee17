//! Cuts a graph at the feature layer and appends the pooling. No file access.

use std::collections::HashMap;

use super::card::Pool;
use super::layers::{Detail, group, pick};
use super::onnx::{Attribute, OnnxGraph};
use crate::error::{Error, Result};
use crate::pixels::Layout;

/// Resolves `cut` to a tensor: the result of a layer of the summary (by its name, a part
/// that no other layer's name has, or `-3` for the third from the end), or a tensor or node by its name.
///
/// # Errors
/// [`Error::Parameter`], listing similar names.
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
    let place = pick(&names, cut, "--feature-layer", graph.name())?;
    if place == 0 {
        return Err(Error::Parameter {
            name: "--feature-layer",
            value: cut.to_owned(),
            problem: "this is the input; features come from a layer after it".into(),
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
    /// Of a graph whose image input has the layout `input`.
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

/// Appends `pool` to `tensor`, whose shape without the batch is `shape`. Returns the name of the result
/// and its shape without the batch: `[C]`, `[H·W·C]` or `[H, W, C]`; of tokens `[D]`, `[T·D]` or `[T, D]`.
///
/// # Errors
/// [`Error::Model`] if the tensor has another rank than 2, 3 or 4; [`Error::Parameter`] for the class token of maps.
pub fn pooled(
    graph: &mut OnnxGraph,
    tensor: &str,
    shape: &[usize],
    layout: Layout,
    pool: Pool,
) -> Result<(String, Vec<usize>)> {
    match *shape {
        [features] => Ok((tensor.to_owned(), vec![features])),
        [tokens, width] => Ok(match pool {
            Pool::Avg | Pool::Max => {
                // Tokens last they are maps of one dimension.
                let maps = permuted(graph, tensor, &[0, 2, 1]);
                (pooled_maps(graph, &maps, pool), vec![width])
            }
            Pool::Cls => {
                let place = graph.fresh_name("class_token/place");
                graph.add_number(&place, 0);
                let token = graph.fresh_name("class_token");
                let axis = ("axis", Attribute::Int(1));
                graph.add_node("Gather", &token, &[tensor, &place], &[axis]);
                (token, vec![width])
            }
            Pool::None => (tensor.to_owned(), vec![tokens, width]),
            Pool::Flatten => (flattened(graph, tensor), vec![tokens * width]),
        }),
        [_, _, _] if pool == Pool::Cls => Err(Error::Parameter {
            name: "--pool",
            value: pool.name().to_owned(),
            problem: format!(
                "`{tensor}` has feature maps, which have no class token; use avg, max, flatten or none"
            ),
        }),
        [a, b, c] => {
            let [h, w, channels] = match layout {
                Layout::Nchw => [b, c, a],
                Layout::Nhwc => [a, b, c],
            };
            Ok(match pool {
                Pool::Avg | Pool::Max | Pool::Cls => {
                    let maps = transposed(graph, tensor, layout, Layout::Nchw);
                    (pooled_maps(graph, &maps, pool), vec![channels])
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
            "the tensor `{tensor}` has {} dimensions; features have two (a vector per image), three (tokens) or four (feature maps); choose another --feature-layer",
            shape.len() + 1
        ))),
    }
}

/// Concatenates several features, each with its shape without the batch: `[ΣD]`.
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

/// Appends global pooling to the feature maps `[N, C, …]`: `[N, C]`.
fn pooled_maps(graph: &mut OnnxGraph, maps: &str, pool: Pool) -> String {
    let op = match pool {
        Pool::Max => "GlobalMaxPool",
        _ => "GlobalAveragePool",
    };
    let pooled = graph.fresh_name("pooled");
    graph.add_node(op, &pooled, &[maps], &[]);
    flattened(graph, &pooled)
}

fn permuted(graph: &mut OnnxGraph, tensor: &str, perm: &[i64]) -> String {
    let name = graph.fresh_name("feature_maps");
    let perm = Attribute::Ints(perm.to_vec());
    graph.add_node("Transpose", &name, &[tensor], &[("perm", perm)]);
    name
}

fn transposed(graph: &mut OnnxGraph, tensor: &str, from: Layout, to: Layout) -> String {
    match (from, to) {
        (Layout::Nchw, Layout::Nhwc) => permuted(graph, tensor, &[0, 2, 3, 1]),
        (Layout::Nhwc, Layout::Nchw) => permuted(graph, tensor, &[0, 3, 1, 2]),
        _ => tensor.to_owned(),
    }
}

pub(crate) fn flattened(graph: &mut OnnxGraph, tensor: &str) -> String {
    let name = graph.fresh_name("flat_features");
    graph.add_node("Flatten", &name, &[tensor], &[("axis", Attribute::Int(1))]);
    name
}
