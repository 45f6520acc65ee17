//! Operations on maps of bytes that need no products: rounding to bytes and back, sums of maps, the largest of a
//! window.

use std::ops::Range;

use super::Steps;
use super::gemm::QUAD;
use crate::geometry::Window;
use crate::map::{Element, Map, Shape};
use crate::pixelwise::reads_within;
use crate::simd::{Entry, InstructionSet, Kernel, MOST_LANES, Simd};
use crate::step::{Scratch, Step};

/// Floats to bytes: from a map, or from a tensor outside with values `strides` apart.
pub(crate) struct Quantize {
    steps: Steps,
    lanes: usize,
    /// Values from one row, column and channel of a tensor from outside to the next; none for a map.
    strides: Option<[usize; 3]>,
    kernel: Entry<Args>,
}

/// Bytes to floats.
pub(crate) struct Dequantize {
    steps: Steps,
    lanes: usize,
    kernel: Entry<Args>,
}

/// The sum of two maps of bytes, each with steps of its own.
pub(crate) struct SumBytes {
    lanes: usize,
    left: Steps,
    right: Steps,
    sum: Steps,
    kernel: Entry<Args>,
}

/// Arguments of the kernels on whole vectors.
struct Args {
    left: *const u8,
    right: *const u8,
    to: *mut u8,
    /// Values of all maps, a multiple of the vector.
    len: usize,
    scales: [f32; 3],
    zeros: [i32; 3],
}

impl Quantize {
    pub(crate) fn new(isa: InstructionSet, steps: Steps, strides: Option<[usize; 3]>) -> Quantize {
        let kernel = isa.entry::<Rounded>();
        Quantize {
            steps,
            lanes: isa.lanes(),
            strides,
            kernel,
        }
    }

    fn args(&self, from: *const f32, to: *mut u8, len: usize) -> Args {
        Args {
            left: from.cast(),
            right: std::ptr::null(),
            to,
            len,
            scales: [self.steps.scale; 3],
            zeros: [i32::from(self.steps.zero); 3],
        }
    }

    /// Rounds one row of a tensor from outside.
    ///
    /// # Safety
    /// `from` must be valid for the row, `to` for as many pixels, which are whole quads.
    unsafe fn import(&self, from: *const f32, shape: &Shape, to: *mut u8) {
        /// Pixels that are rounded at a time.
        const BLOCK: usize = 4 * MOST_LANES;
        let [_, column, channel] = self.strides.unwrap_or_default();
        let mut floats = [0.0f32; BLOCK];
        let mut bytes = [[0u8; BLOCK]; QUAD];
        for first in (0..shape.channels).step_by(QUAD) {
            let channels = QUAD.min(shape.channels - first);
            for start in (0..shape.width).step_by(BLOCK) {
                let count = BLOCK.min(shape.width - start);
                // SAFETY: `fits` checked that these strides stay within the tensor, and that a pixel has room for whole
                // quads; the arrays hold a block, which is whole vectors.
                unsafe {
                    for (c, bytes) in bytes[..channels].iter_mut().enumerate() {
                        let from = from.add(start * column + (first + c) * channel);
                        if column == 1 {
                            floats.as_mut_ptr().copy_from_nonoverlapping(from, count);
                        } else {
                            for (i, float) in floats[..count].iter_mut().enumerate() {
                                *float = *from.add(i * column);
                            }
                        }
                        (self.kernel)(&self.args(floats.as_ptr(), bytes.as_mut_ptr(), BLOCK));
                    }
                    let [a, b, c, d] = &bytes;
                    for i in 0..count {
                        let quad = [a[i], b[i], c[i], d[i]];
                        let to = to.add((start + i) * shape.pixel + first);
                        to.cast::<[u8; QUAD]>().write(quad);
                    }
                }
            }
        }
    }
}

impl Step for Quantize {
    fn kind(&self) -> &'static str {
        "quantize"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn needs_all_rows(&self) -> bool {
        self.strides.is_some()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let [input] = inputs else {
            return false;
        };
        let pixels = match self.strides {
            Some(strides) => {
                reads_within(strides, input)
                    && output.pixel.is_multiple_of(QUAD)
                    && output.pixel >= output.channels
            }
            None => input.pixel == output.pixel && output.pixel.is_multiple_of(self.lanes),
        };
        pixels
            && input.is_as_large_as(output)
            && (input.element, output.element) == (Element::Float, Element::Byte)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        if rows.is_empty() {
            return;
        }
        match self.strides {
            Some([row, ..]) => {
                for y in rows {
                    let from = inputs[0].row(0).wrapping_add(y * row);
                    // SAFETY: `fits` held the strides against the tensor, whose length the region checked; the caller's
                    // output has `rows`.
                    unsafe { self.import(from, &output.shape, output.bytes(y)) };
                }
            }
            None => {
                let from = inputs[0].row(rows.start);
                let len = rows.len() * output.shape.row();
                // SAFETY: the caller's maps have `rows`; `fits` checked that they are alike and that pixels are whole
                // vectors.
                unsafe { (self.kernel)(&self.args(from, output.bytes(rows.start), len)) }
            }
        }
    }
}

impl Dequantize {
    pub(crate) fn new(isa: InstructionSet, steps: Steps) -> Dequantize {
        let kernel = isa.entry::<Widened>();
        Dequantize {
            steps,
            lanes: isa.lanes(),
            kernel,
        }
    }
}

