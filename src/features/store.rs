//! The feature store: a folder of plain files that other tools can open.
//!
//! | file | what |
//! | --- | --- |
//! | `features.npy` | N×D, or N×H×W×C for unpooled maps; float32 or float16, little-endian, C order |
//! | `features-<cut>.npy` | one such array per cut, instead of `features.npy`, if there are several cuts |
//! | `index.csv` | one line per row: [`IndexRow`] |
//! | `errors.csv` | images that have no row, with the reason |
//! | `meta.json` | [`StoreMeta`]: the backbone, its cut and preprocessing, the counts |
//! | `partial/` | an unfinished run, see [`super::journal`] |
//! | `run.toml`, `events.jsonl` | settings and events of the latest run, written by the jobs |
//!
//! Rows are in path order. A store is finished when there is no `partial` folder and a `meta.json`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::matrix::{Dtype, FeatureMatrix};
use super::npy;
use super::store_lock::lock_store;
use super::view::View;
use super::{journal, table};
use crate::backbone::{BackboneId, CutFeatures, Cuts};
use crate::dataset::Split;
use crate::disk::{is_there, open_own_to_read, read_exact_at, read_own};
use crate::error::{Error, PathRole, Result, shown};
use crate::foreign::data_fault;

/// Maximum bytes of `meta.json`; most of them are class names.
const MAX_META_BYTES: u64 = 64 << 20;

/// Maximum bytes of a row: it is held in memory. VGG16's largest maps have 13 MB.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Maximum number of letters that a cut gives to the name of its array; file systems have 255 for the whole.
const MAX_CUT_LETTERS: usize = 200;

pub(super) const FEATURES: &str = "features.npy";
pub(super) const INDEX: &str = "index.csv";
pub(super) const ERRORS: &str = "errors.csv";
pub(super) const META: &str = "meta.json";

/// Version of the layout of the folder; a store of another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Metadata of one row of `features.npy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The image, relative to the dataset.
    pub path: PathBuf,
    /// Index into [`StoreMeta::classes`]; `None` for unlabelled images.
    pub class: Option<usize>,
    /// The split from the dataset, if it has splits.
    pub split: Option<Split>,
    /// Metadata of the image file.
    pub source: SourceFacts,
}

/// Metadata of an image file.
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
    /// The tensor at which the backbone is cut.
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
            .take(MAX_CUT_LETTERS)
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

/// Returns whether `name` is that of an array's file, as [`arrays_of`] makes them: a plain name in the store's folder.
pub(super) fn is_array(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with("features") && name.ends_with(".npy") && name.chars().all(plain)
}

/// Bytes of the file of an array with `rows` rows of the shape `shape`; `None` if no file can be that large, if a row
/// is empty, or if it is larger than that of any network ([`MAX_ROW_BYTES`]).
pub(super) fn array_bytes(rows: u64, shape: &[usize], dtype: Dtype) -> Option<u64> {
    let row = shape.iter().try_fold(dtype.bytes(), |product, &length| {
        product.checked_mul(length).filter(|&bytes| bytes > 0)
    })?;
    if row > MAX_ROW_BYTES {
        return None;
    }
    let bytes = rows.checked_mul(row as u64)?;
    let whole = bytes.checked_add(npy::HEADER_BYTES as u64)?;
    (i64::try_from(whole).is_ok() && usize::try_from(whole).is_ok()).then_some(whole)
}

/// The contents of `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoreMeta {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the program that wrote it.
    pub program_version: String,
    /// The folder or CSV file that the images came from, as it was given.
    pub dataset: String,
    /// Name or path of the backbone, as it was given.
    pub model: String,
    /// Identity of the backbone that computed the features.
    pub backbone: BackboneId,
    /// Shape of one row: `[D]` or `[H, W, C]`; with several arrays `[ΣD]`, side by side.
    pub feature_shape: Vec<usize>,
    /// The arrays of a store with several; empty where `features.npy` holds all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayMeta>,
    /// Type of one value.
    pub dtype: Dtype,
    /// The augmented view that each row is of; `None` for the images themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// Rows of `features.npy`.
    pub rows: u64,
    /// Lines of `errors.csv`.
    pub errors: u64,
    /// Class names in the order of their indices; empty for unlabelled images.
    pub classes: Vec<String>,
}

impl StoreMeta {
    /// Returns whether its files are files of a store, and of sizes that files can have.
    fn is_sound(&self) -> bool {
        let has_size = |shape: &[usize]| array_bytes(self.rows, shape, self.dtype).is_some();
        let mut sum = Some(0usize);
        for array in &self.arrays {
            if !is_array(&array.file) || !has_size(&array.shape) {
                return false;
            }
            sum = sum.and_then(|sum| sum.checked_add(array.shape.iter().product()));
        }
        has_size(&self.feature_shape) && sum.is_some()
    }

    /// Number of values in a row.
    pub fn feature_len(&self) -> usize {
        self.feature_shape.iter().product()
    }
}

