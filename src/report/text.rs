//! Multi-line text for a terminal.

use std::fmt;

use crate::error::printable;

/// Lines for standard output. Their breaks are the program's own: a name with a line break in it stays in its line, as
/// [`printable`] text, so that no file can forge a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// A text of this line.
    pub fn of(line: impl AsRef<str>) -> Text {
        let mut text = Text::default();
        text.line(line);
        text
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.0 += &printable(line.as_ref());
        self.0.push('\n');
    }

    /// Adds an empty line.
    pub fn gap(&mut self) {
        self.0.push('\n');
    }

    /// Adds all lines of another text.
    pub fn add(&mut self, lines: &Text) {
        self.0 += &lines.0;
    }

    /// The lines, each with its break.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_line_stays_in_it() {
        let mut text = Text::of("class: a\nsame results: TRUE");
        text.gap();
        text.add(&Text::of("é 写真\tb\r\u{2029}c"));
        assert_eq!(
            text.as_str(),
            "class: a\\nsame results: TRUE\n\né 写真\\tb\\r\\u{2029}c\n"
        );
    }
}
