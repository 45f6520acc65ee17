//! The available backbones: listing, fetching and adding them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hub::fetch_repository;
use crate::backbone::{
    Backbone, BackboneParams, Detail, FoundModel, InputSize, KnownModel, MAX_CARD_BYTES,
    MAX_ONNX_BYTES, ModelCard, Preparation, Repository, Summary, Weights, find, find_cut,
    find_file, hex_sha256, input_shape, input_size, is_path, is_plain_name, known_model,
    known_models, models_home,
};
use crate::disk::{create_folder, is_there, read, read_text, write_atomic};
use crate::download::{Source, Wanted, download};
use crate::error::{Error, Result, shown};
use crate::progress::{Event, Progress};

/// Order of a list of backbones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelOrder {
    /// By name, the default backbone first.
    #[default]
    Name,
    /// The fewest multiply-adds first, those without a figure last.
    Fastest,
    /// First those that no other beats in ImageNet accuracy with fewer multiply-adds, the fastest first.
    Value,
    /// The highest ImageNet accuracy first, those without a figure last.
    Best,
}

/// Lists the named backbones.
pub fn list_models(order: ModelOrder, progress: &Progress) -> Vec<KnownModel> {
    let mut warnings = Vec::new();
    let mut models = known_models(&mut warnings);
    for warning in warnings {
        progress.warn(warning);
    }
    sort_models(&mut models, order);
    models
}

fn sort_models(models: &mut [KnownModel], order: ModelOrder) {
    let cost = |model: &KnownModel| model.card.gmacs.unwrap_or(f64::INFINITY);
    let accuracy = |model: &KnownModel| model.card.top1.unwrap_or(f64::NEG_INFINITY);
    match order {
        ModelOrder::Name => {}
        ModelOrder::Fastest => models.sort_by(|a, b| cost(a).total_cmp(&cost(b))),
        ModelOrder::Best => models.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a))),
        ModelOrder::Value => {
            let figures: Vec<(f64, f64)> = models.iter().map(|m| (cost(m), accuracy(m))).collect();
            let is_beaten = |model: &KnownModel| {
                let (cost, accuracy) = (cost(model), accuracy(model));
                let is_known = cost.is_finite() && accuracy.is_finite();
                !is_known || figures.iter().any(|&(c, a)| c <= cost && a > accuracy)
            };
            models.sort_by(|a, b| {
                let beaten = is_beaten(a).cmp(&is_beaten(b));
                beaten.then(cost(a).total_cmp(&cost(b)))
            });
        }
    }
}

/// Facts about a backbone: its card, and its graph if the file is on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFacts {
    /// Its card.
    #[serde(flatten)]
    pub card: ModelCard,
    /// Its ONNX file; `None` if it is inside the program or not on this machine.
    pub path: Option<PathBuf>,
    /// Facts from the file; `None` if it is not on this machine.
    pub found: Option<GraphFacts>,
}

/// Facts from a backbone's ONNX file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphFacts {
    /// SHA-256 of the file.
    pub sha256: String,
    /// All parameters, as Keras counts them.
    pub parameters: u64,
    /// The tensor that holds the features.
    pub features: String,
    /// The tensor that holds the ImageNet logits; `None` if there is no classifier.
    pub logits: Option<String>,
    /// Shape of one image's features at the default feature layer, size and pooling.
    pub feature_shape: Vec<usize>,
}

/// Looks up a backbone by name, or an ONNX file by path.
///
/// # Errors
/// Those of [`find`], except that a backbone whose file is not on this machine is not an error.
pub fn show_model(model: &str, progress: &Progress) -> Result<ModelFacts> {
    let name = match Repository::parse(model) {
        Some(repository) => repository?.name,
        None => model,
    };
    let path = match is_path(model) {
        true => Some(PathBuf::from(model)),
        false => match known_model(name)? {
            KnownModel {
                card,
                weights: Weights::Missing,
            } => {
                return Ok(ModelFacts {
                    card,
                    path: None,
                    found: None,
                });
            }
            KnownModel {
                weights: Weights::File(path),
                ..
            } => Some(path),
            KnownModel { .. } => None,
        },
    };
    let found = find(model, None)?;
    tell(&found, progress, "");
    facts(found, path, progress)
}

