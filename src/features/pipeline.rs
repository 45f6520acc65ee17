//! The pipeline that fills a store: images through the backbone, rows to disk.
//!
//! ```text
//! plan ─► worker 0..W (read, decode, resize, infer) ─► bounded channel ─► writer (rows, checkpoints)
//! ```
//!
//! Each worker takes one image at a time through all steps, so a row does not depend on the number of
//! workers, and the writer puts it at its image's position in the plan: the same dataset gives the same
//! bytes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use half::f16;

use super::journal::{self, FRESH, Leftover, OLD, PARTIAL, Partial, Plan, Planned};
use super::matrix::Dtype;
use super::reader::modified_ns;
use super::store::{
    ArrayMeta, FORMAT_VERSION, FeatureStore, IndexRow, META, SourceFacts, StoreMeta, arrays_of,
    read_meta,
};
use super::store_lock::open_and_lock;
use super::stream::{PathList, PipelineParams, Stream, stream};
use super::table;
use super::view::View;
use crate::backbone::{Backbone, BackboneId};
use crate::dataset::{Dataset, Loss, check_losses};
use crate::disk::{is_there, remove_folder, rename_synced};
use crate::error::{Error, Result};
use crate::pixels::Preprocess;
use crate::progress::{Event, Phase, Progress};

/// Maximum time between checkpoints: the work that a killed run repeats.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Fills the store in `out` with the features of `dataset`, resuming an earlier run.
///
/// Rows of an unfinished run, and rows of a finished store whose images have not changed, are taken
/// over. Images that cannot be used are listed in `errors.csv`, unless `params.strict`; if they are too many or
/// went away, the run stays unfinished, unless `params.allow_missing`.
///
/// # Errors
/// Those of [`check_losses`]; [`Error::Mismatch`] if `out` holds features of another backbone; [`Error::InUse`] if
/// another run fills it; [`Error::Image`] for a bad image if `params.strict`; [`Error::Cancelled`]; [`Error::Io`].
pub fn extract(
    backbone: &Backbone,
    dataset: &Dataset,
    out: &Path,
    params: &PipelineParams,
    progress: &Progress,
) -> Result<FeatureStore> {
    fill_store(backbone, dataset, out, params, None, progress)
}

/// Like [`extract`], with an augmented view instead of each image.
///
/// # Errors
/// Like [`extract`].
pub fn extract_view(
    backbone: &Backbone,
    dataset: &Dataset,
    out: &Path,
    params: &PipelineParams,
    view: &View,
    progress: &Progress,
) -> Result<FeatureStore> {
    fill_store(backbone, dataset, out, params, Some(view), progress)
}

fn fill_store(
    backbone: &Backbone,
    dataset: &Dataset,
    out: &Path,
    params: &PipelineParams,
    view: Option<&View>,
    progress: &Progress,
) -> Result<FeatureStore> {
    let _lock = open_and_lock(out)?;
    journal::roll_forward(out)?;
    let pictures = plan_pictures(dataset);
    let plan = Plan {
        format_version: FORMAT_VERSION,
        backbone: backbone.id().clone(),
        feature_shape: backbone.feature_shape().to_vec(),
        arrays: match backbone.parts() {
            [_] => Vec::new(),
            _ if params.concat => Vec::new(),
            several => arrays_of(several),
        },
        dtype: params.dtype,
        view: view.cloned(),
        pictures: pictures.len(),
        digest: journal::digest(&pictures),
    };
    let finished = open_finished(out, &plan)?;
    if let Some(store) = finished
        .as_ref()
        .filter(|s| is_current(s, &pictures, dataset))
    {
        // Left by a run that died before cleaning up.
        for left in [PARTIAL, FRESH, OLD] {
            remove_folder(&out.join(left))?;
        }
        progress.phase(Phase::Extract, Some(0));
        progress.emit(Event::Resumed {
            rows: store.meta().rows,
        });
        return FeatureStore::open(out);
    }
    let mut partial = open_partial(out, &plan, &pictures, finished.as_ref())?;
    drop(finished);
    let resumed = partial.outcomes().iter().filter(|o| is_done(o)).count();
    progress.phase(Phase::Extract, Some(pictures.len() as u64));
    if resumed > 0 {
        progress.emit(Event::Resumed {
            rows: resumed as u64,
        });
    }
    fill(
        backbone,
        dataset,
        &pictures,
        &mut partial,
        params,
        &plan.view,
        progress,
    )?;
    if !params.allow_missing {
        check_complete(dataset, &partial)?;
    }
    finish(out, partial, &plan, &pictures, dataset, backbone)?;
    FeatureStore::open(out)
}

