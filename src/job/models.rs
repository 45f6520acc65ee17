//! The zoo: which backbones there are, how one is fetched, how a new one is added.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backbone::{
    Backbone, BackboneParams, Detail, FoundModel, InputSize, KnownModel, MAX_CARD_BYTES,
    MAX_ONNX_BYTES, ModelCard, Preparation, Summary, Weights, find, find_cut, find_file,
    hex_sha256, input_shape, input_size, is_plain_name, known_model, known_models, models_home,
};
use crate::disk::{create_folder, is_there, read, read_text, write_atomic};
use crate::download::{Source, Wanted, download};
use crate::error::{Error, Result, shown};
use crate::progress::{Event, Progress};

/// Lists the backbones that can be named, the default first.
pub fn list_models(progress: &Progress) -> Vec<KnownModel> {
    let mut warnings = Vec::new();
    let models = known_models(&mut warnings);
    for warning in warnings {
        progress.warn(warning);
    }
    models
}

/// What is known of a backbone: its card, and what its graph tells if it is on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFacts {
    /// Its card.
    #[serde(flatten)]
    pub card: ModelCard,
    /// Its ONNX file; `None` if it is inside the program or not on this machine.
    pub path: Option<PathBuf>,
    /// What was found in the file; `None` if it is not on this machine.
    pub found: Option<GraphFacts>,
}

/// What a backbone's ONNX file tells.
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
    /// Shape of an image's features at the default cut, size and pooling.
    pub feature_shape: Vec<usize>,
}

/// Looks up a backbone by name, or an ONNX file by path.
///
/// # Errors
/// Those of [`find`], but that a backbone whose file is not on this machine is not an error.
pub fn show_model(model: &str, progress: &Progress) -> Result<ModelFacts> {
    let is_path = model.ends_with(".onnx") || model.contains(['/', '\\']);
    let path = match is_path {
        true => Some(PathBuf::from(model)),
        false => match known_model(model)? {
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
    let found = find(model)?;
    tell(&found, progress, "");
    facts(found, path, progress)
}

/// Says what was guessed of a backbone, with `advice` after it, and what files beside it say.
fn tell(found: &FoundModel, progress: &Progress, advice: &str) {
    for warning in &found.warnings {
        progress.warn_once(format!("{warning}{advice}"));
    }
    for note in &found.notes {
        progress.info_once(note.clone());
    }
}

fn facts(mut found: FoundModel, path: Option<PathBuf>, progress: &Progress) -> Result<ModelFacts> {
    // What these say was said.
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
    // A network that loads but cannot be run, or that makes nonsense of a black image, is found here.
    let mut session = backbone.session()?;
    if session.infer()?.iter().any(|value| !value.is_finite()) {
        return Err(Error::Model {
            model: card.name,
            problem: "its features of a black picture are not finite numbers".into(),
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
    /// Name of the backbone.
    pub name: String,
    /// A folder, or an `http(s)://` address, that has the file, in place of the card's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The folder to put it in; by default the one in which backbones are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
}

/// What [`fetch_model`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The ONNX file; `None` if it is inside the program.
    pub path: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
    /// Whether it was there, whole and right, before.
    pub was_there: bool,
}

/// Brings the ONNX file of a backbone to this machine. It gets its name only when size and SHA-256 are those
/// of its card; what a stopped run left is gone on with.
///
/// # Errors
/// [`Error::Model`] if the backbone is not known or its card has nothing to check the file by; those of
/// [`download`].
pub fn fetch_model(config: &FetchConfig, progress: &Progress) -> Result<Fetched> {
    let folder = config.to.clone().unwrap_or_else(models_home);
    let (card, has_own_card) = card_to_fetch(config)?;
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
            problem: format!("its file cannot be fetched; get it by {}", card.source),
        });
    }
    let wanted = Wanted {
        sha256: &card.sha256,
        bytes: card.bytes,
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
            "its card has no address to fetch it from; get it by {}, or give --from",
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

/// The card by which the file is checked: the one that lies in the folder of `--from`, else the known one.
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
                    "its card is that of `{}`, not of `{}`; ask for that, or name the card's file after it",
                    card.name, config.name
                ),
            });
        }
        return Ok((card, true));
    }
    Ok((known_model(&config.name)?.card, false))
}

/// The place of the file `name` in `base`. A link in a folder that came from elsewhere leads nowhere but into that
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
                "it is a link to {}, which is not in the folder of --from; put the file itself there",
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

fn write_card(folder: &Path, card: &ModelCard) -> Result<()> {
    let path = folder.join(format!("{}.toml", card.name));
    write_atomic(&path, card.to_toml().as_bytes())
}

/// Configuration of [`add_model`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddConfig {
    /// The ONNX file.
    pub file: PathBuf,
    /// Its card; by default the file beside it with the ending `.toml`, else it is made from the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<PathBuf>,
    /// Name of the backbone; by default the card's, else that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How images are prepared, where there is no card; guessed if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
    /// Height and width of the input in pixels; by default what the card or the graph says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,
    /// The layer whose output is the feature; by default what the card says, else the last before the
    /// classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Where the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The folder to put it in; by default the one in which backbones are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
    /// Replace a backbone of the same name.
    #[serde(default, skip_serializing)]
    pub force: bool,
}

/// Takes an ONNX file into the zoo: finds layout, size, features and logits in its graph, runs it once, and
/// puts file and card where `--model NAME` finds them. Returns its facts.
///
/// # Errors
/// [`Error::Model`] if the file cannot be used; [`Error::OutputExists`] if the name is taken.
pub fn add_model(config: &AddConfig, progress: &Progress) -> Result<ModelFacts> {
    let beside = config.file.with_extension("toml");
    // Whoever says how images are prepared does not want another card's word.
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
    // A saved model goes by what its backbone was before; the card is of the file.
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

/// Puts what the user says, and what the file is, into the card.
fn complete_card(found: &mut FoundModel, config: &AddConfig, bytes: u64) -> Result<()> {
    let card = &mut found.card;
    if let Some(name) = &config.name {
        card.name = name.clone();
    }
    if !is_plain_name(&format!("{}.onnx", card.name)) {
        return Err(Error::Parameter {
            name: "name",
            value: card.name.clone(),
            problem:
                "a name has letters, digits and - _ . in it, and begins with a letter, a digit or _"
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
                "its card is that of another file (SHA-256 {}); give the right one with --card",
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
