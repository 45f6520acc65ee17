//! ONNX graphs: reading, cutting at a tensor, extending.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto;

use super::check;
use crate::error::{Error, Result};

mod edit;
pub(super) mod walk;

/// A graph with one image tensor as its input.
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
    /// Tensors that it reads; an empty name is an input left out. Those that the graphs inside an `If`, `Loop` or
    /// `Scan` take from outside come after its own.
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

/// An output of a graph, as the file declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredOutput {
    /// Its name.
    pub name: String,
    /// Its dimensions, batch included; `None` among them is a free one. None at all if the file does not say.
    pub dims: Option<Vec<Option<usize>>>,
    /// Whether it is a tensor of floats, or the file does not say.
    pub is_float: bool,
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
    /// [`Error::Model`] if the bytes are not an ONNX file, if it has no node, if it keeps its weights in other
    /// files, if its nodes form a cycle, if its weights are not as large as it says, or if it names an operator of the
    /// engine.
    pub fn parse(bytes: &[u8], name: &str) -> Result<OnnxGraph> {
        OnnxGraph::from_proto(decode(bytes, name)?, name)
    }

    /// A graph of what a file says.
    ///
    /// # Errors
    /// Like [`parse`](Self::parse).
    pub(super) fn from_proto(proto: pb::ModelProto, name: &str) -> Result<OnnxGraph> {
        let fail = |problem: String| Error::Model {
            model: name.to_owned(),
            problem,
        };
        if let Some(operator) = cnn_engine::named_in(&proto) {
            return Err(fail(format!(
                "it contains the operator {operator}, which is internal to this program; export the model again"
            )));
        }
        let graph = proto
            .graph
            .as_ref()
            .filter(|g| !g.node.is_empty())
            .ok_or_else(|| fail("not an ONNX file, or one without a graph".into()))?;
        if let Some(problem) = check::damage(graph) {
            return Err(fail(problem));
        }
        let graph = OnnxGraph {
            proto,
            name: name.to_owned(),
        };
        graph.in_order()
    }

    /// The graph with its operators in execution order.
    ///
    /// # Errors
    /// [`Error::Model`] if they form a cycle.
    pub(super) fn in_order(mut self) -> Result<OnnxGraph> {
        let order = check::execution_order(self.graph()?).map_err(|e| self.fail(e))?;
        if !order.is_sorted() {
            let graph = self.graph_mut();
            graph.node = order.iter().map(|&i| graph.node[i].clone()).collect();
        }
        match check::excess(self.graph()?) {
            Some(problem) => Err(self.fail(problem)),
            None => Ok(self),
        }
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

    /// Name and dimensions of the image input; `None` is a free dimension.
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
                "it has {} inputs ({}); a backbone has one, the image",
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
            .map(known_dim)
            .collect();
        if dims.len() != 4 {
            return Err(self.fail(format!(
                "its input `{}` has {} dimensions; an image batch has four (batch, channels, height, width)",
                input.name,
                dims.len()
            )));
        }
        Ok((input.name.clone(), dims))
    }

    /// Number of images that it takes at once; `None` if that is free.
    pub fn batch(&self) -> Option<usize> {
        let (_, dims) = self.input().ok()?;
        dims[0]
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

    /// The graph's outputs, as the file declares them.
    pub fn declared_outputs(&self) -> Vec<DeclaredOutput> {
        let outputs = self.proto.graph.iter().flat_map(|g| &g.output);
        let declared = outputs.map(|output| {
            let value = output.r#type.as_ref().and_then(|t| t.value.as_ref());
            let (shape, is_float) = match value {
                Some(type_proto::Value::TensorType(tensor)) => {
                    const UNDEFINED: i32 = DataType::Undefined as i32;
                    let floats = [
                        UNDEFINED,
                        DataType::Float as i32,
                        DataType::Float16 as i32,
                        DataType::Bfloat16 as i32,
                        DataType::Double as i32,
                    ];
                    (tensor.shape.as_ref(), floats.contains(&tensor.elem_type))
                }
                // A sequence or a map, where it has a type.
                None => (None, output.r#type.is_none()),
            };
            let dims = shape.filter(|s| !s.dim.is_empty()).map(|shape| {
                let dims = shape.dim.iter();
                dims.map(known_dim).collect()
            });
            DeclaredOutput {
                name: output.name.clone(),
                dims,
                is_float,
            }
        });
        declared.collect()
    }

    /// The operators in the file's order, which is an execution order.
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

    /// Whether a tensor is one of the [weights](Self::weight_names).
    pub(super) fn is_weight(&self, name: &str) -> bool {
        let mut graph = self.proto.graph.iter();
        graph.any(|g| g.initializer.iter().any(|t| t.name == name))
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
    pub(crate) fn operator_set(&self) -> i64 {
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

    /// SHA-256 of what the graph computes: its operators, weights, inputs and outputs, without its name and
    /// metadata.
    pub(crate) fn computation_sha256(&self) -> String {
        let mut graph = self.proto.graph.clone().unwrap_or_default();
        graph.name.clear();
        graph.value_info.clear();
        super::hex_sha256(&graph.encode_to_vec())
    }

    /// Whether the bytes of an ONNX file have an entry of this name in their metadata.
    ///
    /// # Errors
    /// [`Error::Model`] if they are no ONNX file.
    pub(crate) fn has_metadata(bytes: &[u8], name: &str, key: &str) -> Result<bool> {
        let proto = decode(bytes, name)?;
        Ok(proto.metadata_props.iter().any(|entry| entry.key == key))
    }

    /// The value of an entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let entry = self.proto.metadata_props.iter().find(|e| e.key == key)?;
        Some(&entry.value)
    }
}

/// A dimension, if it is a number.
fn known_dim(dim: &pb::tensor_shape_proto::Dimension) -> Option<usize> {
    match dim.value {
        Some(dimension::Value::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
        _ => None,
    }
}

/// The bytes of an ONNX file as what it says.
pub(in crate::backbone) fn decode(bytes: &[u8], name: &str) -> Result<pb::ModelProto> {
    let fail = |problem: String| Error::Model {
        model: name.to_owned(),
        problem,
    };
    if bytes.is_empty() {
        return Err(fail("the file is empty".into()));
    }
    pb::ModelProto::decode(bytes).map_err(|_| fail("not an ONNX file, or a damaged one".to_owned()))
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
            inputs: node
                .input
                .iter()
                .cloned()
                .chain(walk::captures(node))
                .collect(),
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
