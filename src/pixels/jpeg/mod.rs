//! JPEG: chooses the decoder, and decodes large images at a reduced size.

mod header;

use std::io::{Cursor, Read};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, Limits, RgbImage};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

pub(super) use self::header::JpegHeader;
use super::orientation::orientation;

/// Shares of the full size at which a JPEG can be decoded, as divisors.
const DIVISORS: [u32; 3] = [8, 4, 2];

/// Why a JPEG is not decoded.
pub(super) enum Failure {
    /// The file ends too early.
    CutOff,
    /// What the decoder of `image` says.
    Whole(ImageError),
    /// What `jpeg-decoder` says.
    Other(jpeg_decoder::Error),
}

impl JpegHeader {
    /// How the camera was held.
    pub fn orientation(&self) -> Orientation {
        orientation(Some(&self.exif), Some(&self.xmp))
    }
}

/// Decodes the JPEG `bytes`, of which `header` was read: whole, or if `least_side` is given, at the smallest of 1/8,
/// 1/4 and 1/2 of its size at which both sides are that many pixels or more. Grey or RGB; inks become RGB as in
/// Pillow, which takes them for inverted. At most `max_bytes` for the decoded pixels.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    header: &JpegHeader,
    least_side: Option<u32>,
    max_bytes: u64,
) -> Result<DynamicImage, Failure> {
    if header::is_cut_off(bytes) {
        return Err(Failure::CutOff);
    }
    let divisor = match least_side {
        Some(least_side) if header.is_evenly_sampled() => divisor(header.size, least_side),
        _ => 1,
    };
    // Each decoder takes some damaged files that the other refuses. A small image of a damaged file is no better
    // than a whole one, so that the decoder of whole images has the last word.
    if !header.is_plain() {
        return decode_any(bytes, header, divisor, max_bytes).map_err(Failure::Other);
    }
    if divisor > 1
        && let Ok(reduced) = decode_any(bytes, header, divisor, max_bytes)
    {
        return Ok(reduced);
    }
    decode_plain(bytes, max_bytes).map_err(Failure::Whole)
}

/// The largest divisor that leaves both sides at `least_side` pixels or more; 1 if there is none.
fn divisor((width, height): (u32, u32), least_side: u32) -> u32 {
    DIVISORS
        .into_iter()
        .find(|&divisor| width.min(height).div_ceil(divisor) >= least_side)
        .unwrap_or(1)
}

/// An image of the plain kinds, whole.
fn decode_plain(bytes: &[u8], max_bytes: u64) -> Result<DynamicImage, ImageError> {
    let mut decoder = image::codecs::jpeg::JpegDecoder::new(Cursor::new(bytes))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_bytes);
    decoder.set_limits(limits)?;
    DynamicImage::from_decoder(decoder)
}

/// An image of any kind, at 1/`divisor` of its size.
fn decode_any(
    bytes: &[u8],
    header: &JpegHeader,
    divisor: u32,
    max_bytes: u64,
) -> Result<DynamicImage, jpeg_decoder::Error> {
    let (head, rest) = header.without_adobe(bytes);
    let mut decoder = Decoder::new(head.as_slice().chain(rest));
    decoder.set_color_transform(header.colour());
    decoder.set_max_decoding_buffer_size(usize::try_from(max_bytes).unwrap_or(usize::MAX));
    let side = |side: u32| side.div_ceil(divisor);
    let (width, height) = (side(header.size.0), side(header.size.1));
    // It takes the smallest size of which one side is as long as asked for; of a thin image, the whole is not that.
    if divisor > 1 {
        decoder.scale(width as u16, height as u16)?;
    }
    let pixels = decoder.decode()?;
    let image = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::L8) => {
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
        }
        Some(PixelFormat::RGB24) => {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
        }
        Some(PixelFormat::CMYK32) => {
            let rgb = pixels.chunks_exact(4).flat_map(inks_to_rgb).collect();
            RgbImage::from_raw(width, height, rgb).map(DynamicImage::ImageRgb8)
        }
        Some(PixelFormat::L16) | None => None,
    };
    image.ok_or_else(|| jpeg_decoder::Error::Format("fewer pixels than its size".into()))
}

/// The samples of a JPEG that is a strip or tile of another file: `[height, width, components]`. Three components
/// become RGB if they are `ycbcr`, and are left alone if not: no marker counts. At most `max_bytes`.
pub(super) fn decode_strip(
    bytes: &[u8],
    header: &JpegHeader,
    ycbcr: bool,
    max_bytes: u64,
) -> Result<Vec<u8>, jpeg_decoder::Error> {
    let (head, rest) = header.without_adobe(bytes);
    let mut decoder = Decoder::new(head.as_slice().chain(rest));
    decoder.set_color_transform(match header.components() {
        1 => ColorTransform::Grayscale,
        3 if ycbcr => ColorTransform::YCbCr,
        3 => ColorTransform::RGB,
        _ => ColorTransform::CMYK,
    });
    decoder.set_max_decoding_buffer_size(usize::try_from(max_bytes).unwrap_or(usize::MAX));
    let mut samples = decoder.decode()?;
    if header.components() == 4 {
        // The decoder turns inks round, as the images of Adobe need it.
        samples
            .iter_mut()
            .for_each(|sample| *sample = 255 - *sample);
    }
    Ok(samples)
}

/// Cyan, magenta, yellow and black, 0 to 255, as RGB: each ink and black take their share of the light, rounded as
/// Pillow rounds.
pub(super) fn inks_to_rgb(inks: &[u8]) -> [u8; 3] {
    let light = 255 - u32::from(inks[3]);
    std::array::from_fn(|c| {
        let taken = u32::from(inks[c]) * light + 128;
        light.saturating_sub(((taken >> 8) + taken) >> 8) as u8
    })
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

    fn decode(bytes: &[u8], least_side: Option<u32>) -> Result<DynamicImage, Failure> {
        let header = JpegHeader::read(bytes).unwrap();
        decode_jpeg(bytes, &header, least_side, u64::MAX)
    }

    #[test]
    fn the_smallest_size_that_is_large_enough_is_taken() {
        let bytes = jpeg(1000, 804);
        let size = |least_side| {
            let picture = decode(&bytes, Some(least_side)).ok().unwrap();
            (picture.width(), picture.height())
        };
        assert_eq!(size(100), (125, 101));
        assert_eq!(size(102), (250, 201));
        assert_eq!(size(400), (500, 402));
        assert_eq!(size(403), (1000, 804));
    }

    #[test]
    fn a_reduced_picture_is_the_mean_of_the_whole_one() {
        let bytes = jpeg(640, 480);
        let whole = decode(&bytes, None).ok().unwrap().into_rgb8();
        for (divisor, least_side) in [(2, 240), (4, 120), (8, 60)] {
            let reduced = decode(&bytes, Some(least_side)).ok().unwrap().into_rgb8();
            assert_eq!(reduced.width(), 640 / divisor);
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
    fn inks_take_their_share_of_the_light() {
        assert_eq!(inks_to_rgb(&[0, 0, 0, 0]), [255; 3]);
        assert_eq!(inks_to_rgb(&[9, 99, 255, 255]), [0; 3]);
        assert_eq!(inks_to_rgb(&[255, 128, 0, 0]), [0, 127, 255]);
    }
}
