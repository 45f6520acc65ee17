//! The head against scikit-learn: a convex fit ends in the same optimum, metrics are the same numbers.

use ndarray::Array2;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tl::features::FeatureMatrix;
use tl::progress::Progress;
use tl::train::{
    ClassScores, ClassWeights, ConfusionMatrix, Head, HeadParams, OptimizerName, ScheduleName, fit,
    log_loss, top_k_accuracy,
};

use crate::python::{python, run_python};

const ROWS: usize = 120;
const FEATURES: usize = 6;
const CLASSES: usize = 4;

/// A linear congruential generator (Numerical Recipes), uniform in −1 to 1.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Overlapping classes of 10 to 60 rows; features of several scales, away from 0.
fn data() -> (Array2<f32>, Vec<usize>) {
    let mut noise = Noise(2);
    let labels: Vec<usize> = (0..ROWS)
        .map(|row| match row % 12 {
            0 => 0,
            1..=2 => 1,
            3..=5 => 2,
            _ => 3,
        })
        .collect();
    let features = Array2::from_shape_fn((ROWS, FEATURES), |(row, feature)| {
        let scale = 1.0 + 0.2 * feature as f32;
        let centre = if labels[row] == feature { 0.7 } else { 0.0 };
        scale * (centre + noise.next()) + 0.5
    });
    (features, labels)
}

/// Runs `tests/python/sklearn_logistic.py` on `input` and reads its answer; none without a Python.
fn scikit_learn<T: DeserializeOwned>(input: &serde_json::Value) -> Option<T> {
    let python = python()?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    std::fs::write(&file, serde_json::to_vec(input).unwrap()).unwrap();
    let answer = run_python(&python, "sklearn_logistic.py", &[&file], &[]);
    Some(serde_json::from_str(&answer).unwrap())
}

#[derive(Deserialize)]
struct Optimum {
    /// `[features][classes]`, on raw features.
    weights: Vec<Vec<f32>>,
    bias: Vec<f32>,
    probabilities: Vec<Vec<f32>>,
}

fn assert_all_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what}: {found} {expected}"
        );
    }
}

/// Weights, biases and probabilities agree to 5e-4; the weights are of the size of 1.
#[test]
fn a_convex_fit_ends_in_scikit_learns_optimum() {
    let (features, labels) = data();
    let rows: Vec<usize> = (0..ROWS).collect();
    for (standardize, class_weights) in [
        (false, ClassWeights::None),
        (true, ClassWeights::None),
        (true, ClassWeights::Balanced),
    ] {
        let l2 = 0.02;
        let Some(optimum) = scikit_learn::<Optimum>(&serde_json::json!({
            "task": "fit",
            "features": features.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>(),
            "labels": labels,
            "l2": l2,
            "standardize": standardize,
            "balanced": class_weights == ClassWeights::Balanced,
        })) else {
            return;
        };
        let params = HeadParams {
            epochs: 3000,
            batch_size: ROWS,
            optimizer: OptimizerName::Sgd,
            learning_rate: 0.3,
            momentum: 0.9,
            schedule: ScheduleName::Constant,
            weight_decay: 0.0,
            l2,
            class_weights,
            standardize,
            ..HeadParams::default()
        };
        let head: Head = fit(
            &FeatureMatrix::from_array(features.clone()),
            &labels,
            CLASSES,
            &rows,
            &[],
            &params.check().unwrap(),
            &Progress::silent(),
            None,
        )
        .unwrap()
        .head;
        let layer = &head.layers()[0];
        let weights: Vec<f32> = layer.weights.iter().copied().collect();
        let probabilities = head.probabilities(features.view());
        let found: Vec<f32> = probabilities.iter().copied().collect();
        assert_all_close("weights", &weights, &optimum.weights.concat(), 5e-4);
        assert_all_close("bias", &layer.bias.to_vec(), &optimum.bias, 5e-4);
        assert_all_close(
            "probabilities",
            &found,
            &optimum.probabilities.concat(),
            5e-4,
        );
    }
}

#[derive(Deserialize)]
struct Measures {
    confusion: Vec<Vec<u64>>,
    accuracy: f64,
    /// Precision, recall, F1, support.
    classes: Vec<(f64, f64, f64, u64)>,
    macro_average: (f64, f64, f64),
    weighted_average: (f64, f64, f64),
    top_2: f64,
    log_loss: f64,
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let mut noise = Noise(9);
    let labels = data().1;
    let mut probabilities = Array2::zeros((ROWS, CLASSES));
    let mut predictions = Vec::new();
    let mut confusion = ConfusionMatrix::new(CLASSES);
    for (row, &label) in labels.iter().enumerate() {
        // Class 2 is never the first, so that its precision divides by zero.
        let mut scores = [0; CLASSES].map(|_| noise.next() + 1.1);
        scores[label] += 0.5;
        scores[2] *= 0.1;
        let sum: f32 = scores.iter().sum();
        for (class, score) in scores.into_iter().enumerate() {
            probabilities[[row, class]] = score / sum;
        }
        let prediction = tl::train::first_of(probabilities.row(row));
        predictions.push(prediction);
        confusion.record(label, prediction);
    }
    let Some(expected) = scikit_learn::<Measures>(&serde_json::json!({
        "task": "metrics",
        "labels": labels,
        "predictions": predictions,
        "probabilities": probabilities.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>(),
    })) else {
        return;
    };
    let close = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    };
    let same_scores = |found: ClassScores, expected: (f64, f64, f64)| {
        close(found.precision, expected.0);
        close(found.recall, expected.1);
        close(found.f1, expected.2);
    };
    assert_eq!(confusion.to_rows(), expected.confusion);
    close(confusion.accuracy(), expected.accuracy);
    for (found, expected) in confusion.class_scores().into_iter().zip(expected.classes) {
        same_scores(found, (expected.0, expected.1, expected.2));
        assert_eq!(found.support, expected.3);
    }
    same_scores(confusion.macro_average(), expected.macro_average);
    same_scores(confusion.weighted_average(), expected.weighted_average);
    close(
        top_k_accuracy(probabilities.view(), &labels, 2),
        expected.top_2,
    );
    close(log_loss(probabilities.view(), &labels), expected.log_loss);
}
