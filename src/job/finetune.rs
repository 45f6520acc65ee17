//! Fine-tuning, from images to a saved and verified model: runs the frozen layers once, trains the head alone, then the
//! end of the backbone with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::extract::{self, ExtractConfig};
use super::fit::FitConfig;
use super::recipe::Recipe;
use super::runner::{JobInfo, JobKind};
use super::save::{Saving, record_of, save_verified};
use super::train::{
    Rows, SplitParams, TrainReport, check_divided, check_output, choose_references, evaluated,
    partition, require_two_classes, rows_to_train_on, training_record,
};
use super::views::{AugmentParams, ViewSource, attach_views};
use crate::backbone::{
    Backbone, BackboneParams, Detail, Pool, TrainableTail, find_cut, hex_sha256, is_path,
};
use crate::counts::count;
use crate::dataset::{self, Layout};
use crate::disk;
use crate::error::{Error, Result};
use crate::features::{FeatureMatrix, FeatureStore, PipelineParams};
use crate::foreign::data_fault;
use crate::progress::{Phase, Progress};
use crate::saved_model::{FinetuneRecord, SavedModel, TrainingRecord, compose_tuned};
use crate::train::{
    self, Checkpoint, CrossValidation, FinetuneInputs, FinetuneParams, Finetuned, HeadParams,
    ValidFinetuneParams, ValidHeadParams,
};

/// Minimum time between two checkpoints: one of VGG16's last block has 113 MB.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Configuration of [`finetune`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FinetuneConfig {
    /// Folder of images: class folders.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// The saved model, an ONNX file.
    pub output: PathBuf,
    /// Folder of the feature maps at the cut; by default beside the output, ending `.maps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<PathBuf>,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Number of cross-validation folds; 0 for none.
    #[serde(default)]
    pub folds: usize,
    /// The backbone (a name, a path or a saved model) and where it ends.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
    /// How the images are split.
    #[serde(flatten)]
    pub split: SplitParams,
    /// The head and its training.
    #[serde(flatten)]
    pub head: HeadParams,
    /// The joint training.
    #[serde(flatten)]
    pub finetune: FinetuneParams,
    /// How training images are augmented.
    #[serde(flatten)]
    pub augment: AugmentParams,
}

impl FinetuneConfig {
    /// Description of the job for progress displays.
    pub fn job_info(&self) -> JobInfo {
        JobInfo::new(JobKind::Finetune, self).with_output(&self.output, &self.store())
    }

    /// The settings of the recipe `finetune`, from those of `fit`.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be taken over.
    pub fn of_recipe(config: &FitConfig) -> Result<FinetuneConfig> {
        let fail = |problem: String| Error::Config {
            path: PathBuf::from("of the recipe finetune"),
            problem,
        };
        let mut table = toml::Table::try_from(config).map_err(|e| fail(data_fault(&e)))?;
        Recipe::Finetune
            .fill(&mut table)
            .map_err(|e| fail(data_fault(&e)))?;
        let mut taken: FinetuneConfig = table.try_into().map_err(|e| fail(data_fault(&e)))?;
        taken.force = config.force;
        Ok(taken)
    }

    /// Folder of the feature maps at the cut.
    pub fn store(&self) -> PathBuf {
        self.maps
            .clone()
            .unwrap_or_else(|| self.output.with_extension("maps"))
    }
}

/// Result of fine-tuning.
#[derive(Debug)]
pub struct FinetuneReport {
    /// The first layer that was trained.
    pub first_layer: String,
    /// Joint epochs.
    pub epochs: usize,
    /// Loss and accuracy on the validation images after training the head alone.
    pub head_alone: Option<(f32, f32)>,
    /// The result: `best_epoch` counts joint epochs, 0 being the head alone; the head's parameters include those
    /// trained in the backbone.
    pub trained: TrainReport,
}

/// Runs the frozen layers once over every image, trains the head alone, then the end of the backbone with it, saves,
/// reloads and verifies. Resumes an earlier run.
///
/// # Errors
/// [`Error::OutputExists`]; those of [`TrainableTail::of`], [`super::extract()`] and [`train::finetune()`];
/// [`Error::NotSame`] if the saved file does not give the results of what was trained.
pub fn finetune(config: &FinetuneConfig, progress: &Progress) -> Result<FinetuneReport> {
    run(config, None, progress)
}

