//! The finished head: from raw features to class probabilities.

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result};
use crate::nn::activation::softmax;
use crate::nn::{Dense, mlp};

/// Dense layers with ReLU between them and softmax after the last, on raw features.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    standardization: Option<Standardization>,
    layers: Vec<Dense>,
}

/// x ↦ (x − mean) · factor for each feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardization {
    /// The mean to subtract.
    pub mean: Vec<f32>,
    /// The factor to multiply by.
    pub factor: Vec<f32>,
}

impl Standardization {
    /// Of rows `[rows, features]`.
    fn apply(&self, features: ArrayView2<f32>) -> Array2<f32> {
        let mut standardised = features.to_owned();
        for mut row in standardised.rows_mut() {
            for ((value, mean), factor) in row.iter_mut().zip(&self.mean).zip(&self.factor) {
                *value = (*value - mean) * factor;
            }
        }
        standardised
    }
}

impl Head {
    /// A head of these layers.
    ///
    /// # Errors
    /// [`Error::Mismatch`] without a layer, or if a layer's inputs or bias do not fit.
    pub fn new(layers: Vec<Dense>) -> Result<Head> {
        Head::checked(None, layers)
    }

    /// A head of these layers on features that are standardised first: for features with large means, which float32
    /// weights cannot absorb.
    ///
    /// # Errors
    /// [`Error::Mismatch`] as [`new`](Self::new), or if there is not one mean and factor for each feature.
    pub fn with_standardization(
        standardization: Standardization,
        layers: Vec<Dense>,
    ) -> Result<Head> {
        Head::checked(Some(standardization), layers)
    }

    fn checked(standardization: Option<Standardization>, layers: Vec<Dense>) -> Result<Head> {
        let mismatch = |what: &str, expected: String, found: String| Error::Mismatch {
            what: what.to_string(),
            expected,
            found,
            hint: "the head is damaged; train it again".to_string(),
        };
        if layers.is_empty() {
            return Err(mismatch(
                "layers of the head",
                "at least 1".to_string(),
                "0".to_string(),
            ));
        }
        for layer in &layers {
            if layer.bias.len() != layer.outputs() {
                return Err(mismatch(
                    "bias of a dense layer",
                    layer.outputs().to_string(),
                    layer.bias.len().to_string(),
                ));
            }
        }
        for pair in layers.windows(2) {
            if pair[0].outputs() != pair[1].inputs() {
                return Err(mismatch(
                    "inputs of a dense layer",
                    pair[0].outputs().to_string(),
                    pair[1].inputs().to_string(),
                ));
            }
        }
        if let (Some(apart), Some(first)) = (&standardization, layers.first())
            && [apart.mean.len(), apart.factor.len()] != [first.inputs(); 2]
        {
            return Err(mismatch(
                "means of the features",
                first.inputs().to_string(),
                apart.mean.len().to_string(),
            ));
        }
        Ok(Head {
            standardization,
            layers,
        })
    }

    /// Standardisation before the first layer; `None` where it is folded into the weights.
    pub fn standardization(&self) -> Option<&Standardization> {
        self.standardization.as_ref()
    }

    /// The dense layers, first to last; ReLU stands between them, softmax after the last.
    pub fn layers(&self) -> &[Dense] {
        &self.layers
    }

    /// How far a logit may move, about, where each feature is one float32 away from what it was: much, if the features
    /// lie far from 0. 0 for a head that takes features as they are.
    pub fn rounding(&self) -> f32 {
        let (Some(apart), [first, others @ ..]) = (&self.standardization, &self.layers[..]) else {
            return 0.0;
        };
        let steps = apart.mean.iter().zip(&apart.factor);
        let steps: Vec<f32> = steps.map(|(m, f)| m.abs() * f32::EPSILON * f).collect();
        let moves = first.weights.rows().into_iter().zip(&steps);
        let square: f32 = moves.map(|(row, step)| row.dot(&row) * step * step).sum();
        let norms = others
            .iter()
            .map(|layer| layer.weights.iter().map(|w| w * w).sum::<f32>());
        (square * norms.product::<f32>()).sqrt()
    }

    /// Numbers in a row of features.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, Dense::inputs)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, Dense::outputs)
    }

    /// Number of trained parameters; D features and C classes without hidden layers make (D + 1) · C.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(Dense::parameters).sum()
    }

    /// Logits `[rows, classes]` of raw features `[rows, inputs]`.
    ///
    /// # Panics
    /// If `features` is not [`inputs`](Self::inputs) wide.
    pub fn logits(&self, features: ArrayView2<f32>) -> Array2<f32> {
        match &self.standardization {
            Some(apart) => mlp::forward(&self.layers, apart.apply(features).view()),
            None => mlp::forward(&self.layers, features),
        }
    }

    /// Probabilities `[rows, classes]`, each row summing to 1, of raw features `[rows, inputs]`.
    ///
    /// # Panics
    /// If `features` is not [`inputs`](Self::inputs) wide.
    pub fn probabilities(&self, features: ArrayView2<f32>) -> Array2<f32> {
        softmax(self.logits(features).view())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_textbook_head_has_3843_parameters() {
        let head = Head::new(vec![Dense::without_bias(Array2::zeros((1280, 3)))]).unwrap();
        assert_eq!(
            (head.inputs(), head.classes(), head.parameters()),
            (1280, 3, 3_843)
        );
    }

    #[test]
    fn rejects_layers_that_do_not_fit() {
        let layer = |inputs, outputs| Dense::without_bias(Array2::zeros((inputs, outputs)));
        assert!(Head::new(vec![]).is_err());
        assert!(Head::new(vec![layer(4, 3), layer(2, 2)]).is_err());
        assert!(
            Head::new(vec![Dense {
                weights: Array2::zeros((4, 3)),
                bias: array![0.0],
            }])
            .is_err()
        );
    }

    #[test]
    fn probabilities_of_equal_logits_are_equal() {
        let head = Head::new(vec![Dense::without_bias(Array2::zeros((2, 4)))]).unwrap();
        assert_eq!(
            head.probabilities(array![[1.0, 2.0]].view()),
            array![[0.25, 0.25, 0.25, 0.25]]
        );
    }
}
