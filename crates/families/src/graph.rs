//! An ONNX graph that grows as data passes it. Every node has the name of its module, and so has its output: a layer
//! can be cut at by the name that timm has for it.

use std::collections::HashSet;

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

use crate::error::Result;
use crate::safetensors::Tensor;
use crate::weights::Weights;

/// ONNX's operator set: the first with `Gelu`.
const OPERATOR_SET: i64 = 20;
/// The version of the file format that belongs to it.
const FORMAT: i64 = 9;
/// The name of the input.
pub(crate) const INPUT: &str = "image";

/// Collects nodes and weights in the order in which data passes them.
pub(crate) struct Graph<'a> {
    pub weights: &'a Weights,
    nodes: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
    names: HashSet<String>,
    parameters: u64,
}

/// An attribute of a node.
pub(crate) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

impl<'a> Graph<'a> {
    pub fn new(weights: &'a Weights) -> Graph<'a> {
        Graph {
            weights,
            nodes: Vec::new(),
            initializers: Vec::new(),
            names: HashSet::new(),
            parameters: 0,
        }
    }

    /// Adds a node whose name and output are `name`; returns it.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        name: &str,
        attributes: &[(&str, Attribute)],
    ) -> String {
        self.nodes.push(pb::NodeProto {
            op_type: op.to_owned(),
            name: name.to_owned(),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![name.to_owned()],
            attribute: attributes
                .iter()
                .map(|(name, value)| attribute(name, value))
                .collect(),
            ..Default::default()
        });
        name.to_owned()
    }

    /// Gives the tensor `old`, which the last node makes, and that node the name `new`; returns it.
    pub fn renamed(&mut self, old: &str, new: &str) -> String {
        if let Some(node) = self.nodes.last_mut().filter(|node| node.output == [old]) {
            node.name = new.to_owned();
            node.output = vec![new.to_owned()];
            return new.to_owned();
        }
        old.to_owned()
    }

    /// Adds a node that cuts `input` into pieces of these lengths along `axis`, named `names`.
    pub fn split(&mut self, input: &str, lengths: &[usize], axis: i64, names: &[String]) {
        let lengths: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
        let lengths = self.integers(&format!("{}.lengths", names[0]), &lengths);
        self.nodes.push(pb::NodeProto {
            op_type: "Split".into(),
            name: format!("{}.split", names[0]),
            input: vec![input.to_owned(), lengths],
            output: names.to_vec(),
            attribute: vec![attribute("axis", &Attribute::Int(axis))],
            ..Default::default()
        });
    }

    /// Reads the weight `name` into the graph, unless it is there; returns its name.
    pub fn weight(&mut self, name: &str) -> Result<String> {
        if !self.names.contains(name) {
            let tensor = self.weights.read(name)?;
            self.put_weight(name, tensor);
        }
        Ok(name.to_owned())
    }

    /// Reads the matrix `name` into the graph with rows and columns exchanged, as `MatMul` takes it.
    pub fn transposed_weight(&mut self, name: &str) -> Result<String> {
        if !self.names.contains(name) {
            let tensor = self.weights.read(name)?;
            self.put_weight(name, tensor.transposed());
        }
        Ok(name.to_owned())
    }

    /// Adds a parameter of the network.
    pub fn put_weight(&mut self, name: &str, tensor: Tensor) -> String {
        self.parameters += tensor.values.len() as u64;
        self.constant(name, tensor)
    }

    /// Adds a tensor that is no parameter.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> String {
        if self.names.insert(name.to_owned()) {
            self.initializers.push(pb::TensorProto {
                name: name.to_owned(),
                dims: tensor.dims.iter().map(|&d| d as i64).collect(),
                data_type: DataType::Float as i32,
                raw_data: tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ..Default::default()
            });
        }
        name.to_owned()
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: f32) -> String {
        let tensor = Tensor {
            dims: Vec::new(),
            values: vec![value],
        };
        self.constant(name, tensor)
    }

    /// Adds a vector of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        if self.names.insert(name.to_owned()) {
            self.initializers.push(pb::TensorProto {
                name: name.to_owned(),
                dims: vec![values.len() as i64],
                data_type: DataType::Int64 as i32,
                raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                ..Default::default()
            });
        }
        name.to_owned()
    }

    /// `input` in another shape, in which 0 stands for a length that stays and −1 for the one that is left.
    pub fn reshape(&mut self, input: &str, shape: &[i64], name: &str) -> String {
        let shape = self.integers(&format!("{name}.shape"), shape);
        self.node("Reshape", &[input, &shape], name, &[])
    }

    /// `input` with its axes in the order `perm`.
    pub fn transpose(&mut self, input: &str, perm: &[i64], name: &str) -> String {
        self.node(
            "Transpose",
            &[input],
            name,
            &[("perm", Attribute::Ints(perm))],
        )
    }

    /// The entries `begin` to `end` of `input` along `axis`.
    pub fn slice(&mut self, input: &str, begin: usize, end: i64, axis: i64, name: &str) -> String {
        let begin = self.integers(&format!("{name}.begin"), &[begin as i64]);
        let end = self.integers(&format!("{name}.end"), &[end]);
        let axis = self.integers(&format!("{name}.axis"), &[axis]);
        self.node("Slice", &[input, &begin, &end, &axis], name, &[])
    }

    /// Counts parameters that are part of a constant.
    pub fn count(&mut self, parameters: usize) {
        self.parameters += parameters as u64;
    }

    /// All parameters so far.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The model: `height` and `width` of the input are free where none, `output` has the shape `[N, width]`.
    pub fn model(self, size: Option<usize>, output: &str, output_width: usize) -> pb::ModelProto {
        let free = |name: &str| dimension::Value::DimParam(name.into());
        let fixed = |n: usize| dimension::Value::DimValue(n as i64);
        let side = |name: &str| size.map_or_else(|| free(name), fixed);
        let graph = pb::GraphProto {
            name: self.weights.architecture().to_owned(),
            node: self.nodes,
            initializer: self.initializers,
            input: vec![value(
                INPUT,
                vec![free("N"), fixed(3), side("H"), side("W")],
            )],
            output: vec![value(output, vec![free("N"), fixed(output_width)])],
            ..Default::default()
        };
        pb::ModelProto {
            ir_version: FORMAT,
            opset_import: vec![pb::OperatorSetIdProto {
                domain: String::new(),
                version: OPERATOR_SET,
            }],
            producer_name: env!("CARGO_PKG_NAME").into(),
            graph: Some(graph),
            ..Default::default()
        }
    }
}

fn value(name: &str, dims: Vec<dimension::Value>) -> pb::ValueInfoProto {
    let dim = dims.into_iter().map(|value| Dimension {
        value: Some(value),
        ..Default::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim: dim.collect() }),
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn attribute(name: &str, value: &Attribute) -> pb::AttributeProto {
    let mut attribute = pb::AttributeProto {
        name: name.to_owned(),
        ..Default::default()
    };
    let kind = match value {
        Attribute::Int(i) => {
            attribute.i = *i;
            AttributeType::Int
        }
        Attribute::Ints(ints) => {
            attribute.ints = ints.to_vec();
            AttributeType::Ints
        }
        Attribute::Float(f) => {
            attribute.f = *f;
            AttributeType::Float
        }
        Attribute::Text(s) => {
            attribute.s = s.as_bytes().to_vec();
            AttributeType::String
        }
    };
    attribute.r#type = kind as i32;
    attribute
}
