//! Layer normalisation: every pixel to mean 0 and variance 1 over its channels.

use std::ops::Range;

use super::buffer::Buffer;
use super::depthwise::padded;
use super::map::{Element, Map, Shape};
use super::simd::{Entry, InstructionSet, Kernel, MOST_LANES, Simd};
use super::step::{Scratch, Step};

/// `(x - mean) / √(variance + epsilon) · scale + shift` of every pixel over its channels; without the mean, where
/// only the root mean square becomes 1.
pub(super) struct Normalize {
    scale: Buffer,
    shift: Buffer,
    channels: usize,
    epsilon: f32,
    is_centred: bool,
    lanes: usize,
    kernel: Entry<Args>,
}

struct Args {
    from: *const f32,
    to: *mut f32,
    pixels: usize,
    pixel: usize,
    channels: usize,
    scale: *const f32,
    shift: *const f32,
    epsilon: f32,
}

impl Normalize {
    /// `scale` and `shift` have one value for each channel.
    pub(super) fn new(
        isa: InstructionSet,
        scale: &[f32],
        shift: &[f32],
        epsilon: f32,
        is_centred: bool,
    ) -> Normalize {
        Normalize {
            scale: padded(scale, isa.lanes()),
            shift: padded(shift, isa.lanes()),
            channels: scale.len().min(shift.len()),
            epsilon,
            is_centred,
            lanes: isa.lanes(),
            kernel: match is_centred {
                true => isa.entry::<Pixels<true>>(),
                false => isa.entry::<Pixels<false>>(),
            },
        }
    }
}

impl Step for Normalize {
    fn kind(&self) -> &'static str {
        match self.is_centred {
            true => "layer norm",
            false => "rms norm",
        }
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        inputs == [*output]
            && output.element == Element::Float
            && output.channels == self.channels
            && output.pixel >= self.channels
            && output.pixel.is_multiple_of(self.lanes)
            && output.pixel <= self.scale.len().min(self.shift.len())
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's maps have `rows`; `fits` held their shapes against each other, and a pixel, which is
        // whole vectors, against scale and shift.
        unsafe {
            (self.kernel)(&Args {
                from: inputs[0].row(rows.start),
                to: output.row(rows.start),
                pixels: rows.len() * output.shape.width,
                pixel: output.shape.pixel,
                channels: self.channels,
                scale: self.scale.as_ptr(),
                shift: self.shift.as_ptr(),
                epsilon: self.epsilon,
            });
        }
    }
}

struct Pixels<const CENTRED: bool>;

impl<const CENTRED: bool> Kernel for Pixels<CENTRED> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let whole = args.channels / S::LANES * S::LANES;
        let rest = args.channels - whole;
        let count = args.channels as f32;
        let mut mask = [0.0; MOST_LANES];
        mask[..rest].fill(1.0);
        // SAFETY: the caller's pixels, scale and shift are whole vectors; the arrays have room for the widest. Of the
        // last vector only channels are read.
        unsafe {
            let mask = S::load(mask.as_ptr());
            for i in 0..args.pixels {
                let (from, to) = (args.from.add(i * args.pixel), args.to.add(i * args.pixel));
                let mut last = [0.0; MOST_LANES];
                for (j, x) in last[..rest].iter_mut().enumerate() {
                    *x = *from.add(whole + j);
                }
                let last = S::load(last.as_ptr());
                let mut mean = 0.0;
                if CENTRED {
                    let mut sums = [last, S::splat(0.0)];
                    for (j, offset) in (0..whole).step_by(S::LANES).enumerate() {
                        sums[j % 2] = S::add(sums[j % 2], S::load(from.add(offset)));
                    }
                    mean = sum::<S>(S::add(sums[0], sums[1])) / count;
                }
                // What rounding left in the mean is taken out of it.
                let centre = S::splat(mean);
                let from_mean = S::mul(S::sub(last, centre), mask);
                let mut squares = [S::mul(from_mean, from_mean), S::splat(0.0)];
                let mut rests = [from_mean, S::splat(0.0)];
                for (j, offset) in (0..whole).step_by(S::LANES).enumerate() {
                    let x = S::sub(S::load(from.add(offset)), centre);
                    squares[j % 2] = S::mul_add(x, x, squares[j % 2]);
                    if CENTRED {
                        rests[j % 2] = S::add(rests[j % 2], x);
                    }
                }
                let mut variance = sum::<S>(S::add(squares[0], squares[1])) / count;
                if CENTRED {
                    let rest = sum::<S>(S::add(rests[0], rests[1])) / count;
                    mean += rest;
                    variance -= rest * rest;
                }
                let factor = S::splat(1.0 / (variance + args.epsilon).sqrt());
                let centre = S::splat(mean);
                let place = |x: S::V, offset: usize| {
                    let x = S::mul(S::sub(x, centre), factor);
                    let scale = S::load(args.scale.add(offset));
                    S::mul_add(x, scale, S::load(args.shift.add(offset)))
                };
                for offset in (0..whole).step_by(S::LANES) {
                    S::store(to.add(offset), place(S::load(from.add(offset)), offset));
                }
                if rest > 0 {
                    S::store(to.add(whole), place(last, whole));
                }
            }
        }
    }
}

/// The sum of all lanes.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0; MOST_LANES];
    // SAFETY: no vector has more lanes than the array.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    let mut width = S::LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
