//! Depthwise convolution: each channel by itself, with kernels of its own.
//!
//! A channel's planes are laid into zero-padded ones, all images in one row: a tap of the kernel then reads at a
//! constant distance from the pixel that it makes, and is one long multiply-and-add.

use std::ops::Range;

use super::conv::{Conv, dot};

impl Conv {
    fn padded_size(&self) -> [usize; 2] {
        [
            self.input.height + self.pad_before[0] + self.pad_after[0],
            self.input.width + self.pad_before[1] + self.pad_after[1],
        ]
    }

    /// Distance of each tap from the first.
    fn tap_offsets(&self) -> Vec<usize> {
        let [_, width] = self.padded_size();
        let rows = 0..self.kernel[0];
        rows.flat_map(|ky| {
            let row = ky * self.dilation[0] * width;
            (0..self.kernel[1]).map(move |kx| row + kx * self.dilation[1])
        })
        .collect()
    }

    /// Values of the padded planes of a channel, and how many of them a tap can run over.
    fn padded_lengths(&self, images: usize, offsets: &[usize]) -> (usize, usize) {
        let [height, width] = self.padded_size();
        let all = images * height * width;
        (all, all - offsets.last().copied().unwrap_or(0))
    }

    /// Calls `row` with a row of the input's planes of a channel and its place in the padded planes.
    fn for_each_padded_row(&self, images: usize, mut row: impl FnMut(Range<usize>, usize)) {
        let [height, width] = self.padded_size();
        for image in 0..images {
            for y in 0..self.input.height {
                let from = (image * self.input.height + y) * self.input.width;
                let to = (image * height + y + self.pad_before[0]) * width + self.pad_before[1];
                row(from..from + self.input.width, to);
            }
        }
    }

    /// Places of the output pixels of a channel, in their order, in the padded planes.
    fn output_places(&self, images: usize) -> Vec<usize> {
        let [height, width] = self.padded_size();
        let [out_height, out_width] = self.output_size();
        let mut places = Vec::with_capacity(images * out_height * out_width);
        for image in 0..images {
            for y in 0..out_height {
                let row = (image * height + y * self.stride[0]) * width;
                places.extend((0..out_width).map(|x| row + x * self.stride[1]));
            }
        }
        places
    }

    pub(super) fn depthwise_forward(
        &self,
        images: usize,
        input: &[f32],
        weights: &[f32],
        output: &mut [f32],
    ) {
        let offsets = self.tap_offsets();
        let (all, length) = self.padded_lengths(images, &offsets);
        let places = self.output_places(images);
        let (mut padded, mut sums) = (vec![0.0; all], vec![0.0; length]);
        let each = self.output_channels / self.groups;
        for (channel, maps) in output.chunks_exact_mut(places.len()).enumerate() {
            if channel.is_multiple_of(each) {
                self.pad_channel(images, input, channel / each, &mut padded);
            }
            sums.fill(0.0);
            let taps = &weights[channel * offsets.len()..(channel + 1) * offsets.len()];
            for (&weight, &offset) in taps.iter().zip(&offsets) {
                add_scaled(weight, &padded[offset..offset + length], &mut sums);
            }
            for (to, &place) in maps.iter_mut().zip(&places) {
                *to += sums[place];
            }
        }
    }

    pub(super) fn depthwise_weight_gradient(
        &self,
        images: usize,
        input: &[f32],
        output_gradient: &[f32],
        gradient: &mut [f32],
    ) {
        let offsets = self.tap_offsets();
        let (all, length) = self.padded_lengths(images, &offsets);
        let places = self.output_places(images);
        let (mut padded, mut spread) = (vec![0.0; all], vec![0.0; length]);
        let each = self.output_channels / self.groups;
        for (channel, maps) in output_gradient.chunks_exact(places.len()).enumerate() {
            if channel.is_multiple_of(each) {
                self.pad_channel(images, input, channel / each, &mut padded);
            }
            for (&place, &value) in places.iter().zip(maps) {
                spread[place] = value;
            }
            let taps = &mut gradient[channel * offsets.len()..(channel + 1) * offsets.len()];
            for (weight, &offset) in taps.iter_mut().zip(&offsets) {
                *weight += dot(&padded[offset..offset + length], &spread);
            }
        }
    }

    pub(super) fn depthwise_input_gradient(
        &self,
        images: usize,
        output_gradient: &[f32],
        weights: &[f32],
        gradient: &mut [f32],
    ) {
        let offsets = self.tap_offsets();
        let (all, length) = self.padded_lengths(images, &offsets);
        let places = self.output_places(images);
        let (mut padded, mut spread) = (vec![0.0; all], vec![0.0; length]);
        let each = self.output_channels / self.groups;
        let plane = self.input.pixels() * images;
        for (channel, maps) in output_gradient.chunks_exact(places.len()).enumerate() {
            if channel.is_multiple_of(each) {
                padded.fill(0.0);
            }
            for (&place, &value) in places.iter().zip(maps) {
                spread[place] = value;
            }
            let taps = &weights[channel * offsets.len()..(channel + 1) * offsets.len()];
            for (&weight, &offset) in taps.iter().zip(&offsets) {
                add_scaled(weight, &spread, &mut padded[offset..offset + length]);
            }
            if (channel + 1).is_multiple_of(each) {
                let source = channel / each;
                let to = &mut gradient[source * plane..(source + 1) * plane];
                self.for_each_padded_row(images, |row, place| {
                    let from = &padded[place..place + row.len()];
                    to[row].copy_from_slice(from);
                });
            }
        }
    }

    /// Lays the planes of input channel `channel` into `padded`, whose rim stays 0.
    fn pad_channel(&self, images: usize, input: &[f32], channel: usize, padded: &mut [f32]) {
        let plane = self.input.pixels() * images;
        let from = &input[channel * plane..(channel + 1) * plane];
        self.for_each_padded_row(images, |row, place| {
            padded[place..place + row.len()].copy_from_slice(&from[row]);
        });
    }
}

/// sums += weight · values.
fn add_scaled(weight: f32, values: &[f32], sums: &mut [f32]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}
