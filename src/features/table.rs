//! `index.csv` and `errors.csv`. Paths are written as raw bytes, so that any name can be read back.
//!
//! Spreadsheets run a field that begins with `=`, `+`, `-` or `@` as a formula. Such a path therefore gets the prefix
//! `./`, which names the same file, and such a class name the prefix `'`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::store::{IndexRow, SourceFacts};
use crate::dataset::{Split, path_of_bytes};
use crate::disk::{BoundedLines, open_own_to_read, stays_below};
use crate::error::{Error, Result};
use crate::foreign::table_fault;

/// Maximum bytes of a line: a path has at most 4,096 on Linux, and a reason is a sentence.
const MAX_LINE_BYTES: usize = 1 << 20;

const INDEX_COLUMNS: [&str; 9] = [
    "row",
    "path",
    "class",
    "split",
    "width",
    "height",
    "bytes",
    "modified_ns",
    "sha256",
];
const ERROR_COLUMNS: [&str; 2] = ["path", "reason"];

/// Returns whether a spreadsheet would take a field for a formula (OWASP, CSV injection).
fn is_formula(field: &[u8]) -> bool {
    matches!(
        field.first(),
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')
    )
}

/// A path as a field that no spreadsheet takes for a formula: it stands for the same file.
pub(crate) fn path_field(path: &Path) -> Cow<'_, [u8]> {
    let bytes = path.as_os_str().as_encoded_bytes();
    match is_formula(bytes) {
        true => Cow::Owned([b"./", bytes].concat()),
        false => Cow::Borrowed(bytes),
    }
}

/// A name as a field that no spreadsheet takes for a formula: with `'` before it if need be, as people
/// write text there. A name with quotes before a formula gets one more, so that [`name_of`] is exact.
pub(crate) fn name_field(name: &str) -> Cow<'_, str> {
    match is_formula(name.trim_start_matches('\'').as_bytes()) {
        true => Cow::Owned(format!("'{name}")),
        false => Cow::Borrowed(name),
    }
}

/// The name that [`name_field`] was given.
fn name_of(field: &str) -> &str {
    match field.strip_prefix('\'') {
        Some(rest) if is_formula(rest.trim_start_matches('\'').as_bytes()) => rest,
        _ => field,
    }
}

/// The bytes of `index.csv`.
pub(super) fn index_csv(rows: &[IndexRow], classes: &[String]) -> Vec<u8> {
    let mut record = ByteRecord::new();
    csv_bytes(INDEX_COLUMNS, rows.iter().enumerate(), |(i, row), write| {
        let class = row
            .class
            .and_then(|c| classes.get(c))
            .map_or("", String::as_str);
        let source = &row.source;
        record.clear();
        record.push_field(i.to_string().as_bytes());
        record.push_field(&path_field(&row.path));
        record.push_field(name_field(class).as_bytes());
        record.push_field(row.split.map_or("", Split::name).as_bytes());
        record.push_field(source.width.to_string().as_bytes());
        record.push_field(source.height.to_string().as_bytes());
        record.push_field(source.bytes.to_string().as_bytes());
        record.push_field(source.modified_ns.to_string().as_bytes());
        record.push_field(source.sha256.as_bytes());
        write(&record);
    })
}

/// The bytes of `errors.csv`.
pub(super) fn errors_csv(errors: &[(PathBuf, String)]) -> Vec<u8> {
    let mut record = ByteRecord::new();
    csv_bytes(ERROR_COLUMNS, errors.iter(), |(path, reason), write| {
        record.clear();
        record.push_field(&path_field(path));
        record.push_field(reason.as_bytes());
        write(&record);
    })
}

/// A table with the lines that `line` writes of each row; no more than one of them is held apart.
fn csv_bytes<T, const COLUMNS: usize>(
    columns: [&str; COLUMNS],
    rows: impl Iterator<Item = T>,
    mut line: impl FnMut(T, &mut dyn FnMut(&ByteRecord)),
) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and all records of a table have the same length.
    let mut write = |record: &ByteRecord| drop(writer.write_byte_record(record));
    write(&ByteRecord::from(columns.to_vec()));
    for row in rows {
        line(row, &mut write);
    }
    writer.into_inner().unwrap_or_default()
}

/// Reads `index.csv`, whose lines must be in the order of the rows: a table that somebody sorted would give each row
/// another image.
pub(super) fn read_index(path: &Path, classes: &[String]) -> Result<Vec<IndexRow>> {
    let rows = read_records(path, &INDEX_COLUMNS, |row, record| {
        let number: usize = std::str::from_utf8(&record[0]).ok()?.parse().ok()?;
        parse_row(record, classes).filter(|_| number == row)
    })?;
    let mut known = HashSet::new();
    match rows.iter().position(|row| !known.insert(&row.path)) {
        Some(row) => Err(damaged(path, row + 2)),
        None => Ok(rows),
    }
}

