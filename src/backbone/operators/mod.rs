//! Translates ONNX operators into trainable layers.

use std::collections::{HashMap, HashSet};

use super::onnx::{OnnxGraph, OnnxNode};
use crate::error::Result;
use crate::nn::ConvNet;
use crate::nn::convnet::{Layer, Op};
use crate::nn::maps::{FlatOrder, Maps};
use crate::nn::pool::Reduce;
use crate::pixels::Layout;

mod arithmetic;
mod linear;
mod pooling;
mod shapes;

type Fallible<T> = std::result::Result<T, String>;

/// Operators supported by [`Compiler::add`]; some only in certain forms.
pub(super) fn is_supported(op_type: &str) -> bool {
    matches!(
        op_type,
        "Conv"
            | "BatchNormalization"
            | "Relu"
            | "LeakyRelu"
            | "Clip"
            | "Sigmoid"
            | "Tanh"
            | "HardSigmoid"
            | "HardSwish"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "ReduceMean"
            | "ReduceMax"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Concat"
            | "Gemm"
            | "MatMul"
            | "Flatten"
            | "Reshape"
            | "Squeeze"
            | "Transpose"
            | "Pad"
            | "Dropout"
            | "Identity"
            | "Constant"
    )
}

/// One weight tensor of the end of a base.
#[derive(Clone, Debug, PartialEq)]
pub struct TailWeight {
    /// Its name in the graph.
    pub name: String,
    /// Its values, row-major.
    pub values: Vec<f32>,
    /// Whether training changes it.
    pub trained: bool,
    /// Whether weight decay acts on it: kernels, not biases and scales.
    pub decays: bool,
}

/// A tensor of the graph, as a value of the network.
#[derive(Clone, Copy)]
struct Value {
    number: usize,
    shape: Maps,
    /// Whether the graph has it channels last; the network never does.
    channels_last: bool,
    /// Zeros around it that the graph has added: above, left, below, right.
    pad: [usize; 4],
}

/// Turns the operators of a graph into layers.
pub(super) struct Compiler<'a> {
    graph: &'a OnnxGraph,
    shapes: HashMap<String, Vec<usize>>,
    train_batchnorm: bool,
    values: HashMap<String, Value>,
    input: Maps,
    layers: Vec<Layer>,
    weights: Vec<TailWeight>,
    numbers: HashMap<String, usize>,
}

/// The operator that is being read.
struct Reading<'a> {
    index: usize,
    node: &'a OnnxNode,
    /// Whether its weights may be trained.
    trained: bool,
    /// Tensors that frozen layers read.
    shared: &'a HashSet<&'a str>,
}

