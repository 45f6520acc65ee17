//! Fine-tuning: the head alone first, then the end of the base and the head jointly.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg32;

use super::checkpoint::{self, Header};
use super::cross_validation::CrossValidation;
use super::finetune_params::{FinetuneParams, ValidFinetuneParams};
use super::fit::{Best, fit};
use super::head_params::{ClassWeights, HeadParams, ValidHeadParams};
use super::metrics::{ConfusionMatrix, first_of};
use super::score::{Score, evaluate, probabilities};
use super::standardizer::Standardizer;
use super::threads::Threads;
use super::trainer::{balanced, parameter, rule, schedule};
use super::tuned::{SHARD, ShardResult, TrainingBatch, TunedModel};
use crate::backbone::TrainableTail;
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::convnet::Workspace;
use crate::nn::loss::cross_entropy_sum;
use crate::nn::{CrossEntropy, Dense, DenseGradient, Optimizer, Parameter, Schedule, l2};
use crate::progress::{EpochStats, Event, Phase, Progress};

/// Where a run that is stopped or killed goes on.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The file.
    pub path: PathBuf,
    /// What identifies the run: the checkpoint of another run is not taken.
    pub fingerprint: String,
    /// Least time between two checkpoints: what a killed run may have to do again, beside one epoch.
    pub interval: Duration,
}

/// What is trained on what, and how.
pub struct Tuning<'a> {
    /// The end of the base.
    pub tail: &'a TrainableTail,
    /// Maps at the tail's cut, a row a picture.
    pub maps: &'a FeatureMatrix,
    /// The class of each row.
    pub labels: &'a [usize],
    /// Number of classes.
    pub classes: usize,
    /// The head, its training alone, and what both trainings share.
    pub head: &'a ValidHeadParams,
    /// The joint training.
    pub params: &'a ValidFinetuneParams,
    /// Threads; the result does not depend on them.
    pub threads: usize,
    /// Where the run goes on if it is stopped or killed; none to begin again.
    pub checkpoint: Option<Checkpoint>,
}

/// What fine-tuning found.
#[derive(Clone, Debug)]
pub struct Finetuned {
    /// Base and head of the best epoch.
    pub model: TunedModel,
    /// Epochs of the head alone.
    pub warmup: Vec<EpochStats>,
    /// Epoch that the head alone was taken from.
    pub warmup_best: usize,
    /// Joint epochs.
    pub history: Vec<EpochStats>,
    /// The joint epoch that the model was taken from; 0 if none was better than the head alone.
    pub best_epoch: usize,
}

/// Trains the head on the features of the frozen base, then the end of the base with it, on the rows
/// `training`; the best joint epoch by the rows `validation` is kept, or the head alone if none is better;
/// without validation rows the last epoch.
///
/// Emits the phases warm-up and tune with an [`Event::Epoch`] after each epoch. The same input, seed and
/// kind of machine give the same bits, whatever the number of threads and however often the run was killed.
///
/// # Errors
/// Those of [`fit`]; [`Error::Diverged`]; [`Error::Cancelled`]; [`Error::Io`] on the checkpoint.
pub fn finetune(
    tuning: &Tuning,
    training: &[usize],
    validation: &[usize],
    progress: &Progress,
    fold: Option<usize>,
) -> Result<Finetuned> {
    let mut run = match Run::resume(tuning, training)? {
        Some(run) => {
            progress.info(format!(
                "goes on after epoch {} of {}",
                run.done.epoch,
                tuning.params.get().tune_epochs
            ));
            run
        }
        None => {
            let run = Run::begin(tuning, training, validation, progress, fold)?;
            run.save(tuning)?;
            run
        }
    };
    let epochs = tuning.params.get().tune_epochs;
    if fold.is_none() {
        progress.phase(Phase::Tune, Some(epochs as u64));
    }
    for stats in &run.done.history {
        progress.emit(Event::Epoch {
            fold,
            stats: *stats,
            class_accuracy: Vec::new(),
        });
    }
    let mut saved = Instant::now();
    while run.done.epoch < epochs {
        run.epoch(tuning, training, validation, progress)?;
        if let Some(&stats) = run.done.history.last() {
            progress.emit(Event::Epoch {
                fold,
                stats,
                class_accuracy: Vec::new(),
            });
        }
        let interval = tuning.checkpoint.as_ref().map(|c| c.interval);
        if interval.is_some_and(|i| saved.elapsed() >= i) || run.done.epoch == epochs {
            run.save(tuning)?;
            saved = Instant::now();
        }
    }
    Ok(Finetuned {
        model: run.best,
        warmup: run.done.warmup,
        warmup_best: run.done.warmup_best,
        history: run.done.history,
        best_epoch: run.done.best_epoch,
    })
}

