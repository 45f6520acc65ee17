//! Image networks of timm and of transformers as ONNX models, built from `config.json` and `model.safetensors` alone.
//!
//! ```text
//! config.json ──────► timm, transformers (names) ─► vit … (families) ─► graph ─► ONNX model, facts for a model card
//! model.safetensors ─► safetensors ─► weights ──────────┘
//! ```
//!
//! Shapes of weights tell most of a network; names and configurations tell the rest. A network with a weight that
//! nothing reads is refused: it has a part that was not built. Nodes and weights have the names of timm's modules.

mod attention;
mod config;
mod convnext;
mod efficientnet;
mod error;
mod graph;
mod layers;
mod network;
mod resample;
mod resnet;
mod safetensors;
mod timm;
mod transformers;
mod vit;
mod weights;

use std::path::Path;

pub use self::config::Preprocess;
pub use self::error::{Error, Result};
pub use self::network::{Base, Head, Last, Pool};

/// Checks that the network that `config`, the text of `config.json`, describes is one of those that are built; its
/// weights may still hold a surprise.
///
/// # Errors
/// [`Error::Unknown`] or [`Error::Config`].
pub fn check(config: &str) -> Result<()> {
    let config = config::Config::parse(config)?;
    match names(&config)? {
        (Some(architecture), _) => timm::check(&config, architecture),
        (None, kind) => transformers::check(kind.unwrap_or_default()),
    }
}

/// The architecture of timm, the model type of transformers: one of them.
fn names(config: &config::Config) -> Result<(Option<&str>, Option<&str>)> {
    match (config.text("architecture")?, config.text("model_type")?) {
        (None, None) => Err(Error::Config(
            "it names no `architecture` and no `model_type`".into(),
        )),
        names => Ok(names),
    }
}

/// Builds the network that `config`, the text of `config.json`, describes, with the weights of the safetensors file
/// `weights`. `size` is the height and width in pixels that are asked for; without it those that the weights are made
/// for, or at which DINOv2 is mostly trained.
///
/// # Errors
/// [`Error::Unknown`] for a network that is not built here; [`Error::Config`], [`Error::Weights`] and
/// [`Error::Mismatch`] for files that are damaged or do not belong together; [`Error::InputSize`]; [`Error::Io`].
pub fn build(config: &str, weights: &Path, size: Option<usize>) -> Result<Base> {
    let config = config::Config::parse(config)?;
    if let Some(size) = size.filter(|size| !(1..=1 << 14).contains(size)) {
        return Err(Error::InputSize {
            size,
            problem: "it takes 1 to 16384 pixels".into(),
        });
    }
    match names(&config)? {
        (Some(architecture), _) => timm::build(&config, architecture, weights, size),
        (None, kind) => transformers::build(&config, kind.unwrap_or_default(), weights, size),
    }
}
