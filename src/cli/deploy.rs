//! `tl-batch export` and `tl-batch install`: replace a model's head, or the whole model, and verify the result.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::FrontEnd;
use super::config::from_flags;
use super::output::{Out, same_results};
use crate::error::Result;
use crate::job::{ExportConfig, InstallConfig, JobInfo, JobKind, export_head, install};
use crate::report::{Text, grouped};

/// The commands of this file.
#[derive(Debug, Subcommand)]
pub enum DeployCommand {
    Export(ExportArgs),
    Install(InstallArgs),
}

/// Export the head of a model to its own file, to send it to a device that already has the backbone.
///
/// The file, a few kB, is an ONNX graph from features to probabilities and identifies its backbone by SHA-256.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch export model.onnx --head-only -o model.head.onnx
  scp model.head.onnx board: && ssh board tl-batch install model.head.onnx model.onnx")]
pub struct ExportArgs {
    /// The saved model.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Export without the backbone.
    #[arg(long, required = true)]
    #[serde(skip)]
    pub head_only: bool,

    /// File to write.
    #[arg(short, long, value_name = "ONNX", required = true)]
    pub output: PathBuf,

    /// Overwrite the output if it exists.
    #[arg(long)]
    #[serde(skip)]
    pub force: bool,
}

/// Replace a model's head, or the whole model, and verify the result.
///
/// The backbone of MODEL is kept; its SHA-256 must match the backbone that the head was trained on. The new model is
/// verified before and after it replaces the old one, which happens in one atomic step. If verification fails, the
/// old model is restored.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch install model.head.onnx model.onnx
  tl-batch install model.head.onnx new.onnx --backbone efficientnet-lite0.onnx")]
pub struct InstallArgs {
    /// A head written by `export --head-only`, or a complete saved model.
    #[arg(value_name = "HEAD")]
    pub head: PathBuf,

    /// The saved model to replace; if it does not exist, it is built from the backbone.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Name or path of the backbone, if MODEL does not exist yet [default: the one that the head names].
    #[arg(long, visible_alias = "backbone", value_name = "BACKBONE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Runs one of them.
pub(super) fn run(front_end: &FrontEnd, command: &DeployCommand) -> Result<()> {
    match command {
        DeployCommand::Export(args) => run_export(front_end, args),
        DeployCommand::Install(args) => run_install(front_end, args),
    }
}

fn run_export(front_end: &FrontEnd, args: &ExportArgs) -> Result<()> {
    let mut config: ExportConfig = from_flags(args)?;
    config.force = args.force;
    let bytes = front_end.show(&JobInfo::new(JobKind::Export, &config), true, |progress| {
        export_head(&config, progress)
    })?;
    if front_end.json {
        return Ok(());
    }
    let name = config.output.to_string_lossy();
    Out::new().line(format!("{name}: {} bytes", grouped(bytes)))
}

fn run_install(front_end: &FrontEnd, args: &InstallArgs) -> Result<()> {
    let config: InstallConfig = from_flags(args)?;
    let report = front_end.show(&JobInfo::new(JobKind::Install, &config), true, |progress| {
        install(&config, progress)
    })?;
    if front_end.json {
        return Ok(());
    }
    let mut text = Text::of(format!(
        "{}: {} bytes from {} of {}{}",
        config.model.to_string_lossy(),
        grouped(report.bytes),
        grouped(report.head_bytes),
        config.head.to_string_lossy(),
        match report.same_file {
            true => ", byte-identical to the exported model",
            false => "",
        },
    ));
    text.add(&same_results(&report.verification));
    Out::new().text(&text)
}
