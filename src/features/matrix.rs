//! Rows of features as training reads them: in memory, or from a file that the caller opened.
//!
//! Files are read by position, not memory-mapped: truncating a mapped file would end the process with a signal; here
//! it is an error.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use ndarray::{Array2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use crate::disk::read_exact_at;
use crate::error::{Error, Result};

/// A thread reads at most this much of a row at a time.
const PIECE_BYTES: usize = 64 << 10;

thread_local! {
    /// Buffer for a piece, reused because millions of rows are read.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The type of the numbers of a stored matrix; little-endian in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dtype {
    /// IEEE 754 binary32, 4 bytes.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// IEEE 754 binary16, 2 bytes: half the space, three decimal digits.
    #[serde(rename = "float16")]
    F16,
}

impl Dtype {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }

    /// The gap between 1 and the next larger number.
    pub fn epsilon(self) -> f64 {
        match self {
            Dtype::F32 => f64::from(f32::EPSILON),
            Dtype::F16 => f16::EPSILON.to_f64(),
        }
    }
}

/// Features of `rows` images with `dim` numbers each, row-major, read as f32 a few rows at a time.
///
/// A stored matrix stays on disk: a row costs memory only while it is read.
#[derive(Debug)]
pub struct FeatureMatrix {
    rows: usize,
    dim: usize,
    source: Source,
    /// Augmented views, each with the place of every row in it.
    views: Vec<(Arc<FeatureMatrix>, Vec<Option<usize>>)>,
    /// Whether each epoch takes the next view instead of a random one.
    in_turn: bool,
}

#[derive(Debug)]
enum Source {
    Array(Array2<f32>),
    Stored {
        file: File,
        path: PathBuf,
        byte_offset: u64,
        dtype: Dtype,
    },
    SideBySide(Vec<Arc<FeatureMatrix>>),
}

impl FeatureMatrix {
    /// Takes an array `[rows, dim]`.
    pub fn from_array(array: Array2<f32>) -> FeatureMatrix {
        let (rows, dim) = array.dim();
        FeatureMatrix {
            rows,
            dim,
            source: Source::Array(array),
            views: Vec::new(),
            in_turn: false,
        }
    }

    /// Takes a file that holds `rows` × `dim` numbers, row-major, from `byte_offset` on.
    ///
    /// Bytes after the last row are ignored. `path` is the file's name, for error messages only.
    ///
    /// # Errors
    /// [`Error::Store`] if the file is too short for the rows; [`Error::Io`] if its length cannot be found.
    pub fn stored(
        path: &Path,
        file: File,
        byte_offset: usize,
        rows: usize,
        dim: usize,
        dtype: Dtype,
    ) -> Result<FeatureMatrix> {
        let facts = file.metadata().map_err(Error::io("read", path))?;
        let end = rows
            .checked_mul(dim)
            .and_then(|numbers| numbers.checked_mul(dtype.bytes()))
            .and_then(|bytes| bytes.checked_add(byte_offset));
        if end.is_none_or(|end| end as u64 > facts.len()) {
            return Err(Error::Store {
                path: path.to_path_buf(),
                problem: format!(
                    "{} bytes are too few for {rows} rows of {dim} values; extract the features again",
                    facts.len()
                ),
            });
        }
        Ok(FeatureMatrix {
            rows,
            dim,
            source: Source::Stored {
                file,
                path: path.to_path_buf(),
                byte_offset: byte_offset as u64,
                dtype,
            },
            views: Vec::new(),
            in_turn: false,
        })
    }

    /// The gap between 1 and the next larger number, of the type in which its numbers are stored.
    pub fn epsilon(&self) -> f64 {
        match &self.source {
            Source::Array(_) => Dtype::F32.epsilon(),
            Source::Stored { dtype, .. } => dtype.epsilon(),
            Source::SideBySide(parts) => parts.iter().map(|p| p.epsilon()).fold(0.0, f64::max),
        }
    }

    /// Adds an augmented view of the rows; `places` has the row of `view` that belongs to each row here, if
    /// there is one. Only [`view_into`](Self::view_into) looks at views.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the view's rows have another length.
    pub fn add_view(&mut self, view: Arc<FeatureMatrix>, places: Vec<Option<usize>>) -> Result<()> {
        if view.dim != self.dim {
            return Err(Error::Mismatch {
                what: "length of the rows of an augmented view".into(),
                expected: self.dim.to_string(),
                found: view.dim.to_string(),
                hint: "extract the views with the same backbone, feature layer and pooling".into(),
            });
        }
        self.views.push((view, places));
        Ok(())
    }

