//! Walking a data set's folders.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{Dataset, Split, assemble};

/// Endings of files that are plainly something else, so that a note beside the pictures is not taken for
/// a damaged picture. Whatever else is there is looked into when it is decoded.
const NO_PICTURES: [&str; 24] = [
    "csv", "doc", "docx", "gz", "html", "ini", "ipynb", "json", "jsonl", "md", "mp3", "mp4", "npy",
    "npz", "onnx", "pdf", "py", "tar", "toml", "tsv", "txt", "xml", "yaml", "zip",
];

/// A file's place in the layout of the data set.
type Found = (PathBuf, Option<String>, Option<Split>);

/// Finds the files below `root`. Hidden files and folders are passed over; links are followed.
pub(super) fn scan(root: &Path) -> Dataset {
    let mut files = Vec::new();
    let mut skipped = Vec::new();
    let walk = WalkDir::new(root).follow_links(true).into_iter();
    for entry in walk.filter_entry(|e| e.depth() == 0 || !is_hidden(e.file_name())) {
        match entry {
            Ok(entry) => match reason_to_skip(&entry) {
                Some("") => {}
                Some(reason) => skipped.push((relative(entry.path(), root), reason.to_owned())),
                None => files.push(relative(entry.path(), root)),
            },
            Err(error) => {
                let path = relative(error.path().unwrap_or(root), root);
                skipped.push((path, why_unreadable(&error)));
            }
        }
    }
    let found = match is_split(root, &files) {
        true => label_split(files, &mut skipped),
        false => label(files, &mut skipped),
    };
    skipped.sort();
    assemble(root, found, skipped)
}

fn relative(path: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// Names that no user means as pictures: dot files, and what other systems leave behind.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".") || matches!(bytes, b"__MACOSX" | b"Thumbs.db" | b"desktop.ini")
}

/// Why an entry is no sample: empty for a folder, which is simply walked; none if it is one.
fn reason_to_skip(entry: &DirEntry) -> Option<&'static str> {
    let kind = entry.file_type();
    if kind.is_dir() {
        return Some("");
    }
    if !kind.is_file() {
        return Some("is not a regular file");
    }
    is_plainly_other(entry.path()).then_some("is not a picture by its name")
}

/// Tells whether a file's ending is that of something else than a picture.
pub(super) fn is_plainly_other(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| NO_PICTURES.contains(&ending.to_ascii_lowercase().as_str()))
}

fn why_unreadable(error: &walkdir::Error) -> String {
    if error.loop_ancestor().is_some() {
        return "is a link to a folder around it".to_owned();
    }
    match error.io_error() {
        Some(e) if e.kind() == std::io::ErrorKind::NotFound => "is a link to nothing".to_owned(),
        Some(e) => format!("cannot be read: {e}"),
        None => "cannot be read".to_owned(),
    }
}

/// The path's first folder, if it has one.
fn first_folder(path: &Path) -> Option<&OsStr> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(first)), Some(_)) => Some(first),
        _ => None,
    }
}

fn split_of(folder: &OsStr) -> Option<Split> {
    match folder.to_str()?.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Training),
        "validation" | "valid" | "val" => Some(Split::Validation),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// Tells whether the top folders are splits: one for training, and nothing but splits beside it, and
/// class folders in it.
fn is_split(root: &Path, files: &[PathBuf]) -> bool {
    let mut folders: Vec<&OsStr> = files.iter().filter_map(|f| first_folder(f)).collect();
    folders.dedup();
    let splits: Option<Vec<Split>> = folders.iter().map(|f| split_of(f)).collect();
    let Some(splits) = splits else {
        return false;
    };
    let has_class_folders = files.iter().any(|f| f.components().count() > 2);
    root.is_dir() && splits.contains(&Split::Training) && has_class_folders
}

fn label_split(files: Vec<PathBuf>, skipped: &mut Vec<(PathBuf, String)>) -> Vec<Found> {
    let mut found = Vec::with_capacity(files.len());
    for path in files {
        let place = first_folder(&path).and_then(|folder| {
            let inside = path.strip_prefix(folder).ok()?;
            Some((
                split_of(folder)?,
                first_folder(inside)?.to_string_lossy().into_owned(),
            ))
        });
        match place {
            Some((split, class)) => found.push((path, Some(class), Some(split))),
            None => skipped.push((path, "is in no class folder".to_owned())),
        }
    }
    found
}