fn plan_pictures(dataset: &Dataset) -> Vec<Planned> {
    dataset
        .samples
        .iter()
        .map(|sample| {
            let facts = fs::metadata(dataset.root.join(&sample.path)).ok();
            Planned {
                path: sample.path.clone(),
                class: sample.class,
                split: sample.split,
                bytes: facts.as_ref().map_or(0, fs::Metadata::len),
                modified_ns: facts.as_ref().map_or(0, modified_ns),
            }
        })
        .collect()
}

/// Opens the finished store in `out`, if there is one, and refuses it if its features are of another kind.
fn open_finished(out: &Path, plan: &Plan) -> Result<Option<FeatureStore>> {
    if !out.join(META).exists() {
        return Ok(None);
    }
    let meta = read_meta(out)?;
    refuse_other(
        out,
        (
            &meta.backbone,
            &meta.feature_shape,
            &meta.arrays,
            meta.dtype,
            &meta.view,
        ),
        plan,
    )?;
    FeatureStore::open(out).map(Some)
}

/// Names the settings in which a store differs from the requested ones.
fn refuse_other(
    out: &Path,
    (id, shape, arrays, dtype, view): (&BackboneId, &[usize], &[ArrayMeta], Dtype, &Option<View>),
    plan: &Plan,
) -> Result<()> {
    let wanted = &plan.backbone;
    let (what, expected, found) = if id.sha256 != wanted.sha256 {
        ("backbone", wanted.model.clone(), id.model.clone())
    } else if id.cut != wanted.cut {
        ("feature layer", wanted.cut.to_string(), id.cut.to_string())
    } else if id.pool != wanted.pool {
        (
            "pool",
            wanted.pool.name().to_owned(),
            id.pool.name().to_owned(),
        )
    } else if id.prefix_tokens != wanted.prefix_tokens {
        let count = |count: Option<u32>| count.map_or("unknown".to_owned(), |n| n.to_string());
        (
            "number of tokens before the patches",
            count(wanted.prefix_tokens),
            count(id.prefix_tokens),
        )
    } else if *view != plan.view {
        let name = |view: &Option<View>| match view {
            None => "the original images".to_owned(),
            Some(view) => format!("view {} of {}", view.number, view.augment),
        };
        ("augmentation", name(&plan.view), name(view))
    } else if id.input_size != wanted.input_size {
        (
            "input-size",
            wanted.input_size.to_string(),
            id.input_size.to_string(),
        )
    } else if id.preprocess != wanted.preprocess {
        (
            "preprocessing",
            differing(&wanted.preprocess, &id.preprocess),
            differing(&id.preprocess, &wanted.preprocess),
        )
    } else if dtype != plan.dtype {
        ("dtype", format!("{:?}", plan.dtype), format!("{dtype:?}"))
    } else if arrays.len() != plan.arrays.len() {
        let describe = |arrays: &[ArrayMeta]| match arrays.len() {
            0 => "one for all feature layers".to_owned(),
            n => n.to_string(),
        };
        ("number of arrays", describe(&plan.arrays), describe(arrays))
    } else if shape != plan.feature_shape || arrays != plan.arrays {
        // No store of this program: the backbone gives rows of one shape.
        (
            "shape of a row",
            format!("{:?}", plan.feature_shape),
            format!("{shape:?} in {} arrays", arrays.len().max(1)),
        )
    } else {
        return Ok(());
    };
    Err(Error::OtherFeatures {
        path: out.to_owned(),
        what,
        expected,
        found,
    })
}

/// The settings of `one` that differ from `other`, with their values.
fn differing(one: &Preprocess, other: &Preprocess) -> String {
    // Plain data always serialises.
    let fields = |p: &Preprocess| serde_json::to_value(p).unwrap_or_default();
    let (one, other) = (fields(one), fields(other));
    let named = one.as_object().into_iter().flatten();
    let differing: Vec<String> = named
        .filter(|(name, value)| other.get(name) != Some(value))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    differing.join(", ")
}

