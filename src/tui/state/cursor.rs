//! A cursor in a list, and the part of the list that is visible. Pure.

use std::ops::Range;

use crate::tui::keys::Action;

/// The selected line of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Its index.
    pub at: usize,
}

impl Cursor {
    /// Moves in a list of `len` lines with `page` lines per page; returns whether `action` is a movement.
    pub fn act(&mut self, action: Action, len: usize, page: u16) -> bool {
        let last = len.saturating_sub(1);
        let page = usize::from(page).max(2) - 1;
        self.at = match action {
            Action::Up => self.at.saturating_sub(1),
            Action::Down => self.at + 1,
            Action::PageUp => self.at.saturating_sub(page),
            Action::PageDown => self.at + page,
            Action::First => 0,
            Action::Last => last,
            _ => return false,
        }
        .min(last);
        true
    }

    /// The visible lines of a list of `len` lines in a window of `height` lines.
    pub fn window(&self, len: usize, height: usize) -> Range<usize> {
        let begin = self
            .at
            .saturating_sub(height / 2)
            .min(len.saturating_sub(height));
        begin..(begin + height).min(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_in_the_list_and_in_the_window() {
        let mut cursor = Cursor::default();
        cursor.act(Action::Up, 5, 3);
        assert_eq!(cursor.at, 0);
        cursor.act(Action::PageDown, 100_000, 11);
        assert_eq!(cursor.at, 10);
        assert_eq!(cursor.window(100_000, 11), 5..16);
        cursor.act(Action::Last, 100_000, 11);
        assert_eq!(cursor.window(100_000, 11), 99_989..100_000);
        cursor.act(Action::Down, 0, 11);
        assert_eq!((cursor.at, cursor.window(0, 11)), (0, 0..0));
        assert!(!cursor.act(Action::Help, 5, 3));
    }
}
