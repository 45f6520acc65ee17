//! Groups the nodes of a graph into layers: a convolution and its activation are one.
//! No file access.

use std::collections::{HashMap, HashSet};

use super::onnx::{OnnxGraph, OnnxNode};
use crate::error::{Error, Result};

/// One or more nodes that are one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The layer's name: of its first node, or the part that the names of its nodes begin with.
    pub name: String,
    /// Keras's name of its type, such as `Conv2D`; the ONNX operator where Keras has none.
    pub kind: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// Its nodes' places in [`OnnxGraph::nodes`]; `None` for the input.
    pub nodes: Vec<usize>,
}

/// How finely a graph is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// By layers.
    #[default]
    Layers,
    /// By ONNX nodes, constants and shape arithmetic included.
    Nodes,
}

/// Lists the layers of `graph` in the order of execution, the input first.
///
/// A node belongs to the layer whose result it reads, if no other node reads that, and if it is
/// - the activation of a convolution or a dense layer, or the bias of a matrix product;
/// - of the same name: `conv/relu` after `conv`, `pool` after `pool/global`, as exporters name the
///   nodes of one layer.
///
/// The product of a tensor with its own sigmoid (swish) is one activation.
///
/// # Errors
/// [`Error::Model`] if the graph has not one image input.
pub(super) fn group(graph: &OnnxGraph, detail: Detail) -> Result<Vec<Group>> {
    let nodes = graph.nodes();
    let copies = graph.weight_copies();
    let mut constants = graph.weight_shapes();
    for (copy, weight) in &copies {
        if let Some(dims) = constants.get(weight).cloned() {
            constants.insert(copy.clone(), dims);
        }
    }
    let gates = match detail {
        Detail::Layers => swish_gates(&nodes),
        Detail::Nodes => HashMap::new(),
    };
    let is_gate: HashSet<usize> = gates.values().copied().collect();
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for input in node.inputs.iter().filter(|_| !is_gate.contains(&i)) {
            *readers.entry(input).or_default() += 1;
        }
    }
    let (input, _) = graph.input()?;
    let mut groups = vec![Group {
        kind: "InputLayer".to_owned(),
        name: input.clone(),
        tensor: input,
        nodes: Vec::new(),
    }];
    let mut makers: HashMap<String, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        let Some(tensor) = node.outputs.first() else {
            continue;
        };
        let is_hidden = is_plumbing(node) || is_gate.contains(&i) || copies.contains_key(tensor);
        if detail == Detail::Layers && is_hidden {
            continue;
        }
        let gate = gates.get(&i).copied();
        let before = node
            .inputs
            .iter()
            .filter(|input| readers.get(input.as_str()) == Some(&1))
            .find_map(|input| makers.get(input).copied())
            .filter(|&place| {
                detail == Detail::Layers && joins(node, gate.is_some(), &groups[place], &constants)
            });
        let place = match before {
            Some(place) => {
                let layer = &mut groups[place];
                if layer.name.starts_with(&format!("{}/", node.name)) {
                    layer.name = node.name.clone();
                }
                layer.kind = joined_kind(&layer.kind, node, &constants);
                layer.tensor = tensor.clone();
                place
            }
            None => {
                groups.push(Group {
                    name: node.name.clone(),
                    kind: match (detail, gate) {
                        (Detail::Nodes, _) => node.op_type.clone(),
                        (Detail::Layers, Some(_)) => "Activation".to_owned(),
                        (Detail::Layers, None) => kind_of(node, &constants),
                    },
                    tensor: tensor.clone(),
                    nodes: Vec::new(),
                });
                groups.len() - 1
            }
        };
        groups[place].nodes.extend(gate);
        groups[place].nodes.push(i);
        makers.insert(tensor.clone(), place);
    }
    Ok(groups)
}

/// Finds the products of a tensor with its own sigmoid: place of the product → place of the sigmoid.
fn swish_gates(nodes: &[OnnxNode]) -> HashMap<usize, usize> {
    let gates: HashMap<&str, (usize, &str)> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.op_type.as_str(), "Sigmoid" | "HardSigmoid"))
        .filter_map(|(i, node)| {
            Some((
                node.outputs.first()?.as_str(),
                (i, node.inputs.first()?.as_str()),
            ))
        })
        .collect();
    let mut found = HashMap::new();
    for (i, node) in nodes.iter().enumerate().filter(|(_, n)| n.op_type == "Mul") {
        let [a, b] = &node.inputs[..] else { continue };
        for (gate, x) in [(a, b), (b, a)] {
            if let Some((place, gated)) = gates.get(gate.as_str())
                && gated == x
            {
                found.insert(i, *place);
            }
        }
    }
    found
}

/// Constants and shape arithmetic, which are not layers.
fn is_plumbing(node: &OnnxNode) -> bool {
    matches!(
        node.op_type.as_str(),
        "Constant"
            | "Shape"
            | "Gather"
            | "Unsqueeze"
            | "Squeeze"
            | "Cast"
            | "Identity"
            | "ConstantOfShape"
            | "Range"
            | "QuantizeLinear"
            | "DequantizeLinear"
    )
}

