//! Older graphs in the words of the ONNX operator set that first has a scale for each channel. Touches no file.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::onnx::OnnxGraph;
use crate::error::Result;

/// The operator set that is written at least.
const WANTED: i64 = 13;
/// The oldest that can be rewritten.
const OLDEST: i64 = 7;
/// The version of the file format that belongs to [`WANTED`].
const FILE_FORMAT: i64 = 7;

/// Raises `graph` to operator set 13, if it is of an older one. What changed on the way is rewritten.
///
/// # Errors
/// [`crate::Error::Model`] for an operator whose change is not known here, by its name.
pub(super) fn upgrade(graph: &mut OnnxGraph) -> Result<()> {
    let found = graph.operator_set();
    if found >= WANTED {
        return Ok(());
    }
    let refuse = |graph: &OnnxGraph, what: String| {
        Err(graph.fail(format!(
            "{what} is not known to quantize in operator set {found}; convert the model to operator set {WANTED}"
        )))
    };
    if found < OLDEST {
        return refuse(graph, "the whole graph".to_owned());
    }
    let mut nodes = std::mem::take(&mut graph.graph_mut().node);
    let mut constants = Vec::new();
    for (place, node) in nodes.iter_mut().enumerate() {
        let output = node.output[0].clone();
        let name = |input: &str| format!("{output}/{input}_{place}");
        match node.op_type.as_str() {
            "Clip" if found < 11 => {
                let bounds = [("min", f32::MIN), ("max", f32::MAX)];
                let bounds = bounds.map(|(bound, default)| {
                    let given = take(node, bound).map_or(default, |a| a.f);
                    let tensor = float(&name(bound), given);
                    node.input.push(tensor.name.clone());
                    tensor
                });
                constants.extend(bounds);
            }
            "Pad" if found < 11 => {
                let pads = take(node, "pads").map(|a| a.ints).unwrap_or_default();
                let value = take(node, "value").map_or(0.0, |a| a.f);
                let tensors = [integers(&name("pads"), &pads), float(&name("value"), value)];
                node.input.extend(tensors.iter().map(|t| t.name.clone()));
                constants.extend(tensors);
            }
            "Squeeze" | "Unsqueeze" | "ReduceSum" => {
                if let Some(axes) = take(node, "axes") {
                    let tensor = integers(&name("axes"), &axes.ints);
                    node.input.push(tensor.name.clone());
                    constants.push(tensor);
                }
            }
            "Softmax" | "LogSoftmax" => {
                // Older ones work on all axes from this one on; of a vector for each picture that is the last.
                if take(node, "axis").is_some_and(|a| !matches!(a.i, 1 | -1)) {
                    return refuse(graph, format!("the axis of {}", node.op_type));
                }
                node.attribute.push(pb::AttributeProto {
                    name: "axis".to_owned(),
                    r#type: AttributeType::Int as i32,
                    i: 1,
                    ..Default::default()
                });
            }
            "BatchNormalization" => {
                take(node, "spatial");
            }
            "Add" | "AveragePool" | "Cast" | "Concat" | "Constant" | "Conv" | "Div" | "Flatten"
            | "Gemm" | "GlobalAveragePool" | "GlobalMaxPool" | "HardSigmoid" | "LeakyRelu"
            | "MatMul" | "Max" | "MaxPool" | "Min" | "Mul" | "PRelu" | "Relu" | "ReduceMax"
            | "ReduceMean" | "Reshape" | "Sigmoid" | "Sub" | "Tanh" | "Transpose" | "LRN" => {}
            other => {
                let what = format!("the operator {other}");
                graph.graph_mut().node = nodes;
                return refuse(graph, what);
            }
        }
    }
    let proto = graph.graph_mut();
    proto.node = nodes;
    proto.initializer.extend(constants);
    graph.set_operator_set(WANTED, FILE_FORMAT);
    Ok(())
}

/// Takes an attribute out of a node.
fn take(node: &mut pb::NodeProto, name: &str) -> Option<pb::AttributeProto> {
    let place = node.attribute.iter().position(|a| a.name == name)?;
    Some(node.attribute.remove(place))
}

fn float(name: &str, value: f32) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: DataType::Float as i32,
        raw_data: value.to_le_bytes().to_vec(),
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}
