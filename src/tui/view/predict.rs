//! Images, worst mistakes first, with the predictions for the selected one.
//!
//! ```text
//! ─ validation, worst first ─ 6 ─ ─ fish/fish1.jpg ─ 640×480 ────────────
//! ▸ 2.31 ✗ fish → hammer  fish1.jpg        ▀▀▀▀▀▀▀▀▀▀▀▀▀
//!   0.02 ✓ hammer         h3.jpg           ▀▀▀▀▀▀▀▀▀▀▀▀▀
//!                                 ─ This model ──────── ─ ImageNet ────────────
//!                                  hammer ███████  71 %  hammer ██████▌  66 %
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, columns, rows};
use super::status::name;
use crate::backbone::Prediction;
use crate::report::{grouped, printable};
use crate::tui::event::Target;
use crate::tui::state::predict::Scored;
use crate::tui::text::{cells, fit_end, left, path_text, percent, right};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    if canvas.state.predict.len() == 0 {
        let inner = canvas.panel(area, "Predict", "");
        let text = match canvas.state.running() {
            Some(_) => "The held-out images are listed here once the head is trained.",
            None => {
                "No predictions yet. Press r to train a model and list its held-out images, e to evaluate the saved \
                 model on the dataset, or / to open any image."
            }
        };
        canvas.say(inner, text);
        return;
    }
    let [list, side] = columns(area, [area.width * 2 / 5, 0]);
    draw_list(canvas, list);
    let bars = if side.height >= 27 { 8 } else { 6 };
    let [picture, below] = rows(side, [side.height.saturating_sub(bars), bars]);
    draw_picture(canvas, picture);
    let [own, imagenet] = columns(below, [below.width / 2, 0]);
    draw_own(canvas, own);
    draw_imagenet(canvas, imagenet);
}

fn class_name<'a>(canvas: &'a Canvas, class: usize) -> &'a str {
    let train = &canvas.state.train;
    train.classes.get(class).map_or("?", String::as_str)
}

fn draw_list(canvas: &mut Canvas, area: Rect) {
    let predict = &canvas.state.predict;
    let title = match (predict.cell, predict.split()) {
        (Some((truth, prediction)), _) => format!(
            "{} → {}",
            class_name(canvas, truth),
            class_name(canvas, prediction)
        ),
        (None, Some(split)) => format!("{split}, worst first"),
        (None, None) => "Images".to_owned(),
    };
    let count = grouped(predict.len() as u64);
    let inner = canvas.panel(area, &printable(&title), &count);
    let [head, list] = rows(inner, [1, 0]);
    let faint = canvas.theme.faint();
    canvas.line(head, 0, Span::styled("   loss   true → predicted", faint));
    canvas.list(
        list,
        predict.len(),
        predict.cursor,
        true,
        Target::Row,
        |canvas, number, width| match predict.get(number) {
            Some(scored) => row(canvas, scored, width),
            None => Line::default(),
        },
    );
}

fn row(canvas: &Canvas, scored: &Scored, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let file = name(&scored.path);
    let Some(truth) = scored.class else {
        let text = fit_end(&path_text(&scored.path), width.saturating_sub(8));
        return Line::from(vec![
            Span::styled(format!("  {}  ", theme.mark(Mark::Here)), theme.accent()),
            Span::raw(text),
        ]);
    };
    let right_class = scored.prediction() == Some(truth);
    let (mark, style) = if right_class {
        (Mark::Good, theme.good())
    } else {
        (Mark::Bad, theme.bad())
    };
    let truth = printable(class_name(canvas, truth));
    let classes = match scored.prediction() {
        Some(prediction) if !right_class => {
            format!("{truth} → {}", printable(class_name(canvas, prediction)))
        }
        _ => truth,
    };
    let room = width.saturating_sub(9);
    let class_width = room * 3 / 5;
    Line::from(vec![
        Span::raw(right(&format!("{:.2}", scored.loss.min(999.0)), 5)),
        Span::styled(format!(" {} ", theme.mark(mark)), style),
        Span::raw(left(&classes, class_width)),
        Span::raw(" "),
        Span::styled(fit_end(&file, room - class_width), theme.faint()),
    ])
}

