//! Images → features on disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::copies::check_copies;
use super::runner::{JobInfo, JobKind, write_config};
use super::uses;
use crate::backbone::{Backbone, BackboneParams};
use crate::counts::{count, grouped};
use crate::dataset::{Dataset, Layout};
use crate::error::{Error, Result, shown};
use crate::features::{FeatureStore, PipelineParams, remove_store};
use crate::progress::{Event, Phase, Progress};

/// Configuration of [`extract`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExtractConfig {
    /// Folder of images: class folders, or unlabelled.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// Folder of the feature store.
    pub out: PathBuf,
    /// Discard the contents of `out`.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// The backbone and its feature layer.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

impl ExtractConfig {
    /// Description of the job for progress displays.
    pub fn job_info(&self) -> JobInfo {
        JobInfo::new(JobKind::Extract, self).with_output(&self.out, &self.out)
    }

    /// The dataset.
    pub(super) fn source(&self) -> Source<'_> {
        Source {
            root: &self.dataset,
            labels: self.labels.as_deref(),
            layout: self.layout,
            allow_missing: self.pipeline.allow_missing,
        }
    }
}

/// Fills the feature store `config.out`, resuming an earlier run.
///
/// # Errors
/// Those of [`Dataset::open`], [`Backbone::open`] and [`crate::features::extract`].
pub fn extract(config: &ExtractConfig, progress: &Progress) -> Result<FeatureStore> {
    let dataset = open_dataset(&config.source(), progress)?;
    // Features need no training images; training on them does.
    for warning in dataset.check_training().unwrap_or_default() {
        progress.warn(warning);
    }
    let backbone = open_backbone(&config.backbone, progress)?;
    let store = run(config, &dataset, &backbone, progress)?;
    let splits: Vec<_> = store.index().iter().map(|row| row.split).collect();
    check_copies(&store, &splits, config.pipeline.strict, progress)?;
    Ok(store)
}

pub(super) fn run(
    config: &ExtractConfig,
    dataset: &Dataset,
    backbone: &Backbone,
    progress: &Progress,
) -> Result<FeatureStore> {
    config.pipeline.check()?;
    if config.force {
        remove_store(&config.out)?;
    }
    let store =
        crate::features::extract(backbone, dataset, &config.out, &config.pipeline, progress)?;
    write_config(&config.out.join("run.toml"), config)?;
    let skipped = store.meta().errors;
    if skipped > 0 {
        progress.warn(format!(
            "skipped {} of {}; see {}",
            grouped(skipped),
            count(skipped + store.meta().rows, "file"),
            shown(&config.out.join("errors.csv"))
        ));
    }
    warn_of_lost_classes(dataset, &store, progress);
    Ok(store)
}

/// Fills a store with `fill`; if `out` has a store with other settings and `replace` is set, replaces it.
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
                "replacing {path}: its features were made with another {what}"
            ));
            remove_store(out)?;
            fill()
        }
        filled => filled,
    }
}

/// A dataset as described in a configuration.
pub(super) struct Source<'a> {
    pub root: &'a Path,
    pub labels: Option<&'a Path>,
    pub layout: Layout,
    /// Whether parts of it may be missing.
    pub allow_missing: bool,
}

/// Opens a dataset, and reports its contents and problems.
///
/// # Errors
/// Those of [`Dataset::open`]; [`Error::Dataset`] if a part of it is missing that may not be.
pub(super) fn open_dataset(source: &Source, progress: &Progress) -> Result<Dataset> {
    progress.phase(Phase::Scan, None);
    let dataset = Dataset::open_as(source.root, source.labels, source.layout)?;
    for (path, reason) in &dataset.skipped {
        progress.warn(format!("{} {reason}", shown(path)));
    }
    for note in &dataset.notes {
        progress.info(note.clone());
    }
    for warning in &dataset.warnings {
        progress.warn(warning.clone());
    }
    if let (Some(problem), false) = (dataset.missing_part(), source.allow_missing) {
        return Err(Error::Dataset {
            path: source.labels.unwrap_or(source.root).to_owned(),
            problem: format!("{problem}; use --allow-missing to continue without them"),
        });
    }
    progress.emit(Event::Scanned {
        images: dataset.samples.len(),
        classes: class_counts(&dataset),
    });
    Ok(dataset)
}

/// [`open_dataset`] for training.
///
/// # Errors
/// Those of [`open_dataset`] and [`Dataset::check_training`].
pub(super) fn open_training_set(source: &Source, progress: &Progress) -> Result<Dataset> {
    let dataset = open_dataset(source, progress)?;
    for warning in dataset.check_training()? {
        progress.warn(warning);
    }
    Ok(dataset)
}

fn class_counts(dataset: &Dataset) -> Vec<(String, usize)> {
    let counts = dataset.class_counts();
    dataset.classes.iter().cloned().zip(counts).collect()
}

/// Warns of each class of the dataset without an image in the store.
fn warn_of_lost_classes(dataset: &Dataset, store: &FeatureStore, progress: &Progress) {
    let mut used = vec![false; dataset.classes.len()];
    for class in store.index().iter().filter_map(|row| row.class) {
        used[class] = true;
    }
    for (name, _) in dataset.classes.iter().zip(used).filter(|(_, used)| !used) {
        progress.warn(format!(
            "the class `{}` has no usable image: the model would have an output that never learns; fix its images, or remove the class",
            shown(Path::new(name))
        ));
    }
}

pub(super) fn open_backbone(params: &BackboneParams, progress: &Progress) -> Result<Backbone> {
    let backbone = Backbone::open(params)?;
    uses::tell_backbone(&backbone, progress);
    Ok(backbone)
}
