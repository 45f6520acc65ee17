//! All runs of this session in one table.
//!
//! ```text
//! ─ Runs ──────────────────────────────────────────────────────────── 2 ─
//!    #  job     backbone            head    epochs  split       accuracy    loss    time  same
//! ▸  1  ✓ fit   efficientnet-lite0  linear      98  validation   1.0000  0.0213   3.2 s  TRUE
//! ─ Run 1 ───────────────────────────────────────────────────────────────
//!  photos → photos.onnx, …
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, rows};
use super::status::name;
use crate::counts::count;
use crate::report::{duration, printable};
use crate::tui::event::Target;
use crate::tui::state::runs::{Run, Status};
use crate::tui::text::{left, path_text, right};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let runs = &canvas.state.runs;
    if runs.all.is_empty() {
        let inner = canvas.panel(area, "Runs", "");
        canvas.say(
            inner,
            "No runs yet. Each run of this session is listed here, to compare settings and results.",
        );
        return;
    }
    let about = 8.min(area.height / 2);
    let [list, detail] = rows(area, [area.height.saturating_sub(about), about]);
    let inner = canvas.panel(list, "Runs", &runs.all.len().to_string());
    let [head, list] = rows(inner, [1, 0]);
    let head = Rect {
        x: head.x + 2,
        width: head.width.saturating_sub(2),
        ..head
    };
    let wide = usize::from(inner.width).saturating_sub(4);
    let titles = [
        "#", "job", "backbone", "head", "epochs", "split", "accuracy", "loss", "time", "same",
    ];
    let faint = canvas.theme.faint();
    canvas.line(
        head,
        0,
        Span::styled(columns(wide, &titles.map(String::from)), faint),
    );
    canvas.list(
        list,
        runs.all.len(),
        runs.cursor,
        true,
        Target::Row,
        |canvas, number, _| {
            let run = &runs.all[number];
            let best = best(&runs.all) == Some(number);
            let style = match (&run.status, best) {
                (Status::Failed(_), _) => canvas.theme.bad(),
                (_, true) => canvas.theme.good(),
                _ => Default::default(),
            };
            Line::from(Span::styled(
                columns(wide, &cells(canvas, number, run)),
                style,
            ))
        },
    );
    if let Some(run) = runs.all.get(runs.cursor.at) {
        draw_detail(canvas, detail, runs.cursor.at, run);
    }
}

/// The run with the highest accuracy, if there is more than one run and no tie.
fn best(runs: &[Run]) -> Option<usize> {
    let scored: Vec<(usize, f32)> = runs
        .iter()
        .enumerate()
        .filter_map(|(i, run)| Some((i, run.score()?.accuracy)))
        .collect();
    let most = scored.iter().map(|(_, a)| *a).fold(0.0, f32::max);
    let mut with_most = scored.iter().filter(|(_, a)| *a == most);
    match (with_most.next(), with_most.next(), scored.len()) {
        (Some((place, _)), None, 2..) => Some(*place),
        _ => None,
    }
}

fn cells(canvas: &Canvas, number: usize, run: &Run) -> [String; 10] {
    let dash = || "-".to_owned();
    let (mark, time) = match &run.status {
        Status::Running => (
            Mark::Running,
            duration(canvas.state.now.saturating_sub(run.began).as_secs_f64()),
        ),
        Status::Finished(seconds) => (Mark::Good, duration(*seconds)),
        Status::Failed(_) => (Mark::Bad, "failed".into()),
        Status::Stopped(_) => (Mark::Stopped, "stopped".into()),
    };
    let head = run
        .config
        .as_ref()
        .map_or_else(dash, |c| match &c.head.hidden[..] {
            [] => "linear".to_owned(),
            widths => widths
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(","),
        });
    let score = run.score();
    [
        (number + 1).to_string(),
        format!("{} {}", canvas.theme.mark(mark), run.job),
        run.config
            .as_ref()
            .map_or_else(dash, |c| printable(&c.backbone.model)),
        head,
        match run.epochs {
            0 => dash(),
            epochs => epochs.to_string(),
        },
        score.map_or_else(dash, |s| s.split.clone()),
        score.map_or_else(dash, |s| format!("{:.4}", s.accuracy)),
        score.map_or_else(dash, |s| format!("{:.4}", s.loss)),
        time,
        match run.same_results {
            Some(true) => "TRUE".into(),
            Some(false) => "FALSE".into(),
            None => dash(),
        },
    ]
}

fn columns(width: usize, cells: &[String; 10]) -> String {
    // On a narrow screen, leave out the split, which the panel below shows.
    let split = if width >= 100 { 11 } else { 0 };
    let backbone = width
        .saturating_sub(2 + 11 + 8 + 7 + split + 9 + 8 + 10 + 6)
        .clamp(6, 40);
    left(&cells[0], 2)
        + &left(&cells[1], 11)
        + &left(&cells[2], backbone)
        + &right(&cells[3], 8)
        + &right(&cells[4], 7)
        + &right(&cells[5], split)
        + &right(&cells[6], 9)
        + &right(&cells[7], 8)
        + &right(&cells[8], 10)
        + &right(&cells[9], 6)
}

fn draw_detail(canvas: &mut Canvas, area: Rect, number: usize, run: &Run) {
    let inner = canvas.panel(area, &format!("Run {}", number + 1), &run.job);
    let theme = canvas.theme;
    let mut lines: Vec<(&str, String)> = Vec::new();
    match &run.status {
        Status::Failed(message) => lines.push(("failed", printable(message))),
        Status::Stopped(resume) => lines.push(("stopped", resume.clone())),
        _ => {}
    }
    if let Some(config) = &run.config {
        lines.push(("dataset", path_text(&config.dataset)));
        let layer = match &config.backbone.cut {
            Some(cut) => format!("feature layer {cut}"),
            None => "default feature layer".to_owned(),
        };
        lines.push((
            "backbone",
            printable(&format!(
                "{}, {layer}, stored in {}",
                config.backbone.model,
                name(&config.store())
            )),
        ));
        let head = &config.head;
        lines.push((
            "head",
            format!(
                "learning rate {:?}, L2 {}, batch size {}, dropout {}, best epoch {}",
                head.learning_rate, head.l2, head.batch_size, head.dropout, run.best_epoch
            ),
        ));
    }
    for score in &run.scores {
        lines.push((
            "score",
            format!(
                "{}: accuracy {:.4}, loss {:.4} on {}",
                score.split,
                score.accuracy,
                score.loss,
                count(score.images, "image")
            ),
        ));
    }
    if !run.folds.is_empty() {
        let mean = run.folds.iter().sum::<f32>() / run.folds.len() as f32;
        lines.push((
            "folds",
            format!(
                "{}, mean accuracy {mean:.4}",
                count(run.folds.len(), "fold")
            ),
        ));
    }
    if let Some(out) = &run.out {
        lines.push(("output", path_text(out)));
    }
    for (row, (what, text)) in lines.into_iter().enumerate() {
        let line = Line::from(vec![
            Span::styled(left(what, 10), theme.faint()),
            Span::raw(text),
        ]);
        canvas.line(inner, row as u16, line);
    }
}
