//! Dense convolution of bytes, as a product of patches and weights without copying the patches.

use std::ops::Range;

use super::gemm::{Layer, PackedBytes, QUAD};
use super::{IntegerWeights, Outcome};
use crate::gemm::Rows;
use crate::geometry::{Window, product};
use crate::map::{Element, Map, Shape};
use crate::simd::{DotSet, InstructionSet};
use crate::step::{Scratch, Step};

/// A convolution with bias, of bytes to bytes or to floats.
pub(crate) struct IntegerConvolution {
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
    /// Rows of the input, or of its copy.
    height: usize,
    /// Bytes from one row of the input, or of its copy, to the next.
    row: usize,
    /// Bytes of the copy; 0 without one.
    copied: usize,
    /// Bytes from the patch of one output to that of the next in its row, and in its column.
    patches: [usize; 2],
    outcome: Outcome,
}

impl IntegerConvolution {
    /// `input` is the shape of the input as it lies in memory. None if the padded input or the weights are too large, or
    /// if there are not as many weights as the windows have taps.
    pub(crate) fn new(
        isa: InstructionSet,
        set: DotSet,
        rows: Window,
        columns: Window,
        input: &Shape,
        weights: &IntegerWeights,
    ) -> Option<IntegerConvolution> {
        let (height, width) = (rows.size, columns.size);
        let inputs = input.channels;
        let copies = rows.reaches_outside() || columns.reaches_outside();
        let extent = |window: &Window| {
            if copies {
                window.extent()
            } else {
                window.input
            }
        };
        let row = product(&[extent(&columns), input.pixel])?;
        let whole = product(&[extent(&rows), row])?;
        let patches = [
            product(&[columns.stride, input.pixel])?,
            product(&[rows.stride, row])?,
        ];
        let outputs = weights.bias.len();
        let counted = product(&[outputs, inputs, height, width])? == weights.values.len()
            && weights.scales.len() == outputs;
        if !counted {
            return None;
        }
        // Quads of a tap; a tap's last may have weights of 0.
        let quads = inputs.div_ceil(QUAD);
        let depth = product(&[height, width, quads])?;
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
        let layer = Layer {
            outputs,
            bias: &weights.beginnings(),
            scales: &weights.multipliers(),
        };
        Some(IntegerConvolution {
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
            )?,
            pixel: input.pixel,
            zero: weights.input.zero,
            copies,
            height: extent(&rows),
            row,
            copied: if copies { whole } else { 0 },
            patches,
            outcome: weights.outcome(),
        })
    }

    /// Copies what the output's `rows` need of the input, with zeros around it, to the rows from 0 of `copy`.
    ///
    /// # Safety
    /// `input` must have a shape that [`Step::fits`] accepts and those rows, `copy` as many bytes as are copied.
    unsafe fn copy(&self, input: Map, rows: &Range<usize>, copy: *mut u8) {
        let first = rows.start * self.rows.stride;
        let count = self.rows.span(rows.len());
        assert!(count <= self.height, "a strip is higher than its copy");
        let row = self.row;
        let left = (self.columns.before * self.pixel).min(row);
        let middle = (self.columns.input * self.pixel).min(row - left);
        for i in 0..count {
            // SAFETY: `count` was held against the rows of the copy, each of which is filled to its length. Of the input,
            // only rows that there are are read, and of them at most as many columns as it has.
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
        self.copied.div_ceil(size_of::<f32>())
    }

    fn weight_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_input_of(&self.rows, &self.columns)
            && (input.channels, input.pixel) == (self.inputs, self.pixel)
            && input.element == Element::Byte)
            // A quad that begins within a pixel ends there.
            && self.pixel.is_multiple_of(QUAD)
            && output.is_output_of(&self.rows, &self.columns)
            && (output.channels, output.pixel) == (self.outputs, self.matrix.columns())
            && output.element == self.outcome.element()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        if rows.is_empty() {
            return;
        }
        let data = if self.copies {
            assert!(self.scratch_len() <= scratch.values.len());
            let copy: *mut u8 = scratch.values.as_mut_ptr().cast();
            // SAFETY: the caller's input has the rows that `input_rows` names; scratch has room for their copies, as was
            // just asked.
            unsafe { self.copy(inputs[0], &rows, copy) };
            copy.cast_const()
        } else {
            inputs[0].bytes(rows.start * self.rows.stride).cast_const()
        };
        let left = Rows {
            data,
            stride: self.patches[0],
            group: self.patches[1],
        };
        let product = Rows {
            data: output.bytes(rows.start),
            stride: output.shape.pixel,
            group: output.shape.row(),
        };
        let (groups, count) = left.without_gaps(rows.len(), output.shape.width);
        // SAFETY: `Window::extent` counts the rows and columns that the patches of all outputs span; the copy has as
        // many, and an input that is not copied has no fewer. The output is as `fits` asks, with `rows`.
        unsafe { self.matrix.multiply(groups, count, left, product) }
    }
}
