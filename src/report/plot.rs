//! stub
use crate::{backbone::Prediction, error::Result, pixels::Picture};
use std::path::Path;
/// .
pub fn show(_: &Picture, _: u16) -> Result<()> {
    Ok(())
}
/// .
pub fn save(_: &Picture, _: &[Prediction], _: &Path) -> Result<()> {
    Ok(())
}
