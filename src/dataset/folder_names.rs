//! Recognises folder names: splits, and folders that are neither splits nor classes.

use std::ffi::OsStr;

use super::Split;

/// Words beside a split's name that change nothing: `train_images`, `test set`, `seg_train`.
const FILLERS: [&str; 17] = [
    "data", "dataset", "dir", "folder", "image", "images", "img", "imgs", "photos", "pictures",
    "seg", "set", "sets", "split", "splits", "the", "x",
];

/// Folders that contain folders of images, and are not classes.
pub(super) const CONTAINERS: [&str; 10] = [
    "class", "classes", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures",
];

/// Folders beside splits that hold something other than labelled images.
pub(super) const BESIDES: [&str; 22] = [
    "annotation",
    "annotations",
    "demo",
    "docs",
    "examples",
    "figures",
    "labels",
    "mask",
    "masks",
    "meta",
    "metadata",
    "misc",
    "notebooks",
    "pred",
    "prediction",
    "predictions",
    "sample",
    "samples",
    "scripts",
    "segmentation",
    "unlabeled",
    "unlabelled",
];

/// Folders that are seldom a class: they hold the images of all classes, or what belongs to them.
const SELDOM_CLASSES: [&str; 5] = ["annotation", "annotations", "labels", "masks", "metadata"];

/// Returns whether a folder in the place of a class, named `class`, is probably not one.
pub(super) fn is_doubtful_class(class: &OsStr) -> bool {
    is_one_of(class, &CONTAINERS) || is_one_of(class, &SELDOM_CLASSES)
}

/// The words of a folder's name in lower case: `seg_train`, `trainSet` and `train2017` have two.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut before = None;
    for c in name.chars() {
        let ends = before.is_some_and(|b: char| {
            (b.is_lowercase() && c.is_uppercase()) || b.is_numeric() != c.is_numeric()
        });
        if !c.is_alphanumeric() || ends {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        before = Some(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The split that a folder's name says, and the words of the name that say something else.
pub(super) fn split_of(name: &OsStr) -> Option<(Split, String)> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for word in words(name.to_str()?) {
        let glued = FILLERS
            .iter()
            .find_map(|filler| Split::from_name(word.strip_suffix(filler)?));
        match Split::from_name(&word).or(glued) {
            Some(split) => found.push(split),
            None if FILLERS.contains(&word.as_str()) => {}
            None if word.chars().all(char::is_numeric) => {}
            None => others.push(word),
        }
    }
    let split = match found[..] {
        [split] => split,
        // `train_val`: what is not the test set.
        [Split::Training, Split::Validation] => Split::Training,
        _ => return None,
    };
    Some((split, others.join(" ")))
}

/// The split whose name a folder has, if the name says nothing else.
pub(super) fn split_named(name: &OsStr) -> Option<Split> {
    let (split, others) = split_of(name)?;
    others.is_empty().then_some(split)
}

/// Returns whether a name is one of `known`, in upper or lower case.
pub(super) fn is_one_of(name: &OsStr, known: &[&str]) -> bool {
    name.to_str()
        .is_some_and(|name| known.contains(&name.to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_known_by_their_usual_names() {
        use Split::{Test, Training, Validation};
        for (name, expected) in [
            ("train", Training),
            ("TRAIN", Training),
            ("Training", Training),
            ("trn", Training),
            ("training_set", Training),
            ("trainset", Training),
            ("TrainImages", Training),
            ("train2017", Training),
            ("01_train", Training),
            ("seg_train", Training),
            ("trainval", Training),
            ("train-val", Training),
            ("val", Validation),
            ("Valid", Validation),
            ("validation data", Validation),
            ("dev", Validation),
            ("eval", Validation),
            ("test", Test),
            ("tst", Test),
            ("Testing", Test),
            ("seg_test", Test),
        ] {
            assert_eq!(split_named(OsStr::new(name)), Some(expected), "{name}");
        }
        for name in [
            "trainer",
            "contest",
            "steam train",
            "devil",
            "latest",
            "value",
            "train_test",
            "",
            "7",
        ] {
            assert_eq!(split_named(OsStr::new(name)), None, "{name}");
        }
    }
}
