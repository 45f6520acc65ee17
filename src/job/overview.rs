//! Overview of a dataset before anything is computed: classes, splits, and possible problems.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::fit::FitConfig;
use crate::backbone::hex_sha256;
use crate::counts::{count, grouped};
use crate::dataset::{Dataset, Split, divide};
use crate::error::{Error, Result};
use crate::pixels::{Picture, read_file};
use crate::progress::Cancel;

/// A dataset is unbalanced if one class has this many times the images of another.
const IMBALANCE: usize = 10;

/// Fewer images than this in a class are too few to learn much from.
const FEW: usize = 5;

/// A file of a dataset, as [`fit`](super::fit()) will use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetImage {
    /// Its path, relative to [`Overview::root`].
    pub path: PathBuf,
    /// Index into [`Overview::classes`]; `None` for an unlabelled image.
    pub class: Option<usize>,
    /// Its split, given by the dataset or drawn; `None` for an unlabelled image.
    pub split: Option<Split>,
}

/// A scanned dataset; nothing was decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The folder to which all paths are relative.
    pub root: PathBuf,
    /// Class names.
    pub classes: Vec<String>,
    /// Images of each class in training, validation and test.
    pub counts: Vec<[usize; 3]>,
    /// Its files in path order.
    pub pictures: Vec<DatasetImage>,
    /// What was found but is not an image, with the reason as one clause.
    pub skipped: Vec<(PathBuf, String)>,
    /// Warnings before training, one sentence each.
    pub warnings: Vec<String>,
}

impl Overview {
    /// Number of images of the class `class` in all splits.
    pub fn count(&self, class: usize) -> usize {
        self.counts
            .get(class)
            .map_or(0, |counts| counts.iter().sum())
    }
}

/// Lists the dataset of `config` and splits it as training will.
///
/// # Errors
/// Those of [`Dataset::open`] and [`divide`].
pub fn overview(config: &FitConfig) -> Result<Overview> {
    let dataset = Dataset::open_as(&config.dataset, config.labels.as_deref(), config.layout)?;
    let mut doubts = dataset.warnings.clone();
    doubts.extend(dataset.missing_part());
    if dataset.classes.len() > 1 {
        match dataset.check_training() {
            Ok(untrained) => doubts.extend(untrained),
            Err(Error::Dataset { problem, .. }) => doubts.push(problem),
            Err(other) => doubts.push(other.to_string()),
        }
    }
    let labels: Option<Vec<usize>> = dataset.samples.iter().map(|s| s.class).collect();
    let splits = match labels {
        Some(labels) => {
            let given: Vec<Option<Split>> = dataset.samples.iter().map(|s| s.split).collect();
            let (split, seed) = (&config.split, config.head.seed);
            divide(
                &given,
                &labels,
                split.validation_split,
                split.test_split,
                seed,
            )?
            .into_iter()
            .map(Some)
            .collect()
        }
        None => vec![None; dataset.samples.len()],
    };
    let mut counts = vec![[0; 3]; dataset.classes.len()];
    let pictures: Vec<DatasetImage> = dataset
        .samples
        .into_iter()
        .zip(splits)
        .map(|(sample, split)| DatasetImage {
            path: sample.path,
            class: sample.class,
            split,
        })
        .collect();
    for picture in &pictures {
        if let (Some(class), Some(split)) = (picture.class, picture.split) {
            counts[class][split as usize] += 1;
        }
    }
    let mut overview = Overview {
        root: dataset.root,
        classes: dataset.classes,
        counts,
        pictures,
        skipped: dataset.skipped,
        warnings: Vec::new(),
    };
    overview.warnings = doubts;
    overview.warnings.extend(warnings(&overview));
    Ok(overview)
}

fn warnings(overview: &Overview) -> Vec<String> {
    let mut warnings = Vec::new();
    let sizes = (0..overview.classes.len()).map(|class| (overview.count(class), class));
    match overview.classes.len() {
        0 => warnings
            .push("the images have no classes; put the images of each class in its own folder, or use --labels".into()),
        1 => warnings.push(format!(
            "only 1 class ({}); training needs at least 2",
            overview.classes[0]
        )),
        _ => {}
    }
    if let (Some((least, small)), Some((most, large))) = (sizes.clone().min(), sizes.clone().max())
        && most >= IMBALANCE * least.max(1)
    {
        warnings.push(format!(
            "{} has {} and {} only {}: consider --class-weights balanced",
            overview.classes[large],
            count(most, "image"),
            overview.classes[small],
            grouped(least as u64)
        ));
    }
    for (images, class) in sizes.filter(|&(images, _)| images < FEW) {
        warnings.push(format!(
            "{} has only {}; add more",
            overview.classes[class],
            count(images, "image")
        ));
    }
    let unheld = overview.counts.iter().all(|counts| counts[1] == 0);
    if overview.classes.len() > 1 && unheld {
        warnings.push(
            "no images are held out for validation: only the training accuracy will be known"
                .into(),
        );
    }
    warnings
}

