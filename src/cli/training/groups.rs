//! Flags shared by several training commands.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::backbone::{InputSize, Pool};
use crate::cli::values::values_of;
use crate::dataset::Layout;
use crate::job::Views;
use crate::train::{ClassWeights, Monitor, OptimizerName, ScheduleName};

/// Where the images are.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatasetArgs {
    /// Folder of images: one folder per class, or train, validation and test folders that contain them.
    #[arg(value_name = "DATASET", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,

    /// CSV file with the columns path and label, instead of class folders.
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,

    /// Meaning of the folders: auto (splits if they are named like splits, else classes), classes, splits, or flat
    /// (images without classes) [default: auto].
    #[arg(long, value_name = "LAYOUT", conflicts_with = "labels", value_parser = values_of::<Layout>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,

    /// Continue even if a whole class, or more than 10 % of the images, is missing or cannot be read.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
}

/// Which backbone.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Backbone")]
pub struct BackboneArgs {
    /// Pretrained backbone: a name from `tl-batch models`, hf:OWNER/NAME after `models fetch`, or the path of an ONNX
    /// file or of a folder with config.json and model.safetensors [default: efficientnet-lite0].
    #[arg(short, long, visible_alias = "backbone", value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the model card].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// Layer whose output gives the features: its name, part of its name, or -3 for the third from the end; repeat
    /// for several layers [default: the last before the classifier].
    #[arg(
        long = "feature-layer",
        visible_alias = "cut",
        value_name = "LAYER",
        allow_hyphen_values = true
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,

    /// Pooling of feature maps or tokens: avg (or mean), max, cls (class token), cls+mean, none, flatten (one vector)
    /// [default: from the model card, else the class token if there is one, else the mean].
    #[arg(long, value_name = "POOL", value_parser = values_of::<Pool>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,

    /// Number of tokens before those of patches, class token and registers, which avg, max and none leave out
    /// [default: from the model card, else 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<u32>,
}

/// The head and its training.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Head and training")]
pub struct HeadArgs {
    /// Fraction of each class held out for validation, from 0 to below 1 [default: 0.2].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,

    /// Fraction of each class held out for the final test, from 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_split: Option<f64>,

    /// Number of stratified folds for cross-validation before training; 0 = none [default: 0].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,

    /// Number of training epochs [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,

    /// Images per training step [default: 32].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,

    /// Units of the head's hidden layers, comma-separated; without it, the head is one dense softmax layer [default:
    /// none].
    #[arg(long, value_name = "UNITS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,

    /// Dropout rate of the hidden layers, from 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,

    /// Optimiser [default: adam].
    #[arg(long, value_name = "NAME", value_parser = values_of::<OptimizerName>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<String>,

    /// Peak learning rate [default: 0.001].
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,

    /// Momentum of SGD, from 0 to below 1 [default: 0.9].
    #[arg(long, value_name = "M")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,

    /// Use Nesterov momentum with SGD.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nesterov: bool,

    /// Learning-rate schedule [default: cosine].
    #[arg(long, value_name = "NAME", value_parser = values_of::<ScheduleName>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,

    /// Step schedule: epochs between drops [default: 30].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,

    /// Step schedule: factor of each drop, above 0 and at most 1 [default: 0.1].
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_factor: Option<f64>,

    /// Warm-up: epochs in which the learning rate rises from 0 [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<usize>,

    /// L2 regularisation of the weights: λ in λ/2·Σw² [default: 0.01].
    #[arg(long, value_name = "LAMBDA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,

    /// Decoupled weight decay of AdamW [default: 0].
    #[arg(long, value_name = "DECAY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,

    /// Label smoothing: fraction of each one-hot target spread over all classes, from 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,

    /// Mixup: mix pairs of images of a batch and their labels with weights drawn from Beta(ALPHA, ALPHA), on the
    /// features or, when fine-tuning, on the feature maps (manifold mixup). Usually 0.2, at most 2 [default: 0].
    #[arg(long, value_name = "ALPHA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,

    /// Class weights in the loss; balanced weighs rare classes more [default: none].
    #[arg(long, value_name = "NAME", value_parser = values_of::<ClassWeights>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<String>,

    /// Standardise the features (zero mean, unit variance) inside the head [default: true].
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardize: Option<bool>,

    /// Early-stopping patience: stop after this many epochs without improvement and restore the best epoch; 0 = off
    /// [default: 0].
    #[arg(long, value_name = "EPOCHS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,

    /// Metric that early stopping monitors [default: val-loss].
    #[arg(long, value_name = "NAME", value_parser = values_of::<Monitor>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,

    /// Random seed of splits, order, weights and dropout; the same seed gives bit-identical results [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// How training images are augmented.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentArgs {
    /// Augment the training images: default, none, or a list of Keras layers with their ranges, such as
    /// RandomFlip=horizontal,RandomRotation=0.05. Available: RandomFlip, RandomRotation, RandomTranslation,
    /// RandomZoom, RandomContrast, RandomBrightness, RandomSaturation, RandomHue, RandAugment (two operations, at
    /// this strength) and RandomErasing. Validation images are never augmented [default: none].
    #[arg(long, value_name = "VIEWS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<String>,

    /// Augmented views per training image; their features are computed once and stored, and each epoch picks one view
    /// or the original. `live` makes one new view per epoch [default: 8].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
}

/// What every run with an output takes.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunArgs {
    /// Read settings from this TOML file; its keys are named like the flags, and flags override it.
    #[arg(long, value_name = "TOML")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Overwrite the output, and replace stored features of other settings.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}
