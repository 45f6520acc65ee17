//! Finds a backbone by name or path: the built-in one, and those in folders of cards.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::card::{ModelCard, Pool, is_plain_name};
use super::guess::{GuessedCard, Preparation, USUAL_INPUT_SIZE, guess_card, stated_size};
use super::import;
use super::input_size::InputSize;
use super::onnx::OnnxGraph;
use super::repository::{self, HUB, Repository};
use super::saved_base::base_inside;
use super::tail::{Tail, find_tail};
use super::tokens::default_pool;
use super::{BackboneParams, input_shape};
use crate::disk::{parent, read, read_text};
use crate::error::{Error, PathRole, Result};

/// The default backbone.
pub const DEFAULT_MODEL: &str = "efficientnet-lite0";

/// Cards of the named backbones, the default first; they are kept in `models/`.
const CARDS: [&str; 22] = [
    include_str!("../../models/efficientnet-lite0.toml"),
    include_str!("../../models/efficientnet-lite4.toml"),
    include_str!("../../models/inceptionv3.toml"),
    include_str!("../../models/mobilenet.toml"),
    include_str!("../../models/mobilenetv2.toml"),
    include_str!("../../models/resnet18.toml"),
    include_str!("../../models/resnet50.toml"),
    include_str!("../../models/squeezenet.toml"),
    include_str!("../../models/vgg16.toml"),
    include_str!("../../models/vgg16-imagenet.toml"),
    include_str!("../../models/vgg19.toml"),
    include_str!("../../models/xception.toml"),
    include_str!("../../models/xception65.toml"),
    include_str!("../../models/convnext_tiny.in12k_ft_in1k.toml"),
    include_str!("../../models/mobilenetv4_conv_medium.e500_r256_in1k.toml"),
    include_str!("../../models/mobilenetv4_conv_small.e2400_r224_in1k.toml"),
    include_str!("../../models/vit_base_patch14_dinov2.lvd142m.toml"),
    include_str!("../../models/vit_base_patch16_siglip_224.v2_webli.toml"),
    include_str!("../../models/vit_base_patch32_clip_224.datacompxl.toml"),
    include_str!("../../models/vit_pe_core_small_patch16_384.fb.toml"),
    include_str!("../../models/vit_small_patch14_dinov2.lvd142m.toml"),
    include_str!("../../models/vit_small_patch16_dinov3.lvd1689m.toml"),
];

#[cfg(feature = "embedded-model")]
const EMBEDDED: &[u8] = include_bytes!("../../models/efficientnet-lite0.onnx");

/// The 1,000 ImageNet class names, in the order of the logits, one per line.
const IMAGENET_LABELS: &str = include_str!("../../models/imagenet-1k-labels.txt");

/// Maximum bytes of an ONNX file: what protobuf allows for a message.
pub(crate) const MAX_ONNX_BYTES: u64 = 1 << 31;

/// Maximum bytes of a card.
pub(crate) const MAX_CARD_BYTES: u64 = 1 << 20;

/// The name under which cards refer to [`imagenet_labels`].
const IMAGENET_1K: &str = "imagenet-1k";

/// A found backbone: its card, its graph, and what had to be guessed.
pub struct FoundModel {
    /// Its card; guessed from the graph where there is none.
    pub card: ModelCard,
    /// Its features and logits: as the card says, else found in the graph.
    pub tail: Tail,
    /// The tensor before the network's own pooling, with a place for each part of the image, where it is known.
    pub unpooled: Option<String>,
    /// The whole graph, uncut.
    pub graph: OnnxGraph,
    /// SHA-256 of the ONNX file with its weights put into it, lower-case hexadecimal.
    pub sha256: String,
    /// Whether neither a card nor the file states its input size.
    pub size_is_guess: bool,
    /// Whether the card exists, rather than being guessed.
    pub has_card: bool,
    /// Messages about files beside it.
    pub notes: Vec<String>,
    /// Messages about what was guessed.
    pub warnings: Vec<String>,
}

