//! Dense convolution as a product of patches and weights, without copying the patches: a pixel's patch is
//! a row of the left side whose values lie at fixed offsets in the padded input.

use std::ops::Range;

use super::buffer::Buffer;
use super::depthwise::padded;
use super::gemm::{Epilogue, PackedMatrix, Rows};
use super::map::{Map, Shape, Window};
use super::simd::InstructionSet;
use super::step::{Clamp, Scratch, Step};

/// How the values of the input lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Pixel after pixel, as the engine keeps its maps.
    ChannelsLast,
    /// Plane after plane without padding, as ONNX has it: `Map`s of such an input have one value a pixel.
    Planar,
}

/// Weights of a dense convolution, `[output channel][input channel][row][column]`.
pub(super) struct Weights<'a> {
    pub values: &'a [f32],
    pub outputs: usize,
    pub inputs: usize,
    /// One for each output channel.
    pub bias: &'a [f32],
}

/// A convolution with bias, an optional map that is added, and a clamp.
pub(super) struct Convolution {
    rows: Window,
    columns: Window,
    inputs: usize,
    outputs: usize,
    order: Order,
    matrix: PackedMatrix,
    bias: Buffer,
    clamp: Clamp,
    /// Values of a pixel of the input.
    pixel: usize,
    /// Whether the input must be copied to have zeros around it.
    copies: bool,
}

impl Convolution {
    /// `input` is the shape of the input as it lies in memory.
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        order: Order,
        input: &Shape,
        weights: &Weights,
        clamp: Clamp,
    ) -> Convolution {
        let (height, width) = (rows.size, columns.size);
        let inputs = weights.inputs;
        let mut this = Convolution {
            rows,
            columns,
            inputs,
            outputs: weights.outputs,
            order,
            matrix: PackedMatrix::pack(isa, None, 0, 0, 0, |_, _, _| 0.0),
            bias: padded(weights.bias, isa.lanes()),
            clamp,
            pixel: input.pixel,
            copies: rows.reaches_outside() || columns.reaches_outside(),
        };
        // [row of the window][column][channel], or the channel first, so that offsets rise.
        let split = |k: usize| match order {
            Order::ChannelsLast => (k % inputs, k / inputs / width, k / inputs % width),
            Order::Planar => (k / (height * width), k / width % height, k % width),
        };
        let depth = height * width * inputs;
        let offset = |k: usize| {
            let (channel, y, x) = split(k);
            y * rows.dilation * this.row()
                + x * columns.dilation * this.pixel
                + channel * this.plane()
        };
        let one_pixel = order == Order::ChannelsLast && height * width == 1;
        let offsets = (!one_pixel).then(|| (0..depth).map(offset).collect());
        let value = |_, k: usize, output: usize| {
            let (channel, y, x) = split(k);
            weights.values[((output * inputs + channel) * height + y) * width + x]
        };
        this.matrix = PackedMatrix::pack(isa, offsets, 1, depth, weights.outputs, value);
        this
    }

    /// Values from one row of the input, or of its copy, to the next.
    fn row(&self) -> usize {
        let columns = &self.columns;
        if self.copies {
            columns.span(columns.output) * self.pixel
        } else {
            columns.input * self.pixel
        }
    }

    /// Rows of the input, or of its copy.
    fn height(&self) -> usize {
        let rows = &self.rows;
        if self.copies {
            rows.span(rows.output)
        } else {
            rows.input
        }
    }

    /// Values from one channel to the next.
    fn plane(&self) -> usize {
        match self.order {
            Order::ChannelsLast => 1,
            Order::Planar => self.height() * self.row(),
        }
    }

    fn planes(&self) -> usize {
        match self.order {
            Order::ChannelsLast => 1,
            Order::Planar => self.inputs,
        }
    }

    /// Copies what the output's `rows` need of the input, with zeros around it, to the rows from 0 of each
    /// plane of `copy`.
    ///
    /// # Safety
    /// `input` must be valid for those rows, `copy` for the planes.
    unsafe fn copy(&self, input: Map, rows: &Range<usize>, copy: *mut f32) {
        let Window { input: width, .. } = self.columns;
        let first = rows.start * self.rows.stride;
        let count = self.rows.span(rows.len());
        let row = self.row();
        let left = (self.columns.before * self.pixel).min(row);
        let middle = (width * self.pixel).min(row - left);
        let input_plane = self.rows.input * width * self.pixel;
        for plane in 0..self.planes() {
            for i in 0..count {
                // SAFETY: only rows of the input are read, and each copied row is filled to its length.
                unsafe {
                    let to = copy.add(plane * self.plane() + i * row);
                    let y = (first + i).wrapping_sub(self.rows.before);
                    if y >= self.rows.input {
                        std::slice::from_raw_parts_mut(to, row).fill(0.0);
                        continue;
                    }
                    let from = input.row(y).add(plane * input_plane);
                    std::slice::from_raw_parts_mut(to, left).fill(0.0);
                    from.copy_to_nonoverlapping(to.add(left), middle);
                    let right = left + middle;
                    std::slice::from_raw_parts_mut(to.add(right), row - right).fill(0.0);
                }
            }
        }
    }
}

impl Step for Convolution {
    fn kind(&self) -> &'static str {
        if self.rows.size * self.columns.size == 1 {
            "pointwise"
        } else {
            "convolution"
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
        if self.copies {
            self.planes() * self.height() * self.row()
        } else {
            0
        }
    }

    fn weight_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        let residual = inputs.get(1).map(|map| map.row(rows.start).cast_const());
        let epilogue = Epilogue {
            bias: self.bias.as_ptr(),
            residual: residual.unwrap_or(std::ptr::null()),
            low: self.clamp.low,
            high: self.clamp.high,
        };
        let data = if self.copies {
            let copy = scratch.values.as_mut_ptr();
            // SAFETY: the input has the rows that `input_rows` names; scratch has room for all planes.
            unsafe { self.copy(inputs[0], &rows, copy) };
            copy.cast_const()
        } else {
            inputs[0].row(rows.start * self.rows.stride).cast_const()
        };
        let left = Rows {
            data,
            stride: self.columns.stride * self.pixel,
            group: self.rows.stride * self.row(),
        };
        let product = Rows {
            data: output.row(rows.start),
            stride: output.shape.pixel,
            group: output.shape.row(),
        };
        let (groups, count) = left.without_gaps(rows.len(), output.shape.width);
        // SAFETY: the patches lie in the input or its copy, whose rows and columns the windows name; the
        // output and the residual are valid for `rows`.
        unsafe {
            self.matrix
                .multiply(0, groups, count, left, product, epilogue)
        }
    }
}
