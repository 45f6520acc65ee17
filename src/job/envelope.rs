//! Runs a job: emits its first and last event and writes the configuration beside its output.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::record::recorded;
use crate::disk::write_atomic;
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};

/// Description of a job for progress displays.
#[derive(Clone, Debug, Default)]
pub struct JobCard {
    /// Its command-line name, such as `fit`.
    pub name: &'static str,
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

impl JobCard {
    /// The card of a job without output.
    pub fn new(name: &'static str, config: &impl Serialize) -> JobCard {
        JobCard {
            name,
            // Through text, which keeps 0.01 where the nearest float32 is 0.0099999998. A configuration is plain
            // data: what JSON cannot hold is not in it.
            config: serde_json::to_string(config)
                .and_then(|text| serde_json::from_str(&text))
                .unwrap_or_default(),
            resume: "run the same command again to resume".to_owned(),
            ..JobCard::default()
        }
    }

    /// The card of a job that makes `out`, recorded in the feature store `store`.
    pub fn with_output(self, out: &Path, store: &Path) -> JobCard {
        JobCard {
            out: Some(out.to_owned()),
            store: Some(store.to_owned()),
            ..self
        }
    }
}

/// Runs `job` between [`Event::Started`] and the event that tells how it ended. Its events go to `progress`, and into
/// the event log of the store if the card names one.
///
/// # Errors
/// Those of the job.
pub fn run_job<T>(
    card: &JobCard,
    progress: &Progress,
    job: impl FnOnce(&Progress) -> Result<T>,
) -> Result<T> {
    match &card.store {
        Some(store) => recorded(store, progress, |progress| run(card, progress, job)),
        None => run(card, progress, job),
    }
}

fn run<T>(
    card: &JobCard,
    progress: &Progress,
    job: impl FnOnce(&Progress) -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    progress.emit(Event::Started {
        job: card.name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        out: card.out.as_ref().map(|path| path.display().to_string()),
        config: card.config.clone(),
    });
    let result = job(progress);
    progress.emit(match &result {
        Ok(_) => Event::Finished {
            seconds: started.elapsed().as_secs_f64(),
        },
        Err(Error::Cancelled) => Event::Cancelled {
            resume: card.resume.clone(),
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
        problem: format!("it cannot be written: {e}"),
    })?;
    write_atomic(path, text.as_bytes())
}