/// Labels files by their first folder. Where no file has a folder, none has a label.
fn label(files: Vec<PathBuf>, skipped: &mut Vec<(PathBuf, String)>) -> Vec<Found> {
    let labelled = files.iter().any(|f| first_folder(f).is_some());
    let mut found = Vec::with_capacity(files.len());
    for path in files {
        let class = first_folder(&path).map(|folder| folder.to_string_lossy().into_owned());
        match class {
            None if labelled => skipped.push((path, "is in no class folder".to_owned())),
            class => found.push((path, class, None)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn listing(dataset: &Dataset) -> Vec<(String, Option<&str>, Option<Split>)> {
        let row = |s: &crate::dataset::Sample| {
            (
                s.path.to_string_lossy().into_owned(),
                s.class.map(|c| dataset.classes[c].as_str()),
                s.split,
            )
        };
        dataset.samples.iter().map(row).collect()
    }

    #[test]
    fn class_folders_may_have_folders_within() {
        let dir = tree(&["dog/3.jpg", "cat/1.jpg", "cat/kittens/2.jpg"]);
        let dataset = scan(dir.path());
        assert_eq!(dataset.classes, ["cat", "dog"]);
        assert_eq!(
            listing(&dataset),
            [
                ("cat/1.jpg".to_owned(), Some("cat"), None),
                ("cat/kittens/2.jpg".to_owned(), Some("cat"), None),
                ("dog/3.jpg".to_owned(), Some("dog"), None),
            ]
        );
    }

    #[test]
    fn split_folders_give_the_split() {
        let dir = tree(&[
            "train/cat/1.jpg",
            "val/cat/2.jpg",
            "test/dog/3.jpg",
            "train/loose.jpg",
        ]);
        let dataset = scan(dir.path());
        assert_eq!(
            listing(&dataset),
            [
                ("test/dog/3.jpg".to_owned(), Some("dog"), Some(Split::Test)),
                (
                    "train/cat/1.jpg".to_owned(),
                    Some("cat"),
                    Some(Split::Training)
                ),
                (
                    "val/cat/2.jpg".to_owned(),
                    Some("cat"),
                    Some(Split::Validation)
                ),
            ]
        );
        assert_eq!(
            dataset.skipped,
            [(
                PathBuf::from("train/loose.jpg"),
                "is in no class folder".to_owned()
            )]
        );
    }

    #[test]
    fn a_class_may_be_called_test_where_there_is_no_training_folder() {
        let dir = tree(&["test/a/1.jpg", "control/a/2.jpg"]);
        assert_eq!(scan(dir.path()).classes, ["control", "test"]);
    }

    #[test]
    fn a_flat_folder_is_unlabelled() {
        let dir = tree(&["b.jpg", "a.jpg"]);
        let dataset = scan(dir.path());
        assert!(dataset.classes.is_empty());
        assert_eq!(
            listing(&dataset),
            [
                ("a.jpg".to_owned(), None, None),
                ("b.jpg".to_owned(), None, None)
            ]
        );
    }

    #[test]
    fn hidden_files_are_passed_over_and_other_files_are_named() {
        let dir = tree(&[
            "cat/1.jpg",
            "cat/.hidden.jpg",
            ".git/x",
            "cat/notes.TXT",
            "__MACOSX/y.jpg",
            "loose.jpg",
        ]);
        let dataset = scan(dir.path());
        assert_eq!(dataset.samples.len(), 1);
        let skipped: Vec<_> = dataset
            .skipped
            .iter()
            .map(|(p, r)| (p.to_str().unwrap(), r.as_str()))
            .collect();
        assert_eq!(
            skipped,
            [
                ("cat/notes.TXT", "is not a picture by its name"),
                ("loose.jpg", "is in no class folder")
            ]
        );
    }

    #[test]
    fn a_file_without_an_ending_is_a_sample() {
        let dir = tree(&["cat/IMG_0001"]);
        assert_eq!(scan(dir.path()).samples.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn loops_broken_links_and_sockets_are_named_and_end_nothing() {
        use std::os::unix::fs::symlink;
        let dir = tree(&["cat/1.jpg", "elsewhere.jpg"]);
        symlink(dir.path(), dir.path().join("cat/loop")).unwrap();
        symlink("/no/such/file", dir.path().join("cat/broken.jpg")).unwrap();
        let socket =
            std::os::unix::net::UnixListener::bind(dir.path().join("cat/socket.jpg")).unwrap();
        let dataset = scan(dir.path());
        drop(socket);
        assert_eq!(dataset.samples.len(), 1);
        let reasons: Vec<_> = dataset.skipped.iter().map(|(_, r)| r.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "is a link to nothing",
                "is a link to a folder around it",
                "is not a regular file",
                "is in no class folder"
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&["cat/1.jpg"]);
        let name = OsStr::from_bytes(b"cat/\xff.jpg");
        fs::write(dir.path().join(name), b"x").unwrap();
        assert_eq!(scan(dir.path()).samples[1].path, Path::new(name));
    }
}
