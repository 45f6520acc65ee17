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
use super::FrontEnd;
use super::config::configuration;
use super::output::Out;
use crate::counts::count;
use crate::error::Result;
use crate::job::{
    AugmentPreviewConfig, EvaluateConfig, ExtractConfig, FinetuneConfig, FitConfig, JobInfo,
    JobKind, QuantizeConfig, Recipe, TrainConfig, USUAL_VIEWS, augment_preview, best, evaluate,
    extract, finetune, fit, quantize, train,
};

/// The commands that train, in the order in which they are used.
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
pub(super) fn run(front_end: &FrontEnd, command: &TrainingCommand) -> Result<()> {
    match command {
        TrainingCommand::Fit(args) => run_fit(front_end, args),
        TrainingCommand::Finetune(args) => run_finetune(front_end, args),
        TrainingCommand::Extract(args) => run_extract(front_end, args),
        TrainingCommand::Train(args) => run_train(front_end, args),
        TrainingCommand::Evaluate(args) => run_evaluate(front_end, args),
        TrainingCommand::Quantize(args) => run_quantize(front_end, args),
        TrainingCommand::AugmentPreview(args) => run_augment_preview(front_end, args),
        TrainingCommand::ProbeLayers(args) => probe::run(front_end, args),
    }
}

fn run_fit(front_end: &FrontEnd, args: &FitArgs) -> Result<()> {
    let mut config: FitConfig = configuration("fit", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    if config.recipe == Recipe::Finetune {
        return show_finetune(front_end, &FinetuneConfig::of_recipe(&config)?);
    }
    if config.recipe == Recipe::Best {
        let report =
            front_end.show(&config.job_info(), true, |progress| best(&config, progress))?;
        return output::best_report(front_end.json, &report);
    }
    let report = front_end.show(&config.job_info(), true, |progress| fit(&config, progress))?;
    output::train_report(front_end.json, &report)
}

fn run_finetune(front_end: &FrontEnd, args: &FinetuneArgs) -> Result<()> {
    let mut config: FinetuneConfig = configuration("finetune", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    show_finetune(front_end, &config)
}

fn show_finetune(front_end: &FrontEnd, config: &FinetuneConfig) -> Result<()> {
    let report = front_end.show(&config.job_info(), true, |progress| {
        finetune(config, progress)
    })?;
    output::finetune_report(front_end.json, &report)
}

fn run_extract(front_end: &FrontEnd, args: &ExtractArgs) -> Result<()> {
    let mut config: ExtractConfig = configuration("extract", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let store = front_end.show(&config.job_info(), true, |progress| {
        extract(&config, progress)
    })?;
    output::store(front_end.json, &store)
}

fn run_train(front_end: &FrontEnd, args: &TrainArgs) -> Result<()> {
    let mut config: TrainConfig = configuration("train", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = front_end.show(&config.job_info(), true, |progress| {
        train(&config, progress)
    })?;
    output::train_report(front_end.json, &report)
}

fn run_evaluate(front_end: &FrontEnd, args: &EvaluateArgs) -> Result<()> {
    let config: EvaluateConfig = configuration("evaluate", args, None)?;
    let evaluation = front_end.show(
        &JobInfo::new(JobKind::Evaluate, &config),
        true,
        |progress| evaluate(&config, progress),
    )?;
    output::evaluation(front_end.json, &evaluation)
}

fn run_quantize(front_end: &FrontEnd, args: &QuantizeArgs) -> Result<()> {
    let mut config: QuantizeConfig = configuration("quantize", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = front_end.show(&config.job_info(), true, |progress| {
        quantize(&config, progress)
    })?;
    output::quantize_report(front_end.json, &report)
}

fn run_augment_preview(front_end: &FrontEnd, args: &AugmentPreviewArgs) -> Result<()> {
    let mut config: AugmentPreviewConfig = configuration("augment-preview", args, None)?;
    config.force = args.force;
    let (rows, augment) = front_end.show(
        &JobInfo::new(JobKind::AugmentPreview, &config),
        true,
        |progress| augment_preview(&config, progress),
    )?;
    if front_end.json {
        return Ok(());
    }
    Out::new().line(format!(
        "{}: {}, each with {} augmented views ({augment})",
        config.output.to_string_lossy(),
        count(rows, "image"),
        config.augment.views.count(USUAL_VIEWS)
    ))
}