impl FoundModel {
    /// How the tensors `cuts`, with the shapes `shapes` without the batch, are pooled: as the user says, or the card,
    /// or the graph after the default cut; else by what they are.
    pub(crate) fn pool(
        &self,
        params: &BackboneParams,
        cuts: &[String],
        shapes: &[Vec<usize>],
    ) -> Pool {
        let stated = match params.cut {
            None if self.has_card => Some(self.card.pool),
            None => self.tail.pool,
            Some(_) => None,
        };
        params.pool.or(stated).unwrap_or_else(|| {
            let cuts = cuts.iter().map(String::as_str);
            let tensors: Vec<_> = cuts.zip(shapes.iter().map(Vec::as_slice)).collect();
            default_pool(&self.graph, &tensors)
        })
    }
}

/// Where the weights of a backbone are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Inside this program.
    Embedded,
    /// In this file.
    File(PathBuf),
    /// Not on this machine.
    Missing,
}

/// A named backbone: its card and where its weights are.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownModel {
    /// Its card.
    pub card: ModelCard,
    /// Where its weights are.
    pub weights: Weights,
}

/// The 1,000 ImageNet class names, in the order of the logits.
pub fn imagenet_labels() -> Vec<String> {
    IMAGENET_LABELS.lines().map(str::to_owned).collect()
}

/// The label list that a card names; `None` if the program has no such list.
pub fn label_list(name: &str) -> Option<Vec<String>> {
    (name == IMAGENET_1K).then(imagenet_labels)
}

/// Lists the named backbones, the default first, the others by name. A card in a folder that
/// cannot be read is left out, and `warnings` says so.
pub fn known_models(warnings: &mut Vec<String>) -> Vec<KnownModel> {
    let mut cards: BTreeMap<String, ModelCard> = own_cards()
        .into_iter()
        .map(|card| (card.name.clone(), card))
        .collect();
    // From the last folder to the first, so that the first takes precedence.
    for folder in model_folders().iter().rev() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if path.extension().is_none_or(|e| e != "toml") || name == DEFAULT_MODEL {
                continue;
            }
            match read_card(&path) {
                Ok(card) => drop(cards.insert(name.into_owned(), card)),
                Err(error) => warnings.push(error.to_string()),
            }
        }
    }
    let mut models: Vec<KnownModel> = cards.into_values().map(with_weights).collect();
    models.sort_by_key(|model| model.card.name != DEFAULT_MODEL);
    models
}

/// Finds the card of the backbone `name` and where its weights are.
///
/// # Errors
/// [`Error::Model`] if no backbone has this name, or its card cannot be used.
pub fn known_model(name: &str) -> Result<KnownModel> {
    // Only plain names are looked up in folders.
    if is_plain_name(name) && name != DEFAULT_MODEL {
        for folder in model_folders() {
            let path = folder.join(format!("{name}.toml"));
            if path.is_file() {
                return read_card(&path).map(with_weights);
            }
        }
    }
    let own = own_cards();
    if let Some(card) = own.iter().find(|card| card.name == name) {
        return Ok(with_weights(card.clone()));
    }
    if Path::new(name).exists() {
        return Err(Error::Model {
            model: name.to_owned(),
            problem: format!("unknown backbone; for the file of this name, write ./{name}"),
        });
    }
    let known: Vec<&str> = own.iter().map(|card| card.name.as_str()).collect();
    Err(Error::Model {
        model: name.to_owned(),
        problem: format!(
            "unknown backbone; use one of {}, or the path of an ONNX file",
            known.join(", ")
        ),
    })
}

fn own_cards() -> Vec<ModelCard> {
    // A test reads them all, so that none is lost here.
    CARDS
        .iter()
        .filter_map(|text| ModelCard::parse(text, "own card").ok())
        .collect()
}

pub(super) fn read_card(path: &Path) -> Result<ModelCard> {
    let text = read_text(path, MAX_CARD_BYTES)?;
    ModelCard::parse(&text, &path.display().to_string())
}

