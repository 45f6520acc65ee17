//! Batch normalisation with frozen statistics.
//!
//! y = γ · (x − μ) / √(σ² + ε) + β for each channel, with the mean μ and variance σ² that the base was trained
//! with: they stay as they are in training too, since those of a small data set in small batches would be
//! worse. Maps are `[channels, images, height, width]`, see [`super::maps`].

/// The statistics of the channels.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    mean: Vec<f32>,
    /// 1 / √(σ² + ε).
    inverse_deviation: Vec<f32>,
}

impl BatchNorm {
    /// With the moving mean and variance of a trained layer, one a channel.
    pub fn new(mean: Vec<f32>, variance: &[f32], epsilon: f32) -> BatchNorm {
        BatchNorm {
            mean,
            inverse_deviation: variance
                .iter()
                .map(|variance| 1.0 / (variance + epsilon).sqrt())
                .collect(),
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// y, for γ = `scale` and β = `shift`.
    ///
    /// # Panics
    /// If there is not one scale and shift a channel; so in the other functions here.
    pub fn forward(&self, input: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
        let mut output = Vec::with_capacity(input.len());
        for (channel, maps) in self.channels_of(input) {
            let factor = scale[channel] * self.inverse_deviation[channel];
            let offset = shift[channel] - self.mean[channel] * factor;
            output.extend(maps.iter().map(|value| value * factor + offset));
        }
        output
    }

    /// ∂L/∂x = ∂L/∂y · γ / √(σ² + ε).
    pub fn input_gradient(&self, output_gradient: &[f32], scale: &[f32]) -> Vec<f32> {
        let mut gradient = Vec::with_capacity(output_gradient.len());
        for (channel, maps) in self.channels_of(output_gradient) {
            let factor = scale[channel] * self.inverse_deviation[channel];
            gradient.extend(maps.iter().map(|value| value * factor));
        }
        gradient
    }

    /// Adds ∂L/∂γ = Σ ∂L/∂y · (x − μ) / √(σ² + ε) to `gradient`; ∂L/∂β is that of a bias.
    pub fn scale_gradient(&self, input: &[f32], output_gradient: &[f32], gradient: &mut [f32]) {
        for ((channel, maps), (_, slopes)) in self
            .channels_of(input)
            .zip(self.channels_of(output_gradient))
        {
            let products = maps
                .iter()
                .zip(slopes)
                .map(|(value, slope)| (value - self.mean[channel]) * slope);
            gradient[channel] += products.sum::<f32>() * self.inverse_deviation[channel];
        }
    }

    fn channels_of<'a>(&self, maps: &'a [f32]) -> impl Iterator<Item = (usize, &'a [f32])> {
        let length = maps.len() / self.channels().max(1);
        maps.chunks_exact(length.max(1)).enumerate()
    }
}
