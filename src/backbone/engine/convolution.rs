//! Dense convolution as a product of patches and weights.

use std::ops::Range;

use super::buffer::Buffer;
use super::depthwise::padded;
use super::gemm::{Epilogue, PackedMatrix};
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
}

impl Convolution {
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        order: Order,
        weights: &Weights,
        clamp: Clamp,
    ) -> Convolution {
        let (height, width) = (rows.size, columns.size);
        let inputs = weights.inputs;
        let matrix = PackedMatrix::pack(
            isa,
            1,
            height * width * inputs,
            weights.outputs,
            |_, k, output| {
                let (channel, tap) = match order {
                    Order::ChannelsLast => (k % inputs, k / inputs),
                    Order::Planar => (k / (height * width), k % (height * width)),
                };
                weights.values[(output * inputs + channel) * height * width + tap]
            },
        );
        Convolution {
            rows,
            columns,
            inputs,
            outputs: weights.outputs,
            order,
            matrix,
            bias: padded(weights.bias, isa.lanes()),
            clamp,
        }
    }

    /// Whether the pixels themselves are the patches.
    fn is_pointwise(&self) -> bool {
        let plain = |w: &Window| w.size == 1 && w.stride == 1 && w.before == 0;
        self.order == Order::ChannelsLast && plain(&self.rows) && plain(&self.columns)
    }

    /// Pixels whose patches are gathered at once.
    fn block(&self) -> usize {
        /// Patches that stay in the first-level cache, where the weights come from the second.
        const PATCH_BYTES: usize = 32 << 10;
        const SMALL_WEIGHTS: usize = 256 << 10;
        const WHOLE_TILES: usize = 72;
        let most = self.matrix.good_rows();
        if self.matrix.bytes() > SMALL_WEIGHTS {
            return most;
        }
        let fitting = PATCH_BYTES / size_of::<f32>() / self.depth().max(1);
        fitting.next_multiple_of(WHOLE_TILES).min(most)
    }

    fn depth(&self) -> usize {
        self.rows.size * self.columns.size * self.inputs
    }

    /// Writes the patches of the outputs `from..to` of row `y` one after the other to `patches`.
    ///
    /// # Safety
    /// `input` must be valid for the rows that the patches touch, `patches` for all of them.
    unsafe fn gather(&self, input: Map, y: usize, x: Range<usize>, patches: *mut f32) {
        // SAFETY: `taps` names only rows and columns of the input; the rest of a patch is zeroed first.
        unsafe {
            let depth = self.depth();
            let rows = self.rows.taps(y);
            let all_rows = rows.len() == self.rows.size;
            let inner = self.columns.inner();
            if !(all_rows && inner.start <= x.start && x.end <= inner.end) {
                std::slice::from_raw_parts_mut(patches, x.len() * depth).fill(0.0);
            }
            match self.order {
                Order::ChannelsLast => {
                    let pixel = input.shape.pixel;
                    let whole = self.columns.dilation == 1 && pixel == self.inputs;
                    for (i, x) in x.enumerate() {
                        let taps = self.columns.taps(x);
                        if taps.is_empty() {
                            continue;
                        }
                        for ky in rows.clone() {
                            let from = input.row(self.rows.at(y, ky));
                            let to = patches.add(
                                i * depth + (ky * self.columns.size + taps.start) * self.inputs,
                            );
                            if whole {
                                let from = from.add(self.columns.at(x, taps.start) * pixel);
                                from.copy_to_nonoverlapping(to, taps.len() * self.inputs);
                            } else {
                                for (j, kx) in taps.clone().enumerate() {
                                    let from = from.add(self.columns.at(x, kx) * pixel);
                                    from.copy_to_nonoverlapping(
                                        to.add(j * self.inputs),
                                        self.inputs,
                                    );
                                }
                            }
                        }
                    }
                }
                Order::Planar => {
                    let plane = input.shape.height * input.shape.width;
                    for channel in 0..self.inputs {
                        for ky in rows.clone() {
                            let row = input.row(self.rows.at(y, ky)).add(channel * plane);
                            for kx in 0..self.columns.size {
                                let tap = (channel * self.rows.size + ky) * self.columns.size + kx;
                                let met = self.columns.outputs_of(kx);
                                let (first, end) = (met.start.max(x.start), met.end.min(x.end));
                                let mut to = patches
                                    .wrapping_add(first.wrapping_sub(x.start).wrapping_mul(depth))
                                    .wrapping_add(tap);
                                for x in first..end {
                                    *to = *row.add(self.columns.at(x, kx));
                                    to = to.wrapping_add(depth);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Step for Convolution {
    fn kind(&self) -> &'static str {
        if self.is_pointwise() {
            "pointwise"
        } else {
            "convolution"
        }
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.reach(rows)
    }

    fn multiply_adds(&self, output: &Shape) -> usize {
        output.height * output.width * self.outputs * self.depth()
    }

    fn scratch_len(&self) -> usize {
        if self.is_pointwise() {
            0
        } else {
            self.block() * self.depth()
        }
    }

    fn weight_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        let input = inputs[0];
        let residual = inputs.get(1);
        let pixel = output.shape.pixel;
        let (first, end) = (
            rows.start * output.shape.width,
            rows.end * output.shape.width,
        );
        // SAFETY: all pixels lie in rows for which the caller vouches; scratch holds a block of patches.
        unsafe {
            let multiply = |count: usize, a: *const f32, stride: usize, pixel_index: usize| {
                let at = |map: &Map| map.row(0).wrapping_add(pixel_index * pixel);
                let epilogue = Epilogue {
                    bias: self.bias.as_ptr(),
                    residual: residual.map_or(std::ptr::null(), |map| at(map).cast_const()),
                    residual_stride: pixel,
                    low: self.clamp.low,
                    high: self.clamp.high,
                };
                let to = at(&output);
                self.matrix
                    .multiply(0, count, a, stride, to, pixel, epilogue);
            };
            if self.is_pointwise() {
                let pixels = input.row(rows.start);
                multiply(end - first, pixels, input.shape.pixel, first);
                return;
            }
            let depth = self.depth();
            let block = self.block();
            let patches = scratch.values.as_mut_ptr();
            let mut start = first;
            while start < end {
                let stop = (start + block).min(end);
                let mut at = start;
                while at < stop {
                    let (y, x) = (at / output.shape.width, at % output.shape.width);
                    let count = (output.shape.width - x).min(stop - at);
                    self.gather(input, y, x..x + count, patches.add((at - start) * depth));
                    at += count;
                }
                multiply(stop - start, patches, depth, start);
                start = stop;
            }
        }
    }
}
