//! Augmentation: random views of a picture, as the preprocessing layers of Keras make them.
//!
//! Flips, rotation, translation and zoom are one affine map about the picture's centre, read with bilinear
//! mixing, the rest mirrored in where the map leaves the picture. Colours follow, then erasing. Which random
//! numbers a view gets depends on its seed alone.

use std::f32::consts::TAU;
use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};

use super::Picture;
use crate::error::Error;

/// What views may differ in, each with its range; written as `RandomFlip=horizontal,RandomRotation=0.05`.
///
/// A range of 0 leaves the picture as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augment {
    /// `RandomFlip`: along which axes half of the views are mirrored.
    pub flip: Flip,
    /// `RandomRotation`: largest angle, as a share of a full turn.
    pub rotation: f32,
    /// `RandomTranslation`: largest shift, as a share of height and width.
    pub translation: f32,
    /// `RandomZoom`: largest change of scale, inwards or outwards, as a share.
    pub zoom: f32,
    /// `RandomContrast`: largest change of the distances from the mean colour, as a share.
    pub contrast: f32,
    /// `RandomBrightness`: largest change of all colours, as a share of white.
    pub brightness: f32,
    /// `RandomSaturation`: largest change of the distances from grey, as a share.
    pub saturation: f32,
    /// `RandomHue`: largest turn of the hue, as a share of the colour circle.
    pub hue: f32,
    /// `RandomErasing`: share of the views in which a rectangle is painted over.
    pub erasing: f32,
}

/// Axes along which a view may be mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flip {
    /// None.
    #[default]
    None,
    /// Left and right.
    Horizontal,
    /// Top and bottom.
    Vertical,
    /// Each of the two by itself.
    Both,
}

const FLIPS: [(&str, Flip); 4] = [
    ("none", Flip::None),
    ("horizontal", Flip::Horizontal),
    ("vertical", Flip::Vertical),
    ("horizontal_and_vertical", Flip::Both),
];

impl Augment {
    /// What suits photographs of things that may stand anywhere but not on their head.
    pub fn photographs() -> Augment {
        Augment {
            flip: Flip::Horizontal,
            rotation: 0.03,
            translation: 0.08,
            zoom: 0.15,
            contrast: 0.15,
            brightness: 0.1,
            saturation: 0.2,
            hue: 0.02,
            erasing: 0.0,
        }
    }

    /// Names and values of the ranges, in the order in which they are written.
    fn ranges(&self) -> [(&'static str, f32); 8] {
        [
            ("RandomRotation", self.rotation),
            ("RandomTranslation", self.translation),
            ("RandomZoom", self.zoom),
            ("RandomContrast", self.contrast),
            ("RandomBrightness", self.brightness),
            ("RandomSaturation", self.saturation),
            ("RandomHue", self.hue),
            ("RandomErasing", self.erasing),
        ]
    }

    fn set(&mut self, name: &str, value: f32) {
        match name {
            "RandomRotation" => self.rotation = value,
            "RandomTranslation" => self.translation = value,
            "RandomZoom" => self.zoom = value,
            "RandomContrast" => self.contrast = value,
            "RandomBrightness" => self.brightness = value,
            "RandomSaturation" => self.saturation = value,
            "RandomHue" => self.hue = value,
            _ => self.erasing = value,
        }
    }

    /// The view of `picture` that belongs to `seed`, in the same size.
    pub fn view(&self, picture: &Picture, seed: u64) -> Picture {
        let mut rng = Pcg32::seed_from_u64(seed);
        let affine = self.draw_affine(&mut rng, picture);
        let mut rgb = affine.map(picture);
        self.recolour(&mut rng, &mut rgb);
        let mut bytes: Vec<u8> = rgb
            .iter()
            .map(|v| v.round().clamp(0.0, 255.0) as u8)
            .collect();
        if rng.random::<f32>() < self.erasing {
            erase(&mut rng, picture, &mut bytes);
        }
        Picture {
            width: picture.width,
            height: picture.height,
            rgb: bytes,
            warnings: Vec::new(),
        }
    }

    fn draw_affine(&self, rng: &mut Pcg32, picture: &Picture) -> Affine {
        // Every number is drawn, wanted or not: a range does not change what the others draw.
        let mirrored = [rng.random::<bool>(), rng.random::<bool>()];
        let angle = TAU * within(rng, self.rotation);
        let shift = [within(rng, self.translation), within(rng, self.translation)];
        let scale = 1.0 + within(rng, self.zoom);
        let horizontal = matches!(self.flip, Flip::Horizontal | Flip::Both) && mirrored[0];
        let vertical = matches!(self.flip, Flip::Vertical | Flip::Both) && mirrored[1];
        let sign = |mirrored: bool| if mirrored { -1.0 } else { 1.0 };
        Affine {
            x: [
                sign(horizontal) * scale * angle.cos(),
                -sign(horizontal) * scale * angle.sin(),
            ],
            y: [
                sign(vertical) * scale * angle.sin(),
                sign(vertical) * scale * angle.cos(),
            ],
            shift: [
                shift[0] * picture.width as f32,
                shift[1] * picture.height as f32,
            ],
        }
    }

    fn recolour(&self, rng: &mut Pcg32, rgb: &mut [f32]) {
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

/// A number from −`range` to `range`.
fn within(rng: &mut impl Rng, range: f32) -> f32 {
    range * (2.0 * rng.random::<f32>() - 1.0)
}

/// Where a pixel of a view is read, about the centre of the picture.
struct Affine {
    x: [f32; 2],
    y: [f32; 2],
    /// In pixels, of the view.
    shift: [f32; 2],
}

impl Affine {
    /// The view's pixels, `[height, width, 3]`, 0 to 255.
    fn map(&self, picture: &Picture) -> Vec<f32> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let centre = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            let v = row as f32 - centre[1] - self.shift[1];
            for column in 0..width {
                let u = column as f32 - centre[0] - self.shift[0];
                let x = self.x[0] * u + self.x[1] * v + centre[0];
                let y = self.y[0] * u + self.y[1] * v + centre[1];
                rgb.extend(sample(picture, x, y));
            }
        }
        rgb
    }
}

/// The colour at a place between pixels; outside, the picture is mirrored at its edge.
fn sample(picture: &Picture, x: f32, y: f32) -> [f32; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, bottom_share) = (x - left, y - top);
    let columns = [left, left + 1.0].map(|c| mirrored(c as i64, picture.width));
    let rows = [top, top + 1.0].map(|r| mirrored(r as i64, picture.height));
    let mut colour = [0.0f32; 3];
    for (row, row_share) in rows.into_iter().zip([1.0 - bottom_share, bottom_share]) {
        for (column, share) in columns.into_iter().zip([1.0 - right_share, right_share]) {
            let at = (row * picture.width as usize + column) * 3;
            for (value, &byte) in colour.iter_mut().zip(&picture.rgb[at..at + 3]) {
                *value += row_share * share * f32::from(byte);
            }
        }
    }
    colour
}

