//! Steps on maps of bytes: what a quantised network computes between `QuantizeLinear` and `DequantizeLinear`.
//!
//! A byte `q` stands for `(q − zero) · scale`. Sums of products are exact in 32 bits; what becomes of them is one
//! multiplication in float32, rounded to the nearest byte, halves to the even one. So the bytes are the same on every
//! instruction set.

mod convolution;
mod depthwise;
mod gemm;
mod pixelwise;
#[cfg(test)]
mod tests;

pub(super) use convolution::IntegerConvolution;
pub(super) use depthwise::IntegerDepthwise;
pub(super) use gemm::QUAD;
pub(super) use pixelwise::{Dequantize, MaxBytes, Quantize, SumBytes};

use std::sync::Arc;

use super::map::Element;

/// What the bytes of a map stand for: `(q − zero) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steps {
    pub scale: f32,
    pub zero: u8,
}

/// What a sum becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// A byte, rounded, with `zero` added.
    Bytes { zero: i32 },
    /// A float.
    Floats,
}

/// A convolution of bytes: what the file has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IntegerWeights {
    /// `[output][input / groups][row][column]`.
    pub values: Arc<[i8]>,
    /// One for each output, in steps of the input's and the output channel's scales multiplied.
    pub bias: Vec<i32>,
    /// The scale of each output channel's weights.
    pub scales: Vec<f32>,
    /// What the bytes of the input stand for.
    pub input: Steps,
    /// What those of the output stand for; none for floats.
    pub output: Option<Steps>,
}

impl Outcome {
    /// What the values of a map of results are.
    fn element(self) -> Element {
        match self {
            Outcome::Bytes { .. } => Element::Byte,
            Outcome::Floats => Element::Float,
        }
    }
}

impl IntegerWeights {
    /// Whether no sum of products can leave 32 bits, whatever the bytes of the input are.
    pub(super) fn sums_fit(&self) -> bool {
        let each = self.values.len() / self.bias.len().max(1);
        let kernels = self.values.chunks_exact(each.max(1));
        self.bias.iter().zip(kernels).all(|(&bias, kernel)| {
            let weights: u64 = kernel.iter().map(|w| u64::from(w.unsigned_abs())).sum();
            weights * u64::from(u8::MAX) + u64::from(bias.unsigned_abs()) <= i32::MAX as u64
        })
    }

    fn outcome(&self) -> Outcome {
        match self.output {
            Some(steps) => Outcome::Bytes {
                zero: i32::from(steps.zero),
            },
            None => Outcome::Floats,
        }
    }

    /// What the sums of each output are multiplied by.
    fn multipliers(&self) -> Vec<f32> {
        let by_output = self.output.map_or(1.0, |steps| steps.scale);
        let products = self.scales.iter().map(|scale| self.input.scale * scale);
        products.map(|product| product / by_output).collect()
    }

    /// What the sums of each output begin with: the bias, less what the input's zero adds to each product.
    fn beginnings(&self) -> Vec<i32> {
        let each = self.values.len() / self.bias.len().max(1);
        let kernels = self.values.chunks_exact(each.max(1));
        let zero = i32::from(self.input.zero);
        let sums = kernels.map(|kernel| {
            let weights = kernel.iter().map(|&w| i32::from(w));
            weights.fold(0, i32::wrapping_add)
        });
        let pairs = self.bias.iter().zip(sums);
        pairs
            .map(|(&bias, sum)| bias.wrapping_sub(zero.wrapping_mul(sum)))
            .collect()
    }
}
