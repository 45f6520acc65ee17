//! Chooses the tensors to quantise, and builds the graph with `QuantizeLinear` and `DequantizeLinear` around them. No file
//! access.
//!
//! ```text
//! x ─► QuantizeLinear ─► DequantizeLinear ─► Conv ─► y ─► QuantizeLinear ─► DequantizeLinear ─► …
//!                        int8 kernel ─► DequantizeLinear ─┤
//!                        int32 bias  ─► DequantizeLinear ─┘
//! ```
//!
//! Any runtime can compute that in floats; one that recognises the pattern computes in integers. A ReLU or
//! ReLU6 after such a convolution is removed: the range of its result has the same effect.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::fold::{drop_unread, folded, readers};
use super::opset::upgrade;
use super::range::Range;
use super::varying::varying;
use crate::backbone::onnx::{OnnxGraph, OnnxNode};
use crate::error::Result;

/// Bits of an int32 bias that are used: the sums it starts have to stay within 32.
const BIAS_BITS: i32 = 30;

/// The role of a node in quantisation.
#[derive(Clone, Debug, PartialEq)]
enum Role {
    /// A convolution or dense layer with constant weights.
    Weighted {
        /// Axis of the weights' output channels.
        axis: usize,
    },
    /// A sum or concatenation of maps.
    Join,
    /// Passes on values of its input: the same integers come out.
    Passing,
    /// Anything else, computed in floats.
    Float,
}

/// A float graph, analysed for quantisation.
#[derive(Clone, Debug)]
pub(super) struct Analysis {
    graph: OnnxGraph,
    nodes: Vec<OnnxNode>,
    roles: Vec<Role>,
    /// For a weighted or joining node: the activation after it that a range can stand for.
    activations: Vec<Option<usize>>,
}

