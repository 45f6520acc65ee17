//! Fits text into a number of terminal cells, and formats numbers. Pure.

use std::path::Path;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::report::printable;

/// Width of `text` on a terminal in cells, measured by grapheme cluster. This is neither the number of characters nor
/// the sum of their widths: an emoji with a variation selector is two cells wide, its parts are one and zero.
pub fn cells(text: &str) -> usize {
    text.graphemes(true).map(UnicodeWidthStr::width).sum()
}

/// Number of bytes of the whole clusters of `clusters` that fit into `room` cells.
fn bytes_within<'t>(clusters: impl Iterator<Item = &'t str>, room: usize) -> usize {
    let mut used = 0;
    clusters
        .take_while(|cluster| {
            used += cluster.width();
            used <= room
        })
        .map(str::len)
        .sum()
}

/// `text` in at most `width` cells, truncated at its end.
pub fn fit(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else {
        return String::new();
    };
    let end = bytes_within(text.graphemes(true), room);
    format!("{}…", &text[..end])
}

/// `text` in at most `width` cells, truncated at its beginning: the end of a path says more.
pub fn fit_end(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else {
        return String::new();
    };
    let kept = bytes_within(text.graphemes(true).rev(), room);
    format!("…{}", &text[text.len() - kept..])
}

/// `text` in exactly `width` cells, aligned left.
pub fn left(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let blanks = " ".repeat(width.saturating_sub(cells(&text)));
    text + &blanks
}

/// `text` in exactly `width` cells, aligned right.
pub fn right(text: &str, width: usize) -> String {
    let text = fit(text, width);
    " ".repeat(width.saturating_sub(cells(&text))) + &text
}

/// `text` in lines of at most `width` cells, broken at spaces where possible; a cluster that is wider than a line gets
/// its own line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let (mut line, mut used) = (String::new(), 0);
        for mut word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && used + 1 + cells(word) > width {
                lines.push(std::mem::take(&mut line));
            }
            // Break a word that is longer than a line, such as a path, anywhere.
            while cells(word) > width {
                let first = word.graphemes(true).next().map_or(0, str::len);
                let end = bytes_within(word.graphemes(true), width).max(first);
                if end == word.len() {
                    break;
                }
                lines.push(word[..end].to_owned());
                word = &word[end..];
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
            used = cells(&line);
        }
        lines.push(line);
    }
    lines
}

/// A path as text that is safe to print on a terminal.
pub fn path_text(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A fraction (0 to 1) as whole percent; a fraction above zero that rounds to zero is `<1 %`.
pub fn percent(share: f64) -> String {
    let whole = (share * 100.0).round();
    if whole < 1.0 && share > 0.0 {
        "<1 %".to_owned()
    } else {
        format!("{whole:.0} %")
    }
}

/// Bytes as `13.4 MB` or `3.5 kB`.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_cells_not_to_letters() {
        assert_eq!(fit("hammer", 6), "hammer");
        assert_eq!(fit("hammer", 5), "hamm…");
        assert_eq!(fit("写真写真", 5), "写真…");
        assert_eq!(fit_end("a/long/path", 5), "…path");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(left("写", 4), "写  ");
        assert_eq!(right("1", 3), "  1");
    }

    /// Words that are hard to measure: emoji with selectors, joiners and skin tones, flags, combining marks, scripts
    /// with ligatures or written right to left, control, private and unassigned characters.
    const HARD: [&str; 24] = [
        "♻\u{fe0f} recycling",
        "♻\u{fe0e}",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦",
        "👍🏽",
        "🇩🇪🇫",
        "1\u{fe0f}\u{20e3}",
        "e\u{301}\u{302}\u{303}",
        "\u{301}",
        "写真",
        "ｆｕｌｌ",
        "ｶﾞ",
        "한국어",
        "\u{1112}\u{1161}\u{11ab}",
        "لا إله",
        "עברית",
        "हिन्दी क्षि",
        "กำ",
        "\u{200b}\u{200d}\u{feff}",
        "\u{202e}abc",
        "a\tb\nc\u{7}",
        "\u{e000}\u{10ffff}",
        "ꓐꓸꓺ",
        "\u{0}",
        "𐍈🏴\u{e0067}\u{e0062}\u{e007f}",
    ];

    /// Random text of hard words and arbitrary characters.
    fn any_text(rng: &mut impl rand::Rng) -> String {
        let mut text = String::new();
        for _ in 0..rng.next_u32() % 8 {
            match rng.next_u32() % 4 {
                0 => text.push(' '),
                1 => text.extend(char::from_u32(rng.next_u32() % 0x11_0000)),
                _ => text += HARD[rng.next_u32() as usize % HARD.len()],
            }
        }
        text
    }

    fn campaign() -> u32 {
        let asked = std::env::var("TL_CAMPAIGN").ok();
        asked.and_then(|n| n.parse().ok()).unwrap_or(300)
    }

    #[test]
    fn any_text_fits_at_any_width_and_keeps_whole_clusters() {
        use rand::SeedableRng;
        let mut rng = rand_pcg::Pcg32::seed_from_u64(1);
        let texts = (0..campaign()).map(|_| any_text(&mut rng));
        for text in HARD.map(str::to_owned).into_iter().chain(texts) {
            for width in 0..=40 {
                for cut in [fit(&text, width), fit_end(&text, width)] {
                    assert!(cells(&cut) <= width, "{text:?} at {width}: {cut:?}");
                    let is_cluster =
                        |part: &str| part == "…" || text.graphemes(true).any(|g| g == part);
                    // A combining mark would join the ellipsis beside it.
                    let kept = cut.trim_matches('…');
                    assert!(
                        kept.graphemes(true).all(is_cluster),
                        "{text:?} at {width}: {cut:?}"
                    );
                }
                for padded in [left(&text, width), right(&text, width)] {
                    let found = cells(&padded);
                    assert!(found == width, "{text:?} at {width}: {found} of {padded:?}");
                }
                let widest = text.graphemes(true).map(cells).max().unwrap_or(0);
                for line in wrap(&text, width) {
                    assert!(
                        cells(&line) <= width.max(widest).max(1),
                        "{text:?} at {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn text_is_wrapped_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a\n\nb", 8), ["a", "", "b"]);
        assert_eq!(wrap("to /a/long/path", 6), ["to", "/a/lon", "g/path"]);
        assert_eq!(wrap("写真", 1), ["写", "真"]);
    }

    #[test]
    fn shares_and_sizes() {
        assert_eq!(percent(0.004), "<1 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.876), "88 %");
        assert_eq!(megabytes(14_000_000), "14.0 MB");
        assert_eq!(megabytes(3_500), "3.5 kB");
    }
}
