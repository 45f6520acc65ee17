//! Verifies that a saved model still gives the same results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::uses;
use crate::error::Result;
use crate::progress::Progress;
use crate::saved_model::{self, Verification};

/// Configuration of [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VerifyConfig {
    /// The saved model.
    pub model: PathBuf,
    /// Folder of the reference images; by default the one recorded in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
}

/// Reloads `config.model` and compares its outputs with those recorded when it was saved. A difference is not an error
/// here: see [`Verification::require_same`].
///
/// # Errors
/// Those of [`saved_model::verify`].
pub fn verify(config: &VerifyConfig, progress: &Progress) -> Result<Verification> {
    progress.info_once(uses::of_saved(&saved_model::record_in(&config.model)?));
    saved_model::verify(&config.model, config.dataset.as_deref(), progress)
}
