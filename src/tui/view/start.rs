//! The start screen: a folder of images on the left, a backbone on the right.
//!
//! ```text
//!  Transfer learning on a folder of images. Choose a dataset …
//! ─ /home/me/photos ──────────────────────── 12 folders ─ Backbone ─────────────────
//! ▸ animals       3 classes, 120 images                ▸ efficientnet-lite0      ◆
//!   holidays      40 images                              EfficientNet-Lite0 …
//!   letters                                                vgg16
//! ```

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, columns, rows, wrapped_lines};
use crate::backbone::Weights;
use crate::counts::count;
use crate::report::printable;
use crate::tui::event::{FolderEntry, Target};
use crate::tui::state::start::Side;
use crate::tui::text::{fit, fit_end, left, path_text};
use crate::tui::theme::Mark;

const WELCOME: &str = "Transfer learning on a folder of images. Choose a dataset (a folder with one subfolder per \
    class), then press r: a pretrained backbone computes the features of each image, a small head learns your \
    classes from them, and both are saved and verified as one ONNX file.";

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
    let [folders, backbones] = columns(lists, [area.width * 3 / 5, 0]);
    draw_folders(canvas, folders);
    draw_backbones(canvas, backbones);
}

fn draw_folders(canvas: &mut Canvas, area: Rect) {
    let start = &canvas.state.start;
    let Some(folder) = &start.folder else {
        let inner = canvas.panel(area, "Folders", "");
        canvas.say(inner, "Reading…");
        return;
    };
    let title = fit_end(
        &path_text(&folder.path),
        usize::from(area.width).saturating_sub(20),
    );
    let folders = count(folder.entries.len(), "folder");
    let inner = canvas.panel(area, &title, &folders);
    if let Some(problem) = &folder.problem {
        canvas.say(inner, problem);
        return;
    }
    if folder.entries.is_empty() {
        canvas.say(inner, "No subfolders. Press ← to go to the parent folder.");
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
                Span::raw(left(&printable(&entry.name), name_width)),
                Span::styled(format!(" {}", describe(entry)), style),
            ])
        },
    );
}

fn describe(entry: &FolderEntry) -> String {
    let images = count(entry.pictures, "image");
    match (entry.classes, entry.pictures) {
        (2.., _) => format!("{}, {images}", count(entry.classes, "class")),
        (_, 1..) => images,
        _ => String::new(),
    }
}

fn draw_backbones(canvas: &mut Canvas, area: Rect) {
    let start = &canvas.state.start;
    let inner = canvas.panel(area, "Backbone", "");
    let [list, about] = rows(inner, [inner.height.saturating_sub(5), 5]);
    let active = start.side == Side::Backbones;
    canvas.list(
        list,
        start.backbones.len(),
        start.backbone,
        active,
        Target::SideRow,
        |canvas, number, width| {
            let name = &start.backbones[number].card.name;
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
    if let Some(backbone) = start.backbones.get(start.backbone.at) {
        let card = &backbone.card;
        let (text, style) = match backbone.weights {
            Weights::Missing => (
                format!(
                    "{}: not on this machine; run `tl-batch models fetch {}`",
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
