//! One operation on feature maps, which can be done row by row.

use std::ops::Range;

use super::buffer::Buffer;
use super::map::{Map, Shape};
use super::simd::Simd;

/// Bounds of a result, as ReLU, ReLU6 and clip set them; infinite where there are none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    pub low: f32,
    pub high: f32,
}

impl Clamp {
    /// No bounds.
    pub(super) const NONE: Clamp = Clamp {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };

    /// `v` within the bounds; NaN stays.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn of<S: Simd>(self, v: S::V) -> S::V {
        // SAFETY: the caller's processor has the instruction set.
        unsafe { S::at_most(S::splat(self.high), S::at_least(S::splat(self.low), v)) }
    }
}

/// Memory that a worker lends to its steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    pub values: Buffer,
}

/// An operation that computes rows of one feature map from rows of others.
pub(super) trait Step: Send + Sync {
    /// A word for what it does.
    fn kind(&self) -> &'static str;

    /// Rows of the first input that are needed for the output's `rows`. Further inputs have the output's
    /// rows, or are needed whole.
    fn input_rows(&self, rows: &Range<usize>) -> Range<usize>;

    /// Whether the first input is needed whole for any row.
    fn needs_all_rows(&self) -> bool {
        false
    }

    /// Rows of output are computed in multiples of this, but for the last.
    fn granule(&self) -> usize {
        1
    }

    /// Parts of the output that can be computed apart, other than rows.
    fn parts(&self) -> usize {
        1
    }

    /// Multiply-adds for the whole output, counted as the network's definition has them.
    fn multiply_adds(&self, output: &Shape) -> usize;

    /// Whether the step was made for inputs and an output of these shapes: what [`run`](Self::run) rests on.
    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool;

    /// Values of scratch memory that it needs.
    fn scratch_len(&self) -> usize {
        0
    }

    /// Bytes of weights.
    fn weight_bytes(&self) -> usize {
        0
    }

    /// Computes the `rows` of `output`.
    ///
    /// # Safety
    /// The maps must have shapes that [`fits`](Self::fits) accepts. `output` must be there for `rows`, the first
    /// input for [`input_rows`](Self::input_rows) or, if [it needs all](Self::needs_all_rows), whole, as further inputs
    /// are; `output` must not overlap an input. `scratch` must have [`scratch_len`](Self::scratch_len) values.
    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch);

    /// Computes some of the [`parts`](Self::parts) of `output`.
    ///
    /// # Safety
    /// As [`run`](Self::run), for all rows.
    unsafe fn run_parts(
        &self,
        inputs: &[Map],
        output: Map,
        parts: Range<usize>,
        scratch: &mut Scratch,
    ) {
        if !parts.is_empty() {
            let height = output.shape.height;
            // SAFETY: the caller's. There is only one part.
            unsafe { self.run(inputs, output, 0..height, scratch) };
        }
    }
}
