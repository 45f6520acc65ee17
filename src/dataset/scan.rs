//! Scans a dataset's folders.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::folder_names::{is_doubtful_class, split_named};
use super::layout::{Arrangement, Layout, SplitFolder, arrange, first_folder, told};
use super::leftovers::{Leftovers, is_leftover};
use super::names::{names_shown, with_bytes_shown};
use super::{Dataset, Split, assemble};
use crate::error::{Error, Result, shown};
use crate::foreign::system_error;

/// Endings of files that are plainly something else, so that a note beside the images is not taken for
/// a damaged image. Whatever else is there is looked into when it is decoded.
const NO_PICTURES: [&str; 24] = [
    "csv", "doc", "docx", "gz", "html", "ini", "ipynb", "json", "jsonl", "md", "mp3", "mp4", "npy",
    "npz", "onnx", "pdf", "py", "tar", "toml", "tsv", "txt", "xml", "yaml", "zip",
];

/// A file's place in the layout of the dataset.
type Found = (PathBuf, Option<String>, Option<Split>);

/// What is below a dataset's folder, as paths relative to it.
#[derive(Default)]
struct Walked {
    /// Files that can be images.
    files: Vec<PathBuf>,
    /// Folders.
    folders: Vec<PathBuf>,
    /// Folders that could not be read.
    unreadable: Vec<PathBuf>,
    /// Entries that cannot be images, with the reason.
    skipped: Vec<(PathBuf, String)>,
    leftovers: Leftovers,
}

/// Finds the files below `root`. Hidden files and what other systems leave behind are skipped; links are
/// followed.
///
/// # Errors
/// [`Error::Dataset`] if it is not clear what the folders stand for, or if a class has no name that is text.
pub(super) fn scan(root: &Path, layout: Layout) -> Result<Dataset> {
    let mut walked = walk(root);
    let fail = |problem: String| Error::Dataset {
        path: root.to_owned(),
        problem,
    };
    let arranged = arrange(&walked.files, layout).map_err(fail)?;
    let files = std::mem::take(&mut walked.files);
    let empty = empty_folders(&walked.folders, &files, &arranged.arrangement);
    let found = label(files, &arranged.arrangement, &mut walked.skipped).map_err(fail)?;
    walked.skipped.sort();
    let mut dataset = assemble(root, found, walked.skipped);
    if let Arrangement::Splits(folders) = &arranged.arrangement {
        dataset.notes.extend(told(folders));
    }
    dataset.warnings.extend(walked.leftovers.warnings());
    dataset.warnings.extend(arranged.warnings);
    dataset.warnings.extend(empty);
    let doubtful = dataset
        .classes
        .iter()
        .filter(|c| is_doubtful_class(c.as_ref()));
    dataset.warnings.extend(doubtful.map(|class| {
        format!("reading the folder {class} as a class; if it is not one, move it out of the dataset, or use --labels")
    }));
    dataset.missing.folders = walked.unreadable;
    Ok(dataset)
}

fn walk(root: &Path) -> Walked {
    let mut walked = Walked::default();
    let mut leftovers = Leftovers::default();
    let walk = WalkDir::new(root).follow_links(true).into_iter();
    let entries = walk.filter_entry(|entry| {
        let is_meant = entry.depth() == 0 || !is_leftover(entry.file_name());
        if !is_meant {
            leftovers.count(entry.path(), entry.file_type().is_dir());
        }
        is_meant
    });
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {
                walked.folders.push(relative(entry.path(), root));
            }
            Ok(entry) => match reason_to_skip(&entry) {
                Some(reason) => walked
                    .skipped
                    .push((relative(entry.path(), root), reason.to_owned())),
                None => walked.files.push(relative(entry.path(), root)),
            },
            Err(error) => {
                let path = relative(error.path().unwrap_or(root), root);
                if is_lost_folder(&error) {
                    walked.unreadable.push(path.clone());
                }
                walked.skipped.push((path, why_unreadable(&error)));
            }
        }
    }
    walked.leftovers = leftovers;
    walked
}

fn relative(path: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// Why an entry that is not a folder is not a sample; `None` if it is one.
fn reason_to_skip(entry: &DirEntry) -> Option<&'static str> {
    if !entry.file_type().is_file() {
        return Some("is not a regular file");
    }
    is_plainly_other(entry.path()).then_some("is not an image file")
}

/// Returns whether a file's ending is that of something else than an image.
pub(super) fn is_plainly_other(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| NO_PICTURES.contains(&ending.to_ascii_lowercase().as_str()))
}

