//! An ONNX file as a graph that can be read, cut at a tensor and extended.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

use super::{check, external};
use crate::error::{Error, Result};

/// A graph with one picture tensor as its input.
#[derive(Clone, Debug)]
pub struct OnnxGraph {
    proto: pb::ModelProto,
    /// Name or path of the model, for error messages.
    name: String,
}

/// One operator of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxNode {
    /// Its name; where the file gives none, the name of its first output.
    pub name: String,
    /// The ONNX operator, such as `Conv`.
    pub op_type: String,
    /// Tensors that it reads; an empty name is an input left out.
    pub inputs: Vec<String>,
    /// Tensors that it makes.
    pub outputs: Vec<String>,
    /// The attribute `group` of a convolution; 1 where absent.
    pub group: i64,
    /// The attribute `kernel_shape`, `[height, width]`; empty where absent.
    pub kernel_shape: Vec<i64>,
    /// The attribute `perm` of a transposition; empty where absent.
    pub perm: Vec<i64>,
}

/// The value of an attribute of a node to be added.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
}

impl OnnxGraph {
    /// Reads the bytes of an ONNX file; `name` stands for it in error messages.
    ///
    /// # Errors
    /// [`Error::Model`] if the bytes are no ONNX file, if it has no node, if it keeps its weights in other
    /// files, if its nodes form a circle, or if its weights are not as large as it says.
    pub fn parse(bytes: &[u8], name: &str) -> Result<OnnxGraph> {
        OnnxGraph::from_proto(decode(bytes, name)?, name)
    }

    /// As [`parse`](Self::parse), of a file that may keep its weights in other files of the folder `folder`;
    /// also returns its bytes as one file, if they are others than `bytes`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if such a file is missing, too short or elsewhere.
    pub fn parse_in(
        bytes: &[u8],
        folder: &Path,
        name: &str,
    ) -> Result<(OnnxGraph, Option<Vec<u8>>)> {
        let mut proto = decode(bytes, name)?;
        let is_split = external::inline(&mut proto, folder, name)?;
        let whole = is_split.then(|| proto.encode_to_vec());
        Ok((OnnxGraph::from_proto(proto, name)?, whole))
    }

    fn from_proto(proto: pb::ModelProto, name: &str) -> Result<OnnxGraph> {
        let fail = |problem: String| Error::Model {
            model: name.to_owned(),
            problem,
        };
        let graph = proto
            .graph
            .as_ref()
            .filter(|g| !g.node.is_empty())
            .ok_or_else(|| fail("this is no ONNX file, or one without a graph".into()))?;
        if let Some(problem) = check::damage(graph) {
            return Err(fail(problem));
        }
        let order = check::execution_order(graph).map_err(fail)?;
        let mut proto = proto;
        if let Some(graph) = &mut proto.graph
            && !order.is_sorted()
        {
            graph.node = order.iter().map(|&i| graph.node[i].clone()).collect();
        }
        Ok(OnnxGraph {
            proto,
            name: name.to_owned(),
        })
    }

