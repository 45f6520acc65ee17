//! Results of training on standard output.

use crate::cli::output::{Out, same_results};
use crate::error::Result;
use crate::features::FeatureStore;
use crate::job::{BestReport, Evaluation, FinetuneReport, QuantizeReport, TrainReport};
use crate::report::{
    QuantizeSummary, confusion_table, difference, grouped, metrics_table, printable, quantize_text,
    scores_table,
};

/// More classes than this make a confusion matrix too wide for a terminal.
const WIDEST_CONFUSION: usize = 12;

/// The result of `fit` and `train`. With `json` the events have said it all.
pub(super) fn train_report(json: bool, report: &TrainReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(cv) = &report.cross_validation {
        text += &format!(
            "{}-fold cross-validation: accuracy {:.4} ± {:.4}\n\n",
            cv.fold_accuracy.len(),
            cv.accuracy(),
            cv.standard_deviation()
        );
    }
    text += &scores_table(&report.scores);
    if let Some((split, score)) = report.scores.iter().skip(1).last() {
        text += &format!("\n{} pictures by class\n", split.name());
        text += &metrics_table(&report.classes, &score.confusion);
        if report.classes.len() <= WIDEST_CONFUSION {
            text += &format!("\n{}", confusion_table(&report.classes, &score.confusion));
        }
    }
    text += &format!(
        "\nsaved {}: {:.1} MB, {} parameters frozen, {} trained\n",
        printable(&report.output.to_string_lossy()),
        report.bytes as f64 / 1e6,
        grouped(report.base_parameters),
        grouped(report.head_parameters as u64)
    );
    text += &same_results(&report.verification);
    Out::new().text(&text)
}

/// The result of `fit --recipe best`. With `json` the events have said it all.
pub(super) fn best_report(json: bool, report: &BestReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = String::from("recipe    accuracy            than the best before it\n");
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
        text += &format!("{}\n", line.trim_end());
    }
    text += &format!("{} makes the model\n\n", report.chosen.name());
    Out::new().text(&text)?;
    train_report(json, &report.trained)
}

/// The result of `finetune`. With `json` the events have said it all.
pub(super) fn finetune_report(json: bool, report: &FinetuneReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let alone = report.head_alone.map_or(String::new(), |before| {
        format!(
            "head alone: validation loss {:.4}, accuracy {:.4}\n",
            before.0, before.1
        )
    });
    let kept = match report.trained.best_epoch {
        0 => "no joint epoch was better on the validation pictures than the head alone: the base \
              is as it was\n"
            .to_owned(),
        epoch => format!(
            "trained jointly from {} on: epoch {epoch} of {} is kept\n",
            printable(&report.first_layer),
            report.epochs
        ),
    };
    Out::new().text(&format!("{alone}{kept}\n"))?;
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
            "{}: {} rows of {} features from {} at {cut}, {} skipped\n",
            printable(&store.dir().join(file).to_string_lossy()),
            meta.rows,
            shape.join("×"),
            meta.backbone.model,
            meta.errors
        )
    };
    let mut text: String = meta
        .arrays
        .iter()
        .map(|array| line(&array.file, &array.shape, &array.cut))
        .collect();
    if text.is_empty() {
        let cuts = meta.backbone.cut.to_string();
        text = line("features.npy", &meta.feature_shape, &cuts);
    }
    Out::new().text(&text)
}

/// The result of `evaluate`.
pub(super) fn evaluation(json: bool, evaluation: &Evaluation) -> Result<()> {
    if json {
        return Ok(());
    }
    let confusion = &evaluation.confusion;
    let mut text = metrics_table(&evaluation.classes, confusion);
    if evaluation.classes.len() <= WIDEST_CONFUSION {
        text += &format!("\n{}", confusion_table(&evaluation.classes, confusion));
    }
    text += &format!(
        "\naccuracy {:.4}, loss {:.4} over {} pictures, {} skipped\n",
        confusion.accuracy(),
        evaluation.loss,
        confusion.total(),
        evaluation.skipped
    );
    Out::new().text(&text)
}

/// The result of `quantize`. With `json` the events have said it all.
pub(super) fn quantize_report(json: bool, report: &QuantizeReport) -> Result<()> {
    if json {
        return Ok(());
    }
    let found = &report.comparison;
    let summary = QuantizeSummary {
        numbers: report.numbers.name(),
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
    let text = format!(
        "{}\nsaved {}\n{}",
        quantize_text(&summary),
        printable(&report.output.to_string_lossy()),
        same_results(&report.verification)
    );
    Out::new().text(&text)
}
