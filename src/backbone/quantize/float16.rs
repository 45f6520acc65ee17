//! Weights of half the size. Touches no file.

use half::f16;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use crate::backbone::attributes::float_values;
use crate::backbone::onnx::OnnxGraph;

/// Smaller weights stay as they are: they save nothing.
const FEW_VALUES: usize = 64;

/// The graph with its weights as float16, each with a `Cast` to float32 behind it: runtimes compute in float32.
///
/// Weights that have a value too large for a float16 stay as they are.
pub fn with_float16_weights(graph: &OnnxGraph) -> OnnxGraph {
    let mut graph = graph.clone();
    let proto = graph.graph_mut();
    let mut casts = Vec::new();
    for tensor in &mut proto.initializer {
        let Some(values) = float_values(tensor) else {
            continue;
        };
        let fits = |x: &f32| f16::from_f32(*x).is_finite();
        if values.len() < FEW_VALUES || !values.iter().all(fits) {
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
