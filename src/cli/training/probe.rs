//! `tl-batch probe-layers`: prints the table of layers.

use super::args::ProbeLayersArgs;
use crate::cli::FrontEnd;
use crate::cli::config::configuration;
use crate::cli::output::Out;
use crate::counts::count;
use crate::error::Result;
use crate::job::{JobInfo, JobKind, LayerScore, ProbeConfig, ProbeReport, probe_layers};
use crate::report::{Table, Text, grouped};

/// Runs `tl-batch probe-layers`.
pub(super) fn run(front_end: &FrontEnd, args: &ProbeLayersArgs) -> Result<()> {
    let mut config: ProbeConfig = configuration("probe-layers", args, args.run.config.as_deref())?;
    config.force = args.run.force;
    let report = front_end.show(
        &JobInfo {
            out: Some(config.store()),
            ..JobInfo::new(JobKind::ProbeLayers, &config)
        },
        false,
        |progress| probe_layers(&config, progress),
    )?;
    let mut out = Out::new();
    match front_end.json {
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
            grouped(layer.features as u64),
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
        "{}, {}, the same for all layers; majority-class baseline: {:.4}",
        count(report.images, "image"),
        count(report.folds, "fold"),
        report.largest_class,
    ));
    if let Some(line) = cheaper(report) {
        text.line(line);
    }
    let store = report.store.to_string_lossy();
    text.line(format!(
        "features are stored in {store}; to build a model from the best layer:"
    ));
    text.line(format!(
        "  tl-batch train {store} --feature-layer {} -o model.onnx",
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
            "{} is within one standard deviation of the best, in {:.0} % of the time",
            layer.layer,
            100.0 * layer.image_ms / best.image_ms
        )
    })
}
