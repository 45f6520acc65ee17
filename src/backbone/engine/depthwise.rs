//! Depthwise convolution: every channel with its own window.

use std::ops::Range;

use super::buffer::Buffer;
use super::map::{Map, Window};
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
}

struct Args {
    input: Map,
    output: Map,
    range: Range<usize>,
    rows: Window,
    columns: Window,
    weights: *const f32,
    bias: *const f32,
    clamp: Clamp,
}

impl Depthwise {
    /// `weight(channel, row, column)` gives the weights; `bias` has a value for each channel.
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: &[f32],
        clamp: Clamp,
    ) -> Depthwise {
        let lanes = isa.lanes();
        let channels = bias.len();
        let taps = rows.size * columns.size;
        let mut weights = Buffer::zeros(channels.next_multiple_of(lanes) * taps);
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
        let kernel = match (rows.size, rows.stride) {
            (3, 1) if square => isa.entry::<Square<3, 1>>(),
            (3, 2) if square => isa.entry::<Square<3, 2>>(),
            (5, 1) if square => isa.entry::<Square<5, 1>>(),
            (5, 2) if square => isa.entry::<Square<5, 2>>(),
            _ => isa.entry::<Any>(),
        };
        Depthwise {
            rows,
            columns,
            weights,
            bias: padded(bias, lanes),
            clamp,
            kernel,
        }
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

    fn multiply_adds(&self, output: &super::map::Shape) -> usize {
        output.height * output.width * output.channels * self.rows.size * self.columns.size
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, range: Range<usize>, _: &mut Scratch) {
        // SAFETY: the maps are valid for the rows that `input_rows` names and for `range`, as the trait
        // asks; weights and bias are padded to the vectors of a pixel.
        unsafe {
            (self.kernel)(&Args {
                input: inputs[0],
                output,
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
    // SAFETY: `taps` names only rows and columns of the input.
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

/// Windows of any size, stride and dilation.
struct Any;

impl Kernel for Any {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let taps = args.rows.size * args.columns.size;
        for vector in 0..args.output.shape.pixel / S::LANES {
            for y in args.range.clone() {
                for x in 0..args.output.shape.width {
                    // SAFETY: vector and pixel lie within the maps.
                    unsafe {
                        let weights = args.weights.add(vector * taps * S::LANES);
                        pixel::<S>(args, vector, y, x, weights);
                    }
                }
            }
        }
    }
}

/// Output columns that are summed up side by side, to use each loaded pixel for several of them.
const COLUMNS: usize = 4;

/// Windows of `K` x `K` with stride `STRIDE`.
struct Square<const K: usize, const STRIDE: usize>;

impl<const K: usize, const STRIDE: usize> Kernel for Square<K, STRIDE> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: `inner` names only outputs whose every tap lies within the input.
        unsafe {
            let (input, output) = (args.input.shape, args.output.shape);
            let (inner_rows, inner) = (args.rows.inner(), args.columns.inner());
            let blocked = inner.len() / COLUMNS * COLUMNS;
            for vector in 0..output.pixel / S::LANES {
                let offset = vector * S::LANES;
                let from = args.weights.add(vector * K * K * S::LANES);
                let mut weights = [[S::splat(0.0); K]; K];
                for (ky, row) in weights.iter_mut().enumerate() {
                    for (kx, weight) in row.iter_mut().enumerate() {
                        *weight = S::load(from.add((ky * K + kx) * S::LANES));
                    }
                }
                let bias = S::load(args.bias.add(offset));
                for y in args.range.clone() {
                    if !inner_rows.contains(&y) || blocked == 0 {
                        for x in 0..output.width {
                            pixel::<S>(args, vector, y, x, from);
                        }
                        continue;
                    }
                    for x in (0..inner.start).chain(inner.end..output.width) {
                        pixel::<S>(args, vector, y, x, from);
                    }
                    let top = args.input.row(args.rows.at(y, 0)).add(offset);
                    let to = args.output.row(y).add(offset);
                    let mut x = inner.start;
                    while x < inner.end {
                        // The last block may overlap the one before.
                        let start = x.min(inner.end - COLUMNS);
                        let mut sums = [bias; COLUMNS];
                        let left = top.add(args.columns.at(start, 0) * input.pixel);
                        for (ky, weights) in weights.iter().enumerate() {
                            let row = left.add(ky * input.row());
                            for (kx, &weight) in weights.iter().enumerate() {
                                for (i, sum) in sums.iter_mut().enumerate() {
                                    let at = row.add((i * STRIDE + kx) * input.pixel);
                                    *sum = S::mul_add(S::load(at), weight, *sum);
                                }
                            }
                        }
                        for (i, &sum) in sums.iter().enumerate() {
                            let at = to.add((start + i) * output.pixel);
                            S::store(at, args.clamp.of::<S>(sum));
                        }
                        x += COLUMNS;
                    }
                }
            }
        }
    }
}
