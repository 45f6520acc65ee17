//! A model's layers as Keras prints them.

use super::{Text, grouped, printable};
use crate::backbone::{Layer, Summary};

/// Minimum widths of the columns; longer names widen the first.
const LAYER_WIDTH: usize = 34;
const SHAPE_WIDTH: usize = 26;
const COUNT_WIDTH: usize = 12;
const COST_WIDTH: usize = 16;

/// Columns that are shown by request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Multiply-adds for one image.
    pub macs: bool,
    /// Bytes of each output for one image.
    pub activations: bool,
}

/// A longer name shifts the columns of its line.
const MAX_LAYER_WIDTH: usize = 200;

/// Head of a column, and what it shows of a layer.
type Cost = (&'static str, fn(&Layer) -> u64);

/// The table of `model.summary()` in Keras: layer (type), output shape with a free batch axis and
/// channels last, parameters; then total, trainable and non-trainable parameters.
pub fn summary_table(summary: &Summary, columns: Columns) -> Text {
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
    // A file may name its layers as it likes, and text can be padded to 65,535 letters at most.
    let layer_width = longest.clamp(LAYER_WIDTH, MAX_LAYER_WIDTH);
    let mut more: Vec<Cost> = Vec::new();
    if columns.macs {
        more.push(("Multiply-adds", |layer| layer.macs));
    }
    if columns.activations {
        more.push(("Output bytes", |layer| layer.activation_bytes));
    }
    let width = layer_width + SHAPE_WIDTH + COUNT_WIDTH + more.len() * COST_WIDTH;
    let row = |layer: &str, shape: &str, count: &str, more: &[String]| {
        let mut line = format!(
            " {layer:<w$}{shape:<SHAPE_WIDTH$}{count:<COUNT_WIDTH$}",
            w = layer_width - 1
        );
        for cost in more {
            line += &format!("{cost:>COST_WIDTH$}");
        }
        line.trim_end().to_owned()
    };
    let mut text = Text::of(format!("Model: \"{}\"", summary.model));
    text.line("_".repeat(width));
    let heads: Vec<String> = more.iter().map(|(head, _)| (*head).to_owned()).collect();
    text.line(row("Layer (type)", "Output Shape", "Param #", &heads));
    text.line("=".repeat(width));
    for (name, layer) in names.iter().zip(&summary.layers) {
        let costs: Vec<String> = more.iter().map(|(_, cost)| grouped(cost(layer))).collect();
        let parameters = grouped(layer.parameters());
        text.line(row(name, &shape(layer), &parameters, &costs));
    }
    text.line("=".repeat(width));
    text.line(format!("Total params: {}", grouped(summary.parameters())));
    text.line(format!(
        "Trainable params: {}",
        grouped(summary.trainable())
    ));
    text.line(format!(
        "Non-trainable params: {}",
        grouped(summary.non_trainable())
    ));
    if columns.macs {
        text.line(format!(
            "Multiply-adds per image: {}",
            grouped(summary.macs())
        ));
    }
    if columns.activations {
        text.line(format!(
            "Output bytes per image: {}",
            grouped(summary.activation_bytes())
        ));
    }
    text.line("_".repeat(width));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_may_have_a_name_of_any_length() {
        let layer = Layer {
            name: "x".repeat(70_000),
            kind: "Conv2D".into(),
            tensor: "x".into(),
            output_shape: None,
            trainable: 1,
            non_trainable: 0,
            macs: 0,
            activation_bytes: 0,
        };
        let summary = Summary {
            model: "m".into(),
            layers: vec![layer],
        };
        let text = summary_table(&summary, Columns::default()).to_string();
        assert!(
            text.contains("xxx") && text.len() < 30_000,
            "{}",
            text.len()
        );
    }
}
