//! Training of the head: learning curves above, classes and confusion matrix below.
//!
//! ```text
//! ─ Loss ────────── train 0.012  val 0.043 ─ ─ Accuracy ──── train 1.000  val 1.000 ─
//!  1.1│⡀                                      1.0│      ⢀⡠⠤⠔⠒⠒⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉
//!     │⠱⡀                                        │   ⡠⠊
//!  0.0│  ⠑⠢⠤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀                       0.3│⡠⠊
//!  epoch 57 of 100   learning rate 4.20e-4   best epoch 55   patience left 8
//! ─ Accuracy per class ───────────── ─ Confusion matrix, validation ─ accuracy 0.98 ─
//!  fish     ▁▃▅▇█ ████████████ 100 %  true      fish  hammer
//!  hammer   ▁▂▅▇█ ██████████▌   92 %  fish     [  2]       ·
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::canvas::{Canvas, columns, length, rows};
use super::curves::{self, Measure};
use super::matrix;
use crate::counts::count;
use crate::report::printable;
use crate::tui::state::cursor::Cursor;
use crate::tui::state::runs::Status;
use crate::tui::text::{left, percent, right};

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let train = &canvas.state.train;
    if train.epochs.is_empty() && train.confusions.is_empty() {
        draw_empty(canvas, area);
        return;
    }
    let classes = length(train.classes.len()).min(area.height);
    let low = (classes + 5).max(8).min(area.height / 2);
    let [curves, facts, below] = rows(area, [area.height.saturating_sub(low + 1), 1, low]);
    let [loss, accuracy] = columns(curves, [curves.width / 2, 0]);
    curves::draw(canvas, loss, Measure::Loss);
    curves::draw(canvas, accuracy, Measure::Accuracy);
    draw_facts(canvas, facts);
    let [classes, matrix] = columns(below, [below.width * 9 / 20, 0]);
    draw_classes(canvas, classes);
    matrix::draw(canvas, matrix);
}

fn draw_empty(canvas: &mut Canvas, area: Rect) {
    let inner = canvas.panel(area, "Train", "");
    let text = match canvas.state.runs.latest().map(|run| &run.status) {
        Some(Status::Failed(message)) => {
            format!(
                "The run failed before the first epoch:\n{}",
                printable(message)
            )
        }
        Some(Status::Stopped(_)) => {
            "The run was stopped before the first epoch. Press r to resume.".to_owned()
        }
        Some(Status::Running) => {
            "Training starts once the features of all images are computed.".to_owned()
        }
        Some(Status::Finished(_)) => "The last job did not train a head.".to_owned(),
        None => "No training yet. Press r to run.".to_owned(),
    };
    canvas.say(inner, &text);
}

fn draw_facts(canvas: &mut Canvas, area: Rect) {
    let train = &canvas.state.train;
    let theme = canvas.theme;
    let Some(stats) = train.epochs.last() else {
        return;
    };
    let mut facts: Vec<(String, String)> = Vec::new();
    if let Some(fold) = train.fold {
        facts.push(("fold".into(), format!("{}", fold + 1)));
    }
    facts.push((
        "epoch".into(),
        format!("{} of {}", stats.epoch, stats.epochs),
    ));
    facts.push((
        "learning rate".into(),
        format!("{:.2e}", stats.learning_rate),
    ));
    facts.push(("best epoch".into(), stats.best_epoch.to_string()));
    match stats.patience_left {
        Some(0) => facts.push(("stopped".into(), "early".into())),
        Some(left) => facts.push(("patience left".into(), left.to_string())),
        None => {}
    }
    if !train.folds.is_empty() {
        let mean = train.folds.iter().sum::<f32>() / train.folds.len() as f32;
        let text = format!(
            "{mean:.3} ({} of {})",
            train.folds.len(),
            count(train.fold_count, "fold")
        );
        facts.push(("cross-validation".into(), text));
    }
    let mut spans = vec![Span::raw(" ")];
    for (what, figure) in facts {
        spans.push(Span::styled(format!("{what} "), theme.faint()));
        spans.push(Span::styled(format!("{figure}   "), theme.strong()));
    }
    canvas.line(area, 0, Line::from(spans));
}

fn draw_classes(canvas: &mut Canvas, area: Rect) {
    let train = &canvas.state.train;
    let theme = canvas.theme;
    let live = !train.class_history.is_empty();
    let of = match (train.confusion(), live) {
        (Some(confusion), _) => confusion.split.clone(),
        (None, true) => "validation".to_owned(),
        (None, false) => String::new(),
    };
    let inner = canvas.panel(area, "Accuracy per class", &of);
    let len = train.classes.len();
    let width = usize::from(inner.width);
    let names = (width / 3).clamp(6, 20);
    let curve = if live && width >= 44 { width / 4 } else { 0 };
    let bars = width.saturating_sub(names + 1 + curve + usize::from(curve > 0) + 6);
    let window = Cursor { at: train.cell.0 }.window(len, inner.height.into());
    for (row, class) in window.enumerate() {
        let row = row as u16;
        let history = train.class_history.get(class);
        let share = match train.confusion() {
            Some(confusion) => confusion.recall(class),
            None => history.and_then(|h| h.last()).map(|&s| f64::from(s)),
        };
        let name = left(&printable(&train.classes[class]), names);
        let mut spans = vec![
            Span::raw(name),
            Span::raw(" ".repeat(curve + 1 + usize::from(curve > 0))),
        ];
        if let Some(share) = share {
            let [full, rest] = canvas.bar(share, bars, theme.validation());
            spans.extend([full, rest]);
            spans.push(Span::styled(right(&percent(share), 6), theme.strong()));
        }
        canvas.line(inner, row, Line::from(spans));
        if let Some(history) = history.filter(|_| curve > 0) {
            let step = history.len().div_ceil(curve).max(1);
            let points: Vec<u64> = history
                .iter()
                .rev()
                .step_by(step)
                .map(|share| (share * 1000.0) as u64)
                .collect();
            let points: Vec<u64> = points.into_iter().rev().collect();
            let place = Rect {
                x: inner.x + names as u16 + 1,
                y: inner.y + row,
                width: curve as u16,
                height: 1,
            };
            Sparkline::default()
                .data(&points)
                .max(1000)
                .bar_set(theme.levels())
                .style(theme.accent())
                .render(place, canvas.frame.buffer_mut());
        }
    }
}
