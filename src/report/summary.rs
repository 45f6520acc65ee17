//! A model's layers as Keras prints them.

use super::printable;
use crate::backbone::{Layer, Summary};

/// Least widths of the columns; longer names widen the first.
const LAYER_WIDTH: usize = 34;
const SHAPE_WIDTH: usize = 26;
const COUNT_WIDTH: usize = 12;

/// The table of `model.summary()` in Keras: layer (type), output shape with a free batch axis and
/// channels last, parameters; then total, trainable and non-trainable parameters.
pub fn summary_table(summary: &Summary) -> String {
    let names: Vec<String> = summary
        .layers
        .iter()
        .map(|l| printable(&format!("{} ({})", l.name, l.kind)))
        .collect();
    let longest = names
        .iter()
        .map(|name| name.chars().count() + 2)
        .max()
        .unwrap_or(0);
    let layer_width = longest.max(LAYER_WIDTH);
    let width = layer_width + SHAPE_WIDTH + COUNT_WIDTH;
    let row = |layer: &str, shape: &str, count: &str| {
        format!(
            " {layer:<w$}{shape:<SHAPE_WIDTH$}{count}\n",
            w = layer_width - 1
        )
    };
    let mut text = format!(
        "Model: \"{}\"\n{}\n",
        printable(&summary.model),
        "_".repeat(width)
    );
    text += &row("Layer (type)", "Output Shape", "Param #");
    text += &format!("{}\n", "=".repeat(width));
    for (name, layer) in names.iter().zip(&summary.layers) {
        text += &row(name, &shape(layer), &grouped(layer.parameters()));
    }
    text += &format!("{}\n", "=".repeat(width));
    text += &format!("Total params: {}\n", grouped(summary.parameters()));
    text += &format!("Trainable params: {}\n", grouped(summary.trainable()));
    text += &format!(
        "Non-trainable params: {}\n",
        grouped(summary.non_trainable())
    );
    text += &format!("{}\n", "_".repeat(width));
    text
}

fn shape(layer: &Layer) -> String {
    let text = match &layer.output_shape {
        Some(dims) => format!(
            "(None, {})",
            dims.iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
        None => "unknown".to_owned(),
    };
    match layer.kind.as_str() {
        "InputLayer" => format!("[{text}]"),
        _ => text,
    }
}

/// 14714688 as `14,714,688`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (14_714_688, "14,714,688"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
