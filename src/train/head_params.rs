//! Parameters of the head and its training; plain data, checked before use.

use serde::{Deserialize, Serialize};

use crate::backbone::{free_bytes, gigabytes};
use crate::counts::fraction;
use crate::error::{Error, Result, in_range};

/// Maximum number of epochs, of any kind.
pub(super) const MOST_EPOCHS: usize = 1_000_000;

/// Maximum batch size.
const MOST_BATCH: usize = 1 << 20;

/// Maximum number of hidden layers, and of units in one.
const MOST_HIDDEN: usize = 16;
const MOST_UNITS: usize = 65_536;

/// Copies of the weights in memory during training: the weights, their gradients, two moments, the best so far, and what is
/// evaluated and saved.
const COPIES: u64 = 8;

/// How the head is built and trained, named as the flags and in `--config run.toml`.
///
/// [`HeadParams::check`] turns it into [`ValidHeadParams`], which alone can be fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HeadParams {
    /// Passes over the training rows, 1 to 1,000,000.
    pub epochs: usize,
    /// Batch size, 1 to 1,048,576; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// The optimiser.
    pub optimizer: OptimizerName,
    /// Highest learning rate of the schedule, above 0.
    pub learning_rate: f32,
    /// Momentum of `sgd`, from 0 to below 1; the Adams do not use it.
    pub momentum: f32,
    /// Whether `sgd` uses Nesterov momentum.
    pub nesterov: bool,
    /// The learning-rate schedule.
    pub schedule: ScheduleName,
    /// For `step`: epochs from one drop of the learning rate to the next, at least 1.
    pub step_epochs: usize,
    /// For `step`: what the learning rate is multiplied by at a drop, above 0 and up to 1.
    pub step_factor: f32,
    /// Epochs in which the learning rate rises linearly from 0, from 0 to below `epochs`.
    pub warmup_epochs: usize,
    /// PyTorch's weight decay, at least 0: with `adamw` each step takes `learning rate × weight decay`
    /// off the weights; with `adam` and `sgd` it adds to `l2`. Biases do not decay.
    pub weight_decay: f32,
    /// λ of a penalty `λ/2 · Σ w²` in the loss, at least 0, over the weights (not the biases) as
    /// they are while training, thus on standardised features where `standardize` is on.
    pub l2: f32,
    /// Widths of the hidden layers, at most 16, each from 1 to 65,536; empty for one dense softmax layer.
    pub hidden: Vec<usize>,
    /// Dropout rate of the hidden activations (of the features without a hidden layer), from 0 to below 1.
    pub dropout: f32,
    /// Share of each one-hot target that is spread evenly over all classes, from 0 to below 1.
    pub label_smoothing: f32,
    /// α of mixup, from 0 (none) to 2: images of a batch are mixed in pairs, with shares from Beta(α, α), where
    /// they enter what is trained. See [`crate::nn::mixup`].
    pub mixup: f32,
    /// Weights of the classes in the training loss.
    pub class_weights: ClassWeights,
    /// Whether features are standardised with the mean and deviation of the training rows. The finished head takes raw
    /// features: this is folded into its first layer or, where that would cost digits, stands before it.
    pub standardize: bool,
    /// Epochs without improvement after which training ends and the best epoch is restored; 0 trains
    /// to the last epoch and keeps that.
    pub early_stopping: usize,
    /// What early stopping monitors.
    pub monitor: Monitor,
    /// Seed of the order of rows, the first weights and dropout.
    pub seed: u64,
}

impl Default for HeadParams {
    /// One dense softmax layer on standardised features, 100 epochs of Adam in batches of 32, the
    /// learning rate falling from 0.001 along half a cosine, an L2 penalty of 0.01.
    ///
    /// These sit in the middle of a plateau: between a third and three times this learning rate, a
    /// tenth and ten times this penalty, and half and three times these epochs, the cross-validated
    /// accuracy on 223 images of five classes stays within its noise.
    fn default() -> HeadParams {
        HeadParams {
            epochs: 100,
            batch_size: 32,
            optimizer: OptimizerName::Adam,
            learning_rate: 1e-3,
            momentum: 0.9,
            nesterov: false,
            schedule: ScheduleName::Cosine,
            step_epochs: 30,
            step_factor: 0.1,
            warmup_epochs: 0,
            weight_decay: 0.0,
            l2: 0.01,
            hidden: Vec::new(),
            dropout: 0.0,
            label_smoothing: 0.0,
            mixup: 0.0,
            class_weights: ClassWeights::None,
            standardize: true,
            early_stopping: 0,
            monitor: Monitor::ValLoss,
            seed: 0,
        }
    }
}

