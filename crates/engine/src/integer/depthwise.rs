//! Depthwise convolution of bytes: every channel with its own window.
//!
//! A row of one vector's channels is brought into a form in which four pixels that follow each other are the four
//! bytes of a lane, at every place: a window's row is then one product of quads, or two.

use std::ops::Range;

use super::gemm::{QUAD, of_bytes, padded_integers};
use super::{IntegerWeights, Outcome};
use crate::buffer::Buffer;
use crate::depthwise::padded;
use crate::geometry::{Window, floats, padded_to, product};
use crate::map::{Element, Map, Shape};
use crate::simd::{Dot, DotEntry, DotKernel, DotSet, InstructionSet, MOST_LANES, Simd};
use crate::step::{Scratch, Step};

/// Outputs that are summed up side by side.
const COLUMNS: usize = 7;

/// A depthwise convolution with bias, of bytes to bytes, with windows without gaps.
pub(crate) struct IntegerDepthwise {
    rows: Window,
    columns: Window,
    /// `[vector][row][quad of taps][lane][tap]`.
    weights: Buffer,
    bias: Buffer,
    scales: Buffer,
    zero: u8,
    outcome: Outcome,
    kernel: DotEntry<Args>,
    channels: usize,
    /// The same, padded to whole vectors.
    pixel: usize,
    /// Quads of as many rows as a window has.
    scratch_len: usize,
}

struct Args {
    input: Map,
    output: Map,
    /// Room for as many rows of quads as a window has.
    quads: *mut u32,
    range: Range<usize>,
    rows: Window,
    columns: Window,
    weights: *const i8,
    bias: *const i32,
    scales: *const f32,
    zero: u8,
    outcome: Outcome,
}

impl IntegerDepthwise {
    /// None if the windows have gaps, if weights or rows of quads are too large, or if there are not as many weights as
    /// the windows have taps.
    pub(crate) fn new(
        isa: InstructionSet,
        set: DotSet,
        rows: Window,
        columns: Window,
        weights: &IntegerWeights,
    ) -> Option<IntegerDepthwise> {
        let lanes = isa.lanes();
        let channels = weights.bias.len();
        let pixel = padded_to(channels, lanes)?;
        let taps = product(&[rows.size, columns.size])?;
        let quads = columns.size.div_ceil(QUAD);
        let each = floats(&[rows.size, quads, lanes])?;
        let counted = product(&[channels, taps])? == weights.values.len()
            && weights.scales.len() == channels
            && rows.dilation == 1
            && columns.dilation == 1;
        if !counted {
            return None;
        }
        let mut packed = Buffer::try_zeros(floats(&[pixel / lanes, each])?)?;
        let mut bias = weights.beginnings();
        let slice = packed.as_mut_slice();
        for (channel, bias) in bias.iter_mut().enumerate() {
            let kernel = &weights.values[channel * taps..(channel + 1) * taps];
            for &value in kernel {
                // What the offset takes away is given back at the beginning.
                *bias = bias.wrapping_add(set.offset() * i32::from(value));
            }
            for (y, row) in kernel.chunks_exact(columns.size).enumerate() {
                for (q, taps) in row.chunks(QUAD).enumerate() {
                    let quad = std::array::from_fn(|i| taps.get(i).copied().unwrap_or(0));
                    let place = (y * quads + q) * lanes + channel % lanes;
                    slice[channel / lanes * each + place] = of_bytes(quad);
                }
            }
        }
        let kernel = match (rows.size, columns.size, columns.stride) {
            (3, 3, 1) => set.entry::<Windows<3, 1, 1>>(),
            (3, 3, 2) => set.entry::<Windows<3, 1, 2>>(),
            (5, 5, 1) => set.entry::<Windows<5, 2, 1>>(),
            (5, 5, 2) => set.entry::<Windows<5, 2, 2>>(),
            _ => set.entry::<AnyWindows>(),
        };
        Some(IntegerDepthwise {
            rows,
            columns,
            weights: packed,
            bias: padded_integers(&bias, lanes),
            scales: padded(&weights.multipliers(), lanes),
            zero: weights.input.zero,
            outcome: weights.outcome(),
            kernel,
            channels,
            pixel,
            scratch_len: floats(&[rows.size, places(&columns), lanes])?,
        })
    }
}

/// Places of a row of quads: every column that a quad of a window begins at.
fn places(columns: &Window) -> usize {
    let last = (columns.output - 1) * columns.stride;
    last + (columns.size.div_ceil(QUAD) - 1) * QUAD + 1
}

impl Step for IntegerDepthwise {
    fn kind(&self) -> &'static str {
        "int8 depth"
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

