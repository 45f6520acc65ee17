//! What of a quantised ONNX graph can be computed with integers: `DequantizeLinear` ─► operator ─► `QuantizeLinear`
//! becomes one operator on bytes.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::integer::Steps;
use super::operator::{CONVOLUTION, DEQUANTIZE, MAX_POOL, QUANTIZE, SUM};
use crate::backbone::attributes::{Attributes, float_values};

/// The model with operators on bytes where they can be; none if there is no convolution among them.
pub(super) fn in_integers(model: &pb::ModelProto) -> Option<pb::ModelProto> {
    // Our operators are made here and nowhere else.
    if super::operator::named_in(model).is_some() {
        return None;
    }
    let graph = model.graph.as_ref()?;
    let reading = Reading::of(graph);
    let mut gone: HashSet<usize> = HashSet::new();
    let mut nodes: Vec<pb::NodeProto> = Vec::new();
    let mut found = false;
    for (i, node) in graph.node.iter().enumerate() {
        let replaced = match node.op_type.as_str() {
            "Conv" => reading.convolution(node),
            "Add" => reading.sum(node),
            "MaxPool" => reading.max_pool(node),
            _ => None,
        };
        found |= replaced.is_some() && node.op_type == "Conv";
        if let Some((replaced, behind)) = replaced {
            nodes.push(replaced);
            gone.extend(behind);
        } else if !gone.contains(&i) {
            nodes.push(reading.rounding(node).unwrap_or_else(|| node.clone()));
        }
    }
    if !found {
        return None;
    }
    let mut needed: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept: Vec<pb::NodeProto> = Vec::new();
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    let weights = graph.initializer.iter();
    let rewritten = pb::GraphProto {
        node: kept,
        initializer: weights
            .filter(|t| needed.contains(&t.name))
            .cloned()
            .collect(),
        name: graph.name.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        ..Default::default()
    };
    Some(pb::ModelProto {
        graph: Some(rewritten),
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        ..Default::default()
    })
}

/// An operator on bytes and the nodes behind it that are part of it.
type Replaced = (pb::NodeProto, Vec<usize>);

