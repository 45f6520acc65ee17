//! Fetching a backbone from a repository of the Hugging Face Hub, or from a copy of one.

use std::path::{Path, PathBuf};

use super::models::{FetchConfig, Fetched, write_card};
use crate::backbone::{
    CONFIG_FILE, KnownModel, ModelCard, ONNX_FILES, Repository, WEIGHTS_FILE, Weights,
    check_architecture, find, hex_sha256, models_home,
};
use crate::disk::{create_folder, parent, read, read_text};
use crate::download::{Hub, HubFile, HubListing, Source, Wanted, download};
use crate::error::{Error, PathRole, Result};
use crate::progress::{Event, Progress};

/// Files that say how images are prepared.
const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// Endings of the files in which an ONNX file may keep its weights.
const DATA_ENDINGS: [&str; 2] = ["_data", ".data"];

/// Maximum bytes of a configuration.
const MOST_CONFIG_BYTES: u64 = 16 << 20;

/// Longest part of a repository's name in that of its folder.
const LONGEST_NAME: usize = 80;

/// Maximum bytes of a file of a copied repository.
const MOST_BYTES: u64 = 1 << 33;

/// Where the files come from.
enum Origin {
    Hub(Hub),
    Folder(PathBuf),
}

impl Origin {
    fn of(config: &FetchConfig) -> Origin {
        match config.from.as_deref() {
            None => Origin::Hub(Hub::from_environment(None)),
            Some(from) if from.starts_with("http://") || from.starts_with("https://") => {
                Origin::Hub(Hub::from_environment(Some(from)))
            }
            Some(from) => Origin::Folder(PathBuf::from(from)),
        }
    }

    fn list(&self, repository: &Repository, progress: &Progress) -> Result<HubListing> {
        let folder = match self {
            Origin::Hub(hub) => return hub.list(repository.path, repository.revision, progress),
            Origin::Folder(folder) => folder,
        };
        if !folder.is_dir() {
            return Err(Error::NotFound {
                what: PathRole::Folder,
                path: folder.clone(),
            });
        }
        let mut files = Vec::new();
        for inner in ["", "onnx/"] {
            let Ok(entries) = std::fs::read_dir(folder.join(inner)) else {
                continue;
            };
            let names = entries.flatten().filter(|entry| entry.path().is_file());
            files.extend(
                names.map(|entry| format!("{inner}{}", entry.file_name().to_string_lossy())),
            );
        }
        files.sort();
        Ok(HubListing {
            commit: String::new(),
            files,
            license: None,
        })
    }

    fn fetch(
        &self,
        repository: &Repository,
        commit: &str,
        file: &str,
        to: &Path,
        progress: &Progress,
    ) -> Result<HubFile> {
        let folder = match self {
            Origin::Hub(hub) => return hub.fetch(repository.path, commit, file, to, progress),
            Origin::Folder(folder) => folder,
        };
        let path = folder.join(file);
        let bytes = read(&path, MOST_BYTES)?;
        let sha256 = hex_sha256(&bytes);
        let wanted = Wanted {
            sha256: &sha256,
            bytes: bytes.len() as u64,
            said_by: "the folder",
        };
        drop(bytes);
        download(&Source::File(path.clone()), wanted, to, progress)?;
        Ok(HubFile {
            bytes: wanted.bytes,
            sha256: Some(sha256),
            url: path.display().to_string(),
        })
    }
}

/// The files with the weights, the largest last: `model.safetensors` of a network that can be built, as `built` says,
/// else an ONNX file.
///
/// # Errors
/// [`Error::Model`] if the repository has no network in a form that can be used.
fn weights_of(
    repository: &Repository,
    listing: &HubListing,
    built: std::result::Result<(), String>,
) -> Result<Vec<String>> {
    let has = |name: &&str| listing.files.iter().any(|file| file == name);
    if has(&WEIGHTS_FILE) && built.is_ok() {
        return Ok(vec![WEIGHTS_FILE.to_owned()]);
    }
    let mut files = Vec::new();
    if let Some(onnx) = ONNX_FILES.iter().find(|n| has(n)) {
        let is_data = |file: &&String| {
            file.strip_prefix(onnx)
                .is_some_and(|end| DATA_ENDINGS.contains(&end))
        };
        files.extend(listing.files.iter().filter(is_data).cloned());
        files.push((*onnx).to_owned());
        return Ok(files);
    }
    let is_split = has(&"model.safetensors.index.json");
    let has_other = listing
        .files
        .iter()
        .any(|file| file.ends_with(".bin") || file.ends_with(".pth"));
    let problem = match (built, is_split, has_other) {
        (Err(problem), _, _) if has(&WEIGHTS_FILE) => &problem.clone(),
        (_, true, _) => "its weights are in several files, which cannot be used",
        (_, false, true) => {
            "it has weights for PyTorch only, which are programs and are not run here; convert them to model.safetensors or ONNX"
        }
        _ => "it has neither config.json with model.safetensors nor an ONNX file",
    };
    Err(Error::Model {
        model: format!("hf:{}", repository.path),
        problem: problem.into(),
    })
}