    fn weight_bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_input_of(&self.rows, &self.columns)
            && (input.channels, input.pixel) == (self.channels, self.pixel)
            && input.element == Element::Byte)
            && output.is_output_of(&self.rows, &self.columns)
            && (output.channels, output.pixel) == (self.channels, self.pixel)
            && output.element == self.outcome.element()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, range: Range<usize>, scratch: &mut Scratch) {
        assert!(self.scratch_len <= scratch.values.len());
        // SAFETY: the caller's maps have the rows that `input_rows` names and those of `range`; `fits` held their columns
        // and pixels against the windows and against weights, bias and scales, which are padded to whole vectors; scratch
        // has room for the quads, as was just asked.
        unsafe {
            (self.kernel)(&Args {
                input: inputs[0],
                output,
                quads: scratch.values.as_mut_ptr().cast(),
                range,
                rows: self.rows,
                columns: self.columns,
                weights: self.weights.as_ptr().cast(),
                bias: self.bias.as_ptr().cast(),
                scales: self.scales.as_ptr(),
                zero: self.zero,
                outcome: self.outcome,
            });
        }
    }
}

/// Makes the quads of input row `y`, counted from the first row of padding, of one vector's channels.
///
/// # Safety
/// As [`DotKernel::run`].
#[inline(always)]
unsafe fn make_quads<D: Dot>(args: &Args, offset: usize, y: usize, to: *mut u32) {
    let lanes = <D::Floats as Simd>::LANES;
    let (before, input) = (args.columns.before, args.columns.input);
    let y = y.wrapping_sub(args.rows.before);
    let zeros = u32::from_le_bytes([args.zero; QUAD]);
    let mut quad = [zeros; MOST_LANES];
    let places = places(&args.columns);
    let inside = y < args.rows.input;
    // SAFETY: only rows and columns of the input are read, of which a pixel is whole vectors; `to` is a row of the ring,
    // which `scratch_len` makes as long as `places` says.
    unsafe {
        let row = match inside {
            true => args.input.bytes(y).add(offset).cast_const(),
            false => std::ptr::null(),
        };
        // A quad begins with the pixel of its place: from the last place down, each is the one behind it moved up,
        // with one more pixel. The last may need pixels behind its own.
        for place in (0..places + QUAD - 1).rev() {
            let x = place.wrapping_sub(before);
            if inside && x < input {
                let pixel = row.add(x * args.input.shape.pixel);
                for (lane, quad) in quad.iter_mut().enumerate().take(lanes) {
                    *quad = (*quad << 8) | u32::from(*pixel.add(lane));
                }
            } else {
                for quad in quad.iter_mut().take(lanes) {
                    *quad = (*quad << 8) | (zeros & 0xff);
                }
            }
            if place < places {
                to.add(place * lanes)
                    .copy_from_nonoverlapping(quad.as_ptr(), lanes);
            }
        }
    }
}

/// Stores what became of a sum.
///
/// # Safety
/// As [`DotKernel::run`]; `place` counts values of the output row `y`.
#[inline(always)]
unsafe fn finish<D: Dot>(args: &Args, offset: usize, y: usize, place: usize, sums: D::Sums) {
    // SAFETY: the caller's.
    unsafe {
        let scale = <D::Floats as Simd>::load(args.scales.add(offset));
        let value = <D::Floats as Simd>::mul(D::floats(sums), scale);
        match args.outcome {
            Outcome::Bytes { zero } => {
                <D::Floats as Simd>::store_bytes(args.output.bytes(y).add(place), value, zero);
            }
            Outcome::Floats => {
                <D::Floats as Simd>::store(args.output.row(y).add(place), value);
            }
        }
    }
}

/// Makes the rows of quads that the window of output row `y` needs and that are not among those `made` before. They
/// are kept in a ring of as many as a window has, `size`.
///
/// # Safety
/// As [`DotKernel::run`].
#[inline(always)]
unsafe fn make_rows<D: Dot>(args: &Args, size: usize, offset: usize, y: usize, made: &mut usize) {
    let first = y * args.rows.stride;
    *made = first.max(*made);
    while *made < first + size {
        // SAFETY: the ring has room for all rows of a window: `scratch_len` counts them.
        unsafe { make_quads::<D>(args, offset, *made, ring::<D>(args, size, *made)) };
        *made += 1;
    }
}

/// Where in the ring the quads of input row `y`, counted from the first row of padding, are.
#[inline(always)]
fn ring<D: Dot>(args: &Args, size: usize, y: usize) -> *mut u32 {
    let length = places(&args.columns) * <D::Floats as Simd>::LANES;
    args.quads.wrapping_add(y % size * length)
}

