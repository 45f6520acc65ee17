//! The error type of the library. Each variant is a user's mistake or a failure; its text is one sentence on one line that
//! says what is wrong, in which file, and what to do. Names and other outside text are written as
//! [`printable`](crate::error::printable) text.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::counts::count;
use crate::foreign::system_error;

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Text from outside as a part of one line: characters that could move the cursor of a terminal, break the line or turn
/// the reading direction are escaped (`\n`, `\u{1b}`).
///
/// Text longer than 4,096 characters is truncated.
///
/// This is the one way in which names of classes, layers, files, models and machines, and whatever else a file or
/// another program says, are shown to a person. Printable text stays unchanged.
pub fn printable(text: &str) -> String {
    let end = text.char_indices().nth(MOST_SHOWN).map(|(end, _)| end);
    let kept = &text[..end.unwrap_or(text.len())];
    let mut written = String::with_capacity(kept.len() + 16);
    for c in kept.chars() {
        match is_unsafe(c) {
            true => written.extend(c.escape_default()),
            false => written.push(c),
        }
    }
    if end.is_some() {
        written.push('…');
    }
    written
}

/// Maximum number of characters shown: as many as a path can have, and more than any sentence.
const MOST_SHOWN: usize = 4_096;

/// A path as [`printable`] text; bytes that are no UTF-8 become `�`.
pub fn shown(path: &Path) -> impl std::fmt::Display {
    printable(&path.to_string_lossy())
}

/// Returns whether a character could invisibly affect a terminal or the text around it:
/// control characters, line and paragraph separators, and marks that turn the reading direction (Unicode's
/// Bidi_Control).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What went wrong. [`Error::exit_code`] sorts the variants into the exit codes of the programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {}{}", shown(path), printable(&system_error(source)), hint(source))]
    Io {
        /// The operation, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A path given by the user does not exist.
    #[error("{what} {} does not exist; check the path", shown(path))]
    NotFound {
        /// What the path stands for.
        what: PathRole,
        /// The path.
        path: PathBuf,
    },

    /// The dataset cannot be used as it is.
    #[error("dataset {}: {}", shown(path), printable(problem))]
    Dataset {
        /// Its folder or CSV file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// An image cannot be used.
    #[error("image {}: {}", shown(path), printable(reason))]
    Image {
        /// The image.
        path: PathBuf,
        /// Why, in one clause.
        reason: String,
    },

    /// A model cannot be loaded or run.
    #[error("model {}: {}", printable(model), printable(problem))]
    Model {
        /// Its name or path.
        model: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// The engine cannot run a model.
    #[error("model {model}: {problem}")]
    Engine {
        /// Its name or path.
        model: String,
        /// What is wrong and what to do.
        problem: String,
        /// The engine's own message, for debugging.
        detail: String,
    },

    /// A file could not be fetched.
    #[error("cannot download {}: {}", printable(from), printable(problem))]
    Download {
        /// Its address or path.
        from: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// Two things that must match do not: shapes, classes, stores.
    #[error(
        "{}: expected {}, found {}; {}",
        printable(what),
        printable(expected),
        printable(found),
        printable(hint)
    )]
    Mismatch {
        /// Which things.
        what: String,
        /// What one side expects.
        expected: String,
        /// What the other side has.
        found: String,
        /// What to do.
        hint: String,
    },

    /// A feature store was made with other settings.
    #[error(
        "feature store {} was made with other settings: {what} is {}, not {}; use another folder, or --force to replace this one",
        shown(path),
        printable(found),
        printable(expected)
    )]
    OtherFeatures {
        /// Its folder.
        path: PathBuf,
        /// The setting.
        what: &'static str,
        /// The requested value.
        expected: String,
        /// The store's value.
        found: String,
    },

    /// A feature store is broken or of another version.
    #[error("feature store {}: {}", shown(path), printable(problem))]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A parameter is out of its range.
    #[error(
        "invalid value `{}` for {name}: {}",
        printable(value),
        printable(problem)
    )]
    Parameter {
        /// Its name as on the command line.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        problem: String,
    },

    /// A configuration file cannot be understood.
    #[error("configuration {}: {}", shown(path), printable(problem))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        problem: String,
    },

    /// The output already exists.
    #[error(
        "{} already exists; use --force to overwrite it, or choose another name",
        shown(path)
    )]
    OutputExists {
        /// The output.
        path: PathBuf,
    },

    /// Another process works on the same output.
    #[error(
        "{} is in use by another run; wait for it to finish, or use another --out",
        shown(path)
    )]
    InUse {
        /// The output.
        path: PathBuf,
    },

    /// A saved model did not give the recorded results.
    #[error(
        "{} does not give the same results: {}",
        shown(path),
        printable(problem)
    )]
    NotSame {
        /// The file.
        path: PathBuf,
        /// Which checks failed.
        problem: String,
    },

    /// Training went to infinity or NaN.
    #[error("training diverged in epoch {epoch}: the loss is {loss}; lower --learning-rate")]
    Diverged {
        /// 1-based number of the epoch.
        epoch: usize,
        /// The loss.
        loss: f32,
    },

    /// Some of the given images could not be used; the others were.
    #[error("{} could not be used; see above", count(*pictures, "image"))]
    Unusable {
        /// How many.
        pictures: usize,
    },

    /// The user asked for a stop.
    #[error("stopped")]
    Cancelled,
}

