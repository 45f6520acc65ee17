//! Matrix products with a constant right side, packed once.

use super::buffer::{ALIGNMENT, Buffer};
use super::simd::{Entry, InstructionSet, Kernel, Simd};

/// What is done to a product before it is stored: `clamp(a·b + bias + residual, low, high)`.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    /// One value for each column, padded as the columns are.
    pub bias: *const f32,
    /// A matrix that is added, of the shape of the product; null for none.
    pub residual: *const f32,
    /// Values from one row of `residual` to the next.
    pub residual_stride: usize,
    /// Smallest value of the result.
    pub low: f32,
    /// Largest value of the result.
    pub high: f32,
}

/// Arguments of [`Tile`].
pub(super) struct TileArgs {
    /// Length of the sums.
    depth: usize,
    /// `MR` rows of `depth` values.
    a: *const f32,
    a_stride: usize,
    /// `depth` rows of `NV` vectors.
    b: *const f32,
    /// Where the next panel begins that will be needed, or its part that this tile fetches.
    ahead: *const f32,
    /// Values from what is fetched with one row of `b` to what is fetched with the next.
    ahead_step: usize,
    /// `MR` rows of `NV` vectors.
    c: *mut f32,
    c_stride: usize,
    epilogue: Epilogue,
}

/// `MR` rows of the product, `NV` vectors wide, held in registers while the depth is summed up.
/// With `AHEAD` it asks for the next panel meanwhile.
struct Tile<const MR: usize, const NV: usize, const AHEAD: bool>;

impl<const MR: usize, const NV: usize, const AHEAD: bool> Kernel for Tile<MR, NV, AHEAD> {
    type Args = TileArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &TileArgs) {
        // Tiles that do not fit the registers are never asked for.
        if MR > S::TILE_ROWS[NV - 1] {
            return;
        }
        // SAFETY: the caller's pointers are valid for the rows and columns of the tile.
        unsafe {
            let Epilogue {
                bias,
                residual,
                residual_stride,
                low,
                high,
            } = args.epilogue;
            let mut sums = [[S::splat(0.0); NV]; MR];
            for row in &mut sums {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = S::load(bias.add(j * S::LANES));
                }
            }
            let (mut a, mut b, mut ahead) = (args.a, args.b, args.ahead);
            for _ in 0..args.depth {
                let mut columns = [S::splat(0.0); NV];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = S::load(b.add(j * S::LANES));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * args.a_stride));
                    for (sum, &column) in row.iter_mut().zip(&columns) {
                        *sum = S::mul_add(x, column, *sum);
                    }
                }
                if AHEAD {
                    S::prefetch(ahead);
                    ahead = ahead.wrapping_add(args.ahead_step);
                }
                a = a.add(1);
                b = b.add(NV * S::LANES);
            }
            if !residual.is_null() {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        let more = S::load(residual.add(i * residual_stride + j * S::LANES));
                        *sum = S::add(*sum, more);
                    }
                }
            }
            let (low, high) = (S::splat(low), S::splat(high));
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    let value = S::at_most(high, S::at_least(low, sum));
                    S::store(args.c.add(i * args.c_stride + j * S::LANES), value);
                }
            }
        }
    }
}

/// The kernels of the tiles that are one, two and three vectors wide, by rows less one.
struct Tiles([Vec<Entry<TileArgs>>; 3]);

macro_rules! tiles {
    ($isa:expr, $ahead:literal, $vectors:literal: $($rows:literal)*) => {
        vec![$($isa.entry::<Tile<$rows, $vectors, $ahead>>()),*]
    };
}

