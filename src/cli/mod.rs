//! The command-line front end: turns arguments into a job's configuration, and a job's events and results into text.
//! Results go to standard output, everything else to standard error.

mod args;
mod config;
mod deploy;
mod models;
mod output;
mod render;
#[cfg(feature = "tui")]
mod settings;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "train")]
mod training;
mod values;
#[cfg(target_os = "linux")]
mod watch;

use std::io::IsTerminal;

use serde::Serialize;

use self::args::{
    BenchArgs, ClassifyArgs, Cli, Command, PipelineArgs, PredictArgs, SummaryArgs, VerifyArgs,
};
pub(crate) use self::config::configuration;
use self::output::{Format, Out, ResultWriter};
use self::render::{Manner, Verbosity};
#[cfg(feature = "tui")]
pub(crate) use self::settings::{Setting, settings};
use crate::error::{Error, Result};
use crate::features::PipelineParams;
use crate::job::{
    BenchConfig, ClassifyConfig, JobInfo, JobKind, PredictConfig, SummaryConfig, VerifyConfig,
    bench, classify, predict, run_job, summary, verify,
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
                complain("stopped; run the same command again to resume");
            }
            Error::Cancelled.exit_code()
        }
        Err(error) if output::is_closed(&error) => 0,
        Err(error) => {
            complain(&format!("error: {error}"));
            if let Some(detail) = error.detail().filter(|_| verbose) {
                complain(&format!("engine message: {detail}"));
            }
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let front_end = FrontEnd {
        verbosity: match (cli.quiet, cli.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        },
        json: cli.json,
    };
    match cli.command {
        #[cfg(feature = "train")]
        Command::Training(command) => training::run(&front_end, &command),
        Command::Predict(args) => run_predict(&front_end, args),
        #[cfg(target_os = "linux")]
        Command::Watch(args) => watch::run(&front_end, &args),
        Command::Verify(args) => run_verify(&front_end, args),
        Command::Deploy(command) => deploy::run(&front_end, &command),
        Command::Classify(args) => run_classify(&front_end, args),
        Command::Summary(args) => run_summary(&front_end, &args),
        Command::Bench(args) => run_bench(&front_end, &args),
        Command::Models(args) => models::run(&front_end, args),
        #[cfg(feature = "shell")]
        Command::Shell(command) => shell::run(&command),
    }
}

/// What the global flags ask for.
struct FrontEnd {
    verbosity: Verbosity,
    json: bool,
}

impl FrontEnd {
    /// A line on standard error, unless the user wants none.
    fn say(&self, line: &str) {
        if self.verbosity > Verbosity::Quiet {
            complain(line);
        }
    }

    /// Runs a job with its events shown, until it ends or the user stops it.
    fn show<T>(
        &self,
        info: &JobInfo,
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
            long: info.kind.is_long(),
            // Results that scroll by on the same terminal are progress enough, and a bar would mix with them.
            bar: events_to_stdout || !std::io::stdout().is_terminal(),
            every_epoch: info.kind == JobKind::Train || self.verbosity == Verbosity::Verbose,
        };
        let renderer =
            render::spawn(events, manner).map_err(Error::io("start", "the progress display"))?;
        let result = run_job(info, &progress, job);
        drop(progress);
        // The renderer ends when the last sender is gone; it has nothing to fail with.
        let _ = renderer.join();
        result
    }
}

fn run_predict(front_end: &FrontEnd, args: PredictArgs) -> Result<()> {
    let config = PredictConfig {
        model: args.model,
        images: args.images,
        pipeline: pipeline("predict", &args.pipeline)?,
    };
    let format = if front_end.json {
        Format::Jsonl
    } else {
        args.format
    };
    let mut writer = ResultWriter::new(format, args.top, None);
    let (_, skipped) = front_end.show(
        &JobInfo::new(JobKind::Predict, &config),
        false,
        |progress| {
            let result = predict(&config, progress, |classes, result| {
                writer.write(classes, &result)
            })?;
            writer.finish()?;
            Ok(result)
        },
    )?;
    complain_of_skipped(skipped)
}

fn run_classify(front_end: &FrontEnd, args: ClassifyArgs) -> Result<()> {
    if args.save_plot.is_some() && args.images.len() > 1 {
        return Err(Error::Parameter {
            name: "--save-plot",
            value: args.images.len().to_string(),
            problem: "--save-plot takes a single image".into(),
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
    let format = if front_end.json {
        Format::Jsonl
    } else {
        args.format
    };
    let mut writer = ResultWriter::new(format, args.top, Some(usize::from(args.background)));
    let skipped = front_end.show(
        &JobInfo::new(JobKind::Classify, &config),
        false,
        |progress| {
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
        },
    )?;
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

/// Makes the command fail at its end if images that the user named could not be used.
fn complain_of_skipped(skipped: usize) -> Result<()> {
    match skipped {
        0 => Ok(()),
        n => Err(Error::Unusable { pictures: n }),
    }
}

fn run_verify(front_end: &FrontEnd, args: VerifyArgs) -> Result<()> {
    let config = VerifyConfig {
        model: args.model,
        dataset: args.dataset,
    };
    let verification =
        front_end.show(&JobInfo::new(JobKind::Verify, &config), true, |progress| {
            verify(&config, progress)
        })?;
    output::verification(front_end.json, front_end.verbosity, &verification)?;
    verification.require_same(&config.model)
}

fn run_summary(front_end: &FrontEnd, args: &SummaryArgs) -> Result<()> {
    end_on_signals()?;
    let config: SummaryConfig = configuration("summary", args, None)?;
    let summary = summary(&config)?;
    let mut out = Out::new();
    if front_end.json {
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

fn run_bench(front_end: &FrontEnd, args: &BenchArgs) -> Result<()> {
    end_on_signals()?;
    let config: BenchConfig = configuration("bench", args, None)?;
    let report = bench(&config)?;
    let mut out = Out::new();
    if front_end.json {
        return out.json(&report);
    }
    for warning in &report.warnings {
        front_end.say(&format!("warning: {warning}"));
    }
    front_end.say(&report.uses);
    out.text(&bench_text(&report))
}

fn pipeline(command: &str, args: &PipelineArgs) -> Result<PipelineParams> {
    configuration(command, args, None)
}
