//! Normalises `QuantizeLinear` and `DequantizeLinear` to the forms that the engines support: unsigned bytes with a zero
//! point. No file access.
//!
//! | in the file | becomes |
//! | --- | --- |
//! | no zero point | the zero point 0 |
//! | int8 between the two | uint8, zero points and integers 128 higher |
//! | 16 or 4 bits between the two | float32 with whole values: rounded, bounded |
//! | a rounded constant | a constant of integers |
//! | a constant of 16 or 4 bits, or with a scale for each block | a constant of floats |

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use crate::proto::{Attributes, INT4, UINT4, float_values, integer_values};

/// What makes uint8 of int8.
const SHIFT: i32 = 128;

const UINT8: i32 = DataType::Uint8 as i32;
const INT8: i32 = DataType::Int8 as i32;
const UINT16: i32 = DataType::Uint16 as i32;
const INT16: i32 = DataType::Int16 as i32;
const INT32: i32 = DataType::Int32 as i32;

/// `model` with its roundings in the forms above; what has none of them stays as it is.
pub fn canonical(model: &pb::ModelProto) -> Cow<'_, pb::ModelProto> {
    // What a subgraph reads from outside is not seen here.
    let is_known = |g: &&pb::GraphProto| g.node.iter().any(is_rounding) && !has_subgraph(g);
    let Some(graph) = model.graph.as_ref().filter(is_known) else {
        return Cow::Borrowed(model);
    };
    let mut writer = Writer::of(graph);
    for node in &graph.node {
        let done = match node.op_type.as_str() {
            "QuantizeLinear" => writer.quantize(node),
            "DequantizeLinear" => writer.dequantize(node),
            _ => None,
        };
        if done.is_none() {
            writer.nodes.push(node.clone());
        }
    }
    let Writer { nodes, tensors, .. } = writer;
    let read = nodes.iter().flat_map(|node| node.input.iter().cloned());
    let outputs = graph.output.iter().map(|output| output.name.clone());
    let read: HashSet<String> = read.chain(outputs).collect();
    // An engine may not know the type of a constant that nobody reads any more.
    let is_constant = |node: &pb::NodeProto| node.op_type == "Constant";
    let is_needed =
        |node: &pb::NodeProto| !is_constant(node) || node.output.iter().any(|o| read.contains(o));
    let weights = graph.initializer.iter();
    let weights = weights.filter(|t| read.contains(&t.name)).cloned();
    let unread: HashSet<&str> = graph
        .initializer
        .iter()
        .filter(|t| !read.contains(&t.name))
        .map(|t| t.name.as_str())
        .collect();
    let inputs = graph.input.iter().cloned();
    let rewritten = pb::GraphProto {
        initializer: weights.chain(tensors).collect(),
        input: inputs
            .filter(|input| !unread.contains(input.name.as_str()))
            .collect(),
        node: nodes.into_iter().filter(is_needed).collect(),
        name: graph.name.clone(),
        output: graph.output.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        ..Default::default()
    };
    Cow::Owned(pb::ModelProto {
        graph: Some(rewritten),
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        functions: model.functions.clone(),
        ..Default::default()
    })
}

/// Whether a node of `graph` has a graph of its own.
pub(super) fn has_subgraph(graph: &pb::GraphProto) -> bool {
    let mut attributes = graph.node.iter().flat_map(|node| &node.attribute);
    attributes.any(|a| a.g.is_some() || !a.graphs.is_empty())
}

fn is_rounding(node: &pb::NodeProto) -> bool {
    matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
}

/// The parameters of a rounding: `(q − zero) · scale`.
struct Params {
    scales: Vec<f32>,
    /// As many as scales, or one, or none for 0.
    zeros: Vec<i32>,
    /// ONNX's number of the type of the zero point; `None` where there is none.
    kind: Option<i32>,
    /// The axis of which each place, or each `block` places, has a scale of its own.
    axis: i64,
    block: usize,
}

