//! The headless face: turns the command line into a job's configuration, and a job's events and results
//! into text. Results go to standard output, all else to standard error.

mod args;
mod layers;
mod models;
mod output;
mod probe;
mod render;
mod signals;

use std::io::{IsTerminal, Write};

use clap::{CommandFactory, Parser};
use serde::Serialize;

use self::args::{
    AugmentPreviewArgs, BenchArgs, ClassifyArgs, Cli, Command, EvaluateArgs, ExtractArgs,
    FinetuneArgs, FitArgs, ManArgs, PipelineArgs, PredictArgs, QuantizeArgs, SummaryArgs,
    TrainArgs, VerifyArgs,
};
pub(crate) use self::layers::{Setting, configuration, settings};
use self::output::{Out, ResultWriter};
use self::render::{Manner, Verbosity};
pub(crate) use self::signals::watch;
use crate::error::{Error, Result};
use crate::features::PipelineParams;
use crate::job::{
    AugmentPreviewConfig, BenchConfig, ClassifyConfig, EvaluateConfig, ExtractConfig,
    FinetuneConfig, FitConfig, JobCard, PredictConfig, QuantizeConfig, Recipe, SummaryConfig,
    TrainConfig, USUAL_VIEWS, VerifyConfig, augment_preview, bench, best, classify, evaluate,
    extract, finetune, fit, predict, quantize, run_job, summary, train, verify,
};
use crate::progress::Progress;
use crate::report::{Columns, bench_text, printable, summary_table};

/// Runs `tl-batch` with the arguments of this process; returns its exit code.
pub fn main() -> u8 {
    let cli = Cli::parse();
    let quiet = cli.quiet;
    match run(cli) {
        Ok(()) => 0,
        Err(Error::Cancelled) => {
            if !quiet {
                complain("stopped; run the same command again to go on");
            }
            Error::Cancelled.exit_code()
        }
        Err(error) if output::is_closed(&error) => 0,
        Err(error) => {
            complain(&format!("error: {error}"));
            error.exit_code()
        }
    }
}

fn complain(line: &str) {
    // Whoever closed standard error does not want to be told.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(line));
}

fn run(cli: Cli) -> Result<()> {
    let face = Face {
        verbosity: match (cli.quiet, cli.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        },
        json: cli.json,
    };
    match cli.command {
        Command::Fit(args) => run_fit(&face, &args),
        Command::Finetune(args) => run_finetune(&face, &args),
        Command::Extract(args) => run_extract(&face, &args),
        Command::Train(args) => run_train(&face, &args),
        Command::Predict(args) => run_predict(&face, args),
        Command::Evaluate(args) => run_evaluate(&face, &args),
        Command::Verify(args) => run_verify(&face, args),
        Command::Quantize(args) => run_quantize(&face, &args),
        Command::AugmentPreview(args) => run_augment_preview(&face, &args),
        Command::Classify(args) => run_classify(&face, args),
        Command::Summary(args) => run_summary(&face, &args),
        Command::Bench(args) => run_bench(&face, &args),
        Command::ProbeLayers(args) => probe::run(&face, &args),
        Command::Models(args) => models::run(&face, args),
        Command::Completions(args) => run_completions(args.shell),
        Command::Man(args) => run_man(&args),
    }
}

/// What the global flags ask for.
struct Face {
    verbosity: Verbosity,
    json: bool,
}

