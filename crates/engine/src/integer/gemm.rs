//! Matrix products of bytes with a constant right side, packed once.

use std::ops::Range;

use super::Outcome;
use crate::buffer::Buffer;
use crate::gemm::{Rows, panels};
use crate::geometry::{floats, padded_to};
use crate::simd::{Dot, DotEntry, DotKernel, DotSet, Simd};

/// Bytes of the left side that are worked through before the next panel of the right side is fetched.
const LEFT_BYTES: usize = 128 << 10;

/// Products of four bytes that are summed at a time.
pub(crate) const QUAD: usize = 4;

/// Arguments of [`Tile`].
struct TileArgs {
    /// Quads of a row.
    depth: usize,
    /// `MR` rows: one quad after the other, or where `offsets` say.
    a: *const u8,
    a_stride: usize,
    /// `depth` offsets from the start of a row; null if one after the other.
    offsets: *const usize,
    /// `depth` times the weights of `NV` vectors.
    b: *const i8,
    /// What the sums begin with, for each column.
    bias: *const i32,
    /// What a sum is multiplied by, for each column.
    scale: *const f32,
    /// `MR` rows of `NV` vectors, of bytes or of floats.
    c: *mut u8,
    c_stride: usize,
    outcome: Outcome,
}

/// `MR` rows of the product, `NV` vectors wide, held in registers while the depth is summed up.
struct Tile<const MR: usize, const NV: usize>;

impl<const MR: usize, const NV: usize> DotKernel for Tile<MR, NV> {
    type Args = TileArgs;

    #[inline(always)]
    unsafe fn run<D: Dot>(args: &TileArgs) {
        // Tiles that do not fit the registers are never asked for.
        if MR > D::TILE_ROWS[NV - 1] {
            return;
        }
        let lanes = <D::Floats as Simd>::LANES;
        // SAFETY: `multiply_panel` gives pointers to the rows and columns of the tile.
        unsafe {
            let mut sums = [[D::sums(args.bias); NV]; MR];
            for row in &mut sums {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = D::sums(args.bias.add(j * lanes));
                }
            }
            let (mut a, mut b) = (args.a, args.b);
            for k in 0..args.depth {
                if !args.offsets.is_null() {
                    a = args.a.add(*args.offsets.add(k));
                }
                let mut columns = [D::weights(b); NV];
                for (j, column) in columns.iter_mut().enumerate().skip(1) {
                    *column = D::weights(b.add(j * QUAD * lanes));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let bytes = D::spread(a.add(i * args.a_stride));
                    for (sum, &column) in row.iter_mut().zip(&columns) {
                        *sum = D::dot(*sum, bytes, column);
                    }
                }
                if args.offsets.is_null() {
                    a = <D::Floats as Simd>::opaque(a.add(QUAD).cast()).cast();
                }
                b = b.add(NV * QUAD * lanes);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    let scale = <D::Floats as Simd>::load(args.scale.add(j * lanes));
                    let value = <D::Floats as Simd>::mul(D::floats(sum), scale);
                    let place = i * args.c_stride + j * lanes;
                    match args.outcome {
                        Outcome::Bytes { zero } => {
                            <D::Floats as Simd>::store_bytes(args.c.add(place), value, zero);
                        }
                        Outcome::Floats => {
                            <D::Floats as Simd>::store(args.c.cast::<f32>().add(place), value);
                        }
                    }
                }
            }
        }
    }
}

/// The kernels of the tiles that are one, two and three vectors wide, by rows less one.
struct Tiles([Vec<DotEntry<TileArgs>>; 3]);

macro_rules! tiles {
    ($set:expr, $vectors:literal: $($rows:literal)*) => {
        vec![$($set.entry::<Tile<$rows, $vectors>>()),*]
    };
}