/// The state of a run between two epochs.
struct Run {
    done: Header,
    model: TunedModel,
    best: TunedModel,
    base_optimizer: Optimizer,
    head_optimizer: Optimizer,
    loss: CrossEntropy,
    schedules: [Schedule; 2],
    /// Derivatives of the loss of a batch by the weights of the network.
    gradients: Vec<Vec<f32>>,
    workspace: Workspace,
}

impl Run {
    /// Trains the head alone.
    fn begin(
        tuning: &Tuning,
        training: &[usize],
        validation: &[usize],
        progress: &Progress,
        fold: Option<usize>,
    ) -> Result<Run> {
        if fold.is_none() {
            let epochs = tuning.head.get().epochs as u64;
            progress.phase(Phase::WarmUp, Some(epochs));
        }
        let mut model = TunedModel::untrained(tuning.tail);
        let rows: Vec<usize> = training.iter().chain(validation).copied().collect();
        let features = model.features(tuning.maps, &rows, tuning.threads, progress)?;
        let features = FeatureMatrix::from_array(features);
        let labels: Vec<usize> = rows.iter().map(|&row| tuning.labels[row]).collect();
        let training_rows: Vec<usize> = (0..training.len()).collect();
        let validation_rows: Vec<usize> = (training.len()..rows.len()).collect();
        let fitted = fit(
            &features,
            &labels,
            tuning.classes,
            &training_rows,
            &validation_rows,
            tuning.head,
            progress,
            fold,
        )?;
        if tuning.head.get().standardize {
            model.standardizer = Standardizer::measure(&features, &training_rows, progress)?;
        }
        model.layers = fitted.head.layers().to_vec();
        if let Some(first) = model.layers.first_mut() {
            *first = model.standardizer.unfold(first);
        }
        let mut best = Best::new(tuning.head.get().monitor);
        if !validation.is_empty() {
            let head = model.head()?;
            let score = evaluate(&head, &features, &labels, &validation_rows, progress)?;
            best.improves(0, Some(&score));
        }
        let done = Header {
            best_value: Some(best.value).filter(|v| v.is_finite()),
            warmup: fitted.history,
            warmup_best: fitted.best_epoch,
            ..Header::default()
        };
        Ok(Run::new(tuning, training, done, model.clone(), model))
    }

    fn new(
        tuning: &Tuning,
        training: &[usize],
        done: Header,
        model: TunedModel,
        best: TunedModel,
    ) -> Run {
        let head = tuning.params.get().joint(tuning.head.get());
        let base = HeadParams {
            learning_rate: tuning.params.get().base_learning_rate,
            ..head.clone()
        };
        let class_weights = match head.class_weights {
            ClassWeights::None => None,
            ClassWeights::Balanced => Some(balanced(tuning.labels, training, tuning.classes)),
        };
        Run {
            done,
            model,
            best,
            base_optimizer: Optimizer::new(rule(&base)),
            head_optimizer: Optimizer::new(rule(&head)),
            loss: CrossEntropy {
                label_smoothing: head.label_smoothing,
                class_weights,
            },
            schedules: [&base, &head].map(|params| schedule(params, training.len())),
            gradients: Vec::new(),
            workspace: Workspace::default(),
        }
    }

