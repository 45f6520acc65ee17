//! `tl-batch models`: lists, shows, fetches and adds backbones.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::FrontEnd;
use super::config::from_flags;
use super::output::Out;
use super::values::values_of;
use crate::backbone::{InputSize, KnownModel, ModelCard, Preparation, Repository, Weights};
use crate::error::Result;
use crate::job::{
    AddConfig, FetchConfig, JobInfo, JobKind, ModelFacts, ModelOrder, add_model, fetch_model,
    list_models, show_model,
};
use crate::report::{Table, Text, grouped};

/// List, download and add pretrained backbones.
///
/// Without a subcommand, lists them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  tl-batch models
  tl-batch models --sort value
  tl-batch models show vgg16
  tl-batch models fetch mobilenetv2
  tl-batch models fetch mobilenetv2 --from /media/stick
  tl-batch models fetch hf:timm/vit_small_patch14_dinov2.lvd142m
  tl-batch models add my-network.onnx --preprocess torch")]
pub struct ModelsArgs {
    /// Order of the list: name; fastest (fewest multiply-adds); value (best for its time: no other is more accurate with
    /// fewer); best (highest ImageNet accuracy, as published).
    #[arg(long, value_name = "ORDER", default_value = "name", value_parser = values_of::<ModelOrder>())]
    pub sort: String,

    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the backbones: size, input, features, accuracy, licence, and whether they are on this machine.
    List,
    Show(ShowArgs),
    Fetch(FetchArgs),
    Add(AddArgs),
}

/// Print a backbone's model card, with facts from its file if it is on this machine.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name of a backbone, path of an ONNX file or of a folder with config.json and model.safetensors.
    #[arg(value_name = "MODEL")]
    pub model: String,
}

/// Download a backbone and check its size and SHA-256.
///
/// An interrupted download resumes where it stopped. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured. The file goes
/// to the folder in TL_MODELS, or to tl/models in the user's data folder.
///
/// hf:OWNER/NAME fetches from the Hugging Face Hub: a network of timm or transformers, which is built from config.json
/// and model.safetensors without Python, or an ONNX file. Afterwards NAME is the name of the backbone. HF_TOKEN,
/// HF_ENDPOINT and HF_HOME are honoured; the licence is printed before the download.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch models fetch mobilenetv2
  tl-batch models fetch hf:timm/vit_small_patch14_dinov2.lvd142m
  tl-batch models fetch resnet50 --from https://mirror.example.org/models
  tl-batch models fetch resnet50 --to /media/stick      then, on the board:
  tl-batch models fetch resnet50 --from /media/stick")]
pub struct FetchArgs {
    /// Name of the backbone, as listed by `tl-batch models`, or hf:OWNER/NAME, or hf:OWNER/NAME@COMMIT.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Folder or http(s) URL to get the file from, instead of the URLs in its card; for hf:OWNER/NAME a folder with the
    /// repository's files, or the URL of another hub.
    #[arg(long, value_name = "DIR-OR-URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,

    /// Destination folder for the file and its card [default: TL_MODELS, else tl/models in the user's data folder].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
}

/// Add any ONNX classifier or feature extractor as a backbone.
///
/// Layout, input size, feature layer and logits are detected from its graph, and it is run once as a check. The file
/// does not say how to preprocess images: give --preprocess or a card, or keep preprocessor_config.json (Hugging
/// FrontEnd) or config.json (timm) next to it; otherwise preprocessing is guessed, with a warning.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "Examples:
  tl-batch models add resnet34.onnx --preprocess torch --license Apache-2.0
  tl-batch models add net.onnx --name my-net --preprocess tf --feature-layer block_13_add
  tl-batch models add net.onnx --card net.toml")]
pub struct AddArgs {
    /// ONNX file to add.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Its model card [default: the .toml file next to it].
    #[arg(long, value_name = "TOML")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<PathBuf>,

    /// Name of the backbone [default: from the card, else from the file name].
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// Preprocessing: torch (RGB, 0 to 1, ImageNet mean and standard deviation), tf (RGB, -1 to 1), caffe (BGR, mean
    /// subtracted), raw (RGB, 0 to 255), unit (RGB, 0 to 1).
    #[arg(long, value_name = "MODE", conflicts_with = "card", value_parser = values_of::<Preparation>())]
    #[serde(rename = "preparation", skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<String>,