fn is_activation(op_type: &str) -> bool {
    matches!(
        op_type,
        "Relu"
            | "Clip"
            | "LeakyRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Softmax"
            | "Elu"
            | "Selu"
    )
}

fn joins(
    node: &OnnxNode,
    is_swish: bool,
    layer: &Group,
    constants: &HashMap<String, Vec<usize>>,
) -> bool {
    let same_name = node.name.starts_with(&format!("{}/", layer.name))
        || layer.name.starts_with(&format!("{}/", node.name));
    let is_bias = node.op_type == "Add" && node.inputs.iter().any(|i| constants.contains_key(i));
    let is_activation = is_swish || is_activation(&node.op_type);
    same_name
        || match layer.kind.as_str() {
            "Dense" => is_bias || is_activation,
            "Conv2D" | "DepthwiseConv2D" | "SeparableConv2D" => is_activation,
            _ => false,
        }
}

/// What a layer is when this node joins it.
fn joined_kind(kind: &str, node: &OnnxNode, constants: &HashMap<String, Vec<usize>>) -> String {
    match (kind, node.op_type.as_str()) {
        ("ZeroPadding2D", "Conv") => return kind_of(node, constants),
        ("DepthwiseConv2D", "Conv") => "SeparableConv2D",
        ("Permute", "Flatten" | "Reshape") => "Flatten",
        ("Subtract", "Div") => "Normalization",
        ("Multiply", "Add") => "Rescaling",
        _ => kind,
    }
    .to_owned()
}

fn kind_of(node: &OnnxNode, constants: &HashMap<String, Vec<usize>>) -> String {
    let reads_weight = node.inputs.iter().any(|i| constants.contains_key(i));
    let kind = match node.op_type.as_str() {
        "Conv" if node.group > 1 => "DepthwiseConv2D",
        "Conv" => "Conv2D",
        "ConvTranspose" => "Conv2DTranspose",
        "Relu" | "Clip" => "ReLU",
        "LeakyRelu" => "LeakyReLU",
        "PRelu" => "PReLU",
        "MaxPool" => "MaxPooling2D",
        "AveragePool" => "AveragePooling2D",
        "GlobalAveragePool" | "ReduceMean" => "GlobalAveragePooling2D",
        "GlobalMaxPool" | "ReduceMax" => "GlobalMaxPooling2D",
        "Gemm" => "Dense",
        "MatMul" if reads_weight => "Dense",
        "Concat" => "Concatenate",
        "Mul" => "Multiply",
        "Sub" => "Subtract",
        "Pad" => "ZeroPadding2D",
        "Slice" => "Cropping2D",
        "Transpose" => "Permute",
        "LRN" => "LocalResponseNormalization",
        other => other,
    };
    kind.to_owned()
}

/// Resolves `wanted` to one of `names`: the whole name, a part that no other name has,
/// or `-3` for the third from the end. `flag` and `model` stand in the error message.
///
/// # Errors
/// [`Error::Parameter`], listing similar names.
pub(super) fn pick(names: &[&str], wanted: &str, flag: &'static str, model: &str) -> Result<usize> {
    let wrong = |problem: String| {
        Err(Error::Parameter {
            name: flag,
            value: wanted.to_owned(),
            problem,
        })
    };
    if let Some(count) = wanted
        .strip_prefix('-')
        .and_then(|n| n.parse::<usize>().ok())
    {
        return match names.len().checked_sub(count) {
            Some(place) if count > 0 => Ok(place),
            _ => wrong(format!("{model} has {} layers", names.len())),
        };
    }
    if let Some(place) = names.iter().position(|name| *name == wanted) {
        return Ok(place);
    }
    let matching: Vec<usize> = (0..names.len())
        .filter(|&place| !wanted.is_empty() && names[place].contains(wanted))
        .collect();
    match matching[..] {
        [place] => Ok(place),
        [] => wrong(format!(
            "{model} has no layer of this name; `tl-batch summary` lists them"
        )),
        _ => {
            let close: Vec<&str> = matching.iter().take(6).map(|&i| names[i]).collect();
            wrong(format!(
                "{} layers of {model} match ({}{}); give the full name",
                matching.len(),
                close.join(", "),
                if matching.len() > 6 { ", …" } else { "" }
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_picked_by_name_part_or_place_from_the_end() {
        let names = ["block1_conv", "block1_pool", "block2_conv", "block2"];
        let pick = |wanted| pick(&names, wanted, "--feature-layer", "net");
        let cases = [
            ("block2", 3),
            ("block1_pool", 1),
            ("1_p", 1),
            ("-1", 3),
            ("-4", 0),
        ];
        for (wanted, place) in cases {
            assert_eq!(pick(wanted).unwrap(), place, "{wanted}");
        }
        for (wanted, problem) in [
            ("block1", "2 layers of net match (block1_conv, block1_pool)"),
            ("dense", "net has no layer of this name"),
            ("", "net has no layer of this name"),
            ("-5", "net has 4 layers"),
            ("-0", "net has 4 layers"),
        ] {
            let error = pick(wanted).unwrap_err().to_string();
            assert!(error.contains(problem), "{wanted}: {error}");
        }
    }
}