/// Reads `errors.csv`.
pub(super) fn read_errors(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    read_records(path, &ERROR_COLUMNS, |_, r| {
        Some((path_of(&r[0]), String::from_utf8_lossy(&r[1]).into_owned()))
    })
}

fn parse_row(record: &ByteRecord, classes: &[String]) -> Option<IndexRow> {
    let text = |i: usize| std::str::from_utf8(record.get(i)?).ok();
    let class = match text(2)? {
        "" => None,
        field => {
            let name = name_of(field);
            Some(classes.iter().position(|c| c == name)?)
        }
    };
    let path = path_of(&record[1]);
    // An image lies below the dataset's folder.
    if !stays_below(&path) {
        return None;
    }
    let split = match text(3)? {
        "" => None,
        name => Some(Split::from_name(name)?),
    };
    Some(IndexRow {
        path,
        class,
        split,
        source: SourceFacts {
            width: text(4)?.parse().ok()?,
            height: text(5)?.parse().ok()?,
            bytes: text(6)?.parse().ok()?,
            modified_ns: text(7)?.parse().ok()?,
            sha256: text(8)?.to_owned(),
        },
    })
}

fn path_of(field: &[u8]) -> PathBuf {
    let bytes = match field.strip_prefix(b"./") {
        Some(rest) if is_formula(rest) => rest,
        _ => field,
    };
    path_of_bytes(bytes)
}

/// Reads a table with these columns line by line; `parse` gets the number of each line after the first, from 0 on, and
/// gives none for a damaged one.
fn read_records<T>(
    path: &Path,
    columns: &[&str],
    parse: impl Fn(usize, &ByteRecord) -> Option<T>,
) -> Result<Vec<T>> {
    let file = open_own_to_read(path).map_err(Error::io("read", path))?;
    let mut reader = csv::Reader::from_reader(BoundedLines::new(file, MAX_LINE_BYTES));
    let fault = |e: csv::Error| Error::Store {
        path: path.to_owned(),
        problem: format!(
            "it is damaged: {}; extract again to a new folder",
            table_fault(&e)
        ),
    };
    if reader
        .byte_headers()
        .map_err(fault)?
        .iter()
        .ne(columns.iter().map(|c| c.as_bytes()))
    {
        return Err(damaged(path, 1));
    }
    let mut rows = Vec::new();
    for (i, record) in reader.byte_records().enumerate() {
        let record = record.map_err(fault)?;
        let row = (record.len() == columns.len())
            .then(|| parse(i, &record))
            .flatten();
        rows.push(row.ok_or_else(|| damaged(path, i + 2))?);
    }
    Ok(rows)
}

fn damaged(path: &Path, line: usize) -> Error {
    Error::Store {
        path: path.to_owned(),
        problem: format!("its line {line} is damaged; extract again to a new folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_and_every_name_comes_back() {
        for name in [
            "=1+1", "+a", "-rf.jpg", "@home", "'=1", "''-", "'a", "plain", "",
        ] {
            let field = name_field(name);
            assert!(!is_formula(field.as_bytes()), "{field}");
            assert_eq!(name_of(&field), name);
            let path = Path::new(name);
            let field = path_field(path);
            assert!(!is_formula(&field), "{name}");
            assert_eq!(path_of(&field), path);
        }
    }

    #[test]
    fn a_table_whose_lines_are_not_in_the_order_of_the_rows_is_damaged() {
        let classes = ["cat".to_owned(), "dog".to_owned()];
        let row = |path: &str, class| IndexRow {
            path: PathBuf::from(path),
            class: Some(class),
            split: None,
            source: SourceFacts {
                width: 1,
                height: 1,
                bytes: 1,
                modified_ns: 0,
                sha256: String::new(),
            },
        };
        let rows = [row("a", 0), row("b", 1), row("c", 0)];
        let whole = String::from_utf8(index_csv(&rows, &classes)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_index(&path, &classes).map_err(|e| e.to_string())
        };
        let lines: Vec<&str> = whole.lines().collect();
        let joined = |order: &[usize]| {
            let chosen: Vec<&str> = order.iter().map(|&i| lines[i]).collect();
            chosen.join("\n")
        };
        assert_eq!(read(&whole).unwrap().len(), 3);
        assert_eq!(read(&format!("\u{feff}{whole}")).unwrap().len(), 3);
        for (text, line) in [
            (joined(&[0, 3, 2, 1]), 2),
            (joined(&[0, 1, 1, 3]), 3),
            (joined(&[0, 2, 3]), 2),
            (whole.replacen("\n1,", "\nx,", 1), 3),
            (whole.replacen("\n2,c", "\n2,a", 1), 4),
            (whole.replacen("row,path", "path,row", 1), 1),
            (whole.replacen("dog", "cow", 1), 3),
        ] {
            let error = read(&text).unwrap_err();
            let expected = format!("its line {line} is damaged");
            assert!(error.contains(&expected), "{text}: {error}");
        }
    }
}
