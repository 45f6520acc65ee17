//! The feature store: a folder that other tools open without us.
//!
//! | file | what |
//! | --- | --- |
//! | `features.npy` | N×D, or N×H×W×C for unpooled maps; float32 or float16, little-endian, C order |
//! | `features-<cut>.npy` | one such array a cut, in place of `features.npy`, where there are several cuts |
//! | `index.csv` | one line a row: [`IndexRow`] |
//! | `errors.csv` | pictures that have no row, with the reason |
//! | `meta.json` | [`StoreMeta`]: the base, its cut and preprocessing, the counts |
//! | `partial/` | an unfinished run, see [`super::journal`] |
//! | `run.toml`, `events.jsonl` | settings and events of the latest run, written by the jobs |
//!
//! Rows are in path order. A store is finished when there is no `partial` folder and a `meta.json`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::claim::held;
use super::matrix::{Dtype, FeatureMatrix};
use super::npy;
use super::view::View;
use super::{journal, table};
use crate::backbone::{BackboneId, CutFeatures, Cuts};
use crate::dataset::Split;
use crate::error::{Error, Result, shown};

pub(super) const FEATURES: &str = "features.npy";
pub(super) const INDEX: &str = "index.csv";
pub(super) const ERRORS: &str = "errors.csv";
pub(super) const META: &str = "meta.json";

/// Version of the layout of the folder; a store of another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// What is known of one row of `features.npy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The picture, relative to the data set.
    pub path: PathBuf,
    /// Index into [`StoreMeta::classes`]; none for unlabelled pictures.
    pub class: Option<usize>,
    /// The split that the data set gives; none if it gives none.
    pub split: Option<Split>,
    /// What was read of the picture.
    pub source: SourceFacts,
}

/// What was read of a picture's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// Width in pixels, after EXIF orientation.
    pub width: u32,
    /// Height in pixels, after EXIF orientation.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
    /// Time of its last change, in nanoseconds since 1970, as the file system has it.
    pub modified_ns: i64,
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: String,
}

/// One array of a store with several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayMeta {
    /// Its file in the store's folder.
    pub file: String,
    /// The tensor at which the base is cut.
    pub cut: String,
    /// Shape of one row: `[D]` or `[H, W, C]`.
    pub shape: Vec<usize>,
}

/// The arrays of a store with the features of several cuts, each in its own file.
pub(super) fn arrays_of(parts: &[CutFeatures]) -> Vec<ArrayMeta> {
    let mut arrays: Vec<ArrayMeta> = Vec::new();
    for part in parts {
        let plain: String = part
            .cut
            .chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
                _ => '_',
            })
            .collect();
        let names = (1..).map(|i| match i {
            1 => format!("features-{plain}.npy"),
            i => format!("features-{plain}-{i}.npy"),
        });
        let is_free = |name: &String| arrays.iter().all(|array| array.file != *name);
        arrays.push(ArrayMeta {
            file: names.into_iter().find(is_free).unwrap_or_default(),
            cut: part.cut.clone(),
            shape: part.shape.clone(),
        });
    }
    arrays
}

/// The contents of `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoreMeta {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the program that wrote it.
    pub program_version: String,
    /// The folder or CSV file that the pictures came from, as it was given.
    pub dataset: String,
    /// Name or path of the base, as it was given.
    pub model: String,
    /// What made the features.
    pub backbone: BackboneId,
    /// Shape of one row: `[D]` or `[H, W, C]`; with several arrays `[ΣD]`, side by side.
    pub feature_shape: Vec<usize>,
    /// The arrays of a store with several; empty where `features.npy` holds all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayMeta>,
    /// Type of one value.
    pub dtype: Dtype,
    /// The augmented view that each row is of; none for the pictures themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// Rows of `features.npy`.
    pub rows: u64,
    /// Lines of `errors.csv`.
    pub errors: u64,
    /// Class names in the order of their indices; empty for unlabelled pictures.
    pub classes: Vec<String>,
}

