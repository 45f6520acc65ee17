//! The saved model's checklist. Pure.

use std::path::PathBuf;

use super::cursor::Cursor;
use crate::progress::{Check, Event, Phase};

/// What a verification found so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verify {
    /// The model.
    pub model: Option<PathBuf>,
    /// Its size, as far as it was saved in this session.
    pub bytes: Option<u64>,
    /// The items.
    pub checks: Vec<Check>,
    /// Whether it runs.
    pub running: bool,
    /// Whether all was the same, and the largest difference; none before the end.
    pub verdict: Option<(bool, f32)>,
    /// Why it came to no verdict.
    pub problem: Option<String>,
    /// The line that is selected.
    pub cursor: Cursor,
}

impl Verify {
    /// Takes an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { job, config, .. } => {
                // A verification by itself names its model; other jobs save one first.
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
                // Of all items the file's hash is the one to compare with other places.
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
                    self.problem = Some("stopped before the end".into());
                }
            }
            Event::Finished { .. } => self.running = false,
            _ => {}
        }
    }
}
