//! PNG, GIF, WebP and BMP: adapts files to the decoders of `image`, and adds what those leave out.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Rgba};

use super::orientation::orientation;

/// A file that a decoder of `image` reads, with what was mended about it.
pub(super) struct Source<'a> {
    format: ImageFormat,
    bytes: Cow<'a, [u8]>,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    /// What a GIF's screen shows beside its first frame.
    beside: Option<Beside>,
}

/// The colour around a GIF's first frame.
struct Beside {
    colour: [u8; 3],
    /// The frame: left, top, and after its right and lower edge.
    frame: [u32; 4],
}

impl<'a> Source<'a> {
    /// A PNG, GIF, WebP or BMP. What is broken is left as it is: the decoder says so.
    pub fn of(bytes: &'a [u8], format: ImageFormat) -> Source<'a> {
        let mut source = Source {
            format,
            bytes: Cow::Borrowed(bytes),
            exif: None,
            xmp: None,
            beside: None,
        };
        match format {
            ImageFormat::Png => source.read_png(),
            ImageFormat::WebP => source.mend_webp(),
            ImageFormat::Gif => _ = source.mend_gif(),
            ImageFormat::Bmp => _ = source.mend_bmp(),
            _ => {}
        }
        source
    }

    /// A decoder that has read the header. It has no limits yet.
    pub fn decoder(&self) -> ImageResult<impl ImageDecoder + '_> {
        let mut reader = ImageReader::with_format(Cursor::new(&self.bytes[..]), self.format);
        reader.no_limits();
        reader.into_decoder()
    }

    /// How the camera was held.
    pub fn orientation(&self) -> Orientation {
        orientation(self.exif.as_deref(), self.xmp.as_deref())
    }

    /// What the decoder gave, with what it leaves out.
    pub fn finish(&self, image: DynamicImage) -> DynamicImage {
        let Some(Beside { colour, frame }) = &self.beside else {
            return image;
        };
        let [left, top, right, bottom] = *frame;
        let [r, g, b] = *colour;
        let mut rgba = image.into_rgba8();
        for (x, y, pixel) in rgba.enumerate_pixels_mut() {
            if !(left..right).contains(&x) || !(top..bottom).contains(&y) {
                *pixel = Rgba([r, g, b, 255]);
            }
        }
        DynamicImage::ImageRgba8(rgba)
    }

