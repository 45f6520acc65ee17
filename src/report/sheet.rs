//! A contact sheet: rows of small images, as a PNG file.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use crate::disk::write_atomic;
use crate::error::{Error, Result};
use crate::pixels::Picture;

/// Longest side of an image on the sheet, and the space around it, in pixels.
const SIDE: u32 = 128;
const GAP: u32 = 6;

/// Writes `rows` of images to the PNG file `path`, each row from left to right; returns its size in bytes.
///
/// # Errors
/// [`Error::Io`]; [`Error::Mismatch`] for an image whose pixels do not fit its size.
pub fn save_sheet(rows: &[Vec<Picture>], path: &Path) -> Result<u64> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let cell = SIDE + GAP;
    let mut sheet = RgbImage::from_pixel(
        columns * cell + GAP,
        rows.len() as u32 * cell + GAP,
        Rgb([255; 3]),
    );
    for (row, pictures) in (0..).zip(rows) {
        for (column, picture) in (0..).zip(pictures) {
            let small = picture.thumbnail(SIDE, SIDE)?;
            let (width, height) = (small.width, small.height);
            let Some(small) = RgbImage::from_raw(width, height, small.rgb) else {
                continue;
            };
            let left = GAP + column * cell + (SIDE - width) / 2;
            let top = GAP + row * cell + (SIDE - height) / 2;
            image::imageops::replace(&mut sheet, &small, i64::from(left), i64::from(top));
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::io("write", path)(std::io::Error::other(e)))?;
    write_atomic(path, bytes.get_ref())?;
    Ok(bytes.get_ref().len() as u64)
}
