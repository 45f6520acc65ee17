//! `tl-batch completions` and `tl-batch man`: shell completions and man pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Subcommand};

use super::args::Cli;
use super::output::Out;
use crate::error::{Error, Result};

/// The commands of this file.
#[derive(Debug, Subcommand)]
pub enum ShellCommand {
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Print a shell completion script.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  tl-batch completions bash > ~/.local/share/bash-completion/completions/tl-batch")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Write man pages, one per command, to a folder.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write to; created if missing.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

pub(super) fn run(command: &ShellCommand) -> Result<()> {
    match command {
        ShellCommand::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "tl-batch", &mut script);
            Out::new().bytes(&script)
        }
        ShellCommand::Man(args) => {
            std::fs::create_dir_all(&args.dir).map_err(Error::io("create", &args.dir))?;
            clap_mangen::generate_to(Cli::command(), &args.dir)
                .map_err(Error::io("write", &args.dir))
        }
    }
}