impl Step for Dequantize {
    fn kind(&self) -> &'static str {
        "dequantize"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_as_large_as(output)
            && input.pixel == output.pixel
            && (input.element, output.element) == (Element::Byte, Element::Float))
            && output.pixel.is_multiple_of(self.lanes)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's maps have `rows`; `fits` checked that they are alike and that pixels are whole vectors.
        unsafe {
            (self.kernel)(&Args {
                left: inputs[0].bytes(rows.start),
                right: std::ptr::null(),
                to: output.bytes(rows.start),
                len: rows.len() * output.shape.row(),
                scales: [self.steps.scale; 3],
                zeros: [i32::from(self.steps.zero); 3],
            });
        }
    }
}

impl SumBytes {
    pub(crate) fn new(isa: InstructionSet, [left, right, sum]: [Steps; 3]) -> SumBytes {
        let kernel = isa.entry::<Added>();
        SumBytes {
            lanes: isa.lanes(),
            left,
            right,
            sum,
            kernel,
        }
    }
}

impl Step for SumBytes {
    fn kind(&self) -> &'static str {
        "int8 sum"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        inputs == [*output, *output]
            && output.element == Element::Byte
            && output.pixel.is_multiple_of(self.lanes)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let steps = [self.left, self.right, self.sum];
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's maps have `rows`; `fits` checked that they are alike and that pixels are whole vectors.
        unsafe {
            (self.kernel)(&Args {
                left: inputs[0].bytes(rows.start),
                right: inputs[1].bytes(rows.start),
                to: output.bytes(rows.start),
                len: rows.len() * output.shape.row(),
                scales: steps.map(|s| s.scale),
                zeros: steps.map(|s| i32::from(s.zero)),
            });
        }
    }
}

/// `round(x / scale) + zero`.
struct Rounded;

impl Kernel for Rounded {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let from: *const f32 = args.left.cast();
        // SAFETY: the caller's pointers are valid for `len` values, which are whole vectors.
        unsafe {
            let scale = S::splat(args.scales[0]);
            for i in (0..args.len).step_by(S::LANES) {
                let value = S::div(S::load(from.add(i)), scale);
                S::store_bytes(args.to.add(i), value, args.zeros[0]);
            }
        }
    }
}

/// `(q − zero) · scale`.
struct Widened;

impl Kernel for Widened {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let to: *mut f32 = args.to.cast();
        // SAFETY: the caller's pointers are valid for `len` values, which are whole vectors.
        unsafe {
            let (scale, zero) = (S::splat(args.scales[0]), S::splat(args.zeros[0] as f32));
            for i in (0..args.len).step_by(S::LANES) {
                let value = S::sub(S::load_bytes(args.left.add(i)), zero);
                S::store(to.add(i), S::mul(value, scale));
            }
        }
    }
}

/// `round(((a − zero) · scale + (b − zero) · scale) / scale) + zero`, each with its own.
struct Added;

impl Kernel for Added {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        let [a, b, sum] = args.scales;
        let [zero_a, zero_b, zero] = args.zeros;
        // SAFETY: the caller's pointers are valid for `len` values, which are whole vectors.
        unsafe {
            let (zero_a, zero_b) = (S::splat(zero_a as f32), S::splat(zero_b as f32));
            let (a, b, sum) = (S::splat(a), S::splat(b), S::splat(sum));
            for i in (0..args.len).step_by(S::LANES) {
                let left = S::sub(S::load_bytes(args.left.add(i)), zero_a);
                let right = S::sub(S::load_bytes(args.right.add(i)), zero_b);
                let value = S::add(S::mul(left, a), S::mul(right, b));
                S::store_bytes(args.to.add(i), S::div(value, sum), zero);
            }
        }
    }
}

/// The largest byte of each window.
pub(crate) struct MaxBytes {
    rows: Window,
    columns: Window,
    kernel: Entry<MaxArgs>,
}

struct MaxArgs {
    input: Map,
    output: Map,
    range: Range<usize>,
    rows: Window,
    columns: Window,
}

impl MaxBytes {
    pub(crate) fn new(isa: InstructionSet, rows: Window, columns: Window) -> MaxBytes {
        let kernel = isa.entry::<Largest>();
        MaxBytes {
            rows,
            columns,
            kernel,
        }
    }
}

impl Step for MaxBytes {
    fn kind(&self) -> &'static str {
        "int8 pool"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.reach(rows)
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        matches!(inputs, [input] if input.is_input_of(&self.rows, &self.columns)
            && input.has_pixels_of(output))
            && output.is_output_of(&self.rows, &self.columns)
            && output.element == Element::Byte
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, range: Range<usize>, _: &mut Scratch) {
        // SAFETY: the caller's maps have the rows that `input_rows` names and those of `range`; `fits` held their
        // columns and pixels against the windows.
        unsafe {
            (self.kernel)(&MaxArgs {
                input: inputs[0],
                output,
                range,
                rows: self.rows,
                columns: self.columns,
            });
        }
    }
}

struct Largest;

impl Kernel for Largest {
    type Args = MaxArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &MaxArgs) {
        let pixel = args.output.shape.pixel;
        for y in args.range.clone() {
            for x in 0..args.output.shape.width {
                // SAFETY: `Window::taps` names only rows and columns of the input, `range` and the width only those of
                // the output, as `fits` checked; the caller's output does not overlap the input.
                unsafe {
                    let to = args.output.bytes(y).add(x * pixel);
                    to.write_bytes(0, pixel);
                    let to = std::slice::from_raw_parts_mut(to, pixel);
                    for ky in args.rows.taps(y) {
                        let row = args.input.bytes(args.rows.at(y, ky));
                        for kx in args.columns.taps(x) {
                            let at = row.add(args.columns.at(x, kx) * pixel);
                            let from = std::slice::from_raw_parts(at, pixel);
                            for (most, &value) in to.iter_mut().zip(from) {
                                *most = value.max(*most);
                            }
                        }
                    }
                }
            }
        }
    }
}