    fn epoch(
        &mut self,
        tuning: &Tuning,
        training: &[usize],
        validation: &[usize],
        progress: &Progress,
    ) -> Result<()> {
        let params: &FinetuneParams = tuning.params.get();
        let epoch = self.done.epoch + 1;
        let batch_size = tuning.head.get().batch_size;
        // A generator an epoch: a run that goes on needs no other state.
        let mut rng = Pcg32::new(tuning.head.get().seed, epoch as u64);
        let mut order_rng = Pcg32::from_rng(&mut rng);
        let mut order = training.to_vec();
        order.shuffle(&mut order_rng);
        let (mut sum, mut hits) = (0.0, 0);
        let mut rate = 0.0;
        for (index, rows) in order.chunks(batch_size).enumerate() {
            progress.checkpoint()?;
            let step = (epoch - 1) * order.len().div_ceil(batch_size) + index;
            let batch = TrainingBatch {
                epoch,
                maps: tuning.maps,
                rows,
                labels: tuning.labels,
                loss: &self.loss,
                dropout: tuning.head.get().dropout,
                mixup: tuning.head.get().mixup,
                cutmix: params.cutmix,
                seed: tuning.head.get().seed.wrapping_add(1 + step as u64),
            };
            let results = self.model.train_batch(
                &batch,
                &mut self.gradients,
                &mut self.workspace,
                tuning.threads,
            );
            let loss: f32 = results.iter().map(|r| r.loss).sum();
            if !loss.is_finite() {
                return Err(Error::Diverged { epoch, loss });
            }
            for (result, rows) in results.iter().zip(rows.chunks(SHARD)) {
                let labels: Vec<usize> = rows.iter().map(|&row| tuning.labels[row]).collect();
                sum += cross_entropy_sum(result.logits.view(), &labels);
                let firsts = result.logits.rows().into_iter().map(first_of);
                hits += firsts.zip(&labels).filter(|(a, b)| a == *b).count();
            }
            rate = self.schedules[0].rate(step as u64);
            self.step(tuning, step as u64, results);
        }
        let score = match validation {
            [] => None,
            rows => Some(score(&self.model, tuning, rows, progress)?),
        };
        let loss = score.as_ref().map_or(0.0, |s| s.loss);
        if !loss.is_finite() {
            return Err(Error::Diverged { epoch, loss });
        }
        let mut best = Best::new(tuning.head.get().monitor);
        best.epoch = self.done.best_epoch;
        if let Some(value) = self.done.best_value {
            best.value = value;
            best.started = true;
        }
        if best.improves(epoch, score.as_ref()) {
            self.best = self.model.clone();
        }
        self.done.best_epoch = best.epoch;
        self.done.best_value = Some(best.value).filter(|v| v.is_finite());
        self.done.epoch = epoch;
        self.done.history.push(EpochStats {
            epoch,
            epochs: params.tune_epochs,
            learning_rate: rate,
            loss: (sum / training.len() as f64) as f32,
            accuracy: (hits as f64 / training.len() as f64) as f32,
            val_loss: score.as_ref().map(|s| s.loss),
            val_accuracy: score.as_ref().map(|s| s.accuracy),
            best_epoch: best.epoch,
            patience_left: None,
        });
        Ok(())
    }

