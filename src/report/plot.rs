//! Plots an image with its predictions, in the terminal or as a PNG file.

use std::io::{Cursor, IsTerminal};
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::backbone::Prediction;
use crate::disk::write_atomic;
use crate::error::{Error, Result};
use crate::pixels::Picture;

/// Maximum number of columns and lines of an image in a terminal.
const TERMINAL_CELLS: (u32, u32) = (60, 24);

/// Draws `picture` on standard output: by the graphics of kitty, iTerm2 or sixel where the terminal has
/// them, else in coloured half blocks. Where standard output is not a terminal, in half blocks.
///
/// # Errors
/// [`Error::Io`] if standard output cannot be written.
pub fn print(picture: &Picture) -> Result<()> {
    let asked =
        std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|t| t != "dumb");
    let (columns, lines) = viuer::terminal_size();
    // A cell is twice as high as it is wide.
    let (width, height) = (
        u32::from(columns).clamp(1, TERMINAL_CELLS.0),
        u32::from(lines)
            .saturating_sub(4)
            .clamp(1, TERMINAL_CELLS.1),
    );
    let factor = f64::min(
        f64::from(width) / f64::from(picture.width),
        f64::from(2 * height) / f64::from(picture.height),
    );
    let cells = (f64::from(picture.width) * factor).round().max(1.0) as u32;
    let config = viuer::Config {
        absolute_offset: false,
        width: Some(cells),
        use_kitty: asked,
        use_iterm: asked,
        use_sixel: asked,
        ..viuer::Config::default()
    };
    viuer::print(&DynamicImage::ImageRgb8(to_image(picture)?), &config)
        .map(drop)
        .map_err(|e| {
            let error = match e {
                viuer::ViuError::Io(error) => error,
                other => std::io::Error::other(other.to_string()),
            };
            Error::io("write", "standard output")(error)
        })
}

/// Writes a PNG file to `path`: the image, above it its first class, beside it a bar for each
/// prediction.
///
/// # Errors
/// [`Error::Io`].
pub fn save(picture: &Picture, predictions: &[Prediction], path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    compose(picture, predictions)?
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::io("write", path)(std::io::Error::other(e)))?;
    write_atomic(path, bytes.get_ref())
}

/// Longest side of the image in a plot, in pixels.
const PICTURE_SIDE: u32 = 480;
const MARGIN: u32 = 20;
/// Width of the panel of bars, its least height for one class, and the height of a bar.
const PANEL_WIDTH: u32 = 400;
const ROW_HEIGHT: u32 = 46;
const BAR_HEIGHT: u32 = 14;

const WHITE: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([33, 37, 41]);
const TRACK: Rgb<u8> = Rgb([233, 236, 239]);
const FIRST_BAR: Rgb<u8> = Rgb([25, 113, 194]);
const OTHER_BARS: Rgb<u8> = Rgb([145, 167, 190]);

const TITLE: Font = Font(FontWeight::Bold, RasterHeight::Size24);
const LABEL: Font = Font(FontWeight::Regular, RasterHeight::Size16);

fn compose(picture: &Picture, predictions: &[Prediction]) -> Result<RgbImage> {
    let picture = to_image(&picture.thumbnail(PICTURE_SIDE, PICTURE_SIDE)?)?;
    let top = MARGIN + TITLE.height() + MARGIN / 2;
    let rows_height = ROW_HEIGHT * predictions.len() as u32;
    let mut canvas = RgbImage::from_pixel(
        picture.width() + PANEL_WIDTH + 3 * MARGIN,
        top + picture.height().max(rows_height) + MARGIN,
        WHITE,
    );
    image::imageops::replace(&mut canvas, &picture, i64::from(MARGIN), i64::from(top));
    if let Some(first) = predictions.first() {
        let title = format!("{} {}", first.label, percent(first.probability));
        TITLE.write(&mut canvas, &title, (MARGIN, MARGIN), u32::MAX);
    }
    let left = picture.width() + 2 * MARGIN;
    for (row, prediction) in (0..).zip(predictions) {
        let y = top + row * ROW_HEIGHT;
        let text = percent(prediction.probability);
        let text_width = LABEL.width() * text.len() as u32;
        let label_width = PANEL_WIDTH - text_width - LABEL.width();
        LABEL.write(&mut canvas, &prediction.label, (left, y), label_width);
        LABEL.write(
            &mut canvas,
            &text,
            (left + PANEL_WIDTH - text_width, y),
            u32::MAX,
        );
        let y = y + LABEL.height() + 3;
        let share = prediction.probability.clamp(0.0, 1.0);
        let filled = (share * PANEL_WIDTH as f32).round() as u32;
        let colour = if row == 0 { FIRST_BAR } else { OTHER_BARS };
        fill(&mut canvas, (left, y), (PANEL_WIDTH, BAR_HEIGHT), TRACK);
        fill(&mut canvas, (left, y), (filled, BAR_HEIGHT), colour);
    }
    Ok(canvas)
}