/// [`finetune`] with the result of its cross-validation, if known.
pub(super) fn run(
    config: &FinetuneConfig,
    known: Option<CrossValidation>,
    progress: &Progress,
) -> Result<FinetuneReport> {
    check_output(&config.output, config.force)?;
    let prepared = Prepared::open(config, progress)?;
    let checkpoint = config.output.with_extension("checkpoint");
    let inputs = FinetuneInputs {
        checkpoint: Some(Checkpoint {
            path: checkpoint.clone(),
            fingerprint: fingerprint(config, &prepared),
            interval: CHECKPOINT_INTERVAL,
        }),
        ..prepared.inputs(config)
    };
    let cross_validation = match (known, config.folds) {
        (Some(known), _) => Some(known),
        (None, 0) => None,
        (None, folds) => Some(cross_validate(config, &inputs, folds, progress)?),
    };
    let rows = &prepared.rows;
    let tuned = train::finetune(&inputs, &rows.training, &rows.validation, progress, None)?;
    let report = save(config, &prepared, &inputs, &tuned, progress)?;
    disk::remove_file(&checkpoint)?;
    let alone = tuned
        .warmup_best
        .checked_sub(1)
        .and_then(|i| tuned.warmup.get(i));
    Ok(FinetuneReport {
        first_layer: prepared.tail.first_layer.clone(),
        epochs: config.finetune.tune_epochs,
        head_alone: alone.and_then(|stats| Some((stats.val_loss?, stats.val_accuracy?))),
        trained: TrainReport {
            cross_validation,
            ..report
        },
    })
}

/// The cross-validation of [`finetune`] alone.
pub(super) fn cross_validated(
    config: &FinetuneConfig,
    progress: &Progress,
) -> Result<CrossValidation> {
    let prepared = Prepared::open(config, progress)?;
    cross_validate(config, &prepared.inputs(config), config.folds, progress)
}

/// The state before the first step.
struct Prepared {
    head: ValidHeadParams,
    params: ValidFinetuneParams,
    backbone: Backbone,
    tail: TrainableTail,
    /// Feature maps at the tail's cut.
    store: FeatureStore,
    labels: Vec<usize>,
    rows: Rows,
}

impl Prepared {
    /// Checks the settings, and runs the frozen layers over every image that is not stored yet.
    fn open(config: &FinetuneConfig, progress: &Progress) -> Result<Prepared> {
        let head = config.head.clone().check()?;
        let params = config.finetune.clone().check()?;
        let (backbone_params, sha256) = base_of(&config.backbone, progress)?;
        let extract_config = ExtractConfig {
            dataset: config.dataset.clone(),
            labels: config.labels.clone(),
            layout: config.layout,
            out: config.store(),
            force: false,
            backbone: backbone_params.clone(),
            pipeline: config.pipeline.clone(),
        };
        let dataset = extract::open_training_set(&extract_config.source(), progress)?;
        let backbone = extract::open_backbone(&backbone_params, progress)?;
        if let Some(expected) = sha256.filter(|sha256| *sha256 != backbone.id().sha256) {
            return Err(Error::Mismatch {
                what: format!("backbone of {}", config.backbone.model),
                expected: format!("{} with SHA-256 {expected}", backbone.id().model),
                found: backbone.id().sha256.clone(),
                hint: "give the backbone itself, by name or path".into(),
            });
        }
        let tail = TrainableTail::of(
            &backbone,
            &config.finetune.unfreeze_from,
            config.finetune.train_batchnorm,
        )?;
        progress.info(format!(
            "training {} of {}, from {} on; the layers up to {} are frozen and run once per image",
            count(tail.trained_parameters(), "parameter"),
            backbone.id().model,
            tail.first_layer,
            tail.cut
        ));
        let store = run_prefix(
            config,
            &extract_config,
            &dataset,
            &backbone,
            &tail,
            progress,
        )?;
        let labels = store.labels()?;
        require_two_classes(&store, &labels)?;
        check_divided(
            &store,
            &config.split,
            config.head.seed,
            config.pipeline.strict,
            progress,
        )?;
        let rows = partition(&store, &labels, &config.split, config.head.seed)?;
        Ok(Prepared {
            head,
            params,
            backbone,
            tail,
            store,
            labels,
            rows,
        })
    }

