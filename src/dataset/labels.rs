//! A CSV file of labels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Dataset, Split, assemble};
use crate::disk::stays_below;
use crate::error::{Error, Result, shown};

/// First lines that are a header, in lower case.
const PATH_COLUMNS: [&str; 5] = ["path", "file", "filename", "image", "name"];

/// Reads `csv`: lines of `path,label` or `path,label,split`, with or without a header line. Paths are
/// relative to `root`. Only the files in the list are in the data set.
pub(super) fn read(root: &Path, csv: &Path) -> Result<Dataset> {
    if !csv.exists() {
        return Err(Error::NotFound {
            what: "label file",
            path: csv.to_owned(),
        });
    }
    let fail = |line: usize, problem: String| Error::Dataset {
        path: csv.to_owned(),
        problem: format!("line {line}: {problem}"),
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(csv)
        .map_err(|e| Error::Dataset {
            path: csv.to_owned(),
            problem: format!("it cannot be read: {e}"),
        })?;
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    let mut lines: HashMap<PathBuf, usize> = HashMap::new();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| fail(i + 1, e.to_string()))?;
        let line = record.position().map_or(i + 1, |p| p.line() as usize);
        let (path, label) = match (record.get(0), record.get(1)) {
            (Some(path), _) if i == 0 && PATH_COLUMNS.contains(&path.to_lowercase().as_str()) => {
                continue;
            }
            (Some(path), Some(label)) if !path.is_empty() && !label.is_empty() => {
                (Path::new(path), label)
            }
            _ => {
                return Err(fail(
                    line,
                    "a line has a path and a label, with a comma between".into(),
                ));
            }
        };
        if !stays_below(path) {
            return Err(fail(
                line,
                format!(
                    "`{}` leaves the data set; paths are relative to it",
                    shown(path)
                ),
            ));
        }
        let split = match record.get(2).filter(|s| !s.is_empty()) {
            Some(name) => Some(Split::from_name(name).ok_or_else(|| {
                fail(
                    line,
                    format!("`{name}` is no split; use training, validation or test"),
                )
            })?),
            None => None,
        };
        if let Some(first) = lines.insert(path.to_owned(), line) {
            return Err(fail(
                line,
                format!("`{}` is in line {first}, too", shown(path)),
            ));
        }
        match root.join(path).is_file() {
            true => found.push((path.to_owned(), Some(label.to_owned()), split)),
            false => skipped.push((path.to_owned(), "is not there".to_owned())),
        }
    }
    Ok(assemble(root, found, skipped))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["a.jpg", "b, c.jpg", "sub/d.jpg"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        let csv = dir.path().join("labels.csv");
        fs::write(&csv, text).unwrap();
        read(dir.path(), &csv)
    }

    #[test]
    fn reads_with_and_without_a_header() {
        for header in ["", "filename,label\n", "Path,Class,Split\n"] {
            let dataset = read_text(&format!("{header}sub/d.jpg,dog\na.jpg,cat\n")).unwrap();
            assert_eq!(dataset.classes, ["cat", "dog"], "{header}");
            assert_eq!(dataset.samples[0].path, Path::new("a.jpg"));
            assert_eq!(dataset.samples[1].class, Some(1));
        }
    }

    #[test]
    fn reads_quoted_names_and_splits() {
        let dataset = read_text("\"b, c.jpg\",dog,val\na.jpg,cat,train\n").unwrap();
        let splits: Vec<_> = dataset.samples.iter().map(|s| s.split).collect();
        assert_eq!(splits, [Some(Split::Training), Some(Split::Validation)]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dataset = read_text("a.jpg,cat\ngone.jpg,cat\n").unwrap();
        assert_eq!(
            dataset.skipped,
            [(PathBuf::from("gone.jpg"), "is not there".to_owned())]
        );
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        let cases = [
            (
                "a.jpg,cat\n../x.jpg,dog\n",
                "line 2: `../x.jpg` leaves the data set",
            ),
            (
                "a.jpg,cat\n/etc/passwd,dog\n",
                "line 2: `/etc/passwd` leaves the data set",
            ),
            (
                "a.jpg,cat\na.jpg,dog\n",
                "line 2: `a.jpg` is in line 1, too",
            ),
            ("a.jpg\n", "line 1: a line has a path and a label"),
            ("a.jpg,cat,maybe\n", "line 1: `maybe` is no split"),
        ];
        for (text, expected) in cases {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
