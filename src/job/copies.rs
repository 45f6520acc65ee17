//! Identical images in two classes, or in both training and validation or test.

use std::collections::BTreeMap;
use std::path::Path;

use crate::counts::count;
use crate::dataset::Split;
use crate::error::{Error, Result, shown};
use crate::features::FeatureStore;
use crate::progress::Progress;

/// Warns of images in the store that are identical in more than one class, and of those outside training that are
/// copies of training images. `splits` has the split of each row, if any.
///
/// # Errors
/// [`Error::Dataset`] instead of a warning if `strict`.
pub(super) fn check_copies(
    store: &FeatureStore,
    splits: &[Option<Split>],
    strict: bool,
    progress: &Progress,
) -> Result<()> {
    for problem in find_copies(store, splits) {
        if strict {
            return Err(Error::Dataset {
                path: store.meta().dataset.clone().into(),
                problem: format!("{problem} (an error because of --strict)"),
            });
        }
        progress.warn(problem);
    }
    Ok(())
}

fn find_copies(store: &FeatureStore, splits: &[Option<Split>]) -> Vec<String> {
    let index = store.index();
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, facts) in index.iter().enumerate() {
        groups.entry(&facts.source.sha256).or_default().push(row);
    }
    // Sorted by their first images, so that examples are the same on every run.
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|rows| rows.len() > 1).collect();
    groups.sort_unstable();
    let split = |row: usize| splits.get(row).copied().flatten();
    let mut mixed = Found::default();
    let mut leaked = Found::default();
    for rows in &groups {
        let first = rows[0];
        if let Some(&other) = rows.iter().find(|&&r| index[r].class != index[first].class) {
            mixed.add(rows.len(), first, other);
        }
        let trained = rows.iter().find(|&&r| split(r) == Some(Split::Training));
        let held_out = |r: &&usize| split(**r).is_some_and(|split| split != Split::Training);
        let copies: Vec<&usize> = rows.iter().filter(held_out).collect();
        if let (Some(&trained), Some(&&copy)) = (trained, copies.first()) {
            leaked.add(copies.len(), copy, trained);
        }
    }
    let named = |(one, other): (usize, usize)| {
        let path = |row: usize| shown(Path::new(&index[row].path)).to_string();
        format!("{} and {}", path(one), path(other))
    };
    let mut problems = Vec::new();
    if let Some(example) = mixed.example {
        problems.push(format!(
            "{} in more than one class (for example, {}); keep each in one class",
            count(mixed.pictures, "identical image"),
            named(example)
        ));
    }
    if let Some(example) = leaked.example {
        problems.push(format!(
            "{} in the validation and test splits {} also in the training split (for example, {}), which inflates the scores; remove the copies",
            count(leaked.pictures, "image"),
            if leaked.pictures == 1 { "is" } else { "are" },
            named(example)
        ));
    }
    problems
}

/// The number of images, and two examples.
#[derive(Default)]
struct Found {
    pictures: usize,
    example: Option<(usize, usize)>,
}

impl Found {
    fn add(&mut self, pictures: usize, one: usize, other: usize) {
        self.pictures += pictures;
        self.example.get_or_insert((one, other));
    }
}
