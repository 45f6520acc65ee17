//! Dense convolution of bytes, as a product of patches and weights without copying the patches.

use std::ops::Range;

use super::IntegerWeights;
use super::gemm::{Layer, PackedBytes, QUAD};
use crate::backbone::engine::gemm::Rows;
use crate::backbone::engine::map::{Map, Shape, Window};
use crate::backbone::engine::simd::{DotSet, InstructionSet};
use crate::backbone::engine::step::{Scratch, Step};

/// A convolution with bias, of bytes to bytes or to floats.
pub(in crate::backbone::engine) struct IntegerConvolution {
    rows: Window,
    columns: Window,
    inputs: usize,
    outputs: usize,
    matrix: PackedBytes,
    /// Bytes of a pixel of the input.
    pixel: usize,
    /// What is around the input: the byte that stands for 0.
    zero: u8,
    /// Whether the input must be copied to have that around it.
    copies: bool,
}

impl IntegerConvolution {
    /// `input` is the shape of the input as it lies in memory.
    pub(in crate::backbone::engine) fn new(
        isa: InstructionSet,
        set: DotSet,
        rows: Window,
        columns: Window,
        input: &Shape,
        weights: &IntegerWeights,
    ) -> IntegerConvolution {
        let (height, width) = (rows.size, columns.size);
        let inputs = input.channels;
        let copies = rows.reaches_outside() || columns.reaches_outside();
        let row = row_bytes(&columns, input.pixel, copies);
        // Quads of a tap; a tap's last may have weights of 0.
        let quads = inputs.div_ceil(QUAD);
        let depth = height * width * quads;
        let offset = |k: usize| {
            let (tap, quad) = (k / quads, k % quads);
            let (y, x) = (tap / width, tap % width);
            y * rows.dilation * row + x * columns.dilation * input.pixel + quad * QUAD
        };
        let offsets = (height * width > 1).then(|| (0..depth).map(offset).collect());
        let weight = |k: usize, output: usize| {
            let (tap, channel) = (k / (quads * QUAD), k % (quads * QUAD));
            if channel >= inputs {
                return 0;
            }
            weights.values[(output * inputs + channel) * height * width + tap]
        };
        let outputs = weights.bias.len();
        let layer = Layer {
            outputs,
            bias: &weights.beginnings(),
            scales: &weights.multipliers(),
        };
        IntegerConvolution {
            rows,
            columns,
            inputs,
            outputs,
            matrix: PackedBytes::pack(
                set,
                isa.lanes(),
                offsets,
                depth,
                &layer,
                weights.outcome(),
                weight,
            ),
            pixel: input.pixel,
            zero: weights.input.zero,
            copies,
        }
    }

    /// Bytes from one row of the input, or of its copy, to the next.
    fn row(&self) -> usize {
        row_bytes(&self.columns, self.pixel, self.copies)
    }

    /// Copies what the output's `rows` need of the input, with zeros around it, to the rows from 0 of `copy`.
    ///
    /// # Safety
    /// `input` must be valid for those rows, `copy` for as many.
    unsafe fn copy(&self, input: Map, rows: &Range<usize>, copy: *mut u8) {
        let first = rows.start * self.rows.stride;
        let count = self.rows.span(rows.len());
        let row = self.row();
        let left = (self.columns.before * self.pixel).min(row);
        let middle = (self.columns.input * self.pixel).min(row - left);
        for i in 0..count {
            // SAFETY: only rows of the input are read, and each copied row is filled to its length.
            unsafe {
                let to = copy.add(i * row);
                let y = (first + i).wrapping_sub(self.rows.before);
                if y >= self.rows.input {
                    to.write_bytes(self.zero, row);
                    continue;
                }
                to.write_bytes(self.zero, left);
                input.bytes(y).copy_to_nonoverlapping(to.add(left), middle);
                to.add(left + middle)
                    .write_bytes(self.zero, row - left - middle);
            }
        }
    }
}

/// Bytes from one row of the input, or of its copy, to the next.
fn row_bytes(columns: &Window, pixel: usize, copies: bool) -> usize {
    if copies {
        columns.span(columns.output) * pixel
    } else {
        columns.input * pixel
    }
}

impl Step for IntegerConvolution {
    fn kind(&self) -> &'static str {
        if self.rows.size * self.columns.size == 1 {
            "int8 point"
        } else {
            "int8 conv"
        }
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.reach(rows)
    }

    fn multiply_adds(&self, output: &Shape) -> usize {
        let depth = self.rows.size * self.columns.size * self.inputs;
        output.height * output.width * self.outputs * depth
    }

    fn scratch_len(&self) -> usize {
        if !self.copies {
            return 0;
        }
        let height = self.rows.span(self.rows.output);
        (height * self.row()).div_ceil(size_of::<f32>())
    }

    fn weight_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        let data = if self.copies {
            let copy: *mut u8 = scratch.values.as_mut_ptr().cast();
            // SAFETY: the input has the rows that `input_rows` names; scratch has room for their copies.
            unsafe { self.copy(inputs[0], &rows, copy) };
            copy.cast_const()
        } else {
            inputs[0].bytes(rows.start * self.rows.stride).cast_const()
        };
        let left = Rows {
            data,
            stride: self.columns.stride * self.pixel,
            group: self.rows.stride * self.row(),
        };
        let product = Rows {
            data: output.bytes(rows.start),
            stride: output.shape.pixel,
            group: output.shape.row(),
        };
        let (groups, count) = left.without_gaps(rows.len(), output.shape.width);
        // SAFETY: the patches lie in the input or its copy, whose rows and columns the windows name; the output is
        // valid for `rows`.
        unsafe { self.matrix.multiply(groups, count, left, product) }
    }
}
