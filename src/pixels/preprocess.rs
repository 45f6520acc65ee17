//! Preprocessing: from pixels to a normalised tensor.

use serde::{Deserialize, Serialize};

use super::Picture;
use super::decode::DecodeOptions;
use super::resize::{Filter, Resampler, ResizeRule};
use crate::error::{Error, Result};

/// The channel layout of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, channel, row, column]`: one plane per colour.
    Nchw,
    /// `[batch, row, column, channel]`: interleaved colours.
    Nhwc,
}

/// The channel order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The gap at which "the result is indistinguishable in most cases", as Pillow says of it.
const REDUCING_GAP: f32 = 3.0;

/// Preprocessing of images: the `[preprocess]` table of a model card.
///
/// Each channel c, taken in `order`, becomes `(v · scale − mean[c]) / std[c]` with v in 0 to 255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Preprocess {
    /// How the image is fitted to the network's aspect ratio.
    pub resize: ResizeRule,
    /// With [`ResizeRule::Crop`]: the side of the cropped square as a share of the shorter side, above 0 and up to 1, in
    /// whole pixels as torchvision rounds them. By default the whole shorter side is kept, and nothing is rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// The resampling filter.
    pub filter: Filter,
    /// The channel order.
    pub order: ChannelOrder,
    /// The channel layout.
    pub layout: Layout,
    /// Factor applied before subtracting the mean; finite, not 0.
    pub scale: f32,
    /// Mean to subtract, per channel, in `order`; finite.
    pub mean: [f32; 3],
    /// Standard deviation to divide by, per channel, in `order`; finite, above 0.
    pub std: [f32; 3],
    /// The RGB colour under transparent pixels and around padded images; white by default.
    #[serde(default = "white")]
    pub background: [u8; 3],
    /// How many times larger than the input an image must stay when a JPEG is decoded at 1/2, 1/4 or 1/8 of
    /// its size, which is several times faster; 0, the default, decodes it whole. 3 changes the resized pixels by
    /// 0.4 of 255 levels on average. The name is that of Pillow's `Image.resize`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reducing_gap: f32,
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

fn white() -> [u8; 3] {
    [255; 3]
}

impl Preprocess {
    /// As in torchvision: RGB from 0 to 1, minus ImageNet's mean, divided by its standard deviation;
    /// NCHW. Numbers: the torchvision documentation of its pretrained weights.
    pub fn torch() -> Self {
        Preprocess {
            resize: ResizeRule::Stretch,
            crop_pct: None,
            filter: Filter::Bilinear,
            order: ChannelOrder::Rgb,
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            background: white(),
            reducing_gap: REDUCING_GAP,
        }
    }

    /// As in Caffe, including VGG and Keras's ResNet50: BGR from 0 to 255, minus ImageNet's
    /// mean; NHWC. Numbers: `preprocess_input(mode="caffe")` of Keras.
    pub fn caffe() -> Self {
        Preprocess {
            order: ChannelOrder::Bgr,
            layout: Layout::Nhwc,
            scale: 1.0,
            mean: [103.939, 116.779, 123.68],
            std: [1.0; 3],
            ..Preprocess::torch()
        }
    }

    /// As in Keras's Inception, Xception and MobileNet: RGB from −1 to 1; NHWC. Numbers:
    /// `preprocess_input(mode="tf")` of Keras.
    pub fn tf() -> Self {
        Preprocess {
            layout: Layout::Nhwc,
            scale: 1.0 / 127.5,
            mean: [1.0; 3],
            std: [1.0; 3],
            ..Preprocess::torch()
        }
    }

    /// Checks the ranges of the numbers.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let fail = |name, value: String, problem: &str| {
            Err(Error::Parameter {
                name,
                value,
                problem: problem.to_string(),
            })
        };
        if let Some(share) = self.crop_pct
            && !(share > 0.0 && share <= 1.0)
        {
            return fail(
                "crop-pct",
                share.to_string(),
                "must be above 0 and at most 1",
            );
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return fail(
                "scale",
                self.scale.to_string(),
                "must be a finite number other than 0",
            );
        }
        if self.mean.iter().any(|m| !m.is_finite()) {
            return fail("mean", format!("{:?}", self.mean), "must be finite numbers");
        }
        if self.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return fail(
                "std",
                format!("{:?}", self.std),
                "must be finite numbers above 0",
            );
        }
        if !(self.reducing_gap == 0.0 || (1.0..=100.0).contains(&self.reducing_gap)) {
            return fail(
                "reducing-gap",
                self.reducing_gap.to_string(),
                "must be 0, or from 1 to 100",
            );
        }
        Ok(())
    }

    /// How images are to be decoded for an input of `width` x `height` pixels.
    pub(crate) fn decode_options(&self, width: u32, height: u32) -> DecodeOptions {
        DecodeOptions {
            background: self.background,
            least_side: match self.reducing_gap {
                0.0 => None,
                gap => {
                    let most = width.max(height) as f32 / self.crop_pct.unwrap_or(1.0) as f32;
                    Some((gap * most).ceil() as u32)
                }
            },
        }
    }

    /// The value of each 8-bit level, per channel, in `order`.
    fn levels(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| {
            std::array::from_fn(|v| (v as f32 * self.scale - self.mean[c]) / self.std[c])
        })
    }
}

/// Turns images into input tensors of one size; keeps its buffers between calls, so each worker has its
/// own.
pub struct Preprocessor {
    resampler: Resampler,
    order: ChannelOrder,
    layout: Layout,
    levels: Box<[[f32; 256]; 3]>,
    width: u32,
    height: u32,
}

