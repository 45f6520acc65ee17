//! `tl-batch export` and `tl-batch install`: a new head for a model that is on a board already.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Face;
use super::layers::from_flags;
use super::output::{Out, same_results};
use crate::error::Result;
use crate::job::{ExportConfig, InstallConfig, JobCard, export_head, install};
use crate::report::{Text, grouped};

/// The commands of this file.
#[derive(Debug, Subcommand)]
pub enum BoardCommand {
    Export(ExportArgs),
    Install(InstallArgs),
}

/// Write the head of a model to a file of its own, to be sent to where the base is already.
///
/// The file is an ONNX graph from features to probabilities, of some kB, that names its base by SHA-256.
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

    /// Leave the base out.
    #[arg(long, required = true)]
    #[serde(skip)]
    pub head_only: bool,

    /// The file to write.
    #[arg(short, long, value_name = "ONNX", required = true)]
    pub output: PathBuf,

    /// Replace the output if it is there.
    #[arg(long)]
    #[serde(skip)]
    pub force: bool,
}

/// Put a new head, or a whole new model, in the place of a model, and see that it gives its results.
///
/// The base of MODEL stays; it must be the one that the head was trained on, by its SHA-256. The new model is
/// verified before it is put there and after, and takes its place in one step. If it does not verify, the old one
/// is there again.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch install model.head.onnx model.onnx
  tl-batch install model.head.onnx new.onnx --base efficientnet-lite0.onnx")]
pub struct InstallArgs {
    /// What `export --head-only` wrote, or a whole saved model.
    #[arg(value_name = "HEAD")]
    pub head: PathBuf,

    /// The saved model to be replaced; where it is not there, it is made of the base.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Name or path of the base, where MODEL is not there yet [default: the one that the head names].
    #[arg(long, value_name = "BASE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Runs one of them.
pub(super) fn run(face: &Face, command: &BoardCommand) -> Result<()> {
    match command {
        BoardCommand::Export(args) => run_export(face, args),
        BoardCommand::Install(args) => run_install(face, args),
    }
}

fn run_export(face: &Face, args: &ExportArgs) -> Result<()> {
    let mut config: ExportConfig = from_flags(args)?;
    config.force = args.force;
    let bytes = face.show(&JobCard::new("export", &config), true, |progress| {
        export_head(&config, progress)
    })?;
    if face.json {
        return Ok(());
    }
    let name = config.output.to_string_lossy();
    Out::new().line(format!("{name}: {} bytes", grouped(bytes)))
}

fn run_install(face: &Face, args: &InstallArgs) -> Result<()> {
    let config: InstallConfig = from_flags(args)?;
    let report = face.show(&JobCard::new("install", &config), true, |progress| {
        install(&config, progress)
    })?;
    if face.json {
        return Ok(());
    }
    let mut text = Text::of(format!(
        "{}: {} bytes from {} of {}{}",
        config.model.to_string_lossy(),
        grouped(report.bytes),
        grouped(report.head_bytes),
        config.head.to_string_lossy(),
        match report.same_file {
            true => ", byte for byte the model that was exported",
            false => "",
        },
    ));
    text.add(&same_results(&report.verification));
    Out::new().text(&text)
}