    /// The bytes of this graph as an ONNX file; the same graph gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// Name or path of the model, for error messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    pub(crate) fn fail(&self, problem: impl Into<String>) -> Error {
        Error::Model {
            model: self.name.clone(),
            problem: problem.into(),
        }
    }

    fn graph(&self) -> Result<&pb::GraphProto> {
        self.proto
            .graph
            .as_ref()
            .ok_or_else(|| self.fail("the file has no graph"))
    }

    pub(super) fn graph_mut(&mut self) -> &mut pb::GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// Name and dimensions of the picture input; `None` is a free dimension.
    ///
    /// # Errors
    /// [`Error::Model`] if the graph has not exactly one float32 input with four dimensions.
    pub fn input(&self) -> Result<(String, Vec<Option<usize>>)> {
        let graph = self.graph()?;
        let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs: Vec<_> = graph
            .input
            .iter()
            .filter(|i| !weights.contains(i.name.as_str()))
            .collect();
        let [input] = inputs[..] else {
            let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(self.fail(format!(
                "it has {} inputs ({}); a base has one, the picture",
                names.len(),
                names.join(", ")
            )));
        };
        let tensor = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(type_proto::Value::TensorType(tensor)) => tensor,
            _ => return Err(self.fail(format!("its input `{}` has no type", input.name))),
        };
        if tensor.elem_type != DataType::Float as i32 {
            return Err(self.fail(format!(
                "its input `{}` is not float32; export the model with a float32 input",
                input.name
            )));
        }
        let dims: Vec<Option<usize>> = tensor
            .shape
            .iter()
            .flat_map(|shape| &shape.dim)
            .map(|dim| match dim.value {
                Some(dimension::Value::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
                _ => None,
            })
            .collect();
        if dims.len() != 4 {
            return Err(self.fail(format!(
                "its input `{}` has {} dimensions; a picture has four (batch, channels, height, width)",
                input.name,
                dims.len()
            )));
        }
        Ok((input.name.clone(), dims))
    }

    /// Names of the graph's outputs.
    pub fn outputs(&self) -> Vec<String> {
        self.proto
            .graph
            .iter()
            .flat_map(|g| &g.output)
            .map(|o| o.name.clone())
            .collect()
    }

    /// The operators in the file's order, which is an order of execution.
    pub fn nodes(&self) -> Vec<OnnxNode> {
        self.proto
            .graph
            .iter()
            .flat_map(|g| &g.node)
            .map(OnnxNode::read)
            .collect()
    }

    /// Dimensions of each constant tensor by name: weights, and what `Constant` nodes make.
    pub fn weight_shapes(&self) -> HashMap<String, Vec<usize>> {
        let dims = |t: &pb::TensorProto| {
            let dims = t.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0));
            dims.collect()
        };
        let graph = self.proto.graph.iter();
        let constants = graph.clone().flat_map(|g| &g.node).filter_map(|node| {
            let value = node.attribute.iter().find(|a| a.name == "value")?;
            let is_constant = node.op_type == "Constant";
            let name = node.output.first().filter(|_| is_constant)?;
            Some((name.clone(), dims(value.t.as_ref()?)))
        });
        graph
            .flat_map(|g| &g.initializer)
            .map(|t| (t.name.clone(), dims(t)))
            .chain(constants)
            .collect()
    }

    /// Names of the weights: the constant tensors that training could change.
    pub fn weight_names(&self) -> HashSet<String> {
        let graph = self.proto.graph.iter();
        graph
            .flat_map(|g| &g.initializer)
            .map(|t| t.name.clone())
            .collect()
    }

    /// Tensors that are made of one weight alone, such as the transposed kernel of a dense layer: their weights.
    pub fn weight_copies(&self) -> HashMap<String, String> {
        let weights = self.weight_names();
        let mut copies: HashMap<String, String> = HashMap::new();
        for node in self.proto.graph.iter().flat_map(|g| &g.node) {
            let keeps_values = matches!(
                node.op_type.as_str(),
                "Transpose"
                    | "Identity"
                    | "Reshape"
                    | "Cast"
                    | "Squeeze"
                    | "Unsqueeze"
                    | "Flatten"
                    | "DequantizeLinear"
            );
            if let (true, Some(input), Some(output)) =
                (keeps_values, node.input.first(), node.output.first())
                && let Some(weight) = copies.get(input).or_else(|| weights.get(input))
            {
                copies.insert(output.clone(), weight.clone());
            }
        }
        copies
    }

    /// Whether any of its tensors are kept or computed as integers of fewer bits.
    pub fn is_quantized(&self) -> bool {
        let mut nodes = self.proto.graph.iter().flat_map(|g| &g.node);
        nodes.any(|node| node.op_type == "DequantizeLinear")
    }

    /// Version of ONNX's operators that it is written in.
    pub(super) fn operator_set(&self) -> i64 {
        let mut sets = self.proto.opset_import.iter();
        let own = sets.find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        own.map_or(1, |set| set.version)
    }

    /// Writes it in version `version` of ONNX's operators, which wants at least version `file_format` of the file
    /// format.
    pub(super) fn set_operator_set(&mut self, version: i64, file_format: i64) {
        for set in &mut self.proto.opset_import {
            if matches!(set.domain.as_str(), "" | "ai.onnx") {
                set.version = version;
            }
        }
        self.proto.ir_version = self.proto.ir_version.max(file_format);
    }

    /// Name of the program that wrote the file; empty if it does not say.
    pub fn producer(&self) -> &str {
        &self.proto.producer_name
    }

    /// Keeps what is needed to compute `tensors` and makes them the outputs.
    ///
    /// # Errors
    /// [`Error::Model`] if the graph has no such tensor.
    pub fn keep(&mut self, tensors: &[String]) -> Result<()> {
        let nodes = self.nodes();
        let producers: HashMap<&str, usize> = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, node)| node.outputs.iter().map(move |o| (o.as_str(), i)))
            .collect();
        let mut needed_nodes = HashSet::new();
        let mut needed: HashSet<&str> = HashSet::new();
        let mut todo: Vec<&str> = Vec::new();
        for tensor in tensors {
            if !producers.contains_key(tensor.as_str()) {
                return Err(self.fail(format!("it has no tensor `{tensor}`")));
            }
            todo.push(tensor);
        }
        while let Some(tensor) = todo.pop() {
            if !needed.insert(tensor) {
                continue;
            }
            if let Some(&i) = producers.get(tensor)
                && needed_nodes.insert(i)
            {
                todo.extend(nodes[i].inputs.iter().map(String::as_str));
            }
        }
        let graph = self.graph_mut();
        let mut index = 0;
        graph.node.retain(|_| {
            index += 1;
            needed_nodes.contains(&(index - 1))
        });
        graph
            .initializer
            .retain(|t| needed.contains(t.name.as_str()));
        graph.input.retain(|i| needed.contains(i.name.as_str()));
        graph.value_info.clear();
        graph.quantization_annotation.clear();
        graph.output = tensors.iter().map(|t| float_value(t, &[])).collect();
        Ok(())
    }

    /// What computes the outputs from `tensor`, whose dimensions are `[N, …dims]`, as a graph of its own with
    /// `tensor` as its input.
    pub(crate) fn behind(&self, tensor: &str, dims: &[usize]) -> OnnxGraph {
        let nodes = self.nodes();
        let outputs = self.outputs();
        let mut needed: HashSet<&str> = outputs.iter().map(String::as_str).collect();
        // Nodes are in an order of execution: whoever needs a tensor comes after its maker.
        let mut is_behind: Vec<bool> = Vec::new();
        for node in nodes.iter().rev() {
            let taken = node
                .outputs
                .iter()
                .any(|o| o != tensor && needed.contains(o.as_str()));
            if taken {
                needed.extend(node.inputs.iter().map(String::as_str));
            }
            // What makes the tensor is not behind it.
            is_behind.push(taken && !node.outputs.iter().any(|o| o == tensor));
            needed.remove(tensor);
        }
        is_behind.reverse();
        let kept: HashSet<String> = nodes
            .iter()
            .zip(&is_behind)
            .filter(|(_, behind)| **behind)
            .flat_map(|(node, _)| node.inputs.clone())
            .collect();
        let mut part = OnnxGraph {
            proto: pb::ModelProto {
                graph: None,
                ..self.proto.clone()
            },
            name: self.name.clone(),
        };
        let mut all = vec![None];
        all.extend(dims.iter().map(|&d| Some(d)));
        if let Some(graph) = &self.proto.graph {
            let nodes = graph.node.iter().zip(is_behind);
            let weights = graph.initializer.iter();
            part.proto.graph = Some(pb::GraphProto {
                name: graph.name.clone(),
                node: nodes.filter(|(_, b)| *b).map(|(n, _)| n.clone()).collect(),
                initializer: weights
                    .filter(|t| kept.contains(&t.name))
                    .cloned()
                    .collect(),
                input: vec![float_value(tensor, &all)],
                output: graph.output.clone(),
                ..Default::default()
            });
        }
        part
    }

    /// Puts the operators of `part`, which [`behind`](Self::behind) gave of a graph like this one, behind this
    /// graph's outputs; name, metadata and outputs become those of `part`.
    pub(crate) fn append(&mut self, part: &OnnxGraph) {
        let own = self.proto.graph.take().unwrap_or_default();
        self.proto = part.proto.clone();
        let graph = self.graph_mut();
        let input = std::mem::replace(&mut graph.input, own.input.clone());
        debug_assert!(input.len() == 1);
        let (nodes, weights) = (
            std::mem::take(&mut graph.node),
            std::mem::take(&mut graph.initializer),
        );
        graph.node = own.node.into_iter().chain(nodes).collect();
        graph.initializer = own.initializer.into_iter().chain(weights).collect();
        graph.doc_string = own.doc_string;
    }

    /// SHA-256 of what the graph computes: its operators, weights, inputs and outputs, without its name and
    /// metadata.
    pub(crate) fn computation_sha256(&self) -> String {
        let mut graph = self.proto.graph.clone().unwrap_or_default();
        graph.name.clear();
        graph.value_info.clear();
        super::hex_sha256(&graph.encode_to_vec())
    }

    /// Removes an entry of the file's metadata.
    pub(crate) fn remove_metadata(&mut self, key: &str) {
        self.proto.metadata_props.retain(|e| e.key != key);
    }

    /// Sets the dimensions of the picture input; the first is the batch, always free, named `N`.
    pub(crate) fn set_input_dims(&mut self, dims: [usize; 3]) -> Result<()> {
        let (name, _) = self.input()?;
        if let Some(input) = self.graph_mut().input.iter_mut().find(|i| i.name == name) {
            *input = float_value(&name, &[None, Some(dims[0]), Some(dims[1]), Some(dims[2])]);
        }
        Ok(())
    }

    /// Makes `name` with the dimensions `[N, …dims]` the one output.
    pub(crate) fn set_output(&mut self, name: &str, dims: &[usize]) {
        let mut all = vec![None];
        all.extend(dims.iter().map(|&d| Some(d)));
        self.graph_mut().output = vec![float_value(name, &all)];
    }

    /// Adds an operator with one output, which has the operator's name.
    pub(crate) fn add_node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let attribute = attributes
            .iter()
            .map(|(name, value)| {
                let mut proto = pb::AttributeProto {
                    name: (*name).to_owned(),
                    ..Default::default()
                };
                match value {
                    Attribute::Int(i) => {
                        proto.r#type = AttributeType::Int as i32;
                        proto.i = *i;
                    }
                    Attribute::Ints(list) => {
                        proto.r#type = AttributeType::Ints as i32;
                        proto.ints = list.clone();
                    }
                }
                proto
            })
            .collect();
        self.graph_mut().node.push(pb::NodeProto {
            op_type: op_type.to_owned(),
            name: name.to_owned(),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![name.to_owned()],
            attribute,
            ..Default::default()
        });
    }

    /// Adds a float32 weight tensor with `values` in row-major order.
    pub(crate) fn add_weight(
        &mut self,
        name: &str,
        dims: &[usize],
        values: impl Iterator<Item = f32>,
    ) {
        self.graph_mut().initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.flat_map(f32::to_le_bytes).collect(),
            ..Default::default()
        });
    }

    /// Gives the float32 weight `name` other values, in row-major order.
    pub(crate) fn set_weight(&mut self, name: &str, values: &[f32]) {
        let graph = self.graph_mut();
        if let Some(tensor) = graph.initializer.iter_mut().find(|t| t.name == name) {
            tensor.float_data.clear();
            tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
    }

    /// A name that starts with `wanted` and that nothing in the graph has yet.
    pub(crate) fn fresh_name(&self, wanted: &str) -> String {
        let mut taken: HashSet<String> = HashSet::new();
        for node in self.nodes() {
            taken.insert(node.name);
            taken.extend(node.inputs);
            taken.extend(node.outputs);
        }
        taken.extend(self.weight_shapes().into_keys());
        let numbered = (2..).map(|i| format!("{wanted}_{i}"));
        std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| !taken.contains(name))
            .unwrap_or_default()
    }

    /// The value of an entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let entry = self.proto.metadata_props.iter().find(|e| e.key == key)?;
        Some(&entry.value)
    }

    /// Sets an entry of the file's metadata.
    pub(crate) fn set_metadata(&mut self, key: &str, value: String) {
        self.proto.metadata_props.retain(|e| e.key != key);
        self.proto.metadata_props.push(pb::StringStringEntryProto {
            key: key.to_owned(),
            value,
        });
    }

    /// Puts this program's name on a file that it is about to write.
    pub(crate) fn sign(&mut self, graph_name: &str) {
        self.proto.producer_name = env!("CARGO_PKG_NAME").to_owned();
        self.proto.producer_version = env!("CARGO_PKG_VERSION").to_owned();
        // Version 4 is the first in which weights need not be listed among the inputs.
        self.proto.ir_version = self.proto.ir_version.max(4);
        self.graph_mut().name = graph_name.to_owned();
    }
}