/// Windows of `K` x `K`, whose rows are `Q` quads, with stride `STRIDE` between columns.
struct Windows<const K: usize, const Q: usize, const STRIDE: usize>;

impl<const K: usize, const Q: usize, const STRIDE: usize> DotKernel for Windows<K, Q, STRIDE> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<D: Dot>(args: &Args) {
        let lanes = <D::Floats as Simd>::LANES;
        let (width, pixel) = (args.output.shape.width, args.output.shape.pixel);
        let step = lanes * QUAD;
        // SAFETY: `make_rows` makes the quads of every place that a window of the row begins at; `new` made weights,
        // bias and scale for every vector of channels. Vectors and outputs are those of the maps.
        unsafe {
            for vector in 0..args.output.shape.channels.div_ceil(lanes) {
                let offset = vector * lanes;
                let from = args.weights.add(vector * K * Q * step);
                let mut weights = [[D::weights(from); Q]; K];
                for (i, weight) in weights.iter_mut().flatten().enumerate() {
                    *weight = D::weights(from.add(i * step));
                }
                let bias = D::sums(args.bias.add(offset));
                let mut made = 0;
                for y in args.range.clone() {
                    make_rows::<D>(args, K, offset, y, &mut made);
                    let tops: [*const u8; K] = std::array::from_fn(|ky| {
                        ring::<D>(args, K, y * args.rows.stride + ky)
                            .cast_const()
                            .cast()
                    });
                    let mut x = 0;
                    while x < width {
                        if width >= COLUMNS {
                            // The last block may overlap the one before.
                            let start = x.min(width - COLUMNS);
                            let sums =
                                block::<D, K, Q, STRIDE, COLUMNS>(&weights, bias, &tops, start);
                            for (i, &sum) in sums.iter().enumerate() {
                                finish::<D>(args, offset, y, (start + i) * pixel + offset, sum);
                            }
                            x += COLUMNS;
                        } else {
                            let [sum] = block::<D, K, Q, STRIDE, 1>(&weights, bias, &tops, x);
                            finish::<D>(args, offset, y, x * pixel + offset, sum);
                            x += 1;
                        }
                    }
                }
            }
        }
    }
}

/// The sums of `N` outputs side by side, from column `start` on.
///
/// # Safety
/// As [`DotKernel::run`]; the quads must be there.
#[inline(always)]
unsafe fn block<D: Dot, const K: usize, const Q: usize, const STRIDE: usize, const N: usize>(
    weights: &[[D::Weights; Q]; K],
    bias: D::Sums,
    tops: &[*const u8; K],
    start: usize,
) -> [D::Sums; N] {
    let step = <D::Floats as Simd>::LANES * QUAD;
    let mut sums = [bias; N];
    // SAFETY: the caller's.
    unsafe {
        for (top, weights) in tops.iter().zip(weights) {
            for (q, &weight) in weights.iter().enumerate() {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let place = (start + i) * STRIDE + q * QUAD;
                    *sum = D::dot(*sum, D::bytes(top.add(place * step)), weight);
                }
            }
        }
    }
    sums
}

/// Windows of any size and stride.
struct AnyWindows;

impl DotKernel for AnyWindows {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<D: Dot>(args: &Args) {
        let lanes = <D::Floats as Simd>::LANES;
        let step = lanes * QUAD;
        let quads = args.columns.size.div_ceil(QUAD);
        let (width, pixel) = (args.output.shape.width, args.output.shape.pixel);
        // SAFETY: as for `Windows`.
        unsafe {
            for vector in 0..args.output.shape.channels.div_ceil(lanes) {
                let offset = vector * lanes;
                let from = args.weights.add(vector * args.rows.size * quads * step);
                let mut made = 0;
                for y in args.range.clone() {
                    make_rows::<D>(args, args.rows.size, offset, y, &mut made);
                    for x in 0..width {
                        let mut sums = D::sums(args.bias.add(offset));
                        for ky in 0..args.rows.size {
                            let row = y * args.rows.stride + ky;
                            let top: *const u8 = ring::<D>(args, args.rows.size, row).cast();
                            for q in 0..quads {
                                let place = x * args.columns.stride + q * QUAD;
                                let weights = D::weights(from.add((ky * quads + q) * step));
                                sums = D::dot(sums, D::bytes(top.add(place * step)), weights);
                            }
                        }
                        finish::<D>(args, offset, y, x * pixel + offset, sums);
                    }
                }
            }
        }
    }
}
