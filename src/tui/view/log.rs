//! The log, latest line at the bottom.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::Canvas;
use crate::counts::count;
use crate::tui::event::Target;
use crate::tui::state::log::Severity;
use crate::tui::text::fit;
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let log = &canvas.state.log;
    let theme = canvas.theme;
    let lines: Vec<_> = log.shown().collect();
    let title = if log.warnings_only {
        "Log (warnings only)"
    } else {
        "Log"
    };
    let right = format!(
        "{}, {}",
        count(lines.len(), "line"),
        count(log.count(Severity::Warning), "warning")
    );
    let inner = canvas.panel(area, title, &right);
    if lines.is_empty() {
        canvas.say(inner, "No messages yet.");
        return;
    }
    canvas.list(
        inner,
        lines.len(),
        log.place(),
        true,
        Target::Row,
        |_, number, width| {
            let line = lines[number];
            let seconds = line.at.as_secs();
            let time = format!("{:>3}:{:02} ", seconds / 60, seconds % 60);
            let (mark, style) = match line.severity {
                Severity::Info => (" ", Default::default()),
                Severity::Warning => (theme.mark(Mark::Warning), theme.warn()),
                Severity::Error => (theme.mark(Mark::Bad), theme.bad()),
            };
            Line::from(vec![
                Span::styled(time, theme.faint()),
                Span::styled(format!("{mark} "), style),
                Span::styled(fit(&line.text, width.saturating_sub(9)), style),
            ])
        },
    );
    // Clicks in the log do nothing.
    let inside = |place: &Rect| inner.contains(place.as_position());
    canvas.seen.targets.retain(|(place, _)| !inside(place));
}