impl Face {
    /// Runs a job with its events shown, until it ends or the user stops it.
    fn show<T>(
        &self,
        card: &JobCard,
        events_to_stdout: bool,
        job: impl FnOnce(&Progress) -> Result<T>,
    ) -> Result<T> {
        let (progress, events) = Progress::channel();
        signals::stop_on_signals(progress.cancel().clone())?;
        let manner = Manner {
            verbosity: if self.json && !events_to_stdout {
                Verbosity::Quiet
            } else {
                self.verbosity
            },
            json: self.json && events_to_stdout,
            long: matches!(
                card.name,
                "fit" | "finetune" | "extract" | "train" | "evaluate" | "probe-layers" | "quantize"
            ),
            // Results that scroll by on the same terminal are progress enough, and a bar would mix with them.
            bar: events_to_stdout || !std::io::stdout().is_terminal(),
            every_epoch: card.name == "train" || self.verbosity == Verbosity::Verbose,
        };
        let renderer =
            render::spawn(events, manner).map_err(Error::io("start", "the progress display"))?;
        let result = run_job(card, &progress, job);
        drop(progress);
        // The renderer ends when the last sender is gone; it has nothing to fail with.
        let _ = renderer.join();
        result
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

fn run_predict(face: &Face, args: PredictArgs) -> Result<()> {
    let config = PredictConfig {
        model: args.model,
        images: args.images,
        pipeline: pipeline("predict", &args.pipeline)?,
    };
    let format = if face.json { "jsonl" } else { &args.format };
    let mut writer = ResultWriter::new(format, args.top, None);
    let (_, skipped) = face.show(&JobCard::new("predict", &config), false, |progress| {
        let result = predict(&config, progress, |classes, result| {
            writer.write(classes, &result)
        })?;
        writer.finish()?;
        Ok(result)
    })?;
    complain_of_skipped(skipped)
}

fn run_classify(face: &Face, args: ClassifyArgs) -> Result<()> {
    if args.save_plot.is_some() && args.images.len() > 1 {
        return Err(Error::Parameter {
            name: "--save-plot",
            value: args.images.len().to_string(),
            problem: "it takes one picture at a time".into(),
        });
    }
    if let Some(path) = args
        .save_plot
        .as_ref()
        .filter(|p| p.exists() && !args.force)
    {
        return Err(Error::OutputExists { path: path.clone() });
    }
    let config = ClassifyConfig {
        images: args.images.clone(),
        ..configuration_of_classify(&args)?
    };
    let format = if face.json { "jsonl" } else { &args.format };
    let mut writer = ResultWriter::new(format, args.top, Some(usize::from(args.background)));
    let skipped = face.show(&JobCard::new("classify", &config), false, |progress| {
        let skipped = classify(&config, progress, |labels, result| {
            if args.plot {
                writer.plot(&result)?;
            }
            if let Some(path) = &args.save_plot {
                writer.save_plot(labels, &result, path)?;
            }
            writer.write(labels, &result)
        })?;
        writer.finish()?;
        Ok(skipped)
    })?;
    complain_of_skipped(skipped)
}

fn configuration_of_classify(args: &ClassifyArgs) -> Result<ClassifyConfig> {
    #[derive(Serialize)]
    struct WithImages<'a> {
        images: &'a [String],
        #[serde(flatten)]
        args: &'a ClassifyArgs,
    }
    configuration("classify", &WithImages { images: &[], args }, None)
}

/// Pictures that a user named and that could not be used make the command fail at its end.
fn complain_of_skipped(skipped: usize) -> Result<()> {
    match skipped {
        0 => Ok(()),
        n => Err(Error::Unusable { pictures: n }),
    }
}

fn run_evaluate(face: &Face, args: &EvaluateArgs) -> Result<()> {
    let config: EvaluateConfig = configuration("evaluate", args, None)?;
    let evaluation = face.show(&JobCard::new("evaluate", &config), true, |progress| {
        evaluate(&config, progress)
    })?;
    output::evaluation(face.json, &evaluation)
}

fn run_verify(face: &Face, args: VerifyArgs) -> Result<()> {
    let config = VerifyConfig {
        model: args.model,
        dataset: args.dataset,
    };
    let verification = face.show(&JobCard::new("verify", &config), true, |progress| {
        verify(&config, progress)
    })?;
    output::verification(face.json, face.verbosity, &verification)?;
    verification.require_same(&config.model)
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
    Out::new().text(&format!(
        "{}: {rows} pictures, each as it is and in {} views of {augment}\n",
        printable(&config.output.to_string_lossy()),
        config.augment.views.count(USUAL_VIEWS)
    ))
}

fn run_summary(face: &Face, args: &SummaryArgs) -> Result<()> {
    let config: SummaryConfig = configuration("summary", args, None)?;
    let summary = summary(&config)?;
    let mut out = Out::new();
    if face.json {
        for layer in &summary.layers {
            out.json(layer)?;
        }
        return Ok(());
    }
    let columns = Columns {
        macs: args.macs,
        activations: args.activations,
    };
    out.text(&summary_table(&summary, columns))
}

fn run_bench(face: &Face, args: &BenchArgs) -> Result<()> {
    let config: BenchConfig = configuration("bench", args, None)?;
    let report = bench(&config)?;
    let mut out = Out::new();
    if face.json {
        return out.json(&report);
    }
    out.text(&bench_text(&report))
}

fn run_completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tl-batch", &mut script);
    Out::new().bytes(&script)
}

fn run_man(args: &ManArgs) -> Result<()> {
    std::fs::create_dir_all(&args.dir).map_err(Error::io("create", &args.dir))?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(Error::io("write", &args.dir))
}

fn pipeline(command: &str, args: &PipelineArgs) -> Result<PipelineParams> {
    configuration(command, args, None)
}
