//! Recognises the format of a file by its first bytes. Pure.

use image::ImageFormat;

/// The format of an image, or in one clause why it cannot be used.
pub(crate) fn sniff(bytes: &[u8]) -> Result<ImageFormat, String> {
    let is = |magic: &[u8]| bytes.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    if bytes.is_empty() {
        return Err("is empty".into());
    }
    if is(b"II*\0") && at(8, b"CR") {
        return Err(unsupported("a Canon raw file"));
    }
    if is(b"\xff\xd8\xff") {
        return Ok(ImageFormat::Jpeg);
    }
    if is(b"\x89PNG\r\n\x1a\n") {
        return Ok(ImageFormat::Png);
    }
    if is(b"GIF87a") || is(b"GIF89a") {
        return Ok(ImageFormat::Gif);
    }
    if is(b"RIFF") && at(8, b"WEBP") {
        return Ok(ImageFormat::WebP);
    }
    if is(b"BM") && bytes.len() >= 26 && is_bmp_header(&bytes[14..18]) {
        return Ok(ImageFormat::Bmp);
    }
    if is(b"II*\0") || is(b"MM\0*") || is(b"II+\0") || is(b"MM\0+") {
        return Ok(ImageFormat::Tiff);
    }
    if at(4, b"ftyp") {
        return Err(match bytes.get(8..12) {
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
                unsupported("HEIC")
            }
            Some(b"avif" | b"avis") => unsupported("AVIF"),
            Some(b"crx ") => unsupported("a Canon raw file"),
            _ => "is not an image (it starts like an MP4 video)".into(),
        });
    }
    const OTHER_PICTURES: [(&[u8], &str); 17] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "a Photoshop file"),
        (b"\0\0\x01\0", "an icon file"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"DDS ", "DDS"),
        (b"qoif", "QOI"),
        (b"gimp xcf", "a GIMP file"),
        (b"IIRO", "an Olympus raw file"),
        (b"IIRS", "an Olympus raw file"),
        (b"IIU\0", "a Panasonic raw file"),
        (b"FUJIFILMCCD-RAW", "a Fujifilm raw file"),
        (b"FOVb", "a Sigma raw file"),
        (b"\0MRM", "a Minolta raw file"),
        (b"II\x1a\0\0\0HEAPCCDR", "a Canon raw file"),
    ];
    const NO_PICTURES: [(&[u8], &str); 5] = [
        (b"%PDF", "PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"%!PS", "PostScript"),
        (b"\x1aE\xdf\xa3", "a Matroska video"),
    ];
    if let Some((_, name)) = OTHER_PICTURES.iter().find(|(magic, _)| is(magic)) {
        return Err(unsupported(name));
    }
    if let Some((_, name)) = NO_PICTURES.iter().find(|(magic, _)| is(magic)) {
        return Err(format!("is not an image (it starts like {name})"));
    }
    if bytes.iter().all(|&b| b == 0) {
        return Err("is not an image (it contains only zero bytes)".into());
    }
    Err(sniff_text(bytes).unwrap_or_else(|| {
        "is not an image in a known format (JPEG, PNG, GIF, WebP, BMP or TIFF)".into()
    }))
}

/// True for the length of a header that BMP files have; what is reserved before it may hold anything.
fn is_bmp_header(length: &[u8]) -> bool {
    const LENGTHS: [u8; 8] = [12, 16, 40, 52, 56, 64, 108, 124];
    LENGTHS.contains(&length[0]) && length[1..] == [0; 3]
}

fn unsupported(name: &str) -> String {
    format!("is {name}, which is not supported; convert it to JPEG or PNG")
}

/// The reason why a file that starts like text cannot be used; `None` if it does not start like text.
fn sniff_text(bytes: &[u8]) -> Option<String> {
    const HEAD: usize = 1024;
    let head = &bytes[..bytes.len().min(HEAD)];
    let head = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut after HEAD bytes may go through a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if head
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c'))
    {
        return None;
    }
    let text = head
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    Some(if text.starts_with("version https://git-lfs") {
        "is a Git LFS pointer, not the image itself; run `git lfs pull`".into()
    } else if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") {
        unsupported("SVG")
    } else if text.starts_with("<!doctype html") || text.contains("<html") {
        "is not an image (it starts like HTML)".into()
    } else {
        "is not an image (it starts like text)".into()
    })
}

/// The name of a format that [`sniff`] knows.
pub(crate) fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        _ => "TIFF",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_of_each_kind_of_stray_file_what_it_is() {
        let cases: [(&[u8], &str); 15] = [
            (b"", "is empty"),
            (
                b"<!DOCTYPE html><html>",
                "is not an image (it starts like HTML)",
            ),
            (
                b"\n <html lang=en>",
                "is not an image (it starts like HTML)",
            ),
            (b"404 not found", "is not an image (it starts like text)"),
            (b"%PDF-1.7", "is not an image (it starts like PDF)"),
            (
                b"PK\x03\x04..",
                "is not an image (it starts like a ZIP archive)",
            ),
            (&[0; 64], "is not an image (it contains only zero bytes)"),
            (
                b"\0\0\0\x18ftypheic",
                "is HEIC, which is not supported; convert it to JPEG or PNG",
            ),
            (
                b"\0\0\0\x18ftypavif",
                "is AVIF, which is not supported; convert it to JPEG or PNG",
            ),
            (
                b"\0\0\0\x18ftypisom",
                "is not an image (it starts like an MP4 video)",
            ),
            (
                b"\xff\x0a\x01",
                "is JPEG XL, which is not supported; convert it to JPEG or PNG",
            ),
            (
                b"8BPS\0\x01",
                "is a Photoshop file, which is not supported; convert it to JPEG or PNG",
            ),
            (
                b"<?xml version='1.0'?><svg/>",
                "is SVG, which is not supported; convert it to JPEG or PNG",
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "is a Git LFS pointer, not the image itself; run `git lfs pull`",
            ),
            (
                b"\x01\x02\x03\x04",
                "is not an image in a known format (JPEG, PNG, GIF, WebP, BMP or TIFF)",
            ),
        ];
        for (bytes, reason) in cases {
            assert_eq!(sniff(bytes), Err(reason.to_string()), "{bytes:?}");
        }
    }

    #[test]
    fn text_cut_within_a_character_is_still_text() {
        let text = format!("{}é", "a".repeat(1023));
        assert_eq!(
            sniff(text.as_bytes()),
            Err("is not an image (it starts like text)".to_string())
        );
    }
}
