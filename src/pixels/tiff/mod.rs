//! TIFF: reads the first page and converts its samples to colours.
//!
//! The `tiff` crate unpacks the samples; their meaning is decided here, because the crate drops extra samples, does
//! not distinguish the kinds of alpha, and lacks palettes. Every page is presented to it as grey with extra samples, so
//! that it returns all samples unchanged.

mod directory;
mod samples;

use std::borrow::Cow;
use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

pub(super) use self::directory::Directory;
use self::samples::{Colours, Samples};
use super::jpeg::{JpegHeader, decode_strip};
use super::orientation::orientation_of_tiff;

mod tag {
    pub const NEW_SUBFILE_TYPE: u16 = 254;
    pub const SUBFILE_TYPE: u16 = 255;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTES: u16 = 279;
    pub const PLANAR: u16 = 284;
    pub const PREDICTOR: u16 = 317;
    pub const COLOUR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTES: u16 = 325;
    pub const SUB_DIRECTORIES: u16 = 330;
    pub const INK_SET: u16 = 332;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const SUBSAMPLING: u16 = 530;
    pub const DNG_VERSION: u16 = 50706;
}

/// A value of the compression field.
const MODERN_JPEG: u64 = 7;

/// Why a TIFF is not decoded.
pub(super) enum Failure {
    /// One clause.
    Told(String),
    /// What the `tiff` crate says.
    Unpacking(TiffError),
}

impl From<TiffError> for Failure {
    fn from(error: TiffError) -> Failure {
        Failure::Unpacking(error)
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure::Told(reason)
    }
}

/// What the first page of a TIFF says.
pub(super) struct TiffHeader<'a> {
    bytes: &'a [u8],
    directory: Directory<'a>,
    /// Width and height in pixels, both at least 1, as stored.
    pub size: (u32, u32),
    bits: u16,
    samples: u16,
    colours: Colours,
}

