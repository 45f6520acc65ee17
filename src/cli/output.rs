//! Results on standard output: tables for people, CSV and JSON lines for programs.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use super::render::{Verbosity, check_line};
use crate::backbone::{Prediction, top_k};
use crate::counts::count;
use crate::error::{Error, Result, is_unsafe};
use crate::features::{name_field, path_field};
use crate::job::PictureResult;
use crate::pixels::{DecodeLimits, Picture};
use crate::report::{Text, plot};
use crate::saved_model::Verification;

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

    pub fn text(&mut self, text: &Text) -> Result<()> {
        self.bytes(text.as_str().as_bytes())
    }

    /// One line of text.
    pub fn line(&mut self, line: impl AsRef<str>) -> Result<()> {
        self.text(&Text::of(line))
    }

    /// One line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let line = json_line(value).map_err(|e| Error::io("write", STDOUT)(e.into()))?;
        self.bytes(line.as_bytes())
    }
}

/// A value as a line of JSON. What could do something to a terminal is escaped; to a reader of JSON it is the same text.
pub(super) fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // Characters of this kind are in strings only, and have four hexadecimal digits at most.
        match is_unsafe(c) {
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    line.push('\n');
    Ok(line)
}

const STDOUT: &str = "standard output";

/// Tells whether the reader of standard output went away, as `head` does: no fault of anybody's.
pub(super) fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Io { path, source, .. }
        if path == Path::new(STDOUT) && source.kind() == ErrorKind::BrokenPipe)
}

/// The verdict of a verification.
pub(super) fn same_results(verification: &Verification) -> Text {
    let outcome = match (verification.same_results, verification.max_abs_diff) {
        (true, 0.0) => "identical".to_owned(),
        (_, difference) => format!("largest difference {difference:.1e}"),
    };
    let mut text = Text::of(format!(
        "verified on 1 synthetic and {}: {outcome}",
        count(verification.images, "real image"),
    ));
    let verdict = if verification.same_results {
        "TRUE"
    } else {
        "FALSE"
    };
    text.line(format!("same results: {verdict}"));
    text
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
    let mut text = Text::default();
    if verbosity > Verbosity::Quiet {
        for check in &verification.checks {
            text.line(check_line(check));
        }
    }
    text.add(&same_results(verification));
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
    /// tables with one class per image.
    first_class: Option<usize>,
    out: Out,
    started: bool,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Csv,
    Jsonl,
}

impl ResultWriter {
    pub fn new(format: Format, top: usize, first_class: Option<usize>) -> ResultWriter {
        ResultWriter {
            format,
            top: top.max(1),
            first_class,
            out: Out::new(),
            started: false,
        }
    }

    /// Writes one image's classes, most probable first.
    pub fn write(&mut self, labels: &[String], result: &PictureResult) -> Result<()> {
        let path = result.path.to_string_lossy();
        let found = self.predictions(labels, result);
        match self.format {
            Format::Jsonl => {
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
        let mut text = Text::default();
        match (&result.values, found) {
            (Err(reason), _) => text.line(format!("{path}: {reason}")),
            (Ok(_), [one]) if self.first_class.is_none() => {
                text.line(format!("{path}: {} {:.4}", one.label, one.probability));
            }
            (Ok(_), many) => {
                text.line(path);
                for p in many {
                    text.line(format!(
                        "  {:>4}  {:.4}  {}",
                        p.class, p.probability, p.label
                    ));
                }
            }
        }
        self.started = true;
        self.out.text(&text)
    }

    /// Draws an image in the terminal.
    pub fn plot(&mut self, result: &PictureResult) -> Result<()> {
        if result.values.is_err() {
            return Ok(());
        }
        plot::print(&open(&result.path)?)
    }

    /// Writes image, label and bars to a PNG file.
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
        if self.started || self.format != Format::Csv {
            return Ok(());
        }
        self.out.line("path,rank,class,label,probability,error")
    }
}

fn open(path: &Path) -> Result<Picture> {
    Picture::open(path, &DecodeLimits::default(), [255; 3])
}

#[cfg(test)]
mod tests {
    use super::json_line;

    #[test]
    fn a_line_of_json_has_nothing_that_moves_a_terminal_and_reads_back_the_same() {
        let cases = [
            ("a\u{9b}b\u{202e}", r#""a\u009bb\u202e""#),
            ("\u{1b}[2J\u{7}\u{7f}", r#""\u001b[2J\u0007\u007f""#),
            (
                "x\nsame results: TRUE\r\t",
                r#""x\nsame results: TRUE\r\t""#,
            ),
            (
                "\u{2028}\u{2029}\u{61c}\u{2066}",
                r#""\u2028\u2029\u061c\u2066""#,
            ),
            ("é 写真 \u{1f600} \" \\", "\"é 写真 \u{1f600} \\\" \\\\\""),
        ];
        for (text, expected) in cases {
            let line = json_line(&text).unwrap();
            assert_eq!(line, format!("{expected}\n"));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
        // Names of fields come from files, too.
        let named = std::collections::BTreeMap::from([("\u{202e}k", 1)]);
        assert_eq!(json_line(&named).unwrap(), "{\"\\u202ek\":1}\n");
    }
}
