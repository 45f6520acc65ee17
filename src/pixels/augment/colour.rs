//! Colour changes and random erasing of a view.

use std::f32::consts::TAU;

use rand::RngExt;
use rand_pcg::Pcg32;

use super::{Augment, within};
use crate::pixels::Picture;

impl Augment {
    /// Changes contrast, brightness, saturation and hue of `[height, width, 3]` numbers from 0 to 255.
    pub(super) fn recolour(&self, rng: &mut Pcg32, rgb: &mut [f32]) {
        let contrast = 1.0 + within(rng, self.contrast);
        let brightness = 255.0 * within(rng, self.brightness);
        let saturation = 1.0 + within(rng, self.saturation);
        let hue = TAU * within(rng, self.hue);
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        if self.contrast > 0.0 {
            let count = pixels.len().max(1) as f32;
            let mut mean = [0.0f32; 3];
            for pixel in pixels.iter() {
                for (mean, value) in mean.iter_mut().zip(pixel) {
                    *mean += value / count;
                }
            }
            for pixel in pixels.iter_mut() {
                for (value, mean) in pixel.iter_mut().zip(mean) {
                    *value = mean + contrast * (*value - mean);
                }
            }
        }
        if self.brightness > 0.0 {
            for value in pixels.as_flattened_mut() {
                *value += brightness;
            }
        }
        if self.saturation > 0.0 || self.hue > 0.0 {
            for pixel in pixels {
                *pixel = turn_hue(*pixel, hue, saturation);
            }
        }
    }
}

/// Turns hue and scales saturation in the plane of the chroma of YIQ, whose Y is the luma of Rec. 601.
fn turn_hue([r, g, b]: [f32; 3], angle: f32, saturation: f32) -> [f32; 3] {
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    let i = 0.596 * r - 0.274 * g - 0.322 * b;
    let q = 0.211 * r - 0.523 * g + 0.312 * b;
    let (sin, cos) = angle.sin_cos();
    let (i, q) = (
        saturation * (cos * i - sin * q),
        saturation * (sin * i + cos * q),
    );
    [
        y + 0.956 * i + 0.621 * q,
        y - 0.272 * i - 0.647 * q,
        y - 1.107 * i + 1.704 * q,
    ]
}

/// Paints a rectangle of 2 to 20 % of the image, of proportions from 0.3 to 3.3, in one random colour
/// (Zhong et al., Random Erasing, AAAI 2020).
pub(super) fn erase(rng: &mut Pcg32, picture: &mut Picture) {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let area = width * height * (0.02 + 0.18 * rng.random::<f32>());
    let ratio = (3.3f32.ln() * (2.0 * rng.random::<f32>() - 1.0)).exp();
    let columns = ((area * ratio).sqrt().clamp(1.0, width)) as usize;
    let rows = ((area / ratio).sqrt().clamp(1.0, height)) as usize;
    let left = (rng.random::<f32>() * (width - columns as f32)) as usize;
    let top = (rng.random::<f32>() * (height - rows as f32)) as usize;
    let colour: [u8; 3] = rng.random();
    let row_bytes = picture.width as usize * 3;
    for row in picture.rgb.chunks_exact_mut(row_bytes).skip(top).take(rows) {
        for pixel in row
            .as_chunks_mut::<3>()
            .0
            .iter_mut()
            .skip(left)
            .take(columns)
        {
            *pixel = colour;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::augment::tests::grey;

    #[test]
    fn brightness_contrast_and_colour_stay_in_their_ranges() {
        let plain = grey(8, 8, |x, _| if x < 4 { 100 } else { 150 });
        for seed in 0..50 {
            let of = |text: &str| text.parse::<Augment>().unwrap().view(&plain, seed).rgb;
            let bright = of("RandomBrightness=0.1");
            let change = f32::from(bright[0]) - 100.0;
            assert!(change.abs() <= 26.0, "{change}");
            assert_eq!(i32::from(bright[23]) - i32::from(bright[0]), 50);
            let contrast = of("RandomContrast=0.2");
            let spread = f32::from(contrast[23]) - f32::from(contrast[0]);
            assert!((39.0..=61.0).contains(&spread), "{spread}");
            // Grey has no colour to turn; the coefficients of YIQ round to within two levels.
            for (a, b) in of("RandomSaturation=0.5,RandomHue=0.5")
                .iter()
                .zip(&plain.rgb)
            {
                assert!(a.abs_diff(*b) <= 2, "{a} {b}");
            }
        }
        let turned = turn_hue([200.0, 50.0, 50.0], TAU / 3.0, 1.0);
        assert!(turned[1] > turned[0] || turned[2] > turned[0], "{turned:?}");
    }

    #[test]
    fn erasing_paints_one_rectangle_of_the_right_size() {
        let plain = grey(40, 40, |_, _| 77);
        let augment: Augment = "RandomErasing=1".parse().unwrap();
        for seed in 0..30 {
            let view = augment.view(&plain, seed);
            let painted = view.rgb.chunks(3).filter(|p| *p != [77; 3]).count();
            assert!((16..=330).contains(&painted), "{painted}");
        }
    }
}