/// Returns whether a finished store has a row for each image as it is now, and nothing else.
fn is_current(store: &FeatureStore, pictures: &[Planned], dataset: &Dataset) -> bool {
    let same = |row: &IndexRow, picture: &Planned| {
        row.path == picture.path
            && row.class == picture.class
            && row.split == picture.split
            && row.source.bytes == picture.bytes
            && row.source.modified_ns == picture.modified_ns
    };
    store.meta().classes == dataset.classes
        && store.index().len() == pictures.len()
        && store
            .index()
            .iter()
            .zip(pictures)
            .all(|(row, picture)| same(row, picture))
}

/// Opens the unfinished run in `out` if it was to become the same store; else starts one, with the rows
/// that an unfinished or a finished run already has of images that have not changed.
fn open_partial(
    out: &Path,
    plan: &Plan,
    pictures: &[Planned],
    finished: Option<&FeatureStore>,
) -> Result<Partial> {
    let dir = out.join(PARTIAL);
    let fresh_dir = out.join(FRESH);
    let old_dir = out.join(OLD);
    if is_there(&old_dir) {
        if is_there(&fresh_dir) && !is_there(&dir) {
            rename_synced(&fresh_dir, &dir)?;
        }
        remove_folder(&old_dir)?;
    }
    let mut old = match Plan::read(&dir)? {
        Some(found) if found == *plan => match Partial::open(dir.clone(), plan)? {
            Some(partial) => return Ok(partial),
            None => None,
        },
        Some(found) => {
            refuse_other(
                out,
                (
                    &found.backbone,
                    &found.feature_shape,
                    &found.arrays,
                    found.dtype,
                    &found.view,
                ),
                plan,
            )?;
            Leftover::open(&dir, &found)?
        }
        None => None,
    };
    let mut fresh = Partial::create(fresh_dir.clone(), plan)?;
    if let Some(store) = finished {
        let rows = store
            .index()
            .iter()
            .map(|row| (row.path.clone(), row.source.clone()));
        let mut values = vec![0.0; store.meta().feature_len()];
        take_over(
            &rows.collect::<Vec<_>>(),
            pictures,
            &mut fresh,
            |row, bytes| {
                store.matrix().row_into(row, &mut values)?;
                encode(&values, plan.dtype, bytes);
                Ok(())
            },
        )?;
    }
    if let Some(left) = &mut old {
        let rows = left.rows().to_vec();
        take_over(&rows, pictures, &mut fresh, |place, bytes| {
            left.read_row(place, bytes)
        })?;
    }
    fresh.checkpoint()?;
    if is_there(&dir) {
        rename_synced(&dir, &old_dir)?;
    }
    rename_synced(&fresh_dir, &dir)?;
    remove_folder(&old_dir)?;
    fresh.moved_to(dir);
    Ok(fresh)
}

/// Copies `rows` (path and facts) of images that are still the same;
/// `read` gets a row's bytes by its place in `rows`.
fn take_over(
    rows: &[(PathBuf, SourceFacts)],
    pictures: &[Planned],
    fresh: &mut Partial,
    mut read: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let places: HashMap<&Path, usize> = rows
        .iter()
        .enumerate()
        .map(|(i, (path, _))| (path.as_path(), i))
        .collect();
    let mut bytes = Vec::new();
    for (slot, picture) in pictures.iter().enumerate() {
        let Some(&place) = places.get(picture.path.as_path()) else {
            continue;
        };
        let source = &rows[place].1;
        if source.bytes == picture.bytes && source.modified_ns == picture.modified_ns {
            read(place, &mut bytes)?;
            fresh.write_row(slot, &picture.path, &bytes, source.clone())?;
        }
    }
    Ok(())
}

/// Refuses to finish a store if too many images were lost.
fn check_complete(dataset: &Dataset, partial: &Partial) -> Result<()> {
    let mut used = vec![0; dataset.classes.len()];
    let mut all = 0;
    let mut lost = Vec::new();
    for (sample, outcome) in dataset.samples.iter().zip(partial.outcomes()) {
        match outcome {
            Some(Ok(_)) => {
                all += 1;
                if let Some(class) = sample.class {
                    used[class] += 1;
                }
            }
            Some(Err(reason)) => lost.push(Loss {
                path: sample.path.clone(),
                class: sample.class,
                reason: reason.clone(),
            }),
            None => {}
        }
    }
    let kept = match all {
        0 => String::new(),
        n => format!("the features of the other {n} are kept; "),
    };
    check_losses(&dataset.root, &dataset.classes, (&used, all), &lost, &kept)
}

