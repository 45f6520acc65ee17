//! 3×3 convolution with stride 1 by Winograd's minimal filtering, F(4×4, 3×3), and its transposes.
//!
//! `Y = Aᵀ [U ⊙ V] A` with `U = G g Gᵀ` and `V = Bᵀ d B` on tiles `d` of 6×6 that overlap by two, summed over the
//! input channels: 36 matrix products, one for each place in the tile, with 36 multiplications for 16 outputs
//! instead of 144. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308,
//! with the interpolation points 0, ±1, ±2, ∞. Each step is linear, so the derivatives are its transposes: with
//! `S = A ∂L/∂Y Aᵀ`, `∂L/∂g = Gᵀ [Σ S ⊙ V] G` over all tiles, and `∂L/∂d = B [Σ U ⊙ S] Bᵀ` over the output
//! channels, where tiles overlap summed up.
//!
//! Maps are shards `[channels, images, height, width]`, see [`super::maps`]; transformed ones `[place, channel,
//! tile]`, with the tiles of all images of all shards one after another: the products are large, and what
//! depends on the weights alone is read or written once a batch. Transformed weights are `[place, output channel,
//! input channel]`.

use ndarray::linalg::general_mat_mul;

use super::conv::{Conv, matrix, matrix_mut};
use super::maps::Maps;
use super::parallel::{Executor, for_each};

/// Rows and columns of output of a tile.
const OUT: usize = 4;
/// Rows and columns of input of a tile.
const IN: usize = OUT + 2;
/// Places in a tile, each with a matrix product of its own.
const PLACES: usize = IN * IN;
/// Tiles, or weights, that are transformed at once.
const LANES: usize = 16;
/// Channels, or blocks of weights, that are one piece of work.
const PIECE: usize = 16;

type Lanes = [f32; LANES];
type Matrix<const ROWS: usize, const COLUMNS: usize> = [[f32; COLUMNS]; ROWS];

/// A matrix M, for `M x Mᵀ` of squares x.
trait Transform<const TO: usize, const FROM: usize> {
    const M: Matrix<TO, FROM>;
}

/// Mᵀ of another transform.
struct Transposed<T>(T);

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
struct Input;

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
struct Output;

impl Transform<OUT, IN> for Output {
    const M: Matrix<OUT, IN> = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ];
}

/// `G`.
struct Kernel;

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
        fn $name<$($generics)*>($($argument: $type),*) {
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

/// Memory that is used again from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    before: Vec<f32>,
    after: Vec<f32>,
    weights: Vec<f32>,
}

/// Values from one place to the next: a line of the cache more than there are, since places at a power of two
/// from each other would drive each other out of the cache.
fn stride(values: usize) -> usize {
    values.next_multiple_of(LANES) + LANES
}

/// `buffer` with `length` values, whatever they are.
fn resized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        *buffer = vec![0.0; length];
    }
    &mut buffer[..length]
}

/// Where the tiles of all shards lie.
struct Tiling<'a> {
    /// Planes of one picture's channel.
    shape: Maps,
    /// Rows and columns in front of the plane.
    before: [usize; 2],
    /// Columns of a padded plane, and its values.
    padded_width: usize,
    padded_pixels: usize,
    /// Pictures of each shard.
    images: &'a [usize],
    /// Where each tile begins in the padded planes of a channel.
    starts: Vec<usize>,
}

