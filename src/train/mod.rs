//! Training the head on stored features, and fine-tuning the end of the backbone with it: parameters, training loops,
//! cross-validation, metrics.

mod batches;
mod checkpoint;
pub mod cross_validation;
pub mod finetune;
pub mod finetune_params;
pub mod fit;
pub mod head;
pub mod head_params;
pub mod metrics;
pub mod paired;
pub mod score;
mod standardizer;
mod threads;
mod trainer;
mod tuned;
mod views;

pub use cross_validation::{CrossValidation, cross_validate};
pub use finetune::{Checkpoint, FinetuneInputs, Finetuned, finetune, finetune_folds, score};
pub use finetune_params::{FinetuneParams, ValidFinetuneParams};
pub use fit::{Fitted, fit};
pub use head::{Head, Standardization};
pub use head_params::{
    ClassWeights, HeadParams, Monitor, OptimizerName, ScheduleName, ValidHeadParams, check_hidden,
};
pub use metrics::{ClassScores, ConfusionMatrix, first_of, log_loss, top_k_accuracy};
pub use paired::PairedDifference;
pub use score::{Score, evaluate, probabilities};
pub use tuned::TunedModel;