/// Returns whether nothing is to be done about an image: it has a row, or is not an image. A file that could not be read
/// may be back.
fn is_done(outcome: &Option<std::result::Result<SourceFacts, String>>) -> bool {
    match outcome {
        None => false,
        Some(Ok(_)) => true,
        Some(Err(reason)) => !Loss::is_unread(reason),
    }
}

/// Runs the remaining images, and writes their rows.
fn fill(
    backbone: &Backbone,
    dataset: &Dataset,
    pictures: &[Planned],
    partial: &mut Partial,
    params: &PipelineParams,
    plan_view: &Option<View>,
    progress: &Progress,
) -> Result<()> {
    let todo: Vec<usize> = (0..pictures.len())
        .filter(|&slot| !is_done(&partial.outcomes()[slot]))
        .collect();
    let paths: Vec<&Path> = todo
        .iter()
        .map(|&slot| pictures[slot].path.as_path())
        .collect();
    let total = pictures.len() as u64;
    let mut done = total - todo.len() as u64;
    let mut last_checkpoint = Instant::now();
    let mut row = Vec::new();
    let streamed = stream(
        &Stream {
            root: &dataset.root,
            pictures: &PathList::new(&paths),
            params,
            progress,
            view: plan_view.as_ref(),
            version: None,
        },
        || backbone.session(),
        |outcome| {
            done += 1;
            let slot = todo[outcome.place];
            let path = pictures[slot].path.clone();
            match outcome.values {
                Ok((facts, values)) => {
                    let started = Instant::now();
                    encode(&values, params.dtype, &mut row);
                    partial.write_row(slot, &path, &row, facts)?;
                    progress.emit(Event::ImageDone {
                        worker: outcome.worker,
                        path,
                        done,
                        total,
                        decode_us: outcome.decode.as_micros() as u64,
                        infer_us: outcome.infer.as_micros() as u64,
                        write_us: started.elapsed().as_micros() as u64,
                    });
                }
                Err(reason) => {
                    partial.skip(slot, &path, reason.clone());
                    progress.emit(Event::ImageSkipped {
                        path,
                        reason,
                        done,
                        total,
                    });
                }
            }
            if last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                partial.checkpoint()?;
                progress.emit(Event::Checkpoint { rows: done });
                last_checkpoint = Instant::now();
            }
            Ok(())
        },
    );
    let safe = partial.checkpoint();
    streamed.and(safe)
}

/// The little-endian bytes of a row.
fn encode(values: &[f32], dtype: Dtype, row: &mut Vec<u8>) {
    row.clear();
    match dtype {
        Dtype::F32 => row.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        Dtype::F16 => row.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
    }
}

fn finish(
    out: &Path,
    partial: Partial,
    plan: &Plan,
    pictures: &[Planned],
    dataset: &Dataset,
    backbone: &Backbone,
) -> Result<()> {
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    for (picture, outcome) in pictures.iter().zip(partial.outcomes()) {
        match outcome {
            Some(Ok(source)) => rows.push(IndexRow {
                path: picture.path.clone(),
                class: picture.class,
                split: picture.split,
                source: source.clone(),
            }),
            Some(Err(reason)) => errors.push((picture.path.clone(), reason.clone())),
            None => {}
        }
    }
    if rows.is_empty() {
        let reason = errors
            .first()
            .map_or("there are none", |(_, reason)| reason.as_str());
        return Err(Error::Dataset {
            path: dataset.root.clone(),
            problem: format!(
                "none of its {} files is a usable image; the first {reason}",
                pictures.len()
            ),
        });
    }
    let meta = StoreMeta {
        format_version: FORMAT_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        dataset: dataset.root.to_string_lossy().into_owned(),
        model: backbone.source().to_owned(),
        backbone: plan.backbone.clone(),
        feature_shape: plan.feature_shape.clone(),
        arrays: plan.arrays.clone(),
        dtype: plan.dtype,
        view: plan.view.clone(),
        rows: rows.len() as u64,
        errors: errors.len() as u64,
        classes: dataset.classes.clone(),
    };
    let mut meta_json = serde_json::to_vec_pretty(&meta).unwrap_or_default();
    meta_json.push(b'\n');
    partial.commit(
        plan,
        &table::index_csv(&rows, &dataset.classes),
        &table::errors_csv(&errors),
        &meta_json,
    )?;
    journal::roll_forward(out)
}
