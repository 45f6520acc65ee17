//! What every job has around it: the first and the last event, and the configuration beside its output.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::disk::write_atomic;
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};

/// Runs `job` between [`Event::Started`] and the event that tells how it ended.
///
/// `resume` is the sentence that tells a user who stopped the job how to go on.
///
/// # Errors
/// Those of the job.
pub fn run_job<T>(
    name: &str,
    out: Option<&Path>,
    resume: &str,
    progress: &Progress,
    job: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    progress.emit(Event::Started {
        job: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        out: out.map(|path| path.display().to_string()),
    });
    let result = job();
    progress.emit(match &result {
        Ok(_) => Event::Finished {
            seconds: started.elapsed().as_secs_f64(),
        },
        Err(Error::Cancelled) => Event::Cancelled {
            resume: resume.to_owned(),
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