    /// Makes each epoch take the next view of all rows instead of drawing one per row.
    pub fn take_views_in_turn(&mut self) {
        self.in_turn = true;
    }

    /// Whether each epoch takes the next view.
    pub fn views_in_turn(&self) -> bool {
        self.in_turn
    }

    /// Number of augmented views.
    pub fn views(&self) -> usize {
        self.views.len()
    }

    /// Copies view `view` of row `row` into `out`: 0 is the row itself, which also stands for a view that has
    /// no such row.
    ///
    /// # Errors
    /// Like [`row_into`](Self::row_into).
    ///
    /// # Panics
    /// Like [`row_into`](Self::row_into).
    pub fn view_into(&self, row: usize, view: usize, out: &mut [f32]) -> Result<()> {
        let found = view.checked_sub(1).and_then(|v| self.views.get(v));
        let place = found.and_then(|(matrix, places)| Some((matrix, (*places.get(row)?)?)));
        match place {
            Some((matrix, place)) => matrix.row_into(place, out),
            None => self.row_into(row, out),
        }
    }

    /// Concatenates matrices with the same rows: `[rows, ΣD]`.
    ///
    /// # Panics
    /// If there is none, or if they differ in their number of rows.
    pub(super) fn side_by_side(parts: Vec<Arc<FeatureMatrix>>) -> FeatureMatrix {
        let rows = parts[0].rows;
        assert!(parts.iter().all(|part| part.rows == rows), "the same rows");
        FeatureMatrix {
            rows,
            dim: parts.iter().map(|part| part.dim).sum(),
            source: Source::SideBySide(parts),
            views: Vec::new(),
            in_turn: false,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Copies row `row` into `out`.
    ///
    /// # Errors
    /// [`Error::Store`] if the file has become shorter since it was opened; [`Error::Io`].
    ///
    /// # Panics
    /// If `row` is not below [`rows`](Self::rows), or `out` is not [`dim`](Self::dim) long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<()> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.dim, "length of a row");
        match &self.source {
            Source::Array(array) => {
                for (out, &value) in out.iter_mut().zip(array.row(row)) {
                    *out = value;
                }
                Ok(())
            }
            Source::SideBySide(parts) => {
                let mut rest = out;
                for part in parts {
                    let (own, others) = rest.split_at_mut(part.dim);
                    part.row_into(row, own)?;
                    rest = others;
                }
                Ok(())
            }
            Source::Stored {
                file,
                path,
                byte_offset,
                dtype,
            } => {
                let row_bytes = (self.dim * dtype.bytes()) as u64;
                let begin = byte_offset + row as u64 * row_bytes;
                read_numbers(file, begin, *dtype, out).map_err(|e| match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => Error::Store {
                        path: path.clone(),
                        problem: "it was truncated while being read; extract the features again"
                            .into(),
                    },
                    _ => Error::io("read", path)(e),
                })
            }
        }
    }

    /// Copies the rows `indices` in that order into `out`, `[indices.len(), dim]`, row-major.
    ///
    /// # Errors
    /// Like [`row_into`](Self::row_into).
    ///
    /// # Panics
    /// If an index is not below [`rows`](Self::rows), or `out` has another shape or layout.
    pub fn gather(&self, indices: &[usize], out: &mut ArrayViewMut2<f32>) -> Result<()> {
        assert_eq!(out.dim(), (indices.len(), self.dim), "shape of the batch");
        assert!(out.is_standard_layout(), "the batch must be row-major");
        for (&index, mut row) in indices.iter().zip(out.rows_mut()) {
            if let Some(row) = row.as_slice_mut() {
                self.row_into(index, row)?;
            }
        }
        Ok(())
    }
}

