//! What a saved model carries in its metadata, as JSON, beside what any ONNX runtime reads.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone::{BackboneId, Calibration, find, is_path, known_model};
use crate::disk::parent;
use crate::error::{Error, Result};
use crate::progress::EpochStats;
use crate::train::{FinetuneParams, HeadParams};

pub use crate::backbone::RECORD_VERSION;

/// The metadata of a saved model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub record_version: u32,
    /// Version of the program that wrote it.
    pub program_version: String,
    /// Class names in the order of the outputs.
    pub classes: Vec<String>,
    /// The base, its cut, and from a picture to the input tensor.
    pub backbone: BackboneId,
    /// The base's file, as it was given; none for a base that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
    /// Shape of the features between base and head: `[D]` or `[H, W, C]`.
    pub feature_shape: Vec<usize>,
    /// Whether operators before the head's first layer standardise the features.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standardized: bool,
    /// How the head came about.
    pub training: TrainingRecord,
    /// How its numbers were made smaller; none if they are float32 as they were trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationRecord>,
    /// What the model gives, for comparison wherever it is loaded.
    pub reference: Reference,
}

impl Record {
    /// The name or path by which the base can be had again, for the model or head `model`: a path is looked for
    /// beside it, then as it was given.
    ///
    /// # Errors
    /// [`Error::Model`] if the base's file is not there; [`Error::Mismatch`] if it is another one now.
    pub fn base_source(&self, model: &Path) -> Result<String> {
        let id = &self.backbone;
        let shown = model.display();
        let Some(given) = &self.base_path else {
            return known_model(&id.model).map(|_| id.model.clone()).map_err(|_| Error::Model {
                model: shown.to_string(),
                problem: format!(
                    "its base, {}, has no name that is known here; give the path of the base's ONNX file",
                    id.model
                ),
            });
        };
        let given = Path::new(given);
        let folder = parent(model);
        let places = [
            folder.join(given),
            folder.join(given.file_name().unwrap_or_default()),
            given.to_owned(),
        ];
        let mut other = None;
        for place in places.iter().filter(|place| place.is_file()) {
            let name = place.display().to_string();
            let name = if is_path(&name) {
                name
            } else {
                format!("./{name}")
            };
            match find(&name) {
                Ok(found) if found.sha256 == id.sha256 => return Ok(name),
                Ok(found) => other = Some((name, found.sha256)),
                Err(error) => return Err(error),
            }
        }
        match other {
            Some((name, found)) => Err(Error::Mismatch {
                what: format!("base of {shown}, the file {name}"),
                expected: format!("SHA-256 {}", id.sha256),
                found: format!("SHA-256 {found}"),
                hint: "the file has changed since; give the base as it was, by its path".into(),
            }),
            None => Err(Error::Model {
                model: shown.to_string(),
                problem: format!(
                    "its base was the file {}, which is not there; give the path of the base's ONNX file",
                    given.display()
                ),
            }),
        }
    }
}

/// What the weights of a model that was made smaller are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Weights and activations are integers of 8 bits.
    Int8,
    /// Weights are float16.
    Float16,
}

impl Numbers {
    /// Their name as in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Numbers::Int8 => "int8",
            Numbers::Float16 => "float16",
        }
    }
}

/// How a model was made of one with float32 numbers, and what that cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuantizationRecord {
    /// What its weights are.
    pub numbers: Numbers,
    /// SHA-256 of the file that it was made of.
    pub source_sha256: String,
    /// How the ranges of its integers were chosen; none without integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Pictures on which they were chosen.
    pub calibration_images: usize,
    /// Layers that stayed in floats.
    pub float_layers: Vec<String>,
    /// Which pictures the following was measured on: `validation`, `test` or `all`.
    pub split: String,
    /// Number of those pictures.
    pub images: usize,
    /// Share of them whose class came first before, 0 to 1.
    pub accuracy_before: f32,
    /// The same afterwards.
    pub accuracy_after: f32,
    /// Share of them that get the same first class before and afterwards.
    pub agreement: f32,
}

/// How a head came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainingRecord {
    /// The data set, as it was given.
    pub dataset: String,
    /// Parameters of the head and its training.
    pub head: HeadParams,
    /// Share of each class held out for validation, where the data set gives no split.
    pub validation_split: f64,
    /// Share of each class held out for testing, where the data set gives no split.
    pub test_split: f64,
    /// Number of training pictures.
    pub training_images: usize,
    /// Number of validation pictures.
    pub validation_images: usize,
    /// Number of test pictures.
    pub test_images: usize,
    /// What each epoch measured.
    pub history: Vec<EpochStats>,
    /// 1-based epoch that the head was taken from.
    pub best_epoch: usize,
    /// How the end of the base was trained with the head; none if the base is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FinetuneRecord>,
}

/// How the end of a base was trained jointly with a head that had been trained alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FinetuneRecord {
    /// Its parameters.
    pub params: FinetuneParams,
    /// The first layer that was trained.
    pub first_layer: String,
    /// Parameters of the base that were trained.
    pub trained_parameters: u64,
    /// What each joint epoch measured.
    pub history: Vec<EpochStats>,
    /// The joint epoch that base and head were taken from; 0 if the head alone was no worse.
    pub best_epoch: usize,
}

/// Outputs that were noted when the model was saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    /// The kind of machine that noted them: on the same kind, outputs are the same to the bit.
    pub machine: String,
    /// Probabilities for the built-in probe picture.
    pub probe: Vec<f32>,
    /// Probabilities for some pictures of the data set.
    pub images: Vec<ReferenceImage>,
    /// Largest difference of a probability that is taken for the same on another kind of machine; none for what
    /// float32 networks need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f32>,
}

/// Outputs for one picture of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReferenceImage {
    /// The picture, relative to the data set.
    pub path: String,
    /// SHA-256 of its file, to know it again.
    pub sha256: String,
    /// Probabilities in the order of the classes.
    pub probabilities: Vec<f32>,
}
