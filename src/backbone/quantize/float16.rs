//! Converts weights to float16. No file access.

use std::collections::HashSet;

use half::f16;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::attributes::float_values;
use crate::backbone::onnx::OnnxGraph;

/// Smaller weights stay as they are: they save nothing.
const FEW_VALUES: usize = 64;

/// Largest error of a weight tensor that is taken for rounding, by the root of the sum of its squares: twice what
/// numbers of 11 bits have on average.
const ROUNDING: f64 = 1.0 / 2048.0;

/// The graph with its weights as float16, each with a `Cast` to float32 after it: runtimes compute in float32.
///
/// Those of products alone, which is where the bytes are: a subtracted mean or a scale would lose the digits
/// that matter. Weights with a value too large for float16, or that are too small for its range, stay
/// as they are.
pub fn with_float16_weights(graph: &OnnxGraph) -> OnnxGraph {
    let factors = factors(graph);
    let mut graph = graph.clone();
    let proto = graph.graph_mut();
    let mut casts = Vec::new();
    for tensor in &mut proto.initializer {
        let Some(values) = float_values(tensor).filter(|_| factors.contains(&tensor.name)) else {
            continue;
        };
        if values.len() < FEW_VALUES || !fits(&values) {
            continue;
        }
        let name = tensor.name.clone();
        tensor.name = format!("{name}/float16");
        tensor.data_type = DataType::Float16 as i32;
        tensor.float_data.clear();
        tensor.raw_data = values
            .iter()
            .flat_map(|x| f16::from_f32(*x).to_le_bytes())
            .collect();
        casts.push(pb::NodeProto {
            op_type: "Cast".to_owned(),
            name: format!("{name}/cast"),
            input: vec![tensor.name.clone()],
            output: vec![name.clone()],
            attribute: vec![pb::AttributeProto {
                name: "to".to_owned(),
                r#type: AttributeType::Int as i32,
                i: DataType::Float as i64,
                ..Default::default()
            }],
            ..Default::default()
        });
        proto.input.retain(|input| input.name != name);
    }
    casts.append(&mut proto.node);
    proto.node = casts;
    graph
}

/// Whether float16 holds `values` to its usual precision.
fn fits(values: &[f32]) -> bool {
    let square = |x: f64| x * x;
    let exact: f64 = values.iter().map(|&x| square(f64::from(x))).sum();
    let errors = values
        .iter()
        .map(|&x| square(f16::from_f32(x).to_f64() - f64::from(x)));
    // An infinite one makes the sum infinite.
    errors.sum::<f64>() <= square(ROUNDING) * exact
}

/// Weights that only products read, as they are or moved.
fn factors(graph: &OnnxGraph) -> HashSet<String> {
    let mut factors = graph.weight_names();
    for node in graph.nodes() {
        let multiplies = matches!(
            node.op_type.as_str(),
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "Gather" | "Transpose" | "Einsum"
        );
        for (place, input) in node.inputs.iter().enumerate() {
            // The third input is a bias.
            if !multiplies || (place > 1 && node.op_type != "Einsum") {
                factors.remove(input);
            }
        }
    }
    factors
}