impl Tiling<'_> {
    /// Tiles that give the output of `conv`, as they lie in planes of `shape` with `before` rows and columns
    /// in front of them.
    fn of<'a>(conv: &Conv, images: &'a [usize], shape: Maps, before: [usize; 2]) -> Tiling<'a> {
        let [down, across] = conv.output_size().map(|length| length.div_ceil(OUT));
        // The padded plane has room for the input tiles, and for planes that are longer than those reach.
        let padded_height = (down * OUT + 2).max(shape.height + before[0]);
        let padded_width = (across * OUT + 2).max(shape.width + before[1]);
        let padded_pixels = padded_height * padded_width;
        let start = |tile: usize| {
            let (image, y, x) = (tile / across / down, tile / across % down, tile % across);
            image * padded_pixels + (y * padded_width + x) * OUT
        };
        Tiling {
            shape,
            before,
            padded_width,
            padded_pixels,
            images,
            starts: (0..images.iter().sum::<usize>() * down * across)
                .map(start)
                .collect(),
        }
    }

    /// Tiles, in whole blocks of lanes; those that are none are zeros.
    fn tiles(&self) -> usize {
        self.starts.len().next_multiple_of(LANES)
    }

    /// Values of the padded planes of a channel.
    fn padded(&self) -> usize {
        self.images.iter().sum::<usize>() * self.padded_pixels
    }

    /// Where the rows of a channel's planes lie: shard, row of its planes, place in the padded ones.
    fn rows(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut first = 0;
        let shards = self.images.iter().enumerate();
        shards.flat_map(move |(shard, &images)| {
            let begin = first;
            first += images;
            (0..images * self.shape.height).map(move |row| {
                let (image, y) = (begin + row / self.shape.height, row % self.shape.height);
                let padded = (y + self.before[0]) * self.padded_width + self.before[1];
                (shard, row, image * self.padded_pixels + padded)
            })
        })
    }

    /// `M x Mᵀ` for the squares x of `SIZE` rows at each tile.
    fn to_tiles<T: Transform<IN, SIZE>, const SIZE: usize>(
        &self,
        shards: &[&[f32]],
        transformed: &mut [f32],
        executor: &dyn Executor,
    ) {
        let width = self.shape.width;
        let mut channels = by_channel(transformed, self.tiles(), self.shape.channels);
        for_each(executor, channels.chunks_mut(PIECE), |piece, channels| {
            let mut padded = vec![0.0; self.padded()];
            for (place, tiles) in channels.iter_mut().enumerate() {
                let channel = piece * PIECE + place;
                for (shard, row, place) in self.rows() {
                    let from = (channel * self.images[shard] * self.shape.height + row) * width;
                    let from = shards[shard][from..from + width].iter();
                    for (to, &from) in padded[place..place + width].iter_mut().zip(from) {
                        *to = from;
                    }
                }
                squares_to_tiles::<T, SIZE>(&padded, self.padded_width, &self.starts, tiles);
            }
        });
    }

    /// Adds `M x Mᵀ`, squares of `SIZE` rows, to the maps at each tile, for x of `[place, channel, tile]`.
    fn add_tiles<T: Transform<SIZE, IN>, const SIZE: usize>(
        &self,
        transformed: &[f32],
        shards: &mut [Vec<f32>],
        executor: &dyn Executor,
    ) {
        let (width, channels) = (self.shape.width, self.shape.channels);
        let mut planes: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
        for (shard, &images) in shards.iter_mut().zip(self.images) {
            let chunks = shard.chunks_exact_mut(self.shape.pixels() * images);
            for (planes, chunk) in planes.iter_mut().zip(chunks) {
                planes.push(chunk);
            }
        }
        let (tiles, _) = transformed.as_chunks::<LANES>();
        let blocks = self.tiles() / LANES;
        for_each(executor, planes.chunks_mut(PIECE), |piece, planes| {
            let mut padded = vec![0.0; self.padded()];
            for (place, planes) in planes.iter_mut().enumerate() {
                let tiles = &tiles[(piece * PIECE + place) * blocks..];
                let stride = stride(channels * blocks * LANES) / LANES;
                padded.fill(0.0);
                add_squares::<T, SIZE>(tiles, stride, &self.starts, self.padded_width, &mut padded);
                for (shard, row, place) in self.rows() {
                    let to = &mut planes[shard][row * width..(row + 1) * width];
                    for (to, from) in to.iter_mut().zip(&padded[place..place + width]) {
                        *to += from;
                    }
                }
            }
        });
    }
}

/// The tiles of each channel, a slice a place, of `[place, channel, tile]`.
fn by_channel(transformed: &mut [f32], tiles: usize, channels: usize) -> Vec<Vec<&mut [f32]>> {
    let mut slices: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
    for place in transformed.chunks_exact_mut(stride(channels * tiles)) {
        for (slices, tiles) in slices.iter_mut().zip(place.chunks_exact_mut(tiles)) {
            slices.push(tiles);
        }
    }
    slices
}

/// Whether a convolution can be done so, and it pays.
pub(super) fn suits(conv: &Conv) -> bool {
    /// Below this many channels the transforms cost more than they save.
    const FEWEST: usize = 16;
    let [height, width] = conv.output_size();
    conv.kernel == [3, 3]
        && conv.stride == [1, 1]
        && conv.dilation == [1, 1]
        && conv.groups == 1
        && conv.output_channels.min(conv.input.channels) >= FEWEST
        && PLACES * height.div_ceil(OUT) * width.div_ceil(OUT) < 7 * height * width
}

