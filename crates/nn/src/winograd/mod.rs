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

#[allow(unsafe_code)]
mod transform;

#[cfg(test)]
mod tests;

use ndarray::ArrayView2;
use ndarray::linalg::general_mat_mul;

use super::conv::{Conv, matrix, matrix_mut};
use super::maps::Maps;
use super::parallel::{Executor, for_each};
use transform::{
    IN, Input, LANES, OUT, Output, PLACES, Transform, Transposed, add_kernels, add_squares,
    kernels_to_tiles, squares_to_tiles,
};

/// Channels, or blocks of weights, that are one piece of work.
const PIECE: usize = 16;

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
    multiply([rows, tiles], after, executor, |place| {
        let weights = matrix(rows, columns, part(transformed, place, rows * columns));
        (
            weights,
            matrix(columns, tiles, part(before, place, columns * tiles)),
        )
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
        multiply([rows, columns], sums, executor, |place| {
            let slopes = matrix(rows, tiles, part(slopes, place, rows * tiles));
            let before = matrix(columns, tiles, part(before, place, columns * tiles));
            (slopes, before.reversed_axes())
        });
        let kernels = gradient.as_chunks_mut().0.chunks_mut(PIECE * LANES);
        for_each(executor, kernels, |piece, kernels| {
            let sums = &sums[piece * PIECE * LANES..];
            add_kernels(sums, stride(rows * columns), kernels);
        });
    }
    if let Some(input_gradient) = input_gradient {
        multiply([columns, tiles], before, executor, |place| {
            let weights = matrix(rows, columns, part(transformed, place, rows * columns));
            let slopes = matrix(rows, tiles, part(slopes, place, rows * tiles));
            (weights.reversed_axes(), slopes)
        });
        tiling.add_tiles::<Transposed<Input>, IN>(before, input_gradient, executor);
    }
}

/// The matrix product of the two `sides` of each place, as `rows` x `columns` values of `to`.
fn multiply<'a>(
    [rows, columns]: [usize; 2],
    to: &mut [f32],
    executor: &dyn Executor,
    sides: impl Fn(usize) -> (ArrayView2<'a, f32>, ArrayView2<'a, f32>) + Sync,
) {
    let products = to.chunks_exact_mut(stride(rows * columns));
    for_each(executor, products, |place, product| {
        let (left, right) = sides(place);
        let mut product = matrix_mut(rows, columns, &mut product[..rows * columns]);
        general_mat_mul(1.0, &left, &right, 0.0, &mut product);
    });
}

fn part(values: &[f32], index: usize, length: usize) -> &[f32] {
    &values[index * stride(length)..][..length]
}