    /// Input height and width in pixels: one number, or as in 48x64 [default: from the card or the graph, else 224].
    #[arg(long, value_name = "PX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<InputSize>,

    /// Layer whose output gives the features [default: the last before the classifier].
    #[arg(
        long = "feature-layer",
        visible_alias = "cut",
        value_name = "LAYER",
        allow_hyphen_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,

    /// Source of the weights, recorded in the card.
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// Licence of the weights, recorded in the card.
    #[arg(long, value_name = "SPDX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,

    /// Destination folder [default: TL_MODELS, else tl/models in the user's data folder].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,

    /// Replace a backbone of the same name.
    #[arg(long)]
    #[serde(skip)]
    pub force: bool,
}

/// Runs `tl-batch models`.
pub(super) fn run(front_end: &FrontEnd, args: ModelsArgs) -> Result<()> {
    match args.command.unwrap_or(ModelsCommand::List) {
        ModelsCommand::List => run_list(front_end, &args.sort),
        ModelsCommand::Show(args) => run_show(front_end, &args),
        ModelsCommand::Fetch(args) => run_fetch(front_end, &args),
        ModelsCommand::Add(args) => run_add(front_end, &args),
    }
}

fn run_list(front_end: &FrontEnd, sort: &str) -> Result<()> {
    // One of the names of the orders: the parser takes no other.
    let order = serde_json::from_value(sort.into()).unwrap_or_default();
    let models = front_end.show(&JobInfo::new(JobKind::ListModels, &()), false, |progress| {
        Ok(list_models(order, progress))
    })?;
    let mut out = Out::new();
    if front_end.json {
        return models
            .iter()
            .try_for_each(|model| out.json(&model_row(model)));
    }
    out.text(&models_table(&models))
}

/// One line of `models --json`.
#[derive(Serialize)]
struct ModelRow<'a> {
    #[serde(flatten)]
    card: &'a ModelCard,
    on_this_machine: bool,
    path: Option<&'a PathBuf>,
}

fn model_row(model: &KnownModel) -> ModelRow<'_> {
    ModelRow {
        card: &model.card,
        on_this_machine: model.weights != Weights::Missing,
        path: match &model.weights {
            Weights::File(path) => Some(path),
            _ => None,
        },
    }
}

fn models_table(models: &[KnownModel]) -> Text {
    let mut table = Table::new([
        "name",
        "parameters",
        "MB",
        "input",
        "GMACs",
        "features",
        "top-1",
        "here",
        "licence",
    ]);
    let unknown_or = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    for KnownModel { card, weights } in models {
        let parameters = match (card.parameters, card.bytes) {
            (0, 0) => None,
            // float32 weights take nearly all of the file.
            (0, bytes) => Some(format!("~{:.1} M", bytes as f64 / 4e6)),
            (parameters, _) => Some(format!("{:.1} M", parameters as f64 / 1e6)),
        };
        let megabytes = (card.bytes > 0).then(|| format!("{:.1}", card.bytes as f64 / 1e6));
        let features = (card.features > 0).then(|| card.features.to_string());
        table.row([
            card.name.clone(),
            unknown_or(parameters),
            unknown_or(megabytes),
            card.input_size.to_string(),
            card.gmacs
                .map_or("?".to_owned(), |gmacs| format!("{gmacs:.1}")),
            unknown_or(features),
            card.top1
                .map_or("-".to_owned(), |top1| format!("{top1:.1} %")),
            match weights {
                Weights::Embedded => "built in",
                Weights::File(_) => "yes",
                Weights::Missing => "no",
            }
            .to_owned(),
            card.license.clone(),
        ]);
    }
    let mut text = table.text();
    text.gap();
    text.line(
        "`models show NAME` prints a model card, `models fetch NAME` downloads it, `models add FILE` adds any ONNX file.",
    );
    text
}

fn run_show(front_end: &FrontEnd, args: &ShowArgs) -> Result<()> {
    let facts = front_end.show(&JobInfo::new(JobKind::ShowModel, &()), false, |progress| {
        show_model(&args.model, progress)
    })?;
    print_facts(front_end, &facts)
}

