//! Imports a backbone's file, in any export form, as a graph that the rest of the program supports: one list of standard
//! ONNX operators in float32, with all weights inside. Saved models, written by this program, need no import.
//!
//! ```text
//! bytes ─► external ─► functions ─► floats ─► branches ─► attention ─► qoperator ─► OnnxGraph
//!          weights in  inlined      float32   If with a    as products  with floats
//!          other files                        known side   and softmax  between
//! ```

mod attention;
mod batch;
mod branches;
mod build;
mod control;
mod external;
mod floats;
mod functions;
mod loops;
mod qoperator;
mod unsupported;

use std::path::Path;

use prost::Message;
use tract_onnx::pb;

pub(super) use self::batch::free_batch;
pub(super) use self::control::settle;
use self::functions::Function;
pub(super) use self::unsupported::{NEWEST_KNOWN, unsupported};
use super::onnx::walk::each_graph_mut;
use super::onnx::{OnnxGraph, decode};
use crate::error::{Error, Result};

/// The parts of an ONNX file that tract's own description of the format leaves out.
#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphExtension>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GraphExtension {
    #[prost(message, repeated, tag = "15")]
    sparse: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<pb::TensorProto>,
}

/// Writes a constant −1 in the shape of an `Expand`, with which exporters mean that a length stays, as the 1 that ONNX
/// has for it.
fn mend_expand(graph: &mut OnnxGraph) {
    let nodes = graph.nodes();
    let expands = nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| n.op_type == "Expand");
    let wrong: Vec<(usize, Vec<i64>)> = expands
        .filter_map(|(place, node)| Some((place, graph.integers(node.inputs.get(1)?)?)))
        .filter(|(_, shape)| shape.contains(&-1))
        .collect();
    for (place, shape) in wrong {
        let name = graph.fresh_name("expanded_shape");
        let shape: Vec<i64> = shape.iter().map(|&n| if n == -1 { 1 } else { n }).collect();
        let proto = graph.graph_mut();
        proto.initializer.push(pb::TensorProto {
            name: name.clone(),
            ..build::integers(&[shape.len() as i64], &shape)
        });
        proto.node[place].input[1] = name;
    }
}

/// Removes trailing omitted inputs of nodes, at any depth: they have no meaning.
fn trim_inputs(graph: &mut pb::GraphProto) {
    each_graph_mut(graph, &mut |graph| {
        for node in &mut graph.node {
            while node.input.pop_if(|name| name.is_empty()).is_some() {}
        }
    });
}

/// Reads the bytes of a backbone's file, whose weights may lie in other files of `folder`; `name` stands for it in
/// error messages. Also returns the bytes as one file, if they differ from `bytes`.
///
/// # Errors
/// [`Error::Model`] if the bytes are not a valid ONNX file, if a file of weights is missing, too short or
/// elsewhere, or if the file's functions cannot be inlined.
pub fn read_base(bytes: &[u8], folder: &Path, name: &str) -> Result<(OnnxGraph, Option<Vec<u8>>)> {
    let fail = |problem: String| Error::Model {
        model: name.to_owned(),
        problem,
    };
    let mut proto = decode(bytes, name)?;
    let mut extension = Extension::decode(bytes)
        .map_err(|_| fail("not an ONNX file, or a damaged one".to_owned()))?;
    if let Some(tensor) = extension.graph.iter().flat_map(|g| &g.sparse).next() {
        let tensor = tensor.values.as_ref().map_or("", |t| t.name.as_str());
        return Err(fail(format!(
            "its weight `{tensor}` is a sparse tensor, which is not supported; export the model with dense weights"
        )));
    }
    let is_split = external::inline(&mut proto, &mut extension.functions, folder, name)?;
    functions::inline(&mut proto, extension.functions).map_err(fail)?;
    let whole = is_split.then(|| proto.encode_to_vec());
    let mut graph = OnnxGraph::from_proto(proto, name)?;
    let version = graph.operator_set();
    let proto = graph.graph_mut();
    trim_inputs(proto);
    floats::to_float32(proto);
    branches::fold(proto);
    attention::decompose(proto).map_err(fail)?;
    qoperator::rewrite(proto, version);
    mend_expand(&mut graph);
    Ok((graph.in_order()?, whole))
}