impl<'a> TiffHeader<'a> {
    /// Reads what stands about the first page; the error is one clause. Raw photos are an error, and so are files
    /// whose first page is a reduction of another one: both would pass for a small image.
    pub fn read(bytes: &'a [u8]) -> Result<TiffHeader<'a>, String> {
        let directory = Directory::first(bytes)
            .ok_or("is truncated: its TIFF data ends too early; copy it again")?;
        refuse_raw(bytes, &directory)?;
        let number = |tag, usual: u64| directory.number(tag).unwrap_or(usual);
        let size = (number(tag::WIDTH, 0), number(tag::HEIGHT, 0));
        let (Ok(width), Ok(height)) = (u32::try_from(size.0), u32::try_from(size.1)) else {
            return Err("is broken TIFF (its size is too large)".into());
        };
        if width == 0 || height == 0 {
            return Err(format!("is {width} x {height} pixels, so it is empty"));
        }
        let bits = directory.numbers(tag::BITS).unwrap_or(vec![1]);
        let samples = number(tag::SAMPLES, 1);
        let (Some(&first), true) = (bits.first(), bits.windows(2).all(|w| w[0] == w[1])) else {
            return Err(unsupported("samples of several depths"));
        };
        let format = directory.numbers(tag::SAMPLE_FORMAT).unwrap_or_default();
        if format.contains(&3) {
            return Err(
                "has floating-point pixels, which are not supported; convert it to 8 bits".into(),
            );
        }
        // 4 is "undefined", which is as good as unsigned.
        if format.iter().any(|format| !matches!(format, 1 | 4)) {
            return Err(unsupported("signed or complex samples"));
        }
        refuse_compression(number(tag::COMPRESSION, 1))?;
        let colours = colours(&directory, samples, first)?;
        Ok(TiffHeader {
            bytes,
            size: (width, height),
            bits: first as u16,
            samples: samples as u16,
            colours,
            directory,
        })
    }

    /// How the camera was held.
    pub fn orientation(&self) -> Orientation {
        orientation_of_tiff(&self.directory)
    }

    /// Bytes of all samples as the file holds them, unpacked.
    pub fn sample_bytes(&self) -> u64 {
        let row = u64::from(self.size.0) * u64::from(self.samples) * u64::from(self.bits);
        row.div_ceil(8).saturating_mul(self.size.1.into())
    }

    /// The first page as RGB on `background`; at most `max_bytes` for the samples. 16 bits become 8.
    pub fn decode(&self, max_bytes: u64, background: [u8; 3]) -> Result<RgbImage, Failure> {
        let planar = self.directory.number(tag::PLANAR) == Some(2) && self.samples > 1;
        let (data, planar) = match self.directory.number(tag::COMPRESSION) {
            Some(MODERN_JPEG) if planar => return Err(unsupported("JPEG in planes").into()),
            // The crate takes the planes after the first for rows of tiles.
            _ if planar && self.directory.has(tag::TILE_OFFSETS) => {
                return Err(unsupported("tiles in planes").into());
            }
            Some(MODERN_JPEG) => (self.unpack_jpeg(max_bytes)?, false),
            _ => (self.unpack(max_bytes)?, planar),
        };
        let page = Samples {
            data,
            size: self.size,
            samples: self.samples.into(),
            bits: self.bits.into(),
            planar,
        };
        let rgb = page.into_rgb(&self.colours, background);
        rgb.ok_or_else(|| {
            "is broken TIFF (fewer samples than its size)"
                .to_owned()
                .into()
        })
    }

    /// All samples, by the `tiff` crate: rows that begin at a byte; 16 bits in the order of this machine.
    fn unpack(&self, max_bytes: u64) -> Result<Vec<u8>, Failure> {
        let bytes = self.as_grey()?;
        let mut decoder = Decoder::new(Cursor::new(&bytes[..]))?;
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = max_bytes;
        limits.intermediate_buffer_size = max_bytes;
        decoder = decoder.with_limits(limits);
        if u64::try_from(decoder.image_buffer_layout()?.complete_len).unwrap_or(u64::MAX)
            > max_bytes as u64
        {
            return Err(TiffError::LimitsExceeded.into());
        }
        let mut samples = DecodingResult::U8(Vec::new());
        decoder.read_image_to_buffer(&mut samples)?;
        Ok(samples.as_buffer(0).as_bytes().to_vec())
    }

    /// The file as one whose samples are grey and extra ones, with the highest bit of each byte first.
    fn as_grey(&self) -> Result<Vec<u8>, String> {
        const BLACK_IS_ZERO: u8 = 1;
        const NO_PREDICTOR: u8 = 1;
        /// In either byte order.
        const UNKNOWN_TAG: [u8; 2] = [0xfd, 0xfd];
        let mut bytes = self.bytes.to_vec();
        let (at, size) = self
            .directory
            .place(tag::PHOTOMETRIC)
            .ok_or_else(|| unsupported("without a photometric interpretation"))?;
        // The value was read, so that it is within the file.
        let mut put = |at: usize, size: usize, value: u8| {
            bytes[at..at + size].fill(0);
            bytes[match self.directory.is_big_endian() {
                true => at + size - 1,
                false => at,
            }] = value;
        };
        put(at, size, BLACK_IS_ZERO);
        // The predictor belongs to these ways of compression; with others, whoever reads TIFF passes it over.
        let predicts = matches!(self.directory.number(tag::COMPRESSION), Some(5 | 8 | 32946));
        if let (false, Some(_), Some((at, size))) = (
            predicts,
            self.directory.number(tag::PREDICTOR),
            self.directory.place(tag::PREDICTOR),
        ) {
            put(at, size, NO_PREDICTOR);
        }
        for at in self.directory.repeated() {
            bytes[at..at + 2].copy_from_slice(&UNKNOWN_TAG);
        }
        if self.directory.number(tag::FILL_ORDER) == Some(2) {
            for range in self.chunks()? {
                let chunk = bytes.get_mut(range).into_iter().flatten();
                chunk.for_each(|byte| *byte = byte.reverse_bits());
            }
        }
        Ok(bytes)
    }

    /// Where the strips or tiles stand.
    fn chunks(&self) -> Result<Vec<std::ops::Range<usize>>, String> {
        let tiled = self.directory.has(tag::TILE_OFFSETS);
        let (offsets, lengths) = match tiled {
            true => (tag::TILE_OFFSETS, tag::TILE_BYTES),
            false => (tag::STRIP_OFFSETS, tag::STRIP_BYTES),
        };
        let numbers = |tag| self.directory.numbers(tag).unwrap_or_default();
        let whole = |number: u64| usize::try_from(number).ok();
        numbers(offsets)
            .into_iter()
            .zip(numbers(lengths))
            .map(|(offset, length)| {
                let end =
                    whole(offset.saturating_add(length)).filter(|&end| end <= self.bytes.len());
                Some(whole(offset)?..end?)
            })
            .collect::<Option<_>>()
            .ok_or_else(|| "is truncated: its TIFF data ends too early; copy it again".into())
    }

    /// All samples of strips or tiles that are JPEGs of their own; YCbCr is RGB afterwards.
    fn unpack_jpeg(&self, max_bytes: u64) -> Result<Vec<u8>, Failure> {
        if self.sample_bytes() > max_bytes {
            return Err(TiffError::LimitsExceeded.into());
        }
        let number = |tag| self.directory.number(tag);
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let clamp = |number: Option<u64>, side: usize| {
            number.map_or(side, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let (chunk_width, chunk_height) = match self.directory.has(tag::TILE_OFFSETS) {
            true => (
                clamp(number(tag::TILE_WIDTH), width),
                clamp(number(tag::TILE_HEIGHT), height),
            ),
            false => (
                width,
                clamp(number(tag::ROWS_PER_STRIP), height).min(height),
            ),
        };
        if chunk_width == 0 || chunk_height == 0 {
            return Err("is broken TIFF (tiles without pixels)".to_owned().into());
        }
        let (across, down) = (width.div_ceil(chunk_width), height.div_ceil(chunk_height));
        let chunks = self.chunks()?;
        if chunks.len() < across * down {
            return Err("is broken TIFF (fewer tiles than its size)"
                .to_owned()
                .into());
        }
        let samples = usize::from(self.samples);
        let mut data = vec![0; width * height * samples];
        for (i, chunk) in chunks.into_iter().take(across * down).enumerate() {
            let jpeg = self.whole_jpeg(&self.bytes[chunk]);
            let header =
                JpegHeader::read(&jpeg).map_err(|e| e.replacen("JPEG", "JPEG in TIFF", 1))?;
            let (left, top) = (i % across * chunk_width, i / across * chunk_height);
            let (used_width, used_height) = (
                chunk_width.min(width - left),
                chunk_height.min(height - top),
            );
            let (jpeg_width, jpeg_height) = (header.size.0 as usize, header.size.1 as usize);
            if header.components() != samples
                || jpeg_width < used_width
                || jpeg_height < used_height
            {
                return Err("is broken TIFF (a JPEG in it has another size)"
                    .to_owned()
                    .into());
            }
            if (jpeg_width * jpeg_height * samples) as u64 > max_bytes {
                return Err(TiffError::LimitsExceeded.into());
            }
            let pixels = decode_strip(&jpeg, &header, self.colours.is_ycbcr(), max_bytes)
                .map_err(|e| format!("is broken TIFF ({e})"))?;
            for row in 0..used_height {
                let from = row * jpeg_width * samples;
                let to = ((top + row) * width + left) * samples;
                let length = used_width * samples;
                data[to..to + length].copy_from_slice(&pixels[from..from + length]);
            }
        }
        Ok(data)
    }

    /// A strip or tile with the tables that stand once for all of them.
    fn whole_jpeg(&self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        match self.directory.data(tag::JPEG_TABLES) {
            // Without the end of the tables' image and the start of the chunk's.
            Some(tables) if tables.len() > 4 && chunk.len() > 2 => {
                let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
                Cow::Owned([tables, &chunk[2..]].concat())
            }
            _ => Cow::Borrowed(chunk),
        }
    }
}

/// Refuses a raw photo, and a first page that is a thumbnail of another.
fn refuse_raw(bytes: &[u8], directory: &Directory) -> Result<(), String> {
    /// Colour filter array, and linear raw samples.
    const RAW: [u64; 2] = [32803, 34892];
    /// Of Nikon, Sony, Samsung, Kodak and Pentax.
    const RAW_COMPRESSIONS: [u64; 6] = [34713, 32767, 32769, 32770, 65000, 65535];
    let is_raw = |directory: &Directory| {
        let among = |tag, kinds: &[u64]| directory.number(tag).is_some_and(|n| kinds.contains(&n));
        among(tag::PHOTOMETRIC, &RAW) || among(tag::COMPRESSION, &RAW_COMPRESSIONS)
    };
    let no = |what: &str| {
        let advice = "develop it and save it as JPEG or PNG";
        Err(format!("is {what}, which is not supported; {advice}"))
    };
    if directory.has(tag::DNG_VERSION) {
        return no("a raw photo (DNG)");
    }
    let below = directory.numbers(tag::SUB_DIRECTORIES).unwrap_or_default();
    let below = below
        .iter()
        .take(16)
        .filter_map(|&at| Directory::at(bytes, at));
    if is_raw(directory) || below.chain(directory.next()).any(|d| is_raw(&d)) {
        return no("a camera raw photo");
    }
    let reduced = directory
        .number(tag::NEW_SUBFILE_TYPE)
        .is_some_and(|kind| kind & 1 == 1)
        || directory.number(tag::SUBFILE_TYPE) == Some(2);
    match reduced {
        true => no("a raw photo, or a TIFF that starts with a thumbnail"),
        false => Ok(()),
    }
}

/// Refuses unsupported compression.
fn refuse_compression(compression: u64) -> Result<(), String> {
    let name = match compression {
        // None, fax group 4, LZW, JPEG, deflate with its old number, PackBits.
        1 | 4 | 5 | MODERN_JPEG | 8 | 32946 | 32773 => return Ok(()),
        2 | 3 => "fax compression, group 3",
        6 => "old-style JPEG compression",
        34925 => "LZMA compression",
        50000 => "Zstandard compression",
        50001 => "WebP compression",
        other => return Err(unsupported(&format!("compression {other}"))),
    };
    Err(unsupported(name))
}

/// The meaning of the samples of a page.
fn colours(directory: &Directory, samples: u64, bits: u64) -> Result<Colours, String> {
    let photometric = directory
        .number(tag::PHOTOMETRIC)
        .ok_or_else(|| unsupported("without a photometric interpretation"))?;
    let jpeg = directory.number(tag::COMPRESSION) == Some(MODERN_JPEG);
    let depths: &[u64] = match photometric {
        0 | 1 if samples == 1 => &[1, 2, 4, 8, 16],
        3 if samples == 1 => &[1, 2, 4, 8],
        3 | 6 => &[8],
        _ if jpeg => &[8],
        _ => &[8, 16],
    };
    let (colours, kept) = match photometric {
        0 => (
            Colours::Grey {
                inverted: true,
                alpha: None,
            },
            1,
        ),
        1 => (
            Colours::Grey {
                inverted: false,
                alpha: None,
            },
            1,
        ),
        2 => (Colours::Rgb { alpha: None }, 3),
        3 => (Colours::Palette(palette(directory, bits)?), 1),
        5 if directory.number(tag::INK_SET).unwrap_or(1) == 1 => (Colours::Inks, 4),
        5 => return Err(unsupported("inks other than CMYK")),
        6 => {
            let subsampling = directory.numbers(tag::SUBSAMPLING).unwrap_or(vec![2, 2]);
            if !jpeg && subsampling != [1, 1] {
                return Err(unsupported("YCbCr with reduced chroma"));
            }
            (Colours::YCbCr { converted: jpeg }, 3)
        }
        8..=10 => return Err(unsupported("CIE L*a*b*")),
        other => return Err(unsupported(&format!("photometric interpretation {other}"))),
    };
    if !depths.contains(&bits) {
        return Err(unsupported(&format!("{bits} bits per sample")));
    }
    let extra = directory.numbers(tag::EXTRA_SAMPLES).unwrap_or_default();
    // Without a word about it, the fourth sample of RGB is alpha.
    let unsaid = photometric == 2 && samples == 4 && extra.is_empty();
    if !unsaid && samples != kept + extra.len() as u64 {
        return Err(unsupported(&format!("{samples} samples per pixel")));
    }
    let alpha = match extra.first() {
        Some(1) => Some(samples::Alpha::Multiplied),
        // 999 is Corel Draw's.
        Some(2 | 999) => Some(samples::Alpha::Separate),
        _ if unsaid => Some(samples::Alpha::Separate),
        _ => None,
    };
    match (colours, alpha) {
        (Colours::Grey { inverted, .. }, alpha) => Ok(Colours::Grey { inverted, alpha }),
        (Colours::Rgb { .. }, alpha) => Ok(Colours::Rgb { alpha }),
        (colours, None) => Ok(colours),
        (_, Some(_)) => Err(unsupported("alpha with palettes, inks or YCbCr")),
    }
}

/// The colours of a palette: red, green and blue of each, 0 to 255.
fn palette(directory: &Directory, bits: u64) -> Result<Vec<[u8; 3]>, String> {
    let map = directory.numbers(tag::COLOUR_MAP).unwrap_or_default();
    let count = 1usize << bits.min(8);
    if map.len() < 3 * count {
        return Err("is broken TIFF (its palette is too short)".into());
    }
    // Some writers leave 8 bits where 16 belong.
    let shift = if map.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    let colour = |i: usize| std::array::from_fn(|c| (map[c * count + i] >> shift) as u8);
    Ok((0..count).map(colour).collect())
}

fn unsupported(kind: &str) -> String {
    format!("is an unsupported kind of TIFF ({kind}); save it again")
}
