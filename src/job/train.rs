//! Trains a head on stored features and saves the model.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::copies::check_copies;
use super::evaluate::picture_scored;
use super::extract::open_backbone;
use super::runner::{JobInfo, JobKind};
use super::save::{Saving, record_of, save_verified};
use crate::backbone::{Backbone, BackboneParams, Detail};
use crate::dataset::{self, Split};
use crate::error::{Error, PathRole, Result, shown};
use crate::features::FeatureStore;
use crate::progress::{Event, Phase, Progress};
use crate::saved_model::{SavedModel, TrainingRecord, Verification, compose};
use crate::train::{self, CrossValidation, Fitted, HeadParams, Score};

/// Number of images whose outputs are recorded in the saved model.
const REFERENCE_IMAGES: usize = 8;

/// How rows are split if the dataset has no splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SplitParams {
    /// Share of each class held out for validation, 0 to below 1.
    pub validation_split: f64,
    /// Share of each class held out for testing, 0 to below 1.
    pub test_split: f64,
}

impl Default for SplitParams {
    fn default() -> Self {
        SplitParams {
            validation_split: 0.2,
            test_split: 0.0,
        }
    }
}

/// Configuration of [`train()`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Folder of the feature store.
    pub features: PathBuf,
    /// The saved model, an ONNX file.
    pub output: PathBuf,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Number of cross-validation folds; 0 for none.
    #[serde(default)]
    pub folds: usize,
    /// The feature layer to use, of a store with several; by default all, concatenated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Name or path of the backbone that computed the features; by default what the store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Stop if identical images are in two classes, or in training and another split.
    #[serde(default)]
    pub strict: bool,
    /// How the rows are split.
    #[serde(flatten)]
    pub split: SplitParams,
    /// The head and its training.
    #[serde(flatten)]
    pub head: HeadParams,
}

impl TrainConfig {
    /// Description of the job for progress displays.
    pub fn job_info(&self) -> JobInfo {
        JobInfo::new(JobKind::Train, self).with_output(&self.output, &self.features)
    }
}

/// Result of training.
#[derive(Debug)]
pub struct TrainReport {
    /// Class names.
    pub classes: Vec<String>,
    /// Parameters of the head.
    pub head_parameters: usize,
    /// Parameters of the frozen backbone.
    pub base_parameters: u64,
    /// The cross-validation, if requested.
    pub cross_validation: Option<CrossValidation>,
    /// Scores on the training, validation and test rows; splits without rows are left out.
    pub scores: Vec<(Split, Score)>,
    /// 1-based epoch that the head was taken from.
    pub best_epoch: usize,
    /// The saved model.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its verification.
    pub verification: Verification,
}

/// Trains a head on the store `config.features` and saves it with its backbone as `config.output`.
///
/// # Errors
/// [`Error::OutputExists`]; those of the store, the backbone and the training; [`Error::NotSame`] if the saved
/// file does not give the results of the trained model.
pub fn train(config: &TrainConfig, progress: &Progress) -> Result<TrainReport> {
    check_output(&config.output, config.force)?;
    config.head.clone().check()?;
    let mut store = FeatureStore::open(&config.features)?;
    if let Some(cut) = &config.cut {
        store = store.narrowed_to(cut)?;
    }
    let id = &store.meta().backbone;
    let params = BackboneParams {
        model: config
            .model
            .clone()
            .unwrap_or_else(|| store.meta().model.clone()),
        input_size: Some(id.input_size),
        cut: Some(id.cut.clone()),
        pool: Some(id.pool),
        prefix_tokens: id.prefix_tokens,
    };
    let backbone = open_backbone(&params, progress)?;
    if backbone.id().sha256 != id.sha256 {
        return Err(Error::Mismatch {
            what: format!("backbone of the feature store {}", shown(&config.features)),
            expected: format!("{} with SHA-256 {}", id.model, id.sha256),
            found: backbone.id().sha256.clone(),
            hint: "give the backbone that computed the features with --model".into(),
        });
    }
    check_divided(
        &store,
        &config.split,
        config.head.seed,
        config.strict,
        progress,
    )?;
    let cross_validation = cross_validate(config, &store, progress)?;
    let report = run(config, config, &store, &backbone, progress)?;
    Ok(TrainReport {
        cross_validation,
        ..report
    })
}