/// `U`: `[place, output channel, input channel]`.
pub(super) fn transform_weights(
    conv: &Conv,
    weights: &[f32],
    transformed: &mut Vec<f32>,
    executor: &dyn Executor,
) {
    let count = conv.output_channels * conv.input.channels;
    let transformed = resized(transformed, PLACES * stride(count));
    // A piece of work has a block of the weights at every place.
    let mut blocks: Vec<Vec<&mut [f32]>> = (0..count.div_ceil(PIECE * LANES))
        .map(|_| Vec::with_capacity(PLACES))
        .collect();
    for place in transformed.chunks_exact_mut(stride(count)) {
        let parts = place[..count].chunks_mut(PIECE * LANES);
        for (block, part) in blocks.iter_mut().zip(parts) {
            block.push(part);
        }
    }
    let kernels = weights.as_chunks::<9>().0.chunks(PIECE * LANES);
    let pieces = blocks.iter_mut().zip(kernels);
    for_each(executor, pieces, |_, (tiles, kernels)| {
        kernels_to_tiles(kernels, tiles)
    });
}

/// Adds Y for the shards `input` of `images` pictures to `output`.
pub(super) fn forward(
    conv: &Conv,
    images: &[usize],
    input: &[&[f32]],
    transformed: &[f32],
    output: &mut [Vec<f32>],
    buffers: &mut Buffers,
    executor: &dyn Executor,
) {
    let (rows, columns) = (conv.output_channels, conv.input.channels);
    let tiling = Tiling::of(conv, images, conv.input, conv.pad_before);
    let tiles = tiling.tiles();
    let before = resized(&mut buffers.before, PLACES * stride(columns * tiles));
    tiling.to_tiles::<Input, IN>(input, before, executor);
    let after = resized(&mut buffers.after, PLACES * stride(rows * tiles));
    let products = after.chunks_exact_mut(stride(rows * tiles));
    for_each(executor, products, |place, product| {
        general_mat_mul(
            1.0,
            &matrix(rows, columns, part(transformed, place, rows * columns)),
            &matrix(columns, tiles, part(before, place, columns * tiles)),
            0.0,
            &mut matrix_mut(rows, tiles, &mut product[..rows * tiles]),
        );
    });
    let tiling = Tiling::of(conv, images, conv.output(), [0, 0]);
    tiling.add_tiles::<Output, OUT>(after, output, executor);
}

/// Adds ∂L/∂W to `gradient`, and ∂L/∂X to `input_gradient`, where they are wanted, for G = ∂L/∂Y.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    conv: &Conv,
    images: &[usize],
    input: &[&[f32]],
    output_gradient: &[&[f32]],
    transformed: &[f32],
    gradient: Option<&mut [f32]>,
    input_gradient: Option<&mut [Vec<f32>]>,
    buffers: &mut Buffers,
    executor: &dyn Executor,
) {
    let (rows, columns) = (conv.output_channels, conv.input.channels);
    let tiling = Tiling::of(conv, images, conv.output(), [0, 0]);
    let tiles = tiling.tiles();
    let slopes = resized(&mut buffers.after, PLACES * stride(rows * tiles));
    tiling.to_tiles::<Transposed<Output>, OUT>(output_gradient, slopes, executor);
    let tiling = Tiling::of(conv, images, conv.input, conv.pad_before);
    let before = resized(&mut buffers.before, PLACES * stride(columns * tiles));
    if let Some(gradient) = gradient {
        tiling.to_tiles::<Input, IN>(input, before, executor);
        let sums = resized(&mut buffers.weights, PLACES * stride(rows * columns));
        let products = sums.chunks_exact_mut(stride(rows * columns));
        for_each(executor, products, |place, product| {
            general_mat_mul(
                1.0,
                &matrix(rows, tiles, part(slopes, place, rows * tiles)),
                &matrix(columns, tiles, part(before, place, columns * tiles)).t(),
                0.0,
                &mut matrix_mut(rows, columns, &mut product[..rows * columns]),
            );
        });
        let kernels = gradient.as_chunks_mut().0.chunks_mut(PIECE * LANES);
        for_each(executor, kernels, |piece, kernels| {
            let sums = &sums[piece * PIECE * LANES..];
            add_kernels(sums, stride(rows * columns), kernels);
        });
    }
    if let Some(input_gradient) = input_gradient {
        let products = before.chunks_exact_mut(stride(columns * tiles));
        for_each(executor, products, |place, product| {
            general_mat_mul(
                1.0,
                &matrix(rows, columns, part(transformed, place, rows * columns)).t(),
                &matrix(rows, tiles, part(slopes, place, rows * tiles)),
                0.0,
                &mut matrix_mut(columns, tiles, &mut product[..columns * tiles]),
            );
        });
        tiling.add_tiles::<Transposed<Input>, IN>(before, input_gradient, executor);
    }
}