fn print_facts(front_end: &FrontEnd, facts: &ModelFacts) -> Result<()> {
    match front_end.json {
        true => Out::new().json(facts),
        false => Out::new().text(&facts_text(facts)),
    }
}

fn facts_text(facts: &ModelFacts) -> Text {
    let ModelFacts { card, path, found } = facts;
    let preprocess = &card.preprocess;
    let mut lines: Vec<(&str, String)> = vec![
        ("name", card.name.clone()),
        ("title", card.title.clone()),
        ("source", card.source.clone()),
        ("licence", card.license.clone()),
    ];
    lines.push((
        "file",
        match (path, found) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(_)) => "built into this program".to_owned(),
            (None, None) => format!("{}, not on this machine", card.file),
        },
    ));
    if card.bytes > 0 {
        lines.push(("bytes", grouped(card.bytes)));
    }
    lines.push(("SHA-256", card.sha256.clone()));
    lines.extend(card.urls.iter().map(|url| ("from", url.clone())));
    if !card.checked {
        lines.push((
            "checked",
            "no: the numbers are those that the source publishes".to_owned(),
        ));
    }
    lines.push((
        "input",
        format!(
            "{}, at least {1} x {1}",
            card.input_size.sides(),
            card.min_size
        ),
    ));
    if let Some(good_for) = &card.good_for {
        lines.push(("good for", good_for.clone()));
    }
    if let Some(gmacs) = card.gmacs {
        lines.push(("GMACs", format!("{gmacs:.2} billion multiply-adds")));
    }
    if let Some(top1) = card.top1 {
        lines.push((
            "ImageNet",
            format!("{top1:.2} % top-1, as published by the source"),
        ));
    }
    if let Some(found) = found {
        let shape: Vec<String> = found.feature_shape.iter().map(usize::to_string).collect();
        lines.push(("parameters", grouped(found.parameters)));
        lines.push((
            "features",
            format!(
                "{} ({}), pooled: {}",
                found.features,
                shape.join(" x "),
                card.pool.name()
            ),
        ));
        let logits = found.logits.clone();
        lines.push((
            "logits",
            logits.unwrap_or_else(|| "none (no classifier)".to_owned()),
        ));
    } else {
        lines.push(("features", card.features.to_string()));
    }
    lines.push((
        "preprocess",
        format!(
            "{:?} with {:?}, {:?}, {:?}; (v x {} - {:?}) / {:?}",
            preprocess.resize,
            preprocess.filter,
            preprocess.order,
            preprocess.layout,
            preprocess.scale,
            preprocess.mean,
            preprocess.std
        )
        .to_lowercase(),
    ));
    let mut text = Text::default();
    for (key, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.line(format!("{key:<11} {value}"));
    }
    text
}

fn run_fetch(front_end: &FrontEnd, args: &FetchArgs) -> Result<()> {
    let config: FetchConfig = from_flags(args)?;
    let fetched = front_end.show(
        &JobInfo {
            out: config.to.clone(),
            ..JobInfo::new(JobKind::FetchModel, &config)
        },
        true,
        |progress| fetch_model(&config, progress),
    )?;
    if front_end.json {
        return Ok(());
    }
    let name = &config.name;
    Out::new().line(match (&fetched.path, fetched.was_there) {
        (None, _) => format!("{name} is built into this program"),
        (Some(path), true) => format!("{name} is already on this machine: {}", path.display()),
        (Some(path), false) => format!(
            "{}: {} bytes, SHA-256 matches the {}",
            path.display(),
            grouped(fetched.bytes),
            match Repository::parse(name) {
                Some(Ok(repository)) => format!("hub's; use it with --model {}", repository.name),
                _ => "card".to_owned(),
            }
        ),
    })
}

fn run_add(front_end: &FrontEnd, args: &AddArgs) -> Result<()> {
    let mut config: AddConfig = from_flags(args)?;
    config.force = args.force;
    let facts = front_end.show(
        &JobInfo {
            out: config.to.clone(),
            ..JobInfo::new(JobKind::AddModel, &config)
        },
        false,
        |progress| add_model(&config, progress),
    )?;
    print_facts(front_end, &facts)
}
