//! Results on standard output: tables for people, CSV and JSON lines for programs.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use super::render::{Verbosity, check_line};
use crate::backbone::{Prediction, top_k};
use crate::error::{Error, Result};
use crate::features::{FeatureStore, name_field, path_field};
use crate::job::{
    BestReport, Evaluation, FinetuneReport, PictureResult, QuantizeReport, TrainReport,
};
use crate::pixels::{DecodeLimits, Picture};
use crate::report::{
    QuantizeSummary, confusion_table, difference, grouped, metrics_table, plot, printable,
    quantize_text, scores_table,
};
use crate::saved_model::Verification;

/// More classes than this make a confusion matrix too wide for a terminal.
const WIDEST_CONFUSION: usize = 12;

/// Standard output, whose errors are values.
pub(super) struct Out(io::Stdout);

impl Out {
    pub fn new() -> Out {
        Out(io::stdout())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let mut lock = self.0.lock();
        lock.write_all(bytes)
            .and_then(|()| lock.flush())
            .map_err(Error::io("write", STDOUT))
    }

    pub fn text(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// One line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line =
            serde_json::to_vec(value).map_err(|e| Error::io("write", STDOUT)(e.into()))?;
        line.push(b'\n');
        self.bytes(&line)
    }
}

const STDOUT: &str = "standard output";

/// Tells whether the reader of standard output went away, as `head` does: no fault of anybody's.
pub(super) fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Io { path, source, .. }
        if path == Path::new(STDOUT) && source.kind() == ErrorKind::BrokenPipe)
}

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

fn same_results(verification: &Verification) -> String {
    format!(
        "reloaded and compared on the probe and {} pictures, largest difference {:.1e}\nsame results: {}\n",
        verification.images,
        verification.max_abs_diff,
        if verification.same_results {
            "TRUE"
        } else {
            "FALSE"
        }
    )
}

/// The result of `verify`: every item, then the verdict.
pub(super) fn verification(
    json: bool,
    verbosity: Verbosity,
    verification: &Verification,
) -> Result<()> {
    if json {
        return Ok(());
    }
    let mut text = String::new();
    if verbosity > Verbosity::Quiet {
        for check in &verification.checks {
            text += &format!("{}\n", printable(&check_line(check)));
        }
    }
    Out::new().text(&(text + &same_results(verification)))
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

/// One line of `predict --json` and `classify --json`.
#[derive(Serialize)]
struct JsonResult<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<JsonPrediction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonPrediction<'a> {
    class: usize,
    label: &'a str,
    probability: f32,
}

/// Writes the results of `predict` and `classify` one by one.
pub(super) struct ResultWriter {
    format: Format,
    top: usize,
    /// Index of the first class, where indices mean something to the user; else they are left out of
    /// tables of one class a picture.
    first_class: Option<usize>,
    out: Out,
    started: bool,
}

enum Format {
    Table,
    Csv,
    JsonLines,
}

impl ResultWriter {
    pub fn new(format: &str, top: usize, first_class: Option<usize>) -> ResultWriter {
        let format = match format {
            "csv" => Format::Csv,
            "jsonl" => Format::JsonLines,
            _ => Format::Table,
        };
        ResultWriter {
            format,
            top: top.max(1),
            first_class,
            out: Out::new(),
            started: false,
        }
    }

    /// Writes one picture's classes, most probable first.
    pub fn write(&mut self, labels: &[String], result: &PictureResult) -> Result<()> {
        let path = result.path.to_string_lossy();
        let found = self.predictions(labels, result);
        match self.format {
            Format::JsonLines => {
                let best = found.first();
                self.out.json(&JsonResult {
                    path: path.into_owned(),
                    label: best.map(|p| p.label.as_str()),
                    probability: best.map(|p| p.probability),
                    top: found
                        .iter()
                        .map(|p| JsonPrediction {
                            class: p.class,
                            label: &p.label,
                            probability: p.probability,
                        })
                        .collect(),
                    error: result.values.as_ref().err().map(String::as_str),
                })
            }
            Format::Csv => self.csv(result, &found),
            Format::Table => self.table(&path, result, &found),
        }
    }

    fn predictions(&self, labels: &[String], result: &PictureResult) -> Vec<Prediction> {
        let mut found = match &result.values {
            Ok(values) => top_k(values, labels, self.top),
            Err(_) => Vec::new(),
        };
        for prediction in &mut found {
            prediction.class += self.first_class.unwrap_or(0);
        }
        found
    }

    fn csv(&mut self, result: &PictureResult, found: &[Prediction]) -> Result<()> {
        let path = path_field(&result.path);
        let path = String::from_utf8_lossy(&path);
        let path = path.as_ref();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut record = |fields: [&str; 6]| {
            writer
                .write_record(fields)
                .map_err(|e| Error::io("write", STDOUT)(e.into()))
        };
        if !self.started {
            record(["path", "rank", "class", "label", "probability", "error"])?;
        }
        if let Err(reason) = &result.values {
            record([path, "", "", "", "", reason])?;
        }
        for (rank, p) in (1..).zip(found) {
            let numbers = (
                rank.to_string(),
                p.class.to_string(),
                p.probability.to_string(),
            );
            let label = name_field(&p.label);
            record([path, &numbers.0, &numbers.1, &label, &numbers.2, ""])?;
        }
        self.started = true;
        let bytes = writer
            .into_inner()
            .map_err(|e| Error::io("write", STDOUT)(e.into_error()))?;
        self.out.bytes(&bytes)
    }

    fn table(&mut self, path: &str, result: &PictureResult, found: &[Prediction]) -> Result<()> {
        let path = printable(path);
        let mut text = String::new();
        match (&result.values, found) {
            (Err(reason), _) => text += &format!("{path}: {}\n", printable(reason)),
            (Ok(_), [one]) if self.first_class.is_none() => {
                text += &format!("{path}: {} {:.4}\n", printable(&one.label), one.probability)
            }
            (Ok(_), many) => {
                text += &format!("{path}\n");
                for p in many {
                    text += &format!(
                        "  {:>4}  {:.4}  {}\n",
                        p.class,
                        p.probability,
                        printable(&p.label)
                    );
                }
            }
        }
        self.started = true;
        self.out.text(&text)
    }

    /// Draws a picture in the terminal.
    pub fn plot(&mut self, result: &PictureResult) -> Result<()> {
        if result.values.is_err() {
            return Ok(());
        }
        plot::print(&open(&result.path)?)
    }

    /// Writes picture, label and bars to a PNG file.
    pub fn save_plot(
        &mut self,
        labels: &[String],
        result: &PictureResult,
        path: &Path,
    ) -> Result<()> {
        if result.values.is_err() {
            return Ok(());
        }
        plot::save(
            &open(&result.path)?,
            &self.predictions(labels, result),
            path,
        )
    }

    /// Ends the output: a CSV file without results still has its header.
    pub fn finish(&mut self) -> Result<()> {
        if self.started || !matches!(self.format, Format::Csv) {
            return Ok(());
        }
        self.out.text("path,rank,class,label,probability,error\n")
    }
}

fn open(path: &Path) -> Result<Picture> {
    Picture::open(path, &DecodeLimits::default(), [255; 3])
}