/// Trains and saves, without a cross-validation; the configuration written beside the model is `written`, that of the
/// job started by the user.
pub(super) fn run(
    config: &TrainConfig,
    written: &impl Serialize,
    store: &FeatureStore,
    backbone: &Backbone,
    progress: &Progress,
) -> Result<TrainReport> {
    let params = config.head.clone().check()?;
    let labels = store.labels()?;
    let classes = &store.meta().classes;
    require_two_classes(store, &labels)?;
    let rows = partition(store, &labels, &config.split, config.head.seed)?;
    progress.phase(Phase::Train, Some(config.head.epochs as u64));
    let fitted = train::fit(
        store.matrix(),
        &labels,
        classes.len(),
        &rows.training,
        &rows.validation,
        &params,
        progress,
        None,
    )?;
    let scores = score(&fitted, store, &labels, &rows, progress)?;
    progress.phase(Phase::Save, None);
    let record = record_of(
        backbone,
        &fitted.head,
        store,
        TrainingRecord {
            history: fitted.history.clone(),
            best_epoch: fitted.best_epoch,
            ..training_record(store, &config.head, &config.split, &rows)
        },
    );
    let model = SavedModel::new(compose(backbone, &fitted.head)?, record)?;
    let saving = Saving {
        store,
        chosen: choose_references(store, &labels, &rows),
        config: written,
        output: &config.output,
        head: &fitted.head,
    };
    let (bytes, verification) = save_verified(
        model,
        &saving,
        "trained head",
        |rows| train::probabilities(&fitted.head, store.matrix(), rows, progress),
        progress,
    )?;
    Ok(TrainReport {
        classes: classes.clone(),
        head_parameters: fitted.head.parameters(),
        base_parameters: backbone.summary(Detail::Layers)?.parameters(),
        cross_validation: None,
        scores,
        best_epoch: fitted.best_epoch,
        output: config.output.clone(),
        bytes,
        verification,
    })
}

/// Refuses an output that already exists or is invalid.
pub(super) fn check_output(output: &Path, force: bool) -> Result<()> {
    if output.is_dir() {
        return Err(Error::Parameter {
            name: "--output",
            value: output.display().to_string(),
            problem: "this is a folder; give a file name".into(),
        });
    }
    if output.exists() && !force {
        return Err(Error::OutputExists {
            path: output.to_owned(),
        });
    }
    let folder = crate::disk::parent(output);
    if !folder.is_dir() {
        return Err(Error::NotFound {
            what: PathRole::OutputFolder,
            path: folder.to_owned(),
        });
    }
    Ok(())
}

pub(super) fn require_two_classes(store: &FeatureStore, labels: &[usize]) -> Result<()> {
    let present: HashSet<usize> = labels.iter().copied().collect();
    if present.len() >= 2 {
        return Ok(());
    }
    let names: Vec<&str> = store.meta().classes.iter().map(String::as_str).collect();
    Err(Error::Dataset {
        path: PathBuf::from(&store.meta().dataset),
        problem: format!(
            "it has only 1 class ({}); training needs at least 2, each in its own folder",
            names.join(", ")
        ),
    })
}

/// The cross-validation requested by `config`, if any.
pub(super) fn cross_validate(
    config: &TrainConfig,
    store: &FeatureStore,
    progress: &Progress,
) -> Result<Option<CrossValidation>> {
    let labels = store.labels()?;
    require_two_classes(store, &labels)?;
    let folds = config.folds;
    if folds == 0 {
        return Ok(None);
    }
    if folds < 2 || folds > labels.len() {
        return Err(Error::Parameter {
            name: "--folds",
            value: folds.to_string(),
            problem: format!("must be from 2 to {}, or 0 for none", labels.len()),
        });
    }
    let head = config.head.clone().check()?;
    progress.phase(Phase::Train, Some((folds * config.head.epochs) as u64));
    let fold_of = dataset::stratified_folds(&labels, folds, config.head.seed);
    train::cross_validate(
        store.matrix(),
        &labels,
        store.meta().classes.len(),
        &fold_of,
        &head,
        progress,
    )
    .map(Some)
}

/// Row numbers of the three splits.
pub(super) struct Rows {
    pub training: Vec<usize>,
    pub validation: Vec<usize>,
    pub test: Vec<usize>,
}

impl Rows {
    /// The splits with their rows.
    pub fn splits(&self) -> [(Split, &Vec<usize>); 3] {
        [
            (Split::Training, &self.training),
            (Split::Validation, &self.validation),
            (Split::Test, &self.test),
        ]
    }
}

/// Splits the rows: as the dataset says, else stratified and seeded.
pub(super) fn partition(
    store: &FeatureStore,
    labels: &[usize],
    split: &SplitParams,
    seed: u64,
) -> Result<Rows> {
    let given: Vec<Option<Split>> = store.index().iter().map(|row| row.split).collect();
    let (validation, test) = (split.validation_split, split.test_split);
    let splits = dataset::divide(&given, labels, validation, test, seed)?;
    let rows_of = |wanted| {
        (0..splits.len())
            .filter(|&row| splits[row] == wanted)
            .collect()
    };
    Ok(Rows {
        training: rows_of(Split::Training),
        validation: rows_of(Split::Validation),
        test: rows_of(Split::Test),
    })
}

