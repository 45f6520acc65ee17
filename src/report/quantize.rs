//! The cost and benefit of quantisation, as text.

use super::Text;
use super::table::Table;
use crate::counts::count;

/// More layers than this are counted, not named.
const NAMED_LAYERS: usize = 8;

/// A model before and after quantisation.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeSummary<'a> {
    /// Type of the weights: `int8` or `float16`.
    pub precision: &'a str,
    /// Which images both were run on.
    pub split: &'a str,
    /// Number of them.
    pub images: usize,
    /// Share of them whose class came first, 0 to 1, before and after.
    pub accuracy: [f64; 2],
    /// Mean cross-entropy in nats, before and after.
    pub loss: [f64; 2],
    /// Share of them with the same first class before and after.
    pub agreement: f64,
    /// Mean absolute difference of a probability.
    pub mean_abs_diff: f64,
    /// Largest absolute difference of a probability.
    pub max_abs_diff: f32,
    /// Size of the files in bytes.
    pub bytes: [u64; 2],
    /// Layers that could be integers.
    pub layers: usize,
    /// Those that stayed in floats.
    pub float_layers: &'a [String],
}

/// The summary for people.
pub fn quantize_text(summary: &QuantizeSummary) -> Text {
    let mut table = Table::new(["", "float32", summary.precision, "change"]);
    let [before, after] = summary.accuracy;
    table.row([
        "accuracy".to_owned(),
        format!("{before:.4}"),
        format!("{after:.4}"),
        format!("{:+.2} points", 100.0 * (after - before)),
    ]);
    let [before, after] = summary.loss;
    table.row([
        "loss".to_owned(),
        format!("{before:.4}"),
        format!("{after:.4}"),
        format!("{:+.4}", after - before),
    ]);
    let [before, after] = summary.bytes.map(|bytes| bytes as f64 / 1e6);
    table.row([
        "size, MB".to_owned(),
        format!("{before:.2}"),
        format!("{after:.2}"),
        format!("{:.0} %", 100.0 * after / before),
    ]);
    let same = (summary.agreement * summary.images as f64).round();
    let mut text = table.text();
    text.gap();
    text.line(format!(
        "{} images: same class for {same} of {} ({:.1} %); probabilities differ by {:.4} on average, {:.4} at most",
        summary.split,
        summary.images,
        100.0 * summary.agreement,
        summary.mean_abs_diff,
        summary.max_abs_diff
    ));
    if summary.layers > 0 {
        text.line(layers_line(summary));
    }
    text
}

fn layers_line(summary: &QuantizeSummary) -> String {
    let float = summary.float_layers;
    let kept = match float.len() {
        0 => "none in float32".to_owned(),
        n if n <= NAMED_LAYERS => format!("{n} in float32 ({})", float.join(", ")),
        n => format!("{n} in float32"),
    };
    format!(
        "{} in int8, {kept}",
        count(summary.layers - float.len(), "layer")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_costs_and_saves() {
        let summary = QuantizeSummary {
            precision: "int8",
            split: "validation",
            images: 40,
            accuracy: [0.95, 0.925],
            loss: [0.2, 0.25],
            agreement: 0.975,
            mean_abs_diff: 0.0123,
            max_abs_diff: 0.25,
            bytes: [16_000_000, 4_000_000],
            layers: 50,
            float_layers: &["dense".to_owned()],
        };
        let text = quantize_text(&summary).to_string();
        for line in [
            "accuracy   0.9500  0.9250  -2.50 points",
            "size, MB    16.00    4.00          25 %",
            "validation images: same class for 39 of 40 (97.5 %); probabilities differ by 0.0123 on average, 0.2500 at most",
            "49 layers in int8, 1 in float32 (dense)",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
