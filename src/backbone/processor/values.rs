//! Checks the values of such files.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Processor;
use crate::pixels::{Filter, Preprocess};

/// Height and width that an input may have, in pixels.
const SIDES: RangeInclusive<u64> = 1..=4096;

/// A value, or the problem with it.
pub(super) type Said<T> = std::result::Result<T, String>;

/// The value of a key; `None` if it is absent or null.
pub(super) fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

pub(super) fn flag(map: &Map<String, Value>, key: &str, default: bool) -> Said<bool> {
    match get(map, key) {
        None => Ok(default),
        Some(value) => value
            .as_bool()
            .ok_or(format!("`{key}` is {value}, not true or false")),
    }
}

/// A number for each colour: three numbers, or one for all.
pub(super) fn colours(map: &Map<String, Value>, key: &str) -> Said<Option<[f32; 3]>> {
    let Some(value) = get(map, key) else {
        return Ok(None);
    };
    let wrong = || format!("`{key}` is {value}; it must be three numbers");
    let number = |value: &Value| value.as_f64().map(|v| v as f32).ok_or_else(wrong);
    Ok(Some(match value.as_array().map(Vec::as_slice) {
        Some([one]) => [number(one)?; 3],
        Some([a, b, c]) => [number(a)?, number(b)?, number(c)?],
        Some(_) => return Err(wrong()),
        None => [number(value)?; 3],
    }))
}

/// A number of pixels.
pub(super) fn side(value: &Value, key: &str) -> Said<u32> {
    let side = value.as_u64().filter(|side| SIDES.contains(side));
    side.map(|side| side as u32).ok_or(format!(
        "`{key}` is {value}; it must be from {} to {} pixels",
        SIDES.start(),
        SIDES.end()
    ))
}

/// A filter by Pillow's number or by its name.
pub(super) fn filter(
    value: Option<&Value>,
    key: &str,
    default: Filter,
) -> Said<(Filter, Option<String>)> {
    let Some(value) = value else {
        return Ok((default, None));
    };
    let name = value.as_str().map(str::to_lowercase);
    Ok(match (value.as_u64(), name.as_deref()) {
        (Some(0), _) | (_, Some("nearest")) => (Filter::Nearest, None),
        (Some(1), _) | (_, Some("lanczos" | "lanczos3")) => (Filter::Lanczos, None),
        (Some(2), _) | (_, Some("bilinear" | "random")) => (Filter::Bilinear, None),
        (Some(3), _) | (_, Some("bicubic")) => (Filter::Bicubic, None),
        (Some(4 | 5), _) | (_, Some("box" | "hamming")) => {
            let remark = format!("`{key}` {value} is unknown, bilinear is used");
            (Filter::Bilinear, Some(remark))
        }
        _ => {
            return Err(format!(
                "`{key}` is {value}, which is not a resizing filter"
            ));
        }
    })
}

/// What remains to be said where a program crops images more closely than is done here.
pub(super) fn margin(share: f64) -> Option<String> {
    (share < 0.999).then(|| {
        format!(
            "the file crops to {:.1} % of each side, this program does not crop",
            share * 100.0
        )
    })
}

pub(super) fn finished(
    preprocess: Preprocess,
    input_size: Option<u32>,
    remarks: [Option<String>; 2],
) -> Said<Processor> {
    preprocess.validate().map_err(|e| e.to_string())?;
    let remarks: Vec<String> = remarks.into_iter().flatten().collect();
    Ok(Processor {
        path: PathBuf::new(),
        preprocess,
        input_size,
        remark: (!remarks.is_empty()).then(|| remarks.join("; ")),
    })
}