impl Analysis {
    /// Folds, upgrades and analyses `graph`, for inputs of the shape `input_shape`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if it is quantised already, or of an operator set that cannot be raised.
    pub(super) fn of(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<Analysis> {
        if graph.is_quantized() {
            return Err(
                graph.fail("it is already quantised; give the float model that it was made from")
            );
        }
        if graph.nodes().iter().any(|node| node.outputs.is_empty()) {
            return Err(graph.fail("it has a node without an output"));
        }
        let mut graph = folded(graph);
        upgrade(&mut graph, input_shape)?;
        let nodes = graph.nodes();
        let varying = varying(&graph);
        let roles: Vec<Role> = (0..nodes.len())
            .map(|i| role(&graph, &nodes[i], i, &varying))
            .collect();
        let readers = readers(&graph);
        let activations = (0..nodes.len())
            .map(|i| {
                let output = nodes[i].outputs.first()?;
                let is_integer = matches!(roles[i], Role::Weighted { .. } | Role::Join);
                let reader = nodes
                    .iter()
                    .position(|n| n.inputs.first() == Some(output))?;
                let joins = is_integer
                    && readers.get(output) == Some(&1)
                    && starts_at_zero(&graph, &nodes[reader]);
                joins.then_some(reader)
            })
            .collect();
        Ok(Analysis {
            graph,
            nodes,
            roles,
            activations,
        })
    }

    /// The float graph: folded, without a node that does nothing.
    pub(super) fn graph(&self) -> &OnnxGraph {
        &self.graph
    }

    /// Names of the quantisable layers with weights, in execution order.
    pub(super) fn layers(&self) -> Vec<&str> {
        let nodes = self.nodes.iter().zip(&self.roles);
        nodes
            .filter(|(_, role)| matches!(role, Role::Weighted { .. }))
            .map(|(node, _)| node.name.as_str())
            .collect()
    }

    /// Whether node `i` is computed with integers where the layers of `float` are not.
    fn is_integer(&self, i: usize, float: &HashSet<&str>) -> bool {
        match self.roles[i] {
            Role::Weighted { .. } => !float.contains(self.nodes[i].name.as_str()),
            Role::Join => true,
            Role::Passing | Role::Float => false,
        }
    }

    /// The tensor that node `i` makes, with its activation.
    fn result(&self, i: usize) -> &str {
        let last = self.activations[i].unwrap_or(i);
        &self.nodes[last].outputs[0]
    }

    /// Tensors that are integers, in the order of execution, where the layers of `float` are not.
    pub(super) fn tensors(&self, float: &HashSet<&str>) -> Vec<String> {
        let mut tensors = Vec::new();
        let outputs = self.graph.outputs();
        for (i, node) in self.nodes.iter().enumerate() {
            if !self.is_integer(i, float) {
                continue;
            }
            let inputs = match self.roles[i] {
                Role::Weighted { .. } => &node.inputs[..1],
                _ => &node.inputs[..],
            };
            let result = self.result(i);
            // Products of the last dense layers are wanted as they are, and runtimes give them so.
            let is_last = node.op_type != "Conv" && self.is_read_by_floats(result, float);
            let made = (!is_last).then(|| result.to_owned());
            for tensor in inputs.iter().cloned().chain(made) {
                if !tensors.contains(&tensor) && !outputs.contains(&tensor) {
                    tensors.push(tensor);
                }
            }
        }
        tensors
    }

    fn is_read_by_floats(&self, tensor: &str, float: &HashSet<&str>) -> bool {
        let mut readers = (0..self.nodes.len()).filter(|&i| {
            let inputs = &self.nodes[i].inputs;
            inputs.iter().any(|input| input == tensor)
        });
        readers.all(|i| !self.is_integer(i, float) && self.roles[i] != Role::Passing)
    }

    /// The graph with the tensors for which `ranges` has a range as integers. Layers of `float`
    /// stay as they are; weights have `weight_bits` bits, 7 or 8.
    pub(super) fn quantized(
        &self,
        ranges: &HashMap<String, Range>,
        float: &HashSet<&str>,
        weight_bits: u32,
    ) -> OnnxGraph {
        let mut writer = Writer {
            analysis: self,
            steps: HashMap::new(),
            quantized: self.tensors(float).into_iter().collect(),
            taken: self.names(),
            nodes: Vec::new(),
            tensors: Vec::new(),
            largest_weight: ((1 << (weight_bits - 1)) - 1) as f32,
        };
        if let Ok((input, _)) = self.graph.input() {
            writer.round(&input, ranges, None);
        }
        let mut gone = HashSet::new();
        for i in 0..self.nodes.len() {
            if gone.contains(&i) {
                continue;
            }
            let is_integer = self.is_integer(i, float);
            let result = if is_integer { self.result(i) } else { "" };
            let absorbed = self.activations[i]
                .filter(|_| is_integer && writer.quantized.contains(result))
                .filter(|_| ranges.contains_key(result));
            gone.extend(absorbed);
            writer.node(i, is_integer);
            let mut output = self.nodes[i].outputs[0].clone();
            if absorbed.is_some() {
                output = result.to_owned();
                if let Some(node) = writer.nodes.last_mut() {
                    node.output[0].clone_from(&output);
                }
            }
            let passed = (self.roles[i] == Role::Passing).then(|| self.nodes[i].inputs[0].as_str());
            writer.round(&output, ranges, passed);
        }
        let Writer { nodes, tensors, .. } = writer;
        let mut graph = self.graph.clone();
        let proto = graph.graph_mut();
        proto.node = nodes;
        proto.initializer.extend(tensors);
        drop_unread(&mut graph);
        graph
    }

    fn names(&self) -> HashSet<String> {
        let mut names: HashSet<String> = self.graph.weight_names();
        for node in &self.nodes {
            names.insert(node.name.clone());
            names.extend(node.outputs.iter().cloned());
        }
        names
    }
}

/// What node `place` can be; only tensors that depend on the image, `varying`, become integers.
fn role(graph: &OnnxGraph, node: &OnnxNode, place: usize, varying: &HashSet<String>) -> Role {
    let weights = node.inputs.get(1).filter(|w| graph.is_float_constant(w));
    let dims = weights.map_or(0, |w| graph.constant_dims(w).len());
    let first_varies = node.inputs.first().is_some_and(|x| varying.contains(x));
    let attributes = graph.attributes(place);
    // A bias has to be one value for each channel.
    let bias_fits = |axis: usize| match node.inputs.get(2).filter(|b| !b.is_empty()) {
        Some(bias) => {
            let channels = weights.and_then(|w| graph.constant_dims(w).get(axis).copied());
            graph.is_float_constant(bias) && channels == Some(graph.constant_length(bias))
        }
        None => true,
    };
    match node.op_type.as_str() {
        "Conv" if dims == 4 && first_varies && bias_fits(0) => Role::Weighted { axis: 0 },
        "Gemm" if dims == 2 && first_varies => {
            let plain = attributes.float("alpha").is_none_or(|a| a == 1.0)
                && attributes.float("beta").is_none_or(|b| b == 1.0)
                && attributes.int("transA").is_none_or(|t| t == 0);
            let axis = usize::from(attributes.int("transB").unwrap_or(0) == 0);
            match plain && bias_fits(axis) {
                true => Role::Weighted { axis },
                false => Role::Float,
            }
        }
        "MatMul" if dims == 2 && first_varies => Role::Weighted { axis: 1 },
        "Add" | "Concat" if node.inputs.iter().all(|i| varying.contains(i)) => Role::Join,
        "MaxPool" if node.outputs.len() == 1 && first_varies => Role::Passing,
        "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" if first_varies => {
            Role::Passing
        }
        _ => Role::Float,
    }
}

/// Whether a node is an activation that does nothing but bound its input, from below by 0.
fn starts_at_zero(graph: &OnnxGraph, node: &OnnxNode) -> bool {
    let bound = |place: usize| {
        let name = node.inputs.get(place).filter(|name| !name.is_empty())?;
        graph.weight_values(name)?.first().copied()
    };
    let is_bounded = |place: usize| node.inputs.get(place).is_some_and(|n| !n.is_empty());
    match node.op_type.as_str() {
        "Relu" => true,
        "Clip" => bound(1) == Some(0.0) && (!is_bounded(2) || bound(2).is_some_and(|b| b > 0.0)),
        _ => false,
    }
}

/// Writes the nodes of a quantised graph.
struct Writer<'a> {
    analysis: &'a Analysis,
    /// Step and zero point of each tensor that is written as integers so far.
    steps: HashMap<String, (f32, u8)>,
    /// Tensors that are to be integers.
    quantized: HashSet<String>,
    taken: HashSet<String>,
    nodes: Vec<pb::NodeProto>,
    tensors: Vec<pb::TensorProto>,
    /// Largest integer of a weight.
    largest_weight: f32,
}

