//! The record of a saved model: metadata as JSON inside the ONNX file.

use std::collections::HashSet;
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
    /// The backbone, its cut, and from an image to the input tensor.
    pub backbone: BackboneId,
    /// The backbone's file, as it was given; `None` for a backbone that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
    /// Shape of the features between backbone and head: `[D]` or `[H, W, C]`.
    pub feature_shape: Vec<usize>,
    /// Whether operators before the head's first layer standardise the features.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standardized: bool,
    /// How the head was trained.
    pub training: TrainingRecord,
    /// How it was quantised; `None` if it has float32 weights as trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationRecord>,
    /// Reference outputs, for verification on loading.
    pub reference: Reference,
}

/// Maximum number of reference images: each costs a run of the network whenever the model is verified.
const MOST_IMAGES: usize = 100;

/// Maximum bytes of a class name.
const MOST_NAME_BYTES: usize = 4096;

impl Record {
    /// What cannot be right in a record that somebody wrote, as a clause.
    pub(super) fn damage(&self) -> Option<String> {
        if let Err(problem) = self.backbone.preprocess.validate() {
            return Some(problem.to_string());
        }
        let mut known = HashSet::new();
        for (place, class) in (1..).zip(&self.classes) {
            if class.is_empty() || class.len() > MOST_NAME_BYTES {
                return Some(format!(
                    "the name of class {place} has {} bytes",
                    class.len()
                ));
            }
            if !known.insert(class) {
                return Some(format!("two classes are named `{class}`"));
            }
        }
        if self.reference.images.len() > MOST_IMAGES {
            return Some(format!(
                "it has {} reference images, more than {MOST_IMAGES}",
                self.reference.images.len()
            ));
        }
        let tolerance = self.reference.tolerance.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&tolerance) {
            return Some(format!("its tolerance is {tolerance}, not from 0 to 1"));
        }
        None
    }

    /// The name or path by which the backbone can be had again, for the model or head `model`: a path is looked for
    /// beside it, then as it was given.
    ///
    /// # Errors
    /// [`Error::Model`] if the backbone's file is not there; [`Error::Mismatch`] if it is another one now.
    pub fn base_source(&self, model: &Path) -> Result<String> {
        let id = &self.backbone;
        let shown = model.display();
        let Some(given) = &self.base_path else {
            return known_model(&id.model).map(|_| id.model.clone()).map_err(|_| Error::Model {
                model: shown.to_string(),
                problem: format!(
                    "its backbone {} is unknown here; give the path of the backbone's ONNX file",
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
        for place in places.iter().filter(|place| place.exists()) {
            let name = place.display().to_string();
            let name = if is_path(&name) {
                name
            } else {
                format!("./{name}")
            };
            match find(&name, Some(id.input_size)) {
                Ok(found) if found.sha256 == id.sha256 => return Ok(name),
                Ok(found) => other = Some((name, found.sha256)),
                Err(error) => return Err(error),
            }
        }
        match other {
            Some((name, found)) => Err(Error::Mismatch {
                what: format!("backbone of {shown}, the file {name}"),
                expected: format!("SHA-256 {}", id.sha256),
                found: format!("SHA-256 {found}"),
                hint: "the file has changed since; give the path of the original backbone".into(),
            }),
            None => Err(Error::Model {
                model: shown.to_string(),
                problem: format!(
                    "its backbone was the file {}, which does not exist; give the path of the backbone's ONNX file",
                    given.display()
                ),
            }),
        }
    }
}

/// Weight type of a quantised model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Weights and activations are 8-bit integers.
    Int8,
    /// Weights are float16.
    Float16,
}

impl Precision {
    /// Their name as in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Int8 => "int8",
            Precision::Float16 => "float16",
        }
    }
}

