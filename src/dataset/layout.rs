//! The layout of a dataset: class folders, or split folders with classes in them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Split;
use super::folder_names::{BESIDES, CONTAINERS, is_one_of, split_named, split_of};
use super::names::name_key;
use crate::counts::count;
use crate::error::shown;

/// The layout of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Splits if the names are unambiguous, else classes; an error if it is unclear.
    #[default]
    Auto,
    /// The top folders are classes, whatever their names.
    Classes,
    /// The top folders with the name of a split are splits, with class folders in them; others are skipped.
    Splits,
    /// Folders are ignored: every image is used, without a class.
    Flat,
}

/// The detected layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// Images have no classes.
    Flat,
    /// The first folder is the class.
    Classes,
    /// The first folder is the class, and a folder in it the split.
    ClassesThenSplits,
    /// The folders that have class folders in them, each with its split. Nothing else counts.
    Splits(Vec<SplitFolder>),
}

/// A folder of class folders.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SplitFolder {
    /// Its path, relative to the dataset; more than one folder deep where splits are nested.
    pub path: PathBuf,
    /// The split of what is in it.
    pub split: Split,
}

/// The arrangement of the files, and what a user should know about it.
pub(super) struct Arranged {
    pub arrangement: Arrangement,
    pub warnings: Vec<String>,
}

impl From<Arrangement> for Arranged {
    fn from(arrangement: Arrangement) -> Arranged {
        Arranged {
            arrangement,
            warnings: Vec::new(),
        }
    }
}

/// The path's first folder, if it has one.
pub(super) fn first_folder(path: &Path) -> Option<&OsStr> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(first)), Some(_)) => Some(first),
        _ => None,
    }
}

/// Files below one folder, relative to it.
struct Below<'a> {
    folder: PathBuf,
    files: Vec<&'a Path>,
}

impl<'a> Below<'a> {
    /// The folders in it that have files.
    fn folders(&self) -> BTreeSet<&'a OsStr> {
        self.files.iter().filter_map(|f| first_folder(f)).collect()
    }

    fn descend(&self, name: &OsStr) -> Below<'a> {
        let inside = self.files.iter().filter_map(|f| f.strip_prefix(name).ok());
        Below {
            folder: self.folder.join(name),
            files: inside.filter(|f| f.file_name().is_some()).collect(),
        }
    }

    /// The only folder in it but for those that hold something else than labelled images.
    fn main_folder(&self) -> Option<&'a OsStr> {
        let folders = self.folders().into_iter();
        let mut counted = folders.filter(|name| !is_one_of(name, &BESIDES));
        counted.next().filter(|_| counted.next().is_none())
    }

    /// The only folder in it, if there are no files beside that.
    fn only_folder(&self) -> Option<&'a OsStr> {
        let folders = self.folders();
        let first = folders.first().copied()?;
        let alone = folders.len() == 1 && self.files.iter().all(|f| first_folder(f).is_some());
        alone.then_some(first)
    }
}

/// Decides what the folders of `files` (relative to the dataset, of no other kind) stand for.
///
/// # Errors
/// What is wrong and what to do, as a clause.
pub(super) fn arrange(files: &[PathBuf], layout: Layout) -> Result<Arranged, String> {
    let all = Below {
        folder: PathBuf::new(),
        files: files.iter().map(PathBuf::as_path).collect(),
    };
    match layout {
        Layout::Flat => Ok(Arrangement::Flat.into()),
        _ if all.folders().is_empty() => Ok(Arrangement::Flat.into()),
        Layout::Classes => Ok(Arrangement::Classes.into()),
        Layout::Splits => match named_splits(&all, true) {
            splits if splits.is_empty() => Err(
                "none of its folders is named like a split; use train, validation and test, each with one folder per class"
                    .into(),
            ),
            splits => as_splits(&all, splits, true),
        },
        Layout::Auto => arrange_by_names(&all, 0),
    }
}

/// Folders deep that splits are looked for.
const DEEPEST: usize = 3;

fn arrange_by_names(all: &Below, depth: usize) -> Result<Arranged, String> {
    let splits = named_splits(all, false);
    if !splits.is_empty() {
        return as_splits(all, splits, false);
    }
    let folders = all.folders();
    if let Some(only) = all.main_folder() {
        let inside = all.descend(only);
        // One folder that holds everything, such as `images/train/…`: what counts is in it.
        if depth < DEEPEST && leads_to_splits(&inside, depth + 1) {
            let mut arranged = arrange_by_names(&inside, depth + 1)?;
            let others = folders.iter().filter(|name| **name != only);
            arranged
                .warnings
                .extend(others.map(|name| passed_over(all, name)));
            return Ok(arranged);
        }
    }
    Ok(by_class(all))
}