impl Tiles {
    fn of(set: DotSet) -> Tiles {
        Tiles([
            tiles!(set, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!(set, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!(set, 3: 1 2 3 4 5 6 7 8 9),
        ])
    }
}

/// The weights of a layer, for each output a row of bytes, and what belongs to an output.
pub(super) struct Layer<'a> {
    /// Number of outputs.
    pub outputs: usize,
    /// What the sums begin with, one for each output.
    pub bias: &'a [i32],
    /// What a sum is multiplied by, one for each output.
    pub scales: &'a [f32],
}

/// Four bytes as what a value of a buffer holds, in their order in memory.
pub(super) fn of_bytes(values: [i8; QUAD]) -> f32 {
    f32::from_bits(u32::from_ne_bytes(values.map(|value| value as u8)))
}

/// `values` padded with zeros to a multiple of `lanes`, as what the bytes of a buffer hold.
pub(super) fn padded_integers(values: &[i32], lanes: usize) -> Buffer {
    let mut buffer = Buffer::zeros(values.len().next_multiple_of(lanes));
    for (to, &value) in buffer.as_mut_slice().iter_mut().zip(values) {
        *to = f32::from_bits(value as u32);
    }
    buffer
}

/// The right side `[depth, outputs]` of a product, cut into panels of one to three vectors' width.
pub(super) struct PackedBytes {
    set: DotSet,
    lanes: usize,
    /// Quads of a row of the left side.
    depth: usize,
    /// Outputs, padded to whole vectors.
    columns: usize,
    /// First column and width in vectors.
    panels: Vec<(usize, usize)>,
    weights: Buffer,
    bias: Buffer,
    scales: Buffer,
    /// Where the quads of a row of the left side are, from its start; none if one after the other.
    offsets: Option<Vec<usize>>,
    outcome: Outcome,
    tiles: Tiles,
}

impl PackedBytes {
    /// Packs the weights of `layer`: `weight(k, output)` gives that of value `k` of a row of the left side, for `k`
    /// below `depth` quads. None if the weights are too large together, or if there are not as many offsets as quads.
    pub(super) fn pack(
        set: DotSet,
        lanes: usize,
        offsets: Option<Vec<usize>>,
        depth: usize,
        layer: &Layer,
        outcome: Outcome,
        weight: impl Fn(usize, usize) -> i8,
    ) -> Option<PackedBytes> {
        let columns = padded_to(layer.outputs, lanes)?;
        let widest = (1..=3).rev().find(|&w| set.tile_rows()[w - 1] > 0);
        let panels = panels(widest.unwrap_or(1), columns / lanes);
        // A quad is as large as an f32.
        let mut weights = Buffer::try_zeros(floats(&[depth, columns])?)?;
        let mut bias = layer.bias.to_vec();
        let counted = offsets
            .as_ref()
            .is_none_or(|offsets| offsets.len() == depth)
            && bias.len() == layer.outputs
            && layer.scales.len() == layer.outputs;
        if !counted {
            return None;
        }
        let quads = weights.as_mut_slice();
        for &(first, vectors) in &panels {
            let width = vectors * lanes;
            let start = depth * first * lanes;
            for quad in 0..depth {
                for column in 0..width.min(layer.outputs - (first * lanes).min(layer.outputs)) {
                    let output = first * lanes + column;
                    let values: [i8; QUAD] =
                        std::array::from_fn(|k| weight(quad * QUAD + k, output));
                    for value in values {
                        // What the offset takes away is given back at the beginning.
                        bias[output] = bias[output].wrapping_add(set.offset() * i32::from(value));
                    }
                    quads[start + quad * width + column] = of_bytes(values);
                }
            }
        }
        Some(PackedBytes {
            set,
            lanes,
            depth,
            columns,
            panels,
            weights,
            bias: padded_integers(&bias, lanes),
            scales: crate::depthwise::padded(layer.scales, lanes),
            offsets,
            outcome,
            tiles: Tiles::of(set),
        })
    }

    /// Outputs, padded to whole vectors.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the packed weights.
    pub(super) fn bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    /// Computes the product: `groups` times `rows` rows.
    ///
    /// # Safety
    /// `left` must be valid for all rows, at the offsets of the quads; `product` for as many rows of all columns,
    /// of the outcome's type.
    pub(super) unsafe fn multiply(
        &self,
        groups: usize,
        rows: usize,
        left: Rows<*const u8>,
        product: Rows<*mut u8>,
    ) {
        assert!(self.columns <= product.stride);
        let block = (LEFT_BYTES / left.stride.max(1))
            .max(1)
            .next_multiple_of(12);
        for group in 0..groups {
            for row in (0..rows).step_by(block) {
                let rows = row..(row + block).min(rows);
                for &panel in &self.panels {
                    // SAFETY: rows and groups are those for which the caller vouches; the columns were held against
                    // the product's when this began, panels are this matrix's own.
                    unsafe { self.multiply_panel(panel, group, rows.clone(), left, product) };
                }
            }
        }
    }

    /// Some rows of one panel's columns.
    ///
    /// # Safety
    /// As [`multiply`](Self::multiply), for these rows.
    unsafe fn multiply_panel(
        &self,
        (first, vectors): (usize, usize),
        group: usize,
        rows: Range<usize>,
        left: Rows<*const u8>,
        product: Rows<*mut u8>,
    ) {
        let column = first * self.lanes;
        let size = match self.outcome {
            Outcome::Bytes { .. } => 1,
            Outcome::Floats => size_of::<f32>(),
        };
        let tiles = &self.tiles.0[vectors - 1];
        let most = self.set.tile_rows()[vectors - 1].max(1);
        // Tiles of nearly equal heights.
        let count = rows.len().div_ceil(most).max(1);
        let (height, taller) = (rows.len() / count, rows.len() % count);
        let weights: *const i8 = self.weights.as_ptr().cast();
        let mut row = rows.start;
        for tile in 0..count {
            let height = height + usize::from(tile < taller);
            // SAFETY: rows and columns lie within the matrices that the caller vouches for; `pack` made weights for
            // every panel, an offset for every quad, and a bias and a scale for every column.
            unsafe {
                let to = group * product.group + row * product.stride + column;
                let args = TileArgs {
                    depth: self.depth,
                    a: left.data.add(group * left.group + row * left.stride),
                    a_stride: left.stride,
                    offsets: self
                        .offsets
                        .as_ref()
                        .map_or(std::ptr::null(), |o| o.as_ptr()),
                    b: weights.add(self.depth * column * QUAD),
                    bias: self.bias.as_ptr().cast::<i32>().add(column),
                    scale: self.scales.as_ptr().add(column),
                    c: product.data.add(to * size),
                    c_stride: product.stride,
                    outcome: self.outcome,
                };
                if let Some(tile) = height.checked_sub(1).and_then(|i| tiles.get(i)) {
                    tile(&args);
                }
            }
            row += height;
        }
    }
}
