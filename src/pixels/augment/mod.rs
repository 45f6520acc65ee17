//! Augmentation: random views of an image, as made by Keras's preprocessing layers.
//!
//! Flips, rotation, translation and zoom are one affine map about the image's centre, with bilinear
//! interpolation and reflection beyond the borders. Colours follow, then RandAugment, then erasing. The random numbers
//! of a view depend only on its seed.

mod colour;
mod geometry;
mod rand_augment;

use std::f32::consts::TAU;
use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};

use self::colour::erase;
use self::geometry::Affine;
use self::rand_augment::rand_augment;
use super::Picture;
use crate::error::Error;

pub use self::rand_augment::RandOperation;

/// The augmentations with their ranges; written as `RandomFlip=horizontal,RandomRotation=0.05`.
///
/// A range of 0 leaves the image as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augment {
    /// `RandomFlip`: axes along which half of the views are flipped.
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
    /// `RandAugment`: strength of two operations of RandAugment's list, as a share of their ranges.
    pub rand_augment: f32,
    /// `RandomErasing`: share of the views in which a rectangle is painted over.
    pub erasing: f32,
}

/// Axes along which a view may be flipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flip {
    /// None.
    #[default]
    None,
    /// Left and right.
    Horizontal,
    /// Top and bottom.
    Vertical,
    /// Both, independently.
    Both,
}

const FLIPS: [(&str, Flip); 4] = [
    ("none", Flip::None),
    ("horizontal", Flip::Horizontal),
    ("vertical", Flip::Vertical),
    ("horizontal_and_vertical", Flip::Both),
];

impl Augment {
    /// These ranges, or defaults for photographs if all are 0: for previews.
    pub fn or_photographs(self) -> Augment {
        if self == Augment::default() {
            return Augment::photographs();
        }
        self
    }

    /// Defaults for photographs of objects that may be anywhere but not upside down.
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
            rand_augment: 0.0,
            erasing: 0.0,
        }
    }

    /// Names and values of the ranges, in the order in which they are written.
    fn ranges(&self) -> [(&'static str, f32); 9] {
        [
            ("RandomRotation", self.rotation),
            ("RandomTranslation", self.translation),
            ("RandomZoom", self.zoom),
            ("RandomContrast", self.contrast),
            ("RandomBrightness", self.brightness),
            ("RandomSaturation", self.saturation),
            ("RandomHue", self.hue),
            ("RandAugment", self.rand_augment),
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
            "RandAugment" => self.rand_augment = value,
            _ => self.erasing = value,
        }
    }

    /// The view of `picture` that belongs to `seed`, in the same size.
    pub fn view(&self, picture: &Picture, seed: u64) -> Picture {
        let mut rng = Pcg32::seed_from_u64(seed);
        let affine = self.draw_affine(&mut rng, picture);
        let mut rgb = affine.map(picture);
        self.recolour(&mut rng, &mut rgb);
        let values = rgb.iter().map(|v| v.round().clamp(0.0, 255.0) as u8);
        let mut view = Picture {
            width: picture.width,
            height: picture.height,
            rgb: values.collect(),
            warnings: Vec::new(),
        };
        if self.rand_augment > 0.0 {
            view = rand_augment(view, self.rand_augment, seed);
        }
        if rng.random::<f32>() < self.erasing {
            erase(&mut rng, &mut view);
        }
        view
    }

    fn draw_affine(&self, rng: &mut Pcg32, picture: &Picture) -> Affine {
        // Every number is drawn, used or not, so that one range does not affect the others.
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
}

/// A number from −`range` to `range`.
fn within(rng: &mut impl Rng, range: f32) -> f32 {
    range * (2.0 * rng.random::<f32>() - 1.0)
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
                    wrong(
                        "RandomFlip must be horizontal, vertical or horizontal_and_vertical".into(),
                    )
                })?;
                continue;
            }
            let known = augment.ranges().map(|(name, _)| name);
            if !known.contains(&name) {
                return Err(wrong(format!(
                    "unknown layer {name}; use RandomFlip, {}",
                    known.join(", ")
                )));
            }
            let value = value.parse::<f32>().ok();
            let value = value.filter(|v| (0.0..=1.0).contains(v));
            let value = value.ok_or_else(|| wrong(format!("{name} must be from 0 to 1")))?;
            if name == "RandomZoom" && value == 1.0 {
                return Err(wrong("RandomZoom must be below 1".into()));
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

    /// An image of 6 × 4 pixels, all different.
    pub(super) fn picture() -> Picture {
        Picture {
            width: 6,
            height: 4,
            rgb: (0..72).map(|i| (i * 3) as u8).collect(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn grey(width: u32, height: u32, of: impl Fn(u32, u32) -> u8) -> Picture {
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
            ("RandomZoom=2", "RandomZoom must"),
            ("RandomFlip=0.5", "RandomFlip must"),
            ("RandomZoom", "NAME=RANGE"),
        ] {
            let error = text.parse::<Augment>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