/// A place on an axis of `size` pixels that is mirrored at both ends: … 1 0 | 0 1 2 … n−1 | n−1 …
fn mirrored(place: i64, size: u32) -> usize {
    let size = i64::from(size);
    let place = place.rem_euclid(2 * size);
    let place = if place < size {
        place
    } else {
        2 * size - 1 - place
    };
    place as usize
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

/// Paints a rectangle of 2 to 20 % of the picture, of proportions from 0.3 to 3.3, in one random colour
/// (Zhong et al., Random Erasing, AAAI 2020).
fn erase(rng: &mut Pcg32, picture: &Picture, rgb: &mut [u8]) {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let area = width * height * (0.02 + 0.18 * rng.random::<f32>());
    let ratio = (3.3f32.ln() * (2.0 * rng.random::<f32>() - 1.0)).exp();
    let columns = ((area * ratio).sqrt().clamp(1.0, width)) as usize;
    let rows = ((area / ratio).sqrt().clamp(1.0, height)) as usize;
    let left = (rng.random::<f32>() * (width - columns as f32)) as usize;
    let top = (rng.random::<f32>() * (height - rows as f32)) as usize;
    let colour: [u8; 3] = rng.random();
    for row in rgb
        .chunks_exact_mut(picture.width as usize * 3)
        .skip(top)
        .take(rows)
    {
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

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let flip = FLIPS.iter().find(|(_, flip)| *flip == self.flip);
        let mut parts: Vec<String> = flip
            .filter(|(_, flip)| *flip != Flip::None)
            .map(|(name, _)| format!("RandomFlip={name}"))
            .into_iter()
            .collect();
        let ranges = self.ranges().into_iter().filter(|(_, value)| *value > 0.0);
        parts.extend(ranges.map(|(name, value)| format!("{name}={value}")));
        match parts[..] {
            [] => f.write_str("none"),
            _ => f.write_str(&parts.join(",")),
        }
    }
}

impl FromStr for Augment {
    type Err = Error;

    /// Reads `default`, `none`, or a list such as `RandomFlip=horizontal,RandomZoom=0.2`.
    fn from_str(text: &str) -> Result<Augment, Error> {
        let wrong = |problem: String| Error::Parameter {
            name: "--augment",
            value: text.to_owned(),
            problem,
        };
        match text {
            "default" => return Ok(Augment::photographs()),
            "none" | "" => return Ok(Augment::default()),
            _ => {}
        }
        let mut augment = Augment::default();
        for part in text.split(',') {
            let Some((name, value)) = part.trim().split_once('=') else {
                return Err(wrong(format!("`{part}` has no value; write NAME=RANGE")));
            };
            if name == "RandomFlip" {
                let flip = FLIPS.iter().find(|(flip, _)| *flip == value);
                augment.flip = flip.map(|(_, flip)| *flip).ok_or_else(|| {
                    wrong("RandomFlip is horizontal, vertical or horizontal_and_vertical".into())
                })?;
                continue;
            }
            let known = augment.ranges().map(|(name, _)| name);
            if !known.contains(&name) {
                return Err(wrong(format!(
                    "there is no {name}; there are RandomFlip, {}",
                    known.join(", ")
                )));
            }
            let value = value.parse::<f32>().ok();
            let value = value.filter(|v| (0.0..=1.0).contains(v));
            let value = value.ok_or_else(|| wrong(format!("{name} takes a share from 0 to 1")))?;
            if name == "RandomZoom" && value == 1.0 {
                return Err(wrong("RandomZoom takes a share below 1".into()));
            }
            augment.set(name, value);
        }
        Ok(augment)
    }
}

impl TryFrom<String> for Augment {
    type Error = Error;

    fn try_from(text: String) -> Result<Augment, Error> {
        text.parse()
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> String {
        augment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 6 × 4 pixels, all different.
    fn picture() -> Picture {
        Picture {
            width: 6,
            height: 4,
            rgb: (0..72).map(|i| (i * 3) as u8).collect(),
            warnings: Vec::new(),
        }
    }

    fn grey(width: u32, height: u32, of: impl Fn(u32, u32) -> u8) -> Picture {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture {
            width,
            height,
            rgb: places.flat_map(|(x, y)| [of(x, y); 3]).collect(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn without_ranges_every_view_is_the_picture() {
        for seed in 0..20 {
            assert_eq!(Augment::default().view(&picture(), seed).rgb, picture().rgb);
        }
    }

    #[test]
    fn about_half_of_the_views_are_mirrored_exactly() {
        let augment: Augment = "RandomFlip=horizontal".parse().unwrap();
        let mirrored: Vec<u8> = picture()
            .rgb
            .chunks(18)
            .flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        let mut count = 0;
        for seed in 0..200 {
            let view = augment.view(&picture(), seed);
            if view.rgb == mirrored {
                count += 1;
            } else {
                assert_eq!(view.rgb, picture().rgb);
            }
        }
        // Five standard deviations of a binomial count: 5 · √(200/4) = 35.
        assert!((65..=135).contains(&count), "{count}");
    }

    #[test]
    fn an_affine_map_moves_turns_and_mirrors_in_the_rest() {
        let shift = Affine {
            x: [1.0, 0.0],
            y: [0.0, 1.0],
            shift: [2.0, 0.0],
        };
        let ramp = grey(5, 1, |x, _| x as u8 * 10);
        let row: Vec<f32> = shift.map(&ramp).into_iter().step_by(3).collect();
        assert_eq!(row, [10.0, 0.0, 0.0, 10.0, 20.0]);
        let quarter = Affine {
            x: [0.0, -1.0],
            y: [1.0, 0.0],
            shift: [0.0, 0.0],
        };
        let square = grey(2, 2, |x, y| (10 * y + x) as u8);
        let turned: Vec<f32> = quarter.map(&square).into_iter().step_by(3).collect();
        assert_eq!(turned, [1.0, 11.0, 0.0, 10.0]);
        let half = Affine {
            x: [0.5, 0.0],
            y: [0.0, 1.0],
            shift: [0.0, 0.0],
        };
        let row: Vec<f32> = half.map(&ramp).into_iter().step_by(3).collect();
        assert_eq!(row, [10.0, 15.0, 20.0, 25.0, 30.0]);
    }

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

    #[test]
    fn the_same_seed_gives_the_same_view() {
        let augment = Augment::photographs();
        assert_eq!(augment.view(&picture(), 5), augment.view(&picture(), 5));
        assert_ne!(augment.view(&picture(), 5), augment.view(&picture(), 6));
    }

    #[test]
    fn reads_back_what_it_writes_and_names_what_it_does_not_know() {
        let augment = Augment::photographs();
        assert_eq!(augment.to_string().parse::<Augment>().unwrap(), augment);
        assert_eq!("default".parse::<Augment>().unwrap(), augment);
        assert_eq!(Augment::default().to_string(), "none");
        for (text, part) in [
            ("RandomShear=0.1", "RandomShear"),
            ("RandomZoom=2", "RandomZoom takes"),
            ("RandomFlip=0.5", "RandomFlip is"),
            ("RandomZoom", "NAME=RANGE"),
        ] {
            let error = text.parse::<Augment>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
