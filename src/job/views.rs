//! Augmented views of the pictures, extracted once and kept beside the features.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::{FeatureStore, PipelineParams, View, extract_view};
use crate::pixels::Augment;
use crate::progress::Progress;

/// How training pictures are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct AugmentParams {
    /// What views of a picture may differ in; none by default.
    pub augment: Augment,
    /// Augmented views of each training picture that are extracted and kept; at each epoch one of them, or
    /// the picture itself, is drawn. At least 1.
    pub views: usize,
}

impl Default for AugmentParams {
    fn default() -> Self {
        AugmentParams {
            augment: Augment::default(),
            views: 8,
        }
    }
}

/// What views are made of.
pub(super) struct ViewSource<'a> {
    pub dataset: &'a Dataset,
    pub backbone: &'a Backbone,
    pub pipeline: &'a PipelineParams,
    pub params: &'a AugmentParams,
    pub seed: u64,
    /// Where the stores of the views are kept.
    pub folder: &'a Path,
}

/// Extracts the views of the given rows of `store`, going on with what is there, and lets training draw from
/// them. Does nothing if no augmentation is asked for.
pub(super) fn attach_views(
    store: &mut FeatureStore,
    rows: &[usize],
    source: &ViewSource,
    progress: &Progress,
) -> Result<()> {
    let params = source.params;
    if params.augment == Augment::default() {
        return Ok(());
    }
    if params.views == 0 {
        return Err(Error::Parameter {
            name: "--views",
            value: "0".into(),
            problem: "must be at least 1; --augment none leaves pictures as they are".into(),
        });
    }
    let mut dataset = source.dataset.clone();
    let wanted: std::collections::HashSet<&Path> = rows
        .iter()
        .map(|&row| store.index()[row].path.as_path())
        .collect();
    dataset
        .samples
        .retain(|sample| wanted.contains(sample.path.as_path()));
    let mut views = Vec::with_capacity(params.views);
    for number in 1..=params.views {
        progress.info(format!("view {number} of {}", params.views));
        let view = View {
            augment: params.augment.clone(),
            seed: source.seed,
            number: number as u32,
        };
        let out = source.folder.join(view.family()).join(number.to_string());
        views.push(extract_view(
            source.backbone,
            &dataset,
            &out,
            source.pipeline,
            &view,
            progress,
        )?);
    }
    store.attach_views(views)
}
