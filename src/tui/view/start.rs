//! The start screen: a folder of pictures on the left, a base on the right.
//!
//! ```text
//!  Transfer learning on a folder of pictures: choose the folder, then press r.
//! ─ /home/me/photos ──────────────────────── 12 folders ─ Base ─────────────────────
//! ▸ animals       3 classes, 120 pictures                ▸ efficientnet-lite0      ◆
//!   holidays      40 pictures                              EfficientNet-Lite0 …
//!   letters                                                vgg16
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, columns, rows, wrapped_lines};
use crate::backbone::Weights;
use crate::report::{grouped, printable};
use crate::tui::event::{FolderEntry, Target};
use crate::tui::state::start::Side;
use crate::tui::text::{fit, fit_end, left, path_text};
use crate::tui::theme::Mark;

const WELCOME: &str = "Transfer learning on a folder of pictures. Choose the folder (a folder in it for each \
    class), then press r: a pretrained base turns each picture into features, a small head learns your classes \
    from them, and both are saved as one ONNX file that is verified.";

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let inset = Rect {
        x: area.x + 1,
        y: area.y + 1,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(1),
    };
    let lines = wrapped_lines(WELCOME, inset.width);
    let style = canvas.theme.faint();
    canvas.wrapped(inset, WELCOME, style);
    let [_, lists] = rows(inset, [lines + 1, inset.height]);
    let lists = Rect {
        x: area.x,
        width: area.width,
        ..lists
    };
    let [folders, bases] = columns(lists, [area.width * 3 / 5, 0]);
    draw_folders(canvas, folders);
    draw_bases(canvas, bases);
}

fn draw_folders(canvas: &mut Canvas, area: Rect) {
    let start = &canvas.state.start;
    let Some(folder) = &start.folder else {
        let inner = canvas.panel(area, "Folders", "");
        canvas.say(inner, "reading…");
        return;
    };
    let title = fit_end(
        &path_text(&folder.path),
        usize::from(area.width).saturating_sub(20),
    );
    let count = match folder.entries.len() {
        1 => "1 folder".to_owned(),
        len => format!("{len} folders"),
    };
    let inner = canvas.panel(area, &title, &count);
    if let Some(problem) = &folder.problem {
        canvas.say(inner, problem);
        return;
    }
    if folder.entries.is_empty() {
        canvas.say(inner, "no folders in here; ← goes up");
        return;
    }
    let active = start.side == Side::Folders;
    let name_width = (usize::from(inner.width).saturating_sub(28)).clamp(12, 40);
    canvas.list(
        inner,
        folder.entries.len(),
        start.cursor,
        active,
        Target::Row,
        |canvas, number, _| {
            let entry = &folder.entries[number];
            let likely = entry.classes >= 2;
            let style = if likely {
                canvas.theme.good()
            } else {
                canvas.theme.faint()
            };
            Line::from(vec![
                Span::raw(left(&crate::report::printable(&entry.name), name_width)),
                Span::styled(format!(" {}", describe(entry)), style),
            ])
        },
    );
}

fn describe(entry: &FolderEntry) -> String {
    let pictures = grouped(entry.pictures as u64);
    match (entry.classes, entry.pictures) {
        (2.., _) => format!("{} classes, {pictures} pictures", entry.classes),
        (_, 1..) => format!("{pictures} pictures"),
        _ => String::new(),
    }
}

fn draw_bases(canvas: &mut Canvas, area: Rect) {
    let start = &canvas.state.start;
    let inner = canvas.panel(area, "Base", "");
    let [list, about] = rows(inner, [inner.height.saturating_sub(5), 5]);
    let active = start.side == Side::Bases;
    canvas.list(
        list,
        start.bases.len(),
        start.base,
        active,
        Target::SideRow,
        |canvas, number, width| {
            let name = &start.bases[number].card.name;
            let chosen = *name == canvas.state.config.backbone.model;
            let mark = if chosen {
                canvas.theme.mark(Mark::Here)
            } else {
                " "
            };
            Line::from(vec![
                Span::styled(format!("{mark} "), canvas.theme.accent()),
                Span::raw(fit(name, width.saturating_sub(2))),
            ])
        },
    );
    if let Some(base) = start.bases.get(start.base.at) {
        let card = &base.card;
        let (text, style) = match base.weights {
            Weights::Missing => (
                format!(
                    "{}: not on this machine; get it with `tl-batch models fetch {}`",
                    card.title, card.name
                ),
                canvas.theme.warn(),
            ),
            _ => (
                format!("{}, {} px, {}", card.title, card.input_size, card.license),
                canvas.theme.faint(),
            ),
        };
        canvas.wrapped(about, &printable(&text), style);
    }
}
