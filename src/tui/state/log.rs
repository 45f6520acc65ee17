//! All that was said, the last ten thousand lines of it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::cursor::Cursor;
use crate::progress::{Event, Phase};
use crate::report::{pictures_in, recipe_line};
use crate::tui::keys::Action;
use crate::tui::text::path_text;

/// Lines kept.
const KEPT: usize = 10_000;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It is good to know.
    Info,
    /// It should be looked at.
    Warning,
    /// It ended something.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was said, since the dashboard began.
    pub at: Duration,
    /// How much it matters.
    pub weight: Weight,
    /// The line.
    pub text: String,
}

/// The log and where its reader is.
#[derive(Default)]
pub struct Log {
    lines: VecDeque<Line>,
    /// Warnings and errors only.
    pub warnings_only: bool,
    /// The reader's place; none follows the end.
    cursor: Option<Cursor>,
}

impl Log {
    /// Adds a line.
    pub fn add(&mut self, at: Duration, weight: Weight, text: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, weight, text });
    }

    /// Adds what an event says, if it says anything for a log.
    pub fn event(&mut self, at: Duration, event: &Event) {
        let (weight, text) = match event {
            Event::Started { job, out, .. } => (
                Weight::Info,
                match out {
                    Some(out) => format!("{job} begins, for {out}"),
                    None => format!("{job} begins"),
                },
            ),
            Event::Phase { phase, total } if *phase != Phase::Scan => (
                Weight::Info,
                match total {
                    Some(total) => format!("{}: {total} steps", phase.name()),
                    None => phase.name().to_owned(),
                },
            ),
            Event::Info { message } => (Weight::Info, message.clone()),
            Event::Warning { message } => (Weight::Warning, message.clone()),
            Event::Scanned { images, classes } => {
                (Weight::Info, pictures_in(*images, classes.len()))
            }
            Event::Resumed { rows } => (Weight::Info, format!("{rows} pictures are done already")),
            Event::ImageSkipped { path, reason, .. } => (
                Weight::Warning,
                format!("skipped {}: {reason}", path_text(path)),
            ),
            Event::FoldDone {
                fold,
                folds,
                accuracy,
            } => (
                Weight::Info,
                format!("fold {} of {folds}: accuracy {accuracy:.4}", fold + 1),
            ),
            Event::RecipeTried {
                recipe,
                accuracy,
                difference,
                margin,
                ..
            } => (
                Weight::Info,
                recipe_line(recipe, *accuracy, difference.zip(*margin)),
            ),
            Event::Evaluated {
                split,
                images,
                accuracy,
                loss,
                ..
            } => (
                Weight::Info,
                format!("{split}: accuracy {accuracy:.4}, loss {loss:.4} on {images} pictures"),
            ),
            Event::Saved { path, bytes } => (
                Weight::Info,
                format!(
                    "saved {}, {}",
                    path_text(path),
                    crate::tui::text::megabytes(*bytes)
                ),
            ),
            Event::Check(check) => (
                if check.ok {
                    Weight::Info
                } else {
                    Weight::Error
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
                    Weight::Info
                } else {
                    Weight::Error
                },
                format!(
                    "same results: {}",
                    if *same_results { "TRUE" } else { "FALSE" }
                ),
            ),
            Event::Finished { seconds } => (
                Weight::Info,
                format!("done in {}", crate::report::duration(*seconds)),
            ),
            Event::Failed { message, .. } => (Weight::Error, message.clone()),
            Event::Cancelled { resume } => (Weight::Warning, format!("stopped; {resume}")),
            _ => return,
        };
        self.add(at, weight, crate::report::printable(&text));
    }

    /// The lines that are shown, in order.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| !self.warnings_only || line.weight > Weight::Info)
    }

    /// The number of lines of weight `weight` and above.
    pub fn count(&self, weight: Weight) -> usize {
        self.lines.iter().filter(|l| l.weight >= weight).count()
    }

    /// Index of the reader's line among those shown.
    pub fn place(&self) -> Cursor {
        let last = self.shown().count().saturating_sub(1);
        Cursor {
            at: self.cursor.map_or(last, |cursor| cursor.at.min(last)),
        }
    }

    /// Moves, or filters.
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