    /// Metadata of a PNG: they may stand before or after the pixels.
    fn read_png(&mut self) {
        const SIGNATURE: usize = 8;
        let bytes = &self.bytes;
        let mut raw_profile = None;
        let mut at = SIGNATURE;
        while let Some(head) = bytes.get(at..at + 8) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(data) = bytes.get(at + 8..at.saturating_add(8).saturating_add(length)) else {
                break;
            };
            match &head[4..] {
                b"eXIf" => self.exif = Some(data.to_vec()),
                b"tEXt" | b"zTXt" => {
                    let text_of = |keyword: &[u8]| {
                        let text = data.strip_prefix(keyword)?;
                        match &head[4..] {
                            b"zTXt" => inflate(text.strip_prefix(b"\0")?),
                            _ => Some(text.to_vec()),
                        }
                    };
                    raw_profile = text_of(b"Raw profile type exif\0").or(raw_profile);
                    self.xmp = text_of(b"XML:com.adobe.xmp\0").or(self.xmp.take());
                }
                b"iTXt" => {
                    if let Some(text) = data.strip_prefix(b"XML:com.adobe.xmp\0") {
                        self.xmp = international_text(text);
                    }
                }
                _ => {}
            }
            // Behind the data stands a checksum.
            at += 12 + length;
        }
        if self.exif.is_none() {
            self.exif = raw_profile.and_then(|text| unhex(&text));
        }
    }

    /// Metadata of a WebP that its header announces, and its header made to tell what is there: the decoder refuses a
    /// file that announces alpha, EXIF or XMP which it does not have.
    fn mend_webp(&mut self) {
        const ALPHA: u8 = 1 << 4;
        const EXIF: u8 = 1 << 3;
        const XMP: u8 = 1 << 2;
        const ANIMATION: u8 = 1 << 1;
        const FLAGS: usize = 20;
        let bytes = &self.bytes;
        if bytes.get(12..16) != Some(b"VP8X") {
            return;
        }
        let Some(&flags) = bytes.get(FLAGS) else {
            return;
        };
        let (mut has_alpha, mut is_lossy) = (false, false);
        let mut at = 12;
        while let Some(head) = bytes.get(at..at + 8) {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let end = at.saturating_add(8).saturating_add(length);
            let data = || bytes.get(at + 8..end).map(<[u8]>::to_vec);
            match &head[..4] {
                b"ALPH" => has_alpha = true,
                b"VP8 " => is_lossy = true,
                b"EXIF" if flags & EXIF != 0 && self.exif.is_none() => self.exif = data(),
                b"XMP " if flags & XMP != 0 && self.xmp.is_none() => self.xmp = data(),
                _ => {}
            }
            // A chunk of odd length has a byte after it.
            at = end.saturating_add(length % 2);
        }
        // An animation's images stand deeper.
        let no_alpha = is_lossy && !has_alpha && flags & ANIMATION == 0;
        let kept = !(if no_alpha { ALPHA } else { 0 }
            | if self.exif.is_none() { EXIF } else { 0 }
            | if self.xmp.is_none() { XMP } else { 0 });
        if flags & kept != flags {
            self.bytes.to_mut()[FLAGS] = flags & kept;
        }
    }

    /// A GIF whose screen holds its first frame: a screen that is smaller is enlarged. Beside the frame, the screen
    /// shows the first colour of the palette, or nothing if the frame has a transparent colour, as Pillow has it.
    fn mend_gif(&mut self) -> Option<()> {
        let bytes = &self.bytes[..];
        let number = |at: usize| {
            Some(u32::from(u16::from_le_bytes([
                *bytes.get(at)?,
                *bytes.get(at + 1)?,
            ])))
        };
        let palette_bytes = |flags: u8| match flags & 0x80 {
            0 => 0,
            _ => 3usize << ((flags & 7) + 1),
        };
        let (width, height) = (number(6)?, number(8)?);
        let mut palette = 13;
        let mut at = palette + palette_bytes(*bytes.get(10)?);
        if at == palette {
            palette = usize::MAX;
        }
        let mut transparent = false;
        loop {
            match *bytes.get(at)? {
                b'!' => {
                    if bytes.get(at + 1) == Some(&0xf9) {
                        transparent |= bytes.get(at + 3)? & 1 == 1;
                    }
                    at += 2;
                    while *bytes.get(at)? != 0 {
                        at += 1 + usize::from(bytes[at]);
                    }
                    at += 1;
                }
                b',' => break,
                _ => return None,
            }
        }
        let (left, top) = (number(at + 1)?, number(at + 3)?);
        let (right, bottom) = (left + number(at + 5)?, top + number(at + 7)?);
        let own = palette_bytes(*bytes.get(at + 9)?);
        let (flags_at, colours) = match own {
            0 => (10, palette_bytes(bytes[10])),
            _ => (at + 9, own),
        };
        if own > 0 {
            palette = at + 10;
        }
        let code_bits = bytes.get(at + 10 + own).copied().unwrap_or(0);
        let screen = (width.max(right), height.max(bottom));
        let colour = bytes.get(palette..palette.checked_add(3)?);
        let colour = colour.and_then(|colour| colour.try_into().ok());
        let covered = (left, top) == (0, 0) && (right, bottom) == screen;
        if !transparent && !covered {
            let frame = [left, top, right, bottom];
            self.beside = colour.map(|colour| Beside { colour, frame });
        }
        if let (Ok(w), Ok(h)) = (u16::try_from(screen.0), u16::try_from(screen.1))
            && screen != (width, height)
        {
            let bytes = self.bytes.to_mut();
            bytes[6..8].copy_from_slice(&w.to_le_bytes());
            bytes[8..10].copy_from_slice(&h.to_le_bytes());
        }
        // Where pixels can name colours after the end of the palette, these are black.
        if colours > 0 && code_bits <= 8 && colours < 3 << code_bits {
            let bytes = self.bytes.to_mut();
            bytes[flags_at] |= 7;
            let end = palette + colours;
            bytes.splice(end..end, std::iter::repeat_n(0, 3 * 256 - colours));
        }
        Some(())
    }

    /// A BMP with a header that the decoder knows: of OS/2's longer one, what Windows has, too; with one plane; with
    /// pixels behind the palette where it does not say where they are. All this is as Pillow has it.
    fn mend_bmp(&mut self) -> Option<()> {
        const FILE_HEADER: usize = 14;
        const CORE: u32 = 12;
        const INFO: usize = 40;
        const OS2: u32 = 64;
        let number = |bytes: &[u8], at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let size = number(&self.bytes, FILE_HEADER)?;
        let offset = number(&self.bytes, 10)?;
        if size == OS2 && number(&self.bytes, 30)? <= 2 && self.bytes.len() > 14 + OS2 as usize {
            let bytes = self.bytes.to_mut();
            bytes.drain(FILE_HEADER + INFO..FILE_HEADER + OS2 as usize);
            bytes[FILE_HEADER] = INFO as u8;
            let offset = offset.saturating_sub(OS2 - INFO as u32);
            bytes[10..14].copy_from_slice(&offset.to_le_bytes());
        }
        let size = number(&self.bytes, FILE_HEADER)?;
        let (planes, bits) = match size {
            CORE => (22, 24),
            _ => (26, 28),
        };
        if self.bytes.get(planes..planes + 2)? != [1, 0] {
            self.bytes.to_mut()[planes..planes + 2].copy_from_slice(&[1, 0]);
        }
        if offset == 0 {
            let bits = u32::from(*self.bytes.get(bits)?);
            let (compression, used) = match size {
                CORE => (0, 0),
                _ => (number(&self.bytes, 30)?, number(&self.bytes, 46)?),
            };
            let masks = match (size as usize, compression) {
                (INFO, 3) => 12,
                (INFO, 6) => 16,
                _ => 0,
            };
            let colours = match (bits, used) {
                (1..=8, 0) => 1 << bits,
                (1..=8, used) => used.min(256),
                _ => 0,
            };
            let palette = colours * if size == CORE { 3 } else { 4 };
            let pixels = FILE_HEADER as u32 + size + masks + palette;
            self.bytes.to_mut()[10..14].copy_from_slice(&pixels.to_le_bytes());
        }
        Some(())
    }
}

/// Maximum bytes of a text that are unpacked: an orientation stands near the beginning.
const MAX_TEXT: u64 = 1 << 20;

/// The first [`MAX_TEXT`] bytes of a zlib stream.
fn inflate(stream: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let unpacked = flate2::read::ZlibDecoder::new(stream)
        .take(MAX_TEXT)
        .read_to_end(&mut text);
    (unpacked.is_ok() || !text.is_empty()).then_some(text)
}

/// The text of an iTXt chunk, from after its keyword.
fn international_text(data: &[u8]) -> Option<Vec<u8>> {
    let (&compressed, rest) = data.split_first()?;
    // A method, a language and a translated keyword, each of the latter up to a zero.
    let mut parts = rest.get(1..)?.splitn(3, |&byte| byte == 0);
    let text = parts.nth(2)?;
    match compressed {
        0 => Some(text.to_vec()),
        _ => inflate(text),
    }
}

/// The bytes of a profile that ImageMagick writes as text: a line for the name and one for the length, then
/// hexadecimal digits in lines.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .splitn(4, |&byte| byte == b'\n')
        .nth(3)?
        .iter()
        .filter_map(|&c| char::from(c).to_digit(16).map(|digit| digit as u8))
        .collect();
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}