impl Preprocessor {
    /// For a network whose input is `width` x `height` pixels.
    pub fn new(preprocess: &Preprocess, width: u32, height: u32) -> Self {
        Preprocessor {
            resampler: Resampler::new(preprocess.resize, preprocess.filter, preprocess.background)
                .crop_pct(preprocess.crop_pct),
            order: preprocess.order,
            layout: preprocess.layout,
            levels: Box::new(preprocess.levels()),
            width,
            height,
        }
    }

    /// The resized pixels, before normalisation.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the image's `rgb` does not hold its `width` x `height` pixels.
    pub fn resize(&mut self, picture: &Picture) -> Result<Picture> {
        self.resampler.resize(picture, self.width, self.height)
    }

    /// Resizes and normalises `picture` into `out`: `[3, height, width]` or `[height, width, 3]`, row-major,
    /// by the layout.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `out` has another length, or as [`Preprocessor::resize`].
    pub fn tensor(&mut self, picture: &Picture, out: &mut [f32]) -> Result<()> {
        let pixels = self.width as usize * self.height as usize;
        if out.len() != pixels * 3 {
            return Err(Error::Mismatch {
                what: "length of the input tensor".into(),
                expected: (pixels * 3).to_string(),
                found: out.len().to_string(),
                hint: "it is 3 x height x width".into(),
            });
        }
        let resized = self.resize(picture)?;
        for (c, levels) in self.levels.iter().enumerate() {
            let source = match self.order {
                ChannelOrder::Rgb => c,
                ChannelOrder::Bgr => 2 - c,
            };
            let (start, step) = match self.layout {
                Layout::Nchw => (c * pixels, 1),
                Layout::Nhwc => (c, 3),
            };
            let values = resized.rgb[source..].iter().step_by(3);
            for (to, &value) in out[start..].iter_mut().step_by(step).zip(values) {
                *to = levels[usize::from(value)];
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels() -> Picture {
        Picture {
            width: 2,
            height: 1,
            rgb: vec![0, 51, 255, 102, 153, 204],
            warnings: Vec::new(),
        }
    }

    fn tensor(preprocess: &Preprocess) -> Vec<f32> {
        let mut out = vec![f32::NAN; 6];
        Preprocessor::new(preprocess, 2, 1)
            .tensor(&pixels(), &mut out)
            .unwrap();
        out
    }

    fn close(found: &[f32], expected: &[f32]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-5, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn torch_gives_planes_of_standardised_rgb() {
        let z = |v: f32, c: usize| (v - [0.485, 0.456, 0.406][c]) / [0.229, 0.224, 0.225][c];
        close(
            &tensor(&Preprocess::torch()),
            &[
                z(0.0, 0),
                z(0.4, 0),
                z(0.2, 1),
                z(0.6, 1),
                z(1.0, 2),
                z(0.8, 2),
            ],
        );
    }

    #[test]
    fn caffe_gives_pixels_of_bgr_less_the_mean() {
        close(
            &tensor(&Preprocess::caffe()),
            &[
                255.0 - 103.939,
                51.0 - 116.779,
                0.0 - 123.68,
                204.0 - 103.939,
                153.0 - 116.779,
                102.0 - 123.68,
            ],
        );
    }

    #[test]
    fn tf_gives_pixels_from_minus_one_to_one() {
        close(
            &tensor(&Preprocess::tf()),
            &[-1.0, -0.6, 1.0, -0.2, 0.2, 0.6],
        );
    }

    #[test]
    fn a_tensor_of_another_length_is_an_error() {
        let mut preprocessor = Preprocessor::new(&Preprocess::tf(), 2, 1);
        let error = preprocessor.tensor(&pixels(), &mut [0.0; 5]).unwrap_err();
        assert!(error.to_string().contains("expected 6, found 5"), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let torch = Preprocess::torch;
        for (wrong, text) in [
            (
                Preprocess {
                    scale: 0.0,
                    ..torch()
                },
                "invalid value `0` for scale: ",
            ),
            (
                Preprocess {
                    mean: [0.0, f32::NAN, 0.0],
                    ..torch()
                },
                "invalid value `[0.0, NaN, 0.0]` for mean: ",
            ),
            (
                Preprocess {
                    std: [1.0, 0.0, 1.0],
                    ..torch()
                },
                "invalid value `[1.0, 0.0, 1.0]` for std: ",
            ),
        ] {
            let error = wrong.validate().unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let gap = |reducing_gap| Preprocess {
            reducing_gap,
            ..torch()
        };
        assert!(gap(0.5).validate().is_err() && gap(f32::NAN).validate().is_err());
        gap(0.0).validate().unwrap();
        let share = |crop_pct| Preprocess {
            crop_pct: Some(crop_pct),
            ..torch()
        };
        assert!(share(0.0).validate().is_err() && share(1.01).validate().is_err());
        assert!(share(f64::NAN).validate().is_err());
        share(0.875).validate().unwrap();
        torch().validate().unwrap();
    }

    #[test]
    fn a_card_reads_back_and_refuses_keys_that_it_does_not_know() {
        let text = toml::to_string(&Preprocess::caffe()).unwrap();
        assert_eq!(
            toml::from_str::<Preprocess>(&text).unwrap(),
            Preprocess::caffe()
        );
        let without = text.replace("background = [255, 255, 255]\n", "");
        assert_ne!(without, text);
        assert_eq!(
            toml::from_str::<Preprocess>(&without).unwrap(),
            Preprocess::caffe()
        );
        let error = toml::from_str::<Preprocess>(&format!("{text}gamma = 2.2\n")).unwrap_err();
        assert!(error.to_string().contains("gamma"), "{error}");
    }
}