    /// One step with the sums of the shards' derivatives.
    fn step(&mut self, tuning: &Tuning, step: u64, results: Vec<ShardResult>) {
        let lambda = tuning.head.get().l2;
        let mut head: Vec<DenseGradient> = Vec::new();
        for result in results {
            if head.is_empty() {
                head = result.head;
            } else {
                for (all, part) in head.iter_mut().zip(&result.head) {
                    all.weights += &part.weights;
                    all.bias += &part.bias;
                }
            }
        }
        if lambda > 0.0 {
            l2::add_gradient(&self.model.layers, lambda, &mut head);
        }
        let [base_rate, head_rate] = self.schedules.map(|schedule| schedule.rate(step));
        let mut parameters = Vec::new();
        let weights = self.model.weights.iter_mut().zip(&tuning.tail.weights);
        for ((values, facts), gradient) in
            weights.zip(&self.gradients).filter(|((_, f), _)| f.trained)
        {
            parameters.push(Parameter {
                values,
                gradient,
                decays: facts.decays,
            });
        }
        let executor = Threads(tuning.threads);
        self.base_optimizer
            .step(base_rate, &mut parameters, &executor);
        let mut parameters = Vec::new();
        for (layer, gradient) in self.model.layers.iter_mut().zip(&head) {
            parameters.extend(parameter(&mut layer.weights, &gradient.weights, true));
            parameters.extend(parameter(&mut layer.bias, &gradient.bias, false));
        }
        self.head_optimizer
            .step(head_rate, &mut parameters, &executor);
    }

    /// Writes the state to the checkpoint, if there is to be one.
    fn save(&self, tuning: &Tuning) -> Result<()> {
        let Some(Checkpoint {
            path, fingerprint, ..
        }) = &tuning.checkpoint
        else {
            return Ok(());
        };
        let (steps, base_moments) = self.base_optimizer.memory();
        let (_, head_moments) = self.head_optimizer.memory();
        let (mean, scale) = self.model.standardizer.parts();
        let header = Header {
            fingerprint: fingerprint.clone(),
            steps,
            standardizer: mean.iter().chain(scale).map(|v| v.to_bits()).collect(),
            ..self.done.clone()
        };
        let mut tensors = Vec::new();
        for model in [&self.model, &self.best] {
            tensors.extend(trained_weights(model, tuning));
            tensors.extend(head_tensors(&model.layers));
        }
        tensors.extend(base_moments);
        tensors.extend(head_moments);
        checkpoint::write(path, &header, &tensors)
    }

    /// The state that an earlier run of the same kind has written.
    fn resume(tuning: &Tuning, training: &[usize]) -> Result<Option<Run>> {
        let Some(Checkpoint {
            path, fingerprint, ..
        }) = &tuning.checkpoint
        else {
            return Ok(None);
        };
        let Some((header, tensors)) = checkpoint::read(path, fingerprint)? else {
            return Ok(None);
        };
        let mut tensors = tensors.into_iter();
        let half = header.standardizer.len() / 2;
        let numbers: Vec<f64> = header
            .standardizer
            .iter()
            .map(|&b| f64::from_bits(b))
            .collect();
        let (mean, scale) = numbers.split_at(half);
        let mut read_model = || -> Option<TunedModel> {
            let mut model = TunedModel::untrained(tuning.tail);
            model.standardizer = Standardizer::from_parts(mean.to_vec(), scale.to_vec());
            for (values, facts) in model.weights.iter_mut().zip(&tuning.tail.weights) {
                if facts.trained {
                    *values = tensors.next().filter(|t| t.len() == values.len())?;
                }
            }
            let mut width = half;
            let hidden = tuning.head.get().hidden.iter().copied();
            for next in hidden.chain([tuning.classes]) {
                let weights = Array2::from_shape_vec((width, next), tensors.next()?).ok()?;
                let bias = Array1::from_vec(tensors.next().filter(|t| t.len() == next)?);
                model.layers.push(Dense { weights, bias });
                width = next;
            }
            Some(model)
        };
        let (Some(model), Some(best)) = (read_model(), read_model()) else {
            return Ok(None);
        };
        let steps = header.steps;
        let mut run = Run::new(tuning, training, header, model, best);
        let rest: Vec<Vec<f32>> = tensors.collect();
        if steps > 0 {
            let trained = tuning.tail.weights.iter().filter(|w| w.trained).count();
            let mut base = rest;
            let head = base.split_off((2 * trained).min(base.len()));
            let rule = rule(tuning.head.get());
            run.base_optimizer = Optimizer::with_memory(rule, steps, base);
            run.head_optimizer = Optimizer::with_memory(rule, steps, head);
        }
        Ok(Some(run))
    }
}

