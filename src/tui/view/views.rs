//! A contact sheet of augmented views: one row per image, first the unaugmented input of the backbone.
//!
//! ```text
//! ─ fish: augmented views ────────────────────────────────── 1 of 8 ─
//! ▀▀▀▀▀▀▀▀  ▀▀▀▀▀▀▀▀  ▀▀▀▀▀▀▀▀  ▀▀▀▀▀▀▀▀
//! ▸fish1.jpg view 1    view 2    view 3
//! RandomFlip=horizontal,RandomRotation=0.05,…
//! ```

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::text::Span;

use super::canvas::{Canvas, rows};
use super::data::class_and_place;
use super::status::name;
use crate::job::ViewSettings;
use crate::pixels::Augment;
use crate::tui::event::{PictureSource, Target};
use crate::tui::state::gallery::KEPT;
use crate::tui::text::fit;

/// Minimum width and height of an image in cells, with the gap to the next one.
const CELL: (u16, u16) = (18, 9);

pub(super) fn draw(canvas: &mut Canvas, area: Rect) {
    let state = canvas.state;
    let (data, config) = (&state.data, &state.config);
    let [class, place] = class_and_place(data);
    let inner = canvas.panel(area, &format!("{class}: augmented views"), &place);
    let [sheet, foot] = rows(inner, [inner.height.saturating_sub(1), 1]);
    let settings = Arc::new(ViewSettings {
        root: state.root(),
        backbone: config.backbone.clone(),
        augment: config.augment.augment.clone().or_photographs(),
        seed: config.head.seed,
    });
    let text = match config.augment.augment == Augment::default() {
        true => format!(
            "not used in training (augment is none); shown: {}",
            settings.augment
        ),
        false => settings.augment.to_string(),
    };
    let text = fit(&text, usize::from(foot.width));
    canvas.line(foot, 0, Span::styled(text, canvas.theme.faint()));

    let views = config.augment.views.count(config.head.epochs);
    let across = usize::from((sheet.width / CELL.0).max(1)).min(views + 1);
    let down = usize::from((sheet.height / CELL.1).max(1)).min((KEPT / across).max(1));
    let (width, height) = (sheet.width / across as u16, sheet.height / down as u16);
    if height < 3 {
        return;
    }
    let first = data.picture / down * down;
    for row in 0..down {
        let Some(picture) = data.picture(first + row) else {
            break;
        };
        for view in 0..across {
            let cell = Rect {
                x: sheet.x + view as u16 * width,
                y: sheet.y + row as u16 * height,
                width: width.saturating_sub(1),
                height,
            };
            let (caption, selected) = match view {
                0 => (name(&picture.path), first + row == data.picture),
                number => (format!("view {number}"), false),
            };
            let source = PictureSource::View(settings.clone(), picture.path.clone(), view as u32);
            canvas.thumbnail(cell, source, &caption, selected);
            canvas
                .seen
                .targets
                .push((cell, Target::SideRow(first + row)));
        }
    }
}
