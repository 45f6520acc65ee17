//! The command line of `tl-batch`. Parsing only records: a flag that was not given is absent, so that a
//! configuration file can speak before the defaults do.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use super::models::ModelsArgs;
use crate::job::Views;

/// Transfer learning on folders of images, without Python.
///
/// A pretrained convolutional base turns each picture into features, once; a small dense head learns your
/// classes from them in seconds; base and head are saved as one ONNX file that proves that it gives the
/// same results when it is loaded again. No GPU, no download: EfficientNet-Lite0 is inside.
#[derive(Debug, Parser)]
#[command(
    name = "tl-batch",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_long_help = EXAMPLES
)]
pub struct Cli {
    /// Say less: errors and results only.
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Messages"
    )]
    pub quiet: bool,

    /// Say more: every epoch, every check.
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub verbose: bool,

    /// Write JSON lines to standard output, one for each event or result, in place of tables.
    #[arg(long, global = true, help_heading = "Messages")]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tl-batch fit photos -o model.onnx          train on photos/<class>/*.jpg and verify the result
  tl-batch predict model.onnx new-photos     label new pictures
  tl-batch classify cat.jpg                  ask the ImageNet classifier

Exit codes:
  0 done · 1 a file cannot be read or written · 2 wrong flag or configuration · 3 unusable data set or picture
  4 unusable model or feature store · 5 output exists or is in use · 6 not the same results · 7 training diverged
  130 stopped (run the same command again to go on)";

/// The commands, in the order of the road.
#[derive(Debug, Subcommand)]
pub enum Command {
    Fit(FitArgs),
    Finetune(FinetuneArgs),
    Extract(ExtractArgs),
    Train(TrainArgs),
    Predict(PredictArgs),
    Evaluate(EvaluateArgs),
    Verify(VerifyArgs),
    Quantize(QuantizeArgs),
    AugmentPreview(AugmentPreviewArgs),
    Classify(ClassifyArgs),
    Summary(SummaryArgs),
    Bench(BenchArgs),
    ProbeLayers(ProbeLayersArgs),
    Models(ModelsArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

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
    /// augment (random views); finetune (half of the base's parameters trained, as `finetune` does); best (each
    /// of these in turn, compared by cross-validation on the same folds, 5 if --folds does not say) [default:
    /// linear].
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
    /// Name of a base, path of an ONNX file, or a model that `fit` saved: then its base is taken.
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

    /// Height and width of the input in pixels [default: what the model card says].
    #[arg(long, value_name = "PX", help_heading = "Base")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,

    /// The layer whose output is the feature [default: the last before the classifier].
    #[arg(
        long,
        value_name = "LAYER",
        allow_hyphen_values = true,
        help_heading = "Base"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// How feature maps are pooled [default: what the model card says].
    #[arg(long, value_name = "POOL", help_heading = "Base", value_parser = PossibleValuesParser::new(["avg", "max", "none", "flatten"]))]
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

    #[command(flatten)]
    #[serde(flatten)]
    pub head: HeadArgs,

    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,
}

/// Labels and probabilities for new pictures.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch predict photos.onnx new.jpg
  tl-batch predict photos.onnx inbox --format csv > labels.csv
  tl-batch predict photos.onnx inbox --json | jq -r 'select(.probability > 0.9) | .path'")]
pub struct PredictArgs {
    /// The model, as `fit` or `train` saved it.
    #[arg(value_name = "MODEL")]
    #[serde(skip)]
    pub model: PathBuf,

    /// Pictures, and folders of pictures.
    #[arg(value_name = "IMAGES", required = true)]
    #[serde(skip)]
    pub images: Vec<PathBuf>,

    /// How many classes to list for each picture, most probable first.
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[serde(skip)]
    pub top: usize,

    /// How to write the results.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = PossibleValuesParser::new(["table", "csv", "jsonl"]))]
    #[serde(skip)]
    pub format: String,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
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

    /// Only the pictures of this split, for data sets with train, validation and test folders.
    #[arg(long, value_name = "SPLIT", value_parser = PossibleValuesParser::new(["training", "validation", "test"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// Reload a model and show, item by item, that it gives the same results as when it was saved.
///
/// Compares the built-in probe picture and, where they are at hand, pictures of the data set: to the bit on
/// the kind of machine that saved the model, to 1e-4 elsewhere. Exit code 6 if anything differs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  tl-batch verify photos.onnx
  tl-batch verify photos.onnx --dataset /mnt/photos")]
pub struct VerifyArgs {
    /// The model, as `fit` or `train` saved it.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Where the data set is [default: where the model says].
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
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

/// Ask the ImageNet classifier what is on pictures: class, label, probability.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch classify datasets/single/grace_hopper.jpg
  tl-batch classify cat.jpg --top 3 --plot
  tl-batch classify cat.jpg --save-plot cat-labels.png")]
pub struct ClassifyArgs {
    /// Pictures, and folders of pictures.
    #[arg(value_name = "IMAGES", required = true)]
    #[serde(skip)]
    pub images: Vec<PathBuf>,