/// A graph to be looked up by tensors.
struct Reading<'a> {
    graph: &'a pb::GraphProto,
    weights: HashMap<&'a str, &'a pb::TensorProto>,
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Reading<'a> {
    fn of(graph: &'a pb::GraphProto) -> Reading<'a> {
        let mut makers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            makers.extend(node.output.iter().map(|output| (output.as_str(), i)));
            for input in &node.input {
                readers.entry(input).or_default().push(i);
            }
        }
        Reading {
            graph,
            weights: graph
                .initializer
                .iter()
                .map(|t| (t.name.as_str(), t))
                .collect(),
            makers,
            readers,
        }
    }

    fn maker(&self, tensor: &str) -> Option<&'a pb::NodeProto> {
        self.graph.node.get(*self.makers.get(tensor)?)
    }

    /// The node that alone reads `tensor`, which is no output.
    fn sole_reader(&self, tensor: &str) -> Option<usize> {
        let is_output = self.graph.output.iter().any(|o| o.name == tensor);
        match self.readers.get(tensor)?[..] {
            [reader] if !is_output => Some(reader),
            _ => None,
        }
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        float_values(self.weights.get(name)?)
    }

    /// Values of a constant of integers of the type `kind`.
    fn integers(&self, name: &str, kind: DataType) -> Option<(Vec<usize>, Vec<i32>)> {
        let tensor = self.weights.get(name)?;
        if tensor.data_type != kind as i32 {
            return None;
        }
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        let values = match (kind, tensor.raw_data.is_empty()) {
            (_, true) => tensor.int32_data.clone(),
            (DataType::Int8, _) => tensor
                .raw_data
                .iter()
                .map(|&b| i32::from(b as i8))
                .collect(),
            (DataType::Uint8, _) => tensor.raw_data.iter().map(|&b| i32::from(b)).collect(),
            _ => {
                let (values, _) = tensor.raw_data.as_chunks::<4>();
                values.iter().map(|b| i32::from_le_bytes(*b)).collect()
            }
        };
        (values.len() == dims.iter().product::<usize>()).then_some((dims, values))
    }

    /// The steps of a `QuantizeLinear` or `DequantizeLinear` with one scale and a byte for 0.
    fn steps(&self, node: &pb::NodeProto) -> Option<Steps> {
        let [_, scale, zero] = &node.input[..] else {
            return None;
        };
        let scales = self.floats(scale)?;
        let (_, zeros) = self.integers(zero, DataType::Uint8)?;
        match (&scales[..], &zeros[..]) {
            (&[scale], &[zero]) if scale > 0.0 && scale.is_finite() => Some(Steps {
                scale,
                zero: u8::try_from(zero).ok()?,
            }),
            _ => None,
        }
    }

    /// The bytes that `tensor` was made of, and their steps.
    fn bytes(&self, tensor: &str) -> Option<(&'a str, Steps)> {
        let node = self
            .maker(tensor)
            .filter(|n| n.op_type == "DequantizeLinear")?;
        let steps = self.steps(node)?;
        let is_weight = self.weights.contains_key(node.input[0].as_str());
        (!is_weight).then_some((node.input[0].as_str(), steps))
    }

    /// The bytes that `tensor`, which nobody else reads, becomes, with their steps and the nodes on the way: the
    /// rounding, and an activation that it makes needless.
    fn rounded(&self, tensor: &str) -> Option<(&'a str, Steps, Vec<usize>)> {
        let reader = self.sole_reader(tensor)?;
        let node = &self.graph.node[reader];
        match node.op_type.as_str() {
            "QuantizeLinear" if node.input[0] == tensor => {
                Some((&node.output[0], self.steps(node)?, vec![reader]))
            }
            "Relu" | "Clip" => {
                let (bytes, steps, mut nodes) = self.rounded(&node.output[0])?;
                let bound = |place: usize| self.floats(node.input.get(place)?)?.first().copied();
                let low = node.op_type == "Relu" || bound(1) == Some(0.0);
                let most = 255.0 * steps.scale;
                let high = match node.input.get(2) {
                    Some(_) => bound(2)? >= most * (1.0 - 1e-6),
                    None => true,
                };
                nodes.push(reader);
                (low && high && steps.zero == 0).then_some((bytes, steps, nodes))
            }
            _ => None,
        }
    }

    /// Integers of a constant that `tensor` is made of, and the scale of each of its channels on axis 0.
    fn constant(&self, tensor: &str, kind: DataType) -> Option<(Vec<usize>, Vec<i32>, Vec<f32>)> {
        let node = self
            .maker(tensor)
            .filter(|n| n.op_type == "DequantizeLinear")?;
        let (dims, values) = self.integers(&node.input[0], kind)?;
        let channels = *dims.first()?;
        let mut scales = self.floats(&node.input[1])?;
        let axis = Attributes(&node.attribute).int("axis").unwrap_or(1);
        let by_channel = scales.len() == channels && (axis == 0 || dims.len() == 1);
        if scales.len() == 1 {
            scales = vec![scales[0]; channels];
        } else if !by_channel {
            return None;
        }
        if let Some(zero) = node.input.get(2) {
            let (_, zeros) = self.integers(zero, kind)?;
            if zeros.iter().any(|&zero| zero != 0) {
                return None;
            }
        }
        Some((dims, values, scales))
    }

    fn convolution(&self, node: &pb::NodeProto) -> Option<Replaced> {
        let (bytes, input) = self.bytes(node.input.first()?)?;
        let (dims, values, scales) = self.constant(node.input.get(1)?, DataType::Int8)?;
        let [outputs, depth, height, width] = dims[..] else {
            return None;
        };
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => self.constant(name, DataType::Int32)?.1,
            None => vec![0; outputs],
        };
        let attributes = Attributes(&node.attribute);
        let group = attributes.int("group").unwrap_or(1);
        let depthwise = group > 1 && group == outputs as i64 && depth == 1;
        let dilated = attributes.ints("dilations").iter().any(|&d| d != 1);
        let (result, output, behind) = self.rounded(&node.output[0])?;
        if bias.len() != outputs || !(group == 1 || depthwise) || (depthwise && dilated) {
            return None;
        }
        let mut replaced = operator(CONVOLUTION, node, &[bytes], result, &[input, output]);
        replaced.attribute.extend(node.attribute.iter().cloned());
        replaced.attribute.extend([
            pb::AttributeProto {
                name: "weights".to_owned(),
                r#type: AttributeType::String as i32,
                s: values.iter().map(|&v| v as i8 as u8).collect(),
                ..Default::default()
            },
            pb::AttributeProto {
                name: "kernel".to_owned(),
                r#type: AttributeType::Ints as i32,
                ints: [outputs, depth, height, width].map(|n| n as i64).to_vec(),
                ..Default::default()
            },
            pb::AttributeProto {
                name: "bias".to_owned(),
                r#type: AttributeType::Ints as i32,
                ints: bias.iter().map(|&b| i64::from(b)).collect(),
                ..Default::default()
            },
            pb::AttributeProto {
                name: "scales".to_owned(),
                r#type: AttributeType::Floats as i32,
                floats: scales,
                ..Default::default()
            },
        ]);
        Some((replaced, behind))
    }

    fn sum(&self, node: &pb::NodeProto) -> Option<Replaced> {
        let [left, right] = &node.input[..] else {
            return None;
        };
        let ((left, a), (right, b)) = (self.bytes(left)?, self.bytes(right)?);
        let (result, sum, behind) = self.rounded(&node.output[0])?;
        Some((
            operator(SUM, node, &[left, right], result, &[a, b, sum]),
            behind,
        ))
    }

    fn max_pool(&self, node: &pb::NodeProto) -> Option<Replaced> {
        let (bytes, input) = self.bytes(node.input.first()?)?;
        let (result, output, behind) = self.rounded(&node.output[0])?;
        let attributes = Attributes(&node.attribute);
        let dilated = attributes.ints("dilations").iter().any(|&d| d != 1);
        let rounds_up = attributes.int("ceil_mode").unwrap_or(0) != 0;
        let size = attributes.ints("kernel_shape");
        if input != output || dilated || rounds_up || size.len() != 2 || node.output.len() != 1 {
            return None;
        }
        let mut replaced = operator(MAX_POOL, node, &[bytes], result, &[input]);
        replaced.attribute.extend(node.attribute.iter().cloned());
        replaced.attribute.push(pb::AttributeProto {
            name: "kernel".to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: vec![1, 1, size[0], size[1]],
            ..Default::default()
        });
        Some((replaced, behind))
    }

    /// A rounding, to bytes or back, that stands alone.
    fn rounding(&self, node: &pb::NodeProto) -> Option<pb::NodeProto> {
        let input = node.input.first()?;
        let op_type = match node.op_type.as_str() {
            "QuantizeLinear" => QUANTIZE,
            "DequantizeLinear" if !self.weights.contains_key(input.as_str()) => DEQUANTIZE,
            _ => return None,
        };
        let steps = self.steps(node)?;
        Some(operator(op_type, node, &[input], &node.output[0], &[steps]))
    }
}

/// An operator on bytes in the place of `node`.
fn operator(
    op_type: &str,
    node: &pb::NodeProto,
    inputs: &[&str],
    output: &str,
    steps: &[Steps],
) -> pb::NodeProto {
    let floats = |name: &str, values: Vec<f32>| pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Floats as i32,
        floats: values,
        ..Default::default()
    };
    pb::NodeProto {
        op_type: op_type.to_owned(),
        name: node.name.clone(),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: vec![
            floats("step_scales", steps.iter().map(|s| s.scale).collect()),
            floats(
                "step_zeros",
                steps.iter().map(|s| f32::from(s.zero)).collect(),
            ),
        ],
        ..Default::default()
    }
}