impl<'a> Compiler<'a> {
    /// For `graph`, whose tensors have `shapes` (batch included) as far as they are known.
    pub fn new(
        graph: &'a OnnxGraph,
        shapes: HashMap<String, Vec<usize>>,
        train_batchnorm: bool,
    ) -> Compiler<'a> {
        Compiler {
            graph,
            shapes,
            train_batchnorm,
            values: HashMap::new(),
            input: Maps::vector(0),
            layers: Vec::new(),
            weights: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Begins at the tensor `cut`.
    pub fn start(&mut self, cut: &str, layout: Layout) -> Result<()> {
        let dims = self.shapes.get(cut).cloned().unwrap_or_default();
        let shape = match (dims.as_slice(), layout) {
            ([_, features], _) => Maps::vector(*features),
            ([_, channels, height, width], Layout::Nchw)
            | ([_, height, width, channels], Layout::Nhwc) => Maps {
                channels: *channels,
                height: *height,
                width: *width,
            },
            _ => {
                return Err(self.graph.fail(format!(
                    "the shape of `{cut}` is unknown; train from another layer"
                )));
            }
        };
        self.input = shape;
        let value = Value {
            number: 0,
            shape,
            channels_last: layout == Layout::Nhwc && dims.len() == 4,
            pad: [0; 4],
        };
        self.values.insert(cut.to_owned(), value);
        Ok(())
    }

    /// Takes node `index` of the graph; `trained` tells whether its weights may be trained, unless they are
    /// `shared` with frozen layers.
    pub fn add(
        &mut self,
        index: usize,
        node: &OnnxNode,
        trained: bool,
        shared: &HashSet<&str>,
    ) -> Fallible<()> {
        if node.op_type == "Constant" {
            return Ok(());
        }
        let reading = Reading {
            index,
            node,
            trained,
            shared,
        };
        let value = match node.op_type.as_str() {
            "Dropout" | "Identity" => self.input(&reading, 0)?,
            "Conv" => self.conv(&reading)?,
            "BatchNormalization" => self.batch_norm(&reading)?,
            "MaxPool" | "AveragePool" => self.pool(&reading)?,
            "GlobalAveragePool" => self.global_pool(&reading, Reduce::Mean)?,
            "GlobalMaxPool" => self.global_pool(&reading, Reduce::Max)?,
            "ReduceMean" => self.reduce(&reading, Reduce::Mean)?,
            "ReduceMax" => self.reduce(&reading, Reduce::Max)?,
            "Gemm" | "MatMul" => self.dense(&reading)?,
            "Concat" => self.concat(&reading)?,
            "Flatten" | "Reshape" | "Squeeze" => self.flatten(&reading)?,
            "Transpose" => self.transpose(&reading)?,
            "Pad" => self.pad(&reading)?,
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(&reading)?,
            _ => self.pointwise(&reading)?,
        };
        if let Some(dims) = node.outputs.first().and_then(|name| self.shapes.get(name)) {
            let found = value.shape.values();
            let expected: usize = dims.iter().skip(1).product();
            if value.pad == [0; 4] && found != expected {
                return Err(format!("it outputs {expected} values, not {found}"));
            }
        }
        if let Some(name) = node.outputs.first() {
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The network that ends in the tensor `output`, as one vector per image, and its weights.
    pub fn finish(mut self, output: &str) -> Result<(ConvNet, Vec<TailWeight>)> {
        let Some(&value) = self.values.get(output) else {
            return Err(self.graph.fail(format!(
                "`{output}` does not depend on the layer to train from"
            )));
        };
        let order = if value.channels_last {
            FlatOrder::ChannelsLast
        } else {
            FlatOrder::ChannelsFirst
        };
        // A vector is flattened too if it is not made by the last layer: the output is what that makes.
        if value.shape.pixels() > 1 || value.number != self.layers.len() {
            self.push(
                output,
                Op::Flatten(order),
                &[value],
                Maps::vector(value.shape.values()),
            );
        }
        let trained = self.weights.iter().map(|w| w.trained).collect();
        Ok((ConvNet::new(self.input, self.layers, trained), self.weights))
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[Value], shape: Maps) -> Value {
        self.layers.push(Layer {
            name: name.to_owned(),
            op,
            inputs: inputs.iter().map(|value| value.number).collect(),
            output: shape,
        });
        Value {
            number: self.layers.len(),
            shape,
            channels_last: inputs.first().is_some_and(|value| value.channels_last),
            pad: [0; 4],
        }
    }

    /// Input `place` of a node, with the zeros around it.
    fn padded_input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let name = reading.node.inputs.get(place).cloned().unwrap_or_default();
        self.values
            .get(&name)
            .copied()
            .ok_or_else(|| format!("its input `{name}` is not a feature map"))
    }

    fn input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let value = self.padded_input(reading, place)?;
        if value.pad != [0; 4] {
            return Err("padding is only supported before a convolution".into());
        }
        Ok(value)
    }

    /// Input `place` of a node that works on maps channels first.
    fn maps_input(&self, reading: &Reading, place: usize) -> Fallible<Value> {
        let value = self.padded_input(reading, place)?;
        if value.channels_last {
            return Err("its feature maps are channels-last".into());
        }
        Ok(value)
    }

    /// The number of a weight of the network, read from the graph at its first use.
    fn weight(
        &mut self,
        reading: &Reading,
        place: usize,
        length: usize,
        trains: bool,
        decays: bool,
    ) -> Fallible<usize> {
        let name = reading.node.inputs.get(place).cloned().unwrap_or_default();
        let trained = trains && reading.trained && !reading.shared.contains(name.as_str());
        if let Some(&number) = self.numbers.get(&name) {
            self.weights[number].trained &= trained;
            return Ok(number);
        }
        let values = self
            .graph
            .weight_values(&name)
            .filter(|values| values.len() == length)
            .ok_or_else(|| format!("`{name}` is not a float32 weight of {length} values"))?;
        let number = self.weights.len();
        self.weights.push(TailWeight {
            name: name.clone(),
            values,
            trained,
            decays,
        });
        self.numbers.insert(name, number);
        Ok(number)
    }

    fn has_input(reading: &Reading, place: usize) -> bool {
        reading
            .node
            .inputs
            .get(place)
            .is_some_and(|n| !n.is_empty())
    }
}
