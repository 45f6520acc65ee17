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
//!
//! Which of them it is, is seen by the names of the folders ([`Layout::Auto`](crate::dataset::Layout::Auto)); what is doubtful is an error, and
//! what was passed over or looks like a mistake is in [`Dataset::warnings`](crate::dataset::Dataset::warnings).

#[cfg(target_os = "linux")]
mod arrivals;
mod encoding;
mod folder_names;
mod labels;
mod layout;
mod leftovers;
mod list;
mod losses;
mod names;
mod scan;
mod split;

use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
pub use arrivals::{Arrivals, Arrived, FolderNews};
pub use layout::Layout;
pub use losses::{Loss, check_losses};
pub(crate) use names::{name_key, path_of_bytes};
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
    /// Sentences on how it was read, where that is not plain.
    pub notes: Vec<String>,
    /// Sentences on what looks like a mistake, and on what was passed over as a whole.
    pub warnings: Vec<String>,
    /// What should be there and is not.
    pub missing: Missing,
}

/// What should be in a data set and is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Folders that could not be read, relative to [`Dataset::root`].
    pub folders: Vec<PathBuf>,
    /// Files of the list that are not there.
    pub files: usize,
    /// Classes of the list none of whose files is there.
    pub classes: Vec<String>,
}

impl Dataset {
    /// Finds the pictures below the folder `root`, labelled by their folders or by the CSV file `labels`.
    /// A `root` that is a file is a data set of one unlabelled picture.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such folder or file; [`Error::Dataset`] if there is no picture in
    /// it, if it is not clear which folders are classes, or if the CSV file is wrong, with the line.
    pub fn open(root: &Path, labels: Option<&Path>) -> Result<Dataset> {
        Dataset::open_as(root, labels, Layout::Auto)
    }

    /// [`open`](Self::open) for a data set without a list whose folders stand for what `layout` says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(root: &Path, labels: Option<&Path>, layout: Layout) -> Result<Dataset> {
        let mut dataset = Dataset::find(root, labels, layout)?;
        let place = labels.map_or("folder", |_| "label");
        let near = names::near_names(&dataset.classes, &dataset.class_counts(), place);
        dataset.warnings.extend(near);
        Ok(dataset)
    }

    /// Finds all pictures below the folder `root`, without classes.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Dataset`] if there are none.
    pub fn unlabelled(root: &Path) -> Result<Dataset> {
        Dataset::find(root, None, Layout::Flat)
    }

    fn find(root: &Path, labels: Option<&Path>, layout: Layout) -> Result<Dataset> {
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
            None => scan::scan(root, layout)?,
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
            notes: Vec::new(),
            warnings: Vec::new(),
            missing: Missing::default(),
        })
    }

    /// Says which part of the data set is missing that should not be: a folder that cannot be read, a class of the
    /// list, or more than a tenth of the list (and more than two files); none if no such part is.
    pub fn missing_part(&self) -> Option<String> {
        let Missing {
            folders,
            files,
            classes,
        } = &self.missing;
        if let Some(first) = folders.first() {
            let more = match folders.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            return Some(format!(
                "the folder `{}`{more} cannot be read",
                shown(first)
            ));
        }
        if !classes.is_empty() {
            return Some(format!(
                "none of the files of {} in the list is there",
                names::names_shown(classes.iter().map(String::as_str))
            ));
        }
        losses::is_much(*files, self.samples.len() + files).then(|| {
            let listed = self.samples.len() + files;
            format!("{files} of {listed} files in the list are not there, more than a tenth")
        })
    }

    /// Number of samples of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for class in self.samples.iter().filter_map(|s| s.class) {
            counts[class] += 1;
        }
        counts
    }

    /// Refuses a data set that nothing can be learned from: one with less than two classes, or whose splits leave
    /// nothing to train on. Returns a warning for each class without a training picture.
    ///
    /// # Errors
    /// [`Error::Dataset`], with what to do.
    pub fn check_training(&self) -> Result<Vec<String>> {
        self.require_classes(2)?;
        let learned = |s: &&Sample| matches!(s.split, None | Some(Split::Training));
        let mut counts = vec![0_usize; self.classes.len()];
        for class in self.samples.iter().filter(learned).filter_map(|s| s.class) {
            counts[class] += 1;
        }
        if counts.iter().all(|&count| count == 0) {
            let mut given: Vec<Split> = self.samples.iter().filter_map(|s| s.split).collect();
            given.sort_unstable();
            given.dedup();
            let given: Vec<&str> = given.into_iter().map(Split::name).collect();
            return Err(Error::Dataset {
                path: self.root.clone(),
                problem: format!(
                    "it has pictures for {} and none for training; put training pictures into a folder `train` (in a \
                     list, write `train` behind their labels), or, if these folders are classes, give --layout classes",
                    given.join(" and ")
                ),
            });
        }
        let untrained = (0..self.classes.len()).filter(|&class| counts[class] == 0);
        Ok(untrained
            .map(|class| {
                let name = shown(Path::new(&self.classes[class])).to_string();
                format!(
                    "the class `{name}` has no training pictures, only others: the model gets an output for it that \
                     never learns; add some, or take the class out"
                )
            })
            .collect())
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
                shown(Path::new(&classes.join(", ")))
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
        notes: Vec::new(),
        warnings: Vec::new(),
        missing: Missing::default(),
    }
}
