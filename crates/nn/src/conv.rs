//! Convolution of feature maps in two dimensions: strided, padded, dilated, grouped, depthwise.
//!
//! Maps are `[channels, images, height, width]`, see [`super::maps`]; weights are
//! `[output channels, input channels / groups, kernel height, kernel width]`, as in ONNX and PyTorch.
//!
//! Y = W · im2col(X) for each group, as one matrix product for as many images as fit into a block; depthwise
//! convolutions work on zero-padded planes, one long multiply-and-add for each tap of the kernel. Blocks are
//! taken in order, so that the same shard gives the same bits.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::maps::Maps;

/// Values of a matrix of patches: 8 MiB, about what a core has of cache.
const BLOCK_VALUES: usize = 2 << 20;

/// The geometry of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// What it reads.
    pub input: Maps,
    /// Channels that it makes.
    pub output_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one output pixel to the next.
    pub stride: [usize; 2],
    /// Rows and columns from one tap of the kernel to the next.
    pub dilation: [usize; 2],
    /// Zeros above and to the left of the input.
    pub pad_before: [usize; 2],
    /// Zeros below and to the right of the input.
    pub pad_after: [usize; 2],
    /// Groups; each reads and makes its own share of the channels.
    pub groups: usize,
}

impl Conv {
    /// Height and width of the output; 0 where the kernel does not fit.
    pub(super) fn output_size(&self) -> [usize; 2] {
        let size = [self.input.height, self.input.width];
        std::array::from_fn(|axis| {
            let padded = size[axis] + self.pad_before[axis] + self.pad_after[axis];
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            match padded.checked_sub(reach) {
                Some(room) => room / self.stride[axis] + 1,
                None => 0,
            }
        })
    }

    /// What it makes.
    pub fn output(&self) -> Maps {
        let [height, width] = self.output_size();
        Maps {
            channels: self.output_channels,
            height,
            width,
        }
    }

    /// Number of weights, the bias not among them.
    pub fn weights(&self) -> usize {
        self.output_channels * self.taps()
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.input.channels / self.groups * self.kernel[0] * self.kernel[1]
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.input.channels
    }