fn with_weights(card: ModelCard) -> KnownModel {
    #[cfg(feature = "embedded-model")]
    if card.name == DEFAULT_MODEL {
        return KnownModel {
            card,
            weights: Weights::Embedded,
        };
    }
    let file = model_folders()
        .iter()
        .map(|folder| folder.join(&card.file))
        .find(|path| path.is_file() || card.hub.is_some() && path.is_dir());
    KnownModel {
        card,
        weights: file.map_or(Weights::Missing, Weights::File),
    }
}

/// Finds a backbone by the name of its card or by the path of its ONNX file.
///
/// `size` is the height and width that the user asks for; by default what the card says. A path is what [`is_path`] says;
/// that of a folder finds the network of the repository whose files are in it. Its card is the file of the same name with the ending `.toml`; a saved model is its
/// own card. Without either, what other programs put beside it (`preprocessor_config.json`, `config.json` of timm) says
/// how images are prepared, else that is guessed, and `warnings` says so.
///
/// # Errors
/// [`Error::NotFound`] or [`Error::Model`], with what to do.
pub fn find(model: &str, size: Option<InputSize>) -> Result<FoundModel> {
    if let Some(repository) = Repository::parse(model) {
        return from_card(repository?.known()?, size);
    }
    if is_path(model) {
        let path = Path::new(model);
        return match path.is_dir() {
            true => repository::find(path, size),
            false => from_file(path),
        };
    }
    from_card(known_model(model)?, size)
}

/// Whether `model` is a path rather than a name: it ends in `.onnx` or has a separator in it.
pub fn is_path(model: &str) -> bool {
    !model.starts_with(HUB) && (model.ends_with(".onnx") || model.contains(['/', '\\']))
}

/// Reads the ONNX file `path` as [`find`] does, with another card than the one beside it, or none but a
/// guess for images that are prepared in a given way. Also returns the file's bytes, with the weights that it
/// keeps in other files of its folder put into it.
///
/// # Errors
/// Like [`find`].
pub fn find_file(
    path: &Path,
    card: Option<ModelCard>,
    preparation: Option<Preparation>,
) -> Result<(FoundModel, Vec<u8>)> {
    if !path.exists() {
        return Err(Error::NotFound {
            what: PathRole::Model,
            path: path.to_owned(),
        });
    }
    let name = path.display().to_string();
    let bytes = read(path, MAX_ONNX_BYTES)?;
    let (graph, whole) = import::read_base(&bytes, parent(path), &name)?;
    let bytes = whole.unwrap_or(bytes);
    let sha256 = hex_sha256(&bytes);
    if card.is_none()
        && preparation.is_none()
        && let Some(found) = base_inside(&graph, path, &sha256)?
    {
        return Ok((found, bytes));
    }
    let has_card = card.is_some();
    let guessed = match card {
        Some(card) => GuessedCard {
            card,
            own_size: None,
            notes: Vec::new(),
            warnings: Vec::new(),
        },
        None => guess_card(&graph, path, preparation)?,
    };
    let layout = guessed.card.preprocess.layout;
    let size_is_guess = !has_card
        && stated_size(&graph, layout)?.is_none()
        && guessed.card.input_size == InputSize::from(USUAL_INPUT_SIZE);
    let found = FoundModel {
        size_is_guess,
        has_card,
        notes: guessed.notes,
        warnings: guessed.warnings,
        ..found(guessed.card, graph, sha256)?
    };
    Ok((found, bytes))
}

/// Folders that are searched for backbones, in this order: `$TL_MODELS`, `models` beside the program or up
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
    folders.extend(data_folder());
    folders
}

fn data_folder() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    data.map(|dir| dir.join("tl/models"))
}

/// The folder for new backbones: `$TL_MODELS`, else the user's data folder.
pub fn models_home() -> PathBuf {
    std::env::var_os("TL_MODELS")
        .map(PathBuf::from)
        .or_else(data_folder)
        .unwrap_or_else(|| PathBuf::from("models"))
}

