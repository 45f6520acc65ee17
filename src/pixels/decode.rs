//! Decodes bytes to pixels.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::tiff::TiffError;
use image::error::{
    DecodingError, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind,
};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, Limits, RgbImage};

use super::Picture;
use super::format::{format_name, sniff};
use super::jpeg::{self, JpegHeader, decode_jpeg};
use super::orientation::upright;
use super::source::Source;
use super::tiff::{self, TiffHeader};

/// Limits for decoding one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Maximum number of pixels (width x height); read from the header, before anything is decoded.
    pub max_pixels: u64,
    /// Maximum bytes of the decoded pixels as the file stores them, before they become 8-bit RGB.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 100 megapixels, 512 MiB.
    fn default() -> Self {
        DecodeLimits::of_pixels(100_000_000)
    }
}

impl DecodeLimits {
    /// At most `max_pixels`, with 5 bytes for each of them but no less than 512 MiB: enough for 8-bit RGBA,
    /// and for 16 bits up to half as many pixels.
    pub fn of_pixels(max_pixels: u64) -> DecodeLimits {
        DecodeLimits {
            max_pixels,
            max_bytes: (512 << 20).max(max_pixels.saturating_mul(5)),
        }
    }
}

/// How to decode an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The colour under transparent pixels, RGB.
    pub background: [u8; 3],
    /// An image whose sides stay at least this long, in pixels, may be decoded at a reduced size; `None` for
    /// the whole image.
    pub least_side: Option<u32>,
}

impl From<[u8; 3]> for DecodeOptions {
    /// The whole image on this background.
    fn from(background: [u8; 3]) -> DecodeOptions {
        DecodeOptions {
            background,
            least_side: None,
        }
    }
}

/// Decodes `bytes`; also gives the upright width and height of the whole image. The error is one clause that
/// reads after the path.
pub(crate) fn decode(
    bytes: &[u8],
    path: &Path,
    limits: &DecodeLimits,
    decode_options: DecodeOptions,
) -> Result<(Picture, (u32, u32)), String> {
    let format = sniff(bytes)?;
    // A decoder's panic on one file must not end a run over thousands.
    let (rgb, orientation, size) = catch_unwind(AssertUnwindSafe(|| {
        decode_as(bytes, format, limits, decode_options)
    }))
    .unwrap_or_else(|_| Err(format!("is {} that cannot be decoded", format_name(format))))?;
    let mut warnings = Vec::new();
    if ImageFormat::from_path(path).is_ok_and(|named| named != format) {
        warnings.push(format!(
            "is {}, despite the extension of its name",
            format_name(format)
        ));
    }
    let mut image = DynamicImage::ImageRgb8(rgb);
    image.apply_orientation(orientation);
    let rgb = image.into_rgb8();
    let picture = Picture {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
        warnings,
    };
    Ok((picture, upright(size, orientation)))
}

/// Width and height of the image in `bytes`, upright: what [`decode`] gives if the rest is whole. The error is one
/// clause.
pub(crate) fn measure(bytes: &[u8]) -> Result<(u32, u32), String> {
    let format = sniff(bytes)?;
    let read = || match format {
        ImageFormat::Jpeg => {
            let header = JpegHeader::read(bytes)?;
            Ok(upright(header.size, header.orientation()))
        }
        ImageFormat::Tiff => {
            let header = TiffHeader::read(bytes)?;
            Ok(upright(header.size, header.orientation()))
        }
        _ => {
            let limits = DecodeLimits::default();
            let source = Source::of(bytes, format);
            let decoder = source.decoder().map_err(|e| describe(e, format, &limits))?;
            let size = decoder.dimensions();
            Ok(upright(size, source.orientation()))
        }
    };
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(format!("is {} that cannot be read", format_name(format))))
}

