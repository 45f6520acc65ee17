//! A saved model still gives the same results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::saved_model::{self, Verification};

/// Configuration of [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VerifyConfig {
    /// The saved model.
    pub model: PathBuf,
    /// Where the reference pictures are; by default where the model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
}

/// Reloads `config.model` and compares it with what it noted when it was saved.
///
/// # Errors
/// [`Error::NotSame`] if anything differs; those of [`saved_model::verify`].
pub fn verify(config: &VerifyConfig, progress: &Progress) -> Result<Verification> {
    let verification = saved_model::verify(&config.model, config.dataset.as_deref(), progress)?;
    if verification.same_results {
        return Ok(verification);
    }
    Err(Error::NotSame {
        path: config.model.clone(),
        problem: format!("these differ: {}", verification.failed.join(", ")),
    })
}
