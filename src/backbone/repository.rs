//! Repositories of the Hugging Face Hub: their names, and the network of a folder that has their files.
//!
//! ```text
//! folder ─┬─ onnx/model.onnx, model.onnx ───────────────────► as any ONNX file
//!         └─ config.json, model.safetensors ─► tl_families ─► graph, card
//! ```

use std::path::{Path, PathBuf};

use super::card::{ModelCard, Pool, is_plain_name};
use super::guess::guess_card;
use super::input_size::InputSize;
use super::onnx::OnnxGraph;
use super::tail::Tail;
use super::zoo::{FoundModel, KnownModel, Weights, from_file, hex_sha256, known_model};
use crate::disk::read_text;
use crate::error::{Error, Result};

/// What stands before the name of a repository.
pub(super) const HUB: &str = "hf:";

/// The configuration of a network of timm or transformers.
pub const CONFIG_FILE: &str = "config.json";

/// Its weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Where a repository may have an ONNX file, the first that is there counts.
pub const ONNX_FILES: [&str; 2] = ["onnx/model.onnx", "model.onnx"];

/// Maximum bytes of a configuration: the longest have 21,000 labels and 1 MB.
const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// A repository on the Hugging Face Hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repository<'a> {
    /// Owner and name, as in `timm/resnet18.a1_in1k`.
    pub path: &'a str,
    /// The name alone, which is that of the backbone.
    pub name: &'a str,
    /// Branch, tag or commit, if one was asked for.
    pub revision: Option<&'a str>,
}

impl<'a> Repository<'a> {
    /// The repository that `model` names as `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`; `None` if it names something
    /// else.
    ///
    /// # Errors
    /// [`Error::Parameter`] if what follows is not an owner and a name.
    pub fn parse(model: &'a str) -> Option<Result<Repository<'a>>> {
        let whole = model.strip_prefix(HUB)?;
        let (path, revision) = match whole.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (whole, None),
        };
        Some(match path.split_once('/') {
            Some((owner, name))
                if is_plain_name(owner)
                    && is_plain_name(name)
                    && revision.is_none_or(is_plain_name) =>
            {
                Ok(Repository {
                    path,
                    name,
                    revision,
                })
            }
            _ => Err(Error::Parameter {
                name: "--model",
                value: model.to_owned(),
                problem: "it must be hf:OWNER/NAME or hf:OWNER/NAME@COMMIT, as in hf:timm/resnet18.a1_in1k".into(),
            }),
        })
    }

    /// The backbone that was fetched from it.
    ///
    /// # Errors
    /// [`Error::Model`] if none was, or one of the same name from another repository or commit.
    pub(super) fn known(&self) -> Result<KnownModel> {
        let fail = |problem: String| Error::Model {
            model: format!("{HUB}{}", self.path),
            problem,
        };
        let Ok(known) = known_model(self.name) else {
            return Err(fail(format!(
                "it is not on this machine; download it with `tl-batch models fetch {HUB}{}`",
                self.path
            )));
        };
        let revision = known.card.revision.as_deref();
        match known.card.hub.as_deref() {
            Some(hub) if hub != self.path => Err(fail(format!(
                "the backbone {} on this machine is from {HUB}{hub}; fetch this one into another folder with --to, and set TL_MODELS to it",
                self.name
            ))),
            Some(_)
                if known.weights != Weights::Missing
                    && self.revision.is_some_and(|wanted| revision != Some(wanted)) =>
            {
                Err(fail(format!(
                    "on this machine is commit {}; fetch the other with `tl-batch models fetch {HUB}{}@{}`",
                    revision.unwrap_or("?"),
                    self.path,
                    self.revision.unwrap_or_default()
                )))
            }
            Some(_) => Ok(known),
            None => Err(fail(format!(
                "the name {} belongs to another backbone; use --to with another folder, and set TL_MODELS to it",
                self.name
            ))),
        }
    }
}

/// Checks that the network of `config`, the text of `config.json`, can be built.
///
/// # Errors
/// A clause that says why not.
pub fn check_architecture(config: &str) -> std::result::Result<(), String> {
    tl_families::check(config).map_err(|error| error.to_string())
}

/// The ONNX file in the folder `path`; `None` if it has none.
fn onnx_in(path: &Path) -> Option<PathBuf> {
    ONNX_FILES
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file())
}

/// The network of the folder `path`, for images of `size` if one is given. Its card is the one
/// beside an ONNX file, else what the configuration says.
///
/// # Errors
/// [`Error::Model`] if the folder has no network, or one that cannot be built; [`Error::Parameter`] for a size that it
/// cannot take.
pub(super) fn find(path: &Path, size: Option<InputSize>) -> Result<FoundModel> {
    // A trailing separator or dots have no name.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = whole
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if let Some(onnx) = onnx_in(path) {
        let mut found = from_file(&onnx)?;
        if !found.has_card {
            found.card.name = name.clone();
            found.card.title = name;
        }
        return Ok(found);
    }
    build(path, &name, size)
}

