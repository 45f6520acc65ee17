//! The state of fine-tuning between two epochs, in memory and on disk.

use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg32;

use super::{Checkpoint, FinetuneInputs, score};
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::convnet::Workspace;
use crate::nn::loss::cross_entropy_sum;
use crate::nn::{CrossEntropy, Dense, DenseGradient, Optimizer, Parameter, Schedule, l2};
use crate::progress::{EpochStats, Phase, Progress};
use crate::train::checkpoint::{self, Header};
use crate::train::finetune_params::FinetuneParams;
use crate::train::fit::{Best, fit};
use crate::train::head_params::{ClassWeights, HeadParams};
use crate::train::metrics::first_of;
use crate::train::score::evaluate;
use crate::train::standardizer::Standardizer;
use crate::train::threads::Threads;
use crate::train::trainer::{balanced, parameter, rule, schedule};
use crate::train::tuned::{SHARD, ShardResult, TrainingBatch, TunedModel};

/// The state of a run between two epochs.
pub(super) struct Run {
    pub(super) done: Header,
    pub(super) model: TunedModel,
    pub(super) best: TunedModel,
    /// The head alone: the starting point of the joint epochs.
    start: TunedModel,
    base_optimizer: Optimizer,
    head_optimizer: Optimizer,
    loss: CrossEntropy,
    schedules: [Schedule; 2],
    /// Gradients of a batch's loss with respect to the network's weights.
    gradients: Vec<Vec<f32>>,
    workspace: Workspace,
}

impl Run {
    /// Trains the head alone.
    pub(super) fn begin(
        inputs: &FinetuneInputs,
        training: &[usize],
        validation: &[usize],
        progress: &Progress,
        fold: Option<usize>,
    ) -> Result<Run> {
        if fold.is_none() {
            let epochs = inputs.head.get().epochs as u64;
            progress.phase(Phase::WarmUp, Some(epochs));
        }
        let mut model = TunedModel::untrained(inputs.tail);
        let rows: Vec<usize> = training.iter().chain(validation).copied().collect();
        let features = model.features(inputs.maps, &rows, inputs.threads, progress)?;
        let features = FeatureMatrix::from_array(features);
        let labels: Vec<usize> = rows.iter().map(|&row| inputs.labels[row]).collect();
        let training_rows: Vec<usize> = (0..training.len()).collect();
        let validation_rows: Vec<usize> = (training.len()..rows.len()).collect();
        let fitted = fit(
            &features,
            &labels,
            inputs.classes,
            &training_rows,
            &validation_rows,
            inputs.head,
            progress,
            fold,
        )?;
        model.standardizer = fitted.standardizer;
        model.layers = fitted.layers;
        let mut best = Best::new(inputs.head.get().monitor);
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
        Ok(Run::new(
            inputs,
            training,
            done,
            [(); 3].map(|()| model.clone()),
        ))
    }

