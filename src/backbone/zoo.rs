//! Finding a base by name or path: the one inside the program, and folders of cards.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::card::{ModelCard, Pool};
use super::cut::find_tail;
use super::onnx::OnnxGraph;
use crate::error::{Error, Result};
use crate::pixels::{Layout, Preprocess};

/// The base that is used where the user names none.
pub const DEFAULT_MODEL: &str = "efficientnet-lite0";

/// Cards of the bases that this program knows by name.
const CARDS: [(&str, &str); 2] = [
    (
        DEFAULT_MODEL,
        include_str!("../../models/efficientnet-lite0.toml"),
    ),
    ("vgg16", include_str!("../../models/vgg16.toml")),
];

#[cfg(feature = "embedded-model")]
const EMBEDDED: &[u8] = include_bytes!("../../models/efficientnet-lite0.onnx");

/// The 1,000 ImageNet class names, in the order of the logits, one a line.
const IMAGENET_LABELS: &str = include_str!("../../models/imagenet-1k-labels.txt");

/// The name under which cards refer to [`imagenet_labels`].
const IMAGENET_1K: &str = "imagenet-1k";

/// A base as it was found: its card, its graph, and what had to be guessed.
pub struct FoundModel {
    /// Its card; guessed from the graph where there is none.
    pub card: ModelCard,
    /// The whole graph, uncut.
    pub graph: OnnxGraph,
    /// SHA-256 of the ONNX file, lower-case hexadecimal.
    pub sha256: String,
    /// Sentences for the user on what was guessed.
    pub warnings: Vec<String>,
}

/// The 1,000 ImageNet class names, in the order of the logits.
pub fn imagenet_labels() -> Vec<String> {
    IMAGENET_LABELS.lines().map(str::to_owned).collect()
}

/// The label list that a card names; none if the program has no such list.
pub fn label_list(name: &str) -> Option<Vec<String>> {
    (name == IMAGENET_1K).then(imagenet_labels)
}

/// Finds a base by the name of its card or by the path of its ONNX file.
///
/// A path is anything that ends in `.onnx` or has a separator in it. Its card is the file of the same
/// name with the ending `.toml`; without one, the card is guessed and `warnings` says so.
///
/// # Errors
/// [`Error::NotFound`] or [`Error::Model`], with what to do.
pub fn find(model: &str) -> Result<FoundModel> {
    if model.ends_with(".onnx") || model.contains(['/', '\\']) {
        return from_file(Path::new(model));
    }
    if let Some((_, text)) = CARDS.iter().find(|(name, _)| *name == model) {
        return from_card(ModelCard::parse(text, model)?);
    }
    for folder in model_folders() {
        let path = folder.join(format!("{model}.toml"));
        if path.is_file() {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            return from_card(ModelCard::parse(&text, &path.display().to_string())?);
        }
    }
    let known: Vec<&str> = CARDS.iter().map(|(name, _)| *name).collect();
    Err(Error::Model {
        model: model.to_owned(),
        problem: format!(
            "no base of this name is known; use one of {}, or the path of an ONNX file",
            known.join(", ")
        ),
    })
}

/// Cards of all bases that can be named: those that this program knows, and those in the folders in which
/// bases are looked for, by name. A card that cannot be read is left out.
pub fn cards() -> Vec<ModelCard> {
    let mut cards: Vec<ModelCard> = CARDS
        .iter()
        .filter_map(|(name, text)| ModelCard::parse(text, name).ok())
        .collect();
    for folder in model_folders() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        {
            let text = fs::read_to_string(path).unwrap_or_default();
            let card = ModelCard::parse(&text, &path.display().to_string());
            cards.extend(card.ok());
        }
    }
    let mut seen = HashSet::new();
    cards.retain(|card| seen.insert(card.name.clone()));
    cards
}

