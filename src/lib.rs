//! Transfer learning on folders of images, without Python.
//!
//! The modules stand in the order in which data passes through them:
//!
//! ```text
//! folder of images ─► dataset ─► pixels ─► backbone ─► features ─► train ─► saved_model ─► predictions
//!                     scan,      decode,   ONNX in     rows on     dense    one ONNX       with labels,
//!                     labels,    orient,   tract, cut  disk, safe  head,    file that      verified
//!                     split      resize,   at a layer  to kill     fit      verifies
//!                                normalise                                  itself
//! ```
//!
//! A module uses only modules above it; `tests/architecture.rs` checks this. `job` combines modules into jobs
//! (extract, train, fit, predict …). The two front ends, `cli` and `tui`, turn user input into a job's
//! configuration and display its events.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

/// Numbers and counts as text.
pub(crate) mod counts;

/// What the system and other libraries say is wrong, in words for a person.
pub(crate) mod foreign;

/// The error type: a variant for each mistake, an exit code for each kind of mistake.
pub mod error;

/// Communication with a running job: events, counters, the cancel token.
pub mod progress;

/// Crash-safe files: complete, or absent.
pub mod disk;

/// Downloads: resumable, verified, complete or absent.
pub mod download;

/// Datasets, from labelled folders or CSV lists: scanning, classes, stratified splits.
pub mod dataset;

/// From the bytes of an image to the input tensor of a network.
pub mod pixels;

/// Pretrained networks: model cards, layers, cutting at the feature layer, inference.
pub mod backbone;

/// The feature store on disk and the pipeline that fills it.
pub mod features;

/// Training the head on stored features, fine-tuning, cross-validation, metrics.
pub mod train;

/// The resulting model, backbone and head in one file: writing, loading, verifying, predicting.
pub mod saved_model;

/// Results as tables and images.
pub mod report;

/// One file per job; each combines the modules above and emits events.
pub mod job;

/// What both programs share with the operating system: arguments, signals, standard error.
#[cfg(feature = "predict")]
mod process;

/// The command-line front end, `tl-batch`.
#[cfg(feature = "predict")]
pub mod cli;

/// The dashboard front end, `tl-tui`.
#[cfg(feature = "tui")]
pub mod tui;

/// Layers, losses and optimisers: the formulas that training uses. A crate of its own, `crates/nn`.
pub use tl_nn as nn;

pub use error::{Error, Result};
