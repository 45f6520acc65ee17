//! Hugging Face's `preprocessor_config.json`.

use serde_json::{Map, Value};

use super::Processor;
use super::values::{Said, colours, filter, finished, flag, get, margin, side};
use crate::pixels::{ChannelOrder, Filter, Preprocess, ResizeRule};

/// A size in one of Hugging Face's forms.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    /// A number alone, which means different things in different processors.
    Number(u32),
    Exact {
        height: u32,
        width: u32,
    },
    Shortest(u32),
    Longest(u32),
}

impl Size {
    fn read(map: &Map<String, Value>, key: &str) -> Said<Option<Size>> {
        let Some(value) = get(map, key) else {
            return Ok(None);
        };
        let Some(object) = value.as_object() else {
            return Ok(Some(match value.as_array().map(Vec::as_slice) {
                Some([height, width]) => Size::Exact {
                    height: side(height, key)?,
                    width: side(width, key)?,
                },
                _ => Size::Number(side(value, key)?),
            }));
        };
        let of = |name| get(object, name).map(|v| side(v, key)).transpose();
        match (
            of("height")?,
            of("width")?,
            of("shortest_edge")?,
            of("longest_edge")?,
        ) {
            (Some(height), Some(width), _, _) => Ok(Some(Size::Exact { height, width })),
            (_, _, Some(side), _) => Ok(Some(Size::Shortest(side))),
            (_, _, _, Some(side)) => Ok(Some(Size::Longest(side))),
            _ => Err(format!(
                "`{key}` is {value}, without a height and width or a shortest edge"
            )),
        }
    }

    /// The side of a square of this size.
    fn square(self) -> Option<u32> {
        match self {
            Size::Exact { height, width } => (height == width).then_some(height),
            Size::Number(side) | Size::Shortest(side) | Size::Longest(side) => Some(side),
        }
    }
}

/// Reads `preprocessor_config.json`.
pub(super) fn hugging_face(map: &Map<String, Value>) -> Said<Processor> {
    let scale = match (flag(map, "do_rescale", true)?, get(map, "rescale_factor")) {
        (false, _) => 1.0,
        (true, None) => 1.0 / 255.0,
        (true, Some(value)) => {
            let factor = value.as_f64().filter(|f| f.is_finite() && *f > 0.0);
            factor.ok_or(format!("`rescale_factor` is {value}; it must be above 0"))?
        }
    };
    let (given_mean, given_std) = (colours(map, "image_mean")?, colours(map, "image_std")?);
    let is_normalised = flag(map, "do_normalize", given_mean.is_some())?;
    let (mut mean, mut std) = match (is_normalised, given_mean, given_std) {
        (false, _, _) => ([0.0; 3], [1.0; 3]),
        (true, Some(mean), Some(std)) => (mean, std),
        (true, _, _) => {
            return Err("it has `do_normalize` but no `image_mean` and `image_std`".into());
        }
    };
    if flag(map, "rescale_offset", false)? {
        mean = mean.map(|m| m + 1.0);
    }
    let order = match flag(map, "do_flip_channel_order", false)? {
        true => ChannelOrder::Bgr,
        false => ChannelOrder::Rgb,
    };
    if order == ChannelOrder::Bgr {
        // They are those of red, green, blue; ours stand in the order of the channels.
        mean.reverse();
        std.reverse();
    }
    let size = Size::read(map, "size")?;
    let crop = Size::read(map, "crop_size")?;
    let crops = flag(map, "do_center_crop", true)?;
    let crop = crop.filter(|_| crops);
    let crop_pct = get(map, "crop_pct").and_then(Value::as_f64);
    let (resize, input_size, share) = match (size, crop) {
        _ if !flag(map, "do_resize", true)? => {
            (ResizeRule::Stretch, crop.and_then(Size::square), None)
        }
        (Some(Size::Exact { height, .. }), Some(crop)) => {
            let share = crop.square().map(|c| f64::from(c) / f64::from(height));
            (ResizeRule::Stretch, crop.square(), share)
        }
        (Some(Size::Longest(_)), _) => (ResizeRule::Pad, size.and_then(Size::square), None),
        (Some(Size::Number(short) | Size::Shortest(short)), Some(crop)) => {
            let share = crop.square().map(|c| f64::from(c) / f64::from(short));
            (ResizeRule::Crop, crop.square(), share)
        }
        // ConvNeXt's, which does not crop large inputs.
        (Some(Size::Number(side) | Size::Shortest(side)), None)
            if crop_pct.is_some() && side >= 384 =>
        {
            (ResizeRule::Stretch, Some(side), None)
        }
        (Some(Size::Shortest(side)), None) => (ResizeRule::Crop, Some(side), crop_pct),
        (Some(Size::Number(side)), None) if crop_pct.is_some() => {
            (ResizeRule::Crop, Some(side), crop_pct)
        }
        (Some(Size::Number(_) | Size::Exact { .. }), None) => {
            (ResizeRule::Stretch, size.and_then(Size::square), None)
        }
        (None, crop) => (ResizeRule::Stretch, crop.and_then(Size::square), None),
    };
    let (filter, filter_remark) = filter(get(map, "resample"), "resample", Filter::Bilinear)?;
    let (crop_pct, share) = match resize {
        ResizeRule::Crop => (share.filter(|share| *share <= 1.0), None),
        _ => (None, share),
    };
    let preprocess = Preprocess {
        resize,
        crop_pct,
        filter,
        order,
        scale: scale as f32,
        mean,
        std,
        ..Preprocess::torch()
    };
    finished(
        preprocess,
        input_size,
        [share.and_then(margin), filter_remark],
    )
}
