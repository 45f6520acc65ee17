//! Scores a saved model on labelled images.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::extract::{Source, open_dataset};
use super::predict::in_order;
use super::uses;
use crate::backbone::top_k;
use crate::dataset::{Dataset, Layout, Loss, Split, check_losses, name_key};
use crate::error::{Error, Result, shown};
use crate::features::PipelineParams;
use crate::progress::{Event, Phase, Progress};
use crate::saved_model::SavedModel;
use crate::train::{ConfusionMatrix, first_of};

/// Configuration of [`evaluate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EvaluateConfig {
    /// The saved model.
    pub model: PathBuf,
    /// Folder of images: class folders with the names of the model's classes.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// Use only the images of this split, if the dataset has splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Class names, in the order of the matrix.
    pub classes: Vec<String>,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// The confusion matrix.
    pub confusion: ConfusionMatrix,
    /// Number of unusable images.
    pub skipped: usize,
}

/// Runs the saved model over the dataset and compares its predictions with the labels.
///
/// # Errors
/// [`Error::Mismatch`] if the dataset has a class that the model does not have; [`Error::Dataset`] if no image
/// can be used; those of [`SavedModel::open`], [`Dataset::open`] and [`check_losses`].
pub fn evaluate(config: &EvaluateConfig, progress: &Progress) -> Result<Evaluation> {
    let model = SavedModel::open(&config.model)?;
    progress.info_once(uses::of_saved(model.record()));
    let source = Source {
        root: &config.dataset,
        labels: config.labels.as_deref(),
        layout: config.layout,
        allow_missing: config.pipeline.allow_missing,
    };
    let dataset = open_dataset(&source, progress)?;
    let class_of = match_classes(&config.dataset, &dataset, model.classes())?;
    let samples: Vec<_> = dataset
        .samples
        .iter()
        .filter(|s| config.split.is_none() || s.split == config.split)
        .filter_map(|s| Some((s.path.clone(), class_of[s.class?])))
        .collect();
    if samples.is_empty() {
        return Err(Error::Dataset {
            path: config.dataset.clone(),
            problem: match config.split {
                Some(split) => format!(
                    "it has no images for {}: there is no such folder",
                    split.name()
                ),
                None => {
                    "it has no labelled images; evaluate needs one folder per class, or --labels"
                        .into()
                }
            },
        });
    }
    let paths: Vec<PathBuf> = samples.iter().map(|(path, _)| path.clone()).collect();
    let split = config.split.map_or("all", Split::name);
    let mut confusion = ConfusionMatrix::new(model.classes().len());
    let mut loss = 0.0_f64;
    let mut lost = Vec::new();
    let skipped = in_order(
        &dataset.root,
        &paths,
        &config.pipeline,
        Phase::Predict,
        progress,
        || model.session(),
        |place, values| {
            let (path, truth) = &samples[place];
            match values {
                Ok(probabilities) => {
                    progress.emit(picture_scored(split, path, *truth, &probabilities));
                    confusion.record(*truth, first_of(ndarray::aview1(&probabilities)));
                    loss += f64::from(surprise(probabilities[*truth]));
                }
                Err(reason) => lost.push(Loss {
                    path: path.clone(),
                    class: Some(*truth),
                    reason,
                }),
            }
            Ok(())
        },
    )?;
    check_scored(config, &dataset.root, model.classes(), &confusion, &lost)?;
    let images = confusion.total();
    let evaluation = Evaluation {
        classes: model.classes().to_vec(),
        loss: (loss / images.max(1) as f64) as f32,
        confusion,
        skipped,
    };
    progress.emit(Event::Evaluated {
        split: split.to_owned(),
        images: images as usize,
        accuracy: evaluation.confusion.accuracy() as f32,
        loss: evaluation.loss,
        classes: evaluation.classes.clone(),
        confusion: evaluation.confusion.to_rows(),
    });
    Ok(evaluation)
}

/// Refuses a score over no images, or if too many images were lost.
fn check_scored(
    config: &EvaluateConfig,
    root: &Path,
    classes: &[String],
    confusion: &ConfusionMatrix,
    lost: &[Loss],
) -> Result<()> {
    let used: Vec<usize> = confusion
        .to_rows()
        .iter()
        .map(|row| row.iter().sum::<u64>() as usize)
        .collect();
    let all = used.iter().sum();
    if !config.pipeline.allow_missing {
        check_losses(root, classes, (&used, all), lost, "")?;
    }
    match lost.first() {
        Some(first) if all == 0 => Err(Error::Dataset {
            path: config.dataset.clone(),
            problem: format!(
                "none of its {} images can be used; the first, {}, {}",
                lost.len(),
                shown(&first.path),
                first.reason
            ),
        }),
        _ => Ok(()),
    }
}

/// The prediction for the image `path` of class `truth`, from `probabilities` (one per class).
pub(super) fn picture_scored(
    split: &str,
    path: &Path,
    truth: usize,
    probabilities: &[f32],
) -> Event {
    /// Number of classes reported per image.
    const TOP: usize = 5;
    Event::PictureScored {
        split: split.to_owned(),
        path: path.to_owned(),
        class: truth,
        loss: surprise(probabilities[truth]),
        top: top_k(probabilities, &[], TOP)
            .into_iter()
            .map(|p| (p.class, p.probability))
            .collect(),
    }
}

/// −ln of a probability; the smallest positive number stands for 0, whose logarithm is not finite.
pub(super) fn surprise(probability: f32) -> f32 {
    -probability.max(f32::MIN_POSITIVE).ln()
}

/// For each class of the dataset, the class of the model that has its name.
pub(super) fn match_classes(
    folder: &Path,
    dataset: &Dataset,
    known: &[String],
) -> Result<Vec<usize>> {
    dataset
        .classes
        .iter()
        .map(|class| {
            known
                .iter()
                .position(|k| k == class)
                .ok_or_else(|| Error::Mismatch {
                    what: format!("classes of {}", shown(folder)),
                    expected: known.join(", "),
                    found: class.clone(),
                    hint: match known.iter().find(|k| name_key(k) == name_key(class)) {
                        Some(near) => format!(
                            "rename it to `{}`, the model's name for it",
                            shown(Path::new(near))
                        ),
                        None => "folders must be named like the model's classes".into(),
                    },
                })
        })
        .collect()
}
