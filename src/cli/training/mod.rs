//! The training commands: from images to features, heads and models.

mod args;
mod groups;
mod output;
mod probe;

use clap::Subcommand;

pub use self::args::{
    AugmentPreviewArgs, EvaluateArgs, ExtractArgs, FinetuneArgs, FitArgs, ProbeLayersArgs,
    QuantizeArgs, TrainArgs,
};
use super::Face;
use super::config::configuration;
use super::output::Out;
use crate::counts::count;
use crate::error::Result;
use crate::job::{
    AugmentPreviewConfig, EvaluateConfig, ExtractConfig, FinetuneConfig, FitConfig, JobCard,
    QuantizeConfig, Recipe, TrainConfig, USUAL_VIEWS, augment_preview, best, evaluate, extract,
    finetune, fit, quantize, train,
};

/// The commands of this room, in the order of the road.
#[derive(Debug, Subcommand)]
pub enum TrainingCommand {
    Fit(FitArgs),
    Finetune(FinetuneArgs),
    Extract(ExtractArgs),
    Train(TrainArgs),
    Evaluate(EvaluateArgs),
    Quantize(QuantizeArgs),
    AugmentPreview(AugmentPreviewArgs),
    ProbeLayers(ProbeLayersArgs),
}

/// Runs one of them.
pub(super) fn run(face: &Face, command: &TrainingCommand) -> Result<()> {
    match command {
        TrainingCommand::Fit(args) => run_fit(face, args),
        TrainingCommand::Finetune(args) => run_finetune(face, args),
        TrainingCommand::Extract(args) => run_extract(face, args),
        TrainingCommand::Train(args) => run_train(face, args),
        TrainingCommand::Evaluate(args) => run_evaluate(face, args),
        TrainingCommand::Quantize(args) => run_quantize(face, args),
        TrainingCommand::AugmentPreview(args) => run_augment_preview(face, args),
        TrainingCommand::ProbeLayers(args) => probe::run(face, args),
    }
}

fn run_fit(face: &Face, args: &FitArgs) -> Result<()> {
    let mut config: FitConfig = configuration("fit", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    if config.recipe == Recipe::Finetune {
        return show_finetune(face, &FinetuneConfig::of_recipe(&config)?);
    }
    if config.recipe == Recipe::Best {
        let report = face.show(&config.card(), true, |progress| best(&config, progress))?;
        return output::best_report(face.json, &report);
    }
    let report = face.show(&config.card(), true, |progress| fit(&config, progress))?;
    output::train_report(face.json, &report)
}

fn run_finetune(face: &Face, args: &FinetuneArgs) -> Result<()> {
    let mut config: FinetuneConfig = configuration("finetune", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    show_finetune(face, &config)
}

fn show_finetune(face: &Face, config: &FinetuneConfig) -> Result<()> {
    let report = face.show(&config.card(), true, |progress| finetune(config, progress))?;
    output::finetune_report(face.json, &report)
}

fn run_extract(face: &Face, args: &ExtractArgs) -> Result<()> {
    let mut config: ExtractConfig = configuration("extract", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let store = face.show(&config.card(), true, |progress| extract(&config, progress))?;
    output::store(face.json, &store)
}

fn run_train(face: &Face, args: &TrainArgs) -> Result<()> {
    let mut config: TrainConfig = configuration("train", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = face.show(&config.card(), true, |progress| train(&config, progress))?;
    output::train_report(face.json, &report)
}

fn run_evaluate(face: &Face, args: &EvaluateArgs) -> Result<()> {
    let config: EvaluateConfig = configuration("evaluate", args, None)?;
    let evaluation = face.show(&JobCard::new("evaluate", &config), true, |progress| {
        evaluate(&config, progress)
    })?;
    output::evaluation(face.json, &evaluation)
}

fn run_quantize(face: &Face, args: &QuantizeArgs) -> Result<()> {
    let mut config: QuantizeConfig = configuration("quantize", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = face.show(&config.card(), true, |progress| quantize(&config, progress))?;
    output::quantize_report(face.json, &report)
}

fn run_augment_preview(face: &Face, args: &AugmentPreviewArgs) -> Result<()> {
    let mut config: AugmentPreviewConfig = configuration("augment-preview", args, None)?;
    config.force = args.force;
    let (rows, augment) = face.show(
        &JobCard::new("augment-preview", &config),
        true,
        |progress| augment_preview(&config, progress),
    )?;
    if face.json {
        return Ok(());
    }
    Out::new().line(format!(
        "{}: {}, each with {} augmented views ({augment})",
        config.output.to_string_lossy(),
        count(rows, "image"),
        config.augment.views.count(USUAL_VIEWS)
    ))
}
