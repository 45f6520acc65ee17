//! RandAugment: operations drawn from a list, all at one strength (Cubuk et al., "RandAugment: Practical automated
//! data augmentation with a reduced search space", CVPR Workshops 2020).
//!
//! The list and its ranges are those of torchvision's `RandAugment`; colours come out as those of Pillow's `ImageOps`
//! and `ImageEnhance`. Shears, shifts and rotations use bilinear interpolation and reflection beyond the
//! borders, as in all views here (torchvision: nearest pixel, black).

use std::f32::consts::PI;

use rand::RngExt;
use rand_pcg::Pcg32;

use super::geometry::Affine;
use crate::pixels::Picture;

/// Number of operations applied to a view: N in the paper.
const IN_TURN: usize = 2;

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandOperation {
    /// Nothing.
    Identity,
    /// Shears the rows, by up to ±0.3.
    ShearX,
    /// Shears the columns, by up to ±0.3.
    ShearY,
    /// Moves the image left or right, by up to 45 % of its width.
    TranslateX,
    /// Moves the image up or down, by up to 45 % of its height.
    TranslateY,
    /// Rotates it, by up to ±30°.
    Rotate,
    /// Multiplies all values, by 1 ± up to 0.9.
    Brightness,
    /// Multiplies the distances from grey, by 1 ± up to 0.9.
    Color,
    /// Multiplies the distances from the mean grey, by 1 ± up to 0.9.
    Contrast,
    /// Multiplies the distances from the smoothed image, by 1 ± up to 0.9.
    Sharpness,
    /// Keeps the 8 to 4 highest bits.
    Posterize,
    /// Inverts all values from a threshold on, 255 to 0.
    Solarize,
    /// Stretches each channel to the whole range.
    AutoContrast,
    /// Gives each channel a flat histogram.
    Equalize,
}

impl RandOperation {
    /// All of them.
    pub const ALL: [RandOperation; 14] = [
        RandOperation::Identity,
        RandOperation::ShearX,
        RandOperation::ShearY,
        RandOperation::TranslateX,
        RandOperation::TranslateY,
        RandOperation::Rotate,
        RandOperation::Brightness,
        RandOperation::Color,
        RandOperation::Contrast,
        RandOperation::Sharpness,
        RandOperation::Posterize,
        RandOperation::Solarize,
        RandOperation::AutoContrast,
        RandOperation::Equalize,
    ];

    /// The image after this operation, in the same size; `strength` is −1 to 1, and its sign counts only where
    /// there are two directions.
    pub fn apply(self, strength: f32, picture: &Picture) -> Picture {
        let strong = strength.abs();
        let rgb = match self {
            RandOperation::Identity => picture.rgb.clone(),
            RandOperation::ShearX => moved(picture, |map| map.x[1] = 0.3 * strength),
            RandOperation::ShearY => moved(picture, |map| map.y[0] = 0.3 * strength),
            RandOperation::TranslateX => moved(picture, |map| {
                map.shift[0] = 150.0 / 331.0 * strength * picture.width as f32;
            }),
            RandOperation::TranslateY => moved(picture, |map| {
                map.shift[1] = 150.0 / 331.0 * strength * picture.height as f32;
            }),
            RandOperation::Rotate => moved(picture, |map| {
                let (sin, cos) = (PI / 6.0 * strength).sin_cos();
                (map.x, map.y) = ([cos, -sin], [sin, cos]);
            }),
            RandOperation::Brightness => away_from(&vec![0; picture.rgb.len()], picture, strength),
            RandOperation::Color => away_from(&grey(picture), picture, strength),
            RandOperation::Contrast => {
                let grey = grey(picture);
                let sum: u64 = grey.iter().map(|&v| u64::from(v)).sum();
                let mean = (sum as f64 / grey.len().max(1) as f64 + 0.5) as u8;
                away_from(&vec![mean; grey.len()], picture, strength)
            }
            RandOperation::Sharpness => away_from(&smooth(picture), picture, strength),
            RandOperation::Posterize => {
                let mask = 0xff << (4.0 * strong).round() as u32;
                each_value(picture, |v| v & mask as u8)
            }
            RandOperation::Solarize => {
                let threshold = 255.0 * (1.0 - strong);
                each_value(
                    picture,
                    |v| {
                        if f32::from(v) < threshold { v } else { 255 - v }
                    },
                )
            }
            RandOperation::AutoContrast => each_channel(picture, stretched),
            RandOperation::Equalize => each_channel(picture, equalised),
        };
        Picture {
            width: picture.width,
            height: picture.height,
            rgb,
            warnings: Vec::new(),
        }
    }
}

/// `picture` after two operations of the list, each at `magnitude`, 0 to 1, in a random direction.
pub(super) fn rand_augment(picture: Picture, magnitude: f32, seed: u64) -> Picture {
    // A separate random stream, so that the view's other random numbers stay the same without these operations.
    let mut rng = Pcg32::new(seed, 1);
    (0..IN_TURN).fold(picture, |picture, _| {
        let operation = RandOperation::ALL[rng.random_range(0..RandOperation::ALL.len())];
        let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
        operation.apply(sign * magnitude, &picture)
    })
}

