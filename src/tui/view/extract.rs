//! Feature extraction.
//!
//! ```text
//! ─ Extract ──────────────────────────────────────────── efficientnet-lite0 ─
//!  ████████████████████████████▌                          412 of 1,000  41 %
//!  8.4 images/s now   8.1 images/s on average   1 min 12 s left   51 s so far
//! ─ Images/s over time ─────────────────── ─ fish/fish1.jpg ─────────
//!  ▂▃▅▆▇▇▇▆▇▇▇▆▇▇▇▇▇▆▇▇▇▇                      ▀▀▀▀▀▀▀▀▀▀
//! ─ Workers ───────────────────────────────── ▀▀▀▀▀▀▀▀▀▀
//!  0 fish/fish1.jpg                   0.1 s
//! ─ Time per stage ────────────────────── ─ Skipped ───────────── 2 ─
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::canvas::{Canvas, columns, length, rows};
use crate::report::{duration, grouped, printable};
use crate::tui::event::Target;
use crate::tui::state::runs::Status;
use crate::tui::text::{cells, fit_end, left, path_text, percent, right};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let extract = &canvas.state.extract;
    if extract.began.is_none() {
        draw_empty(canvas, area);
        return;
    }
    let roomy = area.height >= 27;
    let [head, rest] = rows(area, [4, 0]);
    draw_head(canvas, head);
    let [wide, side] = columns(rest, [rest.width * 3 / 5, 0]);
    let workers = length(extract.workers.len()).clamp(1, 8) + if roomy { 2 } else { 1 };
    let bars = if roomy { 5 } else { 4 };
    let [speed, workers, time] = rows(
        wide,
        [
            wide.height.saturating_sub(workers + bars).max(3),
            workers,
            bars,
        ],
    );
    draw_speed(canvas, speed);
    draw_workers(canvas, workers);
    draw_time(canvas, time);
    let skipped = if extract.skipped_count == 0 {
        3
    } else {
        side.height / 2
    };
    let [picture, skipped] = rows(side, [side.height.saturating_sub(skipped), skipped]);
    draw_picture(canvas, picture);
    draw_skipped(canvas, skipped);
}

fn draw_empty(canvas: &mut Canvas, area: Rect) {
    let inner = canvas.panel(area, "Extract", "");
    let text = match (canvas.state.runs.latest(), &canvas.state.attached) {
        (Some(run), _) => match &run.status {
            Status::Failed(message) => {
                format!("The run failed before the first image:\n{}", printable(message))
            },
            Status::Stopped(_) => "The run was stopped before the first image.".into(),
            _ => "Scanning the dataset and loading the backbone…".to_owned(),
        },
        (None, Some(dir)) => format!(
            "Waiting for a run in\n{}",
            path_text(dir)
        ),
        (None, None) => {
            "No features yet. Press r to run: the backbone computes the features of each image once and stores them on disk."
                .to_owned()
        }
    };
    canvas.say(inner, &text);
}

fn draw_head(canvas: &mut Canvas, area: Rect) {
    let state = canvas.state;
    let extract = &state.extract;
    let theme = canvas.theme;
    let backbone = &state.config.backbone;
    let cut = backbone
        .cut
        .as_ref()
        .map_or(String::new(), |cut| format!(", feature layer {cut}"));
    let inner = canvas.panel(
        area,
        "Extract",
        &printable(&format!("{}{cut}", backbone.model)),
    );
    let share = match extract.total {
        0 => 1.0,
        total => extract.done as f64 / total as f64,
    };
    let figures = format!(
        " {} of {}  {}",
        grouped(extract.done),
        grouped(extract.total),
        percent(share)
    );
    let bar_width = usize::from(inner.width).saturating_sub(cells(&figures));
    let style = if extract.ended.is_some() {
        theme.good()
    } else {
        theme.accent()
    };
    let (full, rest) = theme.thick_bar(share, bar_width);
    let [full, rest] = [Span::styled(full, style), Span::styled(rest, theme.rule())];
    canvas.line(
        inner,
        0,
        Line::from(vec![full, rest, Span::styled(figures, theme.strong())]),
    );
    let mut facts: Vec<(String, &str)> = Vec::new();
    if let Some(rate) = extract.rate(state.now).filter(|_| extract.ended.is_none()) {
        facts.push((format!("{rate:.1}"), "images/s now"));
    }
    if let Some(rate) = extract.mean_rate(state.now) {
        facts.push((format!("{rate:.1}"), "images/s on average"));
    }
    if let Some(eta) = extract.eta(state.now).filter(|_| !state.paused) {
        facts.push((duration(eta), "left"));
    }
    if !state.catching_up && state.attached.is_none() || extract.ended.is_none() {
        let spent = extract.worked(state.now).as_secs_f64();
        facts.push((
            duration(spent),
            match extract.ended {
                Some(_) => "in total",
                None => "so far",
            },
        ));
    }
    if extract.resumed > 0 && state.attached.is_none() {
        facts.push((grouped(extract.resumed), "already stored"));
    }
    if state.paused {
        facts.insert(0, ("paused".into(), "(p to resume)"));
    }
    let spans: Vec<Span> = facts
        .iter()
        .flat_map(|(figure, what)| {
            [
                Span::styled(figure.clone(), theme.strong()),
                Span::styled(format!(" {what}   "), theme.faint()),
            ]
        })
        .collect();
    canvas.line(inner, 1, Line::from(spans));
}