/// Emits what was guessed about a backbone, followed by `advice`, and what files beside it say.
fn tell(found: &FoundModel, progress: &Progress, advice: &str) {
    for warning in &found.warnings {
        progress.warn_once(format!("{warning}{advice}"));
    }
    for note in &found.notes {
        progress.info_once(note.clone());
    }
}

fn facts(mut found: FoundModel, path: Option<PathBuf>, progress: &Progress) -> Result<ModelFacts> {
    // Their messages were emitted before.
    found.warnings.clear();
    let mut card = found.card.clone();
    let layout = card.preprocess.layout;
    let shape = input_shape(&found.graph, layout, input_size(&card, None)?)?;
    let parameters = Summary::of(&found.graph, shape, layout, Detail::Layers)?.parameters();
    let (sha256, tail) = (found.sha256.clone(), found.tail.clone());
    let backbone = Backbone::from_found(found, &BackboneParams::default())?;
    for warning in backbone.warnings() {
        progress.warn_once(warning.clone());
    }
    card.pool = backbone.id().pool;
    // Detects a network that loads but cannot run, or gives non-finite values for a black image.
    let mut session = backbone.session()?;
    if session.infer()?.iter().any(|value| !value.is_finite()) {
        return Err(Error::Model {
            model: card.name,
            problem: "its features of a black image are not finite numbers".into(),
        });
    }
    Ok(ModelFacts {
        path,
        found: Some(GraphFacts {
            sha256,
            parameters,
            features: tail.features,
            logits: tail.logits,
            feature_shape: backbone.feature_shape().to_vec(),
        }),
        card,
    })
}

/// Configuration of [`fetch_model`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FetchConfig {
    /// Name of the backbone, or a repository on the Hugging Face Hub as `hf:OWNER/NAME`.
    pub name: String,
    /// A folder or `http(s)://` address with the file, of a repository a folder with its files or another hub, instead of the card's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The destination folder; by default the models folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
}

/// Result of [`fetch_model`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The ONNX file; `None` if it is inside the program.
    pub path: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
    /// Whether a complete, verified file existed before.
    pub was_there: bool,
}

/// Fetches the ONNX file of a backbone. The file gets its name only when its size and SHA-256 match the card; a stopped
/// download is resumed.
///
/// # Errors
/// [`Error::Model`] if the backbone is unknown or its card has no size or SHA-256 to check the file against; those of
/// [`download`].
pub fn fetch_model(config: &FetchConfig, progress: &Progress) -> Result<Fetched> {
    if let Some(repository) = Repository::parse(&config.name) {
        let repository = repository?;
        let known = known_model(repository.name).ok();
        return fetch_repository(&repository, known, config, progress);
    }
    let folder = config.to.clone().unwrap_or_else(models_home);
    let (card, has_own_card) = card_to_fetch(config)?;
    if let Some(path) = &card.hub {
        let repository = Repository {
            path,
            name: &card.name,
            revision: card.revision.as_deref(),
        };
        let known = known_model(&card.name).ok();
        return fetch_repository(&repository, known, config, progress);
    }
    if config.to.is_none() && known_model(&card.name).is_ok_and(|m| m.weights == Weights::Embedded)
    {
        return Ok(Fetched {
            path: None,
            bytes: card.bytes,
            was_there: true,
        });
    }
    if card.sha256.is_empty() || card.bytes == 0 {
        return Err(Error::Model {
            model: card.name,
            problem: format!("its file cannot be downloaded; get it by {}", card.source),
        });
    }
    let wanted = Wanted {
        sha256: &card.sha256,
        bytes: card.bytes,
        said_by: "the card",
    };
    let path = folder.join(&card.file);
    let fetched = |was_there| Fetched {
        path: Some(path.clone()),
        bytes: card.bytes,
        was_there,
    };
    if is_right(&path, wanted)? {
        return Ok(fetched(true));
    }
    let sources: Vec<Source> = match &config.from {
        Some(base) => vec![source_within(base, &card.file)?],
        None => card.urls.iter().cloned().map(Source::Url).collect(),
    };
    let mut result = Err(Error::Model {
        model: card.name.clone(),
        problem: format!(
            "its card has no download URL; get it by {}, or use --from",
            card.source
        ),
    });
    for source in &sources {
        if let Err(error @ Error::Download { .. }) = &result {
            progress.warn(error.to_string());
        }
        progress.info(format!("{} from {source}", card.name));
        result = download(source, wanted, &path, progress);
        if !matches!(result, Err(Error::Download { .. })) {
            break;
        }
    }
    result?;
    if has_own_card || config.to.is_some() {
        write_card(&folder, &card)?;
    }
    progress.emit(Event::Saved {
        path: path.clone(),
        bytes: card.bytes,
    });
    Ok(fetched(false))
}

