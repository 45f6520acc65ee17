//! The layers of the backbone, and the feature layer. Pure.

use std::sync::Arc;

use super::cursor::Cursor;
use crate::backbone::BackboneParams;
use crate::job::BaseLayers;

/// The layers of the backbone for the next run.
#[derive(Default)]
pub struct Model {
    /// The backbone.
    pub params: BackboneParams,
    /// Its layers, or why they cannot be listed; none while the backbone is loading.
    pub layers: Option<Result<Arc<BaseLayers>, String>>,
    /// The line that is selected.
    pub cursor: Cursor,
}

impl Model {
    /// Stores the layers of `params`; for a new backbone, the cursor moves to the feature layer.
    pub fn answer(&mut self, params: BackboneParams, layers: Result<Arc<BaseLayers>, String>) {
        let is_other = self.params.model != params.model || self.layers.is_none();
        if let (true, Ok(layers)) = (is_other, &layers) {
            self.cursor.at = layers.cuts.first().copied().unwrap_or(0);
        }
        self.params = params;
        self.layers = Some(layers);
    }

    /// The layers, if they are loaded.
    pub fn known(&self) -> Option<&BaseLayers> {
        match &self.layers {
            Some(Ok(layers)) => Some(layers),
            _ => None,
        }
    }

    /// The tensor of the selected layer, if it can be the feature layer.
    pub fn selected_feature_layer(&self) -> Option<String> {
        let layers = self.known()?;
        (*layers.feature_len.get(self.cursor.at)?)?;
        Some(layers.summary.layers.get(self.cursor.at)?.tensor.clone())
    }
}
