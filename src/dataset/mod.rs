//! Labelled folders and CSV lists of images: finds the files with their
//! classes and splits. Only names and folders are examined; whether a file is an image shows when it is decoded.
//!
//! Three ways to lay out a dataset:
//!
//! ```text
//! photos/cat/1.jpg            photos/train/cat/1.jpg           photos/1.jpg
//! photos/cat/kittens/2.jpg    photos/validation/cat/2.jpg      photos/sub/2.jpg
//! photos/dog/3.jpg            photos/test/dog/3.jpg            + labels.csv:  1.jpg,cat
//! a folder for each class     the same, already split          any folders, and a list
//! ```
//!
//! The layout is recognised by the names of the folders ([`Layout::Auto`](crate::dataset::Layout::Auto)). Ambiguous
//! folders are an error; skipped files and likely mistakes are in [`Dataset::warnings`](crate::dataset::Dataset::warnings).

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

use crate::counts::{count, grouped};
use crate::error::{Error, PathRole, Result, shown};

/// One file that should be an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its path, relative to [`Dataset::root`].
    pub path: PathBuf,
    /// Index into [`Dataset::classes`]; `None` for an unlabelled image.
    pub class: Option<usize>,
    /// The split from the dataset, if it has splits.
    pub split: Option<Split>,
}

/// The files of a dataset, found and labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The folder to which all paths are relative.
    pub root: PathBuf,
    /// Class names in byte order, each with at least one sample; empty for unlabelled images.
    pub classes: Vec<String>,
    /// Samples in the byte order of their paths.
    pub samples: Vec<Sample>,
    /// Files that are not samples, with the reason as one clause.
    pub skipped: Vec<(PathBuf, String)>,
    /// Notes on how the dataset was interpreted, where that is not obvious.
    pub notes: Vec<String>,
    /// Warnings about likely mistakes and skipped folders.
    pub warnings: Vec<String>,
    /// Missing parts.
    pub missing: Missing,
}

/// Missing parts of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Folders that could not be read, relative to [`Dataset::root`].
    pub folders: Vec<PathBuf>,
    /// Missing files of the list.
    pub files: usize,
    /// Classes of the list none of whose files is there.
    pub classes: Vec<String>,
}

impl Dataset {
    /// Finds the images below the folder `root`, labelled by their folders or by the CSV file `labels`.
    /// A `root` that is a file is a dataset of one unlabelled image.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such folder or file; [`Error::Dataset`] if there is no image in
    /// it, if it is not clear which folders are classes, or if the CSV file is wrong, with the line.
    pub fn open(root: &Path, labels: Option<&Path>) -> Result<Dataset> {
        Dataset::open_as(root, labels, Layout::Auto)
    }

    /// [`open`](Self::open) for a dataset without a list whose folders stand for what `layout` says.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn open_as(root: &Path, labels: Option<&Path>, layout: Layout) -> Result<Dataset> {
        let mut dataset = Dataset::find(root, labels, layout)?;
        let place = labels.map_or("folder", |_| "label");
        let near = names::near_names(&dataset.classes, &dataset.class_counts(), place);
        dataset.warnings.extend(near);
        Ok(dataset)
    }

    /// Finds all images below the folder `root`, without classes.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Dataset`] if there are none.
    pub fn unlabelled(root: &Path) -> Result<Dataset> {
        Dataset::find(root, None, Layout::Flat)
    }

    fn find(root: &Path, labels: Option<&Path>, layout: Layout) -> Result<Dataset> {
        if !root.exists() {
            return Err(Error::NotFound {
                what: PathRole::Dataset,
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
                "no images found in it{found}; put the images of each class in its own folder"
            ),
        })
    }

    fn of_one_file(file: &Path) -> Result<Dataset> {
        let name = file.file_name().ok_or_else(|| Error::NotFound {
            what: PathRole::Dataset,
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

    /// Says which part of the dataset is missing that should not be: a folder that cannot be read, a class of the
    /// list, or more than a tenth of the list (and more than two files); `None` if no such part is.
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
                "none of the listed files of {} exists",
                names::names_shown(classes.iter().map(String::as_str))
            ));
        }
        losses::is_much(*files, self.samples.len() + files).then(|| {
            let listed = self.samples.len() + files;
            format!(
                "{} of {} do not exist, more than 10 %",
                grouped(*files as u64),
                count(listed, "listed file")
            )
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

    /// Refuses a dataset that cannot be trained on: one with less than two classes, or whose splits leave
    /// nothing to train on. Returns a warning for each class without a training image.
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
                    "it has {} images, but no training images; put training images in a folder `train` (in a list, write `train` \
                     after their labels), or, if these folders are classes, use --layout classes",
                    given.join(" and ")
                ),
            });
        }
        let untrained = (0..self.classes.len()).filter(|&class| counts[class] == 0);
        Ok(untrained
            .map(|class| {
                let name = shown(Path::new(&self.classes[class])).to_string();
                format!(
                    "the class `{name}` has no training images: the model will have an output that never learns; add some, or remove the class"
                )
            })
            .collect())
    }

    /// Refuses a dataset with less than `least` classes.
    ///
    /// # Errors
    /// [`Error::Dataset`], with what to do.
    pub fn require_classes(&self, least: usize) -> Result<()> {
        if self.classes.len() >= least {
            return Ok(());
        }
        let found = match &self.classes[..] {
            [] => "its images have no classes".to_owned(),
            classes => format!(
                "it has only {} ({})",
                count(classes.len(), "class"),
                shown(Path::new(&classes.join(", ")))
            ),
        };
        Err(Error::Dataset {
            path: self.root.clone(),
            problem: format!(
                "{found}, and at least {least} are needed; put the images of each class in its own folder, or use --labels"
            ),
        })
    }
}

/// Builds a dataset of files whose classes are known by name.
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
