//! CSV label files: finds the image of each line.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::list::{List, read_list};
use super::names::path_of_bytes;
use super::{Dataset, Split, assemble};
use crate::counts::count;
use crate::disk::{read_given, stays_below};
use crate::error::{Error, PathRole, Result, shown};

/// File suffixes that a list may omit.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG"];

/// Maximum bytes of a list: ten million lines of 100.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// Files of a dataset that are looked at to find where those of a list are.
const LOOKED_AT: usize = 100_000;

/// Reads `csv`: lines of `path,label` or `path,label,split`, with or without a header line. Paths are
/// relative to `root`. Only the files in the list are in the dataset.
pub(super) fn read(root: &Path, csv: &Path) -> Result<Dataset> {
    if !csv.exists() {
        return Err(Error::NotFound {
            what: PathRole::LabelFile,
            path: csv.to_owned(),
        });
    }
    let bytes = read_given(csv, MAX_LIST_BYTES)?;
    let fail = |line: Option<usize>, problem: String| Error::Dataset {
        path: csv.to_owned(),
        problem: match line {
            Some(line) => format!("line {line}: {problem}"),
            None => problem,
        },
    };
    let places = Places::new(root, csv);
    let List {
        lines,
        notes,
        warnings,
    } = read_list(&bytes, |field| places.find(&path_of_bytes(field)).is_some())
        .map_err(|(line, problem)| fail(line, problem))?;
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    let mut first_of: HashMap<PathBuf, (usize, PathBuf)> = HashMap::new();
    let mut ways: BTreeMap<Way, usize> = BTreeMap::new();
    let mut absent: BTreeSet<String> = BTreeSet::new();
    let listed = lines.len();
    for line in lines {
        let at = |problem: String| fail(Some(line.number), problem);
        let written = path_of_bytes(&line.path);
        let split = match &line.split {
            Some(name) => Some(Split::from_name(name).ok_or_else(|| {
                at(format!(
                    "`{}` is not a split; use training, validation or test",
                    shown(Path::new(name))
                ))
            })?),
            None => None,
        };
        let known = places.find(&written);
        let (path, way) = match known {
            Some((path, way)) => (path, Some(way)),
            None => (clean(&written), None),
        };
        if way.is_none() && is_of_windows(&written) {
            return Err(at(format!(
                "`{}` is a path of another system; paths are relative to the dataset, separated by /",
                shown(&written)
            )));
        }
        if way.is_none() && !stays_below(&written) {
            return Err(at(format!(
                "`{}` is outside the dataset; paths are relative to it",
                shown(&written)
            )));
        }
        if let Some((first, before)) = first_of.get(&path) {
            let written = shown(&written);
            return Err(at(match shown(before) {
                before if before.to_string() == written.to_string() => {
                    format!("`{written}` is also in line {first}; remove one of the lines")
                }
                before => format!(
                    "`{written}` is the same file as `{before}` in line {first}; remove one of the lines"
                ),
            }));
        }
        first_of.insert(path.clone(), (line.number, written));
        match way {
            Some(way) => {
                *ways.entry(way).or_default() += 1;
                found.push((path, Some(line.label), split));
            }
            None => {
                absent.insert(line.label);
                skipped.push((path, "does not exist".to_owned()));
            }
        }
    }
    if let (true, Some((first, _))) = (found.is_empty(), skipped.first()) {
        return Err(fail(
            None,
            format!(
                "none of its {} is in {} (the first is `{}`); {}",
                count(listed, "image"),
                shown(root),
                shown(first),
                advice(root, first)
            ),
        ));
    }
    let mut dataset = assemble(root, found, skipped);
    absent.retain(|label| !dataset.classes.contains(label));
    dataset.missing.files = dataset.skipped.len();
    dataset.missing.classes = absent.into_iter().collect();
    dataset.notes = notes;
    dataset.notes.extend(ways.keys().filter_map(|w| w.note()));
    dataset.warnings = warnings;
    if dataset.classes.len() > 4 && dataset.classes.len() == dataset.samples.len() {
        dataset.warnings.push(format!(
            "each of the {} in the list has its own label; is the second column really the class?",
            count(listed, "image")
        ));
    }
    Ok(dataset)
}

/// How a path in a list leads to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It is relative to the dataset.
    Plain,
    /// So it is with `/` in place of `\`.
    Backslashes,
    /// It begins with the dataset's own folder.
    OwnFolder,
    /// It begins at the root of the file system, or is relative to the list or the working folder.
    Elsewhere,
}

impl Way {
    fn note(self) -> Option<String> {
        let said = match self {
            Way::Plain => return None,
            Way::Backslashes => "reading `\\` in the list's paths as `/`",
            Way::OwnFolder => {
                "the list's paths start with the dataset's own folder, which is ignored"
            }
            Way::Elsewhere => "the list's paths are not relative to the dataset, but point into it",
        };
        Some(said.to_owned())
    }
}

