//! 3 x 3 convolution with stride 1 by Winograd's minimal filtering, F(4 x 4, 3 x 3): 36 multiplications for
//! 16 outputs instead of 144.
//!
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` on tiles `d` of 6 x 6 that overlap by two, summed over the input
//! channels: 36 matrix products, one for each place in the tile. Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2015, arXiv:1509.09308, with the interpolation points 0, ±1, ±2, ∞.

use std::ops::Range;

use super::buffer::Buffer;
use super::convolution::Weights;
use super::depthwise::padded;
use super::gemm::{Epilogue, PackedMatrix, Rows};
use super::geometry::{Window, floats, padded_to, product};
use super::map::{Element, Map, Shape};
use super::simd::{Entry, InstructionSet, Kernel, Simd};
use super::step::{Clamp, Scratch, Step};

/// Rows and columns of output of a tile.
const OUT: usize = 4;
/// Rows and columns of input of a tile.
const IN: usize = OUT + 2;
/// Places in a tile, each with a matrix product of its own.
const PLACES: usize = IN * IN;

/// Bytes of transformed tiles that stay in the second-level cache.
const TILE_BYTES: usize = 512 << 10;

/// `G`: from three weights to six.
const WEIGHTS: [[f64; 3]; IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A 3 x 3 convolution with stride 1, bias, an optional map that is added, and a clamp.
pub(super) struct Winograd {
    rows: Window,
    columns: Window,
    inputs: usize,
    outputs: usize,
    /// The 36 transformed matrices `[input channel, output channel]`.
    matrices: PackedMatrix,
    bias: Buffer,
    /// A row of zeros: the bias of the products, which have none.
    zeros: Buffer,
    clamp: Clamp,
    to_tiles: Entry<TilesArgs>,
    from_tiles: Entry<TilesArgs>,
    input_pixel: usize,
    /// Tiles that are transformed and multiplied at once.
    block: usize,
    /// Values of the tiles of a block, before and after the products.
    scratch_len: usize,
}

/// Arguments of both transforms: tiles `first..first + count` of the map, in reading order.
struct TilesArgs {
    rows: Window,
    columns: Window,
    /// The map that is read, or written.
    map: Map,
    /// A map that is added to the output; none for the input.
    residual: Option<Map>,
    first: usize,
    count: usize,
    /// `[place][tile][channel]`.
    tiles: *mut f32,
    bias: *const f32,
    clamp: Clamp,
}

impl Winograd {
    /// Whether a convolution with these windows can be done so, and it pays.
    pub(super) fn suits(rows: &Window, columns: &Window, inputs: usize, outputs: usize) -> bool {
        /// Below this many channels the transforms cost more than they save.
        const FEWEST: usize = 16;
        /// With fewer rows than this, a product waits for its right side to come from memory.
        const STREAMED_ROWS: u64 = 40;
        // Tiles read whole windows: no row or column of the input may be left out.
        let covers = |w: &Window| w.extent() >= w.before + w.input;
        let fits = |w: &Window| w.size == 3 && w.stride == 1 && w.dilation == 1 && covers(w);
        let tiles = rows.output.div_ceil(OUT) as u64 * columns.output.div_ceil(OUT) as u64;
        let pixels = rows.output as u64 * columns.output as u64;
        fits(rows)
            && fits(columns)
            && inputs.min(outputs) >= FEWEST
            && PLACES as u64 * tiles.max(STREAMED_ROWS) < 9 * pixels.max(STREAMED_ROWS)
    }

    /// For windows that [`suits`](Self::suits) takes. None if weights or tiles are too large.
    pub(super) fn new(
        isa: InstructionSet,
        rows: Window,
        columns: Window,
        weights: &Weights,
        clamp: Clamp,
    ) -> Option<Winograd> {
        let Weights {
            values,
            outputs,
            inputs,
            bias,
            ..
        } = *weights;
        // [place][output][input], in double precision: the weights are transformed once.
        let counted = product(&[outputs, inputs, 9])? == values.len() && bias.len() == outputs;
        if !counted {
            return None;
        }
        let mut transformed = vec![0f32; floats(&[outputs, inputs, PLACES])?];
        for (pair, g) in values.chunks_exact(9).enumerate() {
            for (i, left) in WEIGHTS.iter().enumerate() {
                for (j, right) in WEIGHTS.iter().enumerate() {
                    let mut sum = 0.0;
                    for (y, l) in left.iter().enumerate() {
                        for (x, r) in right.iter().enumerate() {
                            sum += l * r * f64::from(g[y * 3 + x]);
                        }
                    }
                    transformed[(i * IN + j) * outputs * inputs + pair] = sum as f32;
                }
            }
        }
        let matrices =
            PackedMatrix::pack(isa, None, PLACES, inputs, outputs, |place, k, output| {
                transformed[(place * outputs + output) * inputs + k]
            })?;
        let lanes = isa.lanes();
        let input_pixel = padded_to(inputs, lanes)?;
        let all = product(&[rows.output.div_ceil(OUT), columns.output.div_ceil(OUT)])?;
        let tile = floats(&[PLACES, input_pixel + matrices.columns()])?;
        let block = block(all, tile * size_of::<f32>(), matrices.bytes());
        Some(Winograd {
            rows,
            columns,
            inputs,
            outputs,
            zeros: Buffer::zeros(matrices.columns()),
            matrices,
            bias: padded(bias, lanes),
            clamp,
            to_tiles: isa.entry::<ToTiles>(),
            from_tiles: isa.entry::<FromTiles>(),
            input_pixel,
            block,
            scratch_len: floats(&[block, tile])?,
        })
    }

    fn tiles_across(&self) -> usize {
        self.columns.output.div_ceil(OUT)
    }
}

/// How many of `all` tiles are transformed and multiplied at once, where one takes `tile_bytes` and the weights take
/// `weight_bytes`.
fn block(all: usize, tile_bytes: usize, weight_bytes: usize) -> usize {
    /// Rows of the matrix product that fill its tiles.
    const WHOLE: usize = 36;
    let fitting = (TILE_BYTES / tile_bytes).max(1).next_multiple_of(WHOLE);
    // Either the tiles go through the next cache twice, or the weights once for every block.
    let blocks = all.div_ceil(fitting) as u64;
    if weight_bytes as u64 * (blocks - 1) > 2 * all as u64 * tile_bytes as u64 {
        all
    } else {
        fitting.min(all)
    }
}

impl Step for Winograd {
    fn kind(&self) -> &'static str {
        "winograd"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.reach(rows)
    }

    fn granule(&self) -> usize {
        OUT
    }

    fn multiply_adds(&self, output: &Shape) -> usize {
        output.height * output.width * self.outputs * self.inputs * 9
    }

    fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    fn weight_bytes(&self) -> usize {
        self.matrices.bytes()
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let Some((input, residual)) = inputs.split_first() else {
            return false;
        };
        input.is_input_of(&self.rows, &self.columns)
            && (input.channels, input.pixel) == (self.inputs, self.input_pixel)
            && input.element == Element::Float
            && output.is_output_of(&self.rows, &self.columns)
            && (output.channels, output.pixel) == (self.outputs, self.matrices.columns())
            && output.element == Element::Float
            && matches!(residual, [] | [_])
            && residual.iter().all(|residual| residual == output)
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        assert!(self.scratch_len <= scratch.values.len());
        assert!(rows.start.is_multiple_of(OUT));
        assert!(rows.end.is_multiple_of(OUT) || rows.end == output.shape.height);
        let across = self.tiles_across();
        let block = self.block;
        let (k, n) = (self.input_pixel, self.matrices.columns());
        let before = scratch.values.as_mut_ptr();
        let mut first = rows.start / OUT * across;
        let end = rows.end.div_ceil(OUT) * across;
        // SAFETY: the tiles are those of `rows`, which are whole tiles up to the last row; scratch holds a block of
        // tiles before and after the products: both were just asked. The caller's maps have the rows, and `fits` held their
        // columns and pixels against windows and matrices.
        unsafe {
            let after = before.add(PLACES * block * k);
            while first < end {
                let count = (end - first).min(block);
                let mut args = TilesArgs {
                    rows: self.rows,
                    columns: self.columns,
                    map: inputs[0],
                    residual: None,
                    first,
                    count,
                    tiles: before,
                    bias: self.bias.as_ptr(),
                    clamp: self.clamp,
                };
                (self.to_tiles)(&args);
                let epilogue = Epilogue {
                    bias: self.zeros.as_ptr(),
                    residual: std::ptr::null(),
                    low: f32::NEG_INFINITY,
                    high: f32::INFINITY,
                };
                let panels = 0..self.matrices.panels();
                for place in 0..PLACES {
                    let left = Rows {
                        data: before.add(place * count * k).cast_const(),
                        stride: k,
                        group: 0,
                    };
                    let product = Rows {
                        data: after.add(place * count * n),
                        stride: n,
                        group: 0,
                    };
                    self.matrices.multiply(
                        place,
                        panels.clone(),
                        1,
                        count,
                        left,
                        product,
                        epilogue,
                    );
                }
                args.map = output;
                args.residual = inputs.get(1).copied();
                args.tiles = after;
                (self.from_tiles)(&args);
                first += count;
            }
        }
    }
}

/// `Bᵀ d` for one column.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn input_transform<S: Simd>(d: [S::V; IN]) -> [S::V; IN] {
    // SAFETY: the caller's.
    unsafe {
        let (four, five, two) = (S::splat(4.0), S::splat(5.0), S::splat(2.0));
        let minus_four = S::splat(-4.0);
        // d4 - 4 d2 and d3 - 4 d1, d4 - d2 and 2 (d3 - d1)
        let even = S::mul_add(minus_four, d[2], d[4]);
        let odd = S::mul_add(minus_four, d[1], d[3]);
        let even_2 = S::sub(d[4], d[2]);
        let odd_2 = S::mul(two, S::sub(d[3], d[1]));
        let minus_five = S::sub(S::splat(0.0), five);
        [
            S::mul_add(minus_five, d[2], S::mul_add(four, d[0], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            S::add(even_2, odd_2),
            S::sub(even_2, odd_2),
            S::mul_add(minus_five, d[3], S::mul_add(four, d[1], d[5])),
        ]
    }
}

/// `Aᵀ m` for one column.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn output_transform<S: Simd>(m: [S::V; IN]) -> [S::V; OUT] {
    // SAFETY: the caller's.
    unsafe {
        let (sum_1, difference_1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_2, difference_2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum_1), sum_2),
            S::mul_add(S::splat(2.0), difference_2, difference_1),
            S::mul_add(S::splat(4.0), sum_2, sum_1),
            S::add(S::mul_add(S::splat(8.0), difference_2, difference_1), m[5]),
        ]
    }
}

/// Cuts the input into tiles and transforms them.
struct ToTiles;

impl Kernel for ToTiles {
    type Args = TilesArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &TilesArgs) {
        let pixel = args.map.shape.pixel;
        let across = args.columns.output.div_ceil(OUT);
        // SAFETY: `inside` names only rows and columns within the map, and no others are read; the tiles hold
        // `PLACES · count` pixels, as `count` is at most a block.
        unsafe {
            for tile in 0..args.count {
                let (y, x) = (
                    (args.first + tile) / across * OUT,
                    (args.first + tile) % across * OUT,
                );
                // The places of the tile that lie within the map.
                let inside = |start: usize, window: &Window| {
                    let first = window.before.saturating_sub(start).min(IN);
                    let end = (window.input + window.before).saturating_sub(start).min(IN);
                    first..end.max(first)
                };
                let (in_rows, in_columns) = (inside(y, &args.rows), inside(x, &args.columns));
                let whole = in_rows == (0..IN) && in_columns == (0..IN);
                for offset in (0..pixel).step_by(S::LANES) {
                    let at = |i: usize, j: usize| {
                        args.map
                            .row((y + i).wrapping_sub(args.rows.before))
                            .wrapping_add(
                                (x + j)
                                    .wrapping_sub(args.columns.before)
                                    .wrapping_mul(pixel),
                            )
                            .wrapping_add(offset)
                            .cast_const()
                    };
                    let mut columns = [[S::splat(0.0); IN]; IN];
                    for (j, column) in columns.iter_mut().enumerate() {
                        let mut d = [S::splat(0.0); IN];
                        if whole {
                            for (i, d) in d.iter_mut().enumerate() {
                                *d = S::load(at(i, j));
                            }
                        } else if in_columns.contains(&j) {
                            for (i, d) in d.iter_mut().enumerate() {
                                if in_rows.contains(&i) {
                                    *d = S::load(at(i, j));
                                }
                            }
                        }
                        *column = input_transform::<S>(d);
                    }
                    for i in 0..IN {
                        let row = columns.map(|column| column[i]);
                        for (j, &value) in input_transform::<S>(row).iter().enumerate() {
                            let place = i * IN + j;
                            let to = (place * args.count + tile) * pixel + offset;
                            S::store(args.tiles.add(to), value);
                        }
                    }
                }
            }
        }
    }
}

/// Transforms the products back and puts the tiles together.
struct FromTiles;

impl Kernel for FromTiles {
    type Args = TilesArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &TilesArgs) {
        let shape = args.map.shape;
        let pixel = shape.pixel;
        let across = args.columns.output.div_ceil(OUT);
        // SAFETY: `height` and `width` keep a tile within the map; the tiles hold `PLACES · count` pixels, as `count`
        // is at most a block.
        unsafe {
            for tile in 0..args.count {
                let (y, x) = (
                    (args.first + tile) / across * OUT,
                    (args.first + tile) % across * OUT,
                );
                let height = OUT.min(shape.height - y);
                let width = OUT.min(shape.width - x);
                for offset in (0..pixel).step_by(S::LANES) {
                    let bias = S::load(args.bias.add(offset));
                    let mut columns = [[S::splat(0.0); OUT]; IN];
                    for (j, column) in columns.iter_mut().enumerate() {
                        let mut m = [S::splat(0.0); IN];
                        for (i, m) in m.iter_mut().enumerate() {
                            let from = ((i * IN + j) * args.count + tile) * pixel + offset;
                            *m = S::load(args.tiles.add(from));
                        }
                        *column = output_transform::<S>(m);
                    }
                    for i in 0..height {
                        let row = columns.map(|column| column[i]);
                        let values = output_transform::<S>(row);
                        let to = args.map.row(y + i).add(x * pixel + offset);
                        for (j, &value) in values.iter().enumerate() {
                            if j < width {
                                let mut value = S::add(value, bias);
                                if let Some(residual) = args.residual {
                                    let from = residual.row(y + i).add((x + j) * pixel + offset);
                                    value = S::add(value, S::load(from));
                                }
                                S::store(to.add(j * pixel), args.clamp.of::<S>(value));
                            }
                        }
                    }
                }
            }
        }
    }
}