    /// What is trained, without a checkpoint.
    fn inputs(&self, config: &FinetuneConfig) -> FinetuneInputs<'_> {
        FinetuneInputs {
            tail: &self.tail,
            maps: self.store.matrix(),
            labels: &self.labels,
            classes: self.store.meta().classes.len(),
            head: &self.head,
            params: &self.params,
            threads: config.pipeline.worker_count(),
            checkpoint: None,
        }
    }
}

/// The backbone to train: for a saved model the one in its file if that is float32, otherwise the one from which the
/// model was made, with its SHA-256.
fn base_of(
    params: &BackboneParams,
    progress: &Progress,
) -> Result<(BackboneParams, Option<String>)> {
    let path = Path::new(&params.model);
    if !path.is_file() {
        return Ok((params.clone(), None));
    }
    // Errors in the file are reported when it is opened as a backbone.
    let Ok(Some(saved)) = SavedModel::open_if_saved(path) else {
        return Ok((params.clone(), None));
    };
    let record = saved.record();
    let id = &record.backbone;
    let cut = params.cut.clone().unwrap_or_else(|| id.cut.clone());
    let mut cuts = cut.as_slice().iter();
    let is_inside =
        record.quantization.is_none() && cuts.all(|cut| find_cut(saved.graph(), cut).is_ok());
    let (model, which) = match is_inside {
        true if record.training.finetune.is_some() => (params.model.clone(), "fine-tuned "),
        true => (params.model.clone(), ""),
        false => (record.base_source(path)?, ""),
    };
    progress.info(format!(
        "{} is a saved model: training its {which}backbone {} with a new head",
        params.model, id.model
    ));
    let found = BackboneParams {
        // Without a separator it could be mistaken for a name.
        model: if is_path(&model) || !is_inside {
            model
        } else {
            format!("./{model}")
        },
        input_size: params.input_size.or(Some(id.input_size)),
        cut: Some(cut),
        pool: params.pool.or(Some(id.pool)),
        prefix_tokens: params.prefix_tokens.or(id.prefix_tokens),
    };
    Ok((found, (!is_inside).then(|| id.sha256.clone())))
}

/// Fills the stores of feature maps at the cut, also for augmented views.
fn run_prefix(
    config: &FinetuneConfig,
    extract_config: &ExtractConfig,
    dataset: &dataset::Dataset,
    backbone: &Backbone,
    tail: &TrainableTail,
    progress: &Progress,
) -> Result<FeatureStore> {
    let extract_config = ExtractConfig {
        backbone: BackboneParams {
            model: extract_config.backbone.model.clone(),
            input_size: Some(backbone.id().input_size),
            cut: Some(tail.cut.clone().into()),
            pool: Some(Pool::None),
            prefix_tokens: None,
        },
        ..extract_config.clone()
    };
    let prefix = Backbone::open(&extract_config.backbone)?;
    let mut store = extract::or_replace(&config.store(), config.force, progress, || {
        extract::run(&extract_config, dataset, &prefix, progress)
    })?;
    let source = ViewSource {
        dataset,
        backbone: &prefix,
        pipeline: &config.pipeline,
        replace: config.force,
        params: &config.augment,
        seed: config.head.seed,
        epochs: config.finetune.tune_epochs,
        folder: &config.store().with_added_extension("views"),
    };
    let rows = rows_to_train_on(&store, &config.split, config.head.seed, config.folds)?;
    attach_views(&mut store, &rows, &source, progress)?;
    Ok(store)
}

/// What must match to resume a checkpoint: parameters, images, splits, and feature maps.
fn fingerprint(config: &FinetuneConfig, prepared: &Prepared) -> String {
    let Prepared { store, rows, .. } = prepared;
    let pictures: Vec<&str> = store
        .index()
        .iter()
        .map(|row| row.source.sha256.as_str())
        .collect();
    let facts = serde_json::json!({
        "head": config.head,
        "finetune": config.finetune,
        "augment": config.augment,
        "pool": config.backbone.pool,
        "cut": config.backbone.cut,
        "maps": store.meta().backbone,
        "dtype": store.meta().dtype,
        "pictures": pictures,
        "labels": prepared.labels,
        "training": rows.training,
        "validation": rows.validation,
        "machine": crate::saved_model::machine_kind(),
    });
    hex_sha256(facts.to_string().as_bytes())
}