/// The card against which the file is checked: the one in the folder of `--from`, else the known one.
fn card_to_fetch(config: &FetchConfig) -> Result<(ModelCard, bool)> {
    let is_plain = is_plain_name(&config.name);
    if let Some(Source::File(path)) = config
        .from
        .as_ref()
        .map(|base| Source::within(base, &format!("{}.toml", config.name)))
        && is_plain
        && path.exists()
    {
        let text = read_text(&path, MAX_CARD_BYTES)?;
        let card = ModelCard::parse(&text, &path.display().to_string())?;
        if card.name != config.name {
            return Err(Error::Model {
                model: path.display().to_string(),
                problem: format!(
                    "its card is for `{}`, not `{}`; use that name, or rename the card's file",
                    card.name, config.name
                ),
            });
        }
        return Ok((card, true));
    }
    Ok((known_model(&config.name)?.card, false))
}

/// The place of the file `name` in `base`. A link in a folder from elsewhere may only lead into that
/// folder.
fn source_within(base: &str, name: &str) -> Result<Source> {
    let source = Source::within(base, name);
    if let Source::File(path) = &source
        && let (Ok(folder), Ok(file)) = (Path::new(base).canonicalize(), path.canonicalize())
        && !file.starts_with(&folder)
    {
        return Err(Error::Download {
            from: path.display().to_string(),
            problem: format!(
                "it is a link to {}, which is outside the --from folder; put the file itself there",
                shown(&file)
            ),
        });
    }
    Ok(source)
}

fn is_right(path: &Path, wanted: Wanted) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let bytes = read(path, MAX_ONNX_BYTES)?;
    Ok(bytes.len() as u64 == wanted.bytes && hex_sha256(&bytes) == wanted.sha256)
}

pub(super) fn write_card(folder: &Path, card: &ModelCard) -> Result<()> {
    let path = folder.join(format!("{}.toml", card.name));
    write_atomic(&path, card.to_toml().as_bytes())
}

/// Configuration of [`add_model`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddConfig {
    /// The ONNX file.
    pub file: PathBuf,
    /// Its card; by default the `.toml` file beside it, else one is made from the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<PathBuf>,
    /// Name of the backbone; by default the card's, else that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Preprocessing, if there is no card; guessed if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
    /// Height and width of the input in pixels; by default what the card or the graph says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,
    /// The feature layer; by default what the card says, else the last before the classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Source of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The destination folder; by default the models folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
    /// Replace a backbone of the same name.
    #[serde(default, skip_serializing)]
    pub force: bool,
}

