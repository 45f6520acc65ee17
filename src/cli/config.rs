//! Builds a job's configuration from the defaults, a recipe, a `--config` file and the flags.

use std::path::Path;

use clap::CommandFactory;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::args::Cli;
use crate::disk::read_given_text;
use crate::error::{Error, Result};
use crate::foreign::data_fault;
use crate::job::Recipe;

/// Most bytes of a configuration.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Puts the flags over the configuration file `file` of the command `command`, and that over the
/// defaults.
///
/// # Errors
/// [`Error::Config`] for a name that the command has no flag for, or a value of a wrong type.
pub(crate) fn configuration<T: DeserializeOwned>(
    command: &str,
    flags: &impl Serialize,
    file: Option<&Path>,
) -> Result<T> {
    let shown = file.unwrap_or_else(|| Path::new("from the command line"));
    let fail = |problem: String| Error::Config {
        path: shown.to_owned(),
        problem,
    };
    let mut table = match file {
        Some(path) => read(path, command)?,
        None => Table::new(),
    };
    let flags = Value::try_from(flags).map_err(|e| fail(data_fault(&e)))?;
    if let Value::Table(flags) = flags {
        table.extend(flags);
    }
    if let Some(recipe) = table.get("recipe").cloned() {
        let recipe: Recipe = recipe.try_into().map_err(|e| fail(data_fault(&e)))?;
        recipe.fill(&mut table).map_err(|e| fail(data_fault(&e)))?;
    }
    Value::Table(table)
        .try_into()
        .map_err(|e| fail(data_fault(&e)))
}

/// The configuration of a command that has no `--config`: its flags over the defaults.
///
/// # Errors
/// [`Error::Config`] for a value of a wrong type.
pub(super) fn from_flags<T: DeserializeOwned>(flags: &impl Serialize) -> Result<T> {
    configuration("", flags, None)
}

fn read(path: &Path, command: &str) -> Result<Table> {
    let fail = |problem: String| Error::Config {
        path: path.to_owned(),
        problem,
    };
    let text = read_given_text(path, MAX_CONFIG_BYTES)?;
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| fail(data_fault(&e)))?;
    let names = names_of(command);
    let mut settings = Table::new();
    for (key, value) in table {
        let name = match names.contains(&key) {
            true => key.clone(),
            false => setting_of_flag(command, &key).ok_or_else(|| {
                fail(format!(
                    "`{key}` is not a setting of `tl-batch {command}`; see `tl-batch {command} --help`"
                ))
            })?,
        };
        if settings.insert(name, value).is_some() {
            return Err(fail(format!("`{key}` is set twice")));
        }
    }
    Ok(settings)
}

/// The setting of the flag `--flag`, where its name is not that of the setting: `cut` for `feature-layer`, `model` for
/// `backbone`.
fn setting_of_flag(command: &str, flag: &str) -> Option<String> {
    let cli = Cli::command();
    let argument = cli.find_subcommand(command)?.get_arguments().find(|a| {
        a.get_long() == Some(flag) || a.get_all_aliases().unwrap_or_default().contains(&flag)
    })?;
    Some(argument.get_id().as_str().replace('_', "-"))
        .filter(|name| !matches!(name.as_str(), "config" | "force"))
}

