//! Resizes and crops an image to the size of the network's input.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::Picture;
use crate::error::{Error, Result};

/// How an image is fitted to the network's aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeRule {
    /// Stretch the whole image.
    Stretch,
    /// Crop the largest centred part with the network's aspect ratio; its edges may be fractional.
    Crop,
    /// Pad the whole image, centred, with the background.
    Pad,
}

/// The resampling filter. All but nearest are antialiased, as in Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Nearest neighbour.
    Nearest,
    /// Bilinear: triangle, radius 1.
    Bilinear,
    /// Catmull-Rom cubic (a = −0.5), radius 2.
    Bicubic,
    /// Lanczos-windowed sinc, radius 3.
    Lanczos,
}

/// A part of an image in pixels from its top left corner: [`left`, `right`) x [`top`, `bottom`), fractional.
///
/// Pillow holds these as 32-bit floats; so do we, for the same nearest pixels.
struct Part {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
    /// Width and height of the whole image if it were resized as the part is; by default those of the part.
    whole: Option<(u32, u32)>,
}

impl Part {
    fn whole(picture: &Picture) -> Part {
        Part {
            left: 0.0,
            top: 0.0,
            right: picture.width as f32,
            bottom: picture.height as f32,
            whole: None,
        }
    }

    /// What remains of `picture` when its shorter side is resized to `width / share`, and the centre is cropped to
    /// `width` x `height`, with torchvision's rounding to whole pixels. None for a crop that is larger than the picture.
    fn cropped(picture: &Picture, share: f64, width: u32, height: u32) -> Option<Part> {
        // The side that a share was computed from is found again: 224 / (224 / 257).
        let scaled = |side: u32| (f64::from(side) / share + 1e-6).floor();
        let (from_width, from_height) = (f64::from(picture.width), f64::from(picture.height));
        let (wide, high) = (scaled(width), scaled(height));
        let (wide, high) = match wide / from_width < high / from_height {
            // The height decides.
            true => ((from_width * high / from_height).floor(), high),
            false => (wide, (from_height * wide / from_width).floor()),
        };
        let (width, height) = (f64::from(width), f64::from(height));
        if width > wide || height > high {
            return None;
        }
        let left = ((wide - width) / 2.0).round_ties_even();
        let top = ((high - height) / 2.0).round_ties_even();
        let (across, down) = (from_width / wide, from_height / high);
        Some(Part {
            left: (left * across) as f32,
            top: (top * down) as f32,
            right: ((left + width) * across).min(from_width) as f32,
            bottom: ((top + height) * down).min(from_height) as f32,
            whole: Some((wide as u32, high as u32)),
        })
    }

    /// The largest centred part of `picture` with the proportions of `width` x `height`.
    fn centred(picture: &Picture, width: u32, height: u32) -> Part {
        let (from_width, from_height) = (f64::from(picture.width), f64::from(picture.height));
        let (width, height) = (f64::from(width), f64::from(height));
        let factor = (from_width / width).min(from_height / height);
        let (part_width, part_height) = (width * factor, height * factor);
        let left = ((from_width - part_width) / 2.0).max(0.0);
        let top = ((from_height - part_height) / 2.0).max(0.0);
        Part {
            left: left as f32,
            top: top as f32,
            right: (left + part_width).min(from_width) as f32,
            bottom: (top + part_height).min(from_height) as f32,
            whole: None,
        }
    }
}

/// Resizes images by one rule; keeps its buffers between calls.
pub(crate) struct Resampler {
    rule: ResizeRule,
    crop_pct: Option<f64>,
    filter: Filter,
    background: [u8; 3],
    resizer: Resizer,
}

impl Resampler {
    pub(crate) fn new(rule: ResizeRule, filter: Filter, background: [u8; 3]) -> Resampler {
        Resampler {
            rule,
            crop_pct: None,
            filter,
            background,
            resizer: Resizer::new(),
        }
    }

    /// With this share of the shorter side, as [`Preprocess`](super::Preprocess) has it.
    pub(crate) fn crop_pct(self, crop_pct: Option<f64>) -> Resampler {
        Resampler { crop_pct, ..self }
    }

