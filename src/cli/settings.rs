//! Describes a command's settings by its flags, for the dashboard.

use clap::CommandFactory;

use super::args::Cli;
use super::config::names_of;

/// A setting of a command: what its flag says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name in a configuration file and, after `--`, on the command line.
    pub name: String,
    /// The group that `--help` puts it in.
    pub group: String,
    /// What it is, in one line.
    pub help: String,
    /// The values that it takes, where there are only some.
    pub choices: Vec<String>,
}

/// All settings of the command `command`, in the order of `--help`.
pub(crate) fn settings(command: &str) -> Vec<Setting> {
    let names = names_of(command);
    let cli = Cli::command();
    let arguments = cli
        .find_subcommand(command)
        .into_iter()
        .flat_map(|c| c.get_arguments());
    arguments
        .map(|argument| Setting {
            name: argument.get_id().as_str().replace('_', "-"),
            group: argument.get_help_heading().unwrap_or("Data").to_owned(),
            help: argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default(),
            choices: argument
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect(),
        })
        .filter(|setting| names.contains(&setting.name))
        .collect()
}
