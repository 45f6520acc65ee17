//! The confusion matrix as a heat map with a cursor.

use ratatui::layout::Rect;
use ratatui::text::Span;

use super::canvas::{Canvas, length, rows};
use crate::counts::grouped;
use crate::report::printable;
use crate::tui::event::Target;
use crate::tui::state::cursor::Cursor;
use crate::tui::state::train::Confusion;
use crate::tui::text::{cells, fit, left, percent, right};
use crate::tui::theme::Depth;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let train = &canvas.state.train;
    let Some(confusion) = train.confusion() else {
        let inner = canvas.panel(area, "Confusion matrix", "");
        canvas.say(inner, "Shown when training ends.");
        return;
    };
    let title = format!("Confusion matrix, {}", confusion.split);
    let score = format!("accuracy {:.3}", confusion.accuracy);
    let inner = canvas.panel(area, &title, &score);
    let [grid, about] = rows(inner, [inner.height.saturating_sub(1), 1]);
    draw_grid(canvas, grid, confusion);
    draw_cell(canvas, about, confusion);
}

fn draw_grid(canvas: &mut Canvas, area: Rect, confusion: &Confusion) {
    let theme = canvas.theme;
    let classes = confusion.classes.len();
    if classes == 0 || area.height < 2 || area.width < 14 {
        return;
    }
    let longest = confusion
        .classes
        .iter()
        .map(|name| cells(&printable(name)))
        .max()
        .unwrap_or(0);
    let names = length(longest).clamp(4, (area.width / 4).max(6)) + 1;
    let room = area.width.saturating_sub(names);
    let across = usize::from(room / 5).min(classes).max(1);
    let cell_width = (room / across as u16).min(11);
    let line_height = if usize::from(area.height) > 3 * classes {
        2
    } else {
        1
    };
    let down = usize::from((area.height - 1) / line_height).min(classes);
    let (truth, prediction) = canvas.state.train.cell;
    let lines = Cursor { at: truth }.window(classes, down);
    let columns = Cursor { at: prediction }.window(classes, across);
    canvas.line(area, 0, Span::styled("true", theme.faint()));
    for (x, column) in columns.clone().enumerate() {
        let place = Rect {
            x: area.x + names + x as u16 * cell_width,
            width: cell_width.saturating_sub(1),
            ..area
        };
        let name = right(
            &fit(&printable(&confusion.classes[column]), place.width.into()),
            place.width.into(),
        );
        let style = if column == prediction {
            theme.title()
        } else {
            theme.faint()
        };
        canvas.line(place, 0, Span::styled(name, style));
    }
    for (y, line) in lines.enumerate() {
        let top = area.y + 1 + y as u16 * line_height;
        let row = Rect {
            y: top,
            height: 1,
            ..area
        };
        let style = if line == truth {
            theme.title()
        } else {
            theme.faint()
        };
        let name = left(&printable(&confusion.classes[line]), usize::from(names) - 1);
        canvas.line(row, 0, Span::styled(name, style));
        let all: u64 = confusion.counts[line].iter().sum();
        for (x, column) in columns.clone().enumerate() {
            let count = confusion.counts[line][column];
            let share = count as f64 / all.max(1) as f64;
            let cell = Rect {
                x: area.x + names + x as u16 * cell_width,
                y: top,
                width: cell_width.saturating_sub(1),
                height: line_height,
            };
            let heat = theme.heat(share, line == column);
            canvas.restyle(cell, heat);
            let text = match (theme.depth, count) {
                (_, 0) => "·".to_owned(),
                (Depth::Many, _) => count.to_string(),
                _ => format!("{}{count}", theme.shade(share)),
            };
            let text = right(&text, usize::from(cell.width));
            canvas.line(cell, 0, Span::styled(text, heat));
            if (line, column) == (truth, prediction) {
                select(canvas, cell);
            }
            canvas.seen.targets.push((cell, Target::Cell(line, column)));
        }
    }
}

/// Brackets around the selected cell, which are visible without colours as well.
fn select(canvas: &mut Canvas, cell: Rect) {
    let style = canvas.theme.title();
    let buffer = canvas.frame.buffer_mut();
    buffer.set_string(cell.x, cell.y, "[", style);
    buffer.set_string(cell.right(), cell.y, "]", style);
}

fn draw_cell(canvas: &mut Canvas, area: Rect, confusion: &Confusion) {
    let theme = canvas.theme;
    let (truth, prediction) = canvas.state.train.cell;
    let (Some(row), Some(name), Some(predicted)) = (
        confusion.counts.get(truth),
        confusion.classes.get(truth),
        confusion.classes.get(prediction),
    ) else {
        return;
    };
    let count = row[prediction];
    let all: u64 = row.iter().sum();
    let share = count as f64 / all.max(1) as f64;
    let verdict = match truth == prediction {
        true => "predicted correctly".to_owned(),
        false => format!("predicted as {}", printable(predicted)),
    };
    let text = format!(
        "{} of {} {} ({}) {verdict}",
        grouped(count),
        grouped(all),
        printable(name),
        percent(share),
    );
    canvas.line(area, 0, Span::styled(text, theme.strong()));
}