/// A finished store, opened for reading; its features stay on disk.
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
                what: PathRole::FeatureStore,
                path: dir.to_owned(),
            });
        }
        if journal::is_committed(dir) {
            let _lock = lock_store(dir)?;
            journal::roll_forward(dir)?;
        }
        let meta_path = dir.join(META);
        if !is_there(&meta_path) {
            return Err(fail(if dir.join(journal::PARTIAL).exists() {
                "it is incomplete; run the same `tl-batch extract` again to finish it".into()
            } else {
                "it has no meta.json; create a store with `tl-batch extract`".into()
            }));
        }
        let meta = read_meta(dir)?;
        let open = |file: &str, shape: &[usize]| open_array(dir, file, &meta, shape).map(Arc::new);
        let arrays = meta
            .arrays
            .iter()
            .map(|array| open(&array.file, &array.shape))
            .collect::<Result<Vec<_>>>()?;
        let matrix = match arrays.is_empty() {
            true => open(FEATURES, &meta.feature_shape)?,
            false => Arc::new(FeatureMatrix::side_by_side(arrays.clone())),
        };
        if matrix.dim() != meta.feature_len() {
            return Err(fail(
                "its arrays do not match the features in meta.json; extract again to a new folder"
                    .into(),
            ));
        }
        let index = table::read_index(&dir.join(INDEX), &meta.classes)?;
        if index.len() as u64 != meta.rows {
            return Err(fail(format!(
                "index.csv has {} rows, meta.json says {}; extract again to a new folder",
                index.len(),
                meta.rows
            )));
        }
        Ok(FeatureStore {
            dir: dir.to_owned(),
            meta,
            index,
            arrays,
            matrix,
        })
    }

    /// Restricts a store with several arrays to the one of the cut `cut`.
    ///
    /// # Errors
    /// [`Error::Parameter`], listing the available cuts.
    pub fn narrowed_to(mut self, cut: &str) -> Result<FeatureStore> {
        if self.meta.backbone.cut.as_slice() == [cut] {
            return Ok(self);
        }
        let place = self.meta.arrays.iter().position(|array| array.cut == cut);
        let Some(place) = place else {
            return Err(Error::Parameter {
                name: "--feature-layer",
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

    /// Its metadata.
    pub fn meta(&self) -> &StoreMeta {
        &self.meta
    }

    /// Its rows' images, in path order.
    pub fn index(&self) -> &[IndexRow] {
        &self.index
    }

    /// Its features, N×D; maps count as one vector each, and several arrays stand side by side.
    pub fn matrix(&self) -> &FeatureMatrix {
        &self.matrix
    }

    /// Lets training draw from augmented views of the rows, or take them in turn, one per epoch; images that a
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
                problem: "it has images without a class; training needs one folder per class, or --labels".into(),
            })
    }

    /// Images that have no row, with the reason.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Store`].
    pub fn errors(&self) -> Result<Vec<(PathBuf, String)>> {
        table::read_errors(&self.dir.join(ERRORS))
    }
}

/// Opens one array of the store in `dir`, whose rows have the shape `shape`.
fn open_array(dir: &Path, file: &str, meta: &StoreMeta, shape: &[usize]) -> Result<FeatureMatrix> {
    let broken = |problem: &str| Error::Store {
        path: dir.to_owned(),
        problem: format!("{file} {problem}; extract again to a new folder"),
    };
    let path = dir.join(file);
    let opened = open_own_to_read(&path).map_err(Error::io("read", &path))?;
    let mut found = [0; npy::HEADER_BYTES];
    let read = read_exact_at(&opened, &mut found, 0);
    if read.is_err() || found != npy::header(meta.dtype, meta.rows, shape) {
        return Err(broken(if npy::is_big_endian(&found) {
            "is big-endian; only little-endian arrays are supported"
        } else {
            "does not have the shape given in meta.json"
        }));
    }
    let rows = usize::try_from(meta.rows).unwrap_or(usize::MAX);
    let dim = shape.iter().product();
    FeatureMatrix::stored(&path, opened, npy::HEADER_BYTES, rows, dim, meta.dtype)
}

/// Reads `meta.json` of the store in `dir`.
pub(super) fn read_meta(dir: &Path) -> Result<StoreMeta> {
    let path = dir.join(META);
    let fail = |problem: String| Error::Store {
        path: dir.to_owned(),
        problem,
    };
    let text = read_own(&path, MAX_META_BYTES)?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| {
        fail(format!(
            "its meta.json is damaged: {}; extract again to a new folder",
            data_fault(&e)
        ))
    })?;
    let version = value
        .get("format-version")
        .and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(FORMAT_VERSION)) {
        return Err(fail(format!(
            "it has format version {}, this program reads version {FORMAT_VERSION}; extract again to a new folder",
            version.map_or("unknown".to_owned(), |v| v.to_string())
        )));
    }
    let meta: StoreMeta = serde_json::from_value(value).map_err(|e| {
        fail(format!(
            "its meta.json is damaged: {}; extract again to a new folder",
            data_fault(&e)
        ))
    })?;
    match meta.is_sound() {
        true => Ok(meta),
        false => Err(fail(
            "its meta.json has invalid file names or sizes; extract again to a new folder".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_a_plain_name_and_has_the_size_of_a_file() {
        for name in ["features.npy", "features-conv_2-2.npy"] {
            assert!(is_array(name), "{name}");
        }
        for name in [
            "../features.npy",
            "features/../../x.npy",
            "features\\x.npy",
            "meta.json",
            "features-\n.npy",
            "/features.npy",
        ] {
            assert!(!is_array(name), "{name}");
        }
        assert_eq!(array_bytes(3, &[2, 5], Dtype::F16), Some(128 + 60));
        assert_eq!(array_bytes(0, &[1280], Dtype::F32), Some(128));
        for (rows, shape) in [
            (1 << 60, vec![1280]),
            (1 << 62, vec![1]),
            (1, vec![usize::MAX, 2]),
            (u64::MAX, vec![1]),
            (u64::MAX, vec![0]),
            (0, vec![1 << 28, 2]),
        ] {
            assert_eq!(
                array_bytes(rows, &shape, Dtype::F32),
                None,
                "{rows} {shape:?}"
            );
        }
    }
}
