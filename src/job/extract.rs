//! Images → features on disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::envelope::{JobCard, write_config};
use super::uses;
use crate::backbone::{Backbone, BackboneParams};
use crate::dataset::Dataset;
use crate::error::{Error, Result, shown};
use crate::features::{FeatureStore, PipelineParams, remove_store};
use crate::progress::{Event, Phase, Progress};

/// Configuration of [`extract`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExtractConfig {
    /// Folder of pictures: class folders, or unlabelled.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, in place of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Folder of the feature store.
    pub out: PathBuf,
    /// Throw away what is in `out`.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Which base, and where it is cut.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// How the pipeline runs.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

impl ExtractConfig {
    /// What the job is, for those who watch it.
    pub fn card(&self) -> JobCard {
        JobCard::new("extract", self).with_output(&self.out, &self.out)
    }
}

/// Fills the feature store `config.out`, going on with what is there.
///
/// # Errors
/// Those of [`Dataset::open`], [`Backbone::open`] and [`crate::features::extract`].
pub fn extract(config: &ExtractConfig, progress: &Progress) -> Result<FeatureStore> {
    let dataset = open_dataset(config, progress)?;
    let backbone = open_backbone(&config.backbone, progress)?;
    run(config, &dataset, &backbone, progress)
}

pub(super) fn run(
    config: &ExtractConfig,
    dataset: &Dataset,
    backbone: &Backbone,
    progress: &Progress,
) -> Result<FeatureStore> {
    if config.force {
        remove_store(&config.out)?;
    }
    let store =
        crate::features::extract(backbone, dataset, &config.out, &config.pipeline, progress)?;
    write_config(&config.out.join("run.toml"), config)?;
    let skipped = store.meta().errors;
    if skipped > 0 {
        progress.warn(format!(
            "{skipped} of {} files could not be used; they are listed in {}",
            skipped + store.meta().rows,
            shown(&config.out.join("errors.csv"))
        ));
    }
    Ok(store)
}

/// Fills a store by `fill`; if there is one of other settings in `out` and `replace` is asked for, in its place.
pub(super) fn or_replace(
    out: &Path,
    replace: bool,
    progress: &Progress,
    fill: impl Fn() -> Result<FeatureStore>,
) -> Result<FeatureStore> {
    match fill() {
        Err(Error::OtherFeatures { what, .. }) if replace => {
            let path = shown(out);
            progress.info(format!(
                "{path} is replaced: its features are of another {what}"
            ));
            remove_store(out)?;
            fill()
        }
        filled => filled,
    }
}

pub(super) fn open_dataset(config: &ExtractConfig, progress: &Progress) -> Result<Dataset> {
    config.pipeline.check()?;
    progress.phase(Phase::Scan, None);
    let dataset = Dataset::open(&config.dataset, config.labels.as_deref())?;
    for (path, reason) in &dataset.skipped {
        progress.warn(format!("{} {reason}", shown(path)));
    }
    progress.emit(Event::Scanned {
        images: dataset.samples.len(),
        classes: class_counts(&dataset),
    });
    Ok(dataset)
}

fn class_counts(dataset: &Dataset) -> Vec<(String, usize)> {
    let mut counts = vec![0; dataset.classes.len()];
    for class in dataset.samples.iter().filter_map(|s| s.class) {
        counts[class] += 1;
    }
    dataset.classes.iter().cloned().zip(counts).collect()
}

pub(super) fn open_backbone(params: &BackboneParams, progress: &Progress) -> Result<Backbone> {
    let backbone = Backbone::open(params)?;
    uses::tell_backbone(&backbone, progress);
    Ok(backbone)
}
