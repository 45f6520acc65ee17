//! Depthwise convolution: every channel with its own window.

use std::ops::Range;

use super::buffer::Buffer;
use super::geometry::{Window, floats, padded_to, product};
use super::map::{Element, Map, Shape};
use super::simd::{Entry, InstructionSet, Kernel, Simd};
use super::step::{Clamp, Scratch, Step};

/// A depthwise convolution with bias and clamp.
pub(super) struct Depthwise {
    rows: Window,
    columns: Window,
    /// `[vector][tap][lane]`.
    weights: Buffer,
    bias: Buffer,
    clamp: Clamp,
    kernel: Entry<Args>,
    /// Values of scratch memory for the copy of one vector's map; 0 where nothing is copied.
    scratch_len: usize,
    channels: usize,
    /// The same, padded to whole vectors.
    pixel: usize,
}

struct Args {
    input: Map,
    output: Map,
    /// Room for one vector of every pixel that the windows meet.
    copy: *mut f32,
    range: Range<usize>,
    rows: Window,
    columns: Window,
    weights: *const f32,
    bias: *const f32,
    clamp: Clamp,
}

impl Depthwise {
    /// `weight(channel, row, column)` gives the weights; `bias` has a value for each channel. None if the weights or
    /// the copy of a vector's map are too large.
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: &[f32],
        clamp: Clamp,
    ) -> Option<Depthwise> {
        let lanes = isa.lanes();
        let channels = bias.len();
        let pixel = padded_to(channels, lanes)?;
        let taps = product(&[rows.size, columns.size])?;
        let mut weights = Buffer::try_zeros(floats(&[pixel, taps])?)?;
        let slice = weights.as_mut_slice();
        for channel in 0..channels {
            for tap in 0..taps {
                slice[(channel / lanes * taps + tap) * lanes + channel % lanes] =
                    weight(channel, tap / columns.size, tap % columns.size);
            }
        }
        let square = rows.size == columns.size
            && rows.stride == columns.stride
            && rows.dilation == 1
            && columns.dilation == 1;
        // Where few windows reach over the edge, copying costs more than treating those alone, tap by tap.
        const TAPS_AT_THE_EDGE: f32 = 1.8;
        let share = |w: &Window| w.inner().len() as f32 / w.output as f32;
        let most = TAPS_AT_THE_EDGE / taps as f32;
        let copied = share(&rows) * share(&columns) < 1.0 - most;
        let in_place = match (rows.size, rows.stride) {
            (3, 1) if square => Some(isa.entry::<InPlace<3, 1>>()),
            (3, 2) if square => Some(isa.entry::<InPlace<3, 2>>()),
            (5, 1) if square => Some(isa.entry::<InPlace<5, 1>>()),
            (5, 2) if square => Some(isa.entry::<InPlace<5, 2>>()),
            _ => None,
        };
        let (kernel, scratch_len) = match in_place {
            Some(kernel) if !copied => (kernel, 0),
            _ => {
                let kernel = match (rows.size, rows.stride) {
                    (3, 1) if square => isa.entry::<Copied<3, 1>>(),
                    (3, 2) if square => isa.entry::<Copied<3, 2>>(),
                    (5, 1) if square => isa.entry::<Copied<5, 1>>(),
                    (5, 2) if square => isa.entry::<Copied<5, 2>>(),
                    (7, 1) if square => isa.entry::<Copied<7, 1>>(),
                    (7, 2) if square => isa.entry::<Copied<7, 2>>(),
                    _ => isa.entry::<CopiedAny>(),
                };
                (kernel, floats(&[columns.extent(), rows.extent(), lanes])?)
            }
        };
        Some(Depthwise {
            rows,
            columns,
            weights,
            bias: padded(bias, lanes),
            clamp,
            kernel,
            scratch_len,
            channels,
            pixel,
        })
    }
}

