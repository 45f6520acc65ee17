//! Cuts a graph at the feature layer and appends the pooling. No file access.

use std::collections::HashMap;

use super::card::Pool;
use super::layers::{Detail, group, pick};
use super::onnx::{Attribute, OnnxGraph, OnnxNode};
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
    if let Some(tensor) = block(&nodes, cut) {
        return Ok(tensor);
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

/// Words that exporters have for the blocks of a transformer.
const BLOCKS: [&str; 5] = ["blocks", "layer", "layers", "block", "resblocks"];

/// The result of the transformer block that `cut` numbers, as `block8` or `blocks.8`, counted from 0 as in the network's own
/// names; `None` for other names, or if there is not one such block.
fn block(nodes: &[OnnxNode], cut: &str) -> Option<String> {
    let number = cut.strip_prefix("blocks").or(cut.strip_prefix("block"))?;
    let number = number.strip_prefix(['.', '_']).unwrap_or(number);
    let number: usize = number.parse().ok()?;
    // In `/encoder/layer.8/output/Add` and `blocks.8.add1`, what stands before the number, and the number.
    let place = |name: &str| -> Option<String> {
        BLOCKS.iter().find_map(|word| {
            let part = format!("{word}.{number}");
            let at = name.find(&part)?;
            let (before, after) = (&name[..at], &name[at + part.len()..]);
            let is_whole = before.is_empty() || before.ends_with(['/', '.']);
            let is_end = after.is_empty() || after.starts_with(['/', '.']);
            (is_whole && is_end).then(|| format!("{before}{word}"))
        })
    };
    let inside: Vec<(String, &OnnxNode)> = nodes
        .iter()
        .filter_map(|node| Some((place(&node.name)?, node)))
        .collect();
    let (first, _) = inside.first()?;
    let is_one = inside.iter().all(|(place, _)| place == first);
    let (_, last) = inside.last().filter(|_| is_one)?;
    last.outputs.first().cloned()
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
/// and its shape without the batch: `[C]`, `[H·W·C]` or `[H, W, C]`; of tokens `[D]`, `[2 D]`, `[T·D]`, `[T, D]` or
/// `[h, w, D]`. `prefix` is the number of tokens before those of patches, where it is known.
///
/// # Errors
/// [`Error::Model`] if the tensor has another rank than 2, 3 or 4; [`Error::Parameter`] for the class token of maps.
pub fn pooled(
    graph: &mut OnnxGraph,
    tensor: &str,
    shape: &[usize],
    layout: Layout,
    pool: Pool,
    prefix: Option<usize>,
) -> Result<(String, Vec<usize>)> {
    match *shape {
        [features] => Ok((tensor.to_owned(), vec![features])),
        [tokens, _] if prefix.is_some_and(|prefix| prefix >= tokens) => Err(Error::Parameter {
            name: "--prefix-tokens",
            value: prefix.unwrap_or_default().to_string(),
            problem: format!("`{tensor}` has {tokens} tokens in all"),
        }),
        [tokens, width] => Ok(match pool {
            Pool::Avg | Pool::Max => {
                let patches = patches(graph, tensor, tokens, prefix.unwrap_or(0));
                (pooled_tokens(graph, &patches, pool), vec![width])
            }
            Pool::Cls => (class_token(graph, tensor), vec![width]),
            Pool::ClsMean => {
                let class = class_token(graph, tensor);
                let patches = patches(graph, tensor, tokens, prefix.unwrap_or(1));
                let mean = pooled_tokens(graph, &patches, Pool::Avg);
                let both = graph.fresh_name("class_and_mean");
                let axis = ("axis", Attribute::Int(1));
                graph.add_node("Concat", &both, &[&class, &mean], &[axis]);
                (both, vec![2 * width])
            }
            Pool::None => match prefix.map(|prefix| (prefix, (tokens - prefix).isqrt())) {
                Some((prefix, side)) if side * side == tokens - prefix => {
                    let patches = patches(graph, tensor, tokens, prefix);
                    let shape = graph.fresh_name("patch_maps/shape");
                    graph.add_numbers(&shape, &[0, side as i64, side as i64, width as i64]);
                    let maps = graph.fresh_name("patch_maps");
                    graph.add_node("Reshape", &maps, &[&patches, &shape], &[]);
                    (maps, vec![side, side, width])
                }
                _ => (tensor.to_owned(), vec![tokens, width]),
            },
            Pool::Flatten => (flattened(graph, tensor), vec![tokens * width]),
        }),
        [_, _, _] if matches!(pool, Pool::Cls | Pool::ClsMean) => Err(Error::Parameter {
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
                Pool::Avg | Pool::Max | Pool::Cls | Pool::ClsMean => {
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

/// The first of the tokens `[N, T, D]`: `[N, D]`.
fn class_token(graph: &mut OnnxGraph, tokens: &str) -> String {
    let place = graph.fresh_name("class_token/place");
    graph.add_number(&place, 0);
    let token = graph.fresh_name("class_token");
    let axis = ("axis", Attribute::Int(1));
    graph.add_node("Gather", &token, &[tokens, &place], &[axis]);
    token
}

/// The tokens `[N, count, D]` without the first `prefix`.
fn patches(graph: &mut OnnxGraph, tokens: &str, count: usize, prefix: usize) -> String {
    if prefix == 0 || prefix >= count {
        return tokens.to_owned();
    }
    let places = graph.fresh_name("patch_tokens/places");
    let all: Vec<i64> = (prefix as i64..count as i64).collect();
    graph.add_numbers(&places, &all);
    let patches = graph.fresh_name("patch_tokens");
    let axis = ("axis", Attribute::Int(1));
    graph.add_node("Gather", &patches, &[tokens, &places], &[axis]);
    patches
}

/// One vector `[N, D]` of tokens `[N, T, D]`.
fn pooled_tokens(graph: &mut OnnxGraph, tokens: &str, pool: Pool) -> String {
    // Tokens last they are maps of one dimension.
    let maps = permuted(graph, tokens, &[0, 2, 1]);
    pooled_maps(graph, &maps, pool)
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
