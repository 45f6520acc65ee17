//! Large JPEGs at a reduced size: the inverse cosine transform makes 4, 2 or 1 pixels of every 8.

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};

/// Shares of the full size at which a JPEG can be decoded, as divisors.
const DIVISORS: [u16; 3] = [8, 4, 2];

/// Decodes a JPEG at the smallest of 1/8, 1/4 and 1/2 of its size at which both sides are `least_side` pixels or
/// more; none if there is no such size, if it is of a kind other than 8-bit grey or YCbCr, or if it is damaged: then
/// the decoder of whole pictures has the word.
pub(super) fn reduced_jpeg(bytes: &[u8], least_side: u32) -> Option<DynamicImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let reduced = |side: u16, divisor: u16| side.div_ceil(divisor);
    let divisor = DIVISORS
        .into_iter()
        .find(|&divisor| u32::from(reduced(info.width.min(info.height), divisor)) >= least_side)?;
    let asked = (reduced(info.width, divisor), reduced(info.height, divisor));
    let (width, height) = decoder.scale(asked.0, asked.1).ok()?;
    let pixels = decoder.decode().ok()?;
    let (width, height) = (u32::from(width), u32::from(height));
    match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        PixelFormat::RGB24 => {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
        }
        PixelFormat::L16 | PixelFormat::CMYK32 => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::ImageFormat;

    use super::*;

    /// A soft pattern of `width` x `height` pixels as a JPEG.
    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let wave = |v: u32| (f64::from(v) * 0.02).sin().mul_add(100.0, 128.0) as u8;
        let picture = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([wave(x), wave(y), wave(x + 2 * y)])
        });
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn the_smallest_size_that_is_large_enough_is_taken() {
        let bytes = jpeg(1000, 804);
        let size = |least_side| {
            reduced_jpeg(&bytes, least_side).map(|picture| (picture.width(), picture.height()))
        };
        assert_eq!(size(100), Some((125, 101)));
        assert_eq!(size(102), Some((250, 201)));
        assert_eq!(size(400), Some((500, 402)));
        assert_eq!(size(403), None);
    }

    #[test]
    fn a_reduced_picture_is_the_mean_of_the_whole_one() {
        let bytes = jpeg(640, 480);
        let whole = image::load_from_memory(&bytes).unwrap().into_rgb8();
        for (divisor, least_side) in [(2, 240), (4, 120), (8, 60)] {
            let reduced = reduced_jpeg(&bytes, least_side).unwrap().into_rgb8();
            for (x, y, pixel) in reduced.enumerate_pixels() {
                for c in 0..3 {
                    let block = (0..divisor * divisor).map(|i| {
                        let at = (x * divisor + i % divisor, y * divisor + i / divisor);
                        u32::from(whole.get_pixel(at.0, at.1)[c])
                    });
                    let mean = block.sum::<u32>() / (divisor * divisor);
                    assert!(
                        mean.abs_diff(pixel[c].into()) <= 6,
                        "1/{divisor} at {x}, {y}: {mean} {pixel:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_damaged_or_no_jpeg_is_left_to_the_other_decoder() {
        let bytes = jpeg(640, 480);
        assert!(reduced_jpeg(&bytes, 60).is_some());
        assert!(reduced_jpeg(&bytes[..600], 60).is_none());
        assert!(reduced_jpeg(b"GIF89a", 1).is_none());
    }
}