    /// How many classes to list for each picture, most probable first.
    #[arg(long, value_name = "K", default_value_t = 5)]
    #[serde(skip)]
    pub top: usize,

    /// Count classes from a leading `background`, as lists of 1,001 labels do: 653 for 652.
    #[arg(long)]
    #[serde(skip)]
    pub background: bool,

    /// Draw each picture in the terminal, above its labels.
    #[arg(long)]
    #[serde(skip)]
    pub plot: bool,

    /// Write picture, label and bars to this PNG file; takes one picture.
    #[arg(long, value_name = "PNG")]
    #[serde(skip)]
    pub save_plot: Option<PathBuf>,

    /// Replace the PNG file if it is there.
    #[arg(long, requires = "save_plot")]
    #[serde(skip)]
    pub force: bool,

    /// How to write the results.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = PossibleValuesParser::new(["table", "csv", "jsonl"]))]
    #[serde(skip)]
    pub format: String,

    /// Name of a base with a classifier, or path of an ONNX file [default: efficientnet-lite0].
    #[arg(short, long, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Height and width of the input in pixels [default: what the model card says].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// List a model's layers as Keras does: type, output shape, parameters.
///
/// With --head the base counts as one frozen layer, as in a Sequential model, with a dense head behind it.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch summary vgg16 --input-size 150
  tl-batch summary efficientnet-lite0 --head 3
  tl-batch summary vgg16 --macs --activations --unfreeze-from block5_conv1
  tl-batch summary photos.onnx")]
pub struct SummaryArgs {
    /// Name of a base, or path of an ONNX file.
    #[arg(value_name = "MODEL", default_value = "efficientnet-lite0")]
    pub model: String,

    /// Height and width of the input in pixels [default: what the model card says].
    #[arg(long, visible_alias = "input", value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,

    /// Number of classes of a dense softmax head behind the frozen base.
    #[arg(long, value_name = "CLASSES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,

    /// Widths of the head's hidden layers, comma-separated.
    #[arg(long, value_name = "UNITS", value_delimiter = ',', requires = "head")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,

    /// With --head: list the layers inside the base, too.
    #[arg(long, requires = "head")]
    pub expand_nested: bool,

    /// List every ONNX node, not layers.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nodes: bool,

    /// Add a column of multiply-adds for one picture.
    #[arg(long)]
    #[serde(skip)]
    pub macs: bool,

    /// Add a column of the bytes that each layer's output takes for one picture, as float32.
    #[arg(long)]
    #[serde(skip)]
    pub activations: bool,

    /// Count the layers before this one as frozen, it and those behind it as trained.
    #[arg(long, value_name = "LAYER", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_from: Option<String>,

    /// The layer whose output is the feature: its name, a part of it, or -3 for the third from the end;
    /// what is behind it is left out.
    #[arg(long, value_name = "LAYER", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,

    /// How feature maps at the cut are pooled.
    #[arg(long, value_name = "POOL", value_parser = PossibleValuesParser::new(["avg", "max", "none", "flatten"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
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

/// Measure how fast a base runs here: images a second, time and GFLOP/s by layer, memory.
///
/// TL_ENGINE chooses the kernels: avx512, avx2, neon or portable, or tract for the plain engine
/// [default: the fastest that the processor has].
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch bench
  tl-batch bench vgg16 --threads 1,2,4 --profile
  TL_ENGINE=tract tl-batch bench efficientnet-lite0")]
pub struct BenchArgs {
    /// Name of a base, or path of an ONNX file.
    #[arg(value_name = "MODEL", default_value = "efficientnet-lite0")]
    pub model: String,

    /// Height and width of the input in pixels [default: what the model card says].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,

    /// Numbers of threads, comma-separated [default: 1 and one a core].
    #[arg(short = 'j', long, value_name = "N", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<usize>,

    /// How long each number of threads is measured, in seconds [default: 3].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,

    /// List every layer with its time and speed.
    #[arg(long)]
    pub profile: bool,
}

/// Write a completion script for a shell to standard output.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  tl-batch completions bash > ~/.local/share/bash-completion/completions/tl-batch")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Write the manual pages, one for each command, into a folder.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder, made if it is not there.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

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

    /// How feature maps are pooled [default: what the model card says].
    #[arg(long, value_name = "POOL", value_parser = PossibleValuesParser::new(["avg", "max", "none", "flatten"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// How pictures are run.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Pipeline")]
pub struct PipelineArgs {
    /// Pictures in work at the same time; 0 means one a core [default: 0].
    #[arg(short = 'j', long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,

    /// Stop at the first picture that cannot be used, rather than list and skip it.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,

    /// Skip pictures with more pixels than this, in millions [default: 100].
    #[arg(long, value_name = "MP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_megapixels: Option<u32>,

    /// Skip pictures that take longer than this to read and decode, in seconds [default: 60].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
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

    /// Replace the output if it is there.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}
