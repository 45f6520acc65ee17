//! Reports unsupported operators and constants by name, with advice. No file access.

use std::collections::HashSet;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::build::is_own_domain;
use crate::backbone::faults::WRONG;
use crate::backbone::onnx::OnnxGraph;
use crate::backbone::onnx::walk::each_node;

/// The newest opset whose operators are all supported.
pub(in crate::backbone) const NEWEST_KNOWN: i64 = 22;

/// Operators of Microsoft's domain that the engine has.
const MICROSOFT: [&str; 12] = [
    "BiasGelu",
    "DequantizeLinear",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuantizeLinear",
    "QuickGelu",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
];

/// Domains of operators that are this program's own, or that the engine knows by the same names.
const OTHER_DOMAINS: [&str; 1] = ["ai.onnx.ml"];

/// Finds something in `graph` that cannot run: names it and gives advice, in a clause.
pub(in crate::backbone) fn unsupported(graph: &OnnxGraph) -> Option<String> {
    let proto = graph.proto().graph.as_ref()?;
    let known = tract_onnx::onnx().op_register.0;
    let mut found: Option<String> = None;
    let texts: HashSet<&str> = proto
        .initializer
        .iter()
        .filter(|t| t.data_type == DataType::String as i32)
        .map(|t| t.name.as_str())
        .collect();
    each_node(proto, &mut |node| {
        if found.is_some() {
            return;
        }
        let op = node.op_type.as_str();
        let which = || {
            let name = match node.name.is_empty() {
                true => node.output.first().map_or("", String::as_str),
                false => &node.name,
            };
            format!("the operator {op} of the node `{name}`")
        };
        let domain = node.domain.as_str();
        let is_foreign = match domain {
            _ if is_own_domain(domain) || OTHER_DOMAINS.contains(&domain) => false,
            "com.microsoft" => !MICROSOFT.contains(&op),
            _ => true,
        };
        found = if is_foreign {
            Some(format!(
                "{} is not supported: it is from the domain {domain}, and the file does not define it; export the model without it, or choose a --feature-layer before it",
                which()
            ))
        } else if node
            .input
            .iter()
            .any(|input| texts.contains(input.as_str()))
        {
            Some(format!(
                "{} works on strings, which is not supported; choose a --feature-layer before it",
                which()
            ))
        } else if !known.contains_key(op) || op == "Scan" || WRONG.contains(&op) {
            Some(format!(
                "{} is not supported; {}",
                which(),
                advice(node, graph.operator_set())
            ))
        } else if op == "Constant" && !has_value(node) {
            Some(format!(
                "{} has no readable value (it may be a sparse tensor); export the model with dense constants",
                which()
            ))
        } else {
            None
        };
    });
    found
}

fn has_value(node: &pb::NodeProto) -> bool {
    let mut attributes = node.attribute.iter();
    attributes.any(|a| a.name.starts_with("value") && (a.name != "value" || a.t.is_some()))
}

fn advice(node: &pb::NodeProto, version: i64) -> String {
    match node.op_type.as_str() {
        "Loop" | "Scan" => {
            "its number of iterations depends on the image or the batch size; export the model with unrolled loops, or choose a --feature-layer before it"
                .to_owned()
        }
        op if op.contains("Sequence") || op.contains("Optional") => {
            "sequences of tensors are not supported; export the model without them, or choose a --feature-layer before it".to_owned()
        }
        "Upsample" => {
            "export the model with opset 11 or above, or choose a --feature-layer before it"
                .to_owned()
        }
        _ if version > NEWEST_KNOWN => format!(
            "the file uses opset {version}: export the model with opset {NEWEST_KNOWN} or below, or choose a --feature-layer before it"
        ),
        _ => "export the model without it, or choose a --feature-layer before it".to_owned(),
    }
}
