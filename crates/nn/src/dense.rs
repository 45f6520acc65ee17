//! The dense (fully connected) layer.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// A dense layer: y = x · W + b.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// W, `[inputs, outputs]`.
    pub weights: Array2<f32>,
    /// b, `[outputs]`.
    pub bias: Array1<f32>,
}

/// Derivatives of a loss with respect to the parameters of a [`Dense`], in the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseGradient {
    /// ∂L/∂W, `[inputs, outputs]`.
    pub weights: Array2<f32>,
    /// ∂L/∂b, `[outputs]`.
    pub bias: Array1<f32>,
}

impl Dense {
    /// A layer with the given weights `[inputs, outputs]` and a bias of 0.
    pub fn without_bias(weights: Array2<f32>) -> Dense {
        let bias = Array1::zeros(weights.ncols());
        Dense { weights, bias }
    }

    /// Numbers in a row of the input.
    pub fn inputs(&self) -> usize {
        self.weights.nrows()
    }

    /// Numbers in a row of the output.
    pub fn outputs(&self) -> usize {
        self.weights.ncols()
    }

    /// Number of parameters: (inputs + 1) · outputs.
    pub fn parameters(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// y = x · W + b for `input` `[rows, inputs]`; returns `[rows, outputs]`.
    ///
    /// # Panics
    /// If `input` has another width than [`inputs`](Self::inputs).
    pub fn forward(&self, input: ArrayView2<f32>) -> Array2<f32> {
        input.dot(&self.weights) + &self.bias
    }

    /// ∂L/∂W = xᵀ · g and ∂L/∂b = Σ over rows of g, for the `input` `[rows, inputs]` of the forward
    /// pass and g = ∂L/∂y, `[rows, outputs]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn gradient(&self, input: ArrayView2<f32>, output: ArrayView2<f32>) -> DenseGradient {
        DenseGradient {
            weights: input.t().dot(&output),
            bias: output.sum_axis(Axis(0)),
        }
    }

    /// ∂L/∂x = g · Wᵀ for g = ∂L/∂y, `[rows, outputs]`; returns `[rows, inputs]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn input_gradient(&self, output: ArrayView2<f32>) -> Array2<f32> {
        output.dot(&self.weights.t())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn multiplies_rows_by_weights_and_adds_the_bias() {
        let dense = Dense {
            weights: array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
            bias: array![10.0, 20.0],
        };
        let output = dense.forward(array![[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]].view());
        assert_eq!(output, array![[6.0, 16.0], [16.0, 28.0]]);
    }

    #[test]
    fn counts_the_parameters_of_the_textbook_head() {
        let dense = Dense::without_bias(Array2::zeros((1280, 3)));
        assert_eq!(dense.parameters(), 3_843);
    }
}
