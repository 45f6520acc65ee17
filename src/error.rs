//! The error type of the library. A variant is a mistake that a user can make, or a thing that can
//! break; its text is one sentence that says what, which file, and what to do.

use std::path::{Path, PathBuf};

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// A path as one line of a message: characters that could move the cursor of a terminal, break the line or
/// turn the reading direction are written out (`\n`, `\u{1b}`), bytes that are no UTF-8 become `�`.
pub fn shown(path: &Path) -> impl std::fmt::Display {
    let text = path.to_string_lossy();
    let written = text.chars().flat_map(|c| {
        let plain = (!is_unsafe(c)).then_some(c);
        let escaped = is_unsafe(c).then(|| c.escape_default());
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    written.collect::<String>()
}

/// Tells whether a character could do something to a terminal, or to the text around it, that is not seen:
/// control characters, and marks that turn the reading direction (Unicode's Bidi_Control).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What went wrong. [`Error::exit_code`] sorts the variants into the exit codes of the programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}{}", shown(path), hint(source))]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A path given by the user does not exist.
    #[error("{what} {} does not exist; check the path", shown(path))]
    NotFound {
        /// What the path stands for: `data set`, `model`, `picture`.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },

    /// The data set cannot be used as it is.
    #[error("data set {}: {problem}", shown(path))]
    Dataset {
        /// Its folder or CSV file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A picture cannot be used.
    #[error("picture {}: {reason}", shown(path))]
    Image {
        /// The picture.
        path: PathBuf,
        /// Why, in one clause.
        reason: String,
    },

    /// A model cannot be loaded or run.
    #[error("model {model}: {problem}")]
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
        /// What the engine said, for whoever looks into it.
        detail: String,
    },

    /// A file could not be fetched.
    #[error("cannot fetch {from}: {problem}")]
    Download {
        /// Its address or path.
        from: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// Two things that must fit do not: shapes, classes, stores.
    #[error("{what}: expected {expected}, found {found}; {hint}")]
    Mismatch {
        /// Which things.
        what: String,
        /// What the one side wants.
        expected: String,
        /// What the other side has.
        found: String,
        /// What to do.
        hint: String,
    },

    /// A feature store has features of other settings.
    #[error(
        "{what} of the feature store {}: expected {expected}, found {found}; give another folder, or --force to replace \
         this one",
        shown(path)
    )]
    OtherFeatures {
        /// Its folder.
        path: PathBuf,
        /// The setting.
        what: &'static str,
        /// What is asked for.
        expected: String,
        /// What the store was made with.
        found: String,
    },

    /// A feature store is broken or of another version.
    #[error("feature store {}: {problem}", shown(path))]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A parameter is out of its range.
    #[error("{name} = {value}: {problem}")]
    Parameter {
        /// Its name as on the command line.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        problem: String,
    },

    /// A configuration file cannot be understood.
    #[error("configuration {}: {problem}", shown(path))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        problem: String,
    },

    /// The output is there already.
    #[error(
        "{} exists already; give --force to replace it, or another name",
        shown(path)
    )]
    OutputExists {
        /// The output.
        path: PathBuf,
    },

    /// Another process works on the same output.
    #[error(
        "{} is in use by another run; wait for it to end, or give another --out",
        shown(path)
    )]
    InUse {
        /// The output.
        path: PathBuf,
    },

    /// A saved model did not give the results that it should.
    #[error("{} does not give the same results: {problem}", shown(path))]
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

    /// Pictures that the user named could not be used; the others were.
    #[error("{pictures} of the pictures could not be used; see above")]
    Unusable {
        /// How many.
        pictures: usize,
    },

    /// The user asked for a stop.
    #[error("stopped")]
    Cancelled,
}

/// What to do about a system error, where that is clear.
fn hint(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match source.kind() {
        StorageFull | QuotaExceeded => {
            "; make room and run the same command again: what is done is kept"
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
    /// | 3 | a data set or picture cannot be used |
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
                what: "model" | "model file",
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

    /// What lies behind the sentence, for whoever wants to look into it: the engine's own message.
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
            ("\u{1b}]0;title\u{7}.jpg", "\\u{1b}]0;title\\u{7}.jpg"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{9b}2J", "\\u{9b}2J"),
        ];
        for (path, line) in cases {
            assert_eq!(shown(Path::new(path)).to_string(), line);
        }
    }
}