/// Like [`find`], for a backbone that has a card.
///
/// # Errors
/// Like [`find`].
pub(super) fn find_of_card(
    path: &Path,
    card: ModelCard,
    size: Option<InputSize>,
) -> Result<FoundModel> {
    let wanted = size.or(Some(card.input_size));
    let found = find(path, wanted)?;
    Ok(FoundModel {
        tail: match &card.cut {
            Some(cut) => Tail {
                features: cut.clone(),
                logits: card.logits.clone(),
                ..Tail::default()
            },
            None => found.tail,
        },
        card,
        has_card: true,
        size_is_guess: false,
        notes: Vec::new(),
        warnings: Vec::new(),
        ..found
    })
}

/// Builds the network of `config.json` and `model.safetensors` in `path`.
fn build(path: &Path, name: &str, size: Option<InputSize>) -> Result<FoundModel> {
    let fail = |problem: String| Error::Model {
        model: path.display().to_string(),
        problem,
    };
    let (config, weights) = (path.join(CONFIG_FILE), path.join(WEIGHTS_FILE));
    if path.join(format!("{WEIGHTS_FILE}.index.json")).exists() {
        return Err(fail(format!(
            "its weights are in several files; one {WEIGHTS_FILE} is needed"
        )));
    }
    if !config.is_file() || !weights.is_file() {
        return Err(fail(format!(
            "the folder has neither model.onnx nor {CONFIG_FILE} with {WEIGHTS_FILE}"
        )));
    }
    let text = read_text(&config, MAX_CONFIG_BYTES)?;
    let square = size.filter(|size| size.height == size.width);
    let side = square.map(|size| size.height as usize);
    let built = tl_families::build(&text, &weights, side).map_err(|error| match error {
        tl_families::Error::InputSize { problem, .. } => Error::Parameter {
            name: "--input-size",
            value: size.map_or(String::new(), |size| size.to_string()),
            problem,
        },
        tl_families::Error::Io { path, source } => Error::io("read", &path)(source),
        other => fail(other.to_string()),
    })?;
    if let (Some(size), None, false) = (size, square, built.is_size_free) {
        return Err(Error::Parameter {
            name: "--input-size",
            value: size.to_string(),
            problem: format!("{} takes square images only", built.architecture),
        });
    }
    let graph = OnnxGraph::from_proto(built.model, &path.display().to_string())?;
    let sha256 = hex_sha256(&graph.to_bytes());
    let guessed = guess_card(&graph, &weights, None)?;
    let own_size = guessed.own_size;
    let mut card = guessed.card;
    name.clone_into(&mut card.name);
    built.architecture.clone_into(&mut card.title);
    name.clone_into(&mut card.file);
    card.min_size = built.least_size as u32;
    card.parameters = built.parameters;
    card.features = built.feature_width as u64;
    card.pool = match built.last.pool {
        tl_families::Pool::Class => Pool::Cls,
        _ => Pool::Avg,
    };
    let is_tokens = built.last.prefix_tokens > 0 || !built.is_size_free;
    card.prefix_tokens = is_tokens.then_some(built.last.prefix_tokens as u32);
    card.license = built.license.unwrap_or_default();
    card.source = built.source.unwrap_or_default();
    if !built.is_size_free {
        card.input_size = InputSize::from(built.size as u32);
    }
    let logits = match &built.head {
        Some(tl_families::Head::Classes { tensor, classes }) => {
            card.labels = (*classes == 1000).then(|| "imagenet-1k".to_owned());
            Some(tensor.clone())
        }
        _ => None,
    };
    let mut notes = guessed.notes;
    if let (Some(own), false) = (own_size, built.is_size_free)
        && size.is_none()
        && own as usize != built.size
    {
        notes.retain(|note| !note.contains("despite the file next to it"));
        notes.push(format!(
            "{name} takes {0} x {0} px here, {own} x {own} as published; --input-size changes that",
            built.size
        ));
    }
    Ok(FoundModel {
        tail: Tail {
            features: built.features,
            logits,
            ..Tail::default()
        },
        card,
        unpooled: Some(built.last.tensor),
        graph,
        sha256,
        size_is_guess: false,
        has_card: false,
        notes,
        warnings: guessed.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_names_and_paths() {
        let parse =
            |model| Repository::parse(model).map(|parsed| parsed.map_err(|e| e.to_string()));
        assert_eq!(parse("vgg16"), None);
        assert_eq!(parse("timm/resnet18"), None);
        let dino = Repository {
            path: "timm/vit_small_patch14_dinov2.lvd142m",
            name: "vit_small_patch14_dinov2.lvd142m",
            revision: None,
        };
        assert_eq!(
            parse("hf:timm/vit_small_patch14_dinov2.lvd142m"),
            Some(Ok(dino))
        );
        let pinned = Repository {
            revision: Some("0123abc"),
            ..dino
        };
        assert_eq!(
            parse("hf:timm/vit_small_patch14_dinov2.lvd142m@0123abc"),
            Some(Ok(pinned))
        );
        for wrong in [
            "hf:",
            "hf:timm",
            "hf:timm/",
            "hf:/x",
            "hf:a/b/c",
            "hf:../x",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b c",
        ] {
            let error = parse(wrong).unwrap().unwrap_err();
            assert!(error.contains("hf:OWNER/NAME"), "{wrong}: {error}");
        }
    }
}
