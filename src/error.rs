//! The error type of the library. A variant is a mistake that a user can make, or a thing that can
//! break; its text is one sentence that says what, which file, and what to do.

use std::path::{Path, PathBuf};

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. [`Error::exit_code`] sorts the variants into the exit codes of the programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A path given by the user does not exist.
    #[error("{what} {} does not exist; check the path", path.display())]
    NotFound {
        /// What the path stands for: `data set`, `model`, `picture`.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },

    /// The data set cannot be used as it is.
    #[error("data set {}: {problem}", path.display())]
    Dataset {
        /// Its folder or CSV file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// A picture cannot be used.
    #[error("picture {}: {reason}", path.display())]
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

    /// A feature store is broken or of another version.
    #[error("feature store {}: {problem}", path.display())]
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
    #[error("configuration {}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        problem: String,
    },

    /// The output is there already.
    #[error("{} exists already; give --force to replace it, or another name", path.display())]
    OutputExists {
        /// The output.
        path: PathBuf,
    },

    /// Another process works on the same output.
    #[error("{} is in use by another run; wait for it to end, or give another --out", path.display())]
    InUse {
        /// The output.
        path: PathBuf,
    },

    /// A saved model did not give the results that it should.
    #[error("{} does not give the same results: {problem}", path.display())]
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
            Error::Model { .. } | Error::Mismatch { .. } | Error::Store { .. } => 4,
            Error::OutputExists { .. } | Error::InUse { .. } => 5,
            Error::NotSame { .. } => 6,
            Error::Diverged { .. } => 7,
            Error::Cancelled => 130,
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
