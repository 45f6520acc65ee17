//! The header of a NumPy array file (NEP 1, format version 1.0).

use super::matrix::Dtype;

/// Where the values begin: the header is padded to this, whatever the shape, so that it can be rewritten
/// in place.
pub const HEADER_BYTES: usize = 128;

/// NumPy's name of the type.
fn descr(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
    }
}

/// The header of an array of `rows` rows of shape `row_shape`, C order.
///
/// | offset | bytes | what |
/// | --- | --- | --- |
/// | 0 | 6 | `\x93NUMPY` |
/// | 6 | 2 | version 1.0 |
/// | 8 | 2 | length of the rest, little-endian |
/// | 10 | 118 | a Python dictionary, padded with spaces, ended by a newline |
pub fn header(dtype: Dtype, rows: u64, row_shape: &[usize]) -> [u8; HEADER_BYTES] {
    let dims: String = row_shape.iter().map(|d| format!(", {d}")).collect();
    let comma = if row_shape.is_empty() { "," } else { "" };
    let dict = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({rows}{dims}{comma}), }}",
        descr(dtype)
    );
    let mut header = [b' '; HEADER_BYTES];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&((HEADER_BYTES - 10) as u16).to_le_bytes());
    // The longest dictionary, three dimensions of 20 digits each after the rows, does not occur: a row
    // that fits memory has at most 12 digits.
    let length = dict.len().min(HEADER_BYTES - 11);
    header[10..10 + length].copy_from_slice(&dict.as_bytes()[..length]);
    header[HEADER_BYTES - 1] = b'\n';
    header
}

/// Returns whether a file says that its numbers have their highest byte first.
pub fn is_big_endian(file: &[u8]) -> bool {
    let head = &file[..file.len().min(HEADER_BYTES)];
    head.starts_with(b"\x93NUMPY") && head.windows(13).any(|w| w.starts_with(b"'descr': '>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_the_one_that_numpy_writes() {
        // numpy 2: numpy.lib.format.write_array_header_1_0 for (3, 1280) float32, up to its padding.
        let header = header(Dtype::F32, 3, &[1280]);
        let text =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1280), }";
        assert_eq!(&header[..text.len()], text);
        assert!(
            header[text.len()..HEADER_BYTES - 1]
                .iter()
                .all(|&b| b == b' ')
        );
        assert_eq!(header[HEADER_BYTES - 1], b'\n');
    }

    #[test]
    fn header_has_room_for_the_largest_shape() {
        let header = header(Dtype::F16, 999_999_999_999, &[999, 999, 99_999]);
        let text = String::from_utf8_lossy(&header[10..]);
        assert!(text.trim_end().ends_with('}'), "{text}");
    }
}