/// Returns whether a folder was there, but could not be read: whatever is in it is missing.
fn is_lost_folder(error: &walkdir::Error) -> bool {
    let is_folder = error.path().is_some_and(Path::is_dir);
    is_folder && error.loop_ancestor().is_none()
}

fn why_unreadable(error: &walkdir::Error) -> String {
    if error.loop_ancestor().is_some() {
        return "is a link to one of its parent folders".to_owned();
    }
    match error.io_error() {
        Some(e) if e.kind() == std::io::ErrorKind::NotFound => "is a broken link".to_owned(),
        Some(e) => format!("cannot be read: {}", system_error(e)),
        None => "cannot be read".to_owned(),
    }
}

/// A warning for each class or split folder without images.
fn empty_folders(folders: &[PathBuf], files: &[PathBuf], arrangement: &Arrangement) -> Vec<String> {
    let filled: BTreeSet<&Path> = files.iter().flat_map(|f| f.ancestors().skip(1)).collect();
    let is_top = |folder: &Path| folder.components().count() == 1;
    let told = |folder: &PathBuf| {
        if folder.as_os_str().is_empty() || filled.contains(folder.as_path()) {
            return None;
        }
        let what = match arrangement {
            Arrangement::Flat => return None,
            Arrangement::Splits(splits) => {
                match splits.iter().find(|s| folder.parent() == Some(&s.path)) {
                    Some(_) => "class folder",
                    None if is_top(folder) && split_named(folder.as_os_str()).is_some() => {
                        "split folder"
                    }
                    None => return None,
                }
            }
            _ if is_top(folder) => "class folder",
            _ => return None,
        };
        Some(format!(
            "ignored the {what} {}: it has no images",
            shown(folder)
        ))
    };
    folders.iter().filter_map(told).collect()
}

/// Labels the files; those that have no place in the arrangement are skipped.
///
/// # Errors
/// The names of classes that are not text, as a clause.
fn label(
    files: Vec<PathBuf>,
    arrangement: &Arrangement,
    skipped: &mut Vec<(PathBuf, String)>,
) -> std::result::Result<Vec<Found>, String> {
    let mut found = Vec::with_capacity(files.len());
    let mut no_text = BTreeSet::new();
    for path in files {
        let place = match arrangement {
            Arrangement::Flat => {
                found.push((path, None, None));
                continue;
            }
            Arrangement::Classes => first_folder(&path).map(|class| (class, None)),
            Arrangement::ClassesThenSplits => first_folder(&path).map(|class| {
                let inside = path.strip_prefix(class).ok().and_then(first_folder);
                (class, inside.and_then(split_named))
            }),
            Arrangement::Splits(splits) => match place_in(&path, splits) {
                Some(place) => Some(place),
                None if splits
                    .iter()
                    .any(|split| path.starts_with(first(&split.path))) =>
                {
                    None
                }
                // Skipped folders were reported as a whole.
                None if first_folder(&path).is_some() => continue,
                None => None,
            },
        };
        match place.map(|(class, split)| (class.to_str(), class, split)) {
            Some((Some(class), _, split)) => {
                let class = class.to_owned();
                found.push((path, Some(class), split));
            }
            Some((None, class, _)) => {
                no_text.insert(with_bytes_shown(class));
            }
            None => skipped.push((path, "is not in a class folder".to_owned())),
        }
    }
    if no_text.is_empty() {
        return Ok(found);
    }
    let names = names_shown(no_text.iter().map(String::as_str));
    Err(format!(
        "the names of these class folders are not UTF-8, which a saved model needs: {}; rename them, for example with `convmv -f latin1 -t utf8 -r --notest`",
        names
    ))
}

fn first(path: &Path) -> &Path {
    path.components()
        .next()
        .map_or(path, |part| Path::new(part.as_os_str()))
}