/// A problem with a dataset's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The file is not an image that can be used; the reason as one clause.
    Unreadable(PathBuf, String),
    /// The image is smaller than the backbone's input: width and height.
    Small(PathBuf, u32, u32),
    /// Identical files; in more than one class they are labelling errors, in more than one split they inflate the
    /// scores.
    Duplicates(Vec<PathBuf>),
}

/// Reads the header of every file of a dataset and passes problems to `sink`. An image whose shorter side has fewer
/// than `least_side` pixels is small. Returns early if a stop is requested.
pub fn audit(overview: &Overview, least_side: u32, cancel: &Cancel, mut sink: impl FnMut(Finding)) {
    let mut by_size: HashMap<u64, Vec<&Path>> = HashMap::new();
    for picture in &overview.pictures {
        if cancel.is_cancelled() {
            return;
        }
        let path = overview.root.join(&picture.path);
        match Picture::measure(&path) {
            Ok((width, height)) if width.min(height) < least_side => {
                sink(Finding::Small(picture.path.clone(), width, height));
            }
            Ok(_) => {}
            Err(Error::Image { reason, .. }) => {
                sink(Finding::Unreadable(picture.path.clone(), reason));
            }
            Err(error) => sink(Finding::Unreadable(picture.path.clone(), error.to_string())),
        }
        if let Ok(facts) = fs::metadata(&path) {
            by_size.entry(facts.len()).or_default().push(&picture.path);
        }
    }
    let mut same_size: Vec<Vec<&Path>> = by_size.into_values().filter(|p| p.len() > 1).collect();
    same_size.sort();
    for paths in same_size {
        let mut by_hash: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for path in paths {
            if cancel.is_cancelled() {
                return;
            }
            if let Ok((bytes, _)) = read_file(&overview.root.join(path)) {
                by_hash
                    .entry(hex_sha256(&bytes))
                    .or_default()
                    .push(path.to_owned());
            }
        }
        let mut groups: Vec<_> = by_hash.into_values().filter(|p| p.len() > 1).collect();
        groups.sort();
        for group in groups {
            sink(Finding::Duplicates(group));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_set(files: &[(&str, &[u8])]) -> (tempfile::TempDir, FitConfig) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let config = FitConfig {
            dataset: dir.path().to_owned(),
            ..FitConfig::default()
        };
        (dir, config)
    }

    fn png(side: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(side, side)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn counts_and_splits_are_those_of_training() {
        let names: Vec<String> = (0..10)
            .flat_map(|i| [format!("a/{i}.png"), format!("b/{i}.png")])
            .collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
        let (_dir, config) = data_set(&files);
        let found = overview(&config).unwrap();
        assert_eq!(found.classes, ["a", "b"]);
        assert_eq!(found.counts, [[8, 2, 0], [8, 2, 0]]);
        assert_eq!(found.warnings, Vec::<String>::new());
    }

    #[test]
    fn an_unbalanced_data_set_is_told_of() {
        let names: Vec<String> = (0..50).map(|i| format!("many/{i}.png")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
        files.push(("one/0.png", b"x"));
        let (_dir, config) = data_set(&files);
        let warnings = overview(&config).unwrap().warnings;
        assert_eq!(
            warnings,
            [
                "many has 50 images and one only 1: consider --class-weights balanced",
                "one has only 1 image; add more"
            ]
        );
    }

    #[test]
    fn an_audit_finds_bad_small_and_equal_files() {
        let (large, small) = (png(64), png(8));
        let (_dir, config) = data_set(&[
            ("a/large.png", &large),
            ("a/page.png", b"<html></html>"),
            ("a/small.png", &small),
            ("b/again.png", &large),
        ]);
        let mut found = Vec::new();
        audit(
            &overview(&config).unwrap(),
            32,
            &Cancel::default(),
            |finding| found.push(finding),
        );
        assert!(
            matches!(&found[0], Finding::Unreadable(path, reason)
                if path == Path::new("a/page.png") && reason.starts_with("is not an image")),
            "{found:?}"
        );
        assert_eq!(found[1], Finding::Small("a/small.png".into(), 8, 8));
        assert_eq!(
            found[2],
            Finding::Duplicates(vec!["a/large.png".into(), "b/again.png".into()])
        );
        assert_eq!(found.len(), 3);
    }
}
