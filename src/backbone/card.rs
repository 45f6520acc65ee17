//! Model cards: what has to be known of a base that its ONNX file does not say.

use serde::{Deserialize, Serialize};

use super::input_size::InputSize;
use crate::error::{Error, Result};
use crate::pixels::Preprocess;

/// How feature maps become the features that are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Mean over height and width: `[H, W, C]` → `[C]`.
    #[default]
    Avg,
    /// Maximum over height and width: `[H, W, C]` → `[C]`.
    Max,
    /// The maps as they are, channels last: `[H, W, C]`.
    None,
    /// The maps as one vector, channels last: `[H·W·C]`.
    Flatten,
}

impl Pool {
    /// The name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Pool::Avg => "avg",
            Pool::Max => "max",
            Pool::None => "none",
            Pool::Flatten => "flatten",
        }
    }
}

/// A model card: a small TOML file beside the ONNX file that it describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelCard {
    /// The name by which `--model` finds it.
    pub name: String,
    /// The name as people write it.
    pub title: String,
    /// The ONNX file, beside the card.
    pub file: String,
    /// SHA-256 of the ONNX file in lower-case hexadecimal; empty if not known.
    #[serde(default)]
    pub sha256: String,
    /// Size of the ONNX file; 0 if not known.
    #[serde(default)]
    pub bytes: u64,
    /// Addresses from which the ONNX file can be fetched, the first that answers is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Where the weights come from.
    #[serde(default)]
    pub source: String,
    /// Licence of the weights, an SPDX expression where there is one.
    #[serde(default)]
    pub license: String,
    /// Whether whoever wrote the card had the file; a card of the zoo without this states what its source
    /// publishes.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub checked: bool,
    /// All parameters, those of a BatchNorm that are not trained included; 0 if not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parameters: u64,
    /// Number of values of a picture's features at the default cut and size; 0 if not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub features: u64,
    /// Share of ImageNet's validation pictures whose class comes first, in percent, as the source states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Height and width of the input in pixels where the user asks for no other: one number, or `[height, width]`.
    pub input_size: InputSize,
    /// Least height and width that the network can take.
    #[serde(default = "one")]
    pub min_size: u32,
    /// The tensor that holds the features: the default cut. Without it, features and logits are found in
    /// the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// How maps at the default cut are pooled.
    #[serde(default)]
    pub pool: Pool,
    /// The tensor that holds the ImageNet logits; none if the model has no classifier, or no `cut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<String>,
    /// The label list of the logits; none if the model has no classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// From a picture to the input tensor.
    pub preprocess: Preprocess,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl ModelCard {
    /// Reads a card's TOML text; `name` stands for it in error messages.
    ///
    /// # Errors
    /// [`Error::Model`] with the line at fault.
    pub fn parse(text: &str, name: &str) -> Result<ModelCard> {
        let fail = |problem: String| Error::Model {
            model: name.to_owned(),
            problem,
        };
        let card: ModelCard =
            toml::from_str(text).map_err(|e| fail(format!("its card cannot be read: {e}")))?;
        card.preprocess
            .validate()
            .map_err(|e| fail(format!("its card cannot be used: {e}")))?;
        if card.file.contains(['/', '\\']) {
            return Err(fail(format!(
                "its card names the file `{}`; the file must lie beside the card",
                card.file
            )));
        }
        Ok(card)
    }

    /// The card's TOML text, as [`parse`](Self::parse) reads it.
    pub fn to_toml(&self) -> String {
        // Plain data with its one table at the end always serialises.
        toml::to_string(self).unwrap_or_default()
    }
}