impl Params {
    /// Scale and zero, where there is one for all values.
    fn single(&self) -> Option<(f32, i32)> {
        match (&self.scales[..], &self.zeros[..]) {
            (&[scale], []) if self.block == 0 => Some((scale, 0)),
            (&[scale], &[zero]) if self.block == 0 => Some((scale, zero)),
            _ => None,
        }
    }

    /// Scale and zero of each value of a tensor of the dimensions `dims`, row-major.
    fn of_each(&self, dims: &[usize]) -> Option<impl Iterator<Item = (f32, i32)>> {
        let total: usize = dims.iter().product();
        let (places, inner, block) = match self.scales.len() {
            1 if self.block == 0 => (1, total, 1),
            _ => {
                let rank = i64::try_from(dims.len()).ok()?;
                let axis = if self.axis < 0 {
                    self.axis + rank
                } else {
                    self.axis
                };
                let axis = usize::try_from(axis).ok().filter(|&a| a < dims.len())?;
                (dims[axis], dims[axis + 1..].iter().product(), self.block)
            }
        };
        // Scales of blocks have all axes of the tensor, those of places one alone.
        let blocks = places.div_ceil(block.max(1));
        let outer = total / (places * inner).max(1);
        let wanted = match (self.scales.len(), self.block) {
            (1, 0) => 1,
            (_, 0) => places,
            _ => outer * blocks * inner,
        };
        let fits = |n: usize| n == wanted;
        if !fits(self.scales.len()) || !(self.zeros.len() <= 1 || fits(self.zeros.len())) {
            return None;
        }
        Some((0..total).map(move |i| {
            let (before, place, after) = (i / (places * inner), i / inner % places, i % inner);
            let at = match (self.scales.len(), block) {
                (1, _) => 0,
                (_, 0) => place,
                _ => (before * blocks + place / block) * inner + after,
            };
            let zero = match self.zeros[..] {
                [] => 0,
                [zero] => zero,
                _ => self.zeros[at],
            };
            (self.scales[at], zero)
        }))
    }
}

/// How the integers of a tensor between two roundings are kept.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// As in the file, of this type.
    Plain(i32),
    /// uint8 instead of int8, 128 higher.
    Shifted,
    /// Floats with whole values.
    Floats,
}

/// Writes the nodes of a graph again.
struct Writer<'a> {
    graph: &'a pb::GraphProto,
    constants: HashMap<String, Cow<'a, pb::TensorProto>>,
    readers: HashMap<&'a str, Vec<&'a pb::NodeProto>>,
    forms: HashMap<String, Form>,
    taken: HashSet<String>,
    nodes: Vec<pb::NodeProto>,
    tensors: Vec<pb::TensorProto>,
}

impl<'a> Writer<'a> {
    fn of(graph: &'a pb::GraphProto) -> Writer<'a> {
        let mut constants: HashMap<String, Cow<pb::TensorProto>> = HashMap::new();
        let mut readers: HashMap<&str, Vec<&pb::NodeProto>> = HashMap::new();
        let mut taken = HashSet::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.clone(), Cow::Borrowed(tensor));
            taken.insert(tensor.name.clone());
        }
        for node in &graph.node {
            taken.extend(node.output.iter().cloned());
            for input in &node.input {
                readers.entry(input).or_default().push(node);
            }
            let value = Attributes(&node.attribute).tensor("value");
            if let ("Constant", Some(value), [output]) =
                (node.op_type.as_str(), value, &node.output[..])
            {
                constants.insert(output.clone(), Cow::Borrowed(value));
            }
        }
        Writer {
            graph,
            constants,
            readers,
            forms: HashMap::new(),
            taken,
            nodes: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// The parameters of a rounding, where they are constants of float32 and integers.
    fn params(&self, node: &pb::NodeProto) -> Option<Params> {
        let attributes = Attributes(&node.attribute);
        let scale = self.constants.get(node.input.get(1)?)?;
        let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => Some(self.constants.get(name)?),
            None => None,
        };
        let given = attributes.int("output_dtype").filter(|&kind| kind != 0);
        let given = given.and_then(|kind| i32::try_from(kind).ok());
        let quantizes = node.op_type == "QuantizeLinear";
        Some(Params {
            scales: float_values(scale).filter(|scales| !scales.is_empty())?,
            zeros: match zero {
                Some(zero) => integer_values(zero)?,
                None => Vec::new(),
            },
            kind: zero.map(|z| z.data_type).or(given.filter(|_| quantizes)),
            axis: attributes.int("axis").unwrap_or(1),
            block: usize::try_from(attributes.int("block_size").unwrap_or(0)).ok()?,
        })
    }

