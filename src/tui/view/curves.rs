//! Learning curves: loss and accuracy over the epochs.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

use super::canvas::{Canvas, length};
use crate::progress::EpochStats;

/// Maximum number of points to draw; no terminal has more columns of dots.
const POINTS: usize = 1_000;

/// The measure to draw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Loss,
    Accuracy,
}

type Points = Vec<(f64, f64)>;

/// A measure on the training split, and on the validation split if there is one.
type Pick = fn(&EpochStats) -> (f32, Option<f32>);

pub(super) fn draw(canvas: &mut Canvas, area: Rect, measure: Measure) {
    let train = &canvas.state.train;
    let theme = canvas.theme;
    let log = measure == Measure::Loss && train.log_scale;
    let (title, pick): (&str, Pick) = match measure {
        Measure::Loss => ("Loss", |s| (s.loss, s.val_loss)),
        Measure::Accuracy => ("Accuracy", |s| (s.accuracy, s.val_accuracy)),
    };
    let title = if log { "Loss (log scale)" } else { title };
    let figures = train.epochs.last().map_or(String::new(), |stats| {
        let (training, validation) = pick(stats);
        match validation {
            Some(v) => format!("train {training:.3}  val {v:.3}"),
            None => format!("train {training:.3}"),
        }
    });
    let inner = canvas.panel(area, title, &figures);
    if train.epochs.is_empty() || inner.height < 3 {
        return;
    }
    let scale = |value: f32| {
        let value = f64::from(value);
        if log { value.max(1e-9).log10() } else { value }
    };
    let step = train.epochs.len().div_ceil(POINTS);
    let last = train.epochs.len() - 1;
    let points = |of: &dyn Fn(&EpochStats) -> Option<f32>| -> Points {
        train
            .epochs
            .iter()
            .enumerate()
            .filter(|(i, _)| i % step == 0 || *i == last)
            .filter_map(|(_, s)| Some((s.epoch as f64, scale(of(s)?))))
            .collect()
    };
    let training = points(&|s| Some(pick(s).0));
    let validation = points(&|s| pick(s).1);
    let bounds = bounds(&training, &validation, measure, log);
    // While training runs, leave room for the remaining epochs; early stopping may skip some.
    let stats = &train.epochs[last];
    let epochs = if train.running {
        stats.epochs
    } else {
        stats.epoch
    }
    .max(2) as f64;
    let best = train.epochs[last].best_epoch as f64;
    // The best epoch as a dotted line with two dots per row of cells.
    let dots = usize::from(inner.height) * 2;
    let best_line: Points = (0..=dots)
        .map(|i| {
            let share = i as f64 / dots as f64;
            (best, bounds[0] + share * (bounds[1] - bounds[0]))
        })
        .collect();
    let curve = |points, style: Style| {
        Dataset::default()
            .data(points)
            .marker(theme.marker())
            .graph_type(GraphType::Line)
            .style(style)
    };
    let mut sets = vec![
        curve(&best_line[..], theme.rule()).graph_type(GraphType::Scatter),
        curve(&training, theme.training()),
    ];
    if !validation.is_empty() {
        sets.push(curve(&validation, theme.validation()));
    }
    let labels = |range: [f64; 2]| {
        let middle = f64::midpoint(range[0], range[1]);
        [range[0], middle, range[1]].map(|v| {
            let value = if log { 10_f64.powf(v) } else { v };
            Span::styled(label(value), theme.faint())
        })
    };
    let chart = Chart::new(sets)
        .x_axis(
            Axis::default()
                .bounds([1.0, epochs])
                .labels([
                    Span::styled("1", theme.faint()),
                    Span::styled(format!("epoch {epochs}"), theme.faint()),
                ])
                .style(theme.rule()),
        )
        .y_axis(
            Axis::default()
                .bounds(bounds)
                .labels(labels(bounds))
                .style(theme.rule()),
        )
        .legend_position(None);
    chart.render(inner, canvas.frame.buffer_mut());
    legend(canvas, inner, !validation.is_empty());
}

/// Lower and upper bound of the axis, with some margin.
fn bounds(training: &Points, validation: &Points, measure: Measure, log: bool) -> [f64; 2] {
    let values = training.iter().chain(validation).map(|(_, y)| *y);
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(f64::NEG_INFINITY, f64::max);
    match measure {
        Measure::Accuracy => [(least - 0.05).clamp(0.0, 0.9), 1.0],
        Measure::Loss if log => [least.min(most - 0.5), most + 0.05],
        Measure::Loss => [0.0, (most * 1.05).max(1e-3)],
    }
}

fn label(value: f64) -> String {
    match value {
        10.0.. => format!("{value:.0}"),
        0.095.. => format!("{value:.2}"),
        0.00095.. => format!("{value:.4}"),
        0.0 => "0".into(),
        _ => format!("{value:.0e}"),
    }
}

/// Legend of the curves, below the chart.
fn legend(canvas: &mut Canvas, area: Rect, validation: bool) {
    let theme = canvas.theme;
    let mut spans = vec![Span::styled("─ train", theme.training())];
    if validation {
        spans.push(Span::styled("  ─ val", theme.validation()));
    }
    let line = Line::from(spans);
    let width = length(line.width());
    if width.saturating_add(20) <= area.width && area.height >= 6 {
        let row = area.height - 1;
        let middle = Rect {
            x: area.x + (area.width - width) / 2,
            width,
            ..area
        };
        canvas.line(middle, row, line);
    }
}
