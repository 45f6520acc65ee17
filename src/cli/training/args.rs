//! Arguments of the training commands.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::groups::{AugmentArgs, BackboneArgs, DatasetArgs, HeadArgs, RunArgs};
use crate::backbone::{Calibration, InputSize, Pool};
use crate::cli::args::PipelineArgs;
use crate::cli::values::values_of;
use crate::cli::watch::bytes;
use crate::dataset::{Layout, Split};
use crate::features::Dtype;
use crate::job::Recipe;

/// Train a model on a folder of images: extract features, train a head, evaluate, save, reload, verify.
///
/// Features are kept next to the model (model.onnx → model.features), so that a second run, after a stop or with
/// other head settings, computes only what is missing. The configuration is written to model.run.toml.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch fit datasets/tiny -o tiny.onnx
  tl-batch fit photos -o photos.onnx --model vgg16 --input-size 150 --folds 5
  tl-batch fit photos -o photos.onnx --hidden 256 --dropout 0.5 --early-stopping 10
  tl-batch fit photos -o photos.onnx --augment default --views 4
  tl-batch fit --config photos.run.toml --force")]
pub struct FitArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Model file to write (ONNX).
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Folder for the stored features [default: the output's name with .features].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,

    /// Training preset; other flags override its settings: linear (linear probe), mlp (one hidden layer of 256 units
    /// with dropout), augment (augmented views), finetune (augmented views, and half of the backbone's parameters
    /// trained, as in `finetune`), best (try each and keep the best by cross-validation on the same folds, 5 unless
    /// --folds is given) [default: linear].
    #[arg(long, value_name = "NAME", value_parser = values_of::<Recipe>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,

    /// Time for --recipe best to try recipes, such as 90s, 10m or 1h; training the winner is extra [default: 10m].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub backbone: BackboneArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// Data type of the stored features; float16 takes half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = values_of::<Dtype>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub augment: AugmentArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub head: HeadArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Fine-tune the last layers of a backbone together with a head.
///
/// The layers before --unfreeze-from stay frozen: each image runs through them once, and the feature maps are kept
/// next to the model (tuned.onnx → tuned.maps). First the head is trained alone, then the head and the unfrozen
/// layers jointly; batch-norm statistics stay frozen. The epoch with the best validation score is saved as one
/// self-verifying ONNX file; if no joint epoch beats the head alone, the head alone is saved. A run that is stopped
/// or killed resumes where it left off and produces the same file.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch finetune vgg16 photos --unfreeze-from block5_conv1 --pool avg -o tuned.onnx
  tl-batch finetune efficientnet-lite0 photos --unfreeze-from block6d -o tuned.onnx
  tl-batch finetune photos.onnx photos --unfreeze-from 25% --folds 5 -o tuned.onnx")]
pub struct FinetuneArgs {
    /// Name of a backbone, path of an ONNX file, or a saved model, whose (fine-tuned) backbone is used; for a
    /// quantised model, the backbone it was made from.
    #[arg(value_name = "MODEL", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// First layer to train: its name, the prefix of a block, a number of layers from the end, or a share of the
    /// parameters such as 25%.
    #[arg(long, value_name = "LAYER", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_from: Option<String>,

    /// Model file to write (ONNX).
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Folder for the stored feature maps [default: the output's name with .maps].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<PathBuf>,

    /// Epochs in which backbone and head are trained jointly [default: 10].
    #[arg(long, value_name = "N", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_epochs: Option<usize>,

    /// Peak learning rate of the backbone's layers [default: 0.00002].
    #[arg(
        long,
        visible_alias = "backbone-learning-rate",
        value_name = "RATE",
        help_heading = "Joint training"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_learning_rate: Option<f64>,

    /// Peak learning rate of the head in joint training [default: 0.0001].
    #[arg(long, value_name = "RATE", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_learning_rate: Option<f64>,

    /// Warm-up: joint epochs in which both rates rise from 0 [default: 1].
    #[arg(long, value_name = "N", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_warmup_epochs: Option<usize>,

    /// Also train the scale and shift of batch normalisation; its statistics stay frozen.
    #[arg(long, help_heading = "Joint training")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub train_batchnorm: bool,

    /// CutMix in the joint epochs: a rectangle of each image's feature maps, and the same share of its label, comes
    /// from another image of the batch; shares are drawn from Beta(ALPHA, ALPHA). Usually 1, at most 2 [default: 0].
    #[arg(long, value_name = "ALPHA", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,

    /// WiSE-FT: interpolate between the weights before (0) and after (1) joint training; 0.5 is often as accurate and
    /// more robust [default: 1].
    #[arg(long, value_name = "SHARE", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wise_ft: Option<f64>,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the model card].
    #[arg(long, value_name = "PX", help_heading = "Backbone")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// Layer whose output gives the features [default: the last before the classifier].
    #[arg(
        long = "feature-layer",
        visible_alias = "cut",
        value_name = "LAYER",
        allow_hyphen_values = true,
        help_heading = "Backbone"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// Pooling of feature maps or tokens: avg (or mean), max, cls (class token), cls+mean, none, flatten (one vector)
    /// [default: from the model card, else the class token if there is one, else the mean].
    #[arg(long, value_name = "POOL", help_heading = "Backbone", value_parser = values_of::<Pool>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,

    /// Number of tokens before those of patches, class token and registers, which avg, max and none leave out
    /// [default: from the model card, else 0].
    #[arg(long, value_name = "N", help_heading = "Backbone")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_tokens: Option<u32>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// Data type of the stored feature maps; float16 takes half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = values_of::<Dtype>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub augment: AugmentArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub head: HeadArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Extract the features of images to disk; can be resumed.
///
/// Writes features.npy (for numpy.load), index.csv, errors.csv and meta.json. A run that is stopped or killed resumes
/// where it left off; run again later, it adds new and changed images.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "Examples:
  tl-batch extract photos --out photos.features
  tl-batch extract photos --out maps --model vgg16 --input-size 150 --pool none
  tl-batch extract photos --out two --model vgg16 --feature-layer block4_pool --feature-layer block5_pool
  tl-batch extract scans --out scans.features --labels scans.csv --dtype float16")]
pub struct ExtractArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Folder of the feature store; created if missing.
    #[arg(short, long, value_name = "DIR", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub backbone: BackboneArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// With several feature layers: concatenate them into one array instead of one array each.
    #[arg(long, help_heading = "Pipeline")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concat: bool,

    /// Memory limit, such as 200M: processes fewer images at a time and skips those that are too large.
    #[arg(long, value_name = "SIZE", help_heading = "Pipeline", value_parser = bytes)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,

    /// Data type of the stored features; float16 takes half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = values_of::<Dtype>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Train a head on stored features and save a verified model.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch train photos.features -o photos.onnx
  tl-batch train photos.features -o photos.onnx --folds 5
  tl-batch train photos.features -o photos.onnx --optimizer sgd --learning-rate 0.01 --schedule step")]
pub struct TrainArgs {
    /// Feature store written by `extract`.
    #[arg(value_name = "FEATURES", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,

    /// Model file to write (ONNX).
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Train on the features of this layer only, if the store has several [default: all, concatenated].
    #[arg(long = "feature-layer", visible_alias = "cut", value_name = "LAYER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// Name or path of the backbone that computed the features [default: the one recorded in the store].
    #[arg(short, long, visible_alias = "backbone", value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Stop if duplicate images are found in two classes, or in the training split and another.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,

    #[command(flatten)]
    #[serde(flatten)]
    pub head: HeadArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Evaluate a model on labelled images: accuracy, precision, recall, F1, confusion matrix.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch evaluate photos.onnx held-out-photos
  tl-batch evaluate photos.onnx photos --split test")]
pub struct EvaluateArgs {
    /// A model saved by `fit` or `train`.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Folder of images, with one folder per class, named like the model's classes.
    #[arg(value_name = "DATASET")]
    pub dataset: PathBuf,

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

    /// Evaluate this split only, for datasets with train, validation and test folders.
    #[arg(long, value_name = "SPLIT", value_parser = values_of::<Split>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// Quantise a saved model to 8-bit integers (a quarter of the size, faster) or its weights to float16 (half the
/// size).
///
/// Calibrates the range of each layer's activations on training images, quantises weights and activations, and
/// compares both models on the validation images. Layers whose quantisation would change too many predictions stay in
/// float32. The result is a standard QDQ ONNX file (QuantizeLinear and DequantizeLinear around each layer,
/// per-channel weight scales) that can be verified like the original.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch quantize photos.onnx photos -o photos-int8.onnx
  tl-batch quantize photos.onnx photos -o photos-int8.onnx --calibration percentile --calibration-images 300
  tl-batch quantize photos.onnx photos -o photos-half.onnx --float16")]
pub struct QuantizeArgs {
    /// A model saved by `fit` or `train`.
    #[arg(value_name = "MODEL", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Model file to write (ONNX).
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Convert the weights to float16 instead of quantising: half the size, almost no loss, no speed-up.
    #[arg(long, conflicts_with_all = ["calibration", "calibration_images", "keep_float", "max_loss", "weight_bits"])]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub float16: bool,

    /// Calibration method for a layer's range: minmax (full range), percentile (without the outermost 0.01 %), mse
    /// (least squared error) [default: mse].
    #[arg(long, value_name = "METHOD", value_parser = values_of::<Calibration>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,

    /// Maximum number of training images used for calibration [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_images: Option<usize>,

    /// Keep this layer in float32; repeatable. The last layer always stays in float32.
    #[arg(long, value_name = "LAYER")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_float: Vec<String>,

    /// Percentage of calibration images whose predicted class may change; above this, the most sensitive layers stay
    /// in float32 [default: 1].
    #[arg(long, value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<f64>,

    /// Bits per weight, 7 or 8; use 7 for other runtimes on x86 processors without VNNI, where 8 can saturate
    /// [default: 8].
    #[arg(long, value_name = "BITS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bits: Option<u32>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Preview augmentation: write a PNG sheet with a row of augmented views for each of a few images.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch augment-preview photos -o sheet.png
  tl-batch augment-preview photos -o sheet.png --augment RandomRotation=0.1,RandomErasing=0.5")]
pub struct AugmentPreviewArgs {
    /// Folder of images, with or without class folders.
    #[arg(value_name = "DATASET")]
    pub dataset: PathBuf,

    /// CSV file with the columns path and label, instead of class folders.
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,

    /// Meaning of the folders: auto (splits if they are named like splits, else classes), classes, splits, or flat
    /// (images without classes) [default: auto].
    #[arg(long, value_name = "LAYOUT", conflicts_with = "labels", value_parser = values_of::<Layout>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,

    /// PNG file to write.
    #[arg(short, long, value_name = "PNG", required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Number of images on the sheet, taken from each class in turn [default: 6].
    #[arg(long = "images", visible_alias = "pictures", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<usize>,

    /// Random seed; use the training seed to see the training views [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    /// Backbone whose input size and resizing are used [default: efficientnet-lite0].
    #[arg(short, long, visible_alias = "backbone", value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub augment: AugmentArgs,

    /// Overwrite the output if it exists.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Compare feature layers: accuracy and cost of a linear probe on the features of each layer.
///
/// Images unlike ImageNet often do better with earlier layers. Extracts the features of all candidate layers in one
/// pass over the images, then trains and cross-validates a linear probe on each, with the same folds for all. The
/// features are kept, so `train --feature-layer LAYER` builds a model from the best layer right away.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "Examples:
  tl-batch probe-layers photos
  tl-batch probe-layers photos --model vgg16 --layers 6
  tl-batch probe-layers photos --feature-layer block4_pool --feature-layer block5_pool --model vgg16
  tl-batch train photos.layers --feature-layer block4_pool -o photos.onnx")]
pub struct ProbeLayersArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Folder for the stored features [default: the dataset's name with .layers, in the current folder].
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,

    /// Maximum number of layers to try; --feature-layer names them instead [default: 10].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,

    /// Number of cross-validation folds [default: 5].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,

    /// Training epochs for each linear probe [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,

    /// Random seed of folds, order and weights [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    #[command(flatten)]
    #[serde(flatten)]
    pub backbone: BackboneArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}
