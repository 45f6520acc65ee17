//! What the commands that train take.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::groups::{AugmentArgs, BackboneArgs, DatasetArgs, HeadArgs, RunArgs};
use crate::backbone::{InputSize, Pool};
use crate::cli::args::PipelineArgs;
use crate::cli::watch::bytes;

/// Folder of pictures → verified model: extract, train, evaluate, save, reload, verify.
///
/// Features are kept beside the model (model.onnx → model.features), so that a second run, with other
/// settings of the head or after a stop, computes only what is new. The configuration is written to
/// model.run.toml.
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

    /// The model to write, an ONNX file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Folder to keep the features in [default: the output, ending .features].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,

    /// Settings in one word, which other flags override: linear; mlp (a hidden layer of 256 with dropout);
    /// augment (random views); finetune (random views, and half of the base's parameters trained, as
    /// `finetune` does); best (each of these in turn, compared by cross-validation on the same folds, 5 if
    /// --folds does not say) [default: linear].
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(["linear", "mlp", "augment", "finetune", "best"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,

    /// How long --recipe best tries recipes, such as 90s, 10m or 1h; training the best one comes on top
    /// [default: 10m].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub backbone: BackboneArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// Type of the stored features: float32, or float16 for half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = PossibleValuesParser::new(["float32", "float16"]))]
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

/// Train the end of a base together with a head: more of the network learns your pictures.
///
/// The layers before the cut stay frozen: every picture is run through them once, and their maps are kept
/// beside the model (tuned.onnx → tuned.maps). The head is trained alone first, then the layers from
/// --unfreeze-from on with it, from the kept maps; statistics of batch normalisations stay frozen. The epoch
/// that does best on the validation pictures is saved, as one ONNX file that verifies itself; if none is
/// better than the head alone, that is saved. A run that was stopped or killed goes on where it was and ends
/// with the same file.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch finetune vgg16 photos --unfreeze-from block5_conv1 --pool avg -o tuned.onnx
  tl-batch finetune efficientnet-lite0 photos --unfreeze-from block6d -o tuned.onnx
  tl-batch finetune photos.onnx photos --unfreeze-from 25% --folds 5 -o tuned.onnx")]
pub struct FinetuneArgs {
    /// Name of a base, path of an ONNX file, or a saved model: then the base in it is taken, as it was fine-tuned; of a
    /// quantised one, the base that it was made of.
    #[arg(value_name = "MODEL", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// The first layer that is trained: its name, the beginning of a block's names, a number of layers counted
    /// from the end, or a share of the parameters such as 25%.
    #[arg(long, value_name = "LAYER", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_from: Option<String>,

    /// The model to write, an ONNX file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Folder to keep the maps at the cut in [default: the output, ending .maps].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps: Option<PathBuf>,

    /// Passes over the training pictures with base and head trained jointly [default: 10].
    #[arg(long, value_name = "N", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_epochs: Option<usize>,

    /// Highest learning rate of the base's layers [default: 0.00002].
    #[arg(long, value_name = "RATE", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_learning_rate: Option<f64>,

    /// Highest learning rate of the head while it is trained jointly [default: 0.0001].
    #[arg(long, value_name = "RATE", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_learning_rate: Option<f64>,

    /// Joint epochs in which both rates rise from 0 [default: 1].
    #[arg(long, value_name = "N", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_warmup_epochs: Option<usize>,

    /// Train scale and shift of batch normalisations, too; their statistics never are.
    #[arg(long, help_heading = "Joint training")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub train_batchnorm: bool,

    /// CutMix in the joint epochs: a rectangle of each picture's maps, and its share of the label, come from another
    /// picture of the batch; shares are from Beta(ALPHA, ALPHA). 1 is usual, 2 the most [default: 0].
    #[arg(long, value_name = "ALPHA", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,

    /// Share of the jointly trained weights in the model, the rest being those before the joint epochs (WiSE-FT); 1 is
    /// all of them, a half is often as accurate and surer of no loss [default: 1].
    #[arg(long, value_name = "SHARE", help_heading = "Joint training")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wise_ft: Option<f64>,

    /// Height and width of the input in pixels, one number or as in 48x64 [default: what the model card says].
    #[arg(long, value_name = "PX", help_heading = "Base")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// The layer whose output is the feature [default: the last before the classifier].
    #[arg(
        long,
        value_name = "LAYER",
        allow_hyphen_values = true,
        help_heading = "Base"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// How feature maps or tokens are pooled: mean, maximum, class token, not at all, one vector [default: what the
    /// model card says, else the class token of tokens that have one, else the mean].
    #[arg(long, value_name = "POOL", help_heading = "Base", value_parser = PossibleValuesParser::new(Pool::NAMES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// Type of the stored maps: float32, or float16 for half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = PossibleValuesParser::new(["float32", "float16"]))]
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

/// Pictures → features on disk, resumable.
///
/// Writes features.npy (numpy.load opens it), index.csv, errors.csv and meta.json. A run that was stopped
/// or killed goes on where it was; a finished store takes in new and changed pictures.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch extract photos --out photos.features
  tl-batch extract photos --out maps --model vgg16 --input-size 150 --pool none
  tl-batch extract photos --out two --model vgg16 --cut block4_pool --cut block5_pool
  tl-batch extract scans --out scans.features --labels scans.csv --dtype float16")]
pub struct ExtractArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Folder of the feature store, made if it is not there.
    #[arg(short, long, value_name = "DIR", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub backbone: BackboneArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,

    /// With several cuts: one array for all of them, side by side, rather than one for each.
    #[arg(long, help_heading = "Pipeline")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concat: bool,

    /// Take no more memory than this, such as 200M: fewer pictures at a time, and those that are too large are skipped.
    #[arg(long, value_name = "SIZE", help_heading = "Pipeline", value_parser = bytes)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,

    /// Type of the stored features: float32, or float16 for half the space [default: float32].
    #[arg(long, value_name = "TYPE", help_heading = "Pipeline", value_parser = PossibleValuesParser::new(["float32", "float16"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Features → verified model: fit a dense softmax head on stored features.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch train photos.features -o photos.onnx
  tl-batch train photos.features -o photos.onnx --folds 5
  tl-batch train photos.features -o photos.onnx --optimizer sgd --learning-rate 0.01 --schedule step")]
pub struct TrainArgs {
    /// Folder of the feature store, as `extract` made it.
    #[arg(value_name = "FEATURES", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,

    /// The model to write, an ONNX file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Train on the features of this cut alone, of a store with several [default: all, side by side].
    #[arg(long, value_name = "LAYER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// Name or path of the base that made the features [default: what the store says].
    #[arg(short, long, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Stop where pictures with the same bytes are in two classes, or in training and elsewhere.
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

/// Accuracy, precision, recall, F1 and confusion matrix of a model on labelled pictures.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch evaluate photos.onnx held-out-photos
  tl-batch evaluate photos.onnx photos --split test")]
pub struct EvaluateArgs {
    /// The model, as `fit` or `train` saved it.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Folder of pictures, in folders named as the model's classes.
    #[arg(value_name = "DATASET")]
    pub dataset: PathBuf,

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

    /// Only the pictures of this split, for data sets with train, validation and test folders.
    #[arg(long, value_name = "SPLIT", value_parser = PossibleValuesParser::new(["training", "validation", "test"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// Make a saved model smaller and faster: integers of 8 bits, a quarter of the size; or float16 weights, half.
///
/// Runs training pictures through the model to find the range of each layer's values, rounds weights and values to
/// integers, and compares the two models on the validation pictures. Layers whose rounding would change too many
/// classes stay in floats. The result is an ordinary ONNX file (QuantizeLinear and DequantizeLinear around each
/// layer, a scale for each channel of the weights) that verifies itself as the old one does.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch quantize photos.onnx photos -o photos-int8.onnx
  tl-batch quantize photos.onnx photos -o photos-int8.onnx --calibration percentile --calibration-images 300
  tl-batch quantize photos.onnx photos -o photos-half.onnx --float16")]
pub struct QuantizeArgs {
    /// The model, as `fit` or `train` saved it.
    #[arg(value_name = "MODEL", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// The model to write, an ONNX file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Make the weights float16 in place of integers: half the size, next to no loss, no gain in speed.
    #[arg(long, conflicts_with_all = ["calibration", "calibration_images", "keep_float", "max_loss", "weight_bits"])]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub float16: bool,

    /// How the range of a layer's values is chosen: minmax (all of them), percentile (all but the outermost
    /// 0.01 %), mse (least squared error) [default: mse].
    #[arg(long, value_name = "METHOD", value_parser = PossibleValuesParser::new(["minmax", "percentile", "mse"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,

    /// Training pictures on which the ranges are chosen, at most [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_images: Option<usize>,

    /// Keep this layer in floats; may be given again. The last one is kept anyway.
    #[arg(long, value_name = "LAYER")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_float: Vec<String>,

    /// Percent of the calibration pictures whose class may change; beyond it, the layers whose rounding does most
    /// are kept in floats [default: 1].
    #[arg(long, value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<f64>,

    /// Bits of a weight, 7 or 8: 7 for runtimes on x86 processors without VNNI, where sums of 8 overflow
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

/// Show what augmentation makes of pictures: a PNG file with a row of views for each of some of them.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch augment-preview photos -o sheet.png
  tl-batch augment-preview photos -o sheet.png --augment RandomRotation=0.1,RandomErasing=0.5")]
pub struct AugmentPreviewArgs {
    /// Folder of pictures, in class folders or not.
    #[arg(value_name = "DATASET")]
    pub dataset: PathBuf,

    /// CSV file of path,label lines, in place of class folders.
    #[arg(long, value_name = "CSV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,

    /// What the folders stand for: auto (splits where their names say so, else classes), classes, splits, or flat
    /// (pictures without classes) [default: auto].
    #[arg(long, value_name = "LAYOUT", conflicts_with = "labels", value_parser = PossibleValuesParser::new(["auto", "classes", "splits", "flat"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,

    /// The PNG file to write.
    #[arg(short, long, value_name = "PNG", required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,

    /// Pictures on the sheet, of each class in turn [default: 6].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<usize>,

    /// Seed of the views; that of a training shows the views that it sees [default: 0].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    /// Base whose input size and resizing rule are used [default: efficientnet-lite0].
    #[arg(short, long, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub augment: AugmentArgs,

    /// Replace the output if it is there.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Which layer's features do best for your pictures: a table of layers with their accuracy and cost.
///
/// Data unlike ImageNet does better with earlier layers. Takes all candidate layers of a base in one pass
/// over the pictures, trains a head on each and cross-validates it, over the same folds for all. The features
/// are kept: `train --cut LAYER` makes a model of the winner at once.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch probe-layers photos
  tl-batch probe-layers photos --model vgg16 --layers 6
  tl-batch probe-layers photos --cut block4_pool --cut block5_pool --model vgg16
  tl-batch train photos.layers --cut block4_pool -o photos.onnx")]
pub struct ProbeLayersArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub dataset: DatasetArgs,

    /// Folder to keep the features in [default: the data set's name, ending .layers, in this folder].
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,

    /// Try at most this many layers; --cut names them instead [default: 10].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,

    /// Folds of the cross-validation [default: 5].
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,

    /// Passes over the training pictures for each head [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,

    /// Seed of folds, order and weights [default: 0].
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