    /// `picture` at exactly `width` x `height` pixels.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the image's `rgb` does not hold its `width` x `height` pixels, or if a
    /// size is 0.
    pub(crate) fn resize(&mut self, picture: &Picture, width: u32, height: u32) -> Result<Picture> {
        let pixels = u64::from(picture.width) * u64::from(picture.height);
        if pixels == 0 || pixels * 3 != picture.rgb.len() as u64 || width == 0 || height == 0 {
            return Err(mismatch(picture, width, height));
        }
        let rgb = match self.rule {
            ResizeRule::Stretch => self.resample(picture, &Part::whole(picture), width, height)?,
            ResizeRule::Crop => {
                let part = self
                    .crop_pct
                    .and_then(|share| Part::cropped(picture, share, width, height))
                    .unwrap_or_else(|| Part::centred(picture, width, height));
                self.resample(picture, &part, width, height)?
            }
            ResizeRule::Pad => self.pad(picture, width, height)?,
        };
        Ok(Picture {
            width,
            height,
            rgb,
            warnings: Vec::new(),
        })
    }

    fn pad(&mut self, picture: &Picture, width: u32, height: u32) -> Result<Vec<u8>> {
        let factor = (f64::from(width) / f64::from(picture.width))
            .min(f64::from(height) / f64::from(picture.height));
        let inner = |side: u32, most: u32| {
            ((f64::from(side) * factor).round_ties_even() as u32).clamp(1, most.max(1))
        };
        let (inner_width, inner_height) =
            (inner(picture.width, width), inner(picture.height, height));
        let inner = self.resample(picture, &Part::whole(picture), inner_width, inner_height)?;
        let mut rgb = self.background.repeat(width as usize * height as usize);
        let left = ((width - inner_width) / 2) as usize * 3;
        let top = ((height - inner_height) / 2) as usize;
        let rows = rgb.chunks_exact_mut(width as usize * 3).skip(top);
        for (row, source) in rows.zip(inner.chunks_exact(inner_width as usize * 3)) {
            row[left..left + source.len()].copy_from_slice(source);
        }
        Ok(rgb)
    }

    fn resample(
        &mut self,
        picture: &Picture,
        part: &Part,
        width: u32,
        height: u32,
    ) -> Result<Vec<u8>> {
        let filter = match self.filter {
            Filter::Nearest => return Ok(nearest(picture, part, width, height)),
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos => FilterType::Lanczos3,
        };
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .use_alpha(false);
        // One direction after the other, as Pillow does: what overshoots 0 to 255 in between is cut there,
        // so the order shows at hard edges. One call would always take the columns first; and in
        // fast_image_resize 6.1 it reads outside its buffer for some fractional crops.
        let (left, right) = (f64::from(part.left), f64::from(part.right));
        let (top, bottom) = (f64::from(part.top), f64::from(part.bottom));
        let (from_width, from_height) = (picture.width, picture.height);
        let mut target = Image::new(width, height, PixelType::U8x3);
        let source = ImageRef::new(from_width, from_height, &picture.rgb, PixelType::U8x3)
            .map_err(|_| mismatch(picture, width, height))?;
        let (whole_width, whole_height) = part.whole.unwrap_or((width, height));
        let is_columns_first = columns_first(picture, whole_width, whole_height);
        let (mut between, first, second) = if is_columns_first {
            (
                Image::new(from_width, height, PixelType::U8x3),
                options.crop(0.0, top, f64::from(from_width), bottom - top),
                options.crop(left, 0.0, right - left, f64::from(height)),
            )
        } else {
            (
                Image::new(width, from_height, PixelType::U8x3),
                options.crop(left, 0.0, right - left, f64::from(from_height)),
                options.crop(0.0, top, f64::from(width), bottom - top),
            )
        };
        self.resizer
            .resize(&source, &mut between, &first)
            .and_then(|()| self.resizer.resize(&between, &mut target, &second))
            .map_err(|_| mismatch(picture, width, height))?;
        Ok(target.into_vec())
    }
}

/// Whether Pillow mixes along the columns before the rows: from version 13 on, where the height shrinks by
/// more than twice what the width does (found by comparing both orders with its results; older versions
/// always take the rows first).
fn columns_first(picture: &Picture, width: u32, height: u32) -> bool {
    let shrinks = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (across, down) = (
        shrinks(picture.width, width),
        shrinks(picture.height, height),
    );
    down > 0 && down > 2 * across
}

