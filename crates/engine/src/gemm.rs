//! Matrix products with a constant right side, packed once.

use std::ops::Range;

use super::buffer::{ALIGNMENT, Buffer};
use super::geometry::{floats, padded_to};
use super::simd::{Entry, InstructionSet, Kernel, Simd};

/// What is done to a product before it is stored: `clamp(a·b + bias + residual, low, high)`.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    /// One value for each column, padded as the columns are.
    pub bias: *const f32,
    /// A matrix that is added, laid out as the product; null for none.
    pub residual: *const f32,
    /// Smallest value of the result.
    pub low: f32,
    /// Largest value of the result.
    pub high: f32,
}

/// Groups of rows in memory.
#[derive(Clone, Copy)]
pub(super) struct Rows<P> {
    /// The first value of the first row.
    pub data: P,
    /// Values from one row to the next.
    pub stride: usize,
    /// Values from one group to the next.
    pub group: usize,
}

impl<P> Rows<P> {
    /// Numbers of groups and of rows in a group, where there are `groups` of `rows`: those that follow each other
    /// without a gap are one.
    pub(super) fn without_gaps(&self, groups: usize, rows: usize) -> (usize, usize) {
        if self.group == rows * self.stride {
            (1, groups * rows)
        } else {
            (groups, rows)
        }
    }
}

