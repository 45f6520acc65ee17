//! What of a quantised ONNX graph can be computed with integers: `DequantizeLinear` ─► operator ─► `QuantizeLinear`
//! becomes one operator on bytes.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::integer::Steps;
use super::operator::{CONVOLUTION, DEQUANTIZE, MAX_POOL, QUANTIZE, SUM};
use crate::proto::{Attributes, float_values, integer_values};
use crate::rounding::has_subgraph;

/// Relative difference of two scales that were computed in different ways.
const SAME: f32 = 1e-6;
/// What the rest of a bias may move a result by, in steps of the result.
const REST: f64 = 1.0 / 256.0;

/// The model with operators on bytes where they can be; none if there is no convolution among them.
pub(super) fn in_integers(model: &pb::ModelProto) -> Option<pb::ModelProto> {
    // Our operators are made here and nowhere else.
    if super::operator::named_in(model).is_some() {
        return None;
    }
    let graph = model.graph.as_ref().filter(|g| !has_subgraph(g))?;
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
    let is_weight: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let weights = graph.initializer.iter();
    let inputs = graph.input.iter();
    let rewritten = pb::GraphProto {
        node: kept,
        initializer: weights
            .filter(|t| needed.contains(&t.name))
            .cloned()
            .collect(),
        name: graph.name.clone(),
        // Older files list their weights among the inputs.
        input: inputs
            .filter(|i| !is_weight.contains(i.name.as_str()) || needed.contains(&i.name))
            .cloned()
            .collect(),
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
        let initializers = graph.initializer.iter();
        let mut weights: HashMap<&str, &pb::TensorProto> =
            initializers.map(|t| (t.name.as_str(), t)).collect();
        for (i, node) in graph.node.iter().enumerate() {
            let value = Attributes(&node.attribute).tensor("value");
            if let ("Constant", Some(value), [output]) =
                (node.op_type.as_str(), value, &node.output[..])
            {
                weights.insert(output, value);
            }
            makers.extend(node.output.iter().map(|output| (output.as_str(), i)));
            for input in &node.input {
                readers.entry(input).or_default().push(i);
            }
        }
        Reading {
            graph,
            weights,
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

    /// The steps of a `QuantizeLinear` or `DequantizeLinear` with one scale and a byte for 0.
    fn steps(&self, node: &pb::NodeProto) -> Option<Steps> {
        let [_, scale, zero] = &node.input[..] else {
            return None;
        };
        let scales = self.floats(scale)?;
        let zero = self.weights.get(zero.as_str())?;
        if zero.data_type != DataType::Uint8 as i32 || !is_plain(node) {
            return None;
        }
        let zeros = integer_values(zero)?;
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
        if node.input.first().is_none_or(|first| first != tensor) {
            return None;
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => Some((&node.output[0], self.steps(node)?, vec![reader])),
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

    /// The constant of integers that `tensor` is made of, with a scale for all or for each place of axis 0.
    fn constant(&self, tensor: &str) -> Option<Constant> {
        let node = self
            .maker(tensor)
            .filter(|n| n.op_type == "DequantizeLinear" && is_plain(n))?;
        let integers = self.weights.get(node.input[0].as_str())?;
        let dims: Vec<usize> = integers.dims.iter().map(|&d| d as usize).collect();
        let mut values = integer_values(integers)?;
        let channels = *dims.first().filter(|&&channels| channels > 0)?;
        let axis = Attributes(&node.attribute).int("axis").unwrap_or(1);
        let by_channel = axis == 0 || axis == -(dims.len() as i64) || dims.len() == 1;
        // One for each channel, of one for all or of as many.
        let of_each = |n: usize| n == 1 || (n == channels && by_channel);
        let spread = |i: usize, n: usize| if n == 1 { 0 } else { i };
        let scales = self.floats(node.input.get(1)?)?;
        let scales = of_each(scales.len())
            .then(|| (0..channels).map(|i| scales[spread(i, scales.len())]))?;
        if let Some(zero) = node.input.get(2).filter(|name| !name.is_empty()) {
            let zero = self.weights.get(zero.as_str())?;
            let zeros = integer_values(zero)?;
            if zero.data_type != integers.data_type || !of_each(zeros.len()) {
                return None;
            }
            let each = values.len() / channels;
            for (i, values) in values.chunks_mut(each.max(1)).enumerate() {
                let zero = zeros[spread(i, zeros.len())];
                for value in values {
                    *value = value.checked_sub(zero)?;
                }
            }
        }
        Some(Constant {
            scales: scales.collect(),
            dims,
            values,
        })
    }

    /// The bias `name` in steps of `products`, the scale of each channel's products; none if results would move by
    /// more than a little of `output`, the step of the result.
    fn bias(&self, name: &str, products: &[f32], output: f32) -> Option<Vec<i32>> {
        let Some(bias) = self.constant(name) else {
            let values = self.floats(name)?;
            let whole = values.len() == products.len();
            let pairs = values.iter().zip(products);
            let steps = pairs.map(|(&value, &product)| whole_steps(value.into(), product, output));
            return steps.collect::<Option<_>>().filter(|_| whole);
        };
        if bias.dims != [products.len()] {
            return None;
        }
        let each = bias.values.iter().zip(&bias.scales).zip(products);
        let steps = each.map(|((&value, &scale), &product)| {
            // The scale that runtimes expect, but for how it was rounded.
            if (scale - product).abs() <= SAME * product.abs() {
                return Some(value);
            }
            whole_steps(f64::from(value) * f64::from(scale), product, output)
        });
        steps.collect()
    }

    fn convolution(&self, node: &pb::NodeProto) -> Option<Replaced> {
        let (bytes, input) = self.bytes(node.input.first()?)?;
        let Constant {
            dims,
            values,
            scales,
        } = self.constant(node.input.get(1)?)?;
        let [outputs, depth, height, width] = dims[..] else {
            return None;
        };
        let weights = values.iter().map(|&value| i8::try_from(value));
        let weights: Vec<i8> = weights.collect::<Result<_, _>>().ok()?;
        let (result, output, behind) = self.rounded(&node.output[0])?;
        let products: Vec<f32> = scales.iter().map(|scale| input.scale * scale).collect();
        let multiplies = |product: f32| product.is_normal() && (product / output.scale).is_normal();
        if !products.iter().all(|&product| multiplies(product)) {
            return None;
        }
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => self.bias(name, &products, output.scale)?,
            None => vec![0; outputs],
        };
        if !sums_fit(&weights, &bias, input.zero) {
            return None;
        }
        let attributes = Attributes(&node.attribute);
        let group = attributes.int("group").unwrap_or(1);
        let depthwise = group > 1 && group == outputs as i64 && depth == 1;
        let dilated = attributes.ints("dilations").iter().any(|&d| d != 1);
        if bias.len() != outputs || !(group == 1 || depthwise) || (depthwise && dilated) {
            return None;
        }
        let mut replaced = operator(CONVOLUTION, node, &[bytes], result, &[input, output]);
        replaced.attribute.extend(node.attribute.iter().cloned());
        replaced.attribute.extend([
            pb::AttributeProto {
                name: "weights".to_owned(),
                r#type: AttributeType::String as i32,
                s: weights.iter().map(|&v| v as u8).collect(),
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

/// A constant of integers: `values`, less their zero point, times the scale of their place on axis 0.
struct Constant {
    dims: Vec<usize>,
    values: Vec<i32>,
    scales: Vec<f32>,
}

/// Whether a rounding says nothing that is not looked at here.
fn is_plain(node: &pb::NodeProto) -> bool {
    let mut attributes = node.attribute.iter();
    attributes.all(|a| match a.name.as_str() {
        "axis" | "saturate" => true,
        "output_dtype" => matches!(a.i, 0 | 2),
        _ => a.i == 0,
    })
}

/// `value` in whole steps of `product`, if the rest is next to nothing beside `output`.
fn whole_steps(value: f64, product: f32, output: f32) -> Option<i32> {
    let steps = value / f64::from(product);
    let whole = steps.round_ties_even();
    let rest = (steps - whole).abs() * f64::from(product.abs());
    let fits = rest <= REST * f64::from(output) && whole.abs() <= f64::from(1 << 30);
    fits.then_some(whole as i32)
}

/// Whether no input makes a sum that 32 bits cannot hold.
fn sums_fit(weights: &[i8], bias: &[i32], zero: u8) -> bool {
    let each = weights.len() / bias.len().max(1);
    let kernels = weights.chunks(each.max(1));
    kernels.zip(bias).all(|(kernel, &bias)| {
        let sum = |sign: i64| -> i64 {
            let these = kernel.iter().map(|&w| i64::from(w) * sign);
            these.filter(|&w| w > 0).sum::<i64>() * sign
        };
        let (up, down) = (sum(1), sum(-1));
        let start = i64::from(bias) - i64::from(zero) * (up + down);
        let ends = [start, start + 255 * up, start + 255 * down];
        ends.iter().all(|&end| i32::try_from(end).is_ok())
    })
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
