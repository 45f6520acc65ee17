//! Stand-ins for a build without plots: every call is an error.

use std::path::Path;

use crate::backbone::Prediction;
use crate::error::{Error, Result};
use crate::pixels::Picture;

fn absent(flag: &'static str) -> Error {
    Error::Parameter {
        name: flag,
        value: "true".into(),
        problem: "this program was built without plots; build it with the feature `plot`".into(),
    }
}

/// Says that there are no plots.
///
/// # Errors
/// Always [`Error::Parameter`].
pub fn print(_picture: &Picture) -> Result<()> {
    Err(absent("--plot"))
}

/// Says that there are no plots.
///
/// # Errors
/// Always [`Error::Parameter`].
pub fn save(_picture: &Picture, _predictions: &[Prediction], _path: &Path) -> Result<()> {
    Err(absent("--save-plot"))
}
