//! Rewrites integer operators (the QOperator form of quantised files) as float operators between `DequantizeLinear` and
//! `QuantizeLinear`, which every runtime supports and the engine computes in integers. No file access.

use std::collections::HashMap;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::build::{Replacement, floats, int};
use crate::backbone::attributes::{Attributes, float_values};
use crate::backbone::onnx::walk::each_graph_mut;

/// The first operator set whose `DequantizeLinear` has a scale for each channel.
const CHANNEL_SCALES: i64 = 13;

/// Rewrites the integer operators of `graph`, written in version `version` of ONNX's operator set, and of the graphs
/// inside it. What cannot be rewritten stays as it is.
pub(super) fn rewrite(graph: &mut pb::GraphProto, version: i64) {
    each_graph_mut(graph, &mut |graph| {
        if !graph.node.iter().any(|node| is_integer(&node.op_type)) {
            return;
        }
        let old = std::mem::take(&mut graph.node);
        let made = old
            .iter()
            .filter(|n| n.op_type == "Constant")
            .filter_map(|node| {
                let value = node.attribute.iter().find(|a| a.name == "value")?;
                Some((node.output.first()?.as_str(), value.t.as_ref()?))
            });
        let weights = graph.initializer.iter().map(|t| (t.name.as_str(), t));
        let constants: HashMap<&str, &pb::TensorProto> = made.chain(weights).collect();
        let mut new = Vec::with_capacity(old.len());
        for node in &old {
            let rewriting = Rewriting {
                node,
                constants: &constants,
                version,
            };
            match is_integer(&node.op_type)
                .then(|| rewriting.floats())
                .flatten()
            {
                Some(nodes) => new.extend(nodes),
                None => new.push(node.clone()),
            }
        }
        graph.node = new;
    });
}

fn is_integer(op: &str) -> bool {
    op.starts_with("QLinear") || op == "QGemm"
}

struct Rewriting<'a> {
    node: &'a pb::NodeProto,
    constants: &'a HashMap<&'a str, &'a pb::TensorProto>,
    version: i64,
}