/// Where the files of a list are looked for.
struct Places<'a> {
    root: &'a Path,
    /// The root from the root of the file system on.
    absolute: PathBuf,
    /// The root's name.
    name: OsString,
    /// The list's folder, from the root of the file system on.
    list: PathBuf,
}

impl<'a> Places<'a> {
    fn new(root: &'a Path, csv: &Path) -> Places<'a> {
        let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let absolute = lexical(&absolute);
        let list = std::path::absolute(crate::disk::parent(csv)).unwrap_or_default();
        let name = fs::canonicalize(root).unwrap_or_else(|_| absolute.clone());
        Places {
            root,
            name: name.file_name().map(OsStr::to_owned).unwrap_or_default(),
            absolute,
            list: lexical(&list),
        }
    }

    /// The file that `written` means, relative to the root, and how; `None` if there is no such file.
    fn find(&self, written: &Path) -> Option<(PathBuf, Way)> {
        if let Some(found) = self.look(written) {
            return Some(found);
        }
        let text = written.to_str().filter(|text| text.contains('\\'))?;
        let (path, _) = self.look(Path::new(&text.replace('\\', "/")))?;
        Some((path, Way::Backslashes))
    }

    fn look(&self, written: &Path) -> Option<(PathBuf, Way)> {
        let is_file = |path: &PathBuf| stays_below(path) && self.root.join(path).is_file();
        let plain = clean(written);
        if is_file(&plain) {
            return Some((plain, Way::Plain));
        }
        let inside = plain.strip_prefix(&self.name).ok().map(Path::to_owned);
        if let Some(inside) = inside.filter(is_file) {
            return Some((inside, Way::OwnFolder));
        }
        let from_working = std::path::absolute(written).ok();
        [self.absolute.join(written), self.list.join(written)]
            .into_iter()
            .chain(from_working)
            .filter_map(|path| {
                let inside = lexical(&path).strip_prefix(&self.absolute).ok()?.to_owned();
                is_file(&inside).then_some((inside, Way::Elsewhere))
            })
            .next()
    }
}

/// A path without `.` in it.
fn clean(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}

/// A path with `..` taken by its words, so that it can be told what is below what.
fn lexical(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

/// Returns whether a path begins with a drive's letter or a server's name.
fn is_of_windows(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.starts_with(b"\\\\")
        || matches!(bytes, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic())
}

/// What to do about a list none of whose files is in `root`; `path` is the first of them.
fn advice(root: &Path, path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/");
    let with_ending = ENDINGS
        .iter()
        .map(|ending| format!("{text}.{ending}"))
        .find(|path| root.join(path).is_file());
    if let Some(path) = with_ending {
        let path = Path::new(&path);
        return format!(
            "write paths with their extension, such as `{}`",
            shown(path)
        );
    }
    let name = text.rsplit('/').next().unwrap_or_default().to_lowercase();
    let files = WalkDir::new(root).into_iter().take(LOOKED_AT).flatten();
    let alike = files
        .filter(|entry| entry.file_type().is_file())
        .find(|entry| entry.file_name().to_string_lossy().to_lowercase() == name);
    if let Some(entry) = alike {
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        return format!(
            "paths are relative to the dataset, separated by / and case-sensitive: `{}`",
            shown(inside)
        );
    }
    "paths are relative to the dataset, separated by /; check that list and folder belong together"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dataset `photos`, and the list with the text `text` beside it.
    fn opened(text: &[u8]) -> (tempfile::TempDir, Result<Dataset>) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("photos");
        fs::create_dir_all(root.join("sub")).unwrap();
        for name in ["a.jpg", "b, c.jpg", "sub/d.jpg"] {
            fs::write(root.join(name), b"x").unwrap();
        }
        let csv = dir.path().join("labels.csv");
        fs::write(&csv, text).unwrap();
        let dataset = read(&root, &csv);
        (dir, dataset)
    }

    fn read_text(text: &str) -> Result<Dataset> {
        opened(text.as_bytes()).1
    }

    fn paths(dataset: &Dataset) -> Vec<&str> {
        let paths = dataset.samples.iter();
        paths.map(|s| s.path.to_str().unwrap()).collect()
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
    fn reads_quoted_names_and_splits_in_upper_and_lower_case() {
        for (val, train) in [
            ("val", "train"),
            ("Validation", "TRAIN"),
            ("dev", "Training"),
        ] {
            let text = format!("\"b, c.jpg\",dog,{val}\na.jpg,cat,{train}\n");
            let dataset = read_text(&text).unwrap();
            let splits: Vec<_> = dataset.samples.iter().map(|s| s.split).collect();
            assert_eq!(splits, [Some(Split::Training), Some(Split::Validation)]);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_and_counted() {
        let dataset = read_text("a.jpg,cat\ngone.jpg,cat\nlost.jpg,dog\n").unwrap();
        let gone = |name: &str| (PathBuf::from(name), "does not exist".to_owned());
        assert_eq!(dataset.skipped, [gone("gone.jpg"), gone("lost.jpg")]);
        assert_eq!(dataset.missing.files, 2);
        assert_eq!(dataset.missing.classes, ["dog"]);
    }

    #[test]
    fn paths_are_found_however_they_are_written() {
        for (path, note) in [
            ("sub/d.jpg", ""),
            ("./sub/d.jpg", ""),
            ("sub//d.jpg", ""),
            ("sub\\d.jpg", "`\\`"),
            (".\\sub\\d.jpg", "`\\`"),
            ("photos/sub/d.jpg", "own folder"),
            ("photos\\sub\\d.jpg", "`\\`"),
            ("../photos/sub/d.jpg", "point into it"),
            ("sub/../sub/d.jpg", "point into it"),
        ] {
            let found = read_text(&format!("{path},cat\n")).unwrap();
            assert_eq!(paths(&found), ["sub/d.jpg"], "{path}");
            let notes = found.notes.join("; ");
            assert!(notes.contains(note), "{notes}");
            assert_eq!(notes.is_empty(), note.is_empty(), "{notes}");
        }
        let (dir, _) = opened(b"a.jpg,cat");
        let root = dir.path().join("photos");
        let csv = dir.path().join("absolute.csv");
        fs::write(&csv, format!("{}/a.jpg,cat\n", root.display())).unwrap();
        assert_eq!(paths(&read(&root, &csv).unwrap()), ["a.jpg"]);
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        let cases = [
            (
                "a.jpg,cat\n../x.jpg,dog\n",
                "line 2: `../x.jpg` is outside the dataset",
            ),
            (
                "a.jpg,cat\n/etc/passwd,dog\n",
                "line 2: `/etc/passwd` is outside the dataset",
            ),
            (
                "a.jpg,cat\n../labels.csv,dog\n",
                "line 2: `../labels.csv` is outside the dataset",
            ),
            (
                "a.jpg,cat\nC:\\photos\\b.jpg,dog\n",
                "line 2: `C:\\photos\\b.jpg` is a path of another system",
            ),
            (
                "a.jpg,cat\na.jpg,dog\n",
                "line 2: `a.jpg` is also in line 1; remove one",
            ),
            (
                "a.jpg,cat\n./a.jpg,dog\n",
                "line 2: `./a.jpg` is the same file as `a.jpg` in line 1; remove one",
            ),
            (
                "sub/d.jpg,cat\nsub\\d.jpg,dog\n",
                "line 2: `sub\\d.jpg` is the same file as `sub/d.jpg` in line 1",
            ),
            ("a.jpg\n", "line 1: a line must have a path and a label"),
            ("a.jpg,cat,maybe\n", "line 1: `maybe` is not a split"),
            ("\n", "the list is empty"),
        ];
        for (text, expected) in cases {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_list_whose_files_are_all_elsewhere_is_refused_with_what_to_do() {
        for (text, expected) in [
            (
                "a,cat\nb,dog\n",
                "write paths with their extension, such as `a.jpg`",
            ),
            (
                "d.jpg,cat\n",
                "relative to the dataset, separated by / and case-sensitive: `sub/d.jpg`",
            ),
            ("A.JPG,cat\n", "`a.jpg`"),
            ("x\\d.JPG,cat\n", "`sub/d.jpg`"),
            ("no.jpg,cat\n", "check that list and folder belong together"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(
                error.contains("is in ") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_kept_and_labels_refused() {
        use std::os::unix::ffi::OsStrExt;
        let (dir, _) = opened(b"a.jpg,cat");
        let root = dir.path().join("photos");
        fs::write(root.join(OsStr::from_bytes(b"\xe4.jpg")), b"x").unwrap();
        let csv = dir.path().join("bytes.csv");
        fs::write(&csv, b"\xe4.jpg,cat\na.jpg,dog\n").unwrap();
        assert_eq!(read(&root, &csv).unwrap().samples.len(), 2);
        fs::write(&csv, b"a.jpg,K\xe4fer\n").unwrap();
        let error = read(&root, &csv).unwrap_err().to_string();
        assert!(
            error.contains("line 1: the label `K\\xE4fer` is not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_column_that_is_no_class_is_told_of() {
        let (dir, _) = opened(b"a.jpg,cat");
        let root = dir.path().join("photos");
        let mut text = String::new();
        for i in 0..5 {
            fs::write(root.join(format!("{i}.jpg")), b"x").unwrap();
            text += &format!("{i}.jpg,0.{i}7\n");
        }
        let csv = dir.path().join("numbers.csv");
        fs::write(&csv, text).unwrap();
        let warnings = read(&root, &csv).unwrap().warnings;
        assert!(warnings[0].contains("has its own label"), "{warnings:?}");
    }
}