    /// Whether im2col(X) is X itself.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == [1, 1]
            && self.pad_before == [0, 0]
            && self.pad_after == [0, 0]
    }

    /// Y for `input` of `images` pictures.
    ///
    /// # Panics
    /// If a slice has another length than the shapes say; so in the other functions here.
    pub fn forward(
        &self,
        images: usize,
        input: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let pixels = self.output().pixels() * images;
        let mut output = vec![0.0; self.output_channels * pixels];
        if let Some(bias) = bias {
            for (maps, &bias) in output.chunks_exact_mut(pixels.max(1)).zip(bias) {
                maps.fill(bias);
            }
        }
        if self.is_depthwise() {
            self.depthwise_forward(images, input, weights, &mut output);
            return output;
        }
        self.for_each_block(images, input, |group, columns, patches| {
            let kernel = self.group_weights(weights, group);
            let mut block = self.group_maps_mut(&mut output, pixels, group);
            let mut block = block.slice_mut(s![.., columns]);
            general_mat_mul(1.0, &kernel, &patches, 1.0, &mut block);
        });
        output
    }

    /// Adds ∂L/∂W = G · im2col(X)ᵀ to `gradient`, for G = ∂L/∂Y.
    pub fn weight_gradient(
        &self,
        images: usize,
        input: &[f32],
        output_gradient: &[f32],
        gradient: &mut [f32],
    ) {
        if self.is_depthwise() {
            return self.depthwise_weight_gradient(images, input, output_gradient, gradient);
        }
        let pixels = self.output().pixels() * images;
        let (rows, taps) = (self.output_channels / self.groups, self.taps());
        self.for_each_block(images, input, |group, columns, patches| {
            let maps = self.group_maps(output_gradient, pixels, group);
            let maps = maps.slice(s![.., columns]);
            let part = &mut gradient[group * rows * taps..(group + 1) * rows * taps];
            let mut part = matrix_mut(rows, taps, part);
            general_mat_mul(1.0, &maps, &patches.t(), 1.0, &mut part);
        });
    }

    /// ∂L/∂X = col2im(Wᵀ · G) for G = ∂L/∂Y.
    pub fn input_gradient(
        &self,
        images: usize,
        output_gradient: &[f32],
        weights: &[f32],
    ) -> Vec<f32> {
        let mut gradient = vec![0.0; self.input.values() * images];
        if self.is_depthwise() {
            self.depthwise_input_gradient(images, output_gradient, weights, &mut gradient);
            return gradient;
        }
        let pixels = self.output().pixels() * images;
        let channels = self.input.channels / self.groups;
        for group in 0..self.groups {
            let kernel = self.group_weights(weights, group);
            let maps = self.group_maps(output_gradient, pixels, group);
            if self.is_pointwise() {
                let part =
                    &mut gradient[group * channels * pixels..(group + 1) * channels * pixels];
                let mut part = matrix_mut(channels, pixels, part);
                general_mat_mul(1.0, &kernel.t(), &maps, 0.0, &mut part);
                continue;
            }
            for block in self.blocks(images) {
                let columns = self.columns(&block);
                let mut patches = vec![0.0; self.taps() * columns.len()];
                general_mat_mul(
                    1.0,
                    &kernel.t(),
                    &maps.slice(s![.., columns.clone()]),
                    0.0,
                    &mut matrix_mut(self.taps(), columns.len(), &mut patches),
                );
                self.col2im(images, block, group, &patches, &mut gradient);
            }
        }
        gradient
    }

    /// Calls `work` with each group, the columns of a block of images, and their patches
    /// `[taps, columns]`.
    fn for_each_block(
        &self,
        images: usize,
        input: &[f32],
        mut work: impl FnMut(usize, Range<usize>, ArrayView2<f32>),
    ) {
        if self.is_pointwise() {
            let pixels = self.input.pixels() * images;
            let channels = self.input.channels / self.groups;
            for (group, maps) in input.chunks_exact(channels * pixels).enumerate() {
                work(group, 0..pixels, matrix(channels, pixels, maps));
            }
            return;
        }
        let mut patches = Vec::new();
        for group in 0..self.groups {
            for block in self.blocks(images) {
                let columns = self.columns(&block);
                patches.resize(self.taps() * columns.len(), 0.0);
                self.im2col(images, block, group, input, &mut patches);
                let view = matrix(self.taps(), columns.len(), &patches);
                work(group, columns, view);
            }
        }
    }

    /// Runs of images whose patches fit into a block.
    fn blocks(&self, images: usize) -> impl Iterator<Item = Range<usize>> {
        let each = (self.taps() * self.output().pixels()).max(1);
        let step = (BLOCK_VALUES / each).max(1);
        (0..images)
            .step_by(step)
            .map(move |first| first..(first + step).min(images))
    }

    /// The columns that a run of images has in a matrix with one column a pixel.
    fn columns(&self, images: &Range<usize>) -> Range<usize> {
        let pixels = self.output().pixels();
        images.start * pixels..images.end * pixels
    }

    fn group_weights<'a>(&self, weights: &'a [f32], group: usize) -> ArrayView2<'a, f32> {
        let (rows, taps) = (self.output_channels / self.groups, self.taps());
        matrix(
            rows,
            taps,
            &weights[group * rows * taps..(group + 1) * rows * taps],
        )
    }

    fn group_maps<'a>(&self, maps: &'a [f32], pixels: usize, group: usize) -> ArrayView2<'a, f32> {
        let rows = self.output_channels / self.groups;
        matrix(
            rows,
            pixels,
            &maps[group * rows * pixels..(group + 1) * rows * pixels],
        )
    }

    fn group_maps_mut<'a>(
        &self,
        maps: &'a mut [f32],
        pixels: usize,
        group: usize,
    ) -> ArrayViewMut2<'a, f32> {
        let rows = self.output_channels / self.groups;
        matrix_mut(
            rows,
            pixels,
            &mut maps[group * rows * pixels..(group + 1) * rows * pixels],
        )
    }

    /// The output places along `axis` for which tap `tap` of the kernel is inside the input.
    fn inside(&self, axis: usize, tap: usize) -> Range<usize> {
        let size = [self.input.height, self.input.width][axis];
        let (pad, stride) = (self.pad_before[axis], self.stride[axis]);
        let offset = tap * self.dilation[axis];
        let first = pad.saturating_sub(offset).div_ceil(stride);
        let end = (size + pad).saturating_sub(offset).div_ceil(stride);
        let end = end.min(self.output_size()[axis]);
        first.min(end)..end
    }

    /// Calls `row` with (row of patches, output columns, where in the input the first of them reads) for
    /// each tap, image and output row; without an input place where all of the row is padding.
    fn for_each_row(
        &self,
        images: usize,
        block: Range<usize>,
        group: usize,
        mut row: impl FnMut(Range<usize>, Range<usize>, Option<usize>),
    ) {
        let [out_height, out_width] = self.output_size();
        let channels = self.input.channels / self.groups;
        let columns = block.len() * out_height * out_width;
        let mut tap = 0;
        for channel in group * channels..(group + 1) * channels {
            for ky in 0..self.kernel[0] {
                let rows = self.inside(0, ky);
                for kx in 0..self.kernel[1] {
                    let inside = self.inside(1, kx);
                    for (place, image) in block.clone().enumerate() {
                        let plane = (channel * images + image) * self.input.pixels();
                        for y in 0..out_height {
                            let begin = tap * columns + (place * out_height + y) * out_width;
                            let source = rows.contains(&y).then(|| {
                                let iy =
                                    y * self.stride[0] + ky * self.dilation[0] - self.pad_before[0];
                                let ix = (inside.start * self.stride[1] + kx * self.dilation[1])
                                    .saturating_sub(self.pad_before[1]);
                                plane + iy * self.input.width + ix
                            });
                            row(begin..begin + out_width, inside.clone(), source);
                        }
                    }
                    tap += 1;
                }
            }
        }
    }

    fn im2col(
        &self,
        images: usize,
        block: Range<usize>,
        group: usize,
        input: &[f32],
        patches: &mut [f32],
    ) {
        let stride = self.stride[1];
        self.for_each_row(images, block, group, |place, inside, source| {
            let to = &mut patches[place];
            let Some(source) = source.filter(|_| !inside.is_empty()) else {
                to.fill(0.0);
                return;
            };
            to[..inside.start].fill(0.0);
            to[inside.end..].fill(0.0);
            let to = &mut to[inside];
            if stride == 1 {
                to.copy_from_slice(&input[source..source + to.len()]);
            } else {
                for (to, &value) in to.iter_mut().zip(input[source..].iter().step_by(stride)) {
                    *to = value;
                }
            }
        });
    }

    fn col2im(
        &self,
        images: usize,
        block: Range<usize>,
        group: usize,
        patches: &[f32],
        input: &mut [f32],
    ) {
        let stride = self.stride[1];
        self.for_each_row(images, block, group, |place, inside, source| {
            let Some(source) = source.filter(|_| !inside.is_empty()) else {
                return;
            };
            let from = &patches[place][inside];
            let to = input[source..].iter_mut().step_by(stride);
            for (to, &value) in to.zip(from) {
                *to += value;
            }
        });
    }
}

