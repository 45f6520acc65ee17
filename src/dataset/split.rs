//! Stratified splits and folds. Pure.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::counts::fraction;
use crate::error::{Error, Result};

/// What a sample is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Used for training.
    Training,
    /// Used during training for early stopping and choosing settings.
    Validation,
    /// Used once, at the end.
    Test,
}

impl Split {
    /// The name as in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Split::Training => "training",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// The split of this name, in upper or lower case; the usual other names (`train`, `val`, `dev`, `testing` …)
    /// are also understood.
    pub fn from_name(name: &str) -> Option<Split> {
        match name.trim().to_lowercase().as_str() {
            "training" | "train" | "trn" | "trainval" => Some(Split::Training),
            "validation" | "validate" | "valid" | "val" | "dev" | "devel" | "development"
            | "eval" | "evaluation" | "holdout" => Some(Split::Validation),
            "test" | "testing" | "tests" | "tst" => Some(Split::Test),
            _ => None,
        }
    }
}

/// Draws, in each class, the share `validation` for validation and the share `test` for testing.
///
/// `labels` has a class for each sample; the result has a split for each. Shares are rounded to whole
/// samples; a class keeps at least one training sample, so that one of a single sample is not held out.
/// The same labels and seed give the same splits on every machine.
///
/// # Errors
/// [`Error::Parameter`] if a share is not from 0 to below 1, or if nothing would be left to train on.
pub fn stratified_split(
    labels: &[usize],
    validation: f64,
    test: f64,
    seed: u64,
) -> Result<Vec<Split>> {
    for (name, share) in [("validation-split", validation), ("test-split", test)] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::Parameter {
                name,
                value: fraction(share),
                problem: "must be from 0 to below 1".into(),
            });
        }
    }
    if validation + test >= 1.0 {
        return Err(Error::Parameter {
            name: "--validation-split",
            value: fraction(validation),
            problem: format!("with a test split of {test}, nothing is left to train on"),
        });
    }
    let mut splits = vec![Split::Training; labels.len()];
    for members in shuffled_classes(labels, seed) {
        let most = members.len().saturating_sub(1);
        let count = |share: f64| (share * members.len() as f64).round() as usize;
        let for_test = count(test).min(most);
        let for_validation = count(validation).min(most - for_test);
        let (tests, rest) = members.split_at(for_test);
        for &i in tests {
            splits[i] = Split::Test;
        }
        for &i in &rest[..for_validation] {
            splits[i] = Split::Validation;
        }
    }
    Ok(splits)
}

/// Gives every sample a split: the one that the dataset gives it, else one that is drawn as by
/// [`stratified_split`]. A dataset that gives training and test samples but none for validation has them
/// drawn from the training samples.
///
/// # Errors
/// Those of [`stratified_split`].
pub fn divide(
    given: &[Option<Split>],
    labels: &[usize],
    validation: f64,
    test: f64,
    seed: u64,
) -> Result<Vec<Split>> {
    let has_given = given.iter().any(Option::is_some);
    let test = if has_given { 0.0 } else { test };
    let validation = if given.contains(&Some(Split::Validation)) {
        0.0
    } else {
        validation
    };
    let free: Vec<usize> = (0..labels.len())
        .filter(|&i| matches!(given[i], None | Some(Split::Training)))
        .collect();
    let free_labels: Vec<usize> = free.iter().map(|&i| labels[i]).collect();
    let drawn = stratified_split(&free_labels, validation, test, seed)?;
    let mut splits: Vec<Split> = given.iter().map(|g| g.unwrap_or(Split::Training)).collect();
    for (&i, &split) in free.iter().zip(&drawn) {
        splits[i] = split;
    }
    Ok(splits)
}

/// Deals the samples of each class out over `folds` folds, numbered from 0. Folds differ by at most one
/// sample, in all and in each class. The same labels and seed give the same folds on every machine.
pub fn stratified_folds(labels: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let mut fold_of = vec![0; labels.len()];
    // Each class continues dealing where the last one stopped, which keeps the folds of one size.
    let dealt = shuffled_classes(labels, seed)
        .into_iter()
        .flatten()
        .enumerate();
    for (turn, sample) in dealt {
        fold_of[sample] = turn % folds.max(1);
    }
    fold_of
}

/// The samples of each class in random order.
fn shuffled_classes(labels: &[usize], seed: u64) -> Vec<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |c| c + 1);
    let mut members = vec![Vec::new(); classes];
    for (sample, &class) in labels.iter().enumerate() {
        members[class].push(sample);
    }
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    for class in &mut members {
        // Fisher and Yates' shuffle, in Durstenfeld's form (CACM 7, 1964).
        for i in (1..class.len()).rev() {
            class.swap(i, rng.random_range(0..=i as u64) as usize);
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40, 7, 1 and 2 samples of four classes, mixed.
    fn labels() -> Vec<usize> {
        let mut labels = vec![0; 40];
        labels.extend([1; 7]);
        labels.extend([2]);
        labels.extend([3; 2]);
        labels.rotate_left(13);
        labels
    }

    fn count(labels: &[usize], splits: &[Split], class: usize, split: Split) -> usize {
        labels
            .iter()
            .zip(splits)
            .filter(|&(&l, &s)| l == class && s == split)
            .count()
    }

    #[test]
    fn every_class_keeps_its_share() {
        let labels = labels();
        let splits = stratified_split(&labels, 0.2, 0.1, 1).unwrap();
        let counts = |class| {
            [Split::Training, Split::Validation, Split::Test]
                .map(|split| count(&labels, &splits, class, split))
        };
        assert_eq!(counts(0), [28, 8, 4]);
        assert_eq!(counts(1), [5, 1, 1]);
        assert_eq!(counts(2), [1, 0, 0]);
        assert_eq!(counts(3), [2, 0, 0]);
    }

    #[test]
    fn a_class_always_keeps_a_training_sample() {
        let splits = stratified_split(&[0, 0, 1], 0.9, 0.0, 3).unwrap();
        assert_eq!(count(&[0, 0, 1], &splits, 0, Split::Training), 1);
        assert_eq!(count(&[0, 0, 1], &splits, 1, Split::Training), 1);
    }

    #[test]
    fn the_seed_alone_decides() {
        let labels = labels();
        let draw = |seed| stratified_split(&labels, 0.5, 0.0, seed).unwrap();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // Noted on x86-64: a machine that draws otherwise would not reproduce a colleague's split.
        assert_eq!(stratified_folds(&[0; 8], 4, 42), [2, 0, 1, 1, 3, 0, 3, 2]);
    }

    #[test]
    fn shares_out_of_range_are_refused() {
        for (validation, test) in [(1.0, 0.0), (-0.1, 0.0), (0.0, f64::NAN), (0.5, 0.5)] {
            assert!(
                stratified_split(&[0, 1], validation, test, 0).is_err(),
                "{validation} {test}"
            );
        }
    }

    #[test]
    fn folds_differ_by_at_most_one_in_all_and_in_each_class() {
        let labels = labels();
        let folds = stratified_folds(&labels, 5, 0);
        let spread =
            |counts: [usize; 5]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        let mut all = [0; 5];
        for class in 0..4 {
            let mut counts = [0; 5];
            for (_, &fold) in labels.iter().zip(&folds).filter(|&(&l, _)| l == class) {
                counts[fold] += 1;
                all[fold] += 1;
            }
            assert!(spread(counts) <= 1, "class {class}: {counts:?}");
        }
        assert!(spread(all) <= 1, "{all:?}");
    }
}