/// Fills `out` with the numbers that begin at `offset`.
fn read_numbers(
    file: &File,
    mut offset: u64,
    dtype: Dtype,
    out: &mut [f32],
) -> std::io::Result<()> {
    PIECE.with_borrow_mut(|piece| {
        piece.resize(PIECE_BYTES, 0);
        for part in out.chunks_mut(PIECE_BYTES / dtype.bytes()) {
            let bytes = &mut piece[..part.len() * dtype.bytes()];
            read_exact_at(file, bytes, offset)?;
            offset += bytes.len() as u64;
            match dtype {
                Dtype::F32 => {
                    for (out, bytes) in part.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *out = f32::from_le_bytes(*bytes);
                    }
                }
                Dtype::F16 => {
                    for (out, bytes) in part.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *out = f16::from_le_bytes(*bytes).to_f32();
                    }
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ndarray::array;

    use super::*;

    fn stored(bytes: &[u8], offset: usize, rows: usize, dtype: Dtype) -> Result<FeatureMatrix> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FeatureMatrix::stored(Path::new("x.npy"), file, offset, rows, 2, dtype)
    }

    #[test]
    fn gathers_the_same_rows_from_memory_and_from_both_stored_types() {
        let rows = array![[1.0f32, -2.5], [0.5, 1024.0], [-0.125, 0.0]];
        let f32_bytes: Vec<u8> = [9u8; 8]
            .into_iter()
            .chain(rows.iter().flat_map(|value| value.to_le_bytes()))
            .collect();
        let f16_bytes: Vec<u8> = rows
            .iter()
            .flat_map(|&value| f16::from_f32(value).to_le_bytes())
            .collect();
        let matrices = [
            FeatureMatrix::from_array(rows.clone()),
            stored(&f32_bytes, 8, 3, Dtype::F32).unwrap(),
            stored(&f16_bytes, 0, 3, Dtype::F16).unwrap(),
        ];
        for matrix in &matrices {
            assert_eq!((matrix.rows(), matrix.dim()), (3, 2));
            let mut out = Array2::zeros((2, 2));
            matrix.gather(&[2, 0], &mut out.view_mut()).unwrap();
            assert_eq!(out, array![[-0.125, 0.0], [1.0, -2.5]]);
        }
    }

    #[test]
    fn views_stand_in_for_rows_where_they_have_them() {
        let mut matrix = FeatureMatrix::from_array(array![[1.0f32], [2.0], [3.0]]);
        let view = Arc::new(FeatureMatrix::from_array(array![[30.0f32], [10.0]]));
        matrix.add_view(view, vec![Some(1), None, Some(0)]).unwrap();
        let of = |row, view| {
            let mut out = [0.0];
            matrix.view_into(row, view, &mut out).unwrap();
            out[0]
        };
        assert_eq!([of(0, 0), of(1, 0), of(2, 0)], [1.0, 2.0, 3.0]);
        assert_eq!([of(0, 1), of(1, 1), of(2, 1)], [10.0, 2.0, 30.0]);
        let wide = Arc::new(FeatureMatrix::from_array(array![[1.0f32, 2.0]]));
        assert!(matrix.add_view(wide, vec![None; 3]).is_err());
    }

    #[test]
    fn matrices_side_by_side_give_their_rows_one_behind_the_other() {
        let left = Arc::new(FeatureMatrix::from_array(array![[1.0f32, 2.0], [3.0, 4.0]]));
        let right = Arc::new(FeatureMatrix::from_array(array![[5.0f32], [6.0]]));
        let both = FeatureMatrix::side_by_side(vec![left, right]);
        assert_eq!((both.rows(), both.dim()), (2, 3));
        let mut out = Array2::zeros((2, 3));
        both.gather(&[1, 0], &mut out.view_mut()).unwrap();
        assert_eq!(out, array![[3.0, 4.0, 6.0], [1.0, 2.0, 5.0]]);
    }

    #[test]
    fn rejects_a_file_that_is_too_short_at_once_or_later() {
        for (length, rows, dtype) in [(23, 3, Dtype::F32), (32, usize::MAX, Dtype::F16)] {
            let found = stored(&vec![0; length], 0, rows, dtype);
            assert!(matches!(found, Err(Error::Store { .. })));
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(24).unwrap();
        let other = file.try_clone().unwrap();
        let path = Path::new("x.npy");
        let matrix = FeatureMatrix::stored(path, file, 0, 3, 2, Dtype::F32).unwrap();
        let mut row = [1.0; 2];
        matrix.row_into(2, &mut row).unwrap();
        other.set_len(20).unwrap();
        matrix.row_into(1, &mut row).unwrap();
        let error = matrix.row_into(2, &mut row).unwrap_err().to_string();
        assert!(error.contains("x.npy: it was truncated"), "{error}");
    }

    #[test]
    fn rows_that_are_longer_than_a_piece_come_whole() {
        let dim = PIECE_BYTES / 4 * 2 + 3;
        let values: Vec<f32> = (0..2 * dim).map(|i| i as f32).collect();
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        let path = Path::new("x.npy");
        let matrix = FeatureMatrix::stored(path, file, 0, 2, dim, Dtype::F32).unwrap();
        let mut row = vec![0.0; dim];
        matrix.row_into(1, &mut row).unwrap();
        assert_eq!(row, values[dim..]);
    }
}