/// Names of a command's flags and arguments, which are the names of its settings.
pub(super) fn names_of(command: &str) -> Vec<String> {
    let cli = Cli::command();
    let command = cli.find_subcommand(command);
    command
        .iter()
        .flat_map(|c| c.get_arguments())
        .map(|argument| argument.get_id().as_str().replace('_', "-"))
        .filter(|name| !matches!(name.as_str(), "config" | "force"))
        .collect()
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;
    use crate::cli::args::Command;
    use crate::cli::training::{FitArgs, TrainingCommand};
    use crate::job::FitConfig;

    fn fit_args(line: &str) -> FitArgs {
        match Cli::parse_from(line.split(' ')).command {
            Command::Training(command) => match *command {
                TrainingCommand::Fit(args) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn config_file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_the_defaults() {
        let file =
            config_file("dataset = 'a'\noutput = 'o.onnx'\nepochs = 7\nlearning-rate = 0.5\n");
        let args = fit_args("tl-batch fit b --epochs 9 --config x");
        let config: FitConfig = configuration("fit", &args, Some(file.path())).unwrap();
        assert_eq!(config.dataset, Path::new("b"));
        assert_eq!(config.output, Path::new("o.onnx"));
        assert_eq!(config.head.epochs, 9);
        assert_eq!(config.head.learning_rate, 0.5);
        assert_eq!(config.head.batch_size, 32);
    }

    #[test]
    fn a_recipe_stands_between_the_defaults_and_what_is_given() {
        let of = |line: &str| -> FitConfig { configuration("fit", &fit_args(line), None).unwrap() };
        let mlp = of("tl-batch fit b -o o.onnx --recipe mlp --dropout 0.25");
        assert_eq!((&mlp.head.hidden[..], mlp.head.dropout), (&[256][..], 0.25));
        let augment = of("tl-batch fit b -o o.onnx --recipe augment --views 3");
        assert_eq!(augment.augment.augment, "default".parse().unwrap());
        assert_eq!(augment.augment.views, crate::job::Views::Kept(3));
        assert_eq!(
            of("tl-batch fit b -o o.onnx").augment.augment,
            "none".parse().unwrap()
        );
    }

    #[test]
    fn a_name_that_is_no_flag_is_refused_by_name() {
        let file = config_file("epoch = 7\n");
        let args = fit_args("tl-batch fit b -o o.onnx");
        let error = configuration::<FitConfig>("fit", &args, Some(file.path())).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`epoch` is not a setting of `tl-batch fit`"),
            "{error}"
        );
    }

    #[test]
    fn a_flag_may_be_written_by_any_of_its_names() {
        let read = |text: &str| -> Result<FitConfig> {
            let file = config_file(text);
            configuration(
                "fit",
                &fit_args("tl-batch fit b -o o.onnx"),
                Some(file.path()),
            )
        };
        let new = read("feature-layer = ['x']\nbackbone = 'vgg16'\n").unwrap();
        assert_eq!(new, read("cut = ['x']\nmodel = 'vgg16'\n").unwrap());
        let twice = read("cut = ['x']\nfeature-layer = ['y']\n").unwrap_err();
        assert!(twice.to_string().contains("is set twice"), "{twice}");
    }

    #[test]
    fn a_value_of_a_wrong_type_is_refused() {
        let file = config_file("epochs = 'many'\n");
        let args = fit_args("tl-batch fit b -o o.onnx");
        let error = configuration::<FitConfig>("fit", &args, Some(file.path())).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }

    #[test]
    fn a_written_configuration_reads_back_the_same() {
        let args = fit_args(
            "tl-batch fit b -o o.onnx --hidden 8,4 --pool max --learning-rate 0.3 --dtype float16",
        );
        let config: FitConfig = configuration("fit", &args, None).unwrap();
        let file = config_file(&toml::to_string(&config).unwrap());
        let again: FitConfig = configuration(
            "fit",
            &fit_args("tl-batch fit --config x"),
            Some(file.path()),
        )
        .unwrap();
        assert_eq!(again, config);
    }

    /// The defaults stand in the configuration structs; help must not say otherwise.
    #[test]
    fn help_states_the_true_defaults() {
        let defaults: FitConfig =
            configuration("fit", &fit_args("tl-batch fit b -o o.onnx"), None).unwrap();
        let defaults = Value::try_from(&defaults).unwrap();
        let cli = Cli::command();
        let mut checked = 0;
        for argument in cli.find_subcommand("fit").unwrap().get_arguments() {
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let Some((_, stated)) = help.split_once("[default: ") else {
                continue;
            };
            let stated = stated.trim_end_matches('.').trim_end_matches(']');
            let name = argument.get_id().as_str().replace('_', "-");
            let Some(value) = defaults.get(&name) else {
                continue;
            };
            let same = match value {
                Value::String(text) => text == stated,
                Value::Float(number) => (stated.parse::<f64>().unwrap() - number).abs() < 1e-7,
                Value::Array(list) => list.is_empty() && stated == "none",
                other => other.to_string() == stated,
            };
            assert!(same, "--{name}: help says {stated}, the default is {value}");
            checked += 1;
        }
        assert!(checked > 20, "only {checked} defaults were found");
    }
}
