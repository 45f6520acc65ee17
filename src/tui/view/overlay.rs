//! Windows over a screen: help, settings, questions.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};

use super::canvas::{Canvas, length, rows, wrapped_lines};
use crate::report::printable;
use crate::tui::event::Target;
use crate::tui::keys::{self, Place};
use crate::tui::state::form::Form;
use crate::tui::state::{Overlay, Screen};
use crate::tui::text::{cells, fit, fit_end, left, path_text};

pub(super) fn draw(canvas: &mut Canvas, body: Rect) {
    match &canvas.state.overlay {
        Overlay::Nothing => {}
        Overlay::Help(top) => draw_help(canvas, body, *top),
        Overlay::Settings(form) => draw_settings(canvas, body, form),
        Overlay::Path(text) => {
            let what = match canvas.state.screen {
                Screen::Start => "Path of a folder",
                _ => "Path of an image",
            };
            draw_line(canvas, body, what, text);
        }
        Overlay::AskQuit => ask(
            canvas,
            body,
            "Quit?",
            "A job is running. Quitting stops it; finished work is kept, and the next run resumes from there.",
        ),
        Overlay::AskCancel => ask(
            canvas,
            body,
            "Stop the job?",
            "Finished work is kept, and the next run resumes from there.",
        ),
        Overlay::AskReplace(free) => {
            let text = format!(
                "{} already exists. Save as {} or replace it?",
                path_text(&canvas.state.config.output),
                path_text(free)
            );
            ask(canvas, body, "Replace the model?", &text);
        }
    }
}

/// An empty panel in the middle of the screen.
fn window(canvas: &mut Canvas, body: Rect, width: u16, height: u16, title: &str) -> Rect {
    let width = width.min(body.width);
    let height = height.min(body.height);
    let area = Rect {
        x: body.x + body.width.saturating_sub(width) / 2,
        y: body.y + body.height.saturating_sub(height) / 2,
        width,
        height,
    };
    canvas.restyle(body, Style::reset().patch(canvas.theme.faint()));
    Clear.render(area, canvas.frame.buffer_mut());
    canvas.framed(area, title, "", true)
}

fn ask(canvas: &mut Canvas, body: Rect, title: &str, question: &str) {
    let lines = wrapped_lines(question, 54);
    let inner = window(canvas, body, 60, lines.saturating_add(4), title);
    let [text, answers] = rows(inner, [lines.saturating_add(1), 1]);
    canvas.wrapped(text, question, Default::default());
    let spans: Vec<Span> = keys::own_bindings(canvas.state.place())
        .filter(|b| !b.hint.is_empty())
        .flat_map(|b| {
            [
                Span::styled(format!(" {} ", b.first_key()), canvas.theme.key()),
                Span::raw(format!("{}   ", b.hint)),
            ]
        })
        .collect();
    canvas.line(answers, 0, Line::from(spans));
}

fn draw_line(canvas: &mut Canvas, body: Rect, title: &str, text: &str) {
    let inner = window(
        canvas,
        body,
        body.width.min(100).saturating_sub(4),
        3,
        title,
    );
    let shown = fit_end(&printable(text), usize::from(inner.width).saturating_sub(2));
    let end = inner.x + length(cells(&shown));
    canvas.line(inner, 0, Span::raw(shown));
    canvas.show_cursor(end, inner.y);
}

fn draw_help(canvas: &mut Canvas, body: Rect, top: usize) {
    let theme = canvas.theme;
    let mut lines: Vec<Line> = Vec::new();
    let title = |name: &str| Line::from(Span::styled(name.to_owned(), theme.title()));
    let entry = |binding: &keys::Binding| {
        Line::from(vec![
            Span::styled(left(&format!("  {}", binding.key_names()), 16), theme.key()),
            Span::raw(binding.help),
        ])
    };
    let here = Place::Screen(canvas.state.screen);
    lines.push(title(canvas.state.screen.name()));
    lines.extend(keys::own_bindings(here).map(entry));
    lines.push(Line::default());
    lines.push(title("All screens"));
    lines.extend(keys::common_bindings().map(entry));
    let width = 80.min(body.width);
    let inner = window(canvas, body, width, lines.len() as u16 + 2, "Keys");
    let height = usize::from(inner.height);
    let top = top.min(lines.len().saturating_sub(height));
    let len = lines.len();
    for (row, line) in lines.into_iter().skip(top).take(height).enumerate() {
        canvas.line(inner, row as u16, line);
    }
    if len > height {
        let text = format!("{}–{} of {len}, ↑ ↓", top + 1, top + height);
        let head = Rect {
            y: inner.y.saturating_sub(1),
            height: 1,
            ..inner
        };
        canvas.line_right(head, 0, Span::styled(format!(" {text} "), theme.faint()));
    }
    canvas.seen.page = inner.height;
}

fn draw_settings(canvas: &mut Canvas, body: Rect, form: &Form) {
    let theme = canvas.theme;
    let height = form.fields.len() as u16 + 6;
    let inner = window(
        canvas,
        body,
        body.width.min(96),
        height,
        "Settings for the next run",
    );
    let [list, about] = rows(inner, [inner.height.saturating_sub(3), 3]);
    let values = usize::from(list.width).saturating_sub(2 + 18 + 16);
    canvas.list(
        list,
        form.fields.len(),
        form.cursor,
        true,
        Target::Row,
        |canvas, number, _| {
            let field = &form.fields[number];
            let first = number == 0 || form.fields[number - 1].setting.group != field.setting.group;
            let group = if first {
                fit(&field.setting.group, 14)
            } else {
                String::new()
            };
            let text = match (&form.editing, number == form.cursor.at) {
                (Some(text), true) => fit_end(text, values.saturating_sub(1)),
                _ if field.text.is_empty() => "–".to_owned(),
                _ => fit_end(&printable(&field.text), values),
            };
            Line::from(vec![
                Span::styled(left(&group, 16), canvas.theme.faint()),
                Span::styled(left(&field.setting.name, 18), canvas.theme.accent()),
                Span::raw(text),
            ])
        },
    );
    if let (Some(text), Some(place)) = (&form.editing, row_of(form, list.height)) {
        let shown = fit_end(text, values.saturating_sub(1));
        let x = list.x + 2 + 16 + 18 + length(cells(&shown));
        canvas.show_cursor(x, list.y + place);
    }
    let about = Rect {
        y: about.y + 1,
        height: about.height.saturating_sub(1),
        ..about
    };
    match (&form.problem, form.selected()) {
        (Some(problem), _) => {
            canvas.wrapped(about, &printable(problem), theme.bad());
        }
        (None, Some(field)) => {
            let choices = match field.setting.choices.is_empty() {
                true => String::new(),
                false => format!(" ({})", field.setting.choices.join(", ")),
            };
            let text = format!("{}{choices}", field.setting.help);
            canvas.wrapped(about, &text, theme.faint());
        }
        _ => {}
    }
}

/// The row of the selected field on the screen.
fn row_of(form: &Form, height: u16) -> Option<u16> {
    let window = form.cursor.window(form.fields.len(), height.into());
    Some(form.cursor.at.checked_sub(window.start)? as u16)
}