/// Says what the licence of a repository allows, before anything is fetched.
fn tell_license(license: Option<&str>, progress: &Progress) {
    let Some(license) = license else {
        return progress
            .warn("the repository states no licence; ask its authors before you use it");
    };
    let lower = license.to_lowercase();
    let forbids = [
        "-nc",
        "noncommercial",
        "non-commercial",
        "research",
        "dinov3",
        "apple-amlr",
    ];
    match forbids.iter().any(|part| lower.contains(part)) {
        true => progress.warn(format!(
            "licence: {license}, which forbids or restricts commercial use; read it before you use the model"
        )),
        false => progress.info(format!("licence: {license}")),
    }
}

/// Fetches the network of `repository` into a folder of its own, checks that it works, and writes its card, whose name is
/// that of the repository. What was fetched before a stop is not fetched again.
///
/// # Errors
/// [`Error::Model`] if it is no network that can be used; those of [`Hub::fetch`].
pub(super) fn fetch_repository(
    repository: &Repository,
    known: Option<KnownModel>,
    config: &FetchConfig,
    progress: &Progress,
) -> Result<Fetched> {
    let home = config.to.clone().unwrap_or_else(models_home);
    let origin = Origin::of(config);
    let listing = origin.list(repository, progress)?;
    let commit = (!listing.commit.is_empty()).then_some(listing.commit.as_str());
    if let Some(KnownModel {
        card,
        weights: Weights::File(path),
    }) = &known
        && config.to.is_none()
        && commit.is_some()
        && card.revision.as_deref() == commit
        && card.hub.as_deref() == Some(repository.path)
    {
        return Ok(Fetched {
            path: Some(path.clone()),
            bytes: card.bytes,
            was_there: true,
        });
    }
    tell_license(listing.license.as_deref(), progress);
    // One folder a commit: an older one stays whole until the new one is.
    let name = &repository.name[..repository.name.len().min(LONGEST_NAME)];
    let folder_name = match commit {
        Some(commit) => format!("{name}@{}", &commit[..commit.len().min(12)]),
        None => name.to_owned(),
    };
    let folder = home.join(&folder_name);
    create_folder(&folder)?;
    let fetch = |file: &str| {
        let to = folder.join(file);
        create_folder(parent(&to))?;
        origin.fetch(repository, &listing.commit, file, &to, progress)
    };
    for file in [CONFIG_FILE, PROCESSOR_FILE] {
        if listing.files.iter().any(|listed| listed == file) {
            fetch(file)?;
        }
    }
    let config_path = folder.join(CONFIG_FILE);
    let built = match config_path.is_file() {
        true => check_architecture(&read_text(&config_path, MOST_CONFIG_BYTES)?),
        false => {
            Err("it has model.safetensors, but no config.json that says which network it is".into())
        }
    };
    let mut last = HubFile {
        bytes: 0,
        sha256: None,
        url: String::new(),
    };
    for file in weights_of(repository, &listing, built)? {
        last = fetch(&file)?;
    }
    let mut card = card_of(
        &folder,
        repository,
        &listing,
        last.clone(),
        &folder_name,
        progress,
    )?;
    // What is known of it beyond what its files say.
    if let Some(known) = known.map(|known| known.card)
        && known.hub == card.hub
    {
        card.title = known.title;
        card.top1 = known.top1;
        card.gmacs = known.gmacs;
        card.good_for = known.good_for;
    }
    write_card(&home, &card)?;
    progress.emit(Event::Saved {
        path: folder.clone(),
        bytes: last.bytes,
    });
    Ok(Fetched {
        path: Some(folder),
        bytes: last.bytes,
        was_there: false,
    })
}

/// Opens the network in `folder` and writes down what it is.
fn card_of(
    folder: &Path,
    repository: &Repository,
    listing: &HubListing,
    weights: HubFile,
    file: &str,
    progress: &Progress,
) -> Result<ModelCard> {
    // A folder without a separator in its path could be mistaken for a name.
    let path = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    let found = find(&path.to_string_lossy(), None)?;
    for note in &found.notes {
        progress.info_once(note.clone());
    }
    for warning in &found.warnings {
        progress.warn_once(warning.clone());
    }
    let license = listing
        .license
        .clone()
        .unwrap_or_else(|| found.card.license.clone());
    Ok(ModelCard {
        name: repository.name.to_owned(),
        file: file.to_owned(),
        sha256: weights.sha256.unwrap_or_default(),
        bytes: weights.bytes,
        urls: Vec::new(),
        hub: Some(repository.path.to_owned()),
        revision: Some(listing.commit.clone()).filter(|commit| !commit.is_empty()),
        source: format!("https://huggingface.co/{}", repository.path),
        license,
        cut: Some(found.tail.features),
        logits: found.tail.logits,
        ..found.card
    })
}
