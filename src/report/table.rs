//! Tables without lines: the first column to the left, numbers to the right.

use comfy_table::{CellAlignment, Table, presets};

/// A table with these heads.
pub(crate) fn plain(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The table as text, a line a row, without blanks at their ends.
pub(crate) fn finish(table: Table) -> String {
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
