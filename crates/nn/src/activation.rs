//! Activations, forward and backward: ReLU, softmax.

use ndarray::{Array2, ArrayView2, Zip};

/// ReLU in place: max(0, x). NaN stays NaN.
pub fn relu(values: &mut Array2<f32>) {
    values.mapv_inplace(|value| if value < 0.0 { 0.0 } else { value });
}

/// Turns the derivative by ReLU's output into that by its input, in place: 0 where the output is 0.
///
/// `output` is what [`relu`] gave, in the shape of `gradient`. The derivative at 0 is taken as 0.
///
/// # Panics
/// If the shapes differ.
pub fn relu_backward(output: ArrayView2<f32>, gradient: &mut Array2<f32>) {
    Zip::from(gradient)
        .and(output)
        .for_each(|gradient, &output| {
            if output <= 0.0 {
                *gradient = 0.0;
            }
        });
}

/// Softmax of each row, p_c = exp(z_c − m) / Σ_k exp(z_k − m) with m the row's largest logit, so that
/// no finite logits overflow.
///
/// `logits` is `[rows, classes]`; returns the same shape, each row summing to 1.
pub fn softmax(logits: ArrayView2<f32>) -> Array2<f32> {
    let mut rows = logits.to_owned();
    for mut row in rows.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|value| (value - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    rows
}

/// ln of [`softmax`], computed as z_c − m − ln Σ_k exp(z_k − m) so that small probabilities keep their digits.
///
/// `logits` is `[rows, classes]`; returns the same shape, all values at most 0.
pub fn log_softmax(logits: ArrayView2<f32>) -> Array2<f32> {
    let mut rows = logits.to_owned();
    for mut row in rows.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row -= largest;
        let sum: f32 = row.iter().map(|value| value.exp()).sum();
        row -= sum.ln();
    }
    rows
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn relu_and_its_derivative_cut_at_zero() {
        let mut values = array![[-1.0, 0.0, 2.0]];
        relu(&mut values);
        assert_eq!(values, array![[0.0, 0.0, 2.0]]);
        let mut gradient = array![[5.0, 6.0, 7.0]];
        relu_backward(values.view(), &mut gradient);
        assert_eq!(gradient, array![[0.0, 0.0, 7.0]]);
    }

    #[test]
    fn softmax_gives_what_scipy_gives_and_survives_large_logits() {
        // scipy.special.softmax([1, 2, 3]) of SciPy 1.17.1.
        let expected = [0.090_030_57, 0.244_728_47, 0.665_240_96];
        for shift in [0.0, 1000.0, -1000.0] {
            let logits = array![[1.0f32, 2.0, 3.0]] + shift;
            let logs = log_softmax(logits.view());
            for ((p, log), expected) in softmax(logits.view()).iter().zip(&logs).zip(expected) {
                assert!((p - expected).abs() < 1e-6, "{p}");
                assert!((log - expected.ln()).abs() < 1e-6, "{log}");
            }
        }
        let far = log_softmax(array![[0.0, 200.0]].view());
        assert_eq!(far[[0, 0]], -200.0);
    }
}
