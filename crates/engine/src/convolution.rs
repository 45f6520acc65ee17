//! Convolution as a product of patches and weights, without copying the patches: a pixel's patch is
//! a row of the left side whose values lie at fixed offsets in the padded input.

use std::ops::Range;

use super::buffer::Buffer;
use super::depthwise::padded;
use super::gemm::{Epilogue, PackedMatrix, Rows};
use super::geometry::{Window, floats, padded_to, product};
use super::map::{Element, Map, Shape};
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

/// Weights of a convolution, `[output channel][input channel of the group][row][column]`.
pub(super) struct Weights<'a> {
    pub values: &'a [f32],
    pub outputs: usize,
    pub inputs: usize,
    /// Into how many groups inputs and outputs fall.
    pub groups: usize,
    /// One for each output channel.
    pub bias: &'a [f32],
}

/// A convolution with bias, an optional map that is added, and a clamp.
pub(super) struct Convolution {
    rows: Window,
    columns: Window,
    inputs: usize,
    outputs: usize,
    /// Inputs for each output.
    depth: usize,
    order: Order,
    /// Those of whole blocks, then one of the groups that are left.
    matrices: Vec<PackedMatrix>,
    blocks: Vec<Block>,
    /// Outputs, padded to whole vectors.
    padded: usize,
    bias: Buffer,
    clamp: Clamp,
    /// Values of a pixel of the input.
    pixel: usize,
    /// Whether the input must be copied to have zeros around it.
    copies: bool,
    /// Rows of the input, or of its copy.
    height: usize,
    /// Values from one row of the input, or of its copy, to the next.
    row: usize,
    /// Values from one channel to the next.
    plane: usize,
    /// Values of all planes of the copy; 0 without one.
    scratch_len: usize,
    /// Values from the patch of one output to that of the next in its row, and in its column.
    patches: [usize; 2],
}

/// Some groups of which the outputs are whole vectors: one product, in which other groups have weights of 0.
struct Block {
    matrix: usize,
    /// Which of the matrices in that.
    number: usize,
    /// Its first input and output.
    first: [usize; 2],
}

