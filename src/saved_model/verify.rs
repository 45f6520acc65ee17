//! Verifies that a saved model gives the results recorded when it was saved.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ReferenceImage, SavedModel, machine_kind, probe_picture, read};
use crate::backbone::{PictureSession, hex_sha256};
use crate::counts::{count, grouped};
use crate::disk::stays_below;
use crate::error::{Error, Result, shown};
use crate::pixels::{DecodeLimits, Picture, read_file};
use crate::progress::{Check, Event, Phase, Progress};

/// Tolerance for a probability on another kind of machine, where sums are in a different order.
pub const TOLERANCE: f32 = 1e-4;

/// Result of a verification.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Whether every check held.
    pub same_results: bool,
    /// Largest absolute difference of any probability.
    pub max_abs_diff: f32,
    /// All checks, in order.
    pub checks: Vec<Check>,
    /// Number of real images compared.
    pub images: usize,
}

impl Verification {
    /// Turns a difference into an error, for the model `path`.
    ///
    /// # Errors
    /// [`Error::NotSame`] with the names of the checks that did not hold.
    pub fn require_same(&self, path: &Path) -> Result<()> {
        if self.same_results {
            return Ok(());
        }
        let failed: Vec<&str> = self
            .checks
            .iter()
            .filter(|c| !c.ok)
            .map(|c| c.name.as_str())
            .collect();
        Err(Error::NotSame {
            path: path.to_owned(),
            problem: format!("these checks differ: {}", failed.join(", ")),
        })
    }
}

/// Reloads `path` and compares its outputs with the recorded ones, check by check. Images are looked for below `dataset`,
/// or where the record says; missing ones are skipped.
///
/// On the kind of machine that saved it, probabilities must be the same to the bit; on another kind,
/// to 1e-4, or what a quantised model says. Emits an [`Event::Check`] for each item, then [`Event::Verified`].
///
/// # Errors
/// Those of [`SavedModel::open`], [`crate::Error::Cancelled`]. A difference is not an error here.
pub fn verify(path: &Path, dataset: Option<&Path>, progress: &Progress) -> Result<Verification> {
    verify_bytes(&read(path)?, path, dataset, progress)
}

/// Like [`verify`], with the bytes of a file that is or will be `path`.
///
/// # Errors
/// Like [`verify`].
pub fn verify_bytes(
    bytes: &[u8],
    path: &Path,
    dataset: Option<&Path>,
    progress: &Progress,
) -> Result<Verification> {
    progress.phase(Phase::Verify, None);
    let mut checks = Checks {
        progress,
        checks: Vec::new(),
        exact: true,
        tolerance: TOLERANCE,
    };
    checks.note(
        "file",
        format!(
            "{} bytes, SHA-256 {}",
            grouped(bytes.len() as u64),
            hex_sha256(bytes)
        ),
    );
    let model = SavedModel::parse(bytes, path)?;
    let [_, a, b, c] = model.input_shape();
    checks.note(
        "reload",
        format!(
            "input (None, {a}, {b}, {c}), {}: {}",
            count(model.classes().len(), "class"),
            model.classes().join(", ")
        ),
    );
    checks.note("operators", operators(&model));
    let reference = &model.record().reference;
    checks.exact = reference.machine == machine_kind();
    checks.tolerance = reference.tolerance.unwrap_or(TOLERANCE);
    checks.note(
        "machine",
        if checks.exact {
            format!(
                "same kind as the one that saved it ({}): compared bit for bit",
                reference.machine
            )
        } else {
            format!(
                "{}, saved on {}: compared to {}",
                machine_kind(),
                reference.machine,
                checks.tolerance
            )
        },
    );
    let mut session = model.session()?;
    let probe = session.run(&probe_picture())?;
    checks.compare("synthetic image", probe, &reference.probe);
    let root = dataset.map_or_else(
        || PathBuf::from(&model.record().training.dataset),
        Path::to_owned,
    );
    let mut images = 0;
    for image in &reference.images {
        progress.checkpoint()?;
        if let Some(found) = run_image(&mut session, &root, image)? {
            images += 1;
            checks.compare(&image.path, &found, &image.probabilities);
        }
    }
    checks.batch(&model);
    let (absent, all) = (reference.images.len() - images, reference.images.len());
    if absent > 0 {
        progress.info(format!(
            "{absent} of {all} reference images are missing from {} or have changed; compared without them",
            shown(&root)
        ));
    }
    let checks = checks.checks;
    let verification = Verification {
        same_results: checks.iter().all(|check| check.ok),
        max_abs_diff: checks
            .iter()
            .filter_map(|check| check.max_abs_diff)
            .fold(0.0, f32::max),
        checks,
        images,
    };
    progress.emit(Event::Verified {
        path: path.to_owned(),
        same_results: verification.same_results,
        max_abs_diff: verification.max_abs_diff,
    });
    Ok(verification)
}

