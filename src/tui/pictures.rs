//! Prepares images for the terminal: decodes files and augmented views and scales them to their cells.

use crossbeam::channel::{Receiver, Sender};
use image::{DynamicImage, RgbImage};
use ratatui::layout::Size;
use ratatui_image::Resize;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;

use super::event::{Answer, Event, PictureKey, PictureSource};
use crate::job::Previewer;
use crate::pixels::{DecodeLimits, Picture};

/// Prepares requested images until the channel closes; a newer request replaces the ones before it.
pub(super) fn serve_pictures(
    wanted: &Receiver<Vec<PictureKey>>,
    to: &Sender<Event>,
    picker: &Picker,
) {
    let mut previewer = None;
    while let Ok(first) = wanted.recv() {
        let mut keys = wanted.try_iter().last().unwrap_or(first);
        while !keys.is_empty() {
            let key = keys.remove(0);
            let picture = open_picture(&key.source, &mut previewer)
                .and_then(|picture| make_picture(&picture, &key, picker));
            if to
                .send(Event::Answer(Answer::Picture(key, picture)))
                .is_err()
            {
                return;
            }
            if let Some(newer) = wanted.try_iter().last() {
                keys = newer;
            }
        }
    }
}

/// Decodes an image or computes an augmented view; `previewer` is kept until a view with other settings is requested.
fn open_picture(source: &PictureSource, previewer: &mut Option<Previewer>) -> Option<Picture> {
    match source {
        PictureSource::File(path) => Picture::open(path, &DecodeLimits::default(), [255; 3]).ok(),
        PictureSource::View(settings, path, number) => {
            if previewer
                .as_ref()
                .is_none_or(|p| p.settings() != &**settings)
            {
                *previewer = Previewer::open((**settings).clone()).ok();
            }
            previewer.as_mut()?.view(path, *number).ok()
        }
    }
}

/// Scales an image to its cells.
fn make_picture(picture: &Picture, key: &PictureKey, picker: &Picker) -> Option<Protocol> {
    let font = picker.font_size();
    let blocks = picker.protocol_type() == ProtocolType::Halfblocks;
    // A half block is one cell wide and half a cell high; other protocols draw every pixel of a cell.
    let (x, y) = if blocks {
        (4, 8)
    } else {
        (u32::from(font.width), u32::from(font.height))
    };
    let small = picture
        .thumbnail(u32::from(key.width) * x, u32::from(key.height) * y)
        .ok()?;
    let image = RgbImage::from_raw(small.width, small.height, small.rgb)?;
    let size = Size::new(key.width, key.height);
    picker
        .new_protocol(DynamicImage::ImageRgb8(image), size, Resize::Scale(None))
        .ok()
}
