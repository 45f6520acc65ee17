//! The base's layers, and where it is cut. Pure.

use std::sync::Arc;

use super::cursor::Cursor;
use crate::backbone::BackboneParams;
use crate::job::BaseLayers;

/// The layers of the base of the next run.
#[derive(Default)]
pub struct Model {
    /// The base that they are of.
    pub params: BackboneParams,
    /// The layers, or why they cannot be listed; none while they are looked for.
    pub layers: Option<Result<Arc<BaseLayers>, String>>,
    /// The line that is selected.
    pub cursor: Cursor,
}

impl Model {
    /// Takes the layers of `params`; the cursor goes to the cut if the base is another one.
    pub fn answer(&mut self, params: BackboneParams, layers: Result<Arc<BaseLayers>, String>) {
        let is_other = self.params.model != params.model || self.layers.is_none();
        if let (true, Ok(layers)) = (is_other, &layers) {
            self.cursor.at = layers.cuts.first().copied().unwrap_or(0);
        }
        self.params = params;
        self.layers = Some(layers);
    }

    /// The layers, if they are known.
    pub fn known(&self) -> Option<&BaseLayers> {
        match &self.layers {
            Some(Ok(layers)) => Some(layers),
            _ => None,
        }
    }

    /// The tensor of the selected layer, if the base can be cut there.
    pub fn selected_cut(&self) -> Option<String> {
        let layers = self.known()?;
        (*layers.feature_len.get(self.cursor.at)?)?;
        Some(layers.summary.layers.get(self.cursor.at)?.tensor.clone())
    }
}