/// Refuses a store that cannot be trained on, and warns of images that make scores wrong: see [`check_copies`]. Classes
/// without a training row are reported when the dataset is scanned.
pub(super) fn check_divided(
    store: &FeatureStore,
    split: &SplitParams,
    seed: u64,
    strict: bool,
    progress: &Progress,
) -> Result<()> {
    let labels = store.labels()?;
    let rows = partition(store, &labels, split, seed)?;
    if rows.training.is_empty() {
        return Err(Error::Dataset {
            path: PathBuf::from(&store.meta().dataset),
            problem: "it has validation and test images, but no training images; put training images in a folder `train`"
                .into(),
        });
    }
    let mut splits = vec![None; labels.len()];
    for (split, rows) in rows.splits() {
        for &row in rows {
            splits[row] = Some(split);
        }
    }
    check_copies(store, &splits, strict, progress)
}

/// Rows used for training at some point: all of them in a cross-validation.
pub(super) fn rows_to_train_on(
    store: &FeatureStore,
    split: &SplitParams,
    seed: u64,
    folds: usize,
) -> Result<Vec<usize>> {
    let labels = store.labels()?;
    match folds {
        0 => Ok(partition(store, &labels, split, seed)?.training),
        _ => Ok((0..labels.len()).collect()),
    }
}

fn score(
    fitted: &Fitted,
    store: &FeatureStore,
    labels: &[usize],
    rows: &Rows,
    progress: &Progress,
) -> Result<Vec<(Split, Score)>> {
    progress.phase(Phase::Evaluate, None);
    let mut scores = Vec::new();
    for (split, rows) in rows
        .splits()
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
    {
        let score = train::evaluate(&fitted.head, store.matrix(), labels, rows, progress)?;
        if split != Split::Training || rows.len() == labels.len() {
            tell_pictures(fitted, store, labels, (split, rows), progress)?;
        }
        progress.emit(evaluated(split, &score, store));
        scores.push((split, score));
    }
    Ok(scores)
}

/// Emits the head's prediction for each image of a split.
fn tell_pictures(
    fitted: &Fitted,
    store: &FeatureStore,
    labels: &[usize],
    (split, rows): (Split, &[usize]),
    progress: &Progress,
) -> Result<()> {
    /// Number of rows whose probabilities are in memory at a time.
    const CHUNK: usize = 256;
    for chunk in rows.chunks(CHUNK) {
        let found = train::probabilities(&fitted.head, store.matrix(), chunk, progress)?;
        for (&row, values) in chunk.iter().zip(found.rows()) {
            let path = &store.index()[row].path;
            progress.emit(picture_scored(
                split.name(),
                path,
                labels[row],
                &values.to_vec(),
            ));
        }
    }
    Ok(())
}

pub(super) fn evaluated(split: Split, score: &Score, store: &FeatureStore) -> Event {
    Event::Evaluated {
        split: split.name().to_owned(),
        images: score.rows,
        accuracy: score.accuracy,
        loss: score.loss,
        classes: store.meta().classes.clone(),
        confusion: score.confusion.to_rows(),
    }
}

/// The part of a saved model's record about its data and head; the epochs are added later.
pub(super) fn training_record(
    store: &FeatureStore,
    head: &HeadParams,
    split: &SplitParams,
    rows: &Rows,
) -> TrainingRecord {
    TrainingRecord {
        dataset: store.meta().dataset.clone(),
        head: head.clone(),
        validation_split: split.validation_split,
        test_split: split.test_split,
        training_images: rows.training.len(),
        validation_images: rows.validation.len(),
        test_images: rows.test.len(),
        history: Vec::new(),
        best_epoch: 0,
        finetune: None,
    }
}

/// Chooses the rows whose outputs are recorded: one of each class in turn, held-out rows first.
pub(super) fn choose_references(store: &FeatureStore, labels: &[usize], rows: &Rows) -> Vec<usize> {
    let classes = store.meta().classes.len();
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for &row in rows
        .validation
        .iter()
        .chain(&rows.test)
        .chain(&rows.training)
    {
        by_class[labels[row]].push(row);
    }
    let deepest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    (0..deepest)
        .flat_map(|i| by_class.iter().filter_map(move |rows| rows.get(i).copied()))
        .take(REFERENCE_IMAGES)
        .collect()
}
