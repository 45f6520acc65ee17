//! Prints results of training on standard output.

use crate::cli::output::{Out, same_results};
use crate::counts::count;
use crate::error::Result;
use crate::features::FeatureStore;
use crate::job::{BestReport, Evaluation, FinetuneReport, QuantizeReport, TrainReport};
use crate::report::{
    QuantizeSummary, Text, confusion_table, difference, grouped, metrics_table, quantize_text,
    scores_table,
};
use crate::train::ConfusionMatrix;

/// More classes than this make a confusion matrix too wide for a terminal.
const WIDEST_CONFUSION: usize = 12;

/// The result of `fit` and `train`. With `json` the events have said it all.
pub(super) fn train_report(json: bool, report: &TrainReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = Text::default();
    if let Some(cv) = &report.cross_validation {
        text.line(format!(
            "{}-fold cross-validation: accuracy {:.4} ± {:.4}",
            cv.fold_accuracy.len(),
            cv.accuracy(),
            cv.standard_deviation()
        ));
        text.gap();
    }
    text.add(&scores_table(&report.scores));
    if let Some((split, score)) = report.scores.iter().skip(1).last() {
        text.gap();
        text.line(format!("{} images by class", split.name()));
        text.add(&by_class(&report.classes, &score.confusion));
    }
    text.gap();
    text.line(format!(
        "saved {}: {:.1} MB, {} frozen and {} trained parameters",
        report.output.to_string_lossy(),
        report.bytes as f64 / 1e6,
        grouped(report.base_parameters),
        grouped(report.head_parameters as u64)
    ));
    text.add(&same_results(&report.verification));
    Out::new().text(&text)
}

/// Scores of each class; with the confusion matrix, where a terminal has room for it.
fn by_class(classes: &[String], confusion: &ConfusionMatrix) -> Text {
    let mut text = metrics_table(classes, confusion);
    if classes.len() <= WIDEST_CONFUSION {
        text.gap();
        text.add(&confusion_table(classes, confusion));
    }
    text
}

/// The result of `fit --recipe best`. With `json` the events have said it all.
pub(super) fn best_report(json: bool, report: &BestReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = Text::of("recipe    accuracy            vs best so far");
    for tried in &report.tried {
        let found = &tried.cross_validation;
        let compared = tried
            .difference
            .map_or(String::new(), |d| difference(d.mean, d.margin));
        let line = format!(
            "{:<9} {:.4} ± {:.4}     {compared}",
            tried.recipe.name(),
            found.accuracy(),
            found.standard_deviation()
        );
        text.line(line.trim_end());
    }
    text.line(format!("winner: {}", report.chosen.name()));
    text.gap();
    Out::new().text(&text)?;
    train_report(json, &report.trained)
}

/// The result of `finetune`. With `json` the events have said it all.
pub(super) fn finetune_report(json: bool, report: &FinetuneReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = Text::default();
    if let Some((loss, accuracy)) = report.head_alone {
        text.line(format!(
            "head alone: validation loss {loss:.4}, accuracy {accuracy:.4}"
        ));
    }
    text.line(match report.trained.best_epoch {
        0 => "no joint epoch improved on the head alone (validation images): the backbone is unchanged"
            .to_owned(),
        epoch => format!(
            "trained jointly from {} on: kept epoch {epoch} of {}",
            report.first_layer, report.epochs
        ),
    });
    text.gap();
    Out::new().text(&text)?;
    train_report(json, &report.trained)
}

/// The result of `extract`.
pub(super) fn store(json: bool, store: &FeatureStore) -> Result<()> {
    if json {
        return Ok(());
    }
    let meta = store.meta();
    let line = |file: &str, shape: &[usize], cut: &str| {
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        format!(
            "{}: {} of {} features from {}, layer {cut}, {} skipped",
            store.dir().join(file).to_string_lossy(),
            count(meta.rows, "row"),
            shape.join("×"),
            meta.backbone.model,
            meta.errors
        )
    };
    let mut text = Text::default();
    for array in &meta.arrays {
        text.line(line(&array.file, &array.shape, &array.cut));
    }
    if meta.arrays.is_empty() {
        let cuts = meta.backbone.cut.to_string();
        text.line(line("features.npy", &meta.feature_shape, &cuts));
    }
    Out::new().text(&text)
}

/// The result of `evaluate`.
pub(super) fn evaluation(json: bool, evaluation: &Evaluation) -> Result<()> {
    if json {
        return Ok(());
    }
    let confusion = &evaluation.confusion;
    let mut text = by_class(&evaluation.classes, confusion);
    text.gap();
    text.line(format!(
        "accuracy {:.4}, loss {:.4} on {}, {} skipped",
        confusion.accuracy(),
        evaluation.loss,
        count(confusion.total(), "image"),
        grouped(evaluation.skipped as u64)
    ));
    Out::new().text(&text)
}

/// The result of `quantize`. With `json` the events have said it all.
pub(super) fn quantize_report(json: bool, report: &QuantizeReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let found = &report.comparison;
    let summary = QuantizeSummary {
        precision: report.precision.name(),
        split: report.split,
        images: found.images,
        accuracy: found.accuracy,
        loss: found.loss,
        agreement: found.agreement,
        mean_abs_diff: found.mean_abs_diff,
        max_abs_diff: found.max_abs_diff,
        bytes: report.bytes,
        layers: report.layers,
        float_layers: &report.float_layers,
    };
    let mut text = quantize_text(&summary);
    text.gap();
    text.line(format!("saved {}", report.output.to_string_lossy()));
    text.add(&same_results(&report.verification));
    Out::new().text(&text)
}