    /// The parameters of the roundings back from `tensor`, if nobody else reads it.
    fn back(&self, tensor: &str) -> Option<Vec<Params>> {
        let readers = self.readers.get(tensor).map_or(&[][..], Vec::as_slice);
        let is_output = self.graph.output.iter().any(|o| o.name == tensor);
        let back = readers.iter().map(|reader| {
            let reads = reader.op_type == "DequantizeLinear" && reader.input[0] == tensor;
            self.params(reader).filter(|_| reads)
        });
        if is_output { None } else { back.collect() }
    }

    /// Writes a `QuantizeLinear`; `None` if it stays as it is.
    fn quantize(&mut self, node: &pb::NodeProto) -> Option<()> {
        let ([input, ..], [output]) = (&node.input[..], &node.output[..]) else {
            return None;
        };
        let params = self.params(node)?;
        let kind = params.kind.unwrap_or(UINT8);
        self.forms.insert(output.clone(), Form::Plain(kind));
        let (low, high) = bounds(kind)?;
        if let Some(constant) = self.constants.get(input) {
            let dims: Vec<usize> = constant.dims.iter().map(|&d| d.max(0) as usize).collect();
            let values = float_values(constant)?;
            let rounded = values
                .iter()
                .zip(params.of_each(&dims)?)
                .map(|(x, (scale, zero))| {
                    let steps = (x / scale).round_ties_even() as i64 + i64::from(zero);
                    steps.clamp(i64::from(low), i64::from(high)) as i32
                });
            let rounded: Vec<i32> = rounded.collect();
            let tensor = integers(output, &constant.dims, kind, &rounded)?;
            self.constants
                .insert(output.clone(), Cow::Owned(tensor.clone()));
            self.tensors.push(tensor);
            return Some(());
        }
        let back = self.back(output);
        let single = |params: &Vec<Params>| params.iter().all(|p| p.single().is_some());
        let back = back.filter(single).is_some();
        let (scale, zero) = match kind {
            UINT8 if params.zeros.is_empty() && params.block == 0 => {
                (None, vec![0; params.scales.len()])
            }
            INT8 if back => (None, vec![params.single()?.1 + SHIFT]),
            INT16 | UINT16 | INT4 | UINT4 if back => {
                let (scale, zero) = params.single()?;
                (Some(scale), vec![zero])
            }
            _ => return None,
        };
        if let Some(scale) = scale {
            self.forms.insert(output.clone(), Form::Floats);
            let steps = [
                ("Div", scale),
                ("Round", 0.0),
                ("Add", zero[0] as f32),
                ("Max", low as f32),
                ("Min", high as f32),
            ];
            self.chain(input, output, &steps);
            return Some(());
        }
        if kind == INT8 {
            self.forms.insert(output.clone(), Form::Shifted);
        }
        self.with_zero(node, &zero)
    }

