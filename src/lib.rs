//! Transfer learning on folders of images, without Python.
//!
//! The way of the data, which is also the order of the rooms below:
//!
//! ```text
//! folder of images ─► dataset ─► pixels ─► backbone ─► features ─► train ─► saved_model ─► predictions
//!                     scan,      decode,   ONNX in     rows on     dense    one ONNX       with labels,
//!                     labels,    orient,   tract, cut  disk, safe  head,    file that      verified
//!                     split      resize,   at a layer  to kill     fit      verifies
//!                                normalise                                  itself
//! ```
//!
//! A room uses only rooms above it. `job` wires rooms into deeds (extract, train, fit, predict …); the
//! two faces, `cli` and `tui`, turn a user's input into a job's configuration and its events into
//! something to see. `tests/architecture.rs` holds this order against the code.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

/// The error type, with a variant for each mistake and an exit code for each kind of mistake.
pub mod error;

/// What a running job tells, and how it is told to stop: events, counts, the cancel token.
pub mod progress;

/// Files that are whole or not there.
pub mod disk;

/// Files from elsewhere: resumed, checked, whole or not there.
pub mod download;

/// Labelled folders and CSV lists of pictures: scanning, classes, stratified splits.
pub mod dataset;

/// From the bytes of a picture to the tensor that a network wants.
pub mod pixels;

/// Pretrained convolutional networks: model cards, layers, cutting at a layer, running.
pub mod backbone;

/// The feature store on disk and the pipeline that fills it.
pub mod features;

/// Fitting the dense head on stored features, cross-validation, metrics.
pub mod train;

/// The one file that comes out: base and head together; written, reloaded, verified, used.
pub mod saved_model;

/// What people look at afterwards: tables and pictures.
pub mod report;

/// One file per deed: wires the rooms above together and emits events.
pub mod job;

/// What a program shares with its system, whatever its face: arguments, signals, standard error.
#[cfg(feature = "predict")]
mod process;

/// The headless face, `tl-batch`.
#[cfg(feature = "predict")]
pub mod cli;

/// The dashboard, `tl-tui`.
#[cfg(feature = "tui")]
pub mod tui;

/// Layers, losses and optimisers: the formulas that training uses. A crate of its own, `crates/nn`.
pub use tl_nn as nn;

pub use error::{Error, Result};
