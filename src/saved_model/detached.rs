//! A detached head: a few kB that turn a backbone on another machine into a saved model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::compose::LEAST;
use super::{Record, SavedModel, read, read_record};
use crate::backbone::{Backbone, OnnxGraph, OnnxNode, flattened, hex_sha256};
use crate::error::{Error, Result};
use crate::foreign::data_fault;

/// Key of the metadata of a head's file.
const HEAD_KEY: &str = "tl.head";

/// What a head's file says of the model that it was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Origin {
    /// SHA-256 of what the backbone computes from image to features, its weights included.
    base_sha256: String,
    /// SHA-256 of the whole model's file.
    model_sha256: String,
}

/// The head of a saved model: an ONNX graph from features `[N, D]` to probabilities, and the whole record.
pub struct DetachedHead {
    graph: OnnxGraph,
    record: Record,
    origin: Origin,
}

impl DetachedHead {
    /// Extracts the head of `model`.
    ///
    /// # Errors
    /// [`Error::Model`] if its end is not a dense head in float32, as in a quantised model.
    pub fn of(model: &SavedModel) -> Result<DetachedHead> {
        let (features, base) = split(&model.graph, &model.record)?;
        let dims = [model.record.feature_shape.iter().product()];
        let origin = Origin {
            base_sha256: base.computation_sha256(),
            model_sha256: hex_sha256(&model.graph.to_bytes()),
        };
        let mut graph = model.graph.behind(&features, &dims);
        let text = serde_json::to_string(&origin).map_err(|e| graph.fail(data_fault(&e)))?;
        graph.set_metadata(HEAD_KEY, text);
        Ok(DetachedHead {
            graph,
            record: model.record.clone(),
            origin,
        })
    }

    /// Reads the file `path`; `None` if it is a whole model.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Model`].
    pub fn open(path: &Path) -> Result<Option<DetachedHead>> {
        let graph = OnnxGraph::parse(&read(path)?, &path.display().to_string())?;
        let Some(text) = graph.metadata(HEAD_KEY) else {
            return Ok(None);
        };
        let origin = serde_json::from_str(text).map_err(|e| {
            graph.fail(format!(
                "its description of the backbone is damaged: {}",
                data_fault(&e)
            ))
        })?;
        let record = read_record(&graph)?;
        Ok(Some(DetachedHead {
            graph,
            record,
            origin,
        }))
    }

    /// The record of the model that it was taken from.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// SHA-256 of the file of the model that it was taken from.
    pub fn model_sha256(&self) -> &str {
        &self.origin.model_sha256
    }

    /// The bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.graph.to_bytes()
    }

    /// Replaces the head of `model` with it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it belongs to another backbone than that of `model`.
    pub fn on_model(&self, model: &SavedModel) -> Result<SavedModel> {
        let (_, base) = split(&model.graph, &model.record)?;
        self.on_graph(base, model.graph.name())
    }

    /// Appends it to a backbone.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it belongs to another backbone, or to another state of this one.
    pub fn on_base(&self, base: &Backbone) -> Result<SavedModel> {
        let (graph, output) = base.graph();
        let (mut graph, mut output) = (graph.clone(), output.to_owned());
        if base.feature_shape().len() > 1 {
            output = flattened(&mut graph, &output);
        }
        graph.keep(&[output])?;
        self.on_graph(graph, base.source())
    }

    fn on_graph(&self, mut base: OnnxGraph, name: &str) -> Result<SavedModel> {
        let found = base.computation_sha256();
        if found != self.origin.base_sha256 {
            let short = |sha256: &str| sha256.get(..16).unwrap_or(sha256).to_owned();
            return Err(Error::Mismatch {
                what: format!("backbone of the head in {name}"),
                expected: format!(
                    "{} (SHA-256 {}…)",
                    self.record.backbone.model,
                    short(&self.origin.base_sha256)
                ),
                found: format!("SHA-256 {}…", short(&found)),
                hint: "install the complete model once; a head only works with the backbone it was trained on"
                    .into(),
            });
        }
        base.append(&self.graph);
        base.remove_metadata(HEAD_KEY);
        SavedModel::parse(&base.to_bytes(), Path::new(name))
    }
}

/// The tensor in which features meet the head, and the graph up to it.
fn split(graph: &OnnxGraph, record: &Record) -> Result<(String, OnnxGraph)> {
    let nodes = graph.nodes();
    let fail = || {
        graph.fail("it does not end in a float32 dense head, so its head cannot be exported; copy the whole file")
    };
    let maker = |tensor: &str, kind: &str| -> Result<&OnnxNode> {
        let found = nodes.iter().find(|n| n.outputs.iter().any(|o| o == tensor));
        found.filter(|n| n.op_type == kind).ok_or_else(fail)
    };
    let input = |node: &OnnxNode| node.inputs.first().cloned().ok_or_else(fail);
    let output = graph.outputs().first().cloned().ok_or_else(fail)?;
    let mut tensor = input(maker(&output, "Softmax")?)?;
    for layer in (0..=record.training.head.hidden.len()).rev() {
        tensor = input(maker(&tensor, "Gemm")?)?;
        if layer > 0 {
            tensor = input(maker(&tensor, "Relu")?)?;
        }
    }
    if record.standardized {
        for kind in ["Mul", "Sub"] {
            tensor = input(maker(&tensor, kind)?)?;
            let marked = |node: &&OnnxNode| node.inputs.iter().any(|i| i.ends_with(LEAST));
            if let Some(before) = maker(&tensor, "Max").ok().filter(marked) {
                tensor = input(before)?;
            }
        }
    }
    let mut base = graph.clone();
    base.keep(std::slice::from_ref(&tensor))?;
    Ok((tensor, base))
}