/// How a model was quantised, and the cost in accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuantizationRecord {
    /// What its weights are.
    #[serde(rename = "numbers")]
    pub precision: Precision,
    /// SHA-256 of the original file.
    pub source_sha256: String,
    /// How the ranges of its integers were chosen; none without integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Images on which they were chosen.
    pub calibration_images: usize,
    /// Layers that stayed in floats.
    pub float_layers: Vec<String>,
    /// Which images the following was measured on: `validation`, `test` or `all`.
    pub split: String,
    /// Number of those images.
    pub images: usize,
    /// Accuracy before, 0 to 1.
    pub accuracy_before: f32,
    /// Accuracy after.
    pub accuracy_after: f32,
    /// Share of them that get the same first class before and after.
    pub agreement: f32,
}

/// How a head was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainingRecord {
    /// The dataset, as it was given.
    pub dataset: String,
    /// Parameters of the head and its training.
    pub head: HeadParams,
    /// Share of each class held out for validation, where the dataset gives no split.
    pub validation_split: f64,
    /// Share of each class held out for testing, where the dataset gives no split.
    pub test_split: f64,
    /// Number of training images.
    pub training_images: usize,
    /// Number of validation images.
    pub validation_images: usize,
    /// Number of test images.
    pub test_images: usize,
    /// Metrics of each epoch.
    pub history: Vec<EpochStats>,
    /// 1-based epoch that the head was taken from.
    pub best_epoch: usize,
    /// How the end of the backbone was trained with the head; `None` if the backbone is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FinetuneRecord>,
}

/// How the end of a backbone was trained jointly with a head that had been trained alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FinetuneRecord {
    /// Its parameters.
    pub params: FinetuneParams,
    /// The first trained layer.
    pub first_layer: String,
    /// Parameters of the backbone that were trained.
    pub trained_parameters: u64,
    /// Metrics of each joint epoch.
    pub history: Vec<EpochStats>,
    /// The joint epoch that backbone and head were taken from; 0 if the head alone was at least as good.
    pub best_epoch: usize,
}

/// Outputs recorded when the model was saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    /// The kind of machine that recorded them; on the same kind, outputs are identical to the bit.
    pub machine: String,
    /// Probabilities for the reference input.
    pub probe: Vec<f32>,
    /// Probabilities for some images of the dataset.
    pub images: Vec<ReferenceImage>,
    /// Tolerance for a probability on another kind of machine; `None` for that of float32 networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f32>,
}

/// Outputs for one image of the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReferenceImage {
    /// The image, relative to the dataset.
    pub path: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Probabilities in the order of the classes.
    pub probabilities: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved_model::SavedModel;

    fn record() -> Record {
        let saved = include_bytes!("../../tests/fuzz/seeds/saved_model/m.onnx");
        let saved = SavedModel::parse(saved, Path::new("m.onnx")).unwrap();
        saved.record().clone()
    }

    #[test]
    fn what_cannot_be_right_in_a_record_is_found() {
        assert_eq!(record().damage(), None);
        type Change = fn(&mut Record);
        let cases: [(Change, &str); 9] = [
            (
                |r| r.classes[1] = r.classes[0].clone(),
                "two classes are named",
            ),
            (|r| r.classes[2].clear(), "the name of class 3 has 0 bytes"),
            (
                |r| r.classes[0] = "a".repeat(4097),
                "the name of class 1 has 4097 bytes",
            ),
            (|r| r.backbone.preprocess.std[1] = 0.0, "std"),
            (|r| r.backbone.preprocess.scale = 0.0, "scale"),
            (
                |r| r.backbone.preprocess.reducing_gap = -1.0,
                "reducing-gap",
            ),
            (|r| r.reference.tolerance = Some(-0.1), "tolerance is -0.1"),
            (
                |r| r.reference.tolerance = Some(1e9),
                "tolerance is 1000000000",
            ),
            (
                |r| {
                    let image = ReferenceImage {
                        path: "a.jpg".to_owned(),
                        sha256: String::new(),
                        probabilities: vec![1.0],
                    };
                    r.reference.images = vec![image; MOST_IMAGES + 1];
                },
                "101 reference images",
            ),
        ];
        for (change, expected) in cases {
            let mut record = record();
            change(&mut record);
            let damage = record.damage().unwrap();
            assert!(damage.contains(expected), "{damage}");
        }
    }
}
