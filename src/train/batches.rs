//! Reads rows of features in order, in batches of bounded size.

use ndarray::{Array2, ArrayView2, Axis};

use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::progress::Progress;

/// Bytes of a batch: large enough for fast products, small enough for a board.
const BATCH_BYTES: usize = 4 << 20;

/// Iterates over chosen rows of a matrix; memory is one batch of at most 4 MiB (or one row).
pub(crate) struct Batches<'a> {
    matrix: &'a FeatureMatrix,
    rows: &'a [usize],
    buffer: Array2<f32>,
}

/// Some rows of a matrix.
pub(crate) struct Batch<'a> {
    /// Numbers of the rows in the matrix.
    pub(crate) rows: &'a [usize],
    /// Features, `[rows, dim]`, all finite.
    pub(crate) features: ArrayView2<'a, f32>,
}

impl<'a> Batches<'a> {
    /// Will walk over `rows` in their order.
    pub(crate) fn new(matrix: &'a FeatureMatrix, rows: &'a [usize]) -> Batches<'a> {
        let row_bytes = matrix.dim().max(1) * size_of::<f32>();
        let length = (BATCH_BYTES / row_bytes).clamp(1, rows.len().max(1));
        Batches {
            matrix,
            rows,
            buffer: Array2::zeros((length, matrix.dim())),
        }
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a number is not finite, those of [`FeatureMatrix::gather`], and [`Error::Cancelled`].
    pub(crate) fn next_batch(&mut self, progress: &Progress) -> Result<Option<Batch<'_>>> {
        progress.checkpoint()?;
        if self.rows.is_empty() {
            return Ok(None);
        }
        let length = self.buffer.nrows().min(self.rows.len());
        let (rows, rest) = self.rows.split_at(length);
        self.rows = rest;
        let mut features = self.buffer.slice_axis_mut(Axis(0), (..length).into());
        self.matrix.gather(rows, &mut features)?;
        for (&row, values) in rows.iter().zip(features.rows()) {
            check_finite(row, values.iter().copied())?;
        }
        Ok(Some(Batch {
            rows,
            features: self.buffer.slice_axis(Axis(0), (..length).into()),
        }))
    }
}

fn check_finite(row: usize, values: impl Iterator<Item = f32>) -> Result<()> {
    for (column, value) in values.enumerate() {
        if !value.is_finite() {
            return Err(Error::Mismatch {
                what: format!("features of row {row}"),
                expected: "finite numbers".to_string(),
                found: format!("{value} in column {column}"),
                hint: "extract the features again, or remove that image".to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_over_all_rows_in_their_order_in_bounded_batches() {
        let dim = BATCH_BYTES / 4 / 2;
        let array = Array2::from_shape_fn((5, dim), |(row, _)| row as f32);
        let matrix = FeatureMatrix::from_array(array);
        let mut batches = Batches::new(&matrix, &[4, 0, 3]);
        let mut found = Vec::new();
        while let Some(batch) = batches.next_batch(&Progress::silent()).unwrap() {
            found.push((batch.rows.to_vec(), batch.features.column(dim - 1).to_vec()));
        }
        assert_eq!(found, [(vec![4, 0], vec![4.0, 0.0]), (vec![3], vec![3.0])]);
    }
}
