//! Parameters of fine-tuning; plain data, checked before use.

use serde::{Deserialize, Serialize};

use super::head_params::{HeadParams, MOST_EPOCHS, ensure};
use crate::error::{Error, Result, in_range};

/// How the end of the backbone is trained with the head, named as the flags and in `--config run.toml`.
///
/// Batch size, optimiser, schedule, dropout, penalties and seed are those of [`HeadParams`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FinetuneParams {
    /// The first layer of the backbone that is trained: its name, the beginning of a block's names, a number of
    /// layers from the end, or a share of the parameters such as `25%`.
    pub unfreeze_from: String,
    /// Passes over the training rows with backbone and head trained jointly, 1 to 1,000,000; the head has been
    /// trained alone before.
    pub tune_epochs: usize,
    /// Highest learning rate of the backbone's layers, above 0.
    pub base_learning_rate: f32,
    /// Highest learning rate of the head while it is trained jointly, at least 0.
    pub joint_learning_rate: f32,
    /// Joint epochs in which both rates rise linearly from 0, from 0 to below `tune_epochs`.
    pub tune_warmup_epochs: usize,
    /// Whether scale and shift of batch normalisations are trained; their statistics never are.
    pub train_batchnorm: bool,
    /// α of CutMix in the joint epochs, from 0 (none) to 2: a rectangle of each image's maps is taken from another
    /// image of the batch. See [`crate::nn::mixup`].
    pub cutmix: f32,
    /// Share of the jointly trained weights in the model, from above 0 to 1 (all); the rest comes from the weights
    /// before the joint epochs. A mean of both keeps more of what the backbone knows: WiSE-FT (Wortsman et al., 2022, "Robust
    /// fine-tuning of zero-shot models", arXiv:2109.01903). Training continues from the joint weights.
    pub wise_ft: f32,
}

impl Default for FinetuneParams {
    /// Ten joint epochs, one of them to warm up, at 2·10⁻⁵ for the backbone and 10⁻⁴ for the head.
    fn default() -> FinetuneParams {
        FinetuneParams {
            unfreeze_from: String::new(),
            tune_epochs: 10,
            base_learning_rate: 2e-5,
            joint_learning_rate: 1e-4,
            tune_warmup_epochs: 1,
            train_batchnorm: false,
            cutmix: 0.0,
            wise_ft: 1.0,
        }
    }
}

/// Validated parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidFinetuneParams(FinetuneParams);

impl ValidFinetuneParams {
    /// The parameters.
    pub fn get(&self) -> &FinetuneParams {
        &self.0
    }
}

impl FinetuneParams {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first that is out of range.
    pub fn check(self) -> Result<ValidFinetuneParams> {
        if self.unfreeze_from.is_empty() {
            return Err(Error::Parameter {
                name: "--unfreeze-from",
                value: "nothing".into(),
                problem: "give a layer; `tl-batch summary` lists them".into(),
            });
        }
        in_range("--tune-epochs", self.tune_epochs, 1..=MOST_EPOCHS)?;
        let rate = self.base_learning_rate;
        ensure("--base-learning-rate", rate, rate > 0.0, "must be above 0")?;
        let rate = self.joint_learning_rate;
        ensure(
            "--joint-learning-rate",
            rate,
            rate >= 0.0,
            "must be at least 0",
        )?;
        let alpha = self.cutmix;
        ensure(
            "--cutmix",
            alpha,
            (0.0..=2.0).contains(&alpha),
            "must be from 0 to 2",
        )?;
        let share = self.wise_ft;
        ensure(
            "--wise-ft",
            share,
            share > 0.0 && share <= 1.0,
            "must be above 0 and at most 1",
        )?;
        if self.tune_warmup_epochs >= self.tune_epochs && self.tune_warmup_epochs > 0 {
            return Err(Error::Parameter {
                name: "--tune-warmup-epochs",
                value: self.tune_warmup_epochs.to_string(),
                problem: format!("must be below --tune-epochs ({})", self.tune_epochs),
            });
        }
        Ok(ValidFinetuneParams(self))
    }

    /// The head's parameters with the number, learning rate and warm-up of the joint epochs.
    pub(super) fn joint(&self, head: &HeadParams) -> HeadParams {
        HeadParams {
            epochs: self.tune_epochs,
            learning_rate: self.joint_learning_rate,
            warmup_epochs: self.tune_warmup_epochs,
            ..head.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(change: impl FnOnce(&mut FinetuneParams)) -> &'static str {
        let mut params = FinetuneParams {
            unfreeze_from: "block5".into(),
            ..FinetuneParams::default()
        };
        change(&mut params);
        match params.check() {
            Err(Error::Parameter { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_the_parameter_that_is_out_of_range() {
        assert_eq!(rejected(|p| p.unfreeze_from.clear()), "--unfreeze-from");
        assert_eq!(rejected(|p| p.tune_epochs = 0), "--tune-epochs");
        assert_eq!(
            rejected(|p| p.base_learning_rate = 0.0),
            "--base-learning-rate"
        );
        assert_eq!(
            rejected(|p| p.joint_learning_rate = f32::NAN),
            "--joint-learning-rate"
        );
        assert_eq!(rejected(|p| p.cutmix = -0.5), "--cutmix");
        assert_eq!(rejected(|p| p.wise_ft = 0.0), "--wise-ft");
        assert_eq!(
            rejected(|p| p.tune_warmup_epochs = 10),
            "--tune-warmup-epochs"
        );
    }
}
