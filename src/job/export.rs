//! Exports the head alone, for a device that already has the backbone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::train::check_output;
use crate::disk::write_atomic;
use crate::error::Result;
use crate::progress::{Event, Progress};
use crate::saved_model::{DetachedHead, SavedModel};

/// Configuration of [`export_head`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportConfig {
    /// The saved model.
    pub model: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
}

/// Writes the head of a saved model, with the SHA-256 of its backbone, to a separate file. Returns its size in bytes.
///
/// # Errors
/// [`crate::Error::OutputExists`]; those of [`SavedModel::open`], [`DetachedHead::of`] and writing.
pub fn export_head(config: &ExportConfig, progress: &Progress) -> Result<u64> {
    check_output(&config.output, config.force)?;
    let model = SavedModel::open(&config.model)?;
    let bytes = DetachedHead::of(&model)?.to_bytes();
    write_atomic(&config.output, &bytes)?;
    progress.emit(Event::Saved {
        path: config.output.clone(),
        bytes: bytes.len() as u64,
    });
    Ok(bytes.len() as u64)
}