/// Arguments of [`Tile`].
pub(super) struct TileArgs {
    /// Length of the sums.
    depth: usize,
    /// `MR` rows of `depth` values: one after the other, or where `offsets` say.
    a: *const f32,
    a_stride: usize,
    /// `depth` offsets from the start of a row; read by scattered tiles alone.
    offsets: *const usize,
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
/// With `AHEAD` it asks for the next panel meanwhile; `SCATTERED` rows have their values at offsets.
struct Tile<const MR: usize, const NV: usize, const AHEAD: bool, const SCATTERED: bool>;

impl<const MR: usize, const NV: usize, const AHEAD: bool, const SCATTERED: bool> Kernel
    for Tile<MR, NV, AHEAD, SCATTERED>
{
    type Args = TileArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &TileArgs) {
        // Tiles that do not fit the registers are never asked for.
        if MR > S::TILE_ROWS[NV - 1] {
            return;
        }
        // SAFETY: `multiply_panel` gives pointers to the rows and columns of the tile.
        unsafe {
            let Epilogue {
                bias,
                residual,
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
            for k in 0..args.depth {
                if SCATTERED {
                    a = args.a.add(*args.offsets.add(k));
                }
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
                if !SCATTERED {
                    a = S::opaque(a.add(1));
                }
                b = b.add(NV * S::LANES);
            }
            if !residual.is_null() {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        let more = S::load(residual.add(i * args.c_stride + j * S::LANES));
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
    ($isa:expr, $ahead:literal, $scattered:literal) => {
        [
            tiles!($isa, false, $scattered, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!($isa, $ahead, $scattered, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
            tiles!($isa, $ahead, $scattered, 3: 1 2 3 4 5 6 7 8 9),
        ]
    };
    ($isa:expr, $ahead:literal, $scattered:literal, $vectors:literal: $($rows:literal)*) => {
        vec![$($isa.entry::<Tile<$rows, $vectors, $ahead, $scattered>>()),*]
    };
}

impl Tiles {
    fn of(isa: InstructionSet, ahead: bool, scattered: bool) -> Tiles {
        Tiles(match (ahead, scattered) {
            (false, false) => tiles!(isa, false, false),
            (false, true) => tiles!(isa, false, true),
            (true, false) => tiles!(isa, true, false),
            (true, true) => tiles!(isa, true, true),
        })
    }
}

/// Bytes of the left side that are worked through before the next panel of the right side is fetched.
const LEFT_BYTES: usize = 256 << 10;

/// Rows of a panel that stay in the second-level cache, together with those of the next.
const DEPTH: usize = 1536;
/// The bias of a tile that adds to what was summed before, for the widest tile.
static NO_BIAS: [f32; 48] = [0.0; 48];
/// Rows that fill the tiles of every width.
const WHOLE_TILES: usize = 36;
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
    /// Number of matrices.
    count: usize,
    columns: usize,
    /// First column and width in vectors.
    panels: Vec<(usize, usize)>,
    values: Buffer,
    /// Values from one matrix to the next.
    stride: usize,
    /// Where the values of a row of the left side are, from its start; none if one after the other.
    offsets: Option<Vec<usize>>,
    tiles: Tiles,
}

impl PackedMatrix {
    /// Packs `count` matrices of `depth` rows and `columns` columns; `value(i, row, column)` gives a value
    /// of matrix `i`. Columns are padded with zeros to whole vectors. The values of a row of the left side
    /// lie at `offsets` from its start, or one after the other. None if the values are too large together, or if there
    /// are not as many offsets as rows.
    pub(super) fn pack(
        isa: InstructionSet,
        offsets: Option<Vec<usize>>,
        count: usize,
        depth: usize,
        columns: usize,
        value: impl Fn(usize, usize, usize) -> f32,
    ) -> Option<PackedMatrix> {
        let lanes = isa.lanes();
        let padded = padded_to(columns, lanes)?;
        let widest = if isa.tile_rows(3) == 0 { 2 } else { 3 };
        let panels = panels(widest, padded / lanes);
        let stride = floats(&[depth, padded])?;
        let mut values = Buffer::try_zeros(floats(&[count, stride])?)?;
        if offsets
            .as_ref()
            .is_some_and(|offsets| offsets.len() != depth)
        {
            return None;
        }
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
        Some(PackedMatrix {
            isa,
            depth,
            count,
            columns: padded,
            panels,
            values,
            stride,
            tiles: Tiles::of(isa, bytes > NEAR_BYTES, offsets.is_some()),
            offsets,
        })
    }

    /// Columns, padded to whole vectors.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the packed values.
    pub(super) fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    /// Number of panels into which columns are cut.
    pub(super) fn panels(&self) -> usize {
        self.panels.len()
    }

    /// Computes the columns of some panels of the product with matrix `i`: `groups` times `rows` rows.
    ///
    /// # Safety
    /// `left` must be valid for all rows of `depth` values, `product` and the epilogue's residual for as many
    /// rows of [`columns`](Self::columns), its bias for one.
    #[allow(clippy::too_many_arguments)]
    pub(super) unsafe fn multiply(
        &self,
        i: usize,
        panels: Range<usize>,
        groups: usize,
        rows: usize,
        left: Rows<*const f32>,
        product: Rows<*mut f32>,
        epilogue: Epilogue,
    ) {
        assert!(i < self.count && self.columns <= product.stride);
        // What of the left side is worked through before the next panel of the right side is fetched.
        let bytes = if self.stride * size_of::<f32>() <= TINY_BYTES {
            TINY_BYTES / 2
        } else {
            LEFT_BYTES
        };
        let values = (bytes / size_of::<f32>()).max(1);
        let (group_block, row_block) = if groups > 1 {
            ((values / left.group.max(1)).max(1), rows)
        } else {
            let whole = (values / left.stride.max(1)).max(1);
            (1, whole.next_multiple_of(WHOLE_TILES))
        };
        for group in (0..groups).step_by(group_block) {
            let groups = group..(group + group_block).min(groups);
            for row in (0..rows).step_by(row_block) {
                let rows = row..(row + row_block).min(rows);
                for &panel in &self.panels[panels.clone()] {
                    // A panel that is too deep to stay in the cache is cut, and the product summed up.
                    let cuts = self.depth.div_ceil(DEPTH).max(1);
                    let size = self.depth.div_ceil(cuts);
                    for cut in 0..cuts {
                        let depth = cut * size..((cut + 1) * size).min(self.depth);
                        let last = cut + 1 == cuts;
                        let part = Epilogue {
                            bias: epilogue.bias,
                            residual: if cut == 0 {
                                epilogue.residual
                            } else {
                                product.data
                            },
                            low: if last {
                                epilogue.low
                            } else {
                                f32::NEG_INFINITY
                            },
                            high: if last { epilogue.high } else { f32::INFINITY },
                        };
                        // SAFETY: rows and groups are those for which the caller vouches; matrix and columns
                        // were held against what is packed when this began, panels and depth are this matrix's own.
                        unsafe {
                            self.multiply_panel(
                                i,
                                panel,
                                depth,
                                groups.clone(),
                                rows.clone(),
                                left,
                                product,
                                &part,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Some rows of the product with the rows `depth` of one panel of matrix `i`; the bias counts for the
    /// first of them.
    ///
    /// # Safety
    /// As [`multiply`](Self::multiply), for these rows.
    #[allow(clippy::too_many_arguments)]
    unsafe fn multiply_panel(
        &self,
        i: usize,
        (first, vectors): (usize, usize),
        depth: Range<usize>,
        groups: Range<usize>,
        rows: Range<usize>,
        left: Rows<*const f32>,
        product: Rows<*mut f32>,
        epilogue: &Epilogue,
    ) {
        let column = first * self.isa.lanes();
        let width = vectors * self.isa.lanes();
        let panel = depth.len() * width;
        let panel_start = i * self.stride + self.depth * column + depth.start * width;
        let values = self.values.as_ptr();
        let tiles = &self.tiles.0[vectors - 1];
        // Tiles of nearly equal heights: a last one of few rows would wait for its sums.
        let count = rows
            .len()
            .div_ceil(self.isa.tile_rows(vectors).max(1))
            .max(1);
        let (height, taller) = (rows.len() / count, rows.len() % count);
        let bias = match depth.start {
            0 => epilogue.bias.wrapping_add(column),
            _ => NO_BIAS.as_ptr(),
        };
        let (offsets, skipped) = match &self.offsets {
            Some(offsets) => (offsets.as_ptr().wrapping_add(depth.start), 0),
            None => (std::ptr::null(), depth.start),
        };
        // The tiles together fetch the next panel, each with one request for a row in depth.
        let line = ALIGNMENT / size_of::<f32>();
        let requests = groups.len() * count * depth.len();
        let step = panel.div_ceil(requests.max(1)).min(line);
        let mut fetched = 0;
        for group in groups {
            let mut row = rows.start;
            for tile in 0..count {
                let height = height + usize::from(tile < taller);
                // SAFETY: rows and columns lie within the matrices that the caller vouches for; `pack` made values for
                // every panel of every matrix and an offset for every row. What is fetched ahead need not be there.
                unsafe {
                    let to = group * product.group + row * product.stride + column;
                    let args = TileArgs {
                        depth: depth.len(),
                        a: left
                            .data
                            .add(group * left.group + row * left.stride + skipped),
                        a_stride: left.stride,
                        offsets,
                        b: values.add(panel_start),
                        ahead: values.wrapping_add(panel_start + panel + fetched),
                        ahead_step: step,
                        c: product.data.add(to),
                        c_stride: product.stride,
                        epilogue: Epilogue {
                            bias,
                            residual: if epilogue.residual.is_null() {
                                epilogue.residual
                            } else {
                                epilogue.residual.add(to)
                            },
                            ..*epilogue
                        },
                    };
                    if let Some(tile) = height.checked_sub(1).and_then(|i| tiles.get(i)) {
                        tile(&args);
                    }
                }
                fetched += depth.len() * step;
                row += height;
            }
        }
    }
}

/// Products whose right side is made as the network runs; the caller packs it.
pub(super) struct Multiplier {
    isa: InstructionSet,
    tiles: Tiles,
}

impl Multiplier {
    pub(super) fn new(isa: InstructionSet) -> Multiplier {
        Multiplier {
            isa,
            tiles: Tiles::of(isa, false, false),
        }
    }

    /// The panels of a right side of `columns`, which are whole vectors: first vector and width of each.
    pub(super) fn panels(&self, columns: usize) -> Vec<(usize, usize)> {
        let widest = if self.isa.tile_rows(3) == 0 { 2 } else { 3 };
        panels(widest, columns / self.isa.lanes())
    }

    /// Computes `rows` of the product.
    ///
    /// # Safety
    /// `left` must be valid for `rows` of `depth` values, `product` for as many of the columns of all `panels`, which
    /// must be those of [`panels`](Self::panels), `right` for their values: `depth` rows of each panel, one panel after
    /// the other.
    pub(super) unsafe fn multiply(
        &self,
        panels: &[(usize, usize)],
        depth: usize,
        rows: usize,
        left: Rows<*const f32>,
        right: *const f32,
        product: Rows<*mut f32>,
    ) {
        for &(first, vectors) in panels {
            let tiles = &self.tiles.0[vectors - 1];
            let column = first * self.isa.lanes();
            let count = rows.div_ceil(self.isa.tile_rows(vectors).max(1)).max(1);
            let (height, taller) = (rows / count, rows % count);
            let mut row = 0;
            for tile in 0..count {
                let height = height + usize::from(tile < taller);
                // SAFETY: rows and columns lie within the matrices that the caller vouches for.
                unsafe {
                    let args = TileArgs {
                        depth,
                        a: left.data.add(row * left.stride),
                        a_stride: left.stride,
                        offsets: std::ptr::null(),
                        b: right.add(depth * column),
                        ahead: std::ptr::null(),
                        ahead_step: 0,
                        c: product.data.add(row * product.stride + column),
                        c_stride: product.stride,
                        epilogue: Epilogue {
                            bias: NO_BIAS.as_ptr(),
                            residual: std::ptr::null(),
                            low: f32::NEG_INFINITY,
                            high: f32::INFINITY,
                        },
                    };
                    if let Some(tile) = height.checked_sub(1).and_then(|i| tiles.get(i)) {
                        tile(&args);
                    }
                }
                row += height;
            }
        }
    }
}

/// Cuts `vectors` into panels as wide as tiles go, `widest` vectors, so that none is one wide if it can be helped:
/// first vector and width of each.
pub(super) fn panels(widest: usize, vectors: usize) -> Vec<(usize, usize)> {
    let mut panels = Vec::new();
    let mut first = 0;
    while first < vectors {
        let left = vectors - first;
        let width = match (widest, left) {
            (3, 4) => 2,
            _ => left.min(widest),
        };
        panels.push((first, width));
        first += width;
    }
    panels
}