fn decode(bytes: &[u8], name: &str) -> Result<pb::ModelProto> {
    let fail = |problem: String| Error::Model {
        model: name.to_owned(),
        problem,
    };
    if bytes.is_empty() {
        return Err(fail("the file is empty".into()));
    }
    pb::ModelProto::decode(bytes)
        .map_err(|e| fail(format!("this is no ONNX file, or a damaged one ({e})")))
}

impl OnnxNode {
    fn read(node: &pb::NodeProto) -> OnnxNode {
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let ints = |name: &str| attribute(name).map(|a| a.ints.clone()).unwrap_or_default();
        let first_output = node.output.first().cloned().unwrap_or_default();
        OnnxNode {
            name: if node.name.is_empty() {
                first_output
            } else {
                node.name.clone()
            },
            op_type: node.op_type.clone(),
            inputs: node.input.clone(),
            outputs: node
                .output
                .iter()
                .filter(|o| !o.is_empty())
                .cloned()
                .collect(),
            group: attribute("group").map_or(1, |a| a.i),
            kernel_shape: ints("kernel_shape"),
            perm: ints("perm"),
        }
    }
}

/// A float32 tensor's description; no dimension is written where `dims` is empty.
fn float_value(name: &str, dims: &[Option<usize>]) -> pb::ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Some(n) => dimension::Value::DimValue(*n as i64),
                None => dimension::Value::DimParam("N".to_owned()),
            }),
            ..Default::default()
        })
        .collect::<Vec<_>>();
    let shape = (!dim.is_empty()).then_some(pb::TensorShapeProto { dim });
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: DataType::Float as i32,
                shape,
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}