/// How many operators of each kind the file has, the most frequent first.
fn operators(model: &SavedModel) -> String {
    let nodes = model.graph().nodes();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &nodes {
        *counts.entry(&node.op_type).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (Reverse(count), name));
    let list: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!("{}: {}", count(nodes.len(), "node"), list.join(", "))
}

/// Runs a reference image; `None` if it is not there or not the same file any more.
fn run_image(
    session: &mut PictureSession,
    root: &Path,
    image: &ReferenceImage,
) -> Result<Option<Vec<f32>>> {
    let name = Path::new(&image.path);
    // The names come from the model's file, which may be anybody's: none leads out of the dataset.
    if !stays_below(name) {
        return Ok(None);
    }
    let path = root.join(name);
    let Ok((bytes, _)) = read_file(&path) else {
        return Ok(None);
    };
    if hex_sha256(&bytes) != image.sha256 {
        return Ok(None);
    }
    let picture = Picture::decode(
        &bytes,
        &path,
        &DecodeLimits::default(),
        session.decode_options(),
    )?;
    Ok(Some(session.run(&picture)?.to_vec()))
}

struct Checks<'a> {
    progress: &'a Progress,
    checks: Vec<Check>,
    exact: bool,
    /// Largest difference that is taken for the same where they need not be exact.
    tolerance: f32,
}

impl Checks<'_> {
    fn push(&mut self, check: Check) {
        self.progress.emit(Event::Check(check.clone()));
        self.checks.push(check);
    }

    fn note(&mut self, name: &str, detail: String) {
        self.push(Check {
            name: name.to_owned(),
            ok: true,
            detail,
            max_abs_diff: None,
        });
    }

    /// Two images at once against each alone, as other programs may run the file.
    fn batch(&mut self, model: &SavedModel) {
        let (ok, detail) = match model.batch_difference() {
            Ok(None) => (true, "the file has a batch size of 1 and says so".to_owned()),
            Ok(Some(diff)) => (
                diff <= TOLERANCE,
                format!("batch of 2: largest difference {diff:.1e} to each image alone"),
            ),
            Err(_) => (
                false,
                "the file claims to accept any batch size, but a batch of 2 fails; save it again with this version, which records that, and use a batch size of 1 in other programs"
                    .to_owned(),
            ),
        };
        self.push(Check {
            name: "batch".to_owned(),
            ok,
            detail,
            max_abs_diff: None,
        });
    }

    fn compare(&mut self, name: &str, found: &[f32], expected: &[f32]) {
        let diff = max_abs_diff(found, expected);
        self.push(Check {
            name: name.to_owned(),
            ok: if self.exact {
                found == expected
            } else {
                diff <= self.tolerance
            },
            detail: format!(
                "largest difference {diff:.1e} over {}",
                count(expected.len(), "probability")
            ),
            max_abs_diff: Some(diff),
        });
    }
}

/// Largest absolute difference; infinite for different lengths or where a number is not one.
pub(crate) fn max_abs_diff(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, |max, d| {
            if d.is_nan() {
                f32::INFINITY
            } else {
                max.max(d)
            }
        })
}
