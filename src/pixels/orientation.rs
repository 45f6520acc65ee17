//! The orientation of the camera, from an image's metadata.

use image::metadata::Orientation;

use super::tiff::Directory;

const ORIENTATION: u16 = 0x0112;

/// The orientation by an EXIF block, or by an XMP packet where EXIF says nothing, as Pillow has it. Upright if
/// neither names one of the eight.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let mut exif = exif.unwrap_or_default();
    // The name of the JPEG segment stands before the block in some WebP and PNG files, too.
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    match Directory::first(exif) {
        Some(directory) if directory.has(ORIENTATION) => in_directory(&directory),
        _ => in_xmp(xmp.unwrap_or_default()),
    }
}

/// The orientation of a TIFF file by its own directory, or by its XMP packet.
pub(super) fn orientation_of_tiff(directory: &Directory) -> Orientation {
    const XMP: u16 = 700;
    match directory.has(ORIENTATION) {
        true => in_directory(directory),
        false => in_xmp(directory.data(XMP).unwrap_or_default()),
    }
}

/// The field may be of any type of numbers, though SHORT is the one of the specification.
fn in_directory(directory: &Directory) -> Orientation {
    directory
        .value(ORIENTATION)
        .filter(|value| value.fract() == 0.0 && (1.0..=8.0).contains(value))
        .and_then(|value| Orientation::from_exif(value as u8))
        .unwrap_or(Orientation::NoTransforms)
}

/// `tiff:Orientation="6"` or `tiff:Orientation>6`, whichever comes first.
fn in_xmp(packet: &[u8]) -> Orientation {
    const NAME: &[u8] = b"tiff:Orientation";
    packet
        .windows(NAME.len())
        .enumerate()
        .filter(|(_, window)| *window == NAME)
        .find_map(|(at, _)| {
            let rest = &packet[at + NAME.len()..];
            let digit = rest
                .strip_prefix(b"=\"")
                .or_else(|| rest.strip_prefix(b">"))?
                .first()?;
            digit.is_ascii_digit().then(|| digit - b'0')
        })
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// Width and height after an orientation was applied.
pub(super) fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EXIF block with one orientation field of a type and count, whose value's bytes stand in the field, or after
    /// the directory if they are more than four.
    fn block(big_endian: bool, kind: u16, count: u32, value: &[u8]) -> Vec<u8> {
        let number = |bytes: &[u8]| -> Vec<u8> {
            match big_endian {
                true => bytes.to_vec(),
                false => bytes.iter().rev().copied().collect(),
            }
        };
        let mut block = if big_endian {
            b"MM".to_vec()
        } else {
            b"II".to_vec()
        };
        block.extend(number(&42u16.to_be_bytes()));
        block.extend(number(&8u32.to_be_bytes()));
        block.extend(number(&1u16.to_be_bytes()));
        block.extend(number(&ORIENTATION.to_be_bytes()));
        block.extend(number(&kind.to_be_bytes()));
        block.extend(number(&count.to_be_bytes()));
        let value: Vec<u8> = value.to_vec();
        if value.len() > 4 {
            block.extend(number(&26u32.to_be_bytes()));
            block.extend([0; 4]);
            block.extend(value);
        } else {
            block.extend(value.iter().copied().chain([0; 4]).take(4));
            block.extend([0; 4]);
        }
        block
    }

    #[test]
    fn the_field_may_be_of_any_type_of_numbers_in_either_byte_order() {
        let six = 6.0f64;
        for (kind, big, little) in [
            (1, vec![6], vec![6]),
            (3, vec![0, 6], vec![6, 0]),
            (4, vec![0, 0, 0, 6], vec![6, 0, 0, 0]),
            (
                5,
                vec![0, 0, 0, 6, 0, 0, 0, 1],
                vec![6, 0, 0, 0, 1, 0, 0, 0],
            ),
            (6, vec![6], vec![6]),
            (8, vec![0, 6], vec![6, 0]),
            (9, vec![0, 0, 0, 6], vec![6, 0, 0, 0]),
            (11, 6f32.to_be_bytes().to_vec(), 6f32.to_le_bytes().to_vec()),
            (12, six.to_be_bytes().to_vec(), six.to_le_bytes().to_vec()),
            (13, vec![0, 0, 0, 6], vec![6, 0, 0, 0]),
        ] {
            for (big_endian, value) in [(true, &big), (false, &little)] {
                let found = orientation(Some(&block(big_endian, kind, 1, value)), None);
                assert_eq!(found, Orientation::Rotate90, "type {kind}, {big_endian}");
            }
        }
        let named = [b"Exif\0\0", &block(true, 3, 1, &[0, 6])[..]].concat();
        assert_eq!(orientation(Some(&named), None), Orientation::Rotate90);
    }

    #[test]
    fn what_is_none_of_the_eight_or_is_not_there_is_upright() {
        let upright = Orientation::NoTransforms;
        for (kind, count, value) in [
            (2, 1, &b"6"[..]),
            (3, 0, &[0, 6]),
            (3, 1, &[0, 0]),
            (3, 1, &[0, 9]),
            (3, 1, &[1, 6]),
            (5, 1, &[0, 0, 0, 6, 0, 0, 0, 0]),
            (12, 1, &[0xff; 8]),
            (99, 1, &[0, 6]),
        ] {
            let block = block(true, kind, count, value);
            assert_eq!(orientation(Some(&block), None), upright, "{kind} {value:?}");
            for length in 0..block.len() {
                orientation(Some(&block[..length]), None);
            }
        }
        assert_eq!(orientation(None, None), upright);
    }

    #[test]
    fn xmp_counts_where_exif_says_nothing() {
        for xmp in [
            &b"<rdf tiff:Orientation=\"8\"/>"[..],
            b"tiff:Orientation=x <tiff:Orientation>8</tiff:Orientation>",
        ] {
            assert_eq!(orientation(None, Some(xmp)), Orientation::Rotate270);
            let three = block(true, 3, 1, &[0, 3]);
            assert_eq!(orientation(Some(&three), Some(xmp)), Orientation::Rotate180);
            let nine = block(true, 3, 1, &[0, 9]);
            assert_eq!(
                orientation(Some(&nine), Some(xmp)),
                Orientation::NoTransforms
            );
        }
    }
}