fn leads_to_splits(below: &Below, depth: usize) -> bool {
    if !named_splits(below, false).is_empty() {
        return true;
    }
    let only = below.main_folder();
    depth < DEEPEST && only.is_some_and(|name| leads_to_splits(&below.descend(name), depth + 1))
}

/// The top folders are classes; their own folders may be splits.
fn by_class(all: &Below) -> Arranged {
    let split_within = |file: &&Path| {
        let folder = first_folder(file.strip_prefix(first_folder(file)?).ok()?)?;
        split_named(folder)
    };
    let labelled = || all.files.iter().filter(|f| first_folder(f).is_some());
    let found: Vec<Option<Split>> = labelled().map(split_within).collect();
    let distinct: BTreeSet<Split> = found.iter().flatten().copied().collect();
    if !found.contains(&None) && distinct.contains(&Split::Training) && distinct.len() > 1 {
        return Arrangement::ClassesThenSplits.into();
    }
    let mut warnings: Vec<String> = repeated_folders(all).into_iter().collect();
    let example = labelled().find(|file| split_within(file).is_some());
    if let Some(folder) = example.and_then(|file| file.parent()) {
        warnings.push(format!(
            "{} is named like a split, but is read as part of its class: other images are not in such a folder",
            shown(folder)
        ));
    }
    Arranged {
        arrangement: Arrangement::Classes,
        warnings,
    }
}

/// A warning where folders that are read as classes have the same folders in them: these may be the classes, and the
/// outer ones splits or folds whose names nobody foresaw.
fn repeated_folders(all: &Below) -> Option<String> {
    let folders = all.folders();
    let (first, last) = (folders.first()?, folders.last()?);
    let inside: Vec<BTreeSet<&OsStr>> = folders
        .iter()
        .map(|name| all.descend(name).folders())
        .collect();
    let fewest = inside.iter().map(BTreeSet::len).min()?;
    let in_all = |name: &&&OsStr| inside.iter().all(|folders| folders.contains(**name));
    let shared: Vec<&&OsStr> = inside.first()?.iter().filter(in_all).collect();
    let are_splits = shared.iter().any(|name| split_named(name).is_some());
    if folders.len() < 2 || shared.len() < 2 || 2 * shared.len() < fewest || are_splits {
        return None;
    }
    let named = |name: &OsStr| format!("`{}`", shown(&all.folder.join(name)));
    Some(format!(
        "{} and {} are read as classes, but have the same folders in them ({}, {}{}); if those are the classes, name the outer folders train, validation or test, or give a list with --labels",
        named(first),
        named(last),
        shown(Path::new(shared[0])),
        shown(Path::new(shared[1])),
        if shared.len() > 2 { ", …" } else { "" }
    ))
}

/// The folders whose names say a split: those that say nothing else, or, if there are none, those of at least two
/// splits that are alike but for the split (`pets_train`, `pets_test`; but not `steam train`, `toy train`).
fn named_splits<'a>(below: &Below<'a>, any: bool) -> Vec<(&'a OsStr, Split)> {
    let named: Vec<(&OsStr, Split, String)> = below
        .folders()
        .into_iter()
        .filter_map(|name| split_of(name).map(|(split, others)| (name, split, others)))
        .collect();
    let of = |wanted: &str| -> Vec<(&OsStr, Split)> {
        let alike = named.iter().filter(|(_, _, others)| others == wanted);
        alike.map(|&(name, split, _)| (name, split)).collect()
    };
    let plain = of("");
    if !plain.is_empty() {
        return plain;
    }
    let alike = named.iter().map(|(_, _, others)| of(others));
    let is_told_apart =
        |found: &Vec<(&OsStr, Split)>| any || found.iter().any(|(_, split)| *split != found[0].1);
    alike
        .filter(is_told_apart)
        .max_by_key(Vec::len)
        .unwrap_or_default()
}

