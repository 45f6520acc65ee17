//! Verification of the saved model: checks and verdict.
//!
//! ```text
//! ─ Verify ──────────────────────────────────────────── tiny.onnx, 13.5 MB ─
//! ▸ ✓ file       13,495,281 bytes, SHA-256 2b5c…
//!   ✓ operators  241 nodes: Conv 49, BatchNormalization 49, Clip 33, …
//!   ✓ probe      largest difference 0.0e0 over 3 probabilities
//! ─ Verdict ─────────────────────────────────────────────────────────────────
//!  ✓ same results: TRUE   identical in 12 comparisons
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, rows};
use super::status::name;
use crate::counts::count;
use crate::report::printable;
use crate::tui::event::Target;
use crate::tui::text::{fit, left, megabytes};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let verify = &canvas.state.verify;
    if verify.checks.is_empty() && verify.problem.is_none() && !verify.running {
        let inner = canvas.panel(area, "Verify", "");
        let model = canvas.state.saved_model();
        let text = if canvas.state.running().is_some() {
            "The saved model is reloaded and verified at the end of the run.".to_owned()
        } else if model.as_os_str().is_empty() {
            "No saved model yet. Press r to run; the saved model is then reloaded and verified."
                .to_owned()
        } else {
            format!(
                "Press v to reload {} and check that its predictions have not changed since it was saved.",
                name(&model)
            )
        };
        canvas.say(inner, &text);
        return;
    }
    let about = area.height / 3;
    let [list, detail, verdict] = rows(area, [area.height.saturating_sub(about + 3), about, 3]);
    draw_list(canvas, list);
    draw_detail(canvas, detail);
    draw_verdict(canvas, verdict);
}

fn draw_list(canvas: &mut Canvas, area: Rect) {
    let verify = &canvas.state.verify;
    let model = verify.model.as_ref().map_or(String::new(), |m| name(m));
    let size = verify
        .bytes
        .map_or(String::new(), |bytes| format!(", {}", megabytes(bytes)));
    let inner = canvas.panel(area, "Verify", &format!("{model}{size}"));
    let names = (usize::from(inner.width) / 3).clamp(12, 34);
    canvas.list(
        inner,
        verify.checks.len(),
        verify.cursor,
        true,
        Target::Row,
        |canvas, number, width| {
            let check = &verify.checks[number];
            let theme = canvas.theme;
            let (mark, style) = if check.ok {
                (Mark::Good, theme.good())
            } else {
                (Mark::Bad, theme.bad())
            };
            let detail = if check.ok {
                check.detail.clone()
            } else {
                format!("DIFFERS: {}", check.detail)
            };
            Line::from(vec![
                Span::styled(format!("{} ", theme.mark(mark)), style),
                Span::raw(left(&printable(&check.name), names)),
                Span::raw(" "),
                Span::styled(
                    fit(&printable(&detail), width.saturating_sub(names + 3)),
                    if check.ok { theme.faint() } else { style },
                ),
            ])
        },
    );
}

/// The full text of the selected check: hash, classes and operators are longer than a line.
fn draw_detail(canvas: &mut Canvas, area: Rect) {
    let verify = &canvas.state.verify;
    let Some(check) = verify.checks.get(verify.cursor.at) else {
        return;
    };
    let inner = canvas.panel(area, &printable(&check.name), "");
    let text = printable(&check.detail);
    canvas.wrapped(inner, &text, Default::default());
}

fn draw_verdict(canvas: &mut Canvas, area: Rect) {
    let verify = &canvas.state.verify;
    let theme = canvas.theme;
    let inner = canvas.panel(area, "Verdict", "");
    let differences: Vec<f32> = verify
        .checks
        .iter()
        .filter_map(|c| c.max_abs_diff)
        .collect();
    let largest = differences.iter().copied().fold(0.0, f32::max);
    let comparisons = count(differences.len(), "comparison");
    let found = match largest == 0.0 {
        true => format!("identical in {comparisons}"),
        false => format!("largest difference {largest:.1e} in {comparisons}"),
    };
    let line = match (&verify.verdict, &verify.problem) {
        (Some((same, _)), _) => {
            let (mark, word, style) = if *same {
                (Mark::Good, "TRUE", theme.good())
            } else {
                (Mark::Bad, "FALSE", theme.bad())
            };
            vec![
                Span::styled(format!("{} same results: {word}", theme.mark(mark)), style),
                Span::styled(format!("   {found}"), theme.faint()),
            ]
        }
        (None, Some(problem)) => vec![Span::styled(
            format!(
                "{} not verified: {}",
                theme.mark(Mark::Bad),
                printable(problem)
            ),
            theme.bad(),
        )],
        (None, None) => vec![Span::styled(
            format!("{} comparing…", theme.mark(Mark::Running)),
            theme.accent(),
        )],
    };
    canvas.line(inner, 0, Line::from(line));
}