/// Names of the optimisers; see [`crate::nn::optimizer`] for their formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Names of the learning-rate schedules; see [`crate::nn::schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// The same at every step.
    Constant,
    /// Half a cosine from the full rate to 0.
    Cosine,
    /// Dropped by `step-factor` every `step-epochs` epochs.
    Step,
}

/// Weights of the classes in the training loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// Every row counts 1.
    None,
    /// A row of class c counts n / (classes · n_c), with n training rows of which n_c are of class c:
    /// scikit-learn's `class_weight="balanced"`.
    Balanced,
}

/// What early stopping monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Cross-entropy over the validation rows; lower is better.
    ValLoss,
    /// Accuracy over the validation rows; higher is better.
    ValAccuracy,
}

/// Validated parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidHeadParams(HeadParams);

impl ValidHeadParams {
    /// The parameters.
    pub fn get(&self) -> &HeadParams {
        &self.0
    }

    /// Refuses a head that does not fit in this machine's memory while it is trained on `rows` rows of `dim` features.
    ///
    /// # Errors
    /// [`Error::Parameter`] with the memory needed.
    pub(super) fn require_memory(&self, rows: usize, dim: usize, classes: usize) -> Result<()> {
        let Some(free) = free_bytes() else {
            return Ok(());
        };
        let needed = self.bytes(rows, dim, classes);
        if needed <= free {
            return Ok(());
        }
        let widths: Vec<String> = self.0.hidden.iter().map(usize::to_string).collect();
        Err(Error::Parameter {
            name: "--hidden",
            value: widths.join(","),
            problem: format!(
                "training this head on {dim} features needs {} of memory, and {} are free; use fewer or smaller layers, or a smaller --batch-size",
                gigabytes(needed),
                gigabytes(free)
            ),
        })
    }

    /// Memory in bytes for training a head on `rows` rows of `dim` features.
    fn bytes(&self, rows: usize, dim: usize, classes: usize) -> u64 {
        let widths = self.0.hidden.iter().chain([&classes]);
        let (mut weights, mut values, mut inputs) = (0_u64, dim as u64, dim as u64);
        for &width in widths {
            let width = width as u64;
            weights = weights.saturating_add((inputs + 1).saturating_mul(width));
            values += width;
            inputs = width;
        }
        let batch = (self.0.batch_size.min(rows) as u64).saturating_mul(values);
        // Activations, gradients, and the values being computed.
        let floats = weights
            .saturating_mul(COPIES)
            .saturating_add(batch.saturating_mul(3));
        floats.saturating_mul(size_of::<f32>() as u64)
    }
}

impl HeadParams {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first that is out of range.
    pub fn check(self) -> Result<ValidHeadParams> {
        in_range("--epochs", self.epochs, 1..=MOST_EPOCHS)?;
        in_range("--batch-size", self.batch_size, 1..=MOST_BATCH)?;
        in_range("--step-epochs", self.step_epochs, 1..=MOST_EPOCHS)?;
        in_range("--early-stopping", self.early_stopping, 0..=MOST_EPOCHS)?;
        check_hidden(&self.hidden)?;
        let rate = self.learning_rate;
        ensure("--learning-rate", rate, rate > 0.0, "must be above 0")?;
        let factor = self.step_factor;
        ensure(
            "--step-factor",
            factor,
            factor > 0.0 && factor <= 1.0,
            "must be above 0 and at most 1",
        )?;
        for (name, value) in [("--weight-decay", self.weight_decay), ("--l2", self.l2)] {
            ensure(name, value, value >= 0.0, "must be at least 0")?;
        }
        for (name, value) in [
            ("--momentum", self.momentum),
            ("--dropout", self.dropout),
            ("--label-smoothing", self.label_smoothing),
        ] {
            ensure(
                name,
                value,
                (0.0..1.0).contains(&value),
                "must be at least 0 and below 1",
            )?;
        }
        ensure(
            "--mixup",
            self.mixup,
            (0.0..=2.0).contains(&self.mixup),
            "must be from 0 to 2",
        )?;
        if self.warmup_epochs > 0 && self.warmup_epochs >= self.epochs {
            return Err(Error::Parameter {
                name: "--warmup-epochs",
                value: self.warmup_epochs.to_string(),
                problem: format!("must be below --epochs ({})", self.epochs),
            });
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::Parameter {
                name: "--nesterov",
                value: "true".to_string(),
                problem: "needs a --momentum above 0".to_string(),
            });
        }
        Ok(ValidHeadParams(self))
    }
}