/// `values` padded with zeros to whole vectors.
pub(super) fn padded(values: &[f32], lanes: usize) -> Buffer {
    let mut buffer = Buffer::zeros(values.len().next_multiple_of(lanes));
    buffer.as_mut_slice()[..values.len()].copy_from_slice(values);
    buffer
}

impl Step for Depthwise {
    fn kind(&self) -> &'static str {
        "depthwise"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.reach(rows)
    }

    fn multiply_adds(&self, output: &Shape) -> usize {
        output.height * output.width * output.channels * self.rows.size * self.columns.size
    }

    fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_input_of(&self.rows, &self.columns)
            && input.has_pixels_of(output))
            && output.is_output_of(&self.rows, &self.columns)
            && (output.channels, output.pixel) == (self.channels, self.pixel)
            && output.element == Element::Float
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, range: Range<usize>, scratch: &mut Scratch) {
        if range.is_empty() {
            return;
        }
        assert!(self.scratch_len <= scratch.values.len());
        // SAFETY: the caller's maps have the rows that `input_rows` names and those of `range`; `fits` held their
        // columns and pixels against the windows and against weights and bias, which are padded to whole vectors;
        // scratch has room for the copy, as was just asked.
        unsafe {
            (self.kernel)(&Args {
                input: inputs[0],
                output,
                copy: scratch.values.as_mut_ptr(),
                range,
                rows: self.rows,
                columns: self.columns,
                weights: self.weights.as_ptr(),
                bias: self.bias.as_ptr(),
                clamp: self.clamp,
            });
        }
    }
}

/// One output value of each lane, at any place of the map.
///
/// # Safety
/// As [`Kernel::run`]; `input`, `output` and `weights` are those of the vector.
#[inline(always)]
unsafe fn pixel<S: Simd>(args: &Args, vector: usize, y: usize, x: usize, weights: *const f32) {
    // SAFETY: `Window::taps` names only rows and columns of the input; the caller's vector and place lie within a
    // pixel and the output.
    unsafe {
        let offset = vector * S::LANES;
        let pixel = args.input.shape.pixel;
        let mut sum = S::load(args.bias.add(offset));
        let taps = args.columns.taps(x);
        for ky in args.rows.taps(y) {
            let row = args.input.row(args.rows.at(y, ky)).add(offset);
            for kx in taps.clone() {
                let value = S::load(row.add(args.columns.at(x, kx) * pixel));
                let tap = ky * args.columns.size + kx;
                sum = S::mul_add(value, S::load(weights.add(tap * S::LANES)), sum);
            }
        }
        let to = args.output.row(y).add(x * args.output.shape.pixel + offset);
        S::store(to, args.clamp.of::<S>(sum));
    }
}

/// Output columns that are summed up side by side, to use each loaded pixel for several of them.
const COLUMNS: usize = 7;

/// Windows of `K` x `K` with stride `STRIDE`, on a copy of each vector's rows with zeros around them.
struct Copied<const K: usize, const STRIDE: usize>;

impl<const K: usize, const STRIDE: usize> Kernel for Copied<K, STRIDE> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let output = args.output.shape;
        let width = args.columns.extent() * S::LANES;
        // SAFETY: the copy has `Window::extent` rows and columns, which are those that the windows of all outputs meet:
        // `scratch_len` counts them. Vectors and outputs are those of the maps.
        unsafe {
            for vector in 0..output.pixel / S::LANES {
                let offset = vector * S::LANES;
                copy_rows::<S>(args, offset);
                let weights = args.weights.add(vector * K * K * S::LANES);
                let bias = S::load(args.bias.add(offset));
                for (i, y) in args.range.clone().enumerate() {
                    let top = args.copy.add(i * STRIDE * width).cast_const();
                    let to = args.output.row(y).add(offset);
                    let mut x = 0;
                    if output.width >= COLUMNS {
                        while x < output.width {
                            // The last block may overlap the one before.
                            let start = x.min(output.width - COLUMNS);
                            let from = top.add(start * STRIDE * S::LANES);
                            let to = to.add(start * output.pixel);
                            block::<S, K, STRIDE, COLUMNS>(
                                args,
                                weights,
                                bias,
                                from,
                                [width, S::LANES],
                                to,
                            );
                            x += COLUMNS;
                        }
                    } else {
                        while x < output.width {
                            let from = top.add(x * STRIDE * S::LANES);
                            let to = to.add(x * output.pixel);
                            block::<S, K, STRIDE, 1>(
                                args,
                                weights,
                                bias,
                                from,
                                [width, S::LANES],
                                to,
                            );
                            x += 1;
                        }
                    }
                }
            }
        }
    }
}