    fn new(
        inputs: &FinetuneInputs,
        training: &[usize],
        done: Header,
        [model, best, start]: [TunedModel; 3],
    ) -> Run {
        let head = inputs.params.get().joint(inputs.head.get());
        let base = HeadParams {
            learning_rate: inputs.params.get().base_learning_rate,
            ..head.clone()
        };
        let class_weights = match head.class_weights {
            ClassWeights::None => None,
            ClassWeights::Balanced => Some(balanced(inputs.labels, training, inputs.classes)),
        };
        Run {
            done,
            model,
            best,
            start,
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

    pub(super) fn epoch(
        &mut self,
        inputs: &FinetuneInputs,
        training: &[usize],
        validation: &[usize],
        progress: &Progress,
    ) -> Result<()> {
        let params: &FinetuneParams = inputs.params.get();
        let epoch = self.done.epoch + 1;
        let batch_size = inputs.head.get().batch_size;
        // One generator per epoch: a resumed run needs no other state.
        let mut rng = Pcg32::new(inputs.head.get().seed, epoch as u64);
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
                maps: inputs.maps,
                rows,
                labels: inputs.labels,
                loss: &self.loss,
                dropout: inputs.head.get().dropout,
                mixup: inputs.head.get().mixup,
                cutmix: params.cutmix,
                seed: inputs.head.get().seed.wrapping_add(1 + step as u64),
            };
            let results = self.model.train_batch(
                &batch,
                &mut self.gradients,
                &mut self.workspace,
                inputs.threads,
            )?;
            let loss: f32 = results.iter().map(|r| r.loss).sum();
            if !loss.is_finite() {
                return Err(Error::Diverged { epoch, loss });
            }
            for (result, rows) in results.iter().zip(rows.chunks(SHARD)) {
                let labels: Vec<usize> = rows.iter().map(|&row| inputs.labels[row]).collect();
                sum += cross_entropy_sum(result.logits.view(), &labels);
                let firsts = result.logits.rows().into_iter().map(first_of);
                hits += firsts.zip(&labels).filter(|(a, b)| a == *b).count();
            }
            rate = self.schedules[0].rate(step as u64);
            self.step(inputs, step as u64, results);
        }
        let mean = (params.wise_ft < 1.0).then(|| self.start.towards(&self.model, params.wise_ft));
        let score = match validation {
            [] => None,
            rows => {
                let kept = mean.as_ref().unwrap_or(&self.model);
                Some(score(kept, inputs, rows, progress)?)
            }
        };
        let loss = score.as_ref().map_or(0.0, |s| s.loss);
        if !loss.is_finite() {
            return Err(Error::Diverged { epoch, loss });
        }
        let mut best = Best::new(inputs.head.get().monitor);
        best.epoch = self.done.best_epoch;
        if let Some(value) = self.done.best_value {
            best.value = value;
            best.started = true;
        }
        if best.improves(epoch, score.as_ref()) {
            self.best = mean.unwrap_or_else(|| self.model.clone());
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

    /// One step with the summed gradients of the shards.
    fn step(&mut self, inputs: &FinetuneInputs, step: u64, results: Vec<ShardResult>) {
        let lambda = inputs.head.get().l2;
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
        let weights = self.model.weights.iter_mut().zip(&inputs.tail.weights);
        for ((values, facts), gradient) in
            weights.zip(&self.gradients).filter(|((_, f), _)| f.trained)
        {
            parameters.push(Parameter {
                values,
                gradient,
                decays: facts.decays,
            });
        }
        let executor = Threads(inputs.threads);
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

    /// Writes the state to the checkpoint, if any.
    pub(super) fn save(&self, inputs: &FinetuneInputs) -> Result<()> {
        let Some(Checkpoint {
            path, fingerprint, ..
        }) = &inputs.checkpoint
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
            tensors.extend(trained_weights(model, inputs));
            tensors.extend(head_tensors(&model.layers));
        }
        // The backbone is an input of the resumed run.
        tensors.extend(head_tensors(&self.start.layers));
        tensors.extend(base_moments);
        tensors.extend(head_moments);
        checkpoint::write(path, &header, &tensors)
    }

    /// The state saved by an earlier, identical run.
    pub(super) fn resume(inputs: &FinetuneInputs, training: &[usize]) -> Result<Option<Run>> {
        let Some(Checkpoint {
            path, fingerprint, ..
        }) = &inputs.checkpoint
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
        let mut read_model = |has_base: bool| -> Option<TunedModel> {
            let mut model = TunedModel::untrained(inputs.tail);
            model.standardizer = Standardizer::from_parts(mean.to_vec(), scale.to_vec());
            for (values, facts) in model.weights.iter_mut().zip(&inputs.tail.weights) {
                if facts.trained && has_base {
                    *values = tensors.next().filter(|t| t.len() == values.len())?;
                }
            }
            let mut width = half;
            let hidden = inputs.head.get().hidden.iter().copied();
            for next in hidden.chain([inputs.classes]) {
                let weights = Array2::from_shape_vec((width, next), tensors.next()?).ok()?;
                let bias = Array1::from_vec(tensors.next().filter(|t| t.len() == next)?);
                model.layers.push(Dense { weights, bias });
                width = next;
            }
            Some(model)
        };
        let models = [true, true, false].map(&mut read_model);
        let [Some(model), Some(best), Some(start)] = models else {
            return Ok(None);
        };
        let steps = header.steps;
        let mut run = Run::new(inputs, training, header, [model, best, start]);
        let rest: Vec<Vec<f32>> = tensors.collect();
        if steps > 0 {
            let trained = inputs.tail.weights.iter().filter(|w| w.trained).count();
            let mut base = rest;
            let head = base.split_off((2 * trained).min(base.len()));
            let rule = rule(inputs.head.get());
            run.base_optimizer = Optimizer::with_memory(rule, steps, base);
            run.head_optimizer = Optimizer::with_memory(rule, steps, head);
        }
        Ok(Some(run))
    }
}

fn trained_weights<'a>(
    model: &'a TunedModel,
    inputs: &'a FinetuneInputs,
) -> impl Iterator<Item = &'a [f32]> {
    let weights = model.weights.iter().zip(&inputs.tail.weights);
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