fn part(values: &[f32], index: usize, length: usize) -> &[f32] {
    &values[index * stride(length)..][..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parallel::Sequential;

    /// Numerical Recipes' linear congruential generator.
    fn numbers(count: usize, state: &mut u32) -> Vec<f32> {
        let mut next = || {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Y, ∂L/∂W and ∂L/∂X by the definition, in f64, for ∂L/∂Y = `slope`.
    fn by_definition(
        conv: &Conv,
        images: usize,
        [input, weights, slope]: [&[f32]; 3],
    ) -> [Vec<f64>; 3] {
        let (from, to) = (conv.input, conv.output());
        let mut output = vec![0.0; to.values() * images];
        let mut kernel = vec![0.0; weights.len()];
        let mut gradient = vec![0.0; input.len()];
        for o in 0..to.channels * images * to.pixels() {
            let (x, y) = (o % to.width, o / to.width % to.height);
            let (image, channel) = (o / to.pixels() % images, o / to.pixels() / images);
            for w in 0..from.channels * 9 {
                let (dx, dy, c) = (w % 3, w / 3 % 3, w / 9);
                let iy = (y + dy).wrapping_sub(conv.pad_before[0]);
                let ix = (x + dx).wrapping_sub(conv.pad_before[1]);
                if iy >= from.height || ix >= from.width {
                    continue;
                }
                let i = ((c * images + image) * from.height + iy) * from.width + ix;
                let w = channel * from.channels * 9 + w;
                output[o] += f64::from(input[i]) * f64::from(weights[w]);
                kernel[w] += f64::from(input[i]) * f64::from(slope[o]);
                gradient[i] += f64::from(weights[w]) * f64::from(slope[o]);
            }
        }
        [output, kernel, gradient]
    }

    /// Maps of three pictures as two shards, of one and of two.
    fn in_shards(maps: &[f32], channels: usize) -> [Vec<f32>; 2] {
        let pixels = maps.len() / channels / 3;
        let planes = || maps.chunks_exact(3 * pixels);
        let first = planes().flat_map(|planes| &planes[..pixels]).copied();
        let others = planes().flat_map(|planes| &planes[pixels..]).copied();
        [first.collect(), others.collect()]
    }

    #[test]
    fn agrees_with_the_definition_of_convolution_and_its_derivatives() {
        let cases = [(9, 9, [1, 1], [1, 1]), (6, 11, [0, 2], [1, 0])];
        let mut state = 3;
        for (height, width, pad_before, pad_after) in cases {
            let conv = Conv {
                input: Maps {
                    channels: 17,
                    height,
                    width,
                },
                output_channels: 19,
                kernel: [3, 3],
                stride: [1, 1],
                dilation: [1, 1],
                pad_before,
                pad_after,
                groups: 1,
            };
            assert!(suits(&conv));
            let images = 3;
            let input = numbers(conv.input.values() * images, &mut state);
            let weights = numbers(conv.weights(), &mut state);
            let slope = numbers(conv.output().values() * images, &mut state);
            let expected = by_definition(&conv, images, [&input, &weights, &slope]);
            let (mut transformed, mut buffers) = (Vec::new(), Buffers::default());
            transform_weights(&conv, &weights, &mut transformed, &Sequential);
            let values = conv.output().values();
            let mut output = [vec![0.0; values], vec![0.0; values * 2]];
            let input = in_shards(&input, 17);
            let slope = in_shards(&slope, 19);
            forward(
                &conv,
                &[1, 2],
                &[&input[0], &input[1]],
                &transformed,
                &mut output,
                &mut buffers,
                &Sequential,
            );
            let mut gradient = vec![0.0; weights.len()];
            let values = conv.input.values();
            let mut input_gradient = [vec![0.0; values], vec![0.0; values * 2]];
            backward(
                &conv,
                &[1, 2],
                &[&input[0], &input[1]],
                &[&slope[0], &slope[1]],
                &transformed,
                Some(&mut gradient),
                Some(&mut input_gradient),
                &mut buffers,
                &Sequential,
            );
            let expected =
                expected.map(|values| values.into_iter().map(|v| v as f32).collect::<Vec<_>>());
            let [output_expected, gradient_expected, input_expected] = expected;
            let [a, b] = in_shards(&output_expected, 19);
            let [c, d] = in_shards(&input_expected, 17);
            let [output_1, output_2] = output;
            let [input_1, input_2] = input_gradient;
            let found = [output_1, output_2, gradient, input_1, input_2];
            let expected = [a, b, gradient_expected, c, d];
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len());
                let scale = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                for (a, b) in found.iter().zip(expected) {
                    let error = (a - b).abs() / scale;
                    assert!(error < 1e-5, "{height}×{width}: {a} {b}");
                }
            }
        }
    }
}
