//! The transforms of weights and tiles, sixteen at once.

/// Rows and columns of output of a tile.
pub(super) const OUT: usize = 4;
/// Rows and columns of input of a tile.
pub(super) const IN: usize = OUT + 2;
/// Places in a tile, each with a matrix product of its own.
pub(super) const PLACES: usize = IN * IN;
/// Tiles, or weights, that are transformed at once.
pub(super) const LANES: usize = 16;

pub(super) type Lanes = [f32; LANES];
pub(super) type Matrix<const ROWS: usize, const COLUMNS: usize> = [[f32; COLUMNS]; ROWS];

/// A matrix M, for `M x Mᵀ` of squares x.
pub(super) trait Transform<const TO: usize, const FROM: usize> {
    const M: Matrix<TO, FROM>;
}

/// Mᵀ of another transform.
pub(super) struct Transposed<T>(T);

impl<T: Transform<FROM, TO>, const TO: usize, const FROM: usize> Transform<TO, FROM>
    for Transposed<T>
{
    const M: Matrix<TO, FROM> = {
        let mut result = [[0.0; FROM]; TO];
        let mut row = 0;
        while row < TO {
            let mut column = 0;
            while column < FROM {
                result[row][column] = T::M[column][row];
                column += 1;
            }
            row += 1;
        }
        result
    };
}

/// `Bᵀ`.
pub(super) struct Input;

impl Transform<IN, IN> for Input {
    const M: Matrix<IN, IN> = [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ];
}

/// `Aᵀ`.
pub(super) struct Output;

impl Transform<OUT, IN> for Output {
    const M: Matrix<OUT, IN> = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ];
}

/// `G`.
pub(super) struct Kernel;

impl Transform<IN, 3> for Kernel {
    const M: Matrix<IN, 3> = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
}

/// `M x Mᵀ` for `LANES` squares x.
#[allow(clippy::needless_range_loop)] // as formulas are written; the loops are unrolled
#[inline(always)]
fn transform<T: Transform<TO, FROM>, const TO: usize, const FROM: usize>(
    x: &[[Lanes; FROM]; FROM],
) -> [[Lanes; TO]; TO] {
    let mut rows = [[[0.0; LANES]; FROM]; TO];
    for i in 0..TO {
        for k in 0..FROM {
            if T::M[i][k] != 0.0 {
                for j in 0..FROM {
                    add_product(&mut rows[i][j], T::M[i][k], &x[k][j]);
                }
            }
        }
    }
    let mut result = [[[0.0; LANES]; TO]; TO];
    for i in 0..TO {
        for j in 0..TO {
            for k in 0..FROM {
                if T::M[j][k] != 0.0 {
                    add_product(&mut result[i][j], T::M[j][k], &rows[i][k]);
                }
            }
        }
    }
    result
}

#[inline(always)]
fn add_product(sum: &mut Lanes, factor: f32, values: &Lanes) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// Functions that are compiled for wider vectors, too, and give the same on each of them.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident[$($generics:tt)*]($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name<$($generics)*>($($argument: $type),*) {
            #[inline(always)]
            fn plain<$($generics)*>($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2<$($generics)*>($($argument: $type),*) {
                    vectorised!(@call plain [$($generics)*] ($($argument),*))
                }
                #[target_feature(enable = "avx512f,avx2")]
                fn avx512<$($generics)*>($($argument: $type),*) {
                    vectorised!(@call plain [$($generics)*] ($($argument),*))
                }
                let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
                if has_avx2 && std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { vectorised!(@call avx512 [$($generics)*] ($($argument),*)) };
                }
                if has_avx2 {
                    // SAFETY: the processor has the instructions.
                    return unsafe { vectorised!(@call avx2 [$($generics)*] ($($argument),*)) };
                }
            }
            vectorised!(@call plain [$($generics)*] ($($argument),*))
        }
    )*};
    (@call $name:ident [T: Transform<$($a:tt),*>, const $size:ident: usize] $arguments:tt) => {
        $name::<T, $size> $arguments
    };
    (@call $name:ident [] $arguments:tt) => { $name $arguments };
}

