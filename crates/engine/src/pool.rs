//! Pooling over windows and over whole maps.

use std::ops::Range;

use super::geometry::Window;
use super::map::{Element, Map, Shape};
use super::simd::{Entry, InstructionSet, Kernel, Simd};
use super::step::{Clamp, Scratch, Step};

/// What is made of the values in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pooling {
    /// The largest.
    Max,
    /// The sum, times `scale`.
    Sum {
        /// Factor for the sum.
        scale: f32,
    },
    /// The mean of those that lie within the map.
    MeanInside,
}

/// Pooling over windows, row by row.
pub(super) struct Pool {
    rows: Window,
    columns: Window,
    pooling: Pooling,
    clamp: Clamp,
    /// Values of a vector.
    lanes: usize,
    kernel: Entry<Args>,
}

struct Args {
    input: Map,
    output: Map,
    range: Range<usize>,
    rows: Window,
    columns: Window,
    pooling: Pooling,
    clamp: Clamp,
}

impl Pool {
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        pooling: Pooling,
        clamp: Clamp,
    ) -> Pool {
        let kernel = match pooling {
            Pooling::Max => isa.entry::<MaxWindows>(),
            Pooling::Sum { .. } | Pooling::MeanInside => isa.entry::<SumWindows>(),
        };
        Pool {
            rows,
            columns,
            pooling,
            clamp,
            lanes: isa.lanes(),
            kernel,
        }
    }

    /// Pooling of a whole map of `shape` to one pixel; none if the map is too large.
    pub(super) fn whole(
        isa: InstructionSet,
        shape: &Shape,
        pooling: Pooling,
        clamp: Clamp,
    ) -> Option<Pool> {
        let (rows, columns) = (Window::whole(shape.height)?, Window::whole(shape.width)?);
        Some(Pool::new(isa, rows, columns, pooling, clamp))
    }
}

impl Step for Pool {
    fn kind(&self) -> &'static str {
        "pool"
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
            && output.element == Element::Float
            && output.pixel.is_multiple_of(self.lanes)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, range: Range<usize>, _: &mut Scratch) {
        // SAFETY: the caller's maps have the rows that `input_rows` names and those of `range`; `fits` held their
        // columns and channels against the windows; a pixel is whole vectors.
        unsafe {
            (self.kernel)(&Args {
                input: inputs[0],
                output,
                range,
                rows: self.rows,
                columns: self.columns,
                pooling: self.pooling,
                clamp: self.clamp,
            });
        }
    }
}

/// Folds the values of every window.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn fold<S: Simd>(
    args: &Args,
    start: f32,
    join: impl Fn(S::V, S::V) -> S::V,
    finish: impl Fn(S::V, usize) -> S::V,
) {
    // SAFETY: `Window::taps` names only rows and columns of the input, `range` and the width only those of the
    // output, as `Pool::fits` checked; `offset` stays within a pixel, which is whole vectors.
    unsafe {
        let pixel = args.output.shape.pixel;
        for y in args.range.clone() {
            let rows = args.rows.taps(y);
            for x in 0..args.output.shape.width {
                let columns = args.columns.taps(x);
                let to = args.output.row(y).add(x * pixel);
                for offset in (0..pixel).step_by(S::LANES) {
                    let mut value = S::splat(start);
                    for ky in rows.clone() {
                        let row = args.input.row(args.rows.at(y, ky)).add(offset);
                        for kx in columns.clone() {
                            let at = row.add(args.columns.at(x, kx) * pixel);
                            value = join(value, S::load(at));
                        }
                    }
                    let value = finish(value, rows.len() * columns.len());
                    S::store(to.add(offset), args.clamp.of::<S>(value));
                }
            }
        }
    }
}

struct MaxWindows;

impl Kernel for MaxWindows {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            fold::<S>(
                args,
                f32::NEG_INFINITY,
                |most, value| S::at_least(most, value),
                |most, _| most,
            );
        }
    }
}

struct SumWindows;

impl Kernel for SumWindows {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            fold::<S>(
                args,
                0.0,
                |sum, value| S::add(sum, value),
                |sum, count| {
                    let scale = match args.pooling {
                        Pooling::Sum { scale } => scale,
                        _ => 1.0 / count.max(1) as f32,
                    };
                    S::mul(sum, S::splat(scale))
                },
            );
        }
    }
}
