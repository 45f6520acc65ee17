//! Training steps: batches, gradients, the optimiser.

use ndarray::{Array, Array2, Dimension};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg32;

use super::head::Head;
use super::head_params::{ClassWeights, HeadParams, OptimizerName, ScheduleName};
use super::metrics::first_of;
use super::standardizer::Standardizer;
use super::views::draw_view;
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::loss::cross_entropy_sum;
use crate::nn::parallel::Sequential;
use crate::nn::{
    CrossEntropy, Curve, Dense, Mixup, Optimizer, Parameter, Rule, Schedule, initializer, l2, mlp,
};
use crate::progress::Progress;

/// Training metrics of an epoch.
pub(super) struct Seen {
    /// Learning rate of the last step.
    pub(super) learning_rate: f32,
    /// Mean cross-entropy, in nats.
    pub(super) loss: f32,
    /// Accuracy.
    pub(super) accuracy: f32,
}

/// Everything that changes or is reused from step to step.
pub(super) struct Trainer<'a> {
    matrix: &'a FeatureMatrix,
    labels: &'a [usize],
    /// Rows in the order of the current epoch.
    order: Vec<usize>,
    params: &'a HeadParams,
    standardizer: Standardizer,
    layers: Vec<Dense>,
    loss: CrossEntropy,
    optimizer: Optimizer,
    schedule: Schedule,
    step: u64,
    order_rng: Pcg32,
    dropout_rng: Pcg32,
    /// The view used for each row.
    view_rng: Pcg32,
    mixup_rng: Pcg32,
}

impl<'a> Trainer<'a> {
    /// A trainer before its first step.
    pub(super) fn new(
        matrix: &'a FeatureMatrix,
        labels: &'a [usize],
        classes: usize,
        training: &[usize],
        params: &'a HeadParams,
        standardizer: Standardizer,
    ) -> Trainer<'a> {
        // One stream for each use: dropout does not change the order of the rows.
        let mut seeds = Pcg32::seed_from_u64(params.seed);
        let mut weights_rng = Pcg32::from_rng(&mut seeds);
        let order_rng = Pcg32::from_rng(&mut seeds);
        let dropout_rng = Pcg32::from_rng(&mut seeds);
        let view_rng = Pcg32::from_rng(&mut seeds);
        let mixup_rng = Pcg32::from_rng(&mut seeds);
        let class_weights = match params.class_weights {
            ClassWeights::None => None,
            ClassWeights::Balanced => Some(balanced(labels, training, classes)),
        };
        Trainer {
            matrix,
            labels,
            order: training.to_vec(),
            params,
            standardizer,
            layers: first_layers(matrix.dim(), &params.hidden, classes, &mut weights_rng),
            loss: CrossEntropy {
                label_smoothing: params.label_smoothing,
                class_weights,
            },
            optimizer: Optimizer::new(rule(params)),
            schedule: schedule(params, training.len()),
            step: 0,
            order_rng,
            dropout_rng,
            view_rng,
            mixup_rng,
        }
    }

    /// Takes every training row once.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a batch's loss is not finite; those of reading features; [`Error::Cancelled`].
    pub(super) fn epoch(&mut self, epoch: usize, progress: &Progress) -> Result<Seen> {
        self.order.shuffle(&mut self.order_rng);
        let order = std::mem::take(&mut self.order);
        let mut loss = 0.0;
        let mut hits = 0;
        let mut learning_rate = 0.0;
        for rows in order.chunks(self.params.batch_size) {
            progress.checkpoint()?;
            learning_rate = self.schedule.rate(self.step);
            let labels: Vec<usize> = rows.iter().map(|&row| self.labels[row]).collect();
            let (objective, logits) = self.train_batch(epoch, rows, &labels, learning_rate)?;
            if !objective.is_finite() {
                return Err(Error::Diverged {
                    epoch,
                    loss: objective,
                });
            }
            loss += cross_entropy_sum(logits.view(), &labels);
            hits += logits
                .rows()
                .into_iter()
                .zip(&labels)
                .filter(|(logits, label)| first_of(*logits) == **label)
                .count();
            self.step += 1;
        }
        let rows = order.len() as f64;
        self.order = order;
        Ok(Seen {
            learning_rate,
            loss: (loss / rows) as f32,
            accuracy: (hits as f64 / rows) as f32,
        })
    }

    /// One step; returns the loss with its penalty, and the logits, both from before the step.
    fn train_batch(
        &mut self,
        epoch: usize,
        rows: &[usize],
        labels: &[usize],
        learning_rate: f32,
    ) -> Result<(f32, Array2<f32>)> {
        let mut features = Array2::zeros((rows.len(), self.matrix.dim()));
        for (&row, mut out) in rows.iter().zip(features.rows_mut()) {
            let view = draw_view(self.matrix, epoch, &mut self.view_rng);
            if let Some(out) = out.as_slice_mut() {
                self.matrix.view_into(row, view, out)?;
            }
        }
        if self.params.standardize {
            self.standardizer.apply(&mut features);
        }
        let mixup = Mixup::draw(self.params.mixup, rows.len(), &mut self.mixup_rng);
        if let Some(mixup) = &mixup {
            let plain = features.clone();
            for (mut own, &partner) in features.rows_mut().into_iter().zip(&mixup.partners) {
                if let (Some(own), Some(other)) =
                    (own.as_slice_mut(), plain.row(partner).as_slice())
                {
                    mixup.mix(own, other);
                }
            }
        }
        let trace = mlp::forward_training(
            &self.layers,
            features,
            self.params.dropout,
            &mut self.dropout_rng,
        );
        let logits = trace.logits.view();
        let (mut objective, gradient) = match &mixup {
            None => self.loss.with_gradient(logits, labels),
            Some(mixup) => {
                let others: Vec<usize> = mixup.partners.iter().map(|&j| labels[j]).collect();
                mixup.loss(&self.loss, logits, labels, &others)
            }
        };
        let mut gradients = mlp::backward(&self.layers, &trace, gradient);
        if self.params.l2 > 0.0 {
            objective += l2::penalty(&self.layers, self.params.l2);
            l2::add_gradient(&self.layers, self.params.l2, &mut gradients);
        }
        let mut parameters = Vec::with_capacity(2 * self.layers.len());
        for (layer, gradient) in self.layers.iter_mut().zip(&gradients) {
            parameters.extend(parameter(&mut layer.weights, &gradient.weights, true));
            parameters.extend(parameter(&mut layer.bias, &gradient.bias, false));
        }
        self.optimizer
            .step(learning_rate, &mut parameters, &Sequential);
        Ok((objective, trace.logits))
    }

    /// The head as it is now, on raw features.
    ///
    /// # Errors
    /// Never, for layers made here.
    pub(super) fn head(&self) -> Result<Head> {
        self.standardizer.head(&self.layers)
    }

    /// The layers as they are now, on standardised features.
    pub(super) fn layers(&self) -> &[Dense] {
        &self.layers
    }

    /// How features are standardised.
    pub(super) fn standardizer(&self) -> &Standardizer {
        &self.standardizer
    }
}

