//! From the bytes of a picture to the tensor that a network wants.
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
/// Layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// .
    Nchw,
    /// .
    Nhwc,
}
/// Order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// .
    Rgb,
    /// .
    Bgr,
}
/// P.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preprocess {
    /// .
    pub resize: String,
    /// .
    pub filter: String,
    /// .
    pub order: ChannelOrder,
    /// .
    pub layout: Layout,
    /// .
    pub scale: f32,
    /// .
    pub mean: [f32; 3],
    /// .
    pub std: [f32; 3],
    /// .
    pub background: [u8; 3],
}
impl Preprocess {
    /// .
    pub fn torch() -> Self {
        Preprocess {
            resize: "stretch".into(),
            filter: "bilinear".into(),
            order: ChannelOrder::Rgb,
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            background: [255; 3],
        }
    }
    /// .
    pub fn validate(&self) -> Result<()> {
        Ok(())
    }
}
/// L.
#[derive(Clone, Debug)]
pub struct DecodeLimits {
    /// .
    pub max_pixels: u64,
}
impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits {
            max_pixels: 100_000_000,
        }
    }
}
/// Pic.
#[derive(Clone, Debug)]
pub struct Picture {
    /// .
    pub width: u32,
    /// .
    pub height: u32,
    /// .
    pub rgb: Vec<u8>,
    /// .
    pub warnings: Vec<String>,
}
impl Picture {
    /// .
    pub fn open(path: &Path, l: &DecodeLimits, b: [u8; 3]) -> Result<Picture> {
        Self::decode(
            &std::fs::read(path).map_err(Error::io("read", path))?,
            path,
            l,
            b,
        )
    }
    /// .
    pub fn decode(bytes: &[u8], path: &Path, _l: &DecodeLimits, _b: [u8; 3]) -> Result<Picture> {
        let img = image::load_from_memory(bytes)
            .map_err(|e| Error::Image {
                path: path.to_owned(),
                reason: e.to_string(),
            })?
            .to_rgb8();
        Ok(Picture {
            width: img.width(),
            height: img.height(),
            rgb: img.into_raw(),
            warnings: vec![],
        })
    }
}
/// Pre.
pub struct Preprocessor {
    p: Preprocess,
    w: u32,
    h: u32,
}
impl Preprocessor {
    /// .
    pub fn new(p: &Preprocess, w: u32, h: u32) -> Self {
        Preprocessor { p: p.clone(), w, h }
    }
    /// .
    pub fn tensor(&mut self, pic: &Picture, out: &mut [f32]) -> Result<()> {
        let Some(img) = image::RgbImage::from_raw(pic.width, pic.height, pic.rgb.clone()) else {
            return Ok(());
        };
        let r = image::imageops::resize(
            &img,
            self.w,
            self.h,
            image::imageops::FilterType::CatmullRom,
        );
        let n = (self.w * self.h) as usize;
        for (i, px) in r.pixels().enumerate() {
            for c in 0..3 {
                let v = match self.p.order {
                    ChannelOrder::Rgb => px[c],
                    ChannelOrder::Bgr => px[2 - c],
                } as f32;
                let v = (v * self.p.scale - self.p.mean[c]) / self.p.std[c];
                match self.p.layout {
                    Layout::Nchw => out[c * n + i] = v,
                    Layout::Nhwc => out[i * 3 + c] = v,
                }
            }
        }
        Ok(())
    }
}
