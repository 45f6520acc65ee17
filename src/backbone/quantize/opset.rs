//! Upgrades older graphs to opset 13, the first with per-channel scales. No file access.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::network::tensor_shapes;
use crate::backbone::onnx::OnnxGraph;
use crate::error::Result;

/// The minimum opset of the result.
const WANTED: i64 = 13;
/// The oldest opset that can be upgraded.
const OLDEST: i64 = 7;
/// The version of the file format that belongs to [`WANTED`].
const FILE_FORMAT: i64 = 7;

/// Raises `graph`, for inputs of the shape `input_shape`, to opset 13 if it is older, rewriting operators that changed.
///
/// # Errors
/// [`crate::Error::Model`] for an operator whose change is not known here, by its name.
pub(super) fn upgrade(graph: &mut OnnxGraph, input_shape: [usize; 4]) -> Result<()> {
    let found = graph.operator_set();
    if found >= WANTED {
        return Ok(());
    }
    let refuse = |graph: &OnnxGraph, what: String| {
        Err(graph.fail(format!(
            "{what} cannot be converted from opset {found}; convert the model to opset {WANTED}"
        )))
    };
    if found < OLDEST {
        return refuse(graph, "the whole graph".to_owned());
    }
    let shapes = tensor_shapes(graph, input_shape)?;
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
            "Slice" if found < 10 => {
                for list in ["starts", "ends", "axes"] {
                    if let Some(given) = take(node, list) {
                        let tensor = integers(&name(list), &given.ints);
                        node.input.push(tensor.name.clone());
                        constants.push(tensor);
                    }
                }
            }
            "Split" => {
                if let Some(parts) = take(node, "split") {
                    let tensor = integers(&name("split"), &parts.ints);
                    node.input.push(tensor.name.clone());
                    constants.push(tensor);
                }
            }
            "Squeeze" | "Unsqueeze" | "ReduceSum" => {
                if let Some(axes) = take(node, "axes") {
                    let tensor = integers(&name("axes"), &axes.ints);
                    node.input.push(tensor.name.clone());
                    constants.push(tensor);
                }
            }
            "Softmax" | "LogSoftmax" => {
                // Older ones work on all axes from theirs on: the same where that is the last.
                let axis = take(node, "axis").map_or(1, |a| a.i);
                let rank = shapes.get(&node.input[0]).map(|shape| shape.len() as i64);
                if axis != -1 && rank != Some(axis + 1) {
                    return refuse(graph, format!("the axis of {}", node.op_type));
                }
                node.attribute.push(pb::AttributeProto {
                    name: "axis".to_owned(),
                    r#type: AttributeType::Int as i32,
                    i: -1,
                    ..Default::default()
                });
            }
            "BatchNormalization" => {
                take(node, "spatial");
            }
            "Abs"
            | "Add"
            | "ArgMax"
            | "ArgMin"
            | "AveragePool"
            | "Cast"
            | "Ceil"
            | "Clip"
            | "Concat"
            | "Constant"
            | "ConstantOfShape"
            | "Conv"
            | "ConvTranspose"
            | "Cos"
            | "DepthToSpace"
            | "Div"
            | "Elu"
            | "Equal"
            | "Erf"
            | "Exp"
            | "Expand"
            | "Flatten"
            | "Floor"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Gemm"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "Greater"
            | "HardSigmoid"
            | "InstanceNormalization"
            | "LRN"
            | "LeakyRelu"
            | "Less"
            | "Log"
            | "MatMul"
            | "Max"
            | "MaxPool"
            | "Mean"
            | "Min"
            | "Mul"
            | "Neg"
            | "Not"
            | "OneHot"
            | "PRelu"
            | "Pad"
            | "Pow"
            | "Range"
            | "Reciprocal"
            | "ReduceL1"
            | "ReduceL2"
            | "ReduceMax"
            | "ReduceMean"
            | "ReduceMin"
            | "ReduceProd"
            | "ReduceSumSquare"
            | "Relu"
            | "Reshape"
            | "Selu"
            | "Shape"
            | "Sigmoid"
            | "Sign"
            | "Sin"
            | "Slice"
            | "Softplus"
            | "SpaceToDepth"
            | "Sqrt"
            | "Sub"
            | "Sum"
            | "Tanh"
            | "Tile"
            | "Transpose"
            | "Where" => {}
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
