//! Converts other floating-point types to float32. No file access.

use half::{bf16, f16};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto;

use crate::backbone::onnx::walk::each_graph_mut;

/// Attributes that name a number type, by operator.
const TYPE_ATTRIBUTES: [(&str, &str); 7] = [
    ("Cast", "to"),
    ("RandomNormal", "dtype"),
    ("RandomNormalLike", "dtype"),
    ("RandomUniform", "dtype"),
    ("RandomUniformLike", "dtype"),
    ("EyeLike", "dtype"),
    ("Bernoulli", "dtype"),
];

/// Converts all float16, bfloat16 and double values of `graph` and its subgraphs to float32: weights,
/// constants, inputs, outputs, and what operators turn numbers into.
pub(super) fn to_float32(graph: &mut pb::GraphProto) {
    each_graph_mut(graph, &mut |graph| {
        graph.initializer.iter_mut().for_each(convert);
        let values = graph.input.iter_mut().chain(&mut graph.output);
        for value in values.chain(&mut graph.value_info) {
            let value = value.r#type.as_mut().and_then(|t| t.value.as_mut());
            if let Some(type_proto::Value::TensorType(tensor)) = value
                && is_other_float(tensor.elem_type)
            {
                tensor.elem_type = DataType::Float as i32;
            }
        }
        for node in &mut graph.node {
            for attribute in &mut node.attribute {
                let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
                tensors.for_each(convert);
                let place = (node.op_type.as_str(), attribute.name.as_str());
                let names_type = TYPE_ATTRIBUTES.contains(&place);
                if names_type && i32::try_from(attribute.i).is_ok_and(is_other_float) {
                    attribute.i = DataType::Float as i64;
                }
            }
        }
    });
}

fn is_other_float(data_type: i32) -> bool {
    let types = [DataType::Float16, DataType::Bfloat16, DataType::Double];
    types.iter().any(|&other| other as i32 == data_type)
}

fn convert(tensor: &mut pb::TensorProto) {
    // The field for 32-bit integers holds the bits of 16-bit floats, one each.
    let bits = |tensor: &pb::TensorProto| -> Vec<u16> {
        match tensor.raw_data.is_empty() {
            true => tensor.int32_data.iter().map(|&v| v as u16).collect(),
            false => {
                let (pairs, _) = tensor.raw_data.as_chunks::<2>();
                pairs.iter().map(|b| u16::from_le_bytes(*b)).collect()
            }
        }
    };
    let values: Vec<f32> = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float16) => {
            let bits = bits(tensor).into_iter();
            bits.map(|b| f16::from_bits(b).to_f32()).collect()
        }
        Ok(DataType::Bfloat16) => {
            let bits = bits(tensor).into_iter();
            bits.map(|b| bf16::from_bits(b).to_f32()).collect()
        }
        Ok(DataType::Double) => match tensor.raw_data.is_empty() {
            true => tensor.double_data.iter().map(|&v| v as f32).collect(),
            false => {
                let (values, _) = tensor.raw_data.as_chunks::<8>();
                values
                    .iter()
                    .map(|b| f64::from_le_bytes(*b) as f32)
                    .collect()
            }
        },
        _ => return,
    };
    tensor.data_type = DataType::Float as i32;
    tensor.int32_data.clear();
    tensor.double_data.clear();
    tensor.float_data.clear();
    tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(data_type: DataType, raw_data: Vec<u8>, int32_data: Vec<i32>) -> Vec<f32> {
        let mut tensor = pb::TensorProto {
            data_type: data_type as i32,
            raw_data,
            int32_data,
            ..Default::default()
        };
        convert(&mut tensor);
        assert_eq!(tensor.data_type, DataType::Float as i32);
        let (values, rest) = tensor.raw_data.as_chunks::<4>();
        assert!(rest.is_empty() && tensor.int32_data.is_empty());
        values.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn numbers_of_each_width_keep_their_values() {
        // 1.5 and -65504, the least float16, as their bits.
        let halves = [0x3e00_u16, 0xfbff].map(u16::to_le_bytes).concat();
        assert_eq!(
            converted(DataType::Float16, halves, vec![]),
            [1.5, -65504.0]
        );
        let field = vec![0x3e00, 0xfbff];
        assert_eq!(converted(DataType::Float16, vec![], field), [1.5, -65504.0]);
        let brains = [0x3fc0_u16, 0xff80].map(u16::to_le_bytes).concat();
        let expected = [1.5, f32::NEG_INFINITY];
        assert_eq!(converted(DataType::Bfloat16, brains, vec![]), expected);
        let doubles = [0.1_f64, 1e300].map(f64::to_le_bytes).concat();
        let expected = [0.1, f32::INFINITY];
        assert_eq!(converted(DataType::Double, doubles, vec![]), expected);
    }
}
