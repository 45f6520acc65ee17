//! Labels and probabilities for new images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::uses;
use crate::backbone::PictureSession;
use crate::dataset::Dataset;
use crate::error::{Error, PathRole, Result, shown};
use crate::features::{Outcome, PathList, PipelineParams, Stream, stream};
use crate::progress::{Event, Phase, Progress};
use crate::saved_model::SavedModel;

/// Configuration of [`predict`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PredictConfig {
    /// The saved model.
    pub model: PathBuf,
    /// Images, and folders of images.
    pub images: Vec<PathBuf>,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

/// The output of a network for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureResult {
    /// The image, as given or below the given folder.
    pub path: PathBuf,
    /// One value per output, or why there is none.
    pub values: std::result::Result<Vec<f32>, String>,
}

/// Runs the saved model over all images and passes each result to `sink`, in the given order; images of a folder are in
/// path order. Returns the model's class names and the number of unusable images.
///
/// # Errors
/// Those of [`SavedModel::open`] and [`Dataset::unlabelled`]; [`Error::Image`] if the parameters are strict;
/// [`Error::Cancelled`]; the first error of `sink`.
pub fn predict(
    config: &PredictConfig,
    progress: &Progress,
    mut sink: impl FnMut(&[String], PictureResult) -> Result<()>,
) -> Result<(Vec<String>, usize)> {
    let model = SavedModel::open(&config.model)?;
    progress.info_once(uses::of_saved(model.record()));
    let paths = list_pictures(&config.images, progress)?;
    let classes = model.classes().to_vec();
    let skipped = in_order(
        Path::new(""),
        &paths,
        &config.pipeline,
        Phase::Predict,
        progress,
        || model.session(),
        |place, values| {
            sink(
                &classes,
                PictureResult {
                    path: paths[place].clone(),
                    values,
                },
            )
        },
    )?;
    Ok((classes, skipped))
}

/// The given images and those below the given folders, in that order.
pub(super) fn list_pictures(given: &[PathBuf], progress: &Progress) -> Result<Vec<PathBuf>> {
    progress.phase(Phase::Scan, None);
    let mut paths = Vec::new();
    for path in given {
        if path.is_dir() {
            let dataset = Dataset::unlabelled(path)?;
            for warning in &dataset.warnings {
                progress.warn(format!("{}: {warning}", shown(path)));
            }
            for (name, reason) in &dataset.skipped {
                progress.warn(format!("{} {reason}", shown(&path.join(name))));
            }
            paths.extend(dataset.samples.iter().map(|s| path.join(&s.path)));
        } else if path.exists() {
            paths.push(path.clone());
        } else {
            return Err(Error::NotFound {
                what: PathRole::Image,
                path: path.clone(),
            });
        }
    }
    progress.emit(Event::Scanned {
        images: paths.len(),
        classes: Vec::new(),
    });
    Ok(paths)
}

/// Streams images through a network and passes the values to `sink` in input order. Early results wait; there are never
/// more of them than images in progress. Returns the number of unusable images.
pub(super) fn in_order(
    root: &Path,
    paths: &[PathBuf],
    params: &PipelineParams,
    phase: Phase,
    progress: &Progress,
    open_session: impl Fn() -> Result<PictureSession> + Sync,
    mut sink: impl FnMut(usize, std::result::Result<Vec<f32>, String>) -> Result<()>,
) -> Result<usize> {
    let total = paths.len() as u64;
    progress.phase(phase, Some(total));
    let borrowed: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let mut early = BTreeMap::new();
    let (mut next, mut done, mut skipped) = (0, 0, 0);
    stream(
        &Stream {
            root,
            pictures: &PathList::new(&borrowed),
            params,
            progress,
            view: None,
            version: None,
        },
        open_session,
        |outcome| {
            done += 1;
            skipped += usize::from(outcome.values.is_err());
            let place = outcome.place;
            early.insert(place, tell(outcome, &paths[place], (done, total), progress));
            while let Some(values) = early.remove(&next) {
                sink(next, values)?;
                next += 1;
            }
            Ok(())
        },
    )?;
    Ok(skipped)
}

/// Emits the outcome for an image, and returns its values.
fn tell(
    outcome: Outcome,
    path: &Path,
    (done, total): (u64, u64),
    progress: &Progress,
) -> std::result::Result<Vec<f32>, String> {
    let path = path.to_owned();
    match outcome.values {
        Ok((_, values)) => {
            progress.emit(Event::ImageDone {
                worker: outcome.worker,
                path,
                done,
                total,
                decode_us: outcome.decode.as_micros() as u64,
                infer_us: outcome.infer.as_micros() as u64,
                write_us: 0,
            });
            Ok(values)
        }
        Err(reason) => {
            progress.emit(Event::ImageSkipped {
                path,
                reason: reason.clone(),
                done,
                total,
            });
            Err(reason)
        }
    }
}