/// The stored image, how it is to be turned, and the width and height of the whole, as stored.
fn decode_as(
    bytes: &[u8],
    format: ImageFormat,
    limits: &DecodeLimits,
    decode_options: DecodeOptions,
) -> Result<(RgbImage, Orientation, (u32, u32)), String> {
    let fail = |error: ImageError| describe(error, format, limits);
    match format {
        ImageFormat::Jpeg => {
            let header = JpegHeader::read(bytes)?;
            let pixels = u64::from(header.size.0) * u64::from(header.size.1);
            within(header.size, pixels * header.components() as u64, limits)?;
            let image = decode_jpeg(bytes, &header, decode_options.least_side, limits.max_bytes)
                .map_err(|failure| match failure {
                    jpeg::Failure::CutOff => cut_off(format),
                    jpeg::Failure::Whole(error) => fail(error),
                    jpeg::Failure::Other(error) => describe_text(&error.to_string(), format),
                })?;
            Ok((image.into_rgb8(), header.orientation(), header.size))
        }
        ImageFormat::Tiff => {
            let header = TiffHeader::read(bytes)?;
            within(header.size, header.sample_bytes(), limits)?;
            let rgb = header
                .decode(limits.max_bytes, decode_options.background)
                .map_err(|failure| match failure {
                    tiff::Failure::Told(reason) => reason,
                    tiff::Failure::Unpacking(error) => fail(from_tiff(error)),
                })?;
            Ok((rgb, header.orientation(), header.size))
        }
        _ => {
            let source = Source::of(bytes, format);
            let mut decoder = source.decoder().map_err(fail)?;
            let size = decoder.dimensions();
            within(size, decoder.total_bytes(), limits)?;
            let mut library_limits = Limits::no_limits();
            library_limits.max_alloc = Some(limits.max_bytes);
            decoder.set_limits(library_limits).map_err(fail)?;
            let orientation = source.orientation();
            let image = DynamicImage::from_decoder(decoder).map_err(fail)?;
            let image = source.finish(image);
            Ok((
                to_rgb8(image, decode_options.background)?,
                orientation,
                size,
            ))
        }
    }
}

/// Refuses an image with no or too many pixels, by its header.
fn within((width, height): (u32, u32), bytes: u64, limits: &DecodeLimits) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("is {width} x {height} pixels, so it is empty"));
    }
    if pixels > limits.max_pixels {
        return Err(format!(
            "is {width} x {height} pixels, {:.0} megapixels; the limit is {:.0} megapixels",
            pixels as f64 / 1e6,
            limits.max_pixels as f64 / 1e6
        ));
    }
    match bytes > limits.max_bytes {
        true => Err(too_much_memory(limits)),
        false => Ok(()),
    }
}

/// Converts every pixel type of the decoders to 8-bit RGB.
fn to_rgb8(image: DynamicImage, background: [u8; 3]) -> Result<RgbImage, String> {
    Ok(match image {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageRgb8(_) => image.into_rgb8(),
        DynamicImage::ImageLuma16(grey) => {
            let (width, height) = grey.dimensions();
            let bytes = grey.iter().map(|&v| to_8_bits(v)).collect();
            let grey = GrayImage::from_raw(width, height, bytes).unwrap_or_default();
            DynamicImage::ImageLuma8(grey).into_rgb8()
        }
        DynamicImage::ImageRgb16(rgb) => {
            let (width, height) = rgb.dimensions();
            let bytes = rgb.iter().map(|&v| to_8_bits(v)).collect();
            RgbImage::from_raw(width, height, bytes).unwrap_or_default()
        }
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            let rgba = image.into_rgba8();
            composite(
                rgba.width(),
                rgba.height(),
                rgba.iter().copied(),
                background,
            )
        }
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
            let rgba = image.into_rgba16();
            let values = rgba.iter().map(|&v| to_8_bits(v));
            composite(rgba.width(), rgba.height(), values, background)
        }
        _ => {
            return Err(
                "has floating-point pixels, which are not supported; convert it to 8 bits".into(),
            );
        }
    })
}

