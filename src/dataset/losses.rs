//! Unusable images: decides when too many are lost for a run to continue.

use std::path::{Path, PathBuf};

use super::names::names_shown;
use crate::counts::count;
use crate::error::{Error, Result, shown};

/// A run does not continue when more than one image in so many cannot be used …
const SHARE: usize = 10;

/// … and it is not only one or two.
const FEW: usize = 2;

/// Returns whether `lost` of `total` images are too many to continue without.
pub(super) fn is_much(lost: usize, total: usize) -> bool {
    lost > FEW && lost * SHARE > total
}

/// A sample that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its path, relative to the dataset.
    pub path: PathBuf,
    /// Its class, if it has one.
    pub class: Option<usize>,
    /// The reason, as one clause.
    pub reason: String,
}

impl Loss {
    /// Returns whether `reason` says that a file could not be read, rather than that it is not an image.
    pub(crate) fn is_unread(reason: &str) -> bool {
        reason.starts_with("cannot be read")
    }

    /// Returns whether the file went away or could not be read, rather than being no image.
    fn is_gone(&self, root: &Path) -> bool {
        Loss::is_unread(&self.reason) || !root.join(&self.path).exists()
    }
}

/// Refuses to continue without the images `lost` of the dataset `root` where `used` has the number of images of each
/// of `classes` that could be used and `all` those of any class or none: if `root` itself is gone, if the last image
/// of a class went away, or if more than a tenth (and more than two) cannot be used. `kept` says what happens to the
/// work that was done, as a clause.
///
/// # Errors
/// [`Error::Dataset`].
pub fn check_losses(
    root: &Path,
    classes: &[String],
    (used, all): (&[usize], usize),
    lost: &[Loss],
    kept: &str,
) -> Result<()> {
    let Some(first) = lost.first() else {
        return Ok(());
    };
    let total = all + lost.len();
    let fail = |what: String, first: &Loss, then: &str| {
        Err(Error::Dataset {
            path: root.to_owned(),
            problem: format!(
                "{what} (for example, {} {}); {kept}{then}, or use --allow-missing to continue without them",
                shown(&first.path),
                first.reason
            ),
        })
    };
    let again = "run the same command again when they are available";
    if !root.exists() {
        let what = format!(
            "it disappeared while being read: {} of {} could not be read",
            lost.len(),
            count(total, "image")
        );
        return fail(what, first, again);
    }
    let gone: Vec<&Loss> = lost.iter().filter(|loss| loss.is_gone(root)).collect();
    if all == 0 && gone.is_empty() {
        // There are no images at all, which is for the caller to say.
        return Ok(());
    }
    let mut emptied: Vec<usize> = gone.iter().filter_map(|loss| loss.class).collect();
    emptied.retain(|&class| used.get(class) == Some(&0));
    emptied.sort_unstable();
    emptied.dedup();
    if !emptied.is_empty() {
        let names = emptied.iter().filter_map(|&class| classes.get(class));
        let what = format!(
            "images disappeared while being read, and none of {} is left",
            names_shown(names.map(String::as_str))
        );
        let of_these = gone.iter().find(|l| l.class == Some(emptied[0]));
        return fail(what, of_these.unwrap_or(&first), again);
    }
    if is_much(lost.len(), total) {
        let what = format!(
            "{} of {} could not be used, more than 10 %",
            lost.len(),
            count(total, "image")
        );
        let then = match gone.is_empty() {
            true => "fix or remove them and run the same command again",
            false => again,
        };
        return fail(what, gone.first().unwrap_or(&first), then);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(root: &Path, files: &[(&str, usize, &str)]) -> Vec<Loss> {
        files
            .iter()
            .map(|&(path, class, reason)| {
                std::fs::write(root.join(path), b"x").unwrap();
                Loss {
                    path: path.into(),
                    class: Some(class),
                    reason: reason.into(),
                }
            })
            .collect()
    }

    fn found(root: &Path, used: [usize; 2], lost: &[Loss]) -> Option<String> {
        let classes = ["a".to_owned(), "b".to_owned()];
        check_losses(
            root,
            &classes,
            (&used, used[0] + used[1]),
            lost,
            "all is kept; ",
        )
        .err()
        .map(|e| e.to_string())
    }

    #[test]
    fn a_few_bad_pictures_end_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let bad = ("x", 0, "is not an image");
        assert_eq!(found(root, [4, 4], &[]), None);
        assert_eq!(found(root, [0, 1], &lost(root, &[bad, bad])), None);
        assert_eq!(found(root, [20, 7], &lost(root, &[bad, bad, bad])), None);
        let one = ("x", 0, "cannot be read: permission denied");
        assert_eq!(found(root, [1, 1], &lost(root, &[one])), None);
    }

    #[test]
    fn a_folder_or_a_class_that_went_away_and_many_bad_pictures_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let bad = ("x", 0, "is not an image");
        let said = found(root, [13, 13], &lost(root, &[bad, bad, bad])).unwrap();
        assert!(said.contains("3 of 29 images could not be used"), "{said}");
        assert!(said.contains("all is kept; fix or remove"), "{said}");
        let gone = ("x", 0, "cannot be read: no such file");
        let said = found(root, [0, 50], &lost(root, &[gone])).unwrap();
        assert!(said.contains("none of `a` is left"), "{said}");
        let nowhere = root.join("gone");
        let loss = lost(root, &[gone]);
        let said = found(&nowhere, [30, 30], &loss).unwrap();
        assert!(
            said.contains("disappeared while being read: 1 of 61"),
            "{said}"
        );
        assert!(said.contains("--allow-missing"), "{said}");
    }
}
