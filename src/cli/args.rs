//! The command line of `tl-batch`. Parsing only records: a flag that was not given is absent, so that a
//! configuration file can speak before the defaults do.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use super::board::BoardCommand;
use super::models::ModelsArgs;
#[cfg(feature = "shell")]
use super::shell::ShellCommand;
#[cfg(feature = "train")]
use super::training::TrainingCommand;
#[cfg(target_os = "linux")]
use super::watch::WatchArgs;
use crate::backbone::Pool;

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
  tl-batch watch inbox model.onnx            label pictures as they arrive
  tl-batch classify cat.jpg                  ask the ImageNet classifier

Exit codes:
  0 done · 1 a file cannot be read or written · 2 wrong flag or configuration · 3 unusable data set or picture
  4 unusable model or feature store · 5 output exists or is in use · 6 not the same results · 7 training diverged
  130 stopped (run the same command again to go on)";

/// The commands, in the order of the road.
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
    Board(BoardCommand),
    Classify(ClassifyArgs),
    Summary(SummaryArgs),
    Bench(BenchArgs),
    Models(ModelsArgs),
    #[cfg(feature = "shell")]
    #[command(flatten)]
    Shell(ShellCommand),
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

    /// How feature maps or tokens at the cut are pooled.
    #[arg(long, value_name = "POOL", value_parser = PossibleValuesParser::new(Pool::NAMES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Measure how fast a base or a saved model runs here: images a second, latency, time by layer, memory, heat.
///
/// TL_ENGINE chooses the kernels: avx512, avx2, neon or portable, or tract for the plain engine
/// [default: the fastest that the processor has].
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch bench
  tl-batch bench model.onnx
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

/// How pictures are run.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Pipeline")]
pub struct PipelineArgs {
    /// Pictures in work at the same time; 0 means one a core [default: 0].
    #[arg(short = 'j', long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,

    /// Stop at the first picture that cannot be used, rather than list and skip it, and where training finds the
    /// same bytes in two classes or in two splits.
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