fn percent(probability: f32) -> String {
    format!("{:.1}%", probability * 100.0)
}

fn fill(canvas: &mut RgbImage, (x, y): (u32, u32), (width, height): (u32, u32), colour: Rgb<u8>) {
    for dy in 0..height {
        for dx in 0..width {
            canvas.put_pixel(x + dx, y + dy, colour);
        }
    }
}

/// A face of Noto Sans Mono, antialiased.
struct Font(FontWeight, RasterHeight);

impl Font {
    /// Height of a line in pixels.
    const fn height(&self) -> u32 {
        self.1.val() as u32
    }

    /// Width of a character in pixels.
    const fn width(&self) -> u32 {
        get_raster_width(self.0, self.1) as u32
    }

    /// Writes `text` with its top left corner at `(x, y)`, shortened to `most` pixels and to the canvas.
    /// Characters outside Latin-1 become question marks.
    fn write(&self, canvas: &mut RgbImage, text: &str, (x, y): (u32, u32), most: u32) {
        let room = canvas.width().saturating_sub(x).min(most) / self.width();
        for (place, character) in (0..).zip(shorten(text, room as usize).chars()) {
            let left = x + place * self.width();
            let raster =
                get_raster(character, self.0, self.1).or_else(|| get_raster('?', self.0, self.1));
            for (dy, line) in (0..).zip(raster.iter().flat_map(|glyph| glyph.rows())) {
                for (dx, &coverage) in (0..).zip(line) {
                    blend(canvas, left + dx, y + dy, coverage);
                }
            }
        }
    }
}

/// Puts ink over the pixel `(x, y)`, if it is on the canvas.
fn blend(canvas: &mut RgbImage, x: u32, y: u32, coverage: u8) {
    if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
        for (value, ink) in pixel.0.iter_mut().zip(INK.0) {
            let (paper, share) = (u32::from(*value), u32::from(coverage));
            *value = ((paper * (255 - share) + u32::from(ink) * share) / 255) as u8;
        }
    }
}

fn shorten(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters.saturating_sub(2)).collect();
    format!("{}..", kept.trim_end())
}

fn to_image(picture: &Picture) -> Result<RgbImage> {
    RgbImage::from_raw(picture.width, picture.height, picture.rgb.clone()).ok_or_else(|| {
        Error::Mismatch {
            what: "pixels of an image".into(),
            expected: format!("{}x{} RGB", picture.width, picture.height),
            found: format!("{} bytes", picture.rgb.len()),
            hint: "use three bytes per pixel".into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(label: &str, probability: f32) -> Prediction {
        Prediction {
            class: 0,
            label: label.into(),
            probability,
        }
    }

    fn red(width: u32, height: u32) -> Picture {
        Picture {
            width,
            height,
            rgb: [200, 0, 0].repeat((width * height) as usize),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_probability() {
        let predictions = [prediction("cat", 0.75), prediction("写真", 0.1)];
        let plot = compose(&red(960, 480), &predictions).unwrap();
        let count = |colour| plot.pixels().filter(|&&p| p == colour).count() as u32;
        assert_eq!(count(FIRST_BAR), PANEL_WIDTH * 3 / 4 * BAR_HEIGHT);
        assert_eq!(count(OTHER_BARS), PANEL_WIDTH / 10 * BAR_HEIGHT);
        assert_eq!(count(Rgb([200, 0, 0])), 480 * 240, "the image, reduced");
    }

    #[test]
    fn a_long_label_does_not_run_into_its_percentage() {
        assert_eq!(shorten("flat-coated retriever", 12), "flat-coate..");
        assert_eq!(shorten("otter", 5), "otter");
        let long = [prediction(&"w".repeat(500), 1.0)];
        let plot = compose(&red(1, 1), &long).unwrap();
        assert_eq!(plot.width(), 1 + PANEL_WIDTH + 3 * MARGIN);
    }
}
