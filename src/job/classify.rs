//! Labels images with the ImageNet classifier.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::predict::{PictureResult, in_order, list_pictures};
use super::uses;
use crate::backbone::{Classifier, DEFAULT_MODEL, InputSize};
use crate::error::Result;
use crate::features::PipelineParams;
use crate::progress::{Phase, Progress};

/// Configuration of [`classify`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClassifyConfig {
    /// Images, and folders of images.
    pub images: Vec<PathBuf>,
    /// Name of a backbone with a classifier, or path of an ONNX file.
    #[serde(default = "default_model")]
    pub model: String,
    /// Height and width of the input in pixels; by default what the model card says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

fn default_model() -> String {
    DEFAULT_MODEL.to_owned()
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        ClassifyConfig {
            images: Vec::new(),
            model: default_model(),
            input_size: None,
            pipeline: PipelineParams::default(),
        }
    }
}

/// Runs the classifier over all images and passes each result, probabilities in the order of the labels,
/// to `sink`, in the order of the given images. Returns the number of unusable images.
///
/// # Errors
/// Those of [`Classifier::open`]; [`crate::Error::NotFound`]; the first error of `sink`.
pub fn classify(
    config: &ClassifyConfig,
    progress: &Progress,
    mut sink: impl FnMut(&[String], PictureResult) -> Result<()>,
) -> Result<usize> {
    let classifier = Classifier::open(&config.model, config.input_size)?;
    uses::tell_classifier(&classifier, progress);
    let paths = list_pictures(&config.images, progress)?;
    in_order(
        Path::new(""),
        &paths,
        &config.pipeline,
        Phase::Predict,
        progress,
        || classifier.session(),
        |place, values| {
            sink(
                classifier.labels(),
                PictureResult {
                    path: paths[place].clone(),
                    values,
                },
            )
        },
    )
}
