//! Text from the outside made safe for a terminal.

/// `text` with its control characters written out (`\u{1b}`), but for line breaks: a file name must not be
/// able to move the cursor or change the title of a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escape = c.is_control() && c != '\n';
            let plain = (!escape).then_some(c);
            let written = escape.then(|| c.escape_unicode());
            plain.into_iter().chain(written.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_written_out() {
        assert_eq!(printable("a\u{1b}[2Jb\tc"), "a\\u{1b}[2Jb\\u{9}c");
    }

    #[test]
    fn text_of_all_scripts_stays() {
        assert_eq!(printable("é 写真 =1+1\nx"), "é 写真 =1+1\nx");
    }
}