impl Convolution {
    /// `input` is the shape of the input as it lies in memory. None if the padded input or the weights are too large,
    /// or if there are not as many weights as the windows have taps.
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        order: Order,
        input: &Shape,
        weights: &Weights,
        clamp: Clamp,
    ) -> Option<Convolution> {
        let (height, width) = (rows.size, columns.size);
        let inputs = weights.inputs;
        let pixel = input.pixel;
        let copies = rows.reaches_outside() || columns.reaches_outside();
        let extent = |window: &Window| {
            if copies {
                window.extent()
            } else {
                window.input
            }
        };
        let row = floats(&[extent(&columns), pixel])?;
        let (plane, planes) = match order {
            Order::ChannelsLast => (1, 1),
            Order::Planar => (floats(&[extent(&rows), row])?, inputs),
        };
        let whole = floats(&[planes, extent(&rows), row])?;
        let patches = [
            product(&[columns.stride, pixel])?,
            product(&[rows.stride, row])?,
        ];
        let groups = weights.groups;
        let (depth, wide) = (
            inputs.checked_div(groups)?,
            weights.outputs.checked_div(groups)?,
        );
        let counted = product(&[height, width, depth, weights.outputs])? == weights.values.len()
            && weights.bias.len() == weights.outputs
            && [depth * groups, wide * groups] == [inputs, weights.outputs]
            && (groups == 1 || order == Order::ChannelsLast);
        if !counted || wide == 0 {
            return None;
        }
        let padded_outputs = padded_to(weights.outputs, isa.lanes())?;
        // Groups of a block.
        let several = (1..=isa.lanes()).find(|n| (n * wide).is_multiple_of(isa.lanes()));
        let several = several.unwrap_or(1).min(groups);
        let (whole_blocks, left) = (groups / several, groups % several);
        let mut blocks = Vec::new();
        let mut matrices = Vec::new();
        for (count, groups) in [(whole_blocks, several), (1, left)] {
            if groups == 0 {
                continue;
            }
            let (first, inputs, outputs) = (blocks.len() * several, groups * depth, groups * wide);
            // [row of the window][column][channel], or the channel first, so that offsets rise.
            let split = |k: usize| match order {
                Order::ChannelsLast => (k % inputs, k / inputs / width, k / inputs % width),
                Order::Planar => (k / (height * width), k / width % height, k % width),
            };
            let offset = |k: usize| {
                let (channel, y, x) = split(k);
                y * rows.dilation * row + x * columns.dilation * pixel + channel * plane
            };
            let taps = product(&[height, width, inputs])?;
            // The group of each tap, and where its weight is among those of an output; both are asked for every weight.
            let places = (0..taps).map(|k| {
                let (channel, y, x) = split(k);
                let group = channel.checked_div(depth).unwrap_or(0);
                (group, ((channel - group * depth) * height + y) * width + x)
            });
            let places: Vec<(usize, usize)> = places.collect();
            let group_of: Vec<usize> = (0..outputs).map(|output| output / wide).collect();
            let each = depth * height * width;
            let value = |i: usize, k: usize, output: usize| {
                let (group, place) = places[k];
                match group == group_of[output] {
                    true => weights.values[((first + i * several) * wide + output) * each + place],
                    false => 0.0,
                }
            };
            let one_pixel = order == Order::ChannelsLast && height * width == 1;
            let offsets = (!one_pixel).then(|| (0..taps).map(offset).collect());
            let matrix = PackedMatrix::pack(isa, offsets, count, taps, outputs, value)?;
            blocks.extend((0..count).map(|number| {
                let group = first + number * several;
                Block {
                    matrix: matrices.len(),
                    number,
                    first: [group * depth, group * wide],
                }
            }));
            matrices.push(matrix);
        }
        Some(Convolution {
            rows,
            columns,
            inputs,
            outputs: weights.outputs,
            depth,
            order,
            matrices,
            blocks,
            padded: padded_outputs,
            bias: padded(weights.bias, isa.lanes()),
            clamp,
            pixel,
            copies,
            height: extent(&rows),
            row,
            plane,
            scratch_len: if copies { whole } else { 0 },
            patches,
        })
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
    /// `input` must have a shape that [`Step::fits`] accepts and those rows, `copy` as many values as all planes have.
    unsafe fn copy(&self, input: Map, rows: &Range<usize>, copy: *mut f32) {
        let width = self.columns.input;
        let first = rows.start * self.rows.stride;
        let count = self.rows.span(rows.len());
        assert!(count <= self.height, "a strip is higher than its copy");
        let row = self.row;
        let left = (self.columns.before * self.pixel).min(row);
        let middle = (width * self.pixel).min(row - left);
        let input_plane = self.rows.input * width * self.pixel;
        for plane in 0..self.planes() {
            for i in 0..count {
                // SAFETY: `count` was held against the rows of a plane, and `scratch_len` counts all planes; each
                // copied row is filled to its length. Of the input, only rows that there are are read, and of them
                // at most as many columns as it has.
                unsafe {
                    let to = copy.add(plane * self.plane + i * row);
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
        let depth = self.rows.size * self.columns.size * self.depth;
        output.height * output.width * self.outputs * depth
    }

    fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    fn weight_bytes(&self) -> usize {
        self.matrices.iter().map(PackedMatrix::bytes).sum()
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let Some((input, residual)) = inputs.split_first() else {
            return false;
        };
        let pixel = match self.order {
            Order::ChannelsLast => self.pixel >= self.inputs,
            Order::Planar => self.pixel == 1,
        };
        input.is_input_of(&self.rows, &self.columns)
            && (input.channels, input.pixel) == (self.inputs, self.pixel)
            && input.element == Element::Float
            && pixel
            && output.is_output_of(&self.rows, &self.columns)
            && (output.channels, output.pixel) == (self.outputs, self.padded)
            && output.element == Element::Float
            && matches!(residual, [] | [_])
            && residual.iter().all(|residual| residual == output)
    }

    fn parts(&self) -> usize {
        match &self.blocks[..] {
            [_] => self.matrices[0].panels(),
            blocks => blocks.len(),
        }
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        // SAFETY: the caller's.
        unsafe { self.run_some(inputs, output, rows, 0..self.parts(), scratch) };
    }

    unsafe fn run_parts(
        &self,
        inputs: &[Map],
        output: Map,
        parts: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let height = output.shape.height;
        // SAFETY: the caller's.
        unsafe { self.run_some(inputs, output, 0..height, parts, scratch) };
    }
}

impl Convolution {
    /// Computes some of the [`parts`](Step::parts) of `rows`.
    ///
    /// # Safety
    /// As [`Step::run`].
    unsafe fn run_some(
        &self,
        inputs: &[Map],
        output: Map,
        rows: Range<usize>,
        parts: Range<usize>,
        scratch: &mut Scratch,
    ) {
        if rows.is_empty() || parts.is_empty() {
            return;
        }
        let residual = inputs.get(1).map(|map| map.row(rows.start).cast_const());
        let epilogue = Epilogue {
            bias: self.bias.as_ptr(),
            residual: residual.unwrap_or(std::ptr::null()),
            low: self.clamp.low,
            high: self.clamp.high,
        };
        let data = if self.copies {
            assert!(self.scratch_len <= scratch.values.len());
            let copy = scratch.values.as_mut_ptr();
            // SAFETY: the caller's input has the rows that `input_rows` names; scratch has room for all planes, as
            // was just asked.
            unsafe { self.copy(inputs[0], &rows, copy) };
            copy.cast_const()
        } else {
            // Without a copy there is no padding, and the first patch begins in the map.
            inputs[0].row(rows.start * self.rows.stride).cast_const()
        };
        let left = Rows {
            data,
            stride: self.patches[0],
            group: self.patches[1],
        };
        let product = Rows {
            data: output.row(rows.start),
            stride: output.shape.pixel,
            group: output.shape.row(),
        };
        let (groups, count) = left.without_gaps(rows.len(), output.shape.width);
        let (blocks, panels) = match &self.blocks[..] {
            all @ [_] => (all, Some(parts)),
            all => (&all[parts], None),
        };
        for block in blocks {
            let [input, output] = block.first;
            // SAFETY: `Window::extent` counts the rows and columns that the patches of all outputs span; the copy has as
            // many, and an input that is not copied has no fewer. Output and residual are as `fits` asks, with `rows`.
            // A block's inputs and outputs are some of the pixels', its outputs whole vectors or the last of them.
            unsafe {
                let left = Rows {
                    data: left.data.add(input),
                    ..left
                };
                let product = Rows {
                    data: product.data.add(output),
                    ..product
                };
                let epilogue = Epilogue {
                    bias: epilogue.bias.add(output),
                    residual: match epilogue.residual {
                        residual if residual.is_null() => residual,
                        residual => residual.add(output),
                    },
                    ..epilogue
                };
                let matrix = &self.matrices[block.matrix];
                let panels = panels.clone().unwrap_or(0..matrix.panels());
                matrix.multiply(block.number, panels, groups, count, left, product, epilogue);
            }
        }
    }
}