impl StoreMeta {
    /// Number of values in a row.
    pub fn feature_len(&self) -> usize {
        self.feature_shape.iter().product()
    }
}

/// A finished store, opened for reading; its features stay on disk and are mapped.
pub struct FeatureStore {
    dir: PathBuf,
    meta: StoreMeta,
    index: Vec<IndexRow>,
    /// One for each of the meta's arrays.
    arrays: Vec<Arc<FeatureMatrix>>,
    matrix: Arc<FeatureMatrix>,
}

impl FeatureStore {
    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Store`] if it is unfinished, damaged, or of another
    /// version.
    pub fn open(dir: &Path) -> Result<FeatureStore> {
        let fail = |problem: String| Error::Store {
            path: dir.to_owned(),
            problem,
        };
        if !dir.exists() {
            return Err(Error::NotFound {
                what: "feature store",
                path: dir.to_owned(),
            });
        }
        if journal::is_committed(dir) {
            let _lock = held(dir)?;
            journal::roll_forward(dir)?;
        }
        let meta_path = dir.join(META);
        if !meta_path.exists() {
            return Err(fail(if dir.join(journal::PARTIAL).exists() {
                "it is unfinished; run the same `tl-batch extract` again to finish it".into()
            } else {
                "there is no meta.json in it; make a store with `tl-batch extract`".into()
            }));
        }
        let meta = read_meta(dir)?;
        let index = table::read_index(&dir.join(INDEX), &meta.classes)?;
        if index.len() as u64 != meta.rows {
            return Err(fail(format!(
                "index.csv has {} rows, meta.json says {}; extract again into a new folder",
                index.len(),
                meta.rows
            )));
        }
        let map = |file: &str, shape: &[usize]| map_array(dir, file, &meta, shape).map(Arc::new);
        let arrays = meta
            .arrays
            .iter()
            .map(|array| map(&array.file, &array.shape))
            .collect::<Result<Vec<_>>>()?;
        let matrix = match arrays.is_empty() {
            true => map(FEATURES, &meta.feature_shape)?,
            false => Arc::new(FeatureMatrix::side_by_side(arrays.clone())),
        };
        if matrix.dim() != meta.feature_len() {
            return Err(fail(
                "its arrays do not add up to the features that meta.json says; extract again into a new folder"
                    .into(),
            ));
        }
        Ok(FeatureStore {
            dir: dir.to_owned(),
            meta,
            index,
            arrays,
            matrix,
        })
    }

    /// Narrows a store of several arrays to the one of the cut `cut`: as if there were no other.
    ///
    /// # Errors
    /// [`Error::Parameter`] with the cuts that there are.
    pub fn narrowed_to(mut self, cut: &str) -> Result<FeatureStore> {
        if self.meta.backbone.cut.as_slice() == [cut] {
            return Ok(self);
        }
        let place = self.meta.arrays.iter().position(|array| array.cut == cut);
        let Some(place) = place else {
            return Err(Error::Parameter {
                name: "cut",
                value: cut.to_owned(),
                problem: format!(
                    "the feature store {} has {}",
                    shown(&self.dir),
                    self.meta.backbone.cut.as_slice().join(", ")
                ),
            });
        };
        self.matrix = self.arrays[place].clone();
        self.arrays.clear();
        let array = std::mem::take(&mut self.meta.arrays).swap_remove(place);
        self.meta.feature_shape = array.shape;
        self.meta.backbone.cut = Cuts::from(array.cut);
        Ok(self)
    }

    /// The features of one cut of a store with several arrays, in the order of [`StoreMeta::arrays`].
    pub fn arrays(&self) -> &[Arc<FeatureMatrix>] {
        &self.arrays
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What made it.
    pub fn meta(&self) -> &StoreMeta {
        &self.meta
    }

    /// Its rows' pictures, in path order.
    pub fn index(&self) -> &[IndexRow] {
        &self.index
    }

    /// Its features, N×D; maps count as one vector each, and several arrays stand side by side.
    pub fn matrix(&self) -> &FeatureMatrix {
        &self.matrix
    }

    /// Lets training draw from augmented views of the rows, or take them in turn, one an epoch; pictures that a
    /// view has no row of are taken as they are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a view's rows have another length.
    pub fn attach_views(&mut self, views: Vec<FeatureStore>, in_turn: bool) -> Result<()> {
        // Other holders of the matrix keep theirs without views.
        let mut matrix = FeatureMatrix::side_by_side(vec![self.matrix.clone()]);
        for view in views {
            let rows: HashMap<&Path, usize> = view
                .index
                .iter()
                .enumerate()
                .map(|(i, row)| (row.path.as_path(), i))
                .collect();
            let places = self.index.iter().map(|row| rows.get(row.path.as_path()));
            let places = places.map(|row| row.copied()).collect();
            matrix.add_view(view.matrix, places)?;
        }
        if in_turn {
            matrix.take_views_in_turn();
        }
        self.matrix = Arc::new(matrix);
        Ok(())
    }

    /// Class indices of all rows.
    ///
    /// # Errors
    /// [`Error::Store`] if a row has no class.
    pub fn labels(&self) -> Result<Vec<usize>> {
        self.index
            .iter()
            .map(|row| row.class)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Store {
                path: self.dir.clone(),
                problem: "it has pictures without a class; training wants a folder for each class, or --labels".into(),
            })
    }

    /// Pictures that have no row, with the reason.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Store`].
    pub fn errors(&self) -> Result<Vec<(PathBuf, String)>> {
        table::read_errors(&self.dir.join(ERRORS))
    }
}