fn trained_weights<'a>(
    model: &'a TunedModel,
    tuning: &'a Tuning,
) -> impl Iterator<Item = &'a [f32]> {
    let weights = model.weights.iter().zip(&tuning.tail.weights);
    weights
        .filter(|(_, facts)| facts.trained)
        .map(|(values, _)| &values[..])
}

fn head_tensors(layers: &[Dense]) -> impl Iterator<Item = &[f32]> {
    layers.iter().flat_map(|layer| {
        let weights = layer.weights.as_slice().unwrap_or_default();
        [weights, layer.bias.as_slice().unwrap_or_default()]
    })
}

/// The results of a model on labelled rows.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn score(
    model: &TunedModel,
    tuning: &Tuning,
    rows: &[usize],
    progress: &Progress,
) -> Result<Score> {
    let features = model.features(tuning.maps, rows, tuning.threads, progress)?;
    let labels: Vec<usize> = rows.iter().map(|&row| tuning.labels[row]).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    let matrix = FeatureMatrix::from_array(features);
    evaluate(&model.head()?, &matrix, &labels, &all, progress)
}

/// Cross-validates fine-tuning: a model for each fold, trained on the other folds for all epochs and with
/// none chosen by the held-out rows.
///
/// Emits [`Event::Epoch`] with the fold in it, and [`Event::FoldDone`].
///
/// # Errors
/// As [`finetune`].
pub fn finetune_folds(
    tuning: &Tuning,
    fold_of: &[usize],
    progress: &Progress,
) -> Result<CrossValidation> {
    let folds = fold_of.iter().max().map_or(0, |largest| largest + 1);
    let head = HeadParams {
        early_stopping: 0,
        ..tuning.head.get().clone()
    };
    let head = head.check()?;
    let mut found = CrossValidation {
        fold_accuracy: Vec::with_capacity(folds),
        predictions: vec![0; fold_of.len()],
        confidences: vec![0.0; fold_of.len()],
        loss: 0.0,
        confusion: ConfusionMatrix::new(tuning.classes),
    };
    let mut sum = 0.0;
    for fold in 0..folds {
        let (held_out, training): (Vec<usize>, Vec<usize>) =
            (0..fold_of.len()).partition(|&row| fold_of[row] == fold);
        let of_fold = Tuning {
            head: &head,
            checkpoint: None,
            ..*tuning
        };
        let tuned = finetune(&of_fold, &training, &[], progress, Some(fold))?;
        let model = &tuned.model;
        let features = model.features(tuning.maps, &held_out, tuning.threads, progress)?;
        let matrix = FeatureMatrix::from_array(features);
        let all: Vec<usize> = (0..held_out.len()).collect();
        let rows = probabilities(&model.head()?, &matrix, &all, progress)?;
        let mut hits = 0;
        for (&row, shares) in held_out.iter().zip(rows.rows()) {
            let first = first_of(shares);
            found.predictions[row] = first;
            found.confidences[row] = shares[first];
            found.confusion.record(tuning.labels[row], first);
            sum -= f64::from(shares[tuning.labels[row]].max(f32::MIN_POSITIVE)).ln();
            hits += usize::from(first == tuning.labels[row]);
        }
        let accuracy = hits as f32 / held_out.len().max(1) as f32;
        found.fold_accuracy.push(accuracy);
        progress.emit(Event::FoldDone {
            fold,
            folds,
            accuracy,
        });
    }
    found.loss = (sum / fold_of.len().max(1) as f64) as f32;
    Ok(found)
}
