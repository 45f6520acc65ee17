//! Text encodings: UTF-8 and UTF-16.

/// Bytes that are looked at to tell UTF-16 without a mark.
const LOOKED_AT: usize = 200;

/// The text in a file as UTF-8, without a byte order mark; text of an older encoding as it is.
///
/// # Errors
/// What the file is in place of text, and what to do, as a clause.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]]));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.map(String::into_bytes)
            .map_err(|_| "it is not valid UTF-16; save it as UTF-8".to_owned())
    };
    let zeros = |odd: usize| {
        let looked_at = bytes.iter().take(LOOKED_AT).skip(odd).step_by(2);
        let (all, zero) = looked_at.fold((0, 0), |(n, z), b| (n + 1, z + usize::from(*b == 0)));
        all > 1 && 2 * zero > all
    };
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(text.to_vec()),
        [0xff, 0xfe, text @ ..] => wide(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => wide(text, u16::from_be_bytes),
        [b'P', b'K', 3, 4, ..] | [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            Err("it is a spreadsheet, not a CSV file; save the sheet as CSV (UTF-8)".into())
        }
        text if zeros(1) => wide(text, u16::from_le_bytes),
        text if zeros(0) => wide(text, u16::from_be_bytes),
        text if text.contains(&0) => {
            Err("it is not text; give a CSV file with the columns path and label".into())
        }
        text => Ok(text.to_vec()),
    }
}