/// round(v / 257): 0 stays 0, 65,535 becomes 255.
pub(super) fn to_8_bits(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// A colour over a plain background: round((v · a + background · (255 − a)) / 255).
pub(super) fn over(colour: [u8; 3], alpha: u8, background: [u8; 3]) -> [u8; 3] {
    let (alpha, rest) = (u32::from(alpha), 255 - u32::from(alpha));
    std::array::from_fn(|c| {
        ((u32::from(colour[c]) * alpha + u32::from(background[c]) * rest + 127) / 255) as u8
    })
}

/// The image over a plain background.
fn composite(
    width: u32,
    height: u32,
    rgba: impl Iterator<Item = u8>,
    background: [u8; 3],
) -> RgbImage {
    let mut rgba = rgba;
    RgbImage::from_fn(width, height, |_, _| {
        let mut next = || rgba.next().unwrap_or(0);
        let colour = [next(), next(), next()];
        image::Rgb(over(colour, next(), background))
    })
}

fn cut_off(format: ImageFormat) -> String {
    format!(
        "is truncated: its {} data ends too early; copy it again",
        format_name(format)
    )
}

fn too_much_memory(limits: &DecodeLimits) -> String {
    format!(
        "needs more than {} MiB to decode; make it smaller",
        limits.max_bytes >> 20
    )
}

/// One clause about an error of the decoder.
fn describe(error: ImageError, format: ImageFormat, limits: &DecodeLimits) -> String {
    let name = format_name(format);
    match error {
        ImageError::Limits(_) => too_much_memory(limits),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => cut_off(format),
        ImageError::Unsupported(e) => match e.kind() {
            UnsupportedErrorKind::GenericFeature(kind) => {
                format!("is an unsupported kind of {name} ({kind}); save it again")
            }
            _ => format!("is an unsupported kind of {name}; save it again"),
        },
        error => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            describe_text(&cause.to_string(), format)
        }
    }
}

/// One clause about what a decoder says of a file that it does not decode.
fn describe_text(text: &str, format: ImageFormat) -> String {
    const CUT_OFF: [&str; 5] = [
        "unexpected end",
        "eof",
        "failed to fill whole buffer",
        "exhausted",
        "not have enough data",
    ];
    let lower = text.to_ascii_lowercase();
    if CUT_OFF.iter().any(|sign| lower.contains(sign)) {
        return cut_off(format);
    }
    let text = text.trim().trim_end_matches('.').replace('\n', " ");
    match text.contains('{') {
        // The names and fields of a decoder's types.
        true => format!("is broken {}; save it again", format_name(format)),
        false => format!("is broken {} ({text})", format_name(format)),
    }
}