fn cross_validate(
    config: &FinetuneConfig,
    inputs: &FinetuneInputs,
    folds: usize,
    progress: &Progress,
) -> Result<CrossValidation> {
    let pictures = inputs.labels.len();
    if folds < 2 || folds > pictures {
        return Err(Error::Parameter {
            name: "--folds",
            value: folds.to_string(),
            problem: format!("must be from 2 to {pictures}, or 0 for none"),
        });
    }
    let epochs = config.head.epochs + config.finetune.tune_epochs;
    progress.phase(Phase::Tune, Some((folds * epochs) as u64));
    let fold_of = dataset::stratified_folds(inputs.labels, folds, config.head.seed);
    train::finetune_folds(inputs, &fold_of, progress)
}

fn save(
    config: &FinetuneConfig,
    prepared: &Prepared,
    inputs: &FinetuneInputs,
    tuned: &Finetuned,
    progress: &Progress,
) -> Result<TrainReport> {
    let Prepared {
        backbone,
        store,
        rows,
        ..
    } = prepared;
    progress.phase(Phase::Evaluate, None);
    let mut scores = Vec::new();
    for (split, rows) in rows.splits().into_iter().filter(|(_, r)| !r.is_empty()) {
        let score = train::score(&tuned.model, inputs, rows, progress)?;
        progress.emit(evaluated(split, &score, store));
        scores.push((split, score));
    }
    progress.phase(Phase::Save, None);
    let head = tuned.model.head()?;
    let facts = inputs.tail.weights.iter().enumerate();
    let weights: Vec<(&str, &[f32])> = facts
        .filter(|(_, facts)| facts.trained)
        .map(|(number, facts)| (facts.name.as_str(), tuned.model.weight(number)))
        .collect();
    let trained = inputs.tail.trained_parameters();
    let record = record_of(
        backbone,
        &head,
        store,
        TrainingRecord {
            history: tuned.warmup.clone(),
            best_epoch: tuned.warmup_best,
            finetune: Some(FinetuneRecord {
                params: config.finetune.clone(),
                first_layer: inputs.tail.first_layer.clone(),
                trained_parameters: trained,
                history: tuned.history.clone(),
                best_epoch: tuned.best_epoch,
            }),
            ..training_record(store, &config.head, &config.split, rows)
        },
    );
    let model = SavedModel::new(compose_tuned(backbone, &weights, &head)?, record)?;
    let from_maps = |rows: &[usize]| {
        let features = tuned
            .model
            .features(store.matrix(), rows, inputs.threads, progress)?;
        let all: Vec<usize> = (0..rows.len()).collect();
        let matrix = FeatureMatrix::from_array(features);
        train::probabilities(&head, &matrix, &all, progress)
    };
    let saving = Saving {
        store,
        chosen: choose_references(store, inputs.labels, rows),
        config,
        output: &config.output,
        head: &head,
    };
    let (bytes, verification) =
        save_verified(model, &saving, "trained network", from_maps, progress)?;
    Ok(TrainReport {
        classes: store.meta().classes.clone(),
        head_parameters: head.parameters() + trained as usize,
        base_parameters: backbone
            .summary(Detail::Layers)?
            .parameters()
            .saturating_sub(trained),
        cross_validation: None,
        scores,
        best_epoch: tuned.best_epoch,
        output: config.output.clone(),
        bytes,
        verification,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Views;

    #[test]
    fn the_recipe_takes_the_settings_of_fit_over() {
        let mut config = FitConfig {
            dataset: "photos".into(),
            output: "photos.onnx".into(),
            recipe: Recipe::Finetune,
            force: true,
            ..FitConfig::default()
        };
        config.head.epochs = 7;
        config.augment.views = Views::Kept(2);
        let taken = FinetuneConfig::of_recipe(&config).unwrap();
        assert_eq!(taken.dataset, config.dataset);
        assert_eq!(taken.output, config.output);
        assert_eq!(taken.head, config.head);
        assert_eq!(taken.augment, config.augment);
        assert_eq!(taken.finetune.unfreeze_from, "50%");
        assert!(taken.force);
    }
}