impl Rewriting<'_> {
    /// The operators that replace the node; `None` if it is unknown or incomplete.
    fn floats(&self) -> Option<Vec<pb::NodeProto>> {
        let node = self.node;
        let output = node.output.first()?;
        let mut r = Replacement::of(output);
        let (op, inputs, steps) = match node.op_type.as_str() {
            "QLinearConv" => {
                let x = self.dequantized(&mut r, 0, 0)?;
                let mut inputs = vec![x, self.dequantized(&mut r, 3, 0)?];
                if self.input(8).is_some() {
                    inputs.push(self.bias(&mut r, 8, 1, 4, 1.0)?);
                }
                ("Conv", inputs, 6)
            }
            "QLinearMatMul" => {
                let axis = self.last_axis(3);
                let inputs = vec![
                    self.dequantized(&mut r, 0, 0)?,
                    self.dequantized(&mut r, 3, axis)?,
                ];
                ("MatMul", inputs, 6)
            }
            "QGemm" => {
                let attributes = Attributes(&node.attribute);
                let is_turned = attributes.int("transB").is_some_and(|v| v != 0);
                let axis = i64::from(!is_turned);
                let alpha = attributes.float("alpha").unwrap_or(1.0);
                let a = self.dequantized(&mut r, 0, 0)?;
                let mut inputs = vec![a, self.dequantized(&mut r, 3, axis)?];
                if self.input(6).is_some() {
                    inputs.push(self.bias(&mut r, 6, 1, 4, alpha)?);
                }
                ("Gemm", inputs, 7)
            }
            "QLinearAdd" | "QLinearMul" => {
                let a = self.dequantized(&mut r, 0, 0)?;
                let inputs = vec![a, self.dequantized(&mut r, 3, 0)?];
                (node.op_type.strip_prefix("QLinear")?, inputs, 6)
            }
            "QLinearConcat" => {
                let parts = (2..node.input.len()).step_by(3);
                let inputs: Option<Vec<String>> = parts
                    .map(|place| self.dequantized(&mut r, place, 0))
                    .collect();
                ("Concat", inputs?, 0)
            }
            "QLinearGlobalAveragePool" | "QLinearAveragePool" => {
                let last = Attributes(&node.attribute).int("channels_last");
                if last.is_some_and(|v| v != 0) {
                    return None;
                }
                let x = self.dequantized(&mut r, 0, 0)?;
                (node.op_type.strip_prefix("QLinear")?, vec![x], 3)
            }
            "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax" => {
                let x = self.dequantized(&mut r, 0, 0)?;
                (node.op_type.strip_prefix("QLinear")?, vec![x], 3)
            }
            _ => return None,
        };
        // Some operators have their own attributes that the one on floats has not.
        let attributes: Vec<pb::AttributeProto> = node
            .attribute
            .iter()
            .filter(|a| !matches!(a.name.as_str(), "channels_last" | "opset"))
            .cloned()
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let Some(scale) = self.input(steps) else {
            // QGemm without steps for its result gives floats.
            r.make(op, &inputs, &attributes, output);
            return Some(r.nodes());
        };
        let result = r.add(op, &inputs, &attributes);
        let mut inputs = vec![result.as_str(), scale];
        inputs.extend(self.input(steps + 1));
        r.make("QuantizeLinear", &inputs, &[], output);
        Some(r.nodes())
    }

    fn input(&self, place: usize) -> Option<&str> {
        let name = self.node.input.get(place).filter(|name| !name.is_empty());
        name.map(String::as_str)
    }

    fn last_axis(&self, place: usize) -> i64 {
        let tensor = self.input(place).and_then(|name| self.constants.get(name));
        tensor.map_or(1, |t| t.dims.len().saturating_sub(1) as i64)
    }

    /// The floats of the input at `place`, whose scale and zero point follow it. Where there are several, they are
    /// those of the places along `axis`.
    fn dequantized(&self, r: &mut Replacement, place: usize, axis: i64) -> Option<String> {
        let (tensor, scale) = (self.input(place)?, self.input(place + 1)?);
        let scales = self.constants.get(scale).and_then(|t| float_values(t));
        let several = scales.as_ref().is_some_and(|scales| scales.len() > 1);
        let mut inputs = vec![tensor, scale];
        inputs.extend(self.input(place + 2));
        if !several {
            return Some(r.add("DequantizeLinear", &inputs, &[]));
        }
        if self.version >= CHANNEL_SCALES {
            return Some(r.add("DequantizeLinear", &inputs, &[int("axis", axis)]));
        }
        let weights = self.constants.get(tensor)?;
        let values = integers(weights)?;
        let zeros = self
            .input(place + 2)
            .and_then(|name| self.constants.get(name));
        let zeros = zeros.map_or(Some(vec![0]), |t| integers(t))?;
        let scales = scales?;
        let along = usize::try_from(*weights.dims.get(usize::try_from(axis).ok()?)?).ok()?;
        let inner = weights.dims.get(usize::try_from(axis).ok()? + 1..)?;
        let inner: usize = inner
            .iter()
            .map(|&d| usize::try_from(d).unwrap_or(0))
            .product();
        if along != scales.len() || inner == 0 || !matches!(zeros.len(), 1) && zeros.len() != along
        {
            return None;
        }
        let values = values.iter().enumerate().map(|(i, &value)| {
            let channel = i / inner % along;
            let zero = zeros.get(channel).or(zeros.first()).copied().unwrap_or(0);
            (value - zero) as f32 * scales[channel]
        });
        let values: Vec<f32> = values.collect();
        Some(r.constant(floats(&weights.dims, &values)))
    }

    /// The floats of the constant bias at `place`, whose step is the product of those at `x` and `w` and of `factor`.
    fn bias(
        &self,
        r: &mut Replacement,
        place: usize,
        x: usize,
        w: usize,
        factor: f32,
    ) -> Option<String> {
        let bias = self.constants.get(self.input(place)?)?;
        let scales = |place| float_values(self.constants.get(self.input(place)?)?);
        let (x, w) = (scales(x)?, scales(w)?);
        let x = *x.first()?;
        let values = integers(bias)?;
        if w.is_empty() || w.len() > 1 && w.len() != values.len() {
            return None;
        }
        let steps = w
            .iter()
            .cycle()
            .map(|w| f64::from(*w) * f64::from(x) * f64::from(factor));
        let values: Vec<f32> = values
            .iter()
            .zip(steps)
            .map(|(&value, step)| (f64::from(value) * step) as f32)
            .collect();
        Some(r.constant(floats(&bias.dims, &values)))
    }
}

/// Values of a constant of 8-bit or 32-bit integers.
fn integers(tensor: &pb::TensorProto) -> Option<Vec<i32>> {
    let raw = &tensor.raw_data;
    let is_raw = !raw.is_empty();
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int8 if is_raw => Some(raw.iter().map(|&b| i32::from(b as i8)).collect()),
        DataType::Uint8 if is_raw => Some(raw.iter().map(|&b| i32::from(b)).collect()),
        DataType::Int32 if is_raw => {
            let (values, _) = raw.as_chunks::<4>();
            Some(values.iter().map(|b| i32::from_le_bytes(*b)).collect())
        }
        DataType::Int8 | DataType::Uint8 | DataType::Int32 => Some(tensor.int32_data.clone()),
        _ => None,
    }
}