/// Takes the folders `splits` of `all` for splits; `told` by the user, else only if nothing speaks against it.
fn as_splits(all: &Below, splits: Vec<(&OsStr, Split)>, told: bool) -> Result<Arranged, String> {
    let mut folders = Vec::new();
    let mut without_classes = Vec::new();
    let mut classes: Vec<BTreeSet<&OsStr>> = Vec::new();
    for &(name, split) in &splits {
        let inside = innermost(all.descend(name), split);
        if inside.folders().is_empty() {
            without_classes.push((name, split));
            continue;
        }
        classes.push(inside.folders());
        folders.push(SplitFolder {
            path: inside.folder,
            split,
        });
    }
    let named = |name: &OsStr| format!("`{}`", shown(&all.folder.join(name)));
    let others: Vec<&OsStr> = all
        .folders()
        .into_iter()
        .filter(|name| splits.iter().all(|(split, _)| split != name))
        .collect();
    // A test set is often given without its classes.
    let is_spare = |split: Split| split == Split::Test && !folders.is_empty();
    if let Some((name, _)) = without_classes.iter().find(|(_, s)| !is_spare(*s)) {
        let names: Vec<String> = without_classes.iter().map(|(n, _)| named(n)).collect();
        return Err(match others.first() {
            Some(other) if folders.is_empty() => format!(
                "{} is named like a split, but has no class folders, and {} is next to it; if both are classes, use --layout classes; otherwise put the images of each class in its own folder in {}",
                named(name),
                named(other),
                named(name)
            ),
            _ => format!(
                "no class folders in {}; put the images of each class in its own folder there, or give a list with --labels; --layout classes reads the top folders as classes, --layout flat reads images without classes",
                names.join(" and ")
            ),
        });
    }
    // Splits have the same classes; one folder alone, or several that have nothing in common, may be anything.
    let shared = classes.iter().enumerate().any(|(i, some)| {
        let rest = &classes[i + 1..];
        rest.iter()
            .any(|more| 2 * some.intersection(more).count() >= some.len().min(more.len()))
    });
    let keys: BTreeSet<String> = classes.iter().flatten().map(|c| key_of(c)).collect();
    let in_the_way = others.iter().find(|name| {
        let is_class = keys.contains(&key_of(name));
        !told && (is_class || !shared) && (is_class || !is_one_of(name, &BESIDES))
    });
    if let Some(name) = in_the_way {
        return Err(format!(
            "{} is next to {}, which is named like a split, but is not a split itself; move it out of the dataset, or say what the folders are: --layout splits ignores it, --layout classes reads both as classes",
            named(name),
            named(splits[0].0)
        ));
    }
    let mut warnings: Vec<String> = others.iter().map(|name| passed_over(all, name)).collect();
    warnings.extend(without_classes.iter().map(|(name, _)| {
        let pictures = all.descend(name).files.len();
        format!(
            "ignored {}: it has no class folders ({})",
            named(name),
            count(pictures, "image")
        )
    }));
    Ok(Arranged {
        arrangement: Arrangement::Splits(folders),
        warnings,
    })
}

/// Follows folders that only hold the class folders: `train/images/…`, `seg_train/seg_train/…`.
fn innermost(mut below: Below, split: Split) -> Below {
    while let Some(only) = below.only_folder() {
        let says_the_same = split_of(only).is_some_and(|(found, _)| found == split)
            || below.folder.file_name() == Some(only)
            || is_one_of(only, &CONTAINERS);
        if !says_the_same {
            break;
        }
        below = below.descend(only);
    }
    below
}

fn key_of(name: &OsStr) -> String {
    name_key(&name.to_string_lossy())
}

fn passed_over(all: &Below, name: &OsStr) -> String {
    format!(
        "ignored {}: it is not a split folder ({})",
        shown(&all.folder.join(name)),
        count(all.descend(name).files.len(), "image")
    )
}

