//! Runs a job: emits its first and last event and writes the configuration beside its output.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::record::recorded;
use crate::disk::write_atomic;
use crate::error::{Error, Result};
use crate::foreign::data_fault;
use crate::progress::{Event, Progress};

/// Every job, named as its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobKind {
    /// `fit`.
    Fit,
    /// `finetune`.
    Finetune,
    /// `extract`.
    Extract,
    /// `train`.
    Train,
    /// `evaluate`.
    Evaluate,
    /// `quantize`.
    Quantize,
    /// `probe-layers`.
    ProbeLayers,
    /// `augment-preview`.
    AugmentPreview,
    /// `predict`.
    Predict,
    /// `classify`.
    Classify,
    /// `watch`.
    Watch,
    /// `verify`.
    Verify,
    /// `export`.
    Export,
    /// `install`.
    Install,
    /// `models`.
    ListModels,
    /// `models show`.
    ShowModel,
    /// `models fetch`.
    FetchModel,
    /// `models add`.
    AddModel,
}

impl JobKind {
    /// Its name on the command line and in [`Event::Started`].
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Fit => "fit",
            JobKind::Finetune => "finetune",
            JobKind::Extract => "extract",
            JobKind::Train => "train",
            JobKind::Evaluate => "evaluate",
            JobKind::Quantize => "quantize",
            JobKind::ProbeLayers => "probe-layers",
            JobKind::AugmentPreview => "augment-preview",
            JobKind::Predict => "predict",
            JobKind::Classify => "classify",
            JobKind::Watch => "watch",
            JobKind::Verify => "verify",
            JobKind::Export => "export",
            JobKind::Install => "install",
            JobKind::ListModels => "models",
            JobKind::ShowModel => "models show",
            JobKind::FetchModel => "models fetch",
            JobKind::AddModel => "models add",
        }
    }

    /// Tells whether people wait for it: it runs images through a network or trains.
    pub fn is_long(self) -> bool {
        matches!(
            self,
            JobKind::Fit
                | JobKind::Finetune
                | JobKind::Extract
                | JobKind::Train
                | JobKind::Evaluate
                | JobKind::ProbeLayers
                | JobKind::Quantize
        )
    }
}

/// Description of a job for progress displays.
#[derive(Clone, Debug)]
pub struct JobInfo {
    /// Which job it is.
    pub kind: JobKind,
    /// Its output, if it has any.
    pub out: Option<PathBuf>,
    /// The feature store in which it works, if any; its events are recorded there, see
    /// [`EVENTS_FILE`](super::EVENTS_FILE).
    pub store: Option<PathBuf>,
    /// Its configuration.
    pub config: serde_json::Value,
    /// Tells a user who stopped it how to resume, in one sentence.
    pub resume: String,
}

impl JobInfo {
    /// The description of a job without output.
    pub fn new(kind: JobKind, config: &impl Serialize) -> JobInfo {
        JobInfo {
            kind,
            // Through text, which keeps 0.01 where the nearest float32 is 0.0099999998. A configuration is plain
            // data: what JSON cannot hold is not in it.
            config: serde_json::to_string(config)
                .and_then(|text| serde_json::from_str(&text))
                .unwrap_or_default(),
            resume: "run the same command again to resume".to_owned(),
            out: None,
            store: None,
        }
    }

    /// The description of a job that makes `out`, recorded in the feature store `store`.
    pub fn with_output(self, out: &Path, store: &Path) -> JobInfo {
        JobInfo {
            out: Some(out.to_owned()),
            store: Some(store.to_owned()),
            ..self
        }
    }
}

/// Runs `job` between [`Event::Started`] and the event that tells how it ended. Its events go to `progress`, and into
/// the event log of the store if the info names one.
///
/// # Errors
/// Those of the job.
pub fn run_job<T>(
    info: &JobInfo,
    progress: &Progress,
    job: impl FnOnce(&Progress) -> Result<T>,
) -> Result<T> {
    match &info.store {
        Some(store) => recorded(store, progress, |progress| run(info, progress, job)),
        None => run(info, progress, job),
    }
}

fn run<T>(
    info: &JobInfo,
    progress: &Progress,
    job: impl FnOnce(&Progress) -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    progress.emit(Event::Started {
        job: info.kind.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        out: info.out.as_ref().map(|path| path.display().to_string()),
        config: info.config.clone(),
    });
    let result = job(progress);
    progress.emit(match &result {
        Ok(_) => Event::Finished {
            seconds: started.elapsed().as_secs_f64(),
        },
        Err(Error::Cancelled) => Event::Cancelled {
            resume: info.resume.clone(),
        },
        Err(error) => Event::Failed {
            message: error.to_string(),
            exit_code: error.exit_code(),
        },
    });
    result
}

/// Writes a job's configuration as TOML, as `--config` reads it.
pub(super) fn write_config(path: &Path, config: &impl Serialize) -> Result<()> {
    let text = toml::to_string(config).map_err(|e| Error::Config {
        path: path.to_owned(),
        problem: format!("it cannot be written: {}", data_fault(&e)),
    })?;
    write_atomic(path, text.as_bytes())
}
