//! timm's `pretrained_cfg` in `config.json`.

use serde_json::{Map, Value};

use super::Processor;
use super::values::{Said, colours, filter, finished, get, margin, side};
use crate::pixels::{ChannelOrder, Filter, Preprocess, ResizeRule};

/// Reads the `pretrained_cfg` of timm's `config.json`.
pub(super) fn timm(map: &Map<String, Value>) -> Said<Processor> {
    let (Some(mean), Some(std)) = (colours(map, "mean")?, colours(map, "std")?) else {
        return Err("its `pretrained_cfg` has no `mean` and `std`".into());
    };
    let size = get(map, "input_size").or(get(map, "test_input_size"));
    let input_size = match size.and_then(Value::as_array).map(Vec::as_slice) {
        None => None,
        Some([channels, height, width]) if channels.as_u64() == Some(3) => {
            let (height, width) = (side(height, "input_size")?, side(width, "input_size")?);
            (height == width).then_some(height)
        }
        Some(_) => {
            let value = size.map(Value::to_string).unwrap_or_default();
            return Err(format!(
                "`input_size` is {value}; it must be 3, height and width"
            ));
        }
    };
    let (resize, crops) = match get(map, "crop_mode").and_then(Value::as_str) {
        None | Some("center") => (ResizeRule::Crop, true),
        Some("squash") => (ResizeRule::Stretch, true),
        Some("border") => (ResizeRule::Pad, false),
        Some(other) => return Err(format!("`crop_mode` is \"{other}\", which is not known")),
    };
    let share = match get(map, "crop_pct").map(|value| (value, value.as_f64())) {
        None => None,
        Some((_, Some(share))) if share > 0.0 && share <= 1.0 => Some(share),
        Some((value, _)) => return Err(format!("`crop_pct` is {value}; it must be from 0 to 1")),
    };
    let name = get(map, "interpolation");
    let (filter, filter_remark) = filter(name, "interpolation", Filter::Bicubic)?;
    // What timm takes where its file does not say.
    let share = share.or((resize == ResizeRule::Crop).then_some(0.875));
    let preprocess = Preprocess {
        resize,
        crop_pct: share.filter(|_| resize == ResizeRule::Crop),
        filter,
        order: ChannelOrder::Rgb,
        mean,
        std,
        ..Preprocess::torch()
    };
    let share = share
        .filter(|_| crops && resize == ResizeRule::Stretch)
        .and_then(margin);
    finished(preprocess, input_size, [share, filter_remark])
}
