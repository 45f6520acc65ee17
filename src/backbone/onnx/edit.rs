//! Edits a graph: cutting, extending, joining, replacing weights.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

use super::super::attributes::float_values;
use super::{Attribute, OnnxGraph, walk};
use crate::error::Result;

/// Tensors of more values than this are left to be made when the network runs.
const MOST_EXPANDED: usize = 1 << 16;

impl OnnxGraph {
    /// This graph with each node that fills a small float32 tensor of a constant shape replaced by its values: exporters
    /// write scales that are all one like this. Nodes keep their places; nothing is copied where there is no such node.
    pub(crate) fn with_filled(&self) -> Cow<'_, OnnxGraph> {
        let nodes = self.proto.graph.iter().flat_map(|g| &g.node).enumerate();
        let filled: Vec<(usize, pb::TensorProto)> = nodes
            .filter(|(_, node)| node.op_type == "ConstantOfShape")
            .filter_map(|(index, node)| {
                let dims = self.integers(node.input.first()?)?;
                let mut lengths = dims.iter().map(|&dim| usize::try_from(dim).ok());
                let values = lengths
                    .try_fold(1usize, |n, dim| n.checked_mul(dim?))
                    .filter(|&values| values <= MOST_EXPANDED)?;
                // Without the attribute it is a float32 of 0.
                let value = match node.attribute.iter().find(|a| a.name == "value") {
                    Some(attribute) => *float_values(attribute.t.as_ref()?)?.first()?,
                    None => 0.0,
                };
                let tensor = pb::TensorProto {
                    dims,
                    data_type: DataType::Float as i32,
                    raw_data: value.to_le_bytes().repeat(values),
                    ..Default::default()
                };
                Some((index, tensor))
            })
            .collect();
        if filled.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut graph = self.clone();
        for (index, tensor) in filled {
            let node = &mut graph.graph_mut().node[index];
            node.op_type = "Constant".to_owned();
            node.input.clear();
            node.attribute = vec![pb::AttributeProto {
                name: "value".to_owned(),
                r#type: AttributeType::Tensor as i32,
                t: Some(tensor),
                ..Default::default()
            }];
        }
        Cow::Owned(graph)
    }

    /// Keeps what is needed to compute `tensors` and makes them the outputs.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the graph has no such tensor.
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
        // Nodes are in execution order: readers of a tensor come after its producer.
        let mut is_behind: Vec<bool> = Vec::new();
        for node in nodes.iter().rev() {
            let taken = node
                .outputs
                .iter()
                .any(|o| o != tensor && needed.contains(o.as_str()));
            if taken {
                needed.extend(node.inputs.iter().map(String::as_str));
            }
            // The producer of the tensor is not included.
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
        let whole = &self.proto;
        let mut part = OnnxGraph {
            // Whatever the file says of itself; not the weights, of which few may be needed.
            proto: pb::ModelProto {
                ir_version: whole.ir_version,
                opset_import: whole.opset_import.clone(),
                producer_name: whole.producer_name.clone(),
                producer_version: whole.producer_version.clone(),
                domain: whole.domain.clone(),
                model_version: whole.model_version,
                doc_string: whole.doc_string.clone(),
                metadata_props: whole.metadata_props.clone(),
                ..Default::default()
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

    /// Puts the operators of `part`, which [`behind`](Self::behind) gave of a graph like this one, after this
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

    /// Removes an entry of the file's metadata.
    pub(crate) fn remove_metadata(&mut self, key: &str) {
        self.proto.metadata_props.retain(|e| e.key != key);
    }

    /// Sets the dimensions of the image input; the first is the batch, which is named `N` where it is free.
    pub(crate) fn set_input_dims(&mut self, batch: Option<usize>, dims: [usize; 3]) -> Result<()> {
        let (name, _) = self.input()?;
        if let Some(input) = self.graph_mut().input.iter_mut().find(|i| i.name == name) {
            *input = float_value(&name, &[batch, Some(dims[0]), Some(dims[1]), Some(dims[2])]);
        }
        Ok(())
    }

    /// Makes the graph state that it takes one image at a time, and gives what it gives for one.
    pub(crate) fn fix_batch(&mut self) -> Result<()> {
        let (_, dims) = self.input()?;
        if let [_, Some(a), Some(b), Some(c)] = dims[..] {
            self.set_input_dims(Some(1), [a, b, c])?;
        }
        for output in &mut self.graph_mut().output {
            let kind = output.r#type.as_mut().and_then(|t| t.value.as_mut());
            if let Some(type_proto::Value::TensorType(tensor)) = kind
                && let Some(first) = tensor.shape.as_mut().and_then(|s| s.dim.first_mut())
            {
                first.value = Some(dimension::Value::DimValue(1));
            }
        }
        Ok(())
    }

    /// Makes `name` with the dimensions `[N, …dims]` the one output; the batch is that of the input.
    pub(crate) fn set_output(&mut self, name: &str, dims: &[usize]) {
        let mut all = vec![self.batch()];
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

    /// Adds an int64 constant of one number, without dimensions.
    pub(crate) fn add_number(&mut self, name: &str, value: i64) {
        self.graph_mut().initializer.push(pb::TensorProto {
            name: name.to_owned(),
            data_type: DataType::Int64 as i32,
            raw_data: value.to_le_bytes().to_vec(),
            ..Default::default()
        });
    }

    /// Adds an int64 constant of one dimension.
    pub(crate) fn add_numbers(&mut self, name: &str, values: &[i64]) {
        self.graph_mut().initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
    }

    /// Gives the float32 weight `name`, or what the `Constant` node of this output makes, other values, in row-major order.
    pub(crate) fn set_weight(&mut self, name: &str, values: &[f32]) {
        let graph = self.graph_mut();
        let weight = graph.initializer.iter_mut().find(|t| t.name == name);
        let tensor = weight.or_else(|| {
            let mut nodes = graph.node.iter_mut();
            let node =
                nodes.find(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name))?;
            let value = node.attribute.iter_mut().find(|a| a.name == "value")?;
            value.t.as_mut()
        });
        if let Some(tensor) = tensor {
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
        }
        if let Some(graph) = &self.proto.graph {
            walk::names(graph, &mut taken);
        }
        let numbered = (2..).map(|i| format!("{wanted}_{i}"));
        std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| !taken.contains(name))
            .unwrap_or_default()
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
        self.proto.producer_name = "tl".to_owned();
        self.proto.producer_version = env!("CARGO_PKG_VERSION").to_owned();
        // Version 4 is the first in which weights need not be listed among the inputs.
        self.proto.ir_version = self.proto.ir_version.max(4);
        self.graph_mut().name = graph_name.to_owned();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `image` → `stem` → `left` (with the weight `w`), `right` (with `v`) → `sum`, the output.
    fn diamond() -> OnnxGraph {
        let mut graph = OnnxGraph {
            proto: pb::ModelProto::default(),
            name: "diamond".into(),
        };
        let picture = [None, Some(3), Some(8), Some(8)];
        graph.graph_mut().input = vec![float_value("image", &picture)];
        graph.add_weight("w", &[2], [1.0, 2.0].into_iter());
        graph.add_weight("v", &[1], [3.0].into_iter());
        graph.add_node("Relu", "stem", &["image"], &[]);
        graph.add_node("Mul", "left", &["stem", "w"], &[]);
        graph.add_node("Mul", "right", &["stem", "v"], &[]);
        graph.add_node("Add", "sum", &["left", "right"], &[]);
        graph.set_output("sum", &[3, 8, 8]);
        graph
    }

    fn names(graph: &OnnxGraph) -> (Vec<&str>, Vec<&str>) {
        let graph = graph.proto.graph.as_ref().unwrap();
        (
            graph.node.iter().map(|n| n.name.as_str()).collect(),
            graph.initializer.iter().map(|t| t.name.as_str()).collect(),
        )
    }

    #[test]
    fn what_a_tensor_does_not_need_is_left_out() {
        let mut graph = diamond();
        graph.keep(&["left".into()]).unwrap();
        assert_eq!(names(&graph), (vec!["stem", "left"], vec!["w"]));
        assert_eq!(graph.outputs(), ["left"]);
        assert_eq!(graph.input().unwrap().0, "image");
        // Of tensors that need one another, each node is kept once.
        let mut graph = diamond();
        graph.keep(&["right".into(), "stem".into()]).unwrap();
        assert_eq!(names(&graph), (vec!["stem", "right"], vec!["v"]));
        assert_eq!(graph.outputs(), ["right", "stem"]);
        // Neither weights nor inputs are made by a node.
        for missing in ["nowhere", "w", "image"] {
            let error = diamond().keep(&[missing.into()]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{missing}`")));
        }
    }

    #[test]
    fn a_graph_that_is_cut_and_put_together_is_the_one_that_it_was() {
        let whole = diamond();
        let part = whole.behind("stem", &[3, 8, 8]);
        assert_eq!(names(&part), (vec!["left", "right", "sum"], vec!["w", "v"]));
        let picture = vec![None, Some(3), Some(8), Some(8)];
        assert_eq!(part.input().unwrap(), ("stem".into(), picture));
        let mut front = whole.clone();
        front.keep(&["stem".into()]).unwrap();
        front.append(&part);
        assert_eq!(front.to_bytes(), whole.to_bytes());
    }

    #[test]
    fn behind_one_of_two_branches_the_other_is_computed_from_the_picture() {
        let part = diamond().behind("left", &[3, 8, 8]);
        assert_eq!(names(&part), (vec!["stem", "right", "sum"], vec!["v"]));
    }

    #[test]
    fn a_fresh_name_is_that_of_nothing_in_the_graph() {
        let mut graph = diamond();
        for taken in ["image", "w", "left", "sum"] {
            assert_eq!(graph.fresh_name(taken), format!("{taken}_2"));
        }
        assert_eq!(graph.fresh_name("head"), "head");
        graph.add_number("left_2", 7);
        assert_eq!(graph.fresh_name("left"), "left_3");
    }

    #[test]
    fn a_constant_shape_that_is_filled_becomes_its_values() {
        let mut graph = diamond();
        assert!(matches!(graph.with_filled(), Cow::Borrowed(_)));
        graph.graph_mut().initializer.push(pb::TensorProto {
            name: "shape".into(),
            dims: vec![2],
            data_type: DataType::Int64 as i32,
            raw_data: [2i64, 3].iter().flat_map(|n| n.to_le_bytes()).collect(),
            ..Default::default()
        });
        graph.add_node("ConstantOfShape", "zeros", &["shape"], &[]);
        let filled = graph.with_filled();
        let nodes = &filled.proto.graph.as_ref().unwrap().node;
        let node = nodes.last().unwrap();
        assert_eq!((node.op_type.as_str(), node.input.len()), ("Constant", 0));
        assert_eq!(node.output, ["zeros"]);
        let tensor = node.attribute[0].t.as_ref().unwrap();
        assert_eq!((&tensor.dims[..], tensor.raw_data.len()), (&[2, 3][..], 24));
        assert_eq!(float_values(tensor).unwrap(), [0.0; 6]);
        // What is too large, or no size, stays a node.
        for dims in [[1i64 << 20, 1 << 20], [-1, 3]] {
            let mut graph = graph.clone();
            let shape = graph.graph_mut().initializer.last_mut().unwrap();
            shape.raw_data = dims.iter().flat_map(|n| n.to_le_bytes()).collect();
            assert!(matches!(graph.with_filled(), Cow::Borrowed(_)), "{dims:?}");
        }
    }

    #[test]
    fn weights_and_constants_get_other_values() {
        let mut graph = diamond();
        graph.graph_mut().initializer[1].float_data = vec![9.0];
        graph.set_weight("v", &[4.0]);
        let weight = &graph.proto.graph.as_ref().unwrap().initializer[1];
        assert_eq!(float_values(weight).unwrap(), [4.0]);
        assert!(weight.float_data.is_empty());
        let first = &graph.proto.graph.as_ref().unwrap().initializer[0];
        assert_eq!(float_values(first).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn a_graph_for_one_picture_says_so_at_both_ends() {
        let mut graph = diamond();
        assert_eq!(graph.batch(), None);
        graph.fix_batch().unwrap();
        assert_eq!(graph.batch(), Some(1));
        let output = graph.declared_outputs().remove(0);
        assert_eq!(output.dims.unwrap()[0], Some(1));
        graph.set_input_dims(None, [3, 16, 16]).unwrap();
        let (_, dims) = graph.input().unwrap();
        assert_eq!(dims, [None, Some(3), Some(16), Some(16)]);
    }
}
