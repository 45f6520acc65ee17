//! A head's results on labelled rows.

use ndarray::{Array2, Axis};

use super::batches::Batches;
use super::head::Head;
use super::metrics::{ConfusionMatrix, first_of};
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::activation::softmax;
use crate::nn::loss::cross_entropy_sum;
use crate::progress::Progress;

/// Results of a head on labelled rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Number of rows.
    pub rows: usize,
    /// Mean cross-entropy in nats, without smoothing, weights or penalty; 0 without rows.
    pub loss: f32,
    /// Accuracy, 0 to 1; 0 without rows.
    pub accuracy: f32,
    /// The confusion matrix.
    pub confusion: ConfusionMatrix,
}

/// Scores `head` on `rows` of `matrix`, of which `labels` (one for each row of the matrix) has the classes.
///
/// The predicted class is the one with the largest logit; on a tie the lower index.
///
/// # Errors
/// [`Error::Mismatch`] if the shapes do not fit, a label is not a class of the head, or a feature is not
/// finite; [`Error::Cancelled`].
pub fn evaluate(
    head: &Head,
    matrix: &FeatureMatrix,
    labels: &[usize],
    rows: &[usize],
    progress: &Progress,
) -> Result<Score> {
    check_dim(head, matrix)?;
    check_rows(matrix, rows)?;
    check_labels(matrix, labels, rows, head.classes())?;
    let mut confusion = ConfusionMatrix::new(head.classes());
    let mut sum = 0.0;
    let mut batches = Batches::new(matrix, rows);
    while let Some(batch) = batches.next_batch(progress)? {
        let logits = head.logits(batch.features);
        let truths: Vec<usize> = batch.rows.iter().map(|&row| labels[row]).collect();
        sum += cross_entropy_sum(logits.view(), &truths);
        for (&truth, logits) in truths.iter().zip(logits.rows()) {
            confusion.record(truth, first_of(logits));
        }
    }
    Ok(Score {
        rows: rows.len(),
        loss: (sum / rows.len().max(1) as f64) as f32,
        accuracy: confusion.accuracy() as f32,
        confusion,
    })
}

/// Probabilities `[rows, classes]` of `rows` of `matrix`, in their order.
///
/// # Errors
/// [`Error::Mismatch`] if the shapes do not fit or a feature is not finite; [`Error::Cancelled`].
pub fn probabilities(
    head: &Head,
    matrix: &FeatureMatrix,
    rows: &[usize],
    progress: &Progress,
) -> Result<Array2<f32>> {
    check_dim(head, matrix)?;
    check_rows(matrix, rows)?;
    let mut found = Array2::zeros((rows.len(), head.classes()));
    let mut begin = 0;
    let mut batches = Batches::new(matrix, rows);
    while let Some(batch) = batches.next_batch(progress)? {
        let end = begin + batch.rows.len();
        let logits = head.logits(batch.features);
        found
            .slice_axis_mut(Axis(0), (begin..end).into())
            .assign(&softmax(logits.view()));
        begin = end;
    }
    Ok(found)
}

fn check_dim(head: &Head, matrix: &FeatureMatrix) -> Result<()> {
    if head.inputs() == matrix.dim() {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: "features in a row".to_string(),
        expected: head.inputs().to_string(),
        found: matrix.dim().to_string(),
        hint: "use features of the backbone and feature layer that the head was trained on"
            .to_string(),
    })
}

/// Checks row numbers against the matrix.
pub(crate) fn check_rows(matrix: &FeatureMatrix, rows: &[usize]) -> Result<()> {
    match rows.iter().find(|&&row| row >= matrix.rows()) {
        None => Ok(()),
        Some(row) => Err(Error::Mismatch {
            what: "number of a row".to_string(),
            expected: format!("below {}", matrix.rows()),
            found: row.to_string(),
            hint: "the list of rows is for other features".to_string(),
        }),
    }
}

/// Checks the labels of `rows`, which are in range, against the matrix and the number of classes.
pub(crate) fn check_labels(
    matrix: &FeatureMatrix,
    labels: &[usize],
    rows: &[usize],
    classes: usize,
) -> Result<()> {
    if labels.len() != matrix.rows() {
        return Err(Error::Mismatch {
            what: "number of labels".to_string(),
            expected: matrix.rows().to_string(),
            found: labels.len().to_string(),
            hint: "give one label for each row of features".to_string(),
        });
    }
    match rows.iter().find(|&&row| labels[row] >= classes) {
        None => Ok(()),
        Some(&row) => Err(Error::Mismatch {
            what: format!("class of row {row}"),
            expected: format!("below {classes}"),
            found: labels[row].to_string(),
            hint: "the labels are for another list of classes".to_string(),
        }),
    }
}