fn moved(picture: &Picture, change: impl FnOnce(&mut Affine)) -> Vec<u8> {
    let mut map = Affine {
        x: [1.0, 0.0],
        y: [0.0, 1.0],
        shift: [0.0, 0.0],
    };
    change(&mut map);
    let values = map.map(picture).into_iter();
    values.map(|v| v.round() as u8).collect()
}

/// `plain` + (1 + 0.9 · `strength`) · (image − `plain`), cut off at 0 and 255.
fn away_from(plain: &[u8], picture: &Picture, strength: f32) -> Vec<u8> {
    let factor = 1.0 + 0.9 * strength;
    let pairs = plain.iter().zip(&picture.rgb);
    pairs
        .map(|(&from, &to)| {
            let from = f32::from(from);
            // `as` cuts off, as Pillow does.
            (from + factor * (f32::from(to) - from)) as u8
        })
        .collect()
}

/// The luma of Rec. 601 in all three channels, rounded as Pillow rounds it.
fn grey(picture: &Picture) -> Vec<u8> {
    let (pixels, _) = picture.rgb.as_chunks::<3>();
    let luma = |&[r, g, b]: &[u8; 3]| {
        (19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16
    };
    pixels.iter().flat_map(|p| [luma(p) as u8; 3]).collect()
}

/// Means over 3 × 3 pixels of which the middle one counts five times; the pixels at the edge stay.
fn smooth(picture: &Picture) -> Vec<u8> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let mut out = picture.rgb.clone();
    for row in 1..height.saturating_sub(1) {
        for place in 3..(3 * width).saturating_sub(3) {
            let mut sum = 4 * u32::from(picture.rgb[row * 3 * width + place]);
            for near in [row - 1, row, row + 1] {
                let at = near * 3 * width + place;
                sum += [at - 3, at, at + 3]
                    .map(|i| u32::from(picture.rgb[i]))
                    .iter()
                    .sum::<u32>();
            }
            out[row * 3 * width + place] = ((2 * sum + 13) / 26) as u8;
        }
    }
    out
}

fn each_value(picture: &Picture, of: impl Fn(u8) -> u8) -> Vec<u8> {
    picture.rgb.iter().map(|&value| of(value)).collect()
}

/// Looks every value up in a table that is made of its channel's histogram.
fn each_channel(picture: &Picture, table_of: fn(&[u32; 256]) -> [u8; 256]) -> Vec<u8> {
    let mut histograms = [[0u32; 256]; 3];
    let (pixels, _) = picture.rgb.as_chunks::<3>();
    for pixel in pixels {
        for (histogram, &value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(value)] += 1;
        }
    }
    let tables = histograms.map(|histogram| table_of(&histogram));
    let look_up = |pixel: &[u8; 3]| {
        let mut found = *pixel;
        for (value, table) in found.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
        found
    };
    pixels.iter().flat_map(look_up).collect()
}

fn unchanged() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

/// From the lowest and highest value that occur to 0 and 255.
fn stretched(histogram: &[u32; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&count| count > 0);
    let high = histogram.iter().rposition(|&count| count > 0);
    let (Some(low), Some(high)) = (low, high) else {
        return unchanged();
    };
    if high <= low {
        return unchanged();
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset) as u8)
}

/// Each value to the share of the values below it.
fn equalised(histogram: &[u32; 256]) -> [u8; 256] {
    let Some(last) = histogram.iter().rposition(|&count| count > 0) else {
        return unchanged();
    };
    let below: u32 = histogram[..last].iter().sum();
    let step = below / 255;
    if step == 0 {
        return unchanged();
    }
    let mut n = step / 2;
    std::array::from_fn(|value| {
        let found = (n / step).min(255) as u8;
        n += histogram[value];
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::augment::tests::{grey, picture};

    #[test]
    fn at_no_strength_only_the_stretching_operations_change_anything() {
        for operation in RandOperation::ALL {
            let found = operation.apply(0.0, &picture());
            let stretches = [RandOperation::AutoContrast, RandOperation::Equalize];
            // A threshold of 255 inverts white.
            if !stretches.contains(&operation) && operation != RandOperation::Solarize {
                assert_eq!(found.rgb, picture().rgb, "{operation:?}");
            }
        }
    }

    #[test]
    fn shear_translation_and_rotation_go_both_ways() {
        let ramp = grey(11, 11, |x, y| (10 * x + y) as u8);
        let centre = |found: &Picture| found.rgb[(5 * 11 + 5) * 3];
        for operation in [RandOperation::TranslateX, RandOperation::TranslateY] {
            let [more, less] = [1.0, -1.0].map(|s| centre(&operation.apply(s, &ramp)));
            assert!(more < 55 && less > 55, "{operation:?}: {more} {less}");
        }
        for operation in [
            RandOperation::ShearX,
            RandOperation::ShearY,
            RandOperation::Rotate,
        ] {
            let [more, less] = [1.0, -1.0].map(|s| operation.apply(s, &ramp));
            assert_eq!((centre(&more), centre(&less)), (55, 55), "{operation:?}");
            assert_ne!(more.rgb, less.rgb);
        }
    }

    #[test]
    fn views_differ_by_their_seed_alone() {
        let of = |seed| rand_augment(picture(), 0.5, seed).rgb;
        assert_eq!(of(3), of(3));
        let different: std::collections::BTreeSet<Vec<u8>> = (0..50).map(of).collect();
        assert!(different.len() > 30, "{}", different.len());
    }
}
