//! Labelled folders and CSV lists of pictures: which files there are, what class each has, how they are
//! split. Looks at names and folders only; whether a file is a picture shows when it is decoded.
//!
//! Three ways to lay out a data set:
//!
//! ```text
//! photos/cat/1.jpg            photos/train/cat/1.jpg           photos/1.jpg
//! photos/cat/kittens/2.jpg    photos/validation/cat/2.jpg      photos/sub/2.jpg
//! photos/dog/3.jpg            photos/test/dog/3.jpg            + labels.csv:  1.jpg,cat
//! a folder for each class     the same, already split          any folders, and a list
//! ```

#[cfg(target_os = "linux")]
mod arrivals;
mod labels;
mod scan;
mod split;

use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
pub use arrivals::{Arrivals, Arrived, FolderNews};
pub use split::{Split, divide, stratified_folds, stratified_split};

use crate::error::{Error, Result, shown};

/// One file that should be a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its path, relative to [`Dataset::root`].
    pub path: PathBuf,
    /// Index into [`Dataset::classes`]; none for an unlabelled picture.
    pub class: Option<usize>,
    /// The split that the data set gives; none if it gives none.
    pub split: Option<Split>,
}

/// The files of a data set, found and labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The folder to which all paths are relative.
    pub root: PathBuf,
    /// Class names in byte order, each with at least one sample; empty for unlabelled pictures.
    pub classes: Vec<String>,
    /// Samples in the byte order of their paths.
    pub samples: Vec<Sample>,
    /// What was found but is no sample, with the reason as one clause.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Dataset {
    /// Finds the pictures below the folder `root`, labelled by their folders or by the CSV file `labels`.
    /// A `root` that is a file is a data set of one unlabelled picture.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such folder or file; [`Error::Dataset`] if there is no picture in
    /// it, or if the CSV file is wrong, with the line.
    pub fn open(root: &Path, labels: Option<&Path>) -> Result<Dataset> {
        if !root.exists() {
            return Err(Error::NotFound {
                what: "data set",
                path: root.to_owned(),
            });
        }
        if root.is_file() {
            return Dataset::of_one_file(root);
        }
        let dataset = match labels {
            Some(csv) => labels::read(root, csv)?,
            None => scan::scan(root),
        };
        if !dataset.samples.is_empty() {
            return Ok(dataset);
        }
        let found = match dataset.skipped.first() {
            Some((path, reason)) => format!(" (for example, {} {reason})", shown(path)),
            None => String::new(),
        };
        Err(Error::Dataset {
            path: root.to_owned(),
            problem: format!(
                "no pictures were found in it{found}; put the pictures of each class into a folder of its own"
            ),
        })
    }

    fn of_one_file(file: &Path) -> Result<Dataset> {
        let name = file.file_name().ok_or_else(|| Error::NotFound {
            what: "data set",
            path: file.to_owned(),
        })?;
        Ok(Dataset {
            root: file.parent().unwrap_or(Path::new("")).to_owned(),
            classes: Vec::new(),
            samples: vec![Sample {
                path: PathBuf::from(name),
                class: None,
                split: None,
            }],
            skipped: Vec::new(),
        })
    }

    /// Refuses a data set with less than `least` classes.
    ///
    /// # Errors
    /// [`Error::Dataset`], with what to do.
    pub fn require_classes(&self, least: usize) -> Result<()> {
        if self.classes.len() >= least {
            return Ok(());
        }
        let found = match &self.classes[..] {
            [] => "its pictures have no classes".to_owned(),
            classes => format!(
                "it has pictures of {} class only ({})",
                classes.len(),
                classes.join(", ")
            ),
        };
        Err(Error::Dataset {
            path: self.root.clone(),
            problem: format!(
                "{found}, and {least} or more are wanted; put the pictures of each class into a folder of its own, or \
                 give --labels"
            ),
        })
    }
}

/// Builds a data set of files whose classes are known by name.
fn assemble(
    root: &Path,
    mut found: Vec<(PathBuf, Option<String>, Option<Split>)>,
    skipped: Vec<(PathBuf, String)>,
) -> Dataset {
    found.sort_by(|a, b| {
        a.0.as_os_str()
            .as_encoded_bytes()
            .cmp(b.0.as_os_str().as_encoded_bytes())
    });
    let mut classes: Vec<String> = found
        .iter()
        .filter_map(|(_, class, _)| class.clone())
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let samples = found
        .into_iter()
        .map(|(path, class, split)| Sample {
            path,
            class: class.and_then(|name| classes.binary_search(&name).ok()),
            split,
        })
        .collect();
    Dataset {
        root: root.to_owned(),
        classes,
        samples,
        skipped,
    }
}