fn from_card(model: KnownModel, size: Option<InputSize>) -> Result<FoundModel> {
    let card = model.card;
    if let (Some(_), Weights::File(path)) = (&card.hub, &model.weights) {
        return repository::find_of_card(path, card, size);
    }
    let mut folder = PathBuf::new();
    let (bytes, name): (Cow<[u8]>, String) = match &model.weights {
        #[cfg(feature = "embedded-model")]
        Weights::Embedded => (Cow::Borrowed(EMBEDDED), card.name.clone()),
        #[cfg(not(feature = "embedded-model"))]
        Weights::Embedded => return Err(missing(&card)),
        Weights::File(path) => {
            parent(path).clone_into(&mut folder);
            (
                Cow::Owned(read(path, MAX_ONNX_BYTES)?),
                path.display().to_string(),
            )
        }
        Weights::Missing => return Err(missing(&card)),
    };
    let sha256 = hex_sha256(&bytes);
    if !card.sha256.is_empty() && card.sha256 != sha256 {
        return Err(Error::Model {
            model: name,
            problem: format!(
                "the file does not match its card (SHA-256 {sha256}, expected {}); download it again",
                card.sha256
            ),
        });
    }
    let (graph, _) = import::read_base(&bytes, &folder, &card.name)?;
    found(card, graph, sha256)
}

fn missing(card: &ModelCard) -> Error {
    let way = match card.urls.is_empty() && card.hub.is_none() {
        false if card.bytes == 0 => {
            format!("download them with `tl-batch models fetch {}`", card.name)
        }
        false => format!(
            "download them with `tl-batch models fetch {}` ({:.1} MB)",
            card.name,
            card.bytes as f64 / 1e6
        ),
        true => format!(
            "put {} (from {}) in {} or another folder listed in TL_MODELS",
            card.file,
            card.source,
            models_home().display()
        ),
    };
    Error::Model {
        model: card.name.clone(),
        problem: format!("its weights are not on this machine; {way}"),
    }
}

fn found(card: ModelCard, graph: OnnxGraph, sha256: String) -> Result<FoundModel> {
    let tail = match &card.cut {
        Some(cut) => Tail {
            features: cut.clone(),
            logits: card.logits.clone(),
            ..Tail::default()
        },
        None => {
            let shape = input_shape(&graph, card.preprocess.layout, card.input_size);
            find_tail(&graph, shape.ok())?
        }
    };
    Ok(FoundModel {
        card,
        tail,
        unpooled: None,
        graph,
        sha256,
        size_is_guess: false,
        has_card: true,
        notes: Vec::new(),
        warnings: Vec::new(),
    })
}

pub(super) fn from_file(path: &Path) -> Result<FoundModel> {
    let card_path = path.with_extension("toml");
    let card = match card_path.exists() {
        true => Some(read_card(&card_path)?),
        false => None,
    };
    Ok(find_file(path, card, None)?.0)
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_of_the_models_folder_is_known_and_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
            .collect();
        files.sort();
        let own = own_cards();
        assert_eq!(own.len(), CARDS.len());
        assert_eq!(own[0].name, DEFAULT_MODEL);
        let mut names: Vec<String> = own.iter().map(|card| card.name.clone()).collect();
        names.sort();
        assert_eq!(names, files);
        for card in &own {
            assert!(!card.license.is_empty(), "{}", card.name);
            assert!(card.features > 0, "{}", card.name);
            let fetchable = card.bytes > 0 && card.sha256.len() == 64;
            assert!(fetchable || card.urls.is_empty(), "{}", card.name);
            assert_eq!(
                ModelCard::parse(&card.to_toml(), &card.name).unwrap(),
                *card
            );
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_refused_with_the_names_that_there_are() {
        let error = known_model("efficientnet").unwrap_err().to_string();
        assert!(error.contains("vgg16, vgg16-imagenet, vgg19"), "{error}");
        assert!(known_model("../models/vgg16").is_err());
    }
}
