//! `tl-batch probe-layers`: the table of layers.

use super::args::ProbeLayersArgs;
use crate::cli::Face;
use crate::cli::layers::configuration;
use crate::cli::output::Out;
use crate::error::Result;
use crate::job::{JobCard, LayerScore, ProbeConfig, ProbeReport, probe_layers};
use crate::report::{finish, grouped, plain, printable};

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

fn report_text(report: &ProbeReport) -> String {
    let mut table = plain(&[
        "layer", "output", "features", "accuracy", "", "ms/image", "bytes", "",
    ]);
    for (i, layer) in report.layers.iter().enumerate() {
        table.add_row([
            printable(&layer.layer),
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
    format!(
        "{}\n{} pictures, {} folds, the same for all layers; always saying the largest class: {:.4}\n{}\
         features are kept in {store}; to make a model of them:\n  tl-batch train {store} --cut {} -o model.onnx\n",
        finish(table),
        report.images,
        report.folds,
        report.largest_class,
        cheaper(report),
        printable(&best.layer),
        store = printable(&report.store.to_string_lossy()),
    )
}

fn shape(layer: &LayerScore) -> String {
    let dims = layer.output_shape.iter().flatten();
    dims.map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// Names the fastest layer that is as good as the best as far as the folds can tell.
fn cheaper(report: &ProbeReport) -> String {
    let best = &report.layers[report.best];
    let enough = best.accuracy - best.standard_deviation;
    let fastest = report
        .layers
        .iter()
        .filter(|layer| layer.accuracy >= enough && layer.image_ms < 0.9 * best.image_ms)
        .min_by(|a, b| a.image_ms.total_cmp(&b.image_ms));
    match fastest {
        Some(layer) => format!(
            "{} is within one ± of the best in {:.0} % of its time\n",
            printable(&layer.layer),
            100.0 * layer.image_ms / best.image_ms
        ),
        None => String::new(),
    }
}
