//! The layers of a graph as Keras lists them: name, type, output shape, parameters, cost. No file access.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::cut::Layouts;
use super::layers::{Detail, group, pick};
use super::network::tensor_shapes;
use super::onnx::{OnnxGraph, OnnxNode};
use crate::error::Result;
use crate::pixels::Layout;

/// One row of a summary: a layer, or a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Keras's name of its type, such as `Conv2D`; the ONNX operator where Keras has none.
    pub kind: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// Output shape without the batch axis, channels last; `None` if it depends on the input's values.
    pub output_shape: Option<Vec<usize>>,
    /// Trainable parameters.
    pub trainable: u64,
    /// Non-trainable parameters: the moving mean and variance of a BatchNorm.
    pub non_trainable: u64,
    /// Multiplications of an input with a weight, each with its addition, for one image: those of
    /// convolutions and dense layers.
    pub macs: u64,
    /// Size of the output for one image, as float32.
    pub activation_bytes: u64,
}

impl Layer {
    /// All parameters of the layer.
    pub fn parameters(&self) -> u64 {
        self.trainable + self.non_trainable
    }

    /// Marks all its parameters as not trainable.
    pub fn freeze(&mut self) {
        self.non_trainable += std::mem::take(&mut self.trainable);
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
    /// An activation directly after a convolution or a dense layer, and the bias addition after a matrix
    /// product, belong to that layer's row, as in Keras. Weights that several layers read count once.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if the shapes cannot be found.
    pub fn of(
        graph: &OnnxGraph,
        input_shape: [usize; 4],
        input_layout: Layout,
        detail: Detail,
    ) -> Result<Summary> {
        let shapes = tensor_shapes(graph, input_shape)?;
        let nodes = graph.nodes();
        let mut counter = Counter {
            constants: graph.weight_shapes(),
            weights: graph.weight_names(),
            copies: graph.weight_copies(),
            counted: HashSet::new(),
        };
        let layouts = Layouts::of(graph, input_layout);
        let channels_last = |tensor: &str| {
            let shape = shapes.get(tensor)?.get(1..)?.to_vec();
            match (shape.len(), layouts.at(tensor)) {
                (3, Layout::Nchw) => Some(vec![shape[1], shape[2], shape[0]]),
                _ => Some(shape),
            }
        };
        let layers = group(graph, detail)?
            .into_iter()
            .map(|group| {
                let output_shape = channels_last(&group.tensor);
                let values: Option<usize> = output_shape.as_ref().map(|s| s.iter().product());
                let mut layer = Layer {
                    activation_bytes: values.unwrap_or(0) as u64 * 4,
                    name: group.name,
                    kind: group.kind,
                    tensor: group.tensor,
                    output_shape,
                    ..Layer::default()
                };
                for node in group.nodes.iter().map(|&i| &nodes[i]) {
                    let (trainable, non_trainable) = counter.parameters(node);
                    layer.trainable += trainable;
                    layer.non_trainable += non_trainable;
                    let shape = node.outputs.first().and_then(|o| shapes.get(o));
                    layer.macs += shape.map_or(0, |shape| counter.macs(node, shape));
                }
                layer
            })
            .collect();
        Ok(Summary {
            model: graph.name().to_owned(),
            layers,
        })
    }

    /// Freezes the layers before `layer` (a name, a unique part of one, or `-3` for the third from the end);
    /// that layer and those after it are trained.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] if there is no such layer.
    pub fn unfreeze_from(&mut self, layer: &str) -> Result<()> {
        let names: Vec<&str> = self.layers.iter().map(|l| l.name.as_str()).collect();
        let first = pick(&names, layer, "--unfreeze-from", &self.model)?;
        self.layers[..first].iter_mut().for_each(Layer::freeze);
        Ok(())
    }

    /// All parameters.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(Layer::parameters).sum()
    }

    /// Trainable parameters.
    pub fn trainable(&self) -> u64 {
        self.layers.iter().map(|l| l.trainable).sum()
    }

    /// Non-trainable parameters.
    pub fn non_trainable(&self) -> u64 {
        self.layers.iter().map(|l| l.non_trainable).sum()
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|l| l.macs).sum()
    }

    /// Size of all outputs for one image, as float32.
    pub fn activation_bytes(&self) -> u64 {
        self.layers.iter().map(|l| l.activation_bytes).sum()
    }
}

/// Counts what nodes do with constant tensors.
struct Counter {
    /// Dimensions of all constant tensors.
    constants: HashMap<String, Vec<usize>>,
    /// Those that training could change.
    weights: HashSet<String>,
    /// Tensors made of a weight alone: their weights.
    copies: HashMap<String, String>,
    /// Those that were counted: a weight counts at its first reader only.
    counted: HashSet<String>,
}

impl Counter {
    /// Parameters of a node, trainable and not.
    fn parameters(&mut self, node: &OnnxNode) -> (u64, u64) {
        let (mut trainable, mut non_trainable) = (0, 0);
        let op = node.op_type.as_str();
        let (has_parameters, is_elementwise) = match op {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "BatchNormalization" => (true, false),
            "InstanceNormalization" | "LayerNormalization" | "PRelu" => (true, false),
            "Add" | "Mul" | "Sub" | "Div" => (true, true),
            _ => (false, false),
        };
        if !has_parameters {
            return (0, 0);
        }
        for (i, input) in node.inputs.iter().enumerate() {
            let input = self.copies.get(input).unwrap_or(input);
            let Some(dims) = self.constants.get(input) else {
                continue;
            };
            // Numbers in formulas, such as the 3 of a hard swish, are not parameters.
            let is_number = dims.is_empty() || is_elementwise && !self.weights.contains(input);
            if is_number || !self.counted.insert(input.clone()) {
                continue;
            }
            let count = dims.iter().map(|&d| d as u64).product::<u64>();
            // A BatchNormalization reads x, scale, bias, mean, variance; what is taken off or divided by is
            // the mean and deviation of a normalisation.
            let is_statistic = op == "BatchNormalization" && i >= 3 || matches!(op, "Sub" | "Div");
            if is_statistic {
                non_trainable += count;
            } else {
                trainable += count;
            }
        }
        (trainable, non_trainable)
    }

    /// Multiply-adds of a node with the output shape `output`, batch included.
    fn macs(&self, node: &OnnxNode, output: &[usize]) -> u64 {
        let values: usize = output.iter().product();
        let Some(weight) = node.inputs.get(1) else {
            return 0;
        };
        let weight = self.copies.get(weight).unwrap_or(weight);
        let Some(weight) = self.constants.get(weight) else {
            return 0;
        };
        let size: usize = weight.iter().product();
        let per_value = match (node.op_type.as_str(), &weight[..]) {
            // [outputs, inputs / group, height, width]
            ("Conv", [outputs, ..]) => size / (*outputs).max(1),
            ("Gemm" | "MatMul", _) => size / output.last().copied().unwrap_or(1).max(1),
            _ => 0,
        };
        values as u64 * per_value as u64
    }
}
