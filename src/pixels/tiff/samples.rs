//! Samples of a TIFF page as RGB.

use image::RgbImage;

use super::super::decode::{over, to_8_bits};
use super::super::jpeg::inks_to_rgb;

/// What an alpha sample says about the colours beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alpha {
    /// They are as if the pixel was opaque ("unassociated").
    Separate,
    /// They are multiplied by it already ("associated").
    Multiplied,
}

/// What samples mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    /// Grey; `inverted` if 0 is white.
    Grey {
        inverted: bool,
        alpha: Option<Alpha>,
    },
    Rgb {
        alpha: Option<Alpha>,
    },
    /// Places in a palette.
    Palette(Vec<[u8; 3]>),
    /// Cyan, magenta, yellow, black.
    Inks,
    /// Luma and chroma of JFIF; `converted` if unpacking has made RGB of them.
    YCbCr {
        converted: bool,
    },
}

impl Colours {
    pub fn is_ycbcr(&self) -> bool {
        matches!(self, Colours::YCbCr { .. })
    }
}

/// The unpacked samples of a page.
pub(super) struct Samples {
    /// `[height, width, samples]`, or `[samples, height, width]` if `planar`; rows begin at a byte. 16 bits stand in
    /// the order of this machine.
    pub data: Vec<u8>,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Samples of a pixel.
    pub samples: usize,
    /// Bits of a sample: 1, 2, 4, 8 or 16.
    pub bits: usize,
    pub planar: bool,
}

impl Samples {
    /// The image on `background`; `None` if `data` is too short.
    pub fn into_rgb(self, colours: &Colours, background: [u8; 3]) -> Option<RgbImage> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let in_row = match self.planar {
            true => width,
            false => width * self.samples,
        };
        let row_bytes = (in_row * self.bits).div_ceil(8);
        let rows = match self.planar {
            true => height * self.samples,
            false => height,
        };
        if self.data.len() < row_bytes * rows {
            return None;
        }
        let is_rgb = matches!(
            colours,
            Colours::Rgb { alpha: None } | Colours::YCbCr { converted: true }
        );
        if is_rgb && self.bits == 8 && self.samples == 3 && !self.planar {
            return RgbImage::from_raw(self.size.0, self.size.1, self.data);
        }
        let raw = matches!(colours, Colours::Palette(_));
        // Grey of few bits is spread over 0 to 255.
        let factor = match (self.bits, raw) {
            (1 | 2 | 4, false) => 255 / ((1 << self.bits) - 1),
            _ => 1,
        };
        let sample = |x: usize, y: usize, c: usize| -> u8 {
            let (row, place) = match self.planar {
                true => (c * height + y, x),
                false => (y, x * self.samples + c),
            };
            let row = &self.data[row * row_bytes..];
            match self.bits {
                8 => row[place],
                16 => to_8_bits(u16::from_ne_bytes([row[2 * place], row[2 * place + 1]])),
                bits => {
                    let bit = place * bits;
                    let value = row[bit / 8] >> (8 - bits - bit % 8);
                    (value & ((1 << bits) - 1)) * factor
                }
            }
        };
        let on_background = |rgb: [u8; 3], alpha: u8, kind: Alpha| match kind {
            Alpha::Separate => over(rgb, alpha, background),
            Alpha::Multiplied => add_background(rgb, alpha, background),
        };
        Some(RgbImage::from_fn(self.size.0, self.size.1, |x, y| {
            let (x, y) = (x as usize, y as usize);
            let rgb = || [sample(x, y, 0), sample(x, y, 1), sample(x, y, 2)];
            image::Rgb(match colours {
                Colours::Grey { inverted, alpha } => {
                    let value = sample(x, y, 0);
                    let value = [if *inverted { 255 - value } else { value }; 3];
                    alpha.map_or(value, |kind| on_background(value, sample(x, y, 1), kind))
                }
                Colours::Rgb { alpha: None } | Colours::YCbCr { converted: true } => rgb(),
                Colours::Rgb { alpha: Some(kind) } => on_background(rgb(), sample(x, y, 3), *kind),
                Colours::Palette(palette) => {
                    let place = usize::from(sample(x, y, 0));
                    palette.get(place).copied().unwrap_or_default()
                }
                Colours::Inks => {
                    let [c, m, y_] = rgb();
                    inks_to_rgb(&[c, m, y_, sample(x, y, 3)])
                }
                Colours::YCbCr { converted: false } => ycbcr_to_rgb(rgb()),
            })
        }))
    }
}

/// Colours that are multiplied by `alpha` already, over a background. None can be more than alpha.
fn add_background(rgb: [u8; 3], alpha: u8, background: [u8; 3]) -> [u8; 3] {
    let seen = 255 - u32::from(alpha);
    std::array::from_fn(|c| {
        let under = (u32::from(background[c]) * seen + 127) / 255;
        (u32::from(rgb[c].min(alpha)) + under) as u8
    })
}

/// The colours of JFIF (ITU-R BT.601, full range).
fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
    .map(|v| v.round().clamp(0.0, 255.0) as u8)
}