/// Checks the number and widths of hidden layers against their ranges.
///
/// # Errors
/// [`Error::Parameter`].
pub fn check_hidden(hidden: &[usize]) -> Result<()> {
    if hidden.len() > MOST_HIDDEN {
        return Err(Error::Parameter {
            name: "--hidden",
            value: format!("{} layers", hidden.len()),
            problem: format!("a head has at most {MOST_HIDDEN} hidden layers"),
        });
    }
    hidden
        .iter()
        .try_for_each(|&width| in_range("--hidden", width, 1..=MOST_UNITS))
}

/// Checks a number against its range; NaN and infinity are never in range.
pub(super) fn ensure(name: &'static str, value: f32, in_range: bool, problem: &str) -> Result<()> {
    if in_range && value.is_finite() {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        value: fraction(value),
        problem: problem.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(change: impl FnOnce(&mut HeadParams)) -> &'static str {
        let mut params = HeadParams::default();
        change(&mut params);
        match params.check() {
            Err(Error::Parameter { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepts_its_defaults() {
        assert!(HeadParams::default().check().is_ok());
    }

    #[test]
    fn names_the_parameter_that_is_out_of_range() {
        assert_eq!(rejected(|p| p.epochs = 0), "--epochs");
        assert_eq!(rejected(|p| p.batch_size = 0), "--batch-size");
        assert_eq!(rejected(|p| p.learning_rate = 0.0), "--learning-rate");
        assert_eq!(rejected(|p| p.learning_rate = f32::NAN), "--learning-rate");
        assert_eq!(
            rejected(|p| p.learning_rate = f32::INFINITY),
            "--learning-rate"
        );
        assert_eq!(rejected(|p| p.momentum = 1.0), "--momentum");
        assert_eq!(rejected(|p| p.step_epochs = 0), "--step-epochs");
        assert_eq!(rejected(|p| p.step_factor = 0.0), "--step-factor");
        assert_eq!(rejected(|p| p.warmup_epochs = p.epochs), "--warmup-epochs");
        assert_eq!(rejected(|p| p.weight_decay = -1.0), "--weight-decay");
        assert_eq!(rejected(|p| p.l2 = -1.0), "--l2");
        assert_eq!(rejected(|p| p.hidden = vec![64, 0]), "--hidden");
        assert_eq!(rejected(|p| p.hidden = vec![4_000_000_000]), "--hidden");
        assert_eq!(rejected(|p| p.hidden = vec![8; 17]), "--hidden");
        assert_eq!(rejected(|p| p.epochs = 99_999_999_999), "--epochs");
        assert_eq!(rejected(|p| p.batch_size = usize::MAX), "--batch-size");
        assert_eq!(rejected(|p| p.step_epochs = usize::MAX), "--step-epochs");
        assert_eq!(
            rejected(|p| p.early_stopping = usize::MAX),
            "--early-stopping"
        );
        assert_eq!(rejected(|p| p.dropout = 1.0), "--dropout");
        assert_eq!(rejected(|p| p.label_smoothing = -0.1), "--label-smoothing");
        assert_eq!(rejected(|p| p.mixup = 2.5), "--mixup");
        assert_eq!(
            rejected(|p| {
                p.nesterov = true;
                p.momentum = 0.0;
            }),
            "--nesterov"
        );
    }

    #[test]
    fn memory_is_counted_before_it_is_taken() {
        let valid = |hidden: &[usize]| {
            let params = HeadParams {
                hidden: hidden.to_vec(),
                ..HeadParams::default()
            };
            params.check().unwrap()
        };
        // 1,281 · 3 weights in eight copies, and 32 rows of 1,280 features and 3 classes three times.
        assert_eq!(
            valid(&[]).bytes(1_000, 1280, 3),
            4 * (8 * 1281 * 3 + 3 * 32 * 1283)
        );
        assert!(valid(&[256]).require_memory(1_000, 1280, 3).is_ok());
        let huge = valid(&[65_536; 16]).require_memory(1_000, 1280, 3);
        if let Err(error) = &huge {
            assert!(error.to_string().contains("2064.7 GB of memory"), "{error}");
        }
        assert_eq!(huge.is_err(), free_bytes().is_some());
    }

    #[test]
    fn reads_the_names_of_the_flags_and_no_others() {
        let params: HeadParams = toml::from_str(
            "batch-size = 8\noptimizer = \"adamw\"\nclass-weights = \"balanced\"\nmonitor = \"val-accuracy\"\nhidden = [256]",
        )
        .unwrap();
        assert_eq!(params.batch_size, 8);
        assert_eq!(params.class_weights, ClassWeights::Balanced);
        assert_eq!(params.monitor, Monitor::ValAccuracy);
        assert_eq!(params.hidden, [256]);
        assert_eq!(params.epochs, HeadParams::default().epochs);
        assert!(toml::from_str::<HeadParams>("batch_size = 8").is_err());
    }
}