impl Tiles {
    fn of(isa: InstructionSet, ahead: bool) -> Tiles {
        Tiles([
            tiles!(isa, false, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!(isa, false, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
            if ahead {
                tiles!(isa, true, 3: 1 2 3 4 5 6 7 8 9)
            } else {
                tiles!(isa, false, 3: 1 2 3 4 5 6 7 8 9)
            },
        ])
    }
}

/// Bytes of the left side that are worked through before the next panel of the right side is fetched.
const LEFT_BYTES: usize = 256 << 10;

/// A larger right side comes from the third-level cache or from memory for each picture, and is asked for
/// ahead of its use.
const NEAR_BYTES: usize = 640 << 10;
/// A right side that stays in the first-level cache beside some rows of the left.
const TINY_BYTES: usize = 40 << 10;

/// The right side `[depth, columns]` of a product, cut into panels of one to three vectors' width, each
/// with its rows one after another.
pub(super) struct PackedMatrix {
    isa: InstructionSet,
    depth: usize,
    columns: usize,
    /// First column and width in vectors.
    panels: Vec<(usize, usize)>,
    values: Buffer,
    /// Products of this shape that lie one behind the other in `values`.
    stride: usize,
    tiles: Tiles,
}

impl PackedMatrix {
    /// Packs `count` matrices of `depth` rows and `columns` columns; `value(i, row, column)` gives a value
    /// of matrix `i`. Columns are padded with zeros to whole vectors.
    pub(super) fn pack(
        isa: InstructionSet,
        count: usize,
        depth: usize,
        columns: usize,
        value: impl Fn(usize, usize, usize) -> f32,
    ) -> PackedMatrix {
        let lanes = isa.lanes();
        let padded = columns.next_multiple_of(lanes);
        let panels = panels(padded / lanes);
        let stride = depth * padded;
        let mut values = Buffer::zeros(count * stride);
        let slice = values.as_mut_slice();
        for i in 0..count {
            for &(first, vectors) in &panels {
                let width = vectors * lanes;
                let start = i * stride + depth * first * lanes;
                for row in 0..depth {
                    for column in 0..width.min(columns - (first * lanes).min(columns)) {
                        slice[start + row * width + column] = value(i, row, first * lanes + column);
                    }
                }
            }
        }
        let bytes = values.len() * size_of::<f32>();
        PackedMatrix {
            isa,
            depth,
            columns: padded,
            panels,
            values,
            stride,
            tiles: Tiles::of(isa, bytes > NEAR_BYTES),
        }
    }

    /// Columns, padded to whole vectors.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the packed values.
    pub(super) fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    /// Rows of the left side that are best given at once.
    pub(super) fn good_rows(&self) -> usize {
        const WHOLE_TILES: usize = 72;
        if self.stride * size_of::<f32>() <= TINY_BYTES {
            return WHOLE_TILES;
        }
        (LEFT_BYTES / size_of::<f32>() / self.depth.max(1) / WHOLE_TILES).max(1) * WHOLE_TILES
    }

    /// Computes `rows` rows of the product with matrix `i`.
    ///
    /// # Safety
    /// `a` must be valid for `rows` rows of `depth` values, `a_stride` values apart; `c` for as many rows of
    /// [`columns`](Self::columns), `c_stride` apart; so must the epilogue's pointers.
    #[allow(clippy::too_many_arguments)]
    pub(super) unsafe fn multiply(
        &self,
        i: usize,
        rows: usize,
        a: *const f32,
        a_stride: usize,
        c: *mut f32,
        c_stride: usize,
        epilogue: Epilogue,
    ) {
        let lanes = self.isa.lanes();
        let block = self.good_rows();
        let values = self.values.as_ptr();
        let mut start = 0;
        while start < rows {
            let end = (start + block).min(rows);
            for &(first, vectors) in &self.panels {
                let column = first * lanes;
                let tiles = &self.tiles.0[vectors - 1];
                let most = self.isa.tile_rows(vectors);
                let panel = self.depth * vectors * lanes;
                let panel_start = i * self.stride + self.depth * column;
                // Each tile fetches as many cache lines as it has rows in depth.
                let mut fetched = 0;
                let line = ALIGNMENT / size_of::<f32>();
                let mut row = start;
                while row < end {
                    let count = (end - row).min(most);
                    // SAFETY: rows and columns lie within the matrices that the caller vouches for; the
                    // packed values are there for every panel.
                    unsafe {
                        tiles[count - 1](&TileArgs {
                            depth: self.depth,
                            a: a.add(row * a_stride),
                            a_stride,
                            b: values.add(panel_start),
                            ahead: values.wrapping_add(panel_start + panel + fetched),
                            ahead_step: if fetched < panel { line } else { 0 },
                            c: c.add(row * c_stride + column),
                            c_stride,
                            epilogue: Epilogue {
                                bias: epilogue.bias.add(column),
                                residual: if epilogue.residual.is_null() {
                                    epilogue.residual
                                } else {
                                    epilogue
                                        .residual
                                        .add(row * epilogue.residual_stride + column)
                                },
                                ..epilogue
                            },
                        });
                    }
                    fetched = (fetched + self.depth * line).min(panel);
                    row += count;
                }
            }
            start = end;
        }
    }
}

/// Cuts `vectors` into panels of three and two, so that none is one wide unless all is.
fn panels(vectors: usize) -> Vec<(usize, usize)> {
    let mut panels = Vec::new();
    let mut first = 0;
    while first < vectors {
        let width = match vectors - first {
            left @ (1 | 2) => left,
            4 => 2,
            _ => 3,
        };
        panels.push((first, width));
        first += width;
    }
    panels
}