    /// Writes a `DequantizeLinear`; `None` if it stays as it is.
    fn dequantize(&mut self, node: &pb::NodeProto) -> Option<()> {
        let ([input, ..], [output]) = (&node.input[..], &node.output[..]) else {
            return None;
        };
        let params = self.params(node)?;
        if let Some(constant) = self.constants.get(input) {
            let known = matches!(constant.data_type, UINT8 | INT8 | INT32) && params.block == 0;
            let kinds = [
                Some(constant.data_type),
                params.kind.or(Some(constant.data_type)),
            ];
            if known && kinds[0] == kinds[1] {
                return None;
            }
            let dims: Vec<usize> = constant.dims.iter().map(|&d| d.max(0) as usize).collect();
            let values = integer_values(constant)?;
            let floats = values.iter().zip(params.of_each(&dims)?);
            let floats = floats.map(|(&q, (scale, zero))| q.wrapping_sub(zero) as f32 * scale);
            let tensor = pb::TensorProto {
                name: output.clone(),
                dims: constant.dims.clone(),
                data_type: DataType::Float as i32,
                raw_data: floats.flat_map(f32::to_le_bytes).collect(),
                ..Default::default()
            };
            self.constants
                .insert(output.clone(), Cow::Owned(tensor.clone()));
            self.tensors.push(tensor);
            return Some(());
        }
        match *self.forms.get(input)? {
            Form::Plain(UINT8) if params.zeros.is_empty() && params.block == 0 => {
                self.with_zero(node, &vec![0; params.scales.len()])
            }
            Form::Plain(_) => None,
            Form::Shifted => {
                let (_, zero) = params.single()?;
                self.with_zero(node, &[zero + SHIFT])
            }
            Form::Floats => {
                let (scale, zero) = params.single()?;
                self.chain(input, output, &[("Sub", zero as f32), ("Mul", scale)]);
                Some(())
            }
        }
    }

    /// Writes `node` with other zero points, of uint8.
    fn with_zero(&mut self, node: &pb::NodeProto, zeros: &[i32]) -> Option<()> {
        let dims = match zeros.len() {
            1 => Vec::new(),
            n => vec![n as i64],
        };
        let name = self.name(&format!("{}/zero", node.output[0]));
        let tensor = integers(&name, &dims, UINT8, zeros)?;
        self.constants
            .insert(name.clone(), Cow::Owned(tensor.clone()));
        self.tensors.push(tensor);
        let mut node = node.clone();
        node.input.truncate(2);
        node.input.push(name);
        node.attribute.retain(|a| a.name == "axis");
        self.nodes.push(node);
        Some(())
    }

    /// Writes operators one after another, each with a number as its second input where it has one.
    fn chain(&mut self, input: &str, output: &str, steps: &[(&str, f32)]) {
        let mut tensor = input.to_owned();
        for (i, &(op_type, value)) in steps.iter().enumerate() {
            let name = match i + 1 == steps.len() {
                true => output.to_owned(),
                false => self.name(&format!("{output}/{op_type}")),
            };
            let mut inputs = vec![std::mem::replace(&mut tensor, name.clone())];
            if op_type != "Round" {
                let constant = self.name(&format!("{output}/{op_type}_by"));
                self.tensors.push(pb::TensorProto {
                    name: constant.clone(),
                    data_type: DataType::Float as i32,
                    raw_data: value.to_le_bytes().to_vec(),
                    ..Default::default()
                });
                inputs.push(constant);
            }
            self.nodes.push(pb::NodeProto {
                op_type: op_type.to_owned(),
                name: name.clone(),
                input: inputs,
                output: vec![name],
                ..Default::default()
            });
        }
    }

    /// A name that starts with `wanted` and that nothing has yet.
    fn name(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|i| format!("{wanted}_{i}"));
        let name = std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| !self.taken.contains(name))
            .unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }
}

/// The least and the largest integer of a type.
fn bounds(kind: i32) -> Option<(i32, i32)> {
    match kind {
        UINT8 => Some((0, 255)),
        INT8 => Some((-128, 127)),
        UINT16 => Some((0, 65535)),
        INT16 => Some((-32768, 32767)),
        UINT4 => Some((0, 15)),
        INT4 => Some((-8, 7)),
        _ => None,
    }
}

/// A constant of integers; those of four bits become bytes.
fn integers(name: &str, dims: &[i64], kind: i32, values: &[i32]) -> Option<pb::TensorProto> {
    let (kind, bytes) = match kind {
        UINT8 | INT8 | UINT4 | INT4 => (
            if matches!(kind, UINT8 | UINT4) {
                UINT8
            } else {
                INT8
            },
            values.iter().map(|&v| v as u8).collect(),
        ),
        UINT16 | INT16 => (
            kind,
            values
                .iter()
                .flat_map(|&v| (v as u16).to_le_bytes())
                .collect(),
        ),
        _ => return None,
    };
    Some(pb::TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: kind,
        raw_data: bytes,
        ..Default::default()
    })
}
