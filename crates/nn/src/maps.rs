//! Feature maps of a shard of pictures: their shape and their order in memory.
//!
//! Maps are f32 `[channels, images, height, width]`, row-major. With the images inside of the channels, a
//! convolution is one matrix product for all images of the shard, and what belongs to a channel (a bias, a
//! scale) acts on one contiguous run. A vector of D features is maps of D channels and 1×1 pixels.

/// Shape of one picture's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Number of channels.
    pub channels: usize,
    /// Rows of a map.
    pub height: usize,
    /// Columns of a map.
    pub width: usize,
}

impl Maps {
    /// A vector of `length` features.
    pub fn vector(length: usize) -> Maps {
        Maps {
            channels: length,
            height: 1,
            width: 1,
        }
    }

    /// Pixels of one map.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Values of one picture.
    pub fn values(&self) -> usize {
        self.channels * self.pixels()
    }
}

/// Puts one picture, channels last (`[height, width, channels]`, as feature stores have it), at place `image`
/// of a shard of `images` pictures.
///
/// # Panics
/// If a slice has another length than `shape` says.
pub fn put_channels_last(
    shape: Maps,
    images: usize,
    image: usize,
    picture: &[f32],
    shard: &mut [f32],
) {
    assert_eq!(picture.len(), shape.values(), "length of a picture");
    assert_eq!(
        shard.len(),
        shape.values() * images,
        "length of a shard of pictures"
    );
    let pixels = shape.pixels();
    for (channel, maps) in shard.chunks_exact_mut(pixels * images).enumerate() {
        let map = &mut maps[image * pixels..(image + 1) * pixels];
        let values = picture[channel..].iter().step_by(shape.channels);
        for (to, &value) in map.iter_mut().zip(values) {
            *to = value;
        }
    }
}

/// The order of a picture's values in a flattened vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlatOrder {
    /// Channel by channel, as a flattened NCHW tensor.
    ChannelsFirst,
    /// Pixel by pixel, as a flattened NHWC tensor.
    ChannelsLast,
}

/// The places, in a shard of `images` pictures, of the values of each flattened picture: item `d · images + n`
/// is where value d of picture n stands.
pub fn flat_places(shape: Maps, images: usize, order: FlatOrder) -> Vec<usize> {
    let pixels = shape.pixels();
    let mut places = Vec::with_capacity(shape.values() * images);
    for index in 0..shape.values() {
        let (channel, pixel) = match order {
            FlatOrder::ChannelsFirst => (index / pixels, index % pixels),
            FlatOrder::ChannelsLast => (index % shape.channels, index / shape.channels),
        };
        places.extend((0..images).map(|image| (channel * images + image) * pixels + pixel));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_in_both_orders() {
        let shape = Maps {
            channels: 2,
            height: 1,
            width: 3,
        };
        // Channel c of pixel p of picture n is 100n + 10c + p.
        let picture = |n: f32| [0.0, 10.0, 1.0, 11.0, 2.0, 12.0].map(|v| v + 100.0 * n);
        let mut shard = vec![0.0; 12];
        put_channels_last(shape, 2, 0, &picture(0.0), &mut shard);
        put_channels_last(shape, 2, 1, &picture(1.0), &mut shard);
        assert_eq!(
            shard,
            [
                0., 1., 2., 100., 101., 102., 10., 11., 12., 110., 111., 112.
            ]
        );
        let flat = |order| -> Vec<f32> {
            let places = flat_places(shape, 2, order);
            places.chunks(2).map(|place| shard[place[1]]).collect()
        };
        assert_eq!(flat(FlatOrder::ChannelsLast), picture(1.0));
        assert_eq!(
            flat(FlatOrder::ChannelsFirst),
            [100., 101., 102., 110., 111., 112.]
        );
    }
}
