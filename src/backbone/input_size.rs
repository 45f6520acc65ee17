//! Height and width of a network's input. No file access.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::card::ModelCard;
use super::onnx::OnnxGraph;
use crate::error::{Error, Result};
use crate::pixels::Layout;

/// Height and width of a network's input in pixels. Serialises to one number if they are the same, else to
/// `[height, width]`; as a text it is `224` or `48x64`, the height first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Sides", into = "Sides")]
pub struct InputSize {
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "an input size must be a number of pixels such as 224, or height and width such as \"192x256\""
)]
enum Sides {
    Square(u32),
    Both([u32; 2]),
    Text(String),
}

impl TryFrom<Sides> for InputSize {
    type Error = String;

    fn try_from(sides: Sides) -> std::result::Result<InputSize, String> {
        match sides {
            Sides::Square(side) => Ok(InputSize::from(side)),
            Sides::Both([height, width]) => Ok(InputSize { height, width }),
            Sides::Text(text) => text.parse(),
        }
    }
}

impl From<InputSize> for Sides {
    fn from(size: InputSize) -> Sides {
        match size {
            InputSize { height, width } if height == width => Sides::Square(height),
            InputSize { height, width } => Sides::Both([height, width]),
        }
    }
}

impl From<u32> for InputSize {
    fn from(side: u32) -> InputSize {
        InputSize {
            height: side,
            width: side,
        }
    }
}

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<InputSize, String> {
        let wrong = || {
            format!(
                "`{text}` is not a size in pixels; give one number, or height x width as in 48x64"
            )
        };
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        match text.split_once(['x', 'X', '×']) {
            None => number(text).map(InputSize::from),
            Some((height, width)) => Ok(InputSize {
                height: number(height)?,
                width: number(width)?,
            }),
        }
    }
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputSize { height, width } if height == width => write!(f, "{height}"),
            InputSize { height, width } => write!(f, "{height}x{width}"),
        }
    }
}

impl InputSize {
    /// Both sides, for a sentence: `224 x 224`.
    pub fn sides(self) -> String {
        format!("{} x {}", self.height, self.width)
    }

    /// The shorter side.
    pub fn least(self) -> u32 {
        self.height.min(self.width)
    }

    /// The longer side.
    pub fn most(self) -> u32 {
        self.height.max(self.width)
    }
}

/// Maximum height and width of an input, in pixels.
pub(crate) const LARGEST_INPUT: u32 = 4096;

/// The input size from the user, or else from the card.
pub(crate) fn input_size(card: &ModelCard, wanted: Option<InputSize>) -> Result<InputSize> {
    let size = wanted.unwrap_or(card.input_size);
    if size.least() < card.min_size.max(1) || size.most() > LARGEST_INPUT {
        return Err(Error::Parameter {
            name: "--input-size",
            value: size.to_string(),
            problem: format!(
                "{} accepts {} to {LARGEST_INPUT} pixels",
                card.name,
                card.min_size.max(1)
            ),
        });
    }
    Ok(size)
}

/// The shape of the input tensor for one image of `size`.
pub(crate) fn input_shape(
    graph: &OnnxGraph,
    layout: Layout,
    size: InputSize,
) -> Result<[usize; 4]> {
    let (name, dims) = graph.input()?;
    let channels = match layout {
        Layout::Nchw => dims[1],
        Layout::Nhwc => dims[3],
    };
    if channels.is_some_and(|c| c != 3) {
        return Err(graph.fail(format!(
            "its input `{name}` has {} channels in the card's layout; an RGB image has 3",
            channels.unwrap_or(0)
        )));
    }
    Ok(picture_shape(layout, size))
}

/// The shape of a tensor that is one image of `size`, batch included.
pub(crate) fn picture_shape(layout: Layout, size: InputSize) -> [usize; 4] {
    let (height, width) = (size.height as usize, size.width as usize);
    match layout {
        Layout::Nchw => [1, 3, height, width],
        Layout::Nhwc => [1, height, width, 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_one_number_and_others_are_height_and_width() {
        let json = |size: InputSize| serde_json::to_string(&size).unwrap();
        let (square, flat) = (
            InputSize::from(224),
            InputSize {
                height: 48,
                width: 64,
            },
        );
        assert_eq!((json(square), json(flat)), ("224".into(), "[48,64]".into()));
        for size in [square, flat] {
            assert_eq!(
                serde_json::from_str::<InputSize>(&json(size)).unwrap(),
                size
            );
            assert_eq!(size.to_string().parse::<InputSize>().unwrap(), size);
        }
        assert_eq!("48x64".parse::<InputSize>().unwrap(), flat);
        assert_eq!(
            serde_json::from_str::<InputSize>(r#""48x64""#).unwrap(),
            flat
        );
        for wrong in ["", "x", "48x", "48x64x3", "-1", "4.5"] {
            assert!(wrong.parse::<InputSize>().is_err(), "{wrong}");
        }
    }
}