impl Writer<'_> {
    /// A name that starts with `wanted` and that nothing has yet.
    fn name(&mut self, wanted: String) -> String {
        let numbered = (2..).map(|i| format!("{wanted}_{i}"));
        let name = std::iter::once(wanted.clone())
            .chain(numbered)
            .find(|name| !self.taken.contains(name))
            .unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    /// The tensor that readers of `tensor` read.
    fn read(&self, tensor: &str) -> String {
        match self.steps.contains_key(tensor) {
            true => format!("{tensor}/dequantized"),
            false => tensor.to_owned(),
        }
    }

    fn add(&mut self, op_type: &str, inputs: &[&str], output: &str, axis: Option<usize>) {
        let axis = axis.map(|axis| pb::AttributeProto {
            name: "axis".to_owned(),
            r#type: AttributeType::Int as i32,
            i: axis as i64,
            ..Default::default()
        });
        self.nodes.push(pb::NodeProto {
            op_type: op_type.to_owned(),
            name: output.to_owned(),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: axis.into_iter().collect(),
            ..Default::default()
        });
    }

    fn tensor(
        &mut self,
        name: String,
        dims: &[usize],
        data_type: DataType,
        bytes: Vec<u8>,
    ) -> String {
        let name = self.name(name);
        self.tensors.push(pb::TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: data_type as i32,
            raw_data: bytes,
            ..Default::default()
        });
        name
    }

    fn floats(&mut self, name: String, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, dims, DataType::Float, bytes)
    }

    /// Rounds `tensor` to integers and back, if it is to be integers: with the steps of `passed`, from which its
    /// values come, or those of its own range.
    fn round(&mut self, tensor: &str, ranges: &HashMap<String, Range>, passed: Option<&str>) {
        let Some(range) = ranges
            .get(tensor)
            .filter(|_| self.quantized.contains(tensor))
        else {
            return;
        };
        let same = passed.and_then(|before| self.steps.get(before));
        let (scale, zero_point) = same.copied().unwrap_or_else(|| range.uint8());
        let scale_name = self.floats(format!("{tensor}/scale"), &[], &[scale]);
        let zero = self.tensor(
            format!("{tensor}/zero_point"),
            &[],
            DataType::Uint8,
            vec![zero_point],
        );
        let quantized = self.name(format!("{tensor}/quantized"));
        let parameters = [scale_name.as_str(), zero.as_str()];
        let inputs = |first| [first, parameters[0], parameters[1]];
        self.add("QuantizeLinear", &inputs(tensor), &quantized, None);
        let dequantized = format!("{tensor}/dequantized");
        self.add("DequantizeLinear", &inputs(&quantized), &dequantized, None);
        self.steps.insert(tensor.to_owned(), (scale, zero_point));
    }

    /// Writes node `i`, with integer weights if it is computed with integers.
    fn node(&mut self, i: usize, is_integer: bool) {
        let analysis = self.analysis;
        let Some(proto) = analysis.graph.node_proto(i) else {
            return;
        };
        let mut node = proto.clone();
        for input in &mut node.input {
            *input = self.read(input);
        }
        if let (true, Role::Weighted { axis }) = (is_integer, &analysis.roles[i])
            && let Some(&(step, _)) = self.steps.get(&proto.input[0])
        {
            self.weights(&analysis.nodes[i], &mut node, *axis, step);
        }
        self.nodes.push(node);
    }

    /// Gives `node` integer weights and an integer bias; `step` is that of its input.
    fn weights(&mut self, layer: &OnnxNode, node: &mut pb::NodeProto, axis: usize, step: f32) {
        let graph = &self.analysis.graph;
        let name = &layer.name;
        let dims = graph.constant_dims(&layer.inputs[1]);
        let Some(values) = graph.weight_values(&layer.inputs[1]) else {
            return;
        };
        let bias = layer
            .inputs
            .get(2)
            .and_then(|bias| graph.weight_values(bias));
        let channels = dims[axis];
        let inner: usize = dims[axis + 1..].iter().product();
        let channel_of = |i: usize| i / inner % channels;
        let mut scales = vec![0.0f32; channels];
        for (i, value) in values.iter().enumerate() {
            let scale = &mut scales[channel_of(i)];
            *scale = scale.max(value.abs() / self.largest_weight);
        }
        for (c, scale) in scales.iter_mut().enumerate() {
            // A channel of next to no weights may have a bias that no integer of so small a step can hold.
            let bias = bias.as_ref().map_or(0.0, |bias| bias[c].abs());
            let least = bias / step / (1 << BIAS_BITS) as f32;
            *scale = scale.max(least).max(f32::MIN_POSITIVE.sqrt());
        }
        let largest = self.largest_weight;
        let integers = values.iter().enumerate().map(|(i, value)| {
            let steps = (value / scales[channel_of(i)]).round_ties_even();
            steps.clamp(-largest, largest) as i8 as u8
        });
        let integers: Vec<u8> = integers.collect();
        let kernel = self.tensor(
            format!("{name}/kernel_int8"),
            &dims,
            DataType::Int8,
            integers,
        );
        let scale = self.floats(format!("{name}/kernel_scale"), &[channels], &scales);
        let zeros = vec![0; channels];
        let zero = self.tensor(
            format!("{name}/kernel_zero_point"),
            &[channels],
            DataType::Int8,
            zeros,
        );
        node.input[1] = self.name(format!("{name}/kernel_dequantized"));
        let output = node.input[1].clone();
        self.add(
            "DequantizeLinear",
            &[&kernel, &scale, &zero],
            &output,
            Some(axis),
        );
        let Some(bias) = bias else {
            return;
        };
        let steps: Vec<f32> = scales.iter().map(|scale| scale * step).collect();
        let integers = bias.iter().zip(&steps).flat_map(|(bias, step)| {
            let steps = (f64::from(*bias) / f64::from(*step)).round_ties_even();
            (steps as i32).to_le_bytes()
        });
        let integers = integers.collect();
        let bias = self.tensor(
            format!("{name}/bias_int32"),
            &[channels],
            DataType::Int32,
            integers,
        );
        let scale = self.floats(format!("{name}/bias_scale"), &[channels], &steps);
        let zeros = vec![0; 4 * channels];
        let zero = self.tensor(
            format!("{name}/bias_zero_point"),
            &[channels],
            DataType::Int32,
            zeros,
        );
        node.input[2] = self.name(format!("{name}/bias_dequantized"));
        let output = node.input[2].clone();
        self.add(
            "DequantizeLinear",
            &[&bias, &scale, &zero],
            &output,
            Some(0),
        );
    }
}
