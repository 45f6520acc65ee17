//! The dataset: classes as bars on the left, warnings below them, images of the selected class on the right.
//!
//! ```text
//! ─ photos ──────────────── 24 images, 3 classes ─ fish ─────────── 1 of 8 ──
//! ▸ fish     ████████████████   8   6 / 2 / 0        ▀▀▀▀▀▀▀▀ ▀▀▀▀▀▀▀▀
//!   hammer   ████████████████   8   6 / 2 / 0        fish1.jpg  fish25.jpg
//! ─ Warnings ─────────────────────────────────
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, columns, length, rows};
use super::status::name;
use crate::counts::{count, grouped};
use crate::job::Overview;
use crate::report::printable;
use crate::tui::event::{PictureSource, Target};
use crate::tui::state::data::Data;
use crate::tui::text::{fit, left, right};
use crate::tui::theme::Mark;

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let state = canvas.state;
    match &state.data.overview {
        Some(Ok(overview)) => {
            let [lists, pictures] = columns(area, [area.width * 11 / 20, 0]);
            let warnings = length(state.data.warnings().len()).min(lists.height);
            let low = (warnings.max(1) + 3).min(lists.height / 2);
            let [classes, below] = rows(lists, [lists.height.saturating_sub(low), low]);
            draw_classes(canvas, classes, overview);
            draw_warnings(canvas, below, overview);
            draw_pictures(canvas, pictures);
        }
        Some(Err(problem)) => {
            let inner = canvas.panel(area, &name(&state.config.dataset), "");
            canvas.say(
                inner,
                &format!("{problem}\n\nPress o to choose another folder."),
            );
        }
        None => {
            let inner = canvas.panel(area, "Data", "");
            let text = match (state.data.scanning, &state.attached) {
                (true, _) => "Scanning for images…",
                (false, Some(_)) => "The dataset is shown once the attached run names it.",
                (false, None) => "No dataset yet. Press o to choose a folder of images.",
            };
            canvas.say(inner, text);
        }
    }
}

fn draw_classes(canvas: &mut Canvas, area: Rect, overview: &Overview) {
    let state = canvas.state;
    let right_text = format!(
        "{}, {}",
        count(overview.pictures.len(), "image"),
        count(overview.classes.len(), "class")
    );
    let inner = canvas.panel(area, &name(&overview.root), &right_text);
    if overview.classes.is_empty() {
        canvas.say(inner, "The images have no classes.");
        return;
    }
    let [head, list] = rows(inner, [1, inner.height]);
    let faint = canvas.theme.faint();
    canvas.line_right(head, 0, Span::styled("train/val/test", faint));
    let counts: Vec<usize> = (0..overview.classes.len())
        .map(|class| overview.count(class))
        .collect();
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    canvas.list(
        list,
        counts.len(),
        state.data.cursor,
        true,
        Target::Row,
        |canvas, class, width| {
            let [train, val, test] = overview.counts[class];
            let splits = right(&format!("{train}/{val}/{test}"), 14);
            let number = right(&grouped(counts[class] as u64), 7);
            let name_width = (width / 4).clamp(8, 24);
            let bar_width = width.saturating_sub(name_width + 1 + 7 + 1 + 14);
            let share = counts[class] as f64 / most as f64;
            let [full, rest] = canvas.bar(share, bar_width, canvas.theme.accent());
            Line::from(vec![
                Span::raw(left(&printable(&overview.classes[class]), name_width)),
                Span::raw(" "),
                full,
                rest,
                Span::styled(number, canvas.theme.strong()),
                Span::styled(format!(" {splits}"), canvas.theme.faint()),
            ])
        },
    );
}

fn draw_warnings(canvas: &mut Canvas, area: Rect, overview: &Overview) {
    let data = &canvas.state.data;
    let warnings = data.warnings();
    let right_text = if data.auditing {
        "checking files…".to_owned()
    } else if warnings.is_empty() {
        String::new()
    } else {
        format!(
            "{} unreadable, {} small, {}",
            grouped(data.unreadable as u64),
            grouped(data.small as u64),
            count(data.duplicates, "duplicate")
        )
    };
    let inner = canvas.panel(area, "Warnings", &right_text);
    let theme = canvas.theme;
    let width = usize::from(inner.width).saturating_sub(2);
    if warnings.is_empty() {
        let text = match data.auditing {
            true => "none so far",
            false => "none; all files checked",
        };
        let mark = Span::styled(format!("{} ", theme.mark(Mark::Good)), theme.good());
        canvas.line(
            inner,
            0,
            Line::from(vec![mark, Span::raw(fit(text, width))]),
        );
    }
    let room = usize::from(inner.height);
    let more = warnings.len() > room;
    for (row, warning) in warnings
        .iter()
        .take(room.saturating_sub(usize::from(more)))
        .enumerate()
    {
        let mark = Span::styled(format!("{} ", theme.mark(Mark::Warning)), theme.warn());
        let text = Span::raw(fit(&printable(warning), width));
        canvas.line(inner, row as u16, Line::from(vec![mark, text]));
    }
    if more && room > 0 {
        let text = format!("and {} more", grouped((warnings.len() - (room - 1)) as u64));
        canvas.line(
            inner,
            inner.height.saturating_sub(1),
            Span::styled(text, theme.faint()),
        );
    } else if !overview.skipped.is_empty() && warnings.len() < room {
        let text = format!("{} ignored", count(overview.skipped.len(), "other file"));
        canvas.line(
            inner,
            inner.height.saturating_sub(1),
            Span::styled(text, theme.faint()),
        );
    }
}

/// The selected class, and the position of the selected image in it.
pub(super) fn class_and_place(data: &Data) -> [String; 2] {
    let class = data
        .known()
        .and_then(|o| o.classes.get(data.cursor.at))
        .map_or("images", String::as_str);
    let len = data.pictures();
    let place = format!(
        "{} of {}",
        grouped((data.picture + 1).min(len) as u64),
        grouped(len as u64)
    );
    [printable(class), place]
}

fn draw_pictures(canvas: &mut Canvas, area: Rect) {
    let data = &canvas.state.data;
    let [class, place] = class_and_place(data);
    let inner = canvas.panel(area, &class, &place);
    if inner.height < 4 || data.pictures() == 0 {
        return;
    }
    // Thumbnails of about 16×7 cells, each with its name.
    let across = (inner.width / 17).max(1);
    let down = (inner.height / 8).max(1);
    let (width, height) = (inner.width / across, inner.height / down);
    let page = usize::from(across) * usize::from(down);
    let first = data.picture / page * page;
    for i in 0..page {
        let number = first + i;
        let Some(picture) = data.picture(number) else {
            break;
        };
        let (column, row) = ((i as u16) % across, (i as u16) / across);
        let cell = Rect {
            x: inner.x + column * width,
            y: inner.y + row * height,
            width: width.saturating_sub(1),
            height: height.saturating_sub(1),
        };
        let file = PictureSource::File(canvas.state.root().join(&picture.path));
        canvas.thumbnail(cell, file, &name(&picture.path), number == data.picture);
        canvas.seen.targets.push((cell, Target::SideRow(number)));
    }
}