/// For each pixel, the one of `part` that lies under its centre.
fn nearest(picture: &Picture, part: &Part, width: u32, height: u32) -> Vec<u8> {
    // Steps are added up, as Pillow does: where a centre lies on an edge, rounding decides.
    let places = |from: f32, to: f32, count: u32, most: u32| {
        let step = f64::from(to - from) / f64::from(count);
        std::iter::successors(Some(f64::from(from) + step * 0.5), move |at| {
            Some(at + step)
        })
        .map(move |at| (at as usize).min(most as usize - 1))
        .take(count as usize)
    };
    let columns: Vec<usize> = places(part.left, part.right, width, picture.width).collect();
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in places(part.top, part.bottom, height, picture.height) {
        for x in &columns {
            let at = (y * picture.width as usize + x) * 3;
            rgb.extend_from_slice(&picture.rgb[at..at + 3]);
        }
    }
    rgb
}

fn mismatch(picture: &Picture, width: u32, height: u32) -> Error {
    Error::Mismatch {
        what: format!("resizing an image to {width} x {height} pixels"),
        expected: format!(
            "sizes above 0 and 3 bytes for each of {} x {} pixels",
            picture.width, picture.height
        ),
        found: format!("{} bytes", picture.rgb.len()),
        hint: "give an image as it was decoded".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, rgb: Vec<u8>) -> Picture {
        Picture {
            width,
            height,
            rgb,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn pad_centres_on_the_background_with_the_odd_pixel_below() {
        let white = picture(4, 2, vec![255; 24]);
        let padded = Resampler::new(ResizeRule::Pad, Filter::Bilinear, [1, 2, 3])
            .resize(&white, 4, 5)
            .unwrap();
        let row = |y: usize| &padded.rgb[y * 12..y * 12 + 12];
        for y in [0, 3, 4] {
            assert_eq!(row(y), [1, 2, 3].repeat(4), "row {y}");
        }
        assert_eq!((row(1), row(2)), (&[255; 12][..], &[255; 12][..]));
    }

    #[test]
    fn crop_takes_the_centre() {
        // Grey columns 0, 50, 100, 150; the middle square of a 4 x 2 image holds 50 and 100.
        let columns = [0, 50, 100, 150].repeat(2);
        let wide = picture(4, 2, columns.iter().flat_map(|&v| [v; 3]).collect());
        let cropped = Resampler::new(ResizeRule::Crop, Filter::Nearest, [0; 3])
            .resize(&wide, 2, 2)
            .unwrap();
        let expected: Vec<u8> = [50, 100, 50, 100].iter().flat_map(|&v| [v; 3]).collect();
        assert_eq!(cropped.rgb, expected);
    }

    #[test]
    fn every_rule_and_filter_takes_pictures_of_one_pixel_and_extreme_proportions() {
        for rule in [ResizeRule::Stretch, ResizeRule::Crop, ResizeRule::Pad] {
            for filter in [
                Filter::Nearest,
                Filter::Bilinear,
                Filter::Bicubic,
                Filter::Lanczos,
            ] {
                for (width, height) in [(1, 1), (1, 1000), (1000, 1), (3, 7)] {
                    let plain = picture(
                        width,
                        height,
                        [10, 20, 30].repeat((width * height) as usize),
                    );
                    let resized = Resampler::new(rule, filter, [10, 20, 30])
                        .resize(&plain, 5, 4)
                        .unwrap();
                    assert_eq!(
                        resized.rgb,
                        [10, 20, 30].repeat(20),
                        "{rule:?} {filter:?} {width} x {height}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_picture_without_its_pixels_is_an_error() {
        for wrong in [picture(2, 2, vec![0; 11]), picture(0, 2, Vec::new())] {
            for rule in [ResizeRule::Stretch, ResizeRule::Crop, ResizeRule::Pad] {
                let mut resampler = Resampler::new(rule, Filter::Bilinear, [0; 3]);
                assert!(matches!(
                    resampler.resize(&wrong, 2, 2),
                    Err(Error::Mismatch { .. })
                ));
            }
        }
    }
}