/// As [`Copied`], for windows of any size, stride and dilation.
struct CopiedAny;

impl Kernel for CopiedAny {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let output = args.output.shape;
        let Args { rows, columns, .. } = args;
        let width = columns.extent() * S::LANES;
        // SAFETY: as in `Copied`.
        unsafe {
            for vector in 0..output.pixel / S::LANES {
                let offset = vector * S::LANES;
                copy_rows::<S>(args, offset);
                let weights = args
                    .weights
                    .add(vector * rows.size * columns.size * S::LANES);
                let bias = S::load(args.bias.add(offset));
                for (i, y) in args.range.clone().enumerate() {
                    let top = args.copy.add(i * rows.stride * width).cast_const();
                    let to = args.output.row(y).add(offset);
                    let mut x = 0;
                    while x < output.width {
                        // The last block may overlap the one before.
                        let wide = output.width >= COLUMNS;
                        let start = if wide {
                            x.min(output.width - COLUMNS)
                        } else {
                            x
                        };
                        let from = top.add(start * columns.stride * S::LANES);
                        let to = to.add(start * output.pixel);
                        if wide {
                            any_block::<S, COLUMNS>(args, weights, bias, from, width, to);
                            x += COLUMNS;
                        } else {
                            any_block::<S, 1>(args, weights, bias, from, width, to);
                            x += 1;
                        }
                    }
                }
            }
        }
    }
}

/// Windows of `K` x `K` with stride `STRIDE`; those that reach over the edge are treated alone.
struct InPlace<const K: usize, const STRIDE: usize>;

impl<const K: usize, const STRIDE: usize> Kernel for InPlace<K, STRIDE> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        /// As [`COLUMNS`], where the pixels lie apart.
        const APART: usize = 4;
        let (input, output) = (args.input.shape, args.output.shape);
        let (inner_rows, inner) = (args.rows.inner(), args.columns.inner());
        // SAFETY: `Window::inner` names only outputs whose every tap lies within the input; all others go by
        // `pixel`. Vectors and outputs are those of the maps.
        unsafe {
            for vector in 0..output.pixel / S::LANES {
                let offset = vector * S::LANES;
                let weights = args.weights.add(vector * K * K * S::LANES);
                let bias = S::load(args.bias.add(offset));
                for y in args.range.clone() {
                    if !inner_rows.contains(&y) || inner.len() < APART {
                        for x in 0..output.width {
                            pixel::<S>(args, vector, y, x, weights);
                        }
                        continue;
                    }
                    for x in (0..inner.start).chain(inner.end..output.width) {
                        pixel::<S>(args, vector, y, x, weights);
                    }
                    let top = args.input.row(args.rows.at(y, 0)).add(offset);
                    let to = args.output.row(y).add(offset);
                    for x in inner.clone().step_by(APART) {
                        // The last block may overlap the one before.
                        let x = x.min(inner.end - APART);
                        let from = top.add(args.columns.at(x, 0) * input.pixel).cast_const();
                        let to = to.add(x * output.pixel);
                        let strides = [input.row(), input.pixel];
                        block::<S, K, STRIDE, APART>(args, weights, bias, from, strides, to);
                    }
                }
            }
        }
    }
}

