//! The last steps of every training job: record reference outputs, write the file, reload it and compare.

use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::Serialize;

use super::runner::write_config;
use crate::backbone::{Backbone, PictureSession, hex_sha256, is_path};
use crate::counts::count;
use crate::error::{Error, Result};
use crate::features::{Dtype, FeatureStore};
use crate::pixels::{DecodeLimits, Picture, read_file};
use crate::progress::{Check, Event, Progress};
use crate::saved_model::{
    RECORD_VERSION, Record, Reference, ReferenceImage, SavedModel, TrainingRecord, Verification,
    max_abs_diff, verify,
};
use crate::train::Head;

/// What is saved where.
pub(super) struct Saving<'a, C> {
    /// The features on which the model was trained.
    pub store: &'a FeatureStore,
    /// Rows of the store whose outputs are recorded in the model.
    pub chosen: Vec<usize>,
    /// The configuration to write beside the model.
    pub config: &'a C,
    /// The model's file.
    pub output: &'a Path,
    /// The trained head.
    pub head: &'a Head,
}

/// The record of a model of `backbone` and `head`, without reference outputs.
pub(super) fn record_of(
    backbone: &Backbone,
    head: &Head,
    store: &FeatureStore,
    training: TrainingRecord,
) -> Record {
    Record {
        record_version: RECORD_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        classes: store.meta().classes.clone(),
        backbone: backbone.id().clone(),
        base_path: Some(backbone.source().to_owned()).filter(|source| is_path(source)),
        feature_shape: backbone.feature_shape().to_vec(),
        standardized: head.standardization().is_some(),
        training,
        quantization: None,
        reference: Reference::default(),
    }
}

/// Records the outputs of `model` for the chosen images, compares them with the trained network (`trained` returns the
/// probabilities of rows of the store, `name` is its description), writes the model and its configuration, reloads and
/// verifies it. Returns its size in bytes and its verification.
///
/// # Errors
/// [`Error::NotSame`] if one of the comparisons fails; those of writing and loading.
pub(super) fn save_verified<C: Serialize>(
    mut model: SavedModel,
    saving: &Saving<C>,
    name: &str,
    trained: impl FnOnce(&[usize]) -> Result<Array2<f32>>,
    progress: &Progress,
) -> Result<(u64, Verification)> {
    let output = saving.output;
    let references = run_references(&model, saving.store, &saving.chosen, progress)?;
    if model.state_batch()? {
        progress.warn(
            "the backbone's graph gives other results for two images in a batch than for each alone, so the model is saved with a batch size of 1"
                .to_owned(),
        );
    }
    compare_with_trained(name, trained, saving, &references, progress)?;
    model.set_reference(references.into_iter().map(|(_, image)| image).collect())?;
    let bytes = model.write(output)?;
    write_config(&config_path(output), saving.config)?;
    progress.emit(Event::Saved {
        path: output.to_owned(),
        bytes,
    });
    let dataset = Path::new(&saving.store.meta().dataset);
    let verification = verify(output, Some(dataset), progress)?;
    verification.require_same(output)?;
    Ok((bytes, verification))
}

/// Where a run writes its configuration: beside the model, ending `.run.toml`.
fn config_path(output: &Path) -> PathBuf {
    output.with_extension("run.toml")
}

/// Runs the chosen images through the whole model, without those whose file is gone or changed.
fn run_references(
    model: &SavedModel,
    store: &FeatureStore,
    chosen: &[usize],
    progress: &Progress,
) -> Result<Vec<(usize, ReferenceImage)>> {
    let mut session = model.session()?;
    let root = Path::new(&store.meta().dataset);
    let mut references = Vec::new();
    for &row in chosen {
        progress.checkpoint()?;
        let entry = &store.index()[row];
        let Some(name) = entry.path.to_str() else {
            continue;
        };
        let path = root.join(&entry.path);
        let bytes = read_file(&path)
            .ok()
            .map(|(bytes, _)| bytes)
            .filter(|bytes| hex_sha256(bytes) == entry.source.sha256);
        if let Some(bytes) = bytes {
            let probabilities = match run_picture(&mut session, &bytes, &path) {
                // Larger than the default limit.
                Err(Error::Image { .. }) => continue,
                found => found?,
            };
            references.push((
                row,
                ReferenceImage {
                    path: name.to_owned(),
                    sha256: entry.source.sha256.clone(),
                    probabilities,
                },
            ));
        }
    }
    Ok(references)
}

fn run_picture(session: &mut PictureSession, bytes: &[u8], path: &Path) -> Result<Vec<f32>> {
    let picture = Picture::decode(
        bytes,
        path,
        &DecodeLimits::default(),
        session.decode_options(),
    )?;
    Ok(session.run(&picture)?.to_vec())
}

/// Compares what was trained, by `trained` on the stored features, with the composed model on the images
/// themselves: both must give the same probabilities.
fn compare_with_trained<C>(
    name: &str,
    trained: impl FnOnce(&[usize]) -> Result<Array2<f32>>,
    saving: &Saving<C>,
    references: &[(usize, ReferenceImage)],
    progress: &Progress,
) -> Result<()> {
    let rows: Vec<usize> = references.iter().map(|(row, _)| *row).collect();
    if rows.is_empty() {
        progress
            .info("no images of the dataset are available; compared on the synthetic image only");
        return Ok(());
    }
    // float32: sums are in a different order. float16: features were rounded to three digits.
    let tolerance = match saving.store.meta().dtype {
        Dtype::F32 => 1e-4,
        Dtype::F16 => 2e-2,
    };
    let tolerance = saving.head.rounding().max(tolerance);
    let from_trained = trained(&rows)?;
    let diffs = from_trained
        .rows()
        .into_iter()
        .zip(references)
        .map(|(row, (_, image))| max_abs_diff(&row.to_vec(), &image.probabilities));
    let largest = diffs.fold(0.0, f32::max);
    progress.emit(Event::Check(Check {
        name: format!("{name} on stored features"),
        ok: largest <= tolerance,
        detail: format!(
            "largest difference {largest:.1e} over {}",
            count(rows.len(), "image")
        ),
        max_abs_diff: Some(largest),
    }));
    if largest <= tolerance {
        return Ok(());
    }
    Err(Error::NotSame {
        path: saving.output.to_owned(),
        problem: format!(
            "differs from the {name} by up to {largest:.1e} on {}; if images have changed, extract their features again",
            count(rows.len(), "image")
        ),
    })
}
