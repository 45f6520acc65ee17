//! `tl-batch probe-layers`: the table of layers.

use super::args::ProbeLayersArgs;
use crate::cli::Face;
use crate::cli::layers::configuration;
use crate::cli::output::Out;
use crate::error::Result;
use crate::job::{JobCard, LayerScore, ProbeConfig, ProbeReport, probe_layers};
use crate::report::{Table, Text, grouped};

/// Runs `tl-batch probe-layers`.
pub(super) fn run(face: &Face, args: &ProbeLayersArgs) -> Result<()> {
    let mut config: ProbeConfig = configuration("probe-layers", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = face.show(
        &JobCard {
            out: Some(config.store()),
            ..JobCard::new("probe-layers", &config)
        },
        false,
        |progress| probe_layers(&config, progress),
    )?;
    let mut out = Out::new();
    match face.json {
        true => report.layers.iter().try_for_each(|layer| out.json(layer)),
        false => out.text(&report_text(&report)),
    }
}

fn report_text(report: &ProbeReport) -> Text {
    let mut table = Table::new([
        "layer", "output", "features", "accuracy", "", "ms/image", "bytes", "",
    ]);
    for (i, layer) in report.layers.iter().enumerate() {
        table.row([
            layer.layer.clone(),
            shape(layer),
            layer.features.to_string(),
            format!("{:.4}", layer.accuracy),
            format!("± {:.4}", layer.standard_deviation),
            format!("{:.1}", layer.image_ms),
            grouped(layer.bytes),
            if i == report.best { "◄ best" } else { "" }.to_owned(),
        ]);
    }
    let best = &report.layers[report.best];
    let mut text = table.text();
    text.gap();
    text.line(format!(
        "{} pictures, {} folds, the same for all layers; always saying the largest class: {:.4}",
        report.images, report.folds, report.largest_class,
    ));
    if let Some(line) = cheaper(report) {
        text.line(line);
    }
    let store = report.store.to_string_lossy();
    text.line(format!(
        "features are kept in {store}; to make a model of them:"
    ));
    text.line(format!(
        "  tl-batch train {store} --cut {} -o model.onnx",
        best.layer
    ));
    text
}

fn shape(layer: &LayerScore) -> String {
    let dims = layer.output_shape.iter().flatten();
    dims.map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// Names the fastest layer that is as good as the best as far as the folds can tell.
fn cheaper(report: &ProbeReport) -> Option<String> {
    let best = &report.layers[report.best];
    let enough = best.accuracy - best.standard_deviation;
    let fastest = report
        .layers
        .iter()
        .filter(|layer| layer.accuracy >= enough && layer.image_ms < 0.9 * best.image_ms)
        .min_by(|a, b| a.image_ms.total_cmp(&b.image_ms));
    fastest.map(|layer| {
        format!(
            "{} is within one ± of the best in {:.0} % of its time",
            layer.layer,
            100.0 * layer.image_ms / best.image_ms
        )
    })
}
