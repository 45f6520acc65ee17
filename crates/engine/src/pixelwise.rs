//! Operations on one pixel at a time: sums and products of maps, scale and shift, joining of channels.

use std::ops::Range;

use super::buffer::Buffer;
use super::depthwise::padded;
use super::map::{Element, Map, Shape};
use super::simd::{Entry, InstructionSet, Kernel, Simd};
use super::step::{Clamp, Scratch, Step};

/// What is done with two maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pair {
    Sum,
    Product,
    /// The first less the second.
    Difference,
}

/// Sum, product or difference of two maps of one shape, or of a map and one pixel for all its pixels.
pub(super) struct Binary {
    clamp: Clamp,
    lanes: usize,
    kernel: Entry<Args>,
}

/// `x · scale + shift` with a scale and shift for each channel.
pub(super) struct Affine {
    scale: Buffer,
    shift: Buffer,
    clamp: Clamp,
    lanes: usize,
    kernel: Entry<Args>,
}

struct Args {
    /// `pixels` of `pixel` values each.
    left: *const f32,
    /// As `left`, or one pixel for all of them.
    right: *const f32,
    right_stride: usize,
    /// One pixel; read by [`Scaled`] alone.
    shift: *const f32,
    to: *mut f32,
    pixels: usize,
    pixel: usize,
    clamp: Clamp,
}

impl Binary {
    pub(super) fn new(isa: InstructionSet, pair: Pair, clamp: Clamp) -> Binary {
        let kernel = match pair {
            Pair::Sum => isa.entry::<Summed>(),
            Pair::Product => isa.entry::<Multiplied>(),
            Pair::Difference => isa.entry::<Subtracted>(),
        };
        Binary {
            clamp,
            lanes: isa.lanes(),
            kernel,
        }
    }
}

impl Affine {
    pub(super) fn new(isa: InstructionSet, scale: &[f32], shift: &[f32], clamp: Clamp) -> Affine {
        Affine {
            scale: padded(scale, isa.lanes()),
            shift: padded(shift, isa.lanes()),
            clamp,
            lanes: isa.lanes(),
            kernel: isa.entry::<Scaled>(),
        }
    }
}

impl Step for Binary {
    fn kind(&self) -> &'static str {
        "pair"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let one_pixel = |s: &Shape| s.height == 1 && s.width == 1 && s.has_pixels_of(output);
        matches!(inputs, [left, right] if left == output && (right == output || one_pixel(right)))
            && output.element == Element::Float
            && output.pixel.is_multiple_of(self.lanes)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let shape = output.shape;
        let same = inputs[1].shape == shape;
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's maps have `rows`, a single pixel its only one; `fits` held their shapes against each
        // other; a pixel is whole vectors.
        unsafe {
            (self.kernel)(&Args {
                left: inputs[0].row(rows.start),
                right: inputs[1].row(if same { rows.start } else { 0 }),
                right_stride: if same { shape.pixel } else { 0 },
                shift: std::ptr::null(),
                to: output.row(rows.start),
                pixels: rows.len() * shape.width,
                pixel: shape.pixel,
                clamp: self.clamp,
            });
        }
    }
}

impl Step for Affine {
    fn kind(&self) -> &'static str {
        "affine"
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
            && output.pixel.is_multiple_of(self.lanes)
            && output.pixel <= self.scale.len().min(self.shift.len())
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let shape = output.shape;
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's maps have `rows`; `fits` held their shapes against each other, and a pixel, which is
        // whole vectors, against scale and shift.
        unsafe {
            (self.kernel)(&Args {
                left: inputs[0].row(rows.start),
                right: self.scale.as_ptr(),
                right_stride: 0,
                shift: self.shift.as_ptr(),
                to: output.row(rows.start),
                pixels: rows.len() * shape.width,
                pixel: shape.pixel,
                clamp: self.clamp,
            });
        }
    }
}

