//! The status line, on every screen.

use std::path::Path;

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::Canvas;
use crate::progress::Phase;
use crate::report::{duration, grouped};
use crate::tui::state::State;
use crate::tui::state::runs::{Run, Status};
use crate::tui::text::{cells, path_text};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let state = canvas.state;
    let line = match (&state.notice, state.runs.latest()) {
        (Some(notice), _) => Line::from(vec![
            Span::styled(format!(" {} ", theme.mark(Mark::Warning)), theme.warn()),
            Span::styled(crate::report::printable(notice), theme.strong()),
        ]),
        (None, Some(run)) => run_line(canvas, run),
        (None, None) => Line::from(Span::styled(idle(state), theme.faint())),
    };
    canvas.line(area, 0, line);
    if let Some(run) = state.running()
        && state.notice.is_none()
    {
        let text = right_text(state, run);
        let place = Rect {
            x: area.x + area.width / 2,
            width: area.width - area.width / 2,
            ..area
        };
        let blank = " ".repeat(usize::from(place.width).min(cells(&text) + 2));
        canvas.line_right(place, 0, blank);
        canvas.line_right(place, 0, Span::styled(format!("{text} "), theme.strong()));
    }
}

fn idle(state: &State) -> String {
    match &state.attached {
        Some(dir) => format!(" waiting for a run in {}", path_text(dir)),
        None if state.config.dataset.as_os_str().is_empty() => {
            " choose a folder of images".to_owned()
        }
        None => format!(
            " press r to run: {} → {}",
            name(&state.config.dataset),
            path_text(&state.config.output)
        ),
    }
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path_text(path.file_name().map_or(path, Path::new))
}

fn run_line(canvas: &Canvas, run: &Run) -> Line<'static> {
    let theme = canvas.theme;
    let (mark, style, text) = match &run.status {
        Status::Running if canvas.state.stopping => (Mark::Stopped, theme.warn(), String::new()),
        Status::Running if canvas.state.paused => (Mark::Paused, theme.warn(), "paused".into()),
        Status::Running => (Mark::Running, theme.accent(), String::new()),
        Status::Finished(seconds) => (
            Mark::Good,
            theme.good(),
            format!("done in {}{}", duration(*seconds), verdict(run)),
        ),
        Status::Failed(message) => (Mark::Bad, theme.bad(), message.clone()),
        Status::Stopped(_) => (
            Mark::Stopped,
            theme.warn(),
            "stopped; press r to resume".into(),
        ),
    };
    let what = match (&run.out, canvas.state.attached.is_some()) {
        (Some(out), true) => format!("{} (attached) → {}", run.job, name(out)),
        (Some(out), false) => format!("{} → {}", run.job, name(out)),
        (None, _) => run.job.clone(),
    };
    Line::from(vec![
        Span::styled(format!(" {} ", theme.mark(mark)), style),
        Span::styled(what, theme.strong()),
        Span::raw("  "),
        Span::styled(crate::report::printable(&text), style),
    ])
}

fn verdict(run: &Run) -> String {
    let mut text = String::new();
    if let Some(score) = run.score() {
        text += &format!(", {} {:.3}", score.split, score.accuracy);
    }
    match run.same_results {
        Some(true) => text += ", same results: TRUE",
        Some(false) => text += ", same results: FALSE",
        None => {}
    }
    text
}

fn right_text(state: &State, run: &Run) -> String {
    if state.stopping {
        return "stopping…".to_owned();
    }
    let phase = run.phase.map_or("starting", Phase::name);
    match run.phase {
        Some(Phase::Extract) => {
            let extract = &state.extract;
            let mut text = format!(
                "{phase} {}/{}",
                grouped(extract.done),
                grouped(extract.total)
            );
            if let Some(rate) = extract.rate(state.now) {
                text += &format!("  {rate:.1} images/s");
            }
            if let Some(eta) = extract.eta(state.now).filter(|_| !state.paused) {
                text += &format!("  {} left", duration(eta));
            }
            text
        }
        Some(Phase::Train) => match state.train.epochs.last() {
            Some(stats) => format!("{phase} epoch {}/{}", stats.epoch, stats.epochs),
            None => phase.to_owned(),
        },
        _ => format!("{phase}…"),
    }
}