fn draw_picture(canvas: &mut Canvas, area: Rect) {
    let Some(path) = canvas.state.selected_picture() else {
        return;
    };
    let size = match canvas.state.predict.labels(&path) {
        Some(Ok(labels)) => format!("{}×{}", labels.width, labels.height),
        _ => String::new(),
    };
    let shown = canvas
        .state
        .predict
        .selected()
        .map_or(String::new(), |scored| path_text(&scored.path));
    let title = fit_end(&shown, usize::from(area.width).saturating_sub(20));
    let inner = canvas.panel(area, &title, &size);
    canvas.picture(inner, &path);
}

fn draw_own(canvas: &mut Canvas, area: Rect) {
    let inner = canvas.panel(area, "This model", "");
    let predict = &canvas.state.predict;
    let Some(scored) = predict.selected() else {
        return;
    };
    let from_run: Vec<(String, f32)> = scored
        .top
        .iter()
        .map(|(class, share)| (class_name(canvas, *class).to_owned(), *share))
        .collect();
    let truth = scored
        .class
        .map(|class| class_name(canvas, class).to_owned());
    let asked = canvas.state.selected_picture();
    let answer = asked.and_then(|path| predict.labels(&path));
    match (from_run.is_empty(), answer) {
        (false, _) => bars(canvas, inner, &from_run, truth.as_deref()),
        (true, Some(Ok(labels))) if labels.own.is_empty() => {
            canvas.say(inner, "No saved model yet.");
        }
        (true, Some(Ok(labels))) => bars(canvas, inner, &shares(&labels.own), None),
        (true, Some(Err(problem))) => canvas.say(inner, problem),
        (true, None) => canvas.say(inner, "predicting…"),
    }
}

fn draw_imagenet(canvas: &mut Canvas, area: Rect) {
    let inner = canvas.panel(area, "ImageNet", "");
    let asked = canvas.state.selected_picture();
    match asked.and_then(|path| canvas.state.predict.labels(&path)) {
        Some(Ok(labels)) => bars(canvas, inner, &shares(&labels.imagenet), None),
        Some(Err(problem)) => canvas.say(inner, problem),
        None => canvas.say(inner, "predicting…"),
    }
}

fn shares(predictions: &[Prediction]) -> Vec<(String, f32)> {
    predictions
        .iter()
        .map(|p| (p.label.clone(), p.probability))
        .collect()
}

/// The first of the synonyms in an ImageNet label.
fn first_name(label: &str) -> &str {
    label.split(',').next().unwrap_or(label)
}

/// One line per class; the true class is marked.
fn bars(canvas: &mut Canvas, area: Rect, classes: &[(String, f32)], truth: Option<&str>) {
    let theme = canvas.theme;
    let width = usize::from(area.width);
    let longest = classes
        .iter()
        .map(|(class, _)| cells(&printable(first_name(class))))
        .max();
    let bar_width = (width / 4).max(4);
    let names = width
        .saturating_sub(bar_width + 1 + 6)
        .min(longest.unwrap_or(0) + 2)
        .max(6);
    let bar_width = width.saturating_sub(names + 1 + 6);
    for (row, (class, share)) in classes.iter().take(area.height.into()).enumerate() {
        let is_truth = truth == Some(class);
        let mark = if is_truth {
            theme.mark(Mark::Here)
        } else {
            " "
        };
        let style = if row == 0 {
            theme.accent()
        } else {
            theme.faint()
        };
        let [full, rest] = canvas.bar(f64::from(*share), bar_width, style);
        let text = left(&printable(first_name(class)), names.saturating_sub(2));
        canvas.line(
            area,
            row as u16,
            Line::from(vec![
                Span::styled(format!("{mark} "), theme.good()),
                Span::raw(text),
                Span::raw(" "),
                full,
                rest,
                Span::styled(right(&percent(f64::from(*share)), 6), theme.strong()),
            ]),
        );
    }
}
