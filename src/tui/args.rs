//! The command line of `tl-tui`. The settings of a run are those of `tl-batch fit`, read in the same way.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::state::default_output;
use super::theme::Background;
use crate::cli::configuration;
use crate::error::Result;
use crate::job::FitConfig;

/// Transfer learning on folders of images, in a terminal dashboard.
///
/// Choose a dataset and a backbone, press r, and watch: the backbone computes the features of each image, a head is
/// trained on them, and the saved model is reloaded and verified. The files are those of `tl-batch fit`: start a run
/// in either program, resume it in the other.
#[derive(Debug, Parser)]
#[command(name = "tl-tui", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Args {
    /// Folder of images, with one folder per class [default: choose it on the start screen].
    #[arg(value_name = "DATASET")]
    pub dataset: Option<PathBuf>,

    /// Meaning of the folders: auto (splits if they are named like splits, else classes), classes, splits, or flat
    /// (images without classes) [default: auto].
    #[arg(long, value_name = "LAYOUT", value_parser = PossibleValuesParser::new(["auto", "classes", "splits", "flat"]))]
    pub layout: Option<String>,

    /// Name of a backbone (efficientnet-lite0, vgg16), or path of an ONNX file [default: efficientnet-lite0].
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,

    /// ONNX file to write [default: the dataset's name with .onnx].
    #[arg(short, long, visible_alias = "output", value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// TOML file with settings; the names are those of the flags of `tl-batch fit`.
    #[arg(long, value_name = "TOML")]
    pub config: Option<PathBuf>,

    /// Watch a run of another program, read-only, through the events in its feature store: the folder of the store or
    /// the file name of the model.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dataset", "layout", "model", "out", "config"])]
    pub attach: Option<PathBuf>,

    /// Background of the terminal [default: from COLORFGBG, else dark].
    #[arg(long, value_name = "BACKGROUND")]
    pub theme: Option<Background>,

    /// How to draw images; auto asks the terminal what it supports.
    #[arg(long, visible_alias = "pictures", value_name = "HOW", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "kitty", "sixel", "iterm2", "blocks", "none"]))]
    pub images: String,
}

const EXAMPLES: &str = "\
Examples:
  tl-tui                                     choose a dataset and a backbone, then press r
  tl-tui photos --out photos.onnx            the same as: tl-batch fit photos -o photos.onnx
  tl-tui --attach photos.features            watch a run of tl-batch, for example over ssh

Press ? for a list of keys. Set NO_COLOR to turn colours off.";

impl Args {
    /// The settings of the first run.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the file is not valid.
    pub fn configuration(&self) -> Result<FitConfig> {
        /// Dataset and output may be empty here: they are chosen later.
        #[derive(Serialize)]
        struct Flags<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            dataset: Option<PathBuf>,
            #[serde(skip_serializing_if = "Option::is_none")]
            output: Option<PathBuf>,
            #[serde(skip_serializing_if = "Option::is_none")]
            layout: &'a Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            model: &'a Option<String>,
        }
        let chosen_later = self.config.is_none().then(PathBuf::new);
        let flags = Flags {
            dataset: self.dataset.clone().or_else(|| chosen_later.clone()),
            output: self.out.clone().or(chosen_later),
            layout: &self.layout,
            model: &self.model,
        };
        let mut config: FitConfig = configuration("fit", &flags, self.config.as_deref())?;
        if config.output.as_os_str().is_empty() {
            config.output = default_output(&config.dataset);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(line: &str) -> FitConfig {
        let args = Args::parse_from(line.split(' '));
        args.configuration().unwrap()
    }

    #[test]
    fn the_output_is_named_after_the_dataset() {
        let found = config("tl-tui some/photos/");
        assert_eq!(found.output, Path::new("photos.onnx"));
        assert_eq!(config("tl-tui").output, Path::new(""));
        let found = config("tl-tui photos --model vgg16 --out a.onnx");
        assert_eq!(found.output, Path::new("a.onnx"));
        assert_eq!(found.backbone.model, "vgg16");
        let found = config("tl-tui photos --layout classes");
        assert_eq!(found.layout, crate::dataset::Layout::Classes);
    }

    #[test]
    fn a_configuration_file_of_a_run_is_taken_and_flags_override_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "dataset = 'a'\noutput = 'o.onnx'\nepochs = 7\n",
        )
        .unwrap();
        let found = config(&format!("tl-tui b --config {}", file.path().display()));
        assert_eq!(found.dataset, Path::new("b"));
        assert_eq!(found.output, Path::new("o.onnx"));
        assert_eq!(found.head.epochs, 7);
    }
}
