//! The log: the last ten thousand messages. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::cursor::Cursor;
use crate::counts::count;
use crate::progress::{Event, Phase};
use crate::report::recipe_line;
use crate::tui::keys::Action;
use crate::tui::text::{megabytes, path_text};

/// Maximum number of lines kept.
const KEPT: usize = 10_000;

/// The steps of a phase with their unit.
fn steps(phase: Phase, total: u64) -> String {
    let unit = match phase {
        Phase::Train | Phase::WarmUp | Phase::Tune => "epoch",
        Phase::Probe => "layer",
        Phase::Download => return megabytes(total),
        _ => "image",
    };
    count(total as usize, unit)
}

/// Severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Info,
    /// Needs attention.
    Warning,
    /// Something failed.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Time since the dashboard started.
    pub at: Duration,
    /// Its severity.
    pub severity: Severity,
    /// The message.
    pub text: String,
}

/// The log and the position of the cursor.
#[derive(Default)]
pub struct Log {
    lines: VecDeque<Line>,
    /// Whether to show warnings and errors only.
    pub warnings_only: bool,
    /// The selected line; none follows the end.
    cursor: Option<Cursor>,
}

impl Log {
    /// Adds a line.
    pub fn add(&mut self, at: Duration, severity: Severity, text: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, severity, text });
    }

    /// Adds a message for an event, if the event needs one.
    pub fn event(&mut self, at: Duration, event: &Event) {
        let (severity, text) = match event {
            Event::Started { job, out, .. } => (
                Severity::Info,
                match out {
                    Some(out) => format!("{job} started, output {out}"),
                    None => format!("{job} started"),
                },
            ),
            Event::Phase { phase, total } if *phase != Phase::Scan => (
                Severity::Info,
                match total {
                    Some(total) => format!("{}: {}", phase.name(), steps(*phase, *total)),
                    None => phase.name().to_owned(),
                },
            ),
            Event::Info { message } => (Severity::Info, message.clone()),
            Event::Warning { message } => (Severity::Warning, message.clone()),
            Event::Scanned { images, classes } => (
                Severity::Info,
                format!(
                    "{} in {}",
                    count(*images, "image"),
                    count(classes.len(), "class")
                ),
            ),
            Event::Resumed { rows } => (
                Severity::Info,
                format!(
                    "reusing stored features of {}",
                    count(*rows as usize, "image")
                ),
            ),
            Event::ImageSkipped { path, reason, .. } => (
                Severity::Warning,
                format!("skipped {}: {reason}", path_text(path)),
            ),
            Event::FoldDone {
                fold,
                folds,
                accuracy,
            } => (
                Severity::Info,
                format!("fold {} of {folds}: accuracy {accuracy:.4}", fold + 1),
            ),
            Event::RecipeTried {
                recipe,
                accuracy,
                difference,
                margin,
                ..
            } => (
                Severity::Info,
                recipe_line(recipe, *accuracy, difference.zip(*margin)),
            ),
            Event::Evaluated {
                split,
                images,
                accuracy,
                loss,
                ..
            } => (
                Severity::Info,
                format!(
                    "{split}: accuracy {accuracy:.4}, loss {loss:.4} on {}",
                    count(*images, "image")
                ),
            ),
            Event::Saved { path, bytes } => (
                Severity::Info,
                format!("saved {} ({})", path_text(path), megabytes(*bytes)),
            ),
            Event::Check(check) => (
                if check.ok {
                    Severity::Info
                } else {
                    Severity::Error
                },
                format!(
                    "{} {}: {}",
                    if check.ok { "ok" } else { "DIFFERS" },
                    check.name,
                    check.detail
                ),
            ),
            Event::Verified { same_results, .. } => (
                if *same_results {
                    Severity::Info
                } else {
                    Severity::Error
                },
                format!(
                    "same results: {}",
                    if *same_results { "TRUE" } else { "FALSE" }
                ),
            ),
            Event::Finished { seconds } => (
                Severity::Info,
                format!("done in {}", crate::report::duration(*seconds)),
            ),
            Event::Failed { message, .. } => (Severity::Error, message.clone()),
            Event::Cancelled { resume } => (Severity::Warning, format!("stopped; {resume}")),
            _ => return,
        };
        self.add(at, severity, crate::report::printable(&text));
    }

    /// The lines that are shown, in order.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| !self.warnings_only || line.severity > Severity::Info)
    }

    /// Number of lines of at least this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.lines.iter().filter(|l| l.severity >= severity).count()
    }

    /// Index of the selected line among those shown.
    pub fn place(&self) -> Cursor {
        let last = self.shown().count().saturating_sub(1);
        Cursor {
            at: self.cursor.map_or(last, |cursor| cursor.at.min(last)),
        }
    }

    /// Moves or filters.
    pub fn act(&mut self, action: Action, page: u16) {
        if action == Action::Filter {
            self.warnings_only = !self.warnings_only;
            self.cursor = None;
            return;
        }
        let len = self.shown().count();
        let mut cursor = self.place();
        if cursor.act(action, len, page) {
            self.cursor = (cursor.at + 1 < len).then_some(cursor);
        }
    }
}
