//! The headless face: turns the command line into a job's configuration, and a job's events and results
//! into text. Results go to standard output, all else to standard error.

mod args;
mod board;
mod layers;
mod models;
mod output;
mod render;
#[cfg(feature = "tui")]
mod settings;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "train")]
mod training;
#[cfg(target_os = "linux")]
mod watch;

use std::io::IsTerminal;

use serde::Serialize;

use self::args::{
    BenchArgs, ClassifyArgs, Cli, Command, PipelineArgs, PredictArgs, SummaryArgs, VerifyArgs,
};
pub(crate) use self::layers::configuration;
use self::output::{Out, ResultWriter};
use self::render::{Manner, Verbosity};
#[cfg(feature = "tui")]
pub(crate) use self::settings::{Setting, settings};
use crate::error::{Error, Result};
use crate::features::PipelineParams;
use crate::job::{
    BenchConfig, ClassifyConfig, JobCard, PredictConfig, SummaryConfig, VerifyConfig, bench,
    classify, predict, run_job, summary, verify,
};
use crate::process::{complain, end_on_signals, parsed, stop_on_signals, survive_size_limits};
use crate::progress::Progress;
use crate::report::{Columns, bench_text, summary_table};

/// Runs `tl-batch` with the arguments of this process; returns its exit code.
pub fn main() -> u8 {
    let cli: Cli = match parsed() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    survive_size_limits();
    let (quiet, verbose) = (cli.quiet, cli.verbose);
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
            if let Some(detail) = error.detail().filter(|_| verbose) {
                complain(&format!("the engine said: {detail}"));
            }
            error.exit_code()
        }
    }
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
        #[cfg(feature = "train")]
        Command::Training(command) => training::run(&face, &command),
        Command::Predict(args) => run_predict(&face, args),
        #[cfg(target_os = "linux")]
        Command::Watch(args) => watch::run(&face, &args),
        Command::Verify(args) => run_verify(&face, args),
        Command::Board(command) => board::run(&face, &command),
        Command::Classify(args) => run_classify(&face, args),
        Command::Summary(args) => run_summary(&face, &args),
        Command::Bench(args) => run_bench(&face, &args),
        Command::Models(args) => models::run(&face, args),
        #[cfg(feature = "shell")]
        Command::Shell(command) => shell::run(&command),
    }
}

/// What the global flags ask for.
struct Face {
    verbosity: Verbosity,
    json: bool,
}

impl Face {
    /// A line on standard error, unless the user wants none.
    fn say(&self, line: &str) {
        if self.verbosity > Verbosity::Quiet {
            complain(line);
        }
    }

    /// Runs a job with its events shown, until it ends or the user stops it.
    fn show<T>(
        &self,
        card: &JobCard,
        events_to_stdout: bool,
        job: impl FnOnce(&Progress) -> Result<T>,
    ) -> Result<T> {
        let (progress, events) = Progress::channel();
        stop_on_signals(progress.cancel().clone())?;
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

fn run_summary(face: &Face, args: &SummaryArgs) -> Result<()> {
    end_on_signals()?;
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
    end_on_signals()?;
    let config: BenchConfig = configuration("bench", args, None)?;
    let report = bench(&config)?;
    let mut out = Out::new();
    if face.json {
        return out.json(&report);
    }
    for warning in &report.warnings {
        face.say(&format!("warning: {warning}"));
    }
    face.say(&report.uses);
    out.text(&bench_text(&report))
}

fn pipeline(command: &str, args: &PipelineArgs) -> Result<PipelineParams> {
    configuration(command, args, None)
}