/// An error of the `tiff` crate as one of `image`.
fn from_tiff(error: TiffError) -> ImageError {
    let hint = ImageFormat::Tiff.into();
    match error {
        TiffError::IoError(error) => ImageError::IoError(error),
        TiffError::LimitsExceeded => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        TiffError::UnsupportedError(kind) => {
            let kind = UnsupportedErrorKind::GenericFeature(kind.to_string());
            ImageError::Unsupported(UnsupportedError::from_format_and_kind(hint, kind))
        }
        error => ImageError::Decoding(DecodingError::new(hint, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use image::{ImageBuffer, Rgb, Rgba};

    fn encode(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn ramp() -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(64, 48, |x, y| {
            Rgb([(x * 4) as u8, (y * 5) as u8, (x ^ y) as u8])
        }))
    }

    fn read(bytes: &[u8], name: &str) -> Result<Picture, String> {
        let white = [255; 3].into();
        Ok(decode(bytes, Path::new(name), &DecodeLimits::default(), white)?.0)
    }

    #[test]
    fn every_truncated_file_is_an_error_and_never_a_panic() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let bytes = encode(ramp(), format);
            assert!(read(&bytes, "a").is_ok(), "{format:?}");
            for length in (0..bytes.len() * 9 / 10).step_by(37) {
                let reason = read(&bytes[..length], "a").unwrap_err();
                assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
            }
        }
    }

    #[test]
    fn a_half_jpeg_and_a_half_png_are_called_cut_off() {
        for (format, name) in [(ImageFormat::Jpeg, "JPEG"), (ImageFormat::Png, "PNG")] {
            let bytes = encode(ramp(), format);
            assert_eq!(
                read(&bytes[..bytes.len() / 2], "a").unwrap_err(),
                format!("is truncated: its {name} data ends too early; copy it again")
            );
        }
    }

    #[test]
    fn broken_bytes_in_the_middle_never_panic() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let bytes = encode(ramp(), format);
            for at in (0..bytes.len()).step_by(11) {
                let mut broken = bytes.clone();
                broken[at] ^= 0x5a;
                let _ = decode(
                    &broken,
                    Path::new("a"),
                    &DecodeLimits::default(),
                    [0; 3].into(),
                );
            }
        }
    }

    #[test]
    fn html_with_the_name_of_a_jpeg_is_not_a_picture() {
        assert_eq!(
            read(b"<!DOCTYPE html><title>404</title>", "cat.jpg").unwrap_err(),
            "is not an image (it starts like HTML)"
        );
    }

    #[test]
    fn the_content_says_the_format_and_a_wrong_name_is_a_warning() {
        let bytes = encode(ramp(), ImageFormat::Png);
        let picture = read(&bytes, "cat.jpg").unwrap();
        assert_eq!(picture.rgb, ramp().into_rgb8().into_raw());
        assert_eq!(
            picture.warnings,
            ["is PNG, despite the extension of its name"]
        );
        assert!(read(&bytes, "cat.PNG").unwrap().warnings.is_empty());
        assert!(read(&bytes, "cat").unwrap().warnings.is_empty());
    }

    /// A PNG of which the header alone is there, with its right checksum.
    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut chunk = b"IHDR".to_vec();
        chunk.extend(width.to_be_bytes());
        chunk.extend(height.to_be_bytes());
        chunk.extend([8, 2, 0, 0, 0]);
        // CRC-32 of the PNG specification, annex D, bit by bit.
        let crc = !chunk.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ if c & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        });
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        bytes.extend(chunk);
        bytes.extend(crc.to_be_bytes());
        bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        bytes
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        assert_eq!(
            read(&png_header(30_000, 30_000), "bomb.png").unwrap_err(),
            "is 30000 x 30000 pixels, 900 megapixels; the limit is 100 megapixels"
        );
    }

    #[test]
    fn decoded_bytes_are_limited() {
        let limits = DecodeLimits {
            max_bytes: 1 << 20,
            ..DecodeLimits::default()
        };
        assert_eq!(
            decode(
                &png_header(1000, 1000),
                Path::new("a"),
                &limits,
                [0; 3].into()
            )
            .unwrap_err(),
            "needs more than 1 MiB to decode; make it smaller"
        );
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        for (value, expected) in [
            (0, 0),
            (128, 0),
            (129, 1),
            (257, 1),
            (65_406, 254),
            (65_535, 255),
        ] {
            assert_eq!(to_8_bits(value), expected, "{value}");
        }
    }

    #[test]
    fn alpha_is_composited_on_the_background() {
        let image = ImageBuffer::from_fn(3, 1, |x, _| {
            Rgba([200u8, 100, 0, [0, 128, 255][x as usize]])
        });
        let bytes = encode(DynamicImage::ImageRgba8(image), ImageFormat::Png);
        let picture = decode(
            &bytes,
            Path::new("a"),
            &DecodeLimits::default(),
            [0, 100, 255].into(),
        )
        .unwrap()
        .0;
        assert_eq!(picture.rgb, [0, 100, 255, 100, 100, 127, 200, 100, 0]);
    }
}
