//! Text that fits: names and figures cut to a number of cells. Pure.

use std::path::Path;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::report::printable;

/// `text` in at most `width` cells, cut at its end.
pub fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= width
        })
        .collect();
    if width == 0 { kept } else { kept + "…" }
}

/// `text` in at most `width` cells, cut at its beginning: the end of a path says more.
pub fn fit_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept: Vec<char> = text
        .chars()
        .rev()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= width
        })
        .collect();
    let kept: String = kept.into_iter().rev().collect();
    if width == 0 {
        kept
    } else {
        format!("…{kept}")
    }
}

/// `text` in exactly `width` cells, to the left.
pub fn left(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let blanks = width - text.width();
    text + &" ".repeat(blanks)
}

/// `text` in exactly `width` cells, to the right.
pub fn right(text: &str, width: usize) -> String {
    let text = fit(text, width);
    " ".repeat(width - text.width()) + &text
}

/// `text` in lines of at most `width` cells, broken at blanks where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            let mut word = word.to_owned();
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            // A word that is longer than a line, such as a path, is broken anywhere.
            while word.width() > width {
                let mut used = 0;
                let end = word
                    .char_indices()
                    .find(|(_, c)| {
                        used += c.width().unwrap_or(0);
                        used > width
                    })
                    .map_or(word.len(), |(i, _)| i);
                if end == 0 {
                    break;
                }
                lines.push(word[..end].to_owned());
                word = word.split_off(end);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += &word;
        }
        lines.push(line);
    }
    lines
}

/// A path as text that a terminal can show.
pub fn path_text(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A share as whole percent; under a half but not nothing is `<1`.
pub fn percent(share: f64) -> String {
    let whole = (share * 100.0).round();
    if whole < 1.0 && share > 0.0 {
        "<1 %".to_owned()
    } else {
        format!("{whole:.0} %")
    }
}

/// Bytes as `13.4 MB`.
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

    #[test]
    fn text_is_wrapped_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a\n\nb", 8), ["a", "", "b"]);
        assert_eq!(wrap("to /a/long/path", 6), ["to", "/a/lon", "g/path"]);
        assert_eq!(wrap("写真", 1), ["写真"]);
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
