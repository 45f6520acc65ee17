//! Model cards: what a backbone's ONNX file does not say, such as preprocessing.

use serde::{Deserialize, Serialize};

use super::input_size::InputSize;
use crate::error::{Error, Result, is_unsafe};
use crate::foreign::data_fault;
use crate::pixels::Preprocess;

/// Pooling of feature maps or tokens into features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Mean over height and width, or over the tokens of patches: `[H, W, C]` → `[C]`, `[T, D]` → `[D]`.
    #[default]
    #[serde(alias = "mean")]
    Avg,
    /// Maximum over height and width, or over the tokens of patches: `[H, W, C]` → `[C]`, `[T, D]` → `[D]`.
    Max,
    /// The class token, the first of all: `[T, D]` → `[D]`.
    Cls,
    /// The class token, then the mean over the tokens of patches: `[T, D]` → `[2 D]`.
    #[serde(rename = "cls+mean")]
    ClsMean,
    /// The maps as they are, channels last: `[H, W, C]`; the tokens as they are, `[T, D]`, or, where the tokens before
    /// those of patches are known, the patches as maps `[h, w, D]`.
    None,
    /// The maps as one vector, channels last: `[H·W·C]`; the tokens as one vector: `[T·D]`.
    Flatten,
}

impl Pool {
    /// The name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Pool::Avg => "avg",
            Pool::Max => "max",
            Pool::Cls => "cls",
            Pool::ClsMean => "cls+mean",
            Pool::None => "none",
            Pool::Flatten => "flatten",
        }
    }

    /// Number of features that it makes of a tensor of this shape, without the batch and channels last: `[D]`, tokens
    /// `[T, D]` or maps `[H, W, C]`; `None` if it cannot.
    pub fn feature_len(self, shape: &[usize]) -> Option<usize> {
        match (shape, self) {
            ([features], _) => Some(*features),
            ([_, width], Pool::Avg | Pool::Max | Pool::Cls) => Some(*width),
            ([_, _, channels], Pool::Avg | Pool::Max) => Some(*channels),
            ([_, width], Pool::ClsMean) => Some(2 * width),
            ([_, _, _], Pool::Cls | Pool::ClsMean) => None,
            ([_, _] | [_, _, _], Pool::None | Pool::Flatten) => Some(shape.iter().product()),
            _ => None,
        }
    }
}

/// Maximum length of a name in a card: with an extension, it fits in any file system.
const MAX_NAME: usize = 100;

/// Device names reserved by Windows, with any extension.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Returns whether `name` is safe as part of a file name in any folder, on any system.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with('.')
        && !names_device(name)
}

/// Tells whether Windows takes `name` for a device.
fn names_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or("").to_ascii_lowercase();
    let numbered = stem.strip_prefix("com").or(stem.strip_prefix("lpt"));
    numbered.is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()))
        || RESERVED.contains(&stem.as_str())
}

/// Tells whether `name` can be that of a file beside the card, and of nothing else: it has no separator of any system, and
/// no character that means something in an address.
fn is_file_name(name: &str) -> bool {
    let apart = |c: char| is_unsafe(c) || "/\\:*?\"<>|#%".contains(c);
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.contains(apart)
        && !name.starts_with(['.', '-', ' '])
        && !name.ends_with(['.', ' '])
        && !names_device(name)
}

fn check_file(what: &str, name: &str) -> std::result::Result<(), String> {
    match is_file_name(name) {
        true => Ok(()),
        false => Err(format!(
            "its {what} {name:?} is not a plain file name next to it: at most {MAX_NAME} bytes, without / \\ : * ? \" < > | \
             # % and without . or - at the beginning"
        )),
    }
}

fn check_name(what: &str, name: &str) -> std::result::Result<(), String> {
    match is_plain_name(name) {
        true => Ok(()),
        false => Err(format!(
            "its {what} {name:?} is not a plain name: 1 to {MAX_NAME} letters, digits, - _ and . starting with a letter, a digit or _"
        )),
    }
}