/// Folders in which bases are looked for, in this order: `$TL_MODELS`, `models` beside the program or up
/// to three folders above it, `models` in the working folder, and the user's data folder.
fn model_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("TL_MODELS").map(PathBuf::from));
    if let Ok(program) = std::env::current_exe() {
        folders.extend(
            program
                .ancestors()
                .skip(1)
                .take(4)
                .map(|dir| dir.join("models")),
        );
    }
    folders.push(PathBuf::from("models"));
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    folders.extend(data.map(|dir| dir.join("tl/models")));
    folders
}

fn from_card(card: ModelCard) -> Result<FoundModel> {
    let (bytes, name) = read_weights(&card)?;
    let sha256 = hex_sha256(&bytes);
    if !card.sha256.is_empty() && card.sha256 != sha256 {
        return Err(Error::Model {
            model: name,
            problem: format!(
                "the file is not the one that its card describes (SHA-256 {sha256}, expected {}); get it again",
                card.sha256
            ),
        });
    }
    Ok(FoundModel {
        graph: OnnxGraph::parse(&bytes, &card.name)?,
        card,
        sha256,
        warnings: Vec::new(),
    })
}

fn read_weights(card: &ModelCard) -> Result<(Cow<'static, [u8]>, String)> {
    #[cfg(feature = "embedded-model")]
    if card.name == DEFAULT_MODEL {
        return Ok((Cow::Borrowed(EMBEDDED), card.name.clone()));
    }
    let folders = model_folders();
    for folder in &folders {
        let path = folder.join(&card.file);
        if path.is_file() {
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            return Ok((Cow::Owned(bytes), path.display().to_string()));
        }
    }
    Err(Error::Model {
        model: card.name.clone(),
        problem: format!(
            "its weights are not on this machine; put {} ({} MB, from {}) into ./models or a folder named by \
             TL_MODELS; in the source tree, scripts/build-models makes it",
            card.file,
            card.bytes / 1_000_000,
            card.source
        ),
    })
}

fn from_file(path: &Path) -> Result<FoundModel> {
    let name = path.display().to_string();
    if !path.exists() {
        return Err(Error::NotFound {
            what: "model",
            path: path.to_owned(),
        });
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let graph = OnnxGraph::parse(&bytes, &name)?;
    let sha256 = hex_sha256(&bytes);
    let card_path = path.with_extension("toml");
    let mut warnings = Vec::new();
    let card = if card_path.is_file() {
        let text = fs::read_to_string(&card_path).map_err(Error::io("read", &card_path))?;
        ModelCard::parse(&text, &card_path.display().to_string())?
    } else {
        guess_card(&graph, path, &mut warnings)?
    };
    Ok(FoundModel {
        card,
        graph,
        sha256,
        warnings,
    })
}

/// Height and width where neither the graph nor a card gives any.
const USUAL_INPUT_SIZE: u32 = 224;

fn guess_card(graph: &OnnxGraph, path: &Path, warnings: &mut Vec<String>) -> Result<ModelCard> {
    let (_, dims) = graph.input()?;
    let layout = match dims[..] {
        [_, _, _, Some(3)] if dims[1] != Some(3) => Layout::Nhwc,
        _ => Layout::Nchw,
    };
    let height = if layout == Layout::Nchw {
        dims[2]
    } else {
        dims[1]
    };
    let tail = find_tail(graph)?;
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    warnings.push(format!(
        "{} has no card ({} beside it); its pictures are prepared as torchvision's networks want them (RGB, 0 to \
         1, ImageNet mean and deviation), which is a guess",
        path.display(),
        path.with_extension("toml").file_name().unwrap_or_default().to_string_lossy()
    ));
    Ok(ModelCard {
        title: stem.clone(),
        name: stem,
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        sha256: String::new(),
        bytes: 0,
        source: String::new(),
        license: String::new(),
        input_size: height
            .and_then(|h| u32::try_from(h).ok())
            .unwrap_or(USUAL_INPUT_SIZE),
        min_size: 1,
        cut: tail.features,
        pool: Pool::Avg,
        labels: None,
        logits: tail.logits,
        preprocess: Preprocess {
            layout,
            ..Preprocess::torch()
        },
    })
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
