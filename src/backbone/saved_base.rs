//! Uses a saved model as a backbone, from its record. No file access.

use std::ffi::OsStr;
use std::path::Path;

use super::card::{ModelCard, Pool};
use super::onnx::OnnxGraph;
use super::tail::{Tail, find_tail};
use super::zoo::FoundModel;
use super::{BackboneId, LARGEST_INPUT, input_shape};
use crate::error::Result;
use crate::foreign::data_fault;

/// Key of the metadata in which a saved model has its record, as JSON.
pub(crate) const RECORD_KEY: &str = "tl.record";

/// Version of the record that this program writes and reads; a file of another version is refused.
pub const RECORD_VERSION: u32 = 1;

/// The record in `graph`; `None` if it is not a saved model.
///
/// # Errors
/// [`crate::Error::Model`] if it is no JSON, or of another version.
pub(crate) fn record_json(graph: &OnnxGraph) -> Result<Option<serde_json::Value>> {
    let Some(text) = graph.metadata(RECORD_KEY) else {
        return Ok(None);
    };
    let record: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| graph.fail(format!("its record is damaged: {}", data_fault(&e))))?;
    let version = record
        .get("record-version")
        .and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(RECORD_VERSION)) {
        return Err(graph.fail(format!(
            "its record has version {}, this program reads version {RECORD_VERSION}; use the program version that \
             saved it",
            version.map_or("unknown".to_owned(), |v| v.to_string())
        )));
    }
    Ok(Some(record))
}

/// The backbone in the saved model `path`, whose file has the SHA-256 `sha256`; `None` if `graph` is not a saved model.
///
/// It is the backbone that the model was trained on, by its name and SHA-256, unless its weights were changed
/// since, by fine-tuning or quantising.
///
/// # Errors
/// [`crate::Error::Model`] if the record cannot be used.
pub(super) fn base_inside(
    graph: &OnnxGraph,
    path: &Path,
    sha256: &str,
) -> Result<Option<FoundModel>> {
    let Some(record) = record_json(graph)? else {
        return Ok(None);
    };
    let damaged = |problem: String| graph.fail(format!("its record is damaged: {problem}"));
    let id: BackboneId =
        serde_json::from_value(record["backbone"].clone()).map_err(|e| damaged(data_fault(&e)))?;
    id.preprocess
        .validate()
        .map_err(|e| damaged(e.to_string()))?;
    if id.input_size.least() < 1 || id.input_size.most() > LARGEST_INPUT {
        let sides = id.input_size.sides();
        return Err(damaged(format!("its input has {sides} pixels")));
    }
    let is_changed =
        record["training"]["finetune"].is_object() || record["quantization"].is_object();
    let shape = input_shape(graph, id.preprocess.layout, id.input_size);
    let found = find_tail(graph, shape.ok())?;
    let nodes = graph.nodes();
    let is_there = |tensor: &String| nodes.iter().any(|n| n.outputs.contains(tensor));
    let (features, pool) = match id.cut.as_slice() {
        [cut] if is_there(cut) => (cut.clone(), id.pool),
        // Of several, all side by side, which is what the head reads.
        _ => (found.features, Pool::Avg),
    };
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (name, sha256) = match is_changed {
        true => (text(path.file_stem()), sha256.to_owned()),
        false => (id.model, id.sha256),
    };
    Ok(Some(FoundModel {
        card: ModelCard {
            title: name.clone(),
            name,
            file: text(path.file_name()),
            sha256: String::new(),
            bytes: 0,
            urls: Vec::new(),
            hub: None,
            revision: None,
            source: String::new(),
            license: String::new(),
            checked: true,
            parameters: 0,
            features: 0,
            top1: None,
            gmacs: None,
            good_for: None,
            input_size: id.input_size,
            min_size: 1,
            cut: None,
            pool,
            prefix_tokens: id.prefix_tokens,
            logits: None,
            labels: None,
            preprocess: id.preprocess,
        },
        tail: Tail {
            features,
            logits: found.logits,
            ..Tail::default()
        },
        unpooled: None,
        graph: graph.clone(),
        sha256,
        has_card: true,
        size_is_guess: false,
        notes: Vec::new(),
        warnings: Vec::new(),
    }))
}