/// Class and split of a file in one of the split folders.
fn place_in<'a>(path: &'a Path, splits: &[SplitFolder]) -> Option<(&'a OsStr, Option<Split>)> {
    splits.iter().find_map(|folder| {
        let inside = path.strip_prefix(&folder.path).ok()?;
        Some((first_folder(inside)?, Some(folder.split)))
    })
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
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
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
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
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
                "is not in a class folder".to_owned()
            )]
        );
    }

    #[test]
    fn a_class_may_be_called_test_where_the_user_says_so() {
        let dir = tree(&["test/a/1.jpg", "control/a/2.jpg"]);
        let dataset = scan(dir.path(), Layout::Classes).unwrap();
        assert_eq!(dataset.classes, ["control", "test"]);
        let error = scan(dir.path(), Layout::Auto).unwrap_err().to_string();
        assert!(error.contains("`control` is next to `test`"), "{error}");
    }

    #[test]
    fn folders_of_other_systems_are_passed_over_with_their_pictures_counted() {
        let dir = tree(&[
            "cat/1.jpg",
            "cat/@eaDir/1.jpg/THUMB.jpg",
            "dog/2.jpg",
            "dog/@eaDir/2.jpg/THUMB.jpg",
            "$RECYCLE.BIN/3.jpg",
            "lost+found/x",
            ".Trash-1000/files/4.jpg",
            ".git/objects/x",
            "dog/.5.jpg",
        ]);
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
        assert_eq!(dataset.classes, ["cat", "dog"]);
        assert_eq!(dataset.samples.len(), 2);
        assert_eq!(
            dataset.warnings,
            [
                "ignored the folder $RECYCLE.BIN: it is not a class (1 image in it)",
                "ignored the folder .Trash-1000: it is not a class (1 image in it)",
                "ignored 2 folders @eaDir: they are not classes (2 images in them)",
                "ignored the folder lost+found: it is not a class (no images in it)",
                "ignored hidden files, whose names start with a dot (1 image)",
            ]
        );
    }

    #[test]
    fn empty_class_and_split_folders_are_told_of() {
        let dir = tree(&[
            "train/cat/1.jpg",
            "train/dog/1.jpg",
            "val/cat/1.jpg",
            "labels/a.txt",
        ]);
        for folder in ["train/zebra", "val/dog", "test/cat", "train/dog/empty"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let mut warnings = scan(dir.path(), Layout::Auto).unwrap().warnings;
        warnings.sort();
        assert_eq!(
            warnings,
            [
                "ignored the class folder train/zebra: it has no images",
                "ignored the class folder val/dog: it has no images",
                "ignored the split folder test: it has no images",
            ]
        );
        let dir = tree(&["cat/1.jpg", "dog/1.jpg", "notes/a.txt"]);
        assert_eq!(
            scan(dir.path(), Layout::Auto).unwrap().warnings,
            ["ignored the class folder notes: it has no images"]
        );
    }

    #[test]
    fn a_folder_that_is_seldom_a_class_is_told_of() {
        let dir = tree(&["images/1.jpg", "masks/1.png"]);
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
        assert_eq!(dataset.classes, ["images", "masks"]);
        assert_eq!(dataset.warnings.len(), 2, "{:?}", dataset.warnings);
        assert!(dataset.warnings[1].starts_with("reading the folder masks as a class"));
    }

    #[cfg(unix)]
    #[test]
    fn class_folders_that_are_not_utf8_are_refused_by_name() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&["ok/1.jpg"]);
        for name in [b"K\xe4fer", b"K\xf6fer"] {
            let folder = dir.path().join(OsStr::from_bytes(name));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("1.jpg"), b"x").unwrap();
        }
        let error = scan(dir.path(), Layout::Auto).unwrap_err().to_string();
        assert!(error.contains("`K\\xE4fer`, `K\\xF6fer`"), "{error}");
        assert!(scan(dir.path(), Layout::Flat).unwrap().samples.len() == 3);
    }

    #[test]
    fn a_flat_folder_is_unlabelled() {
        let dir = tree(&["b.jpg", "a.jpg"]);
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
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
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
        assert_eq!(dataset.samples.len(), 1);
        let skipped: Vec<_> = dataset
            .skipped
            .iter()
            .map(|(p, r)| (p.to_str().unwrap(), r.as_str()))
            .collect();
        assert_eq!(
            skipped,
            [
                ("cat/notes.TXT", "is not an image file"),
                ("loose.jpg", "is not in a class folder")
            ]
        );
    }

    #[test]
    fn a_file_without_an_ending_is_a_sample() {
        let dir = tree(&["cat/IMG_0001"]);
        assert_eq!(scan(dir.path(), Layout::Auto).unwrap().samples.len(), 1);
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
        let dataset = scan(dir.path(), Layout::Auto).unwrap();
        drop(socket);
        assert_eq!(dataset.samples.len(), 1);
        let reasons: Vec<_> = dataset.skipped.iter().map(|(_, r)| r.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "is a broken link",
                "is a link to one of its parent folders",
                "is not a regular file",
                "is not in a class folder"
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
        assert_eq!(
            scan(dir.path(), Layout::Auto).unwrap().samples[1].path,
            Path::new(name)
        );
    }
}