/// Maps one array of the store in `dir`, whose rows have the shape `shape`.
fn map_array(dir: &Path, file: &str, meta: &StoreMeta, shape: &[usize]) -> Result<FeatureMatrix> {
    let broken = |problem: &str| Error::Store {
        path: dir.to_owned(),
        problem: format!("{file} {problem}; extract again into a new folder"),
    };
    if file.contains(['/', '\\']) {
        return Err(broken("lies outside of the store"));
    }
    let path = dir.join(file);
    let opened = File::open(&path).map_err(Error::io("read", &path))?;
    // SAFETY: the map is read only. A finished store is never changed in place: a new run renames new
    // files over the old names, which leaves the mapped file as it was. Only a foreign program could
    // truncate it, which is the risk that every reader of mapped files takes.
    let map = unsafe { Mmap::map(&opened) }.map_err(Error::io("read", &path))?;
    let header = npy::header(meta.dtype, meta.rows, shape);
    if map.get(..npy::HEADER_BYTES) != Some(&header[..]) {
        return Err(broken(if npy::is_big_endian(&map) {
            "holds big-endian numbers, and this program reads little-endian ones"
        } else {
            "does not have the shape that meta.json says"
        }));
    }
    let rows = usize::try_from(meta.rows).unwrap_or(usize::MAX);
    let dim = shape.iter().product();
    FeatureMatrix::mapped(&path, map, npy::HEADER_BYTES, rows, dim, meta.dtype)
}

/// Reads `meta.json` of the store in `dir`.
pub(super) fn read_meta(dir: &Path) -> Result<StoreMeta> {
    let path = dir.join(META);
    let fail = |problem: String| Error::Store {
        path: dir.to_owned(),
        problem,
    };
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| fail(format!("its meta.json is damaged: {e}")))?;
    let version = value
        .get("format-version")
        .and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(FORMAT_VERSION)) {
        return Err(fail(format!(
            "it has format version {}, this program reads version {FORMAT_VERSION}; extract again into a new folder",
            version.map_or("unknown".to_owned(), |v| v.to_string())
        )));
    }
    serde_json::from_value(value).map_err(|e| fail(format!("its meta.json is damaged: {e}")))
}