/// Calls `join(left, right, offset in the pixel)` for all vectors and stores what it gives, clamped.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn each<S: Simd>(args: &Args, join: impl Fn(S::V, S::V, usize) -> S::V) {
    // SAFETY: the caller's pointers are valid for all pixels, each of whole vectors.
    unsafe {
        for i in 0..args.pixels {
            let left = args.left.add(i * args.pixel);
            let right = args.right.add(i * args.right_stride);
            let to = args.to.add(i * args.pixel);
            for offset in (0..args.pixel).step_by(S::LANES) {
                let value = join(
                    S::load(left.add(offset)),
                    S::load(right.add(offset)),
                    offset,
                );
                S::store(to.add(offset), args.clamp.of::<S>(value));
            }
        }
    }
}

struct Summed;

impl Kernel for Summed {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { each::<S>(args, |a, b, _| S::add(a, b)) }
    }
}

struct Multiplied;

impl Kernel for Multiplied {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { each::<S>(args, |a, b, _| S::mul(a, b)) }
    }
}

struct Subtracted;

impl Kernel for Subtracted {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { each::<S>(args, |a, b, _| S::sub(a, b)) }
    }
}

struct Scaled;

impl Kernel for Scaled {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            each::<S>(args, |x, scale, offset| {
                S::mul_add(x, scale, S::load(args.shift.add(offset)))
            });
        }
    }
}

/// Maps of one size put channel behind channel.
pub(super) struct Concat;

impl Step for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let alike = |s: &Shape| s.height == output.height && s.width == output.width;
        let floats = |s: &Shape| s.element == Element::Float;
        inputs.iter().chain([output]).all(|s| alike(s) && floats(s))
            && inputs.iter().map(|s| s.channels).sum::<usize>() == output.channels
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let shape = output.shape;
        let pixels = rows.len() * shape.width;
        let mut first = 0;
        if rows.is_empty() {
            return;
        }
        for input in inputs {
            let channels = input.shape.channels;
            let (from, to) = (input.row(rows.start), output.row(rows.start));
            for i in 0..pixels {
                // SAFETY: the caller's maps have `rows` and do not overlap; `fits` checked that all have the same
                // columns, and that the channels of the inputs add up to the output's.
                unsafe {
                    from.add(i * input.shape.pixel)
                        .copy_to_nonoverlapping(to.add(i * shape.pixel + first), channels);
                }
            }
            first += channels;
        }
    }
}

/// Whether values `strides` apart, of all rows, columns and channels, lie within a tensor of the size of `tensor`.
pub(super) fn reads_within(strides: [usize; 3], tensor: &Shape) -> bool {
    let size = [tensor.height, tensor.width, tensor.channels];
    let last = strides
        .iter()
        .zip(size)
        .try_fold(0_usize, |last, (stride, n)| {
            last.checked_add(stride.checked_mul(n - 1)?)
        });
    last.is_some_and(|last| last < tensor.tensor_len())
}

/// Brings a tensor from outside into the engine's layout.
pub(super) struct Import {
    /// Values from one row, column and channel of the tensor to the next.
    pub strides: [usize; 3],
}

impl Step for Import {
    fn kind(&self) -> &'static str {
        "import"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn needs_all_rows(&self) -> bool {
        true
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_as_large_as(output)
            && input.element == output.element
            && reads_within(self.strides, input))
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let shape = output.shape;
        let [row, column, channel] = self.strides;
        let from = inputs[0];
        for y in rows {
            for x in 0..shape.width {
                for c in 0..shape.channels {
                    let (at, to) = (y * row + x * column + c * channel, x * shape.pixel + c);
                    // SAFETY: `fits` checked that these strides stay within the tensor, whose length the region
                    // checked, and that the output is as large; the caller's output has `rows`.
                    unsafe {
                        match shape.element {
                            Element::Float => *output.row(y).add(to) = *from.row(0).add(at),
                            Element::Byte => *output.bytes(y).add(to) = *from.bytes(0).add(at),
                        }
                    }
                }
            }
        }
    }
}