/// A model card: a small TOML file beside the ONNX file that it describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelCard {
    /// The name by which `--model` finds it.
    pub name: String,
    /// The display name.
    pub title: String,
    /// The ONNX file beside the card; with `hub`, the folder with the repository's files.
    pub file: String,
    /// SHA-256 of the ONNX file in lower-case hexadecimal, with `hub` that of the file of weights; empty if not known.
    #[serde(default)]
    pub sha256: String,
    /// Size of that file in bytes; 0 if not known.
    #[serde(default)]
    pub bytes: u64,
    /// Addresses from which the ONNX file can be fetched, the first that answers is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The repository on the Hugging Face Hub, `OWNER/NAME`, from which the files are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// The commit of that repository; by default the newest of its main branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Source of the weights.
    #[serde(default)]
    pub source: String,
    /// Licence of the weights, an SPDX expression where there is one.
    #[serde(default)]
    pub license: String,
    /// Whether the author of the card had the file; otherwise the card repeats what the source publishes.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub checked: bool,
    /// All parameters, those of a BatchNorm that are not trained included; 0 if not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parameters: u64,
    /// Number of features per image at the default feature layer and size; 0 if not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub features: u64,
    /// ImageNet top-1 accuracy in percent, as stated by the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Multiply-adds for an image of the default size, in billions, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gmacs: Option<f64>,
    /// What the backbone is good for, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_for: Option<String>,
    /// Default height and width of the input in pixels: one number, or `[height, width]`.
    pub input_size: InputSize,
    /// Minimum height and width of the input.
    #[serde(default = "one")]
    pub min_size: u32,
    /// The default feature layer. Without it, features and logits are found in
    /// the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Pooling of feature maps at the default feature layer.
    #[serde(default)]
    pub pool: Pool,
    /// Number of tokens before those of patches: class token and registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<u32>,
    /// The tensor that holds the ImageNet logits; `None` if the model has no classifier, or no `cut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<String>,
    /// The label list of the logits; `None` if the model has no classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Preprocessing.
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
        let card: ModelCard = toml::from_str(text)
            .map_err(|e| fail(format!("its card cannot be read: {}", data_fault(&e))))?;
        card.preprocess
            .validate()
            .map_err(|e| fail(format!("its card cannot be used: {e}")))?;
        match card.check_names() {
            Ok(()) => Ok(card),
            Err(problem) => Err(fail(format!("its card cannot be used: {problem}"))),
        }
    }

    /// Whatever of a card becomes a part of a path or an address is held to its form here, once: a card may come
    /// from anywhere.
    fn check_names(&self) -> std::result::Result<(), String> {
        check_name("name", &self.name)?;
        check_file("file", &self.file)?;
        if let Some(hub) = &self.hub {
            let mut parts = hub.split('/');
            let is_right = parts
                .by_ref()
                .take(2)
                .filter(|part| is_plain_name(part))
                .count()
                == 2;
            if !is_right || parts.next().is_some() {
                return Err(format!("its hub {hub:?} is not of the form OWNER/NAME"));
            }
            let is_plain = self.revision.as_deref().is_none_or(is_plain_name);
            if !is_plain {
                return Err("its revision is not the name of a commit".into());
            }
        } else if !self.file.to_ascii_lowercase().ends_with(".onnx") {
            return Err(format!(
                "its file {:?} does not end in .onnx; it must be the ONNX file next to the card",
                self.file
            ));
        }
        if let Some(labels) = &self.labels {
            check_file("labels", labels)?;
        }
        let is_hash = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if !self.sha256.is_empty() && !is_hash {
            return Err("its sha256 is not 64 hexadecimal digits".into());
        }
        let is_address = |url: &&String| {
            let scheme = url.starts_with("http://") || url.starts_with("https://");
            scheme && url.chars().all(|c| c.is_ascii_graphic())
        };
        match self.urls.iter().find(|url| !is_address(url)) {
            Some(url) => Err(format!("{url:?} is not a URL; it must start with https://")),
            None => Ok(()),
        }
    }

    /// The card's TOML text, as [`parse`](Self::parse) reads it.
    pub fn to_toml(&self) -> String {
        // Plain data with its one table at the end always serialises.
        toml::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = include_str!("../../models/vgg16.toml");

    /// The card with the line that begins with `key` replaced.
    fn with(key: &str, line: &str) -> Result<ModelCard> {
        let lines = CARD.lines().map(|l| match l.starts_with(key) {
            true => line,
            false => l,
        });
        ModelCard::parse(&lines.collect::<Vec<_>>().join("\n"), "x.toml")
    }

    #[test]
    fn a_name_leads_nowhere() {
        let long = "x".repeat(MAX_NAME + 1);
        for wrong in [
            "",
            ".",
            "..",
            "../net",
            "a/b",
            "a\\b",
            "/etc/net",
            ".net",
            "-net",
            "net.",
            "a b",
            "ä",
            "a\nb",
            "a\0b",
            "NUL",
            "com1",
            "Lpt9.onnx",
            "aux.b",
            "C:net",
            "a~",
            "$HOME",
            "*",
            &long,
        ] {
            assert!(!is_plain_name(wrong), "{wrong:?}");
        }
        for right in [
            "net",
            "efficientnet-lite4-11.onnx",
            "_x",
            "a..b",
            "com",
            "com10",
            "console",
            "3",
        ] {
            assert!(is_plain_name(right), "{right}");
        }
    }

    #[test]
    fn no_entry_of_a_card_leads_out_of_its_folder() {
        assert!(ModelCard::parse(CARD, "x.toml").is_ok());
        for file in [
            "bias_2^-20.onnx",
            "mein Netz (2).onnx",
            "réseau.onnx",
            "a..b.onnx",
        ] {
            let card = with("file =", &format!("file = \"{file}\"")).unwrap();
            assert_eq!(card.file, file);
        }
        for (key, line) in [
            ("name =", "name = \"../victim/Cargo\""),
            ("name =", "name = \"/tmp/x\""),
            ("file =", "file = \"../x.onnx\""),
            ("file =", "file = \"..\\\\x.onnx\""),
            ("file =", "file = \"vgg16.toml\""),
            ("file =", "file = \".profile\""),
            ("file =", "file = \"..\""),
            ("file =", "file = \"a/b.onnx\""),
            ("file =", "file = \"C:x.onnx\""),
            ("file =", "file = \"con.onnx\""),
            ("file =", "file = \"x%2f..%2fy.onnx\""),
            ("file =", "file = \"x\\ny.onnx\""),
            ("title =", "title = \"x\"\nlabels = \"../../labels.txt\""),
            ("title =", "title = \"x\"\nurls = [\"file:///etc/passwd\"]"),
            ("sha256 =", "sha256 = \"../x\""),
        ] {
            let error = with(key, line).map(|_| line).unwrap_err().to_string();
            assert!(
                error.starts_with("model x.toml: its card cannot be used:"),
                "{line}: {error}"
            );
        }
    }
}