/// How splits were read, in one line; `None` if their folders have the names that they have elsewhere.
pub(super) fn told(folders: &[SplitFolder]) -> Option<String> {
    let is_plain = |f: &SplitFolder| f.path.as_os_str() == f.split.name();
    if folders.iter().all(is_plain) {
        return None;
    }
    let named = folders
        .iter()
        .map(|f| format!("{} = {}", shown(&f.path), f.split.name()));
    Some(format!(
        "split folders: {}",
        named.collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(files: &[&str], layout: Layout) -> Result<Arranged, String> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        arrange(&files, layout)
    }

    /// Split folders as text, sorted.
    fn splits(files: &[&str]) -> Vec<String> {
        match arranged(files, Layout::Auto).unwrap().arrangement {
            Arrangement::Splits(mut folders) => {
                folders.sort_by(|a, b| a.path.cmp(&b.path));
                let text = |f: &SplitFolder| format!("{}={}", f.path.display(), f.split.name());
                folders.iter().map(text).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_layouts_of_splits_are_understood() {
        for (files, expected) in [
            (
                &["train/a/1", "train/b/1", "dev/a/1", "dev/b/1"][..],
                &["dev=validation", "train=training"][..],
            ),
            (
                &["seg_train/seg_train/a/1", "seg_test/seg_test/a/1"],
                &["seg_test/seg_test=test", "seg_train/seg_train=training"],
            ),
            (
                &[
                    "images/train/a/1",
                    "images/val/a/1",
                    "annotations/train/a/1",
                ],
                &["images/train=training", "images/val=validation"],
            ),
            (
                &["data/pets/train/a/1", "data/pets/val/a/1", "data/masks/1"],
                &["data/pets/train=training", "data/pets/val=validation"],
            ),
            (
                &["photos/photos/train/a/1", "photos/photos/test/a/1"],
                &["photos/photos/test=test", "photos/photos/train=training"],
            ),
            (
                &["train/images/a/1", "train/images/b/1", "val/images/a/1"],
                &["train/images=training", "val/images=validation"],
            ),
            (
                &["pets_train/a/1", "pets_test/a/1"],
                &["pets_test=test", "pets_train=training"],
            ),
            (&["val/a/1", "test/a/1"], &["test=test", "val=validation"]),
            (&["test/a/1", "test/b/1"], &["test=test"]),
            // A test set without its classes, as competitions give it.
            (&["train/a/1", "train/b/1", "test/1"], &["train=training"]),
            // Beyond doubt: both splits have the same classes.
            (
                &["train/a/1", "val/a/1", "single_prediction/1"],
                &["train=training", "val=validation"],
            ),
        ] {
            assert_eq!(splits(files), expected, "{files:?}");
        }
    }

    #[test]
    fn what_stands_beside_splits_is_said() {
        let found = arranged(&["train/a/1", "val/a/1", "masks/1", "test/1"], Layout::Auto).unwrap();
        assert_eq!(
            found.warnings,
            [
                "ignored masks: it is not a split folder (1 image)",
                "ignored `test`: it has no class folders (1 image)"
            ]
        );
    }

    #[test]
    fn a_split_that_is_not_plain_is_an_error_that_names_the_folder_in_the_way() {
        for (files, expected) in [
            (
                &["test/a/1", "control/a/2"][..],
                "`control` is next to `test`",
            ),
            (&["train/a/1", "val/a/1", "a/1"], "`a` is next to `train`"),
            (&["train/a/1", "dog/a/1"], "`dog` is next to `train`"),
            (
                &["train/a.1", "test/1"],
                "no class folders in `test` and `train`",
            ),
            (
                &["train/1", "bus/1"],
                "`train` is named like a split, but has no class folders",
            ),
            (&["train/1", "val/a/1"], "no class folders in `train`"),
            (
                &["train/images/1", "val/images/1"],
                "no class folders in `train` and `val`",
            ),
        ] {
            let error = arranged(files, Layout::Auto).err().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("--layout classes"), "{error}");
            let told = arranged(files, Layout::Classes).unwrap();
            assert_eq!(told.arrangement, Arrangement::Classes);
        }
    }

    #[test]
    fn classes_whose_names_only_contain_a_split_are_classes() {
        for files in [
            &["steam train/1", "toy train/1", "bus/1"][..],
            &["trainers/1", "boots/1"],
            &["a/1", "b/c/1"],
        ] {
            let found = arranged(files, Layout::Auto).unwrap();
            assert_eq!(found.arrangement, Arrangement::Classes, "{files:?}");
            assert_eq!(found.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn folders_that_repeat_each_other_are_classes_with_a_word_about_it() {
        for files in [
            &["fold1/a/1", "fold1/b/1", "fold2/a/1", "fold2/b/1"][..],
            &["tr/a/1", "tr/b/1", "te/a/1", "te/b/1", "te/c/1"],
        ] {
            let found = arranged(files, Layout::Auto).unwrap();
            assert_eq!(found.arrangement, Arrangement::Classes, "{files:?}");
            let warning = found.warnings.first().unwrap();
            assert!(
                warning.contains("have the same folders in them (a, b)"),
                "{warning}"
            );
            assert_eq!(arranged(files, Layout::Classes).unwrap().warnings.len(), 0);
        }
        // Groups of classes that share little.
        for files in [
            &["cat/a/1", "dog/a/1"][..],
            &["cat/a/1", "cat/b/1", "dog/1"],
            &["cat/a/1", "cat/b/1", "dog/c/1", "dog/d/1"],
        ] {
            let found = arranged(files, Layout::Auto).unwrap();
            assert_eq!(found.warnings, Vec::<String>::new(), "{files:?}");
        }
    }

    #[test]
    fn splits_inside_of_classes_are_understood_where_all_pictures_have_one() {
        let all = ["a/train/1", "a/test/2", "b/train/1"];
        let found = arranged(&all, Layout::Auto).unwrap();
        assert_eq!(found.arrangement, Arrangement::ClassesThenSplits);
        let found = arranged(&["a/train/1", "a/2", "b/1"], Layout::Auto).unwrap();
        assert_eq!(found.arrangement, Arrangement::Classes);
        assert!(found.warnings[0].starts_with("a/train is named like a split"));
    }

    #[test]
    fn a_user_may_say_what_folders_are() {
        let files = ["train/a/1", "dog/1"];
        let found = arranged(&files, Layout::Splits).unwrap();
        assert!(matches!(found.arrangement, Arrangement::Splits(folders) if folders.len() == 1));
        assert_eq!(found.warnings.len(), 1);
        assert!(arranged(&["a/1", "b/1"], Layout::Splits).is_err());
        let found = arranged(&files, Layout::Flat).unwrap();
        assert_eq!(found.arrangement, Arrangement::Flat);
    }
}