/// What a path given by the user stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathRole {
    /// A folder of images.
    Dataset,
    /// A CSV file of paths and labels.
    LabelFile,
    /// A folder to watch.
    Folder,
    /// An image file.
    Image,
    /// A folder of stored features.
    FeatureStore,
    /// An ONNX file to load.
    Model,
    /// An ONNX file to copy.
    ModelFile,
    /// The folder of an output file.
    OutputFolder,
}

impl std::fmt::Display for PathRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathRole::Dataset => "dataset",
            PathRole::LabelFile => "label file",
            PathRole::Folder => "folder",
            PathRole::Image => "image",
            PathRole::FeatureStore => "feature store",
            PathRole::Model => "model",
            PathRole::ModelFile => "model file",
            PathRole::OutputFolder => "output folder",
        })
    }
}

/// Checks an integer given by the user for `name` against its range.
///
/// # Errors
/// [`Error::Parameter`] with the range.
pub fn in_range(name: &'static str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        value: value.to_string(),
        problem: format!("must be from {} to {}", range.start(), range.end()),
    })
}

/// Advice for a system error, if any.
fn hint(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match source.kind() {
        StorageFull | QuotaExceeded => {
            "; free some space and run the same command again: finished work is kept"
        }
        FileTooLarge => {
            "; raise the file size limit (`ulimit -f`) and run the same command again: finished work is kept"
        }
        _ => "",
    }
}

impl Error {
    /// The exit code of a program that ends with this error.
    ///
    /// | code | meaning |
    /// | --- | --- |
    /// | 1 | a file cannot be read, written or fetched, or a thread died |
    /// | 2 | the command line or a configuration is wrong |
    /// | 3 | a dataset or image cannot be used |
    /// | 4 | a model cannot be used |
    /// | 5 | the output exists or is in use |
    /// | 6 | a saved model does not give the same results |
    /// | 7 | training diverged |
    /// | 130 | stopped by the user |
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Download { .. } => 1,
            Error::Parameter { .. } | Error::Config { .. } => 2,
            Error::NotFound {
                what: PathRole::Model | PathRole::ModelFile,
                ..
            } => 4,
            Error::NotFound { .. }
            | Error::Dataset { .. }
            | Error::Image { .. }
            | Error::Unusable { .. } => 3,
            Error::Model { .. }
            | Error::Engine { .. }
            | Error::Mismatch { .. }
            | Error::OtherFeatures { .. }
            | Error::Store { .. } => 4,
            Error::OutputExists { .. } | Error::InUse { .. } => 5,
            Error::NotSame { .. } => 6,
            Error::Diverged { .. } => 7,
            Error::Cancelled => 130,
        }
    }

    /// Details for debugging: the engine's own message.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Error::Engine { detail, .. } => Some(detail),
            _ => None,
        }
    }

    /// For `map_err`: turns a system error on `path` into [`Error::Io`].
    pub fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_line_of_plain_text() {
        let cases = [
            ("photos/é 写真 =1+1.jpg", "photos/é 写真 =1+1.jpg"),
            ("a\nerror: b.jpg", "a\\nerror: b.jpg"),
            ("a\u{2028}error: b.jpg", "a\\u{2028}error: b.jpg"),
            ("\u{1b}]0;title\u{7}.jpg", "\\u{1b}]0;title\\u{7}.jpg"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{9b}2J\t", "\\u{9b}2J\\t"),
        ];
        for (path, line) in cases {
            assert_eq!(shown(Path::new(path)).to_string(), line);
            assert_eq!(printable(line), line);
        }
        assert_eq!(printable(&"é".repeat(1 << 20)).chars().count(), 4_097);
    }

    /// Every text that a variant holds may come from outside.
    #[test]
    fn no_name_in_an_error_begins_a_line() {
        let evil = || "x\nsame results: TRUE\r\u{1b}[2J".to_owned();
        let path = || PathBuf::from(evil());
        let errors = [
            Error::Io {
                action: "read",
                path: path(),
                source: std::io::Error::other(evil()),
            },
            Error::NotFound {
                what: PathRole::Model,
                path: path(),
            },
            Error::Dataset {
                path: path(),
                problem: evil(),
            },
            Error::Image {
                path: path(),
                reason: evil(),
            },
            Error::Model {
                model: evil(),
                problem: evil(),
            },
            Error::Download {
                from: evil(),
                problem: evil(),
            },
            Error::Mismatch {
                what: evil(),
                expected: evil(),
                found: evil(),
                hint: evil(),
            },
            Error::OtherFeatures {
                path: path(),
                what: "feature layer",
                expected: evil(),
                found: evil(),
            },
            Error::Store {
                path: path(),
                problem: evil(),
            },
            Error::Parameter {
                name: "--feature-layer",
                value: evil(),
                problem: evil(),
            },
            Error::Config {
                path: path(),
                problem: evil(),
            },
            Error::OutputExists { path: path() },
            Error::InUse { path: path() },
            Error::NotSame {
                path: path(),
                problem: evil(),
            },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("x\\nsame results"), "{text}");
            assert!(!text.contains(is_unsafe), "{text:?}");
        }
    }
}