/// The tensor as flat slices; `None` if it is not contiguous, which layers made here always are.
pub(super) fn parameter<'a, D: Dimension>(
    values: &'a mut Array<f32, D>,
    gradient: &'a Array<f32, D>,
    decays: bool,
) -> Option<Parameter<'a>> {
    Some(Parameter {
        values: values.as_slice_mut()?,
        gradient: gradient.as_slice()?,
        decays,
    })
}

fn first_layers(inputs: usize, hidden: &[usize], classes: usize, rng: &mut Pcg32) -> Vec<Dense> {
    let mut layers = Vec::with_capacity(hidden.len() + 1);
    let mut width = inputs;
    for &next in hidden {
        layers.push(Dense::without_bias(initializer::he_uniform(
            width, next, rng,
        )));
        width = next;
    }
    let last = if hidden.is_empty() {
        Array2::zeros((width, classes))
    } else {
        initializer::glorot_uniform(width, classes, rng)
    };
    layers.push(Dense::without_bias(last));
    layers
}

/// scikit-learn's `compute_class_weight("balanced")`, with 0 for a class without rows.
pub(super) fn balanced(labels: &[usize], training: &[usize], classes: usize) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    for &row in training {
        counts[labels[row]] += 1;
    }
    let present = counts.iter().filter(|&&count| count > 0).count();
    counts
        .iter()
        .map(|&count| match count {
            0 => 0.0,
            count => training.len() as f32 / (present * count) as f32,
        })
        .collect()
}

/// The optimiser chosen in the parameters.
pub(super) fn rule(params: &HeadParams) -> Rule {
    let weight_decay = params.weight_decay;
    match params.optimizer {
        OptimizerName::Adam => Rule::Adam { weight_decay },
        OptimizerName::AdamW => Rule::AdamW { weight_decay },
        OptimizerName::Sgd => Rule::Sgd {
            momentum: params.momentum,
            nesterov: params.nesterov,
            weight_decay,
        },
    }
}

pub(super) fn schedule(params: &HeadParams, rows: usize) -> Schedule {
    let steps =
        |epochs: usize| (epochs as u64).saturating_mul(rows.div_ceil(params.batch_size) as u64);
    Schedule {
        peak: params.learning_rate,
        curve: match params.schedule {
            ScheduleName::Constant => Curve::Constant,
            ScheduleName::Cosine => Curve::Cosine,
            ScheduleName::Step => Curve::Step {
                every: steps(params.step_epochs),
                factor: params.step_factor,
            },
        },
        warmup_steps: steps(params.warmup_epochs),
        total_steps: steps(params.epochs),
    }
}
