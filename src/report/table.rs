//! Tables without rules: first column left-aligned, numbers right-aligned.

use comfy_table::{CellAlignment, Table as Layout, presets};

use super::Text;
use crate::error::printable;

/// A table in the making. Cells are [`printable`] text: a name cannot begin a line of its own.
pub(crate) struct Table(Layout);

impl Table {
    /// A table with these heads.
    pub fn new(columns: impl IntoIterator<Item: AsRef<str>>) -> Table {
        let mut table = Layout::new();
        let heads = columns.into_iter().map(|head| printable(head.as_ref()));
        table.load_style(presets::NOTHING).set_header(heads);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Table(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item: AsRef<str>>) {
        let cells = cells.into_iter().map(|cell| printable(cell.as_ref()));
        self.0.add_row(cells.collect::<Vec<_>>());
    }

    /// The table as text, a line per row, without blanks at their ends.
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for line in self.0.lines() {
            text.line(line.trim_end());
        }
        text
    }
}