/// Adds an ONNX file as a named backbone: finds layout, size, features and logits in its graph, runs it once, and puts
/// file and card where `--model NAME` finds them. Returns its facts.
///
/// # Errors
/// [`Error::Model`] if the file cannot be used; [`Error::OutputExists`] if the name is taken.
pub fn add_model(config: &AddConfig, progress: &Progress) -> Result<ModelFacts> {
    let beside = config.file.with_extension("toml");
    // An explicit preprocessing overrides an existing card.
    let is_told = config.preparation.is_some();
    let card_path = config
        .card
        .clone()
        .or((beside.is_file() && !is_told).then_some(beside));
    let card = match &card_path {
        Some(path) => {
            let text = read_text(path, MAX_CARD_BYTES)?;
            Some(ModelCard::parse(&text, &path.display().to_string())?)
        }
        None => None,
    };
    let (mut found, bytes) = find_file(&config.file, card, config.preparation)?;
    // A saved model carries its backbone's identity; the card describes the file.
    found.sha256 = hex_sha256(&bytes);
    tell(&found, progress, "; give --preprocess if you know");
    complete_card(&mut found, config, bytes.len() as u64)?;
    let facts = facts(found, None, progress)?;
    let mut card = facts.card;
    if let Some(found) = &facts.found {
        card.parameters = found.parameters;
        card.features = found.feature_shape.iter().product::<usize>() as u64;
    }
    let folder = config.to.clone().unwrap_or_else(models_home);
    let path = folder.join(&card.file);
    let in_place = path.canonicalize().ok() == config.file.canonicalize().ok();
    let card_path = folder.join(format!("{}.toml", card.name));
    if !config.force && (is_there(&card_path) || is_there(&path) && !in_place) {
        return Err(Error::OutputExists { path: card_path });
    }
    create_folder(&folder)?;
    if !in_place {
        write_atomic(&path, &bytes)?;
    }
    write_card(&folder, &card)?;
    Ok(ModelFacts {
        card,
        path: Some(path),
        found: facts.found,
    })
}

/// Writes the user's settings and the file's facts into the card.
fn complete_card(found: &mut FoundModel, config: &AddConfig, bytes: u64) -> Result<()> {
    let card = &mut found.card;
    if let Some(name) = &config.name {
        card.name = name.clone();
    }
    if !is_plain_name(&format!("{}.onnx", card.name)) {
        return Err(Error::Parameter {
            name: "--name",
            value: card.name.clone(),
            problem:
                "a name consists of letters, digits, - _ and . and starts with a letter, a digit or _"
                    .into(),
        });
    }
    card.file = format!("{}.onnx", card.name);
    if let Some(size) = config.input_size {
        card.input_size = size;
        found.size_is_guess = false;
    }
    if !card.sha256.is_empty() && card.sha256 != found.sha256 {
        return Err(Error::Model {
            model: config.file.display().to_string(),
            problem: format!(
                "its card describes another file (SHA-256 {}); give the right one with --card",
                card.sha256
            ),
        });
    }
    card.sha256 = found.sha256.clone();
    card.bytes = bytes;
    if let Some(source) = &config.source {
        card.source = source.clone();
    }
    if let Some(license) = &config.license {
        card.license = license.clone();
    }
    if let Some(cut) = &config.cut {
        found.tail.features = find_cut(&found.graph, cut)?;
    }
    card.cut = Some(found.tail.features.clone());
    card.logits = found.tail.logits.clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backbones_are_sorted_by_speed_accuracy_and_both() {
        let model = |name: &str, gmacs, top1| {
            let card = ModelCard {
                name: name.into(),
                gmacs,
                top1,
                ..find("efficientnet-lite0", None).unwrap().card
            };
            KnownModel {
                card,
                weights: Weights::Missing,
            }
        };
        let sorted = |order| {
            let mut models = [
                model("slow", Some(9.0), Some(80.0)),
                model("beaten", Some(5.0), Some(60.0)),
                model("fast", Some(1.0), Some(70.0)),
                model("unknown", None, Some(90.0)),
                model("unlabelled", Some(2.0), None),
            ];
            sort_models(&mut models, order);
            models.map(|model| model.card.name).join(" ")
        };
        assert_eq!(
            sorted(ModelOrder::Name),
            "slow beaten fast unknown unlabelled"
        );
        assert_eq!(
            sorted(ModelOrder::Fastest),
            "fast unlabelled beaten slow unknown"
        );
        assert_eq!(
            sorted(ModelOrder::Best),
            "unknown slow fast beaten unlabelled"
        );
        assert_eq!(
            sorted(ModelOrder::Value),
            "fast slow unlabelled beaten unknown"
        );
    }
}
