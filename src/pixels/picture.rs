//! Decoded pixels.

use std::path::Path;

use super::decode::{DecodeLimits, DecodeOptions, decode, measure};
use super::file::read_file;
use super::resize::{Filter, Resampler, ResizeRule};
use crate::error::{Error, Result};

/// A decoded image: 8-bit RGB, upright, without alpha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `[height, width, 3]`, row-major from the top left corner, 0 to 255, red first.
    pub rgb: Vec<u8>,
    /// Warnings about the file; each is a clause that follows its path.
    pub warnings: Vec<String>,
}

impl Picture {
    /// Decodes a JPEG, PNG, GIF (its first frame), WebP (its first frame), BMP or TIFF (its first page).
    ///
    /// The content says which, never the name. The EXIF orientation is applied, alpha is composited on
    /// the background of `decode_options`, 16-bit channels become round(v / 257), grey, palette and CMYK become RGB as
    /// Pillow's `convert("RGB")` has it. Colour profiles are not applied. A JPEG may come
    /// out smaller, if `decode_options` allows. `path` is for messages alone.
    ///
    /// # Errors
    /// [`Error::Image`] if the bytes are not an image of these formats, are broken or cut off, or
    /// exceed `limits`.
    pub fn decode(
        bytes: &[u8],
        path: &Path,
        limits: &DecodeLimits,
        decode_options: impl Into<DecodeOptions>,
    ) -> Result<Picture> {
        let (picture, _) = Picture::decode_sized(bytes, path, limits, decode_options.into())?;
        Ok(picture)
    }

    /// Like [`decode`](Self::decode); also gives the upright width and height of the whole image, of which this may
    /// be a reduction.
    pub(crate) fn decode_sized(
        bytes: &[u8],
        path: &Path,
        limits: &DecodeLimits,
        decode_options: DecodeOptions,
    ) -> Result<(Picture, (u32, u32))> {
        decode(bytes, path, limits, decode_options).map_err(|reason| Error::Image {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads the file `path` and decodes it as [`Picture::decode`] does.
    ///
    /// # Errors
    /// [`Error::Image`] if the file cannot be read, else those of [`Picture::decode`].
    pub fn open(
        path: &Path,
        limits: &DecodeLimits,
        decode_options: impl Into<DecodeOptions>,
    ) -> Result<Picture> {
        let (bytes, _) = read_file(path)?;
        Picture::decode(&bytes, path, limits, decode_options)
    }

    /// Width and height in pixels, after EXIF orientation, by what the file `path` says about itself: whether its
    /// pixels are whole shows when they are decoded.
    ///
    /// # Errors
    /// [`Error::Image`] if the file cannot be read or is not an image of these formats.
    pub fn measure(path: &Path) -> Result<(u32, u32)> {
        let (bytes, _) = read_file(path)?;
        measure(&bytes).map_err(|reason| Error::Image {
            path: path.to_owned(),
            reason,
        })
    }

    /// The whole image, made smaller with antialiased bilinear filtering so that it fits into
    /// `max_width` x `max_height` pixels (each taken as at least 1); never made larger.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `rgb` does not hold `width` x `height` pixels.
    pub fn thumbnail(&self, max_width: u32, max_height: u32) -> Result<Picture> {
        let (width, height) = (self.width.max(1), self.height.max(1));
        let factor = (f64::from(max_width.max(1)) / f64::from(width))
            .min(f64::from(max_height.max(1)) / f64::from(height))
            .min(1.0);
        let size = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
        Resampler::new(ResizeRule::Stretch, Filter::Bilinear, [255; 3]).resize(
            self,
            size(width),
            size(height),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black(width: u32, height: u32) -> Picture {
        Picture {
            width,
            height,
            rgb: vec![0; (width * height * 3) as usize],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_thumbnail_keeps_the_proportions_and_never_grows() {
        let size = |p: Picture| (p.width, p.height);
        assert_eq!(
            size(black(400, 200).thumbnail(100, 100).unwrap()),
            (100, 50)
        );
        assert_eq!(size(black(4, 2).thumbnail(100, 100).unwrap()), (4, 2));
        assert_eq!(size(black(1000, 1).thumbnail(10, 10).unwrap()), (10, 1));
    }

    #[test]
    fn measuring_gives_the_size_that_decoding_gives() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
        for name in ["single/grace_hopper.jpg", "tiny/fish/fish1.jpg"] {
            let path = root.join(name);
            let picture = Picture::open(&path, &DecodeLimits::default(), [255; 3]).unwrap();
            let measured = Picture::measure(&path).unwrap();
            assert_eq!(measured, (picture.width, picture.height), "{name}");
        }
        let error = Picture::measure(&root.join("README.md")).unwrap_err();
        assert!(error.to_string().contains("is not an image"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_path() {
        let path = Path::new("no/such/picture.jpg");
        let error = Picture::open(path, &DecodeLimits::default(), [255; 3]).unwrap_err();
        assert!(error.to_string().contains("no/such/picture.jpg"), "{error}");
    }
}
