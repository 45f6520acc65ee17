//! The layers of a graph as Keras lists them: name, type, output shape, parameters. Touches no file.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::cut::layout_of;
use super::network::tensor_shapes;
use super::onnx::{OnnxGraph, OnnxNode};
use crate::error::Result;
use crate::pixels::Layout;

/// One row of a summary: a layer as a person thinks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The name of its first node.
    pub name: String,
    /// Keras's name of its type, such as `Conv2D`; the ONNX operator where Keras has none.
    pub kind: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// Output shape without the batch axis, channels last; none if it depends on the input's values.
    pub output_shape: Option<Vec<usize>>,
    /// Parameters that training would change.
    pub trainable: u64,
    /// Parameters that training would not change: the moving mean and variance of a BatchNorm.
    pub non_trainable: u64,
}

impl Layer {
    /// All parameters of the layer.
    pub fn parameters(&self) -> u64 {
        self.trainable + self.non_trainable
    }
}

/// The layers of a graph in the order of execution, the input first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// Its layers.
    pub layers: Vec<Layer>,
}

impl Summary {
    /// Lists the layers of `graph` for an input of shape `input_shape`, batch included.
    ///
    /// An activation directly behind a convolution or a dense layer, and the bias addition behind a matrix
    /// product, belong to that layer's row, as in Keras. Weights that several layers read count once.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if the shapes cannot be found.
    pub fn of(graph: &OnnxGraph, input_shape: [usize; 4], input_layout: Layout) -> Result<Summary> {
        let shapes = tensor_shapes(graph, input_shape)?;
        let weights = graph.weight_shapes();
        let nodes = graph.nodes();
        let readers = count_readers(&nodes);
        let (input_name, _) = graph.input()?;
        let channels_last = |tensor: &str| {
            let shape = shapes.get(tensor)?.get(1..)?.to_vec();
            match (shape.len(), layout_of(graph, tensor, input_layout)) {
                (3, Layout::Nchw) => Some(vec![shape[1], shape[2], shape[0]]),
                _ => Some(shape),
            }
        };
        let mut layers = vec![Layer {
            kind: "InputLayer".to_owned(),
            output_shape: channels_last(&input_name),
            name: input_name.clone(),
            tensor: input_name,
            trainable: 0,
            non_trainable: 0,
        }];
        let mut counted = HashSet::new();
        for node in &nodes {
            let Some(tensor) = node.outputs.first() else {
                continue;
            };
            if is_plumbing(node) {
                continue;
            }
            let (trainable, non_trainable) = count_parameters(node, &weights, &mut counted);
            let previous = layers.last_mut().filter(|layer| {
                node.inputs.contains(&layer.tensor)
                    && readers.get(&layer.tensor) == Some(&1)
                    && joins(node, &layer.kind, &weights)
            });
            match previous {
                Some(layer) => {
                    layer.tensor = tensor.clone();
                    layer.trainable += trainable;
                    layer.non_trainable += non_trainable;
                }
                None => layers.push(Layer {
                    name: node.name.clone(),
                    kind: kind_of(node, &weights),
                    tensor: tensor.clone(),
                    output_shape: channels_last(tensor),
                    trainable,
                    non_trainable,
                }),
            }
        }
        Ok(Summary {
            model: graph.name().to_owned(),
            layers,
        })
    }

    /// All parameters.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(Layer::parameters).sum()
    }

    /// Parameters that training would change.
    pub fn trainable(&self) -> u64 {
        self.layers.iter().map(|l| l.trainable).sum()
    }

    /// Parameters that training would not change.
    pub fn non_trainable(&self) -> u64 {
        self.layers.iter().map(|l| l.non_trainable).sum()
    }
}

fn count_readers(nodes: &[OnnxNode]) -> HashMap<String, usize> {
    let mut readers = HashMap::new();
    for input in nodes.iter().flat_map(|n| &n.inputs) {
        *readers.entry(input.clone()).or_insert(0) += 1;
    }
    readers
}

/// Constants and shape arithmetic, which are no layers.
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

fn joins(node: &OnnxNode, previous_kind: &str, weights: &HashMap<String, Vec<usize>>) -> bool {
    let is_bias = node.op_type == "Add" && node.inputs.iter().any(|i| weights.contains_key(i));
    match previous_kind {
        "Dense" => is_bias || is_activation(&node.op_type),
        "Conv2D" | "DepthwiseConv2D" => is_activation(&node.op_type),
        _ => false,
    }
}

/// Counts a node's weights, trainable and not, each weight at its first reader only.
fn count_parameters(
    node: &OnnxNode,
    weights: &HashMap<String, Vec<usize>>,
    counted: &mut HashSet<String>,
) -> (u64, u64) {
    let (mut trainable, mut non_trainable) = (0, 0);
    let has_parameters = matches!(
        node.op_type.as_str(),
        "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "MatMul"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "PRelu"
            | "Add"
            | "Mul"
            | "Sub"
            | "Div"
    );
    if !has_parameters {
        return (0, 0);
    }
    for (i, input) in node.inputs.iter().enumerate() {
        let Some(dims) = weights.get(input) else {
            continue;
        };
        if dims.is_empty() || !counted.insert(input.clone()) {
            continue;
        }
        let count = dims.iter().map(|&d| d as u64).product::<u64>();
        // A BatchNormalization reads x, scale, bias, mean, variance.
        if node.op_type == "BatchNormalization" && i >= 3 {
            non_trainable += count;
        } else {
            trainable += count;
        }
    }
    (trainable, non_trainable)
}

fn kind_of(node: &OnnxNode, weights: &HashMap<String, Vec<usize>>) -> String {
    let reads_weight = node.inputs.iter().any(|i| weights.contains_key(i));
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
        "Pad" => "ZeroPadding2D",
        "Transpose" => "Permute",
        "LRN" => "LocalResponseNormalization",
        other => other,
    };
    kind.to_owned()
}
