//! The feature store: a folder that other tools open without us.
//!
//! | file | what |
//! | --- | --- |
//! | `features.npy` | N×D, or N×H×W×C for unpooled maps; float32 or float16, little-endian, C order |
//! | `index.csv` | one line a row: [`IndexRow`] |
//! | `errors.csv` | pictures that have no row, with the reason |
//! | `meta.json` | [`StoreMeta`]: the base, its cut and preprocessing, the counts |
//! | `partial/` | an unfinished run, see [`super::journal`] |
//!
//! Rows are in path order. A store is finished when there is no `partial` folder and a `meta.json`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::matrix::{Dtype, FeatureMatrix};
use super::npy;
use super::view::View;
use super::{journal, table};
use crate::backbone::BackboneId;
use crate::dataset::Split;
use crate::error::{Error, Result};

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
    /// Shape of one row: `[D]` or `[H, W, C]`.
    pub feature_shape: Vec<usize>,
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
    matrix: FeatureMatrix,
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
        journal::roll_forward(dir)?;
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
        let features_path = dir.join(FEATURES);
        let file = File::open(&features_path).map_err(Error::io("read", &features_path))?;
        // SAFETY: the map is read only. A finished store is never changed in place: a new run renames new
        // files over the old names, which leaves the mapped file as it was. Only a foreign program could
        // truncate it, which is the risk that every reader of mapped files takes.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("read", &features_path))?;
        let header = npy::header(meta.dtype, meta.rows, &meta.feature_shape);
        if map.get(..npy::HEADER_BYTES) != Some(&header[..]) {
            return Err(fail(
                "features.npy does not have the shape that meta.json says; extract again into a new folder".into(),
            ));
        }
        let rows = index.len();
        let matrix = FeatureMatrix::mapped(
            &features_path,
            map,
            npy::HEADER_BYTES,
            rows,
            meta.feature_len(),
            meta.dtype,
        )?;
        Ok(FeatureStore {
            dir: dir.to_owned(),
            meta,
            index,
            matrix,
        })
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

    /// Its features, N×D; maps count as one vector each.
    pub fn matrix(&self) -> &FeatureMatrix {
        &self.matrix
    }

    /// Lets training draw from augmented views of the rows; pictures that a view has no row of are taken as
    /// they are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a view's rows have another length.
    pub fn attach_views(&mut self, views: Vec<FeatureStore>) -> Result<()> {
        for view in views {
            let rows: HashMap<&Path, usize> = view
                .index
                .iter()
                .enumerate()
                .map(|(i, row)| (row.path.as_path(), i))
                .collect();
            let places = self.index.iter().map(|row| rows.get(row.path.as_path()));
            let places = places.map(|row| row.copied()).collect();
            self.matrix.add_view(view.matrix, places)?;
        }
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