vectorised! {
    /// `M x Mᵀ` for the squares x of `SIZE` rows that begin at `starts`, to a slice a place.
    fn squares_to_tiles[T: Transform<IN, SIZE>, const SIZE: usize](
        padded: &[f32],
        padded_width: usize,
        starts: &[usize],
        tiles: &mut [&mut [f32]],
    ) {
        for (block, starts) in starts.chunks(LANES).enumerate() {
            let mut squares = [[[0.0; LANES]; SIZE]; SIZE];
            for (lane, &start) in starts.iter().enumerate() {
                for (i, row) in squares.iter_mut().enumerate() {
                    let at = start + i * padded_width;
                    for (square, &value) in row.iter_mut().zip(&padded[at..at + SIZE]) {
                        square[lane] = value;
                    }
                }
            }
            let squares = transform::<T, IN, SIZE>(&squares);
            for (tiles, values) in tiles.iter_mut().zip(squares.as_flattened()) {
                tiles.as_chunks_mut().0[block] = *values;
            }
        }
    }

    /// Adds `M x Mᵀ`, squares of `SIZE` rows, at `starts`, for the tiles x, whose places are `stride` blocks
    /// apart.
    fn add_squares[T: Transform<SIZE, IN>, const SIZE: usize](
        tiles: &[Lanes],
        stride: usize,
        starts: &[usize],
        padded_width: usize,
        padded: &mut [f32],
    ) {
        for (block, starts) in starts.chunks(LANES).enumerate() {
            let mut squares = [[[0.0; LANES]; IN]; IN];
            for (place, values) in squares.as_flattened_mut().iter_mut().enumerate() {
                *values = tiles[place * stride + block];
            }
            let squares = transform::<T, SIZE, IN>(&squares);
            for (lane, &start) in starts.iter().enumerate() {
                for (i, row) in squares.iter().enumerate() {
                    let at = start + i * padded_width;
                    for (to, square) in padded[at..at + SIZE].iter_mut().zip(row) {
                        *to += square[lane];
                    }
                }
            }
        }
    }

    /// `G g Gᵀ` for each kernel g, to a slice a place.
    fn kernels_to_tiles[](kernels: &[[f32; 9]], tiles: &mut [&mut [f32]]) {
        for (block, kernels) in kernels.chunks(LANES).enumerate() {
            let mut squares = [[[0.0; LANES]; 3]; 3];
            for (lane, kernel) in kernels.iter().enumerate() {
                for (to, &value) in squares.as_flattened_mut().iter_mut().zip(kernel) {
                    to[lane] = value;
                }
            }
            let squares = transform::<Kernel, IN, 3>(&squares);
            for (tiles, values) in tiles.iter_mut().zip(squares.as_flattened()) {
                let to = &mut tiles[block * LANES..];
                match to.first_chunk_mut() {
                    Some(to) => *to = *values,
                    None => to.copy_from_slice(&values[..to.len()]),
                }
            }
        }
    }

    /// Adds `Gᵀ x G` to each kernel, for the tiles x, whose places are `stride` apart.
    fn add_kernels[](tiles: &[f32], stride: usize, kernels: &mut [[f32; 9]]) {
        for (block, kernels) in kernels.chunks_mut(LANES).enumerate() {
            let mut squares = [[[0.0; LANES]; IN]; IN];
            for (place, values) in squares.as_flattened_mut().iter_mut().enumerate() {
                let from = &tiles[place * stride + block * LANES..][..kernels.len()];
                match from.first_chunk() {
                    Some(from) => *values = *from,
                    None => values[..from.len()].copy_from_slice(from),
                }
            }
            let found = transform::<Transposed<Kernel>, 3, IN>(&squares);
            for (lane, kernel) in kernels.iter_mut().enumerate() {
                for (to, from) in kernel.iter_mut().zip(found.as_flattened()) {
                    *to += from[lane];
                }
            }
        }
    }
}
