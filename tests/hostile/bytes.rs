//! Making files byte by byte, where an encoder would refuse.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat};

use crate::program::repository;

/// A file of `tests/data/pictures`.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(repository("tests/data/pictures").join(name)).unwrap()
}

/// The picture that all of them show.
pub fn clean() -> DynamicImage {
    DynamicImage::ImageRgb8(
        image::load_from_memory(&fixture("clean.png"))
            .unwrap()
            .into_rgb8(),
    )
}

pub fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn encode_jpeg(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    picture.write_with_encoder(encoder).unwrap();
    bytes
}

/// The picture as a camera held in that way stores it: turned upright by `orientation` it is as it was.
pub fn stored_for(picture: &DynamicImage, orientation: u8) -> DynamicImage {
    let undo = match Orientation::from_exif(orientation).unwrap() {
        Orientation::Rotate90 => Orientation::Rotate270,
        Orientation::Rotate270 => Orientation::Rotate90,
        own_inverse => own_inverse,
    };
    let mut stored = picture.clone();
    stored.apply_orientation(undo);
    stored
}

/// An EXIF block (TIFF, big-endian) with nothing but an orientation.
pub fn exif(orientation: u16) -> Vec<u8> {
    exif_of_type(3, &orientation.to_be_bytes())
}

/// The same with a value of another type, of 1, 2 or 4 bytes.
pub fn exif_of_type(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0".to_vec();
    block.extend([kind, 0, 0, 0, 1]);
    block.extend(value.iter().copied().chain([0; 4]).take(4));
    block.extend([0; 4]);
    block
}

/// A JPEG with another segment behind its start.
pub fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

pub fn with_exif(jpeg: &[u8], block: &[u8]) -> Vec<u8> {
    with_segment(jpeg, 0xe1, &[b"Exif\0\0", block].concat())
}

/// A JPEG with other numbers in its frame header.
pub fn with_jpeg_size(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let mut bytes = jpeg.to_vec();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// CRC-32 of the PNG specification, annex D, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            (c >> 1) ^ if c & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let named = [kind, data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length[..], &named, &crc(&named).to_be_bytes()].concat()
}

pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

pub fn ihdr(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let rest = [bits, colour, 0, 0, 0];
    chunk(
        b"IHDR",
        &[&width.to_be_bytes()[..], &height.to_be_bytes(), &rest].concat(),
    )
}

/// Bytes as a zlib stream that does not compress (RFC 1950, RFC 1951 3.2.4).
pub fn stored_zlib(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = bytes.chunks(65_535).collect::<Vec<_>>();
    for (i, block) in blocks.iter().enumerate() {
        stream.push(u8::from(i + 1 == blocks.len()));
        let length = block.len() as u16;
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(*block);
    }
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// A whole PNG of lines that have their filter byte.
pub fn png(width: u32, height: u32, bits: u8, colour: u8, lines: &[u8]) -> Vec<u8> {
    [
        PNG,
        &ihdr(width, height, bits, colour),
        &chunk(b"IDAT", &stored_zlib(lines)),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

/// A PNG with another chunk behind its header.
pub fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let behind_header = PNG.len() + 25;
    let (head, rest) = png.split_at(behind_header);
    [head, &chunk(kind, data), rest].concat()
}

/// The place of a PNG's chunk: where its length stands.
pub fn chunk_at(png: &[u8], kind: &[u8; 4]) -> usize {
    png.windows(4).position(|w| w == kind).unwrap() - 4
}

/// A zlib stream of `bytes` zeros, some thousand times smaller: one literal and copies of 258 bytes with
/// fixed Huffman codes (RFC 1951 3.2.6). Its checksum is left out, which a reader meets only at its end.
pub fn zlib_bomb(bytes: usize) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let (mut held, mut bits) = (0u32, 0);
    let mut put = |code: u32, length: u32| {
        held |= code << bits;
        bits += length;
        while bits >= 8 {
            stream.push(held as u8);
            held >>= 8;
            bits -= 8;
        }
    };
    put(0b011, 3); // Last block, fixed codes.
    put(0b0000_1100, 8); // Literal 0: code 00110000, first bit first.
    for _ in 0..bytes.div_ceil(258) {
        put(0b1010_0011, 8); // Length 258: code 11000101, no extra bits.
        put(0, 5); // Distance 1.
    }
    put(0, 7); // End of block.
    put(0, 7);
    stream
}

/// A little-endian TIFF of one grey strip; `entries` are (tag, type, count, value), in the order of tags.
pub fn tiff(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((8 + data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes.extend((entries.len() as u16).to_le_bytes());
    for &(tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// `bytes` with `flips` single bits turned behind the first 64 bytes, the same ones for the same `seed`.
pub fn rotten(bytes: &[u8], seed: u32, flips: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = bytes.to_vec();
    for _ in 0..flips {
        // Numerical Recipes' linear congruential generator.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let at = 64 + (state >> 8) as usize % (bytes.len() - 64);
        bytes[at] ^= 1 << (state % 8);
    }
    bytes
}
