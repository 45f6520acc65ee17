//! `index.csv` and `errors.csv`. Paths are written as the bytes that the system has, so that any name
//! comes back as it was.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::store::{IndexRow, SourceFacts};
use crate::dataset::Split;
use crate::error::{Error, Result};

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

/// The bytes of `index.csv`.
pub(super) fn index_csv(rows: &[IndexRow], classes: &[String]) -> Vec<u8> {
    let mut records = vec![ByteRecord::from(INDEX_COLUMNS.to_vec())];
    for (i, row) in rows.iter().enumerate() {
        let class = row
            .class
            .and_then(|c| classes.get(c))
            .map_or("", String::as_str);
        let source = &row.source;
        let mut record = ByteRecord::new();
        record.push_field(i.to_string().as_bytes());
        record.push_field(row.path.as_os_str().as_encoded_bytes());
        record.push_field(class.as_bytes());
        record.push_field(row.split.map_or("", Split::name).as_bytes());
        record.push_field(source.width.to_string().as_bytes());
        record.push_field(source.height.to_string().as_bytes());
        record.push_field(source.bytes.to_string().as_bytes());
        record.push_field(source.modified_ns.to_string().as_bytes());
        record.push_field(source.sha256.as_bytes());
        records.push(record);
    }
    csv_bytes(&records)
}

/// The bytes of `errors.csv`.
pub(super) fn errors_csv(errors: &[(PathBuf, String)]) -> Vec<u8> {
    let mut records = vec![ByteRecord::from(ERROR_COLUMNS.to_vec())];
    for (path, reason) in errors {
        let mut record = ByteRecord::new();
        record.push_field(path.as_os_str().as_encoded_bytes());
        record.push_field(reason.as_bytes());
        records.push(record);
    }
    csv_bytes(&records)
}

fn csv_bytes(records: &[ByteRecord]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        // Writing to memory cannot fail, and all records of a table have the same length.
        let _ = writer.write_byte_record(record);
    }
    writer.into_inner().unwrap_or_default()
}

/// Reads `index.csv`.
pub(super) fn read_index(path: &Path, classes: &[String]) -> Result<Vec<IndexRow>> {
    read_records(path, INDEX_COLUMNS.len())?
        .iter()
        .enumerate()
        .map(|(i, record)| parse_row(record, classes).ok_or_else(|| damaged(path, i + 2)))
        .collect()
}

/// Reads `errors.csv`.
pub(super) fn read_errors(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let records = read_records(path, ERROR_COLUMNS.len())?;
    Ok(records
        .iter()
        .map(|r| (path_of(&r[0]), String::from_utf8_lossy(&r[1]).into_owned()))
        .collect())
}

fn parse_row(record: &ByteRecord, classes: &[String]) -> Option<IndexRow> {
    let text = |i: usize| std::str::from_utf8(record.get(i)?).ok();
    let class = match text(2)? {
        "" => None,
        name => Some(classes.iter().position(|c| c == name)?),
    };
    let split = match text(3)? {
        "" => None,
        name => Some(Split::from_name(name)?),
    };
    Some(IndexRow {
        path: path_of(&record[1]),
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

fn path_of(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(OsStr::new(String::from_utf8_lossy(bytes).as_ref()))
    }
}

fn read_records(path: &Path, columns: usize) -> Result<Vec<ByteRecord>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let records = reader
        .byte_records()
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| Error::Store {
            path: path.to_owned(),
            problem: format!("it is damaged: {e}; extract again into a new folder"),
        })?;
    match records.iter().position(|r| r.len() != columns) {
        Some(i) => Err(damaged(path, i + 2)),
        None => Ok(records),
    }
}

fn damaged(path: &Path, line: usize) -> Error {
    Error::Store {
        path: path.to_owned(),
        problem: format!("its line {line} is damaged; extract again into a new folder"),
    }
}
