//! Flags that several of the commands that train have in common.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::backbone::Pool;
use crate::job::Views;

/// Where the pictures are.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DatasetArgs {
    /// Folder of pictures: a folder for each class, or train, validation and test folders of such.
    #[arg(value_name = "DATASET", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,

    /// CSV file of path,label lines, in place of class folders.
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,

    /// What the folders stand for: auto (splits where their names say so, else classes), classes, splits, or flat
    /// (pictures without classes) [default: auto].
    #[arg(long, value_name = "LAYOUT", conflicts_with = "labels", value_parser = PossibleValuesParser::new(["auto", "classes", "splits", "flat"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,

    /// Go on when pictures went away or cannot be read: without a class of them, or more than a tenth.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
}

/// Which base.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Base")]
pub struct BackboneArgs {
    /// Name of a base (`tl-batch models` lists them), or path of an ONNX file [default: efficientnet-lite0].
    #[arg(short, long, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Height and width of the input in pixels [default: what the model card says].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,

    /// The layer whose output is the feature: its name, a part of it, or -3 for the third from the end;
    /// given again, the features of all of them [default: the last before the classifier].
    #[arg(long, value_name = "LAYER", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,

    /// How feature maps or tokens are pooled: mean, maximum, class token, not at all, one vector [default: what the
    /// model card says, else the class token of tokens that have one, else the mean].
    #[arg(long, value_name = "POOL", value_parser = PossibleValuesParser::new(Pool::NAMES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// The head and its training.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Head and training")]
pub struct HeadArgs {
    /// Share of each class held out for validation, 0 to below 1 [default: 0.2].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,

    /// Share of each class held out for a final test, 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_split: Option<f64>,

    /// Cross-validate over this many stratified folds first; 0 does not [default: 0].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,

    /// Passes over the training pictures [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,

    /// Pictures in a training step [default: 32].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,

    /// Widths of hidden layers, comma-separated; none for one dense softmax layer [default: none].
    #[arg(long, value_name = "UNITS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,

    /// Share of hidden activations dropped in training, 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,

    /// The optimiser [default: adam].
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["adam", "adamw", "sgd"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<String>,

    /// Highest learning rate of the schedule [default: 0.001].
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,

    /// Momentum of sgd, 0 to below 1 [default: 0.9].
    #[arg(long, value_name = "M")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,

    /// Let the momentum of sgd look ahead, as Nesterov's does.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nesterov: bool,

    /// How the learning rate goes over the epochs [default: cosine].
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["constant", "cosine", "step"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,

    /// For the step schedule: epochs between drops [default: 30].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,

    /// For the step schedule: factor of a drop, above 0 up to 1 [default: 0.1].
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_factor: Option<f64>,

    /// Epochs in which the learning rate rises from 0 [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<usize>,

    /// L2 penalty on the weights: λ in λ/2·Σw² [default: 0.01].
    #[arg(long, value_name = "LAMBDA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,

    /// Decoupled weight decay of adamw [default: 0].
    #[arg(long, value_name = "DECAY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,

    /// Share of each one-hot target spread over all classes, 0 to below 1 [default: 0].
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,

    /// Mix pictures of a batch and their labels in pairs, with shares from Beta(ALPHA, ALPHA): on features, and when
    /// fine-tuning on the maps at the cut (manifold mixup). 0.2 is usual, 2 the most [default: 0].
    #[arg(long, value_name = "ALPHA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,

    /// Weights of the classes in the loss; balanced makes rare classes count more [default: none].
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["none", "balanced"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<String>,

    /// Standardise features inside the head [default: true].
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardize: Option<bool>,

    /// End after this many epochs without improvement and restore the best epoch; 0 does not [default: 0].
    #[arg(long, value_name = "EPOCHS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,

    /// What early stopping looks at [default: val-loss].
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["val-loss", "val-accuracy"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,

    /// Seed of splits, order, weights and dropout; the same seed gives the same bits [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// How training pictures are augmented.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentArgs {
    /// Train on random views of the pictures, too: default, none, or a list of Keras's layers with their
    /// ranges, such as RandomFlip=horizontal,RandomRotation=0.05. There are RandomFlip, RandomRotation,
    /// RandomTranslation, RandomZoom, RandomContrast, RandomBrightness, RandomSaturation, RandomHue,
    /// RandAugment (two operations of its list, at this strength) and RandomErasing; validation pictures stay
    /// as they are [default: none].
    #[arg(long, value_name = "VIEWS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<String>,

    /// Views of each training picture that are run through the base, once, and kept; each epoch draws one of
    /// them or the picture itself. `live`: as many as there are epochs, and each is seen once [default: 8].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
}

/// What every run with an output takes.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunArgs {
    /// Read settings from this TOML file; its names are those of the flags, and flags override it.
    #[arg(long, value_name = "TOML")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Replace the output if it is there, and what is kept beside it for other settings.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}
