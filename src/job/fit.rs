//! The complete pipeline: images → features → head → saved and verified model.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::extract::{self, ExtractConfig};
use super::recipe::Recipe;
use super::runner::{JobInfo, JobKind};
use super::train::{self, SplitParams, TrainConfig, TrainReport, check_output};
use super::views::{AugmentParams, ViewSource, attach_views};
use crate::backbone::{Backbone, BackboneParams};
use crate::dataset::Layout;
use crate::error::{Error, Result};
use crate::features::{FeatureStore, PipelineParams};
use crate::progress::Progress;
use crate::train::{CrossValidation, HeadParams};

/// Configuration of [`fit`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FitConfig {
    /// Folder of images: class folders.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// The saved model, an ONNX file.
    pub output: PathBuf,
    /// Folder of the feature store; by default beside the output, ending `.features`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Number of cross-validation folds; 0 for none.
    #[serde(default)]
    pub folds: usize,
    /// The recipe, a preset for settings not given by the user; they are already in the other fields.
    #[serde(default)]
    pub recipe: Recipe,
    /// How long the recipe `best` tries recipes.
    #[serde(default)]
    pub budget: Budget,
    /// The backbone and its feature layer.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
    /// How the images are split.
    #[serde(flatten)]
    pub split: SplitParams,
    /// The head and its training.
    #[serde(flatten)]
    pub head: HeadParams,
    /// How training images are augmented.
    #[serde(flatten)]
    pub augment: AugmentParams,
}

impl FitConfig {
    /// Description of the job for progress displays.
    pub fn job_info(&self) -> JobInfo {
        JobInfo::new(JobKind::Fit, self).with_output(&self.output, &self.store())
    }

    /// Folder of the feature store.
    pub fn store(&self) -> PathBuf {
        self.features
            .clone()
            .unwrap_or_else(|| self.output.with_extension("features"))
    }
}

/// Extracts, trains, evaluates, saves, reloads and verifies. Resumes an earlier run.
///
/// # Errors
/// Those of [`super::extract()`] and [`super::train()`].
pub fn fit(config: &FitConfig, progress: &Progress) -> Result<TrainReport> {
    run(config, None, progress)
}

/// [`fit`] with the result of its cross-validation, if known.
pub(super) fn run(
    config: &FitConfig,
    known: Option<CrossValidation>,
    progress: &Progress,
) -> Result<TrainReport> {
    check_output(&config.output, config.force)?;
    config.head.clone().check()?;
    let (store, backbone) = extracted(config, progress)?;
    let train_config = train_config(config);
    let cross_validation = match known {
        Some(known) => Some(known),
        None => train::cross_validate(&train_config, &store, progress)?,
    };
    let report = train::run(&train_config, config, &store, &backbone, progress)?;
    Ok(TrainReport {
        cross_validation,
        ..report
    })
}

/// The cross-validation of [`fit`] alone.
pub(super) fn cross_validated(config: &FitConfig, progress: &Progress) -> Result<CrossValidation> {
    config.head.clone().check()?;
    let (store, _) = extracted(config, progress)?;
    let found = train::cross_validate(&train_config(config), &store, progress)?;
    found.ok_or_else(|| Error::Parameter {
        name: "--folds",
        value: config.folds.to_string(),
        problem: "must be at least 2".into(),
    })
}

/// The features of all images and their augmented views, and the backbone that computes them.
fn extracted(config: &FitConfig, progress: &Progress) -> Result<(FeatureStore, Backbone)> {
    let extract_config = ExtractConfig {
        dataset: config.dataset.clone(),
        labels: config.labels.clone(),
        layout: config.layout,
        out: config.store(),
        force: false,
        backbone: config.backbone.clone(),
        pipeline: config.pipeline.clone(),
    };
    let dataset = extract::open_training_set(&extract_config.source(), progress)?;
    let backbone = extract::open_backbone(&config.backbone, progress)?;
    let mut store = extract::or_replace(&config.store(), config.force, progress, || {
        extract::run(&extract_config, &dataset, &backbone, progress)
    })?;
    let source = ViewSource {
        dataset: &dataset,
        backbone: &backbone,
        pipeline: &config.pipeline,
        replace: config.force,
        params: &config.augment,
        seed: config.head.seed,
        epochs: config.head.epochs,
        folder: &config.store().with_extension("views"),
    };
    train::check_divided(
        &store,
        &config.split,
        config.head.seed,
        config.pipeline.strict,
        progress,
    )?;
    let rows = train::rows_to_train_on(&store, &config.split, config.head.seed, config.folds)?;
    attach_views(&mut store, &rows, &source, progress)?;
    Ok((store, backbone))
}

fn train_config(config: &FitConfig) -> TrainConfig {
    TrainConfig {
        features: config.store(),
        output: config.output.clone(),
        force: config.force,
        folds: config.folds,
        cut: None,
        model: Some(config.backbone.model.clone()),
        strict: config.pipeline.strict,
        split: config.split.clone(),
        head: config.head.clone(),
    }
}
