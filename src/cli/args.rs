//! The command line of `tl-batch`. A flag that is not given stays absent, so that a configuration file takes precedence
//! over the defaults.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use super::deploy::DeployCommand;
use super::models::ModelsArgs;
use super::output::Format;
#[cfg(feature = "shell")]
use super::shell::ShellCommand;
#[cfg(feature = "train")]
use super::training::TrainingCommand;
use super::values::values_of;
#[cfg(target_os = "linux")]
use super::watch::WatchArgs;
use crate::backbone::{InputSize, Pool};

/// Transfer learning on folders of images, without Python.
///
/// A pretrained backbone computes the features of each image once; a small dense head learns your classes from them
/// in seconds; backbone and head are saved as one ONNX file that checks on load that its predictions have not
/// changed. No GPU, no download: EfficientNet-Lite0 is built in.
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
    /// Print errors and results only.
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Messages"
    )]
    pub quiet: bool,

    /// Print every epoch, every check, and the engine's own message about a model that it cannot run.
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub verbose: bool,

    /// Write JSON Lines to standard output, one for each event or result, instead of tables.
    #[arg(long, global = true, help_heading = "Messages")]
    pub json: bool,

    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  tl-batch fit photos -o model.onnx          train on photos/<class>/*.jpg and verify the result
  tl-batch predict model.onnx new-photos     label new images
  tl-batch watch inbox model.onnx            label images as they arrive
  tl-batch classify cat.jpg                  classify with the 1,000 ImageNet classes

Exit codes:
  0 success · 1 a file cannot be read or written · 2 wrong flag or configuration · 3 unusable dataset or image
  4 unusable model or feature store · 5 output exists or is in use · 6 results differ · 7 training diverged
  130 stopped (run the same command again to resume)";

/// The commands, in the order in which they are used.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[cfg(feature = "train")]
    #[command(flatten)]
    Training(Box<TrainingCommand>),
    Predict(PredictArgs),
    #[cfg(target_os = "linux")]
    Watch(WatchArgs),
    Verify(VerifyArgs),
    #[command(flatten)]
    Deploy(DeployCommand),
    Classify(ClassifyArgs),
    Summary(SummaryArgs),
    Bench(BenchArgs),
    Models(ModelsArgs),
    #[cfg(feature = "shell")]
    #[command(flatten)]
    Shell(ShellCommand),
}

/// Label new images: class and probability for each.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch predict photos.onnx new.jpg
  tl-batch predict photos.onnx inbox --format csv > labels.csv
  tl-batch predict photos.onnx inbox --json | jq -r 'select(.probability > 0.9) | .path'")]
pub struct PredictArgs {
    /// A model saved by `fit` or `train`.
    #[arg(value_name = "MODEL")]
    #[serde(skip)]
    pub model: PathBuf,

    /// Images or folders of images.
    #[arg(value_name = "IMAGES", required = true)]
    #[serde(skip)]
    pub images: Vec<PathBuf>,

    /// Number of classes to list for each image, most probable first.
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[serde(skip)]
    pub top: usize,

    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
    #[serde(skip)]
    pub format: Format,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// Reload a saved model and check, item by item, that its predictions have not changed.
///
/// Compares a built-in synthetic image and, where available, images of the dataset: bit for bit on the kind of
/// machine that saved the model, to 1e-4 elsewhere. Exits with 6 if anything differs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  tl-batch verify photos.onnx
  tl-batch verify photos.onnx --dataset /mnt/photos")]
pub struct VerifyArgs {
    /// A model saved by `fit` or `train`.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Folder of the dataset [default: the one recorded in the model].
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
}

/// Classify images with the backbone's own ImageNet classifier.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch classify datasets/single/grace_hopper.jpg
  tl-batch classify cat.jpg --top 3 --plot
  tl-batch classify cat.jpg --save-plot cat-labels.png")]
pub struct ClassifyArgs {
    /// Images or folders of images.
    #[arg(value_name = "IMAGES", required = true)]
    #[serde(skip)]
    pub images: Vec<PathBuf>,

    /// Number of classes to list for each image, most probable first.
    #[arg(long, value_name = "K", default_value_t = 5)]
    #[serde(skip)]
    pub top: usize,

    /// Number classes as in lists of 1,001 labels that start with `background`: 653 instead of 652.
    #[arg(long)]
    #[serde(skip)]
    pub background: bool,

    /// Draw each image in the terminal, above its labels.
    #[arg(long)]
    #[serde(skip)]
    pub plot: bool,

    /// Write the image with a bar chart of its classes to this PNG file; takes one image.
    #[arg(long, value_name = "PNG")]
    #[serde(skip)]
    pub save_plot: Option<PathBuf>,

    /// Overwrite the PNG file if it exists.
    #[arg(long, requires = "save_plot")]
    #[serde(skip)]
    pub force: bool,

    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
    #[serde(skip)]
    pub format: Format,

    /// Backbone with a classifier: its name, or the path of an ONNX file or a folder [default: efficientnet-lite0].
    #[arg(short, long, visible_alias = "backbone", value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the model card].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// List a model's layers as Keras does: type, output shape, parameters.
///
/// With --head, the backbone is shown as one frozen layer followed by a dense head, as in a Sequential model.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch summary vgg16 --input-size 150
  tl-batch summary efficientnet-lite0 --head 3
  tl-batch summary vgg16 --macs --activations --unfreeze-from block5_conv1
  tl-batch summary photos.onnx")]
pub struct SummaryArgs {
    /// Name of a backbone, or path of an ONNX file or of a folder with config.json and model.safetensors.
    #[arg(value_name = "MODEL", default_value = "efficientnet-lite0")]
    pub model: String,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the model card].
    #[arg(long, visible_alias = "input", value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// Add a dense softmax head with this many classes to the frozen backbone.
    #[arg(long, value_name = "CLASSES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,

    /// Units of the head's hidden layers, comma-separated.
    #[arg(long, value_name = "UNITS", value_delimiter = ',', requires = "head")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<usize>,

    /// With --head, also list the layers inside the backbone.
    #[arg(long, requires = "head")]
    pub expand_nested: bool,

    /// List every ONNX node instead of layers.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nodes: bool,

    /// Add a column with the multiply-adds for one image.
    #[arg(long)]
    #[serde(skip)]
    pub macs: bool,

    /// Add a column with the bytes of each layer's output for one image, as float32.
    #[arg(long)]
    #[serde(skip)]
    pub activations: bool,

    /// Count this layer and all after it as trainable, those before it as frozen.
    #[arg(long, value_name = "LAYER", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_from: Option<String>,

    /// Layer whose output gives the features: its name, part of its name, or -3 for the third from the end; later
    /// layers are dropped.
    #[arg(
        long = "feature-layer",
        visible_alias = "cut",
        value_name = "LAYER",
        allow_hyphen_values = true
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,

    /// Pooling of the feature maps or tokens at the feature layer.
    #[arg(long, value_name = "POOL", value_parser = values_of::<Pool>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Benchmark a backbone or saved model on this machine: images/s, latency, time per layer, memory, heat.
///
/// TL_ENGINE selects the kernels: avx512, avx2, neon or portable, or tract for plain tract [default: the fastest that
/// the processor supports].
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch bench
  tl-batch bench model.onnx
  tl-batch bench vgg16 --threads 1,2,4 --profile
  TL_ENGINE=tract tl-batch bench efficientnet-lite0")]
pub struct BenchArgs {
    /// Name of a backbone, or path of an ONNX file or of a folder with config.json and model.safetensors.
    #[arg(value_name = "MODEL", default_value = "efficientnet-lite0")]
    pub model: String,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the model card].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// Thread counts to measure, comma-separated [default: 1 and one per core].
    #[arg(short = 'j', long, value_name = "N", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<usize>,

    /// Seconds to measure each thread count [default: 3].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,

    /// List the time and speed of every layer.
    #[arg(long)]
    pub profile: bool,
}

/// How images are processed.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Pipeline")]
pub struct PipelineArgs {
    /// Images processed in parallel; 0 = one per core [default: 0].
    #[arg(short = 'j', long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,

    /// Stop at the first unusable image instead of skipping it, and, when training, at duplicates across classes or
    /// splits.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,

    /// Skip images larger than this, in megapixels [default: 100].
    #[arg(long, value_name = "MP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_megapixels: Option<u32>,

    /// Skip images that take longer than this to read and decode, in seconds [default: 60].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
}