fn draw_speed(canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let rates = &canvas.state.extract.rates;
    let most = rates.iter().copied().max().unwrap_or(0);
    let inner = canvas.panel(area, "Images/s over time", &format!("peak {most}"));
    let width = usize::from(inner.width);
    let skip = rates.len().saturating_sub(width);
    // At first, each second gets several columns.
    let columns = (width / rates.len().max(1)).clamp(1, 8);
    let shown: Vec<u64> = rates
        .iter()
        .skip(skip)
        .flat_map(|&rate| std::iter::repeat_n(rate, columns))
        .collect();
    Sparkline::default()
        .data(&shown)
        .max(most.max(1))
        .bar_set(theme.levels())
        .style(theme.accent())
        .render(inner, canvas.frame.buffer_mut());
}

fn draw_workers(canvas: &mut Canvas, area: Rect) {
    let state = canvas.state;
    let extract = &state.extract;
    let theme = canvas.theme;
    let inner = canvas.panel(area, "Workers", &format!("{}", extract.workers.len()));
    let width = usize::from(inner.width);
    for (number, worker) in extract.workers.iter().enumerate().take(inner.height.into()) {
        let seconds = state.now.saturating_sub(worker.since).as_secs_f64();
        let (mark, text, time) = match &worker.path {
            Some(path) => (
                Mark::Running,
                path_text(path),
                right(&format!("{seconds:.1} s"), 8),
            ),
            None => (Mark::Waiting, "idle".into(), right("", 8)),
        };
        let done = right(&format!("{} done", grouped(worker.done)), 13);
        let text = left(
            &fit_end(&text, width.saturating_sub(5 + 8 + 13)),
            width.saturating_sub(5 + 8 + 13),
        );
        canvas.line(
            inner,
            number as u16,
            Line::from(vec![
                Span::styled(right(&number.to_string(), 2), theme.faint()),
                Span::styled(format!(" {} ", theme.mark(mark)), theme.accent()),
                Span::raw(text),
                Span::styled(time, theme.faint()),
                Span::styled(done, theme.faint()),
            ]),
        );
    }
}

fn draw_time(canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let inner = canvas.panel(area, "Time per stage", "");
    let Some(shares) = canvas.state.extract.shares() else {
        return;
    };
    for (row, (what, share)) in ["decode", "inference", "write"]
        .iter()
        .zip(shares)
        .enumerate()
    {
        let width = usize::from(inner.width).saturating_sub(11 + 6);
        let [full, rest] = canvas.bar(share, width, theme.accent());
        canvas.line(
            inner,
            row as u16,
            Line::from(vec![
                Span::raw(left(what, 11)),
                full,
                rest,
                Span::styled(right(&percent(share), 6), theme.strong()),
            ]),
        );
    }
}

fn draw_picture(canvas: &mut Canvas, area: Rect) {
    let state = canvas.state;
    let Some((path, _)) = &state.extract.shown else {
        canvas.panel(area, "Current image", "");
        return;
    };
    let title = fit_end(&path_text(path), usize::from(area.width).saturating_sub(6));
    let inner = canvas.panel(area, &title, "");
    let path = state.root().join(path);
    canvas.picture(inner, &path);
}

fn draw_skipped(canvas: &mut Canvas, area: Rect) {
    let extract = &canvas.state.extract;
    let theme = canvas.theme;
    let count = grouped(extract.skipped_count as u64);
    let inner = canvas.panel(area, "Skipped", &count);
    if extract.skipped.is_empty() {
        let mark = Span::styled(format!("{} ", theme.mark(Mark::Good)), theme.good());
        canvas.line(inner, 0, Line::from(vec![mark, Span::raw("none")]));
        return;
    }
    let [list, about] = rows(inner, [inner.height.saturating_sub(2), 2]);
    canvas.list(
        list,
        extract.skipped.len(),
        extract.cursor,
        true,
        Target::Row,
        |_, number, width| Line::from(fit_end(&path_text(&extract.skipped[number].0), width)),
    );
    if let Some((_, reason)) = extract.skipped.get(extract.cursor.at) {
        canvas.wrapped(about, &printable(reason), theme.warn());
    }
}
