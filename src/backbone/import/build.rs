//! Builds the operators that replace another.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

/// The operators that replace one node of a file.
pub(super) struct Replacement {
    prefix: String,
    nodes: Vec<pb::NodeProto>,
}

impl Replacement {
    /// For the node whose first output is `output`: names of inner tensors begin with it.
    pub fn of(output: &str) -> Replacement {
        Replacement {
            prefix: output.to_owned(),
            nodes: Vec::new(),
        }
    }

    /// Adds an operator; returns the name of its result.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: &[pb::AttributeProto]) -> String {
        let output = format!("{}/{}_{}", self.prefix, op.to_lowercase(), self.nodes.len());
        self.make(op, inputs, attributes, &output);
        output
    }

    /// Adds an operator whose result is the tensor `output`.
    pub fn make(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[pb::AttributeProto],
        output: &str,
    ) {
        self.nodes.push(operator(op, inputs, attributes, output));
    }

    /// Adds a constant vector of integers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.constant(integers(&[values.len() as i64], values))
    }

    /// Adds a constant number.
    pub fn number(&mut self, value: f32) -> String {
        self.constant(floats(&[], &[value]))
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: pb::TensorProto) -> String {
        self.add("Constant", &[], &[value(tensor)])
    }

    /// The operators, in execution order.
    pub fn nodes(self) -> Vec<pb::NodeProto> {
        self.nodes
    }
}

/// An operator with one result, which has the operator's name.
pub(super) fn operator(
    op: &str,
    inputs: &[&str],
    attributes: &[pb::AttributeProto],
    output: &str,
) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

/// The attribute `value` of a constant.
pub(super) fn value(tensor: pb::TensorProto) -> pb::AttributeProto {
    pb::AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor),
        ..Default::default()
    }
}

/// An int64 tensor.
pub(super) fn integers(dims: &[i64], values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        dims: dims.to_vec(),
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// A float32 tensor.
pub(super) fn floats(dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// An attribute that is an integer.
pub(super) fn int(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..Default::default()
    }
}

/// An attribute that is a list of integers.
pub(super) fn ints(name: &str, values: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// The domain of ONNX's own operators has two names.
pub(super) fn is_own_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}
