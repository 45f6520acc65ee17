//! What can go wrong while a network is built.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `config.json` is damaged, or says something that cannot be.
    #[error("config.json: {0}")]
    Config(String),
    /// The network, or a part of it, is none that this crate builds.
    #[error(
        "{what} is not built here; where PyTorch is installed, scripts/export_timm.py exports a network of timm"
    )]
    Unknown {
        /// The architecture, or the architecture and its part.
        what: String,
    },
    /// The file of weights is damaged, or lies about what it holds.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The weights are not those of the architecture that `config.json` names.
    #[error("the weights do not fit {architecture}: {problem}")]
    Mismatch {
        /// The architecture.
        architecture: String,
        /// What does not fit.
        problem: String,
    },
    /// An input size that the network cannot take.
    #[error("input size {size}: {problem}")]
    InputSize {
        /// Height and width in pixels.
        size: usize,
        /// Why not.
        problem: String,
    },
}