/// `N` outputs side by side, from the input at `from`, whose rows and pixels are `strides` apart. Each value of the input
/// is loaded once for all windows of a row that have it.
///
/// # Safety
/// As [`Kernel::run`]; the input and the output must hold the block, `weights` be those of the vector.
#[inline(always)]
unsafe fn block<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(
    args: &Args,
    weights: *const f32,
    bias: S::V,
    from: *const f32,
    [row_stride, pixel_stride]: [usize; 2],
    to: *mut f32,
) {
    macro_rules! columns {
        ($row:ident, $taps:ident, $sums:ident: $($j:literal)*) => {
            $(if $j < (N - 1) * STRIDE + K {
                let value = S::load($row.add($j * pixel_stride));
                column::<S, K, STRIDE, N>($j, value, &$taps, &mut $sums);
            })*
        };
    }
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [bias; N];
        for ky in 0..K {
            let row = from.add(ky * row_stride);
            let mut taps = [bias; K];
            for (kx, tap) in taps.iter_mut().enumerate() {
                *tap = S::load(weights.add((ky * K + kx) * S::LANES));
            }
            columns!(row, taps, sums: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
        }
        for (i, &sum) in sums.iter().enumerate() {
            let to = to.add(i * args.output.shape.pixel);
            S::store(to, args.clamp.of::<S>(sum));
        }
    }
}

/// Adds the value of column `j` to all sums whose windows have it.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn column<S: Simd, const K: usize, const STRIDE: usize, const N: usize>(
    j: usize,
    value: S::V,
    taps: &[S::V; K],
    sums: &mut [S::V; N],
) {
    for (i, sum) in sums.iter_mut().enumerate() {
        let kx = j.wrapping_sub(i * STRIDE);
        if kx < K {
            // SAFETY: the caller's processor has the instruction set.
            *sum = unsafe { S::mul_add(value, taps[kx], *sum) };
        }
    }
}

/// As [`block`], for windows of any size, stride and dilation.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn any_block<S: Simd, const N: usize>(
    args: &Args,
    weights: *const f32,
    bias: S::V,
    from: *const f32,
    row_stride: usize,
    to: *mut f32,
) {
    let Args { rows, columns, .. } = args;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [bias; N];
        for ky in 0..rows.size {
            let row = from.add(ky * rows.dilation * row_stride);
            for kx in 0..columns.size {
                let tap = S::load(weights.add((ky * columns.size + kx) * S::LANES));
                let start = row.add(kx * columns.dilation * S::LANES);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let value = S::load(start.add(i * columns.stride * S::LANES));
                    *sum = S::mul_add(value, tap, *sum);
                }
            }
        }
        for (i, &sum) in sums.iter().enumerate() {
            let to = to.add(i * args.output.shape.pixel);
            S::store(to, args.clamp.of::<S>(sum));
        }
    }
}

/// Copies one vector of each pixel that the windows of `range` meet, with zeros outside the map.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn copy_rows<S: Simd>(args: &Args, offset: usize) {
    let Args { rows, columns, .. } = args;
    let pixel = args.input.shape.pixel;
    let width = columns.extent();
    let first = args.range.start * rows.stride;
    let count = rows.span(args.range.len());
    let left = columns.before.min(width);
    let middle = columns.input.min(width - left);
    // SAFETY: only rows and columns of the input are read; the copy has as many rows as the whole output spans, and
    // `count` is what a part of it does.
    unsafe {
        let zero = S::splat(0.0);
        for i in 0..count {
            let to = args.copy.add(i * width * S::LANES);
            let y = (first + i).wrapping_sub(rows.before);
            let (left, middle) = if y < rows.input {
                (left, middle)
            } else {
                (width, 0)
            };
            for x in (0..left).chain(left + middle..width) {
                S::store(to.add(x * S::LANES), zero);
            }
            if middle > 0 {
                let from = args.input.row(y).add(offset).cast_const();
                let to = to.add(left * S::LANES);
                for x in 0..middle {
                    S::store(to.add(x * S::LANES), S::load(from.add(x * pixel)));
                }
            }
        }
    }
}
