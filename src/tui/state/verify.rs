//! Verification of the saved model. Pure.

use std::path::PathBuf;

use super::cursor::Cursor;
use crate::progress::{Check, Event, Phase};

/// State of a verification.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verify {
    /// The model.
    pub model: Option<PathBuf>,
    /// Its size in bytes, if it was saved in this session.
    pub bytes: Option<u64>,
    /// The finished checks.
    pub checks: Vec<Check>,
    /// Whether it is running.
    pub running: bool,
    /// Whether the results are the same, and the largest difference; none before the end.
    pub verdict: Option<(bool, f32)>,
    /// Why it did not finish.
    pub problem: Option<String>,
    /// The selected line.
    pub cursor: Cursor,
}

impl Verify {
    /// Handles an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { job, config, .. } => {
                // `verify` names its model; other jobs save it first.
                let model = config.get("model").and_then(serde_json::Value::as_str);
                *self = Verify {
                    model: model.filter(|_| job == "verify").map(PathBuf::from),
                    ..Verify::default()
                };
            }
            Event::Phase { phase, .. } => self.running = *phase == Phase::Verify,
            Event::Saved { path, bytes } => {
                self.model = Some(path.clone());
                self.bytes = Some(*bytes);
            }
            Event::Check(check) => {
                // Select the hash of the file, which the user may want to compare.
                if check.name == "file" {
                    self.cursor.at = self.checks.len();
                }
                self.checks.push(check.clone());
            }
            Event::Verified {
                path,
                same_results,
                max_abs_diff,
            } => {
                self.model = Some(path.clone());
                self.verdict = Some((*same_results, *max_abs_diff));
                self.running = false;
            }
            Event::Failed { message, .. } => {
                self.running = false;
                if self.verdict.is_none() {
                    self.problem = Some(message.clone());
                }
            }
            Event::Cancelled { .. } => {
                self.running = false;
                if self.verdict.is_none() {
                    self.problem = Some("the job was stopped".into());
                }
            }
            Event::Finished { .. } => self.running = false,
            _ => {}
        }
    }
}