/// Adds ∂L/∂b to `gradient`: the sum of G = ∂L/∂Y over the images and pixels of each channel.
pub fn bias_gradient(output_gradient: &[f32], gradient: &mut [f32]) {
    let pixels = output_gradient.len() / gradient.len().max(1);
    for (maps, bias) in output_gradient
        .chunks_exact(pixels.max(1))
        .zip(gradient.iter_mut())
    {
        *bias += maps.iter().sum::<f32>();
    }
}

/// Σ a · b, in 16 partial sums so that it runs in vector registers.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// A row-major view of a slice that has room for it.
pub(super) fn matrix(rows: usize, columns: usize, values: &[f32]) -> ArrayView2<'_, f32> {
    assert_eq!(values.len(), rows * columns, "length of a matrix");
    match ArrayView2::from_shape((rows, columns), values) {
        Ok(view) => view,
        Err(_) => unreachable!("the length was checked"),
    }
}

/// [`matrix`], to be written to.
pub(super) fn matrix_mut(
    rows: usize,
    columns: usize,
    values: &mut [f32],
) -> ArrayViewMut2<'_, f32> {
    assert_eq!(values.len(), rows * columns, "length of a matrix");
    match ArrayViewMut2::from_shape((rows, columns), values) {
        Ok(view) => view,
        Err(_) => unreachable!("the length was checked"),
    }
}
