//! Fitting the dense head on stored features: parameters, the loop, cross-validation, metrics.

mod batches;
pub mod cross_validation;
pub mod fit;
pub mod head;
pub mod head_params;
pub mod metrics;
pub mod score;
mod standardizer;
mod trainer;

pub use cross_validation::{CrossValidation, cross_validate};
pub use fit::{Fitted, fit};
pub use head::Head;
pub use head_params::{
    ClassWeights, HeadParams, Monitor, OptimizerName, ScheduleName, ValidHeadParams,
};
pub use metrics::{ClassScores, ConfusionMatrix, first_of, log_loss, top_k_accuracy};
pub use score::{Score, evaluate, probabilities};
