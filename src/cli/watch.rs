//! `tl-batch watch`: a line for each picture that arrives.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Face;
use super::args::PipelineArgs;
use super::output::{Out, json_line};
use crate::backbone::top_k;
use crate::disk::RotatingFile;
use crate::error::{Error, Result, in_range};
use crate::job::{JobCard, ModelNews, Sighting, Trigger, WatchConfig, WatchLine, watch};
use crate::report::{grouped, timestamp};

/// Most full files to keep.
const MOST_KEPT: usize = 1_000;

/// Classify pictures as they arrive in a folder: one JSON line each.
///
/// A file is taken when its writer closes it, or when it is moved into the folder; names that start with a dot
/// or end in .part or .tmp are unfinished. When pictures come faster than they are classified, the oldest that
/// wait are dropped, and counted in `dropped`. Ends at SIGTERM or Ctrl-C with exit code 0; a command of --run that
/// still runs has a second to end, then it is ended. For a camera, let
/// another program write its frames into a folder in memory, and give --delete.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_long_help = "\
Examples:
  tl-batch watch inbox model.onnx
  tl-batch watch inbox model.onnx --existing --output seen.jsonl --rotate 10M
  tl-batch watch inbox model.onnx --trigger 'cat>0.9' --run 'cp \"$TL_PATH\" cats/'
  ffmpeg -f v4l2 -i /dev/video0 -vf fps=2 /dev/shm/frames/%d.jpg &
  tl-batch watch /dev/shm/frames model.onnx --delete")]
pub struct WatchArgs {
    /// The folder in which pictures arrive; folders inside it are not watched.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// The saved model, or the name of a base with an ImageNet classifier. When its file is replaced, the new one is
    /// verified and used; a line with `event: model` says so.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Take the pictures that are there already first, by name; none of them is dropped.
    #[arg(long)]
    pub existing: bool,

    /// Remove each picture when it is done with, also those that are dropped or cannot be used.
    #[arg(long)]
    pub delete: bool,

    /// Pictures that may wait to be classified [default: 64].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,

    /// How many classes a line lists, most probable first.
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[serde(skip)]
    pub top: usize,

    /// Mark a picture whose class is more probable than this, and run the command of --run; may be given again.
    #[arg(long = "trigger", value_name = "CLASS>P")]
    pub triggers: Vec<Trigger>,

    /// Shell command that a trigger runs, one at a time, with TL_PATH, TL_LABEL and TL_PROBABILITY set.
    #[arg(long, value_name = "COMMAND", requires = "triggers")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,

    /// Add the lines to this file rather than write them to standard output.
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: Option<PathBuf>,

    /// Begin a new file when it is as large as this, such as 500K, 10M or 1G; the full one becomes FILE.1.
    #[arg(long, value_name = "SIZE", requires = "output", value_parser = bytes)]
    #[serde(skip)]
    pub rotate: Option<u64>,

    /// Full files to keep.
    #[arg(long, value_name = "N", requires = "rotate", default_value_t = 5)]
    #[serde(skip)]
    pub keep: usize,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// A number of bytes, with K, M or G behind it for powers of 1,000.
pub(super) fn bytes(text: &str) -> std::result::Result<u64, String> {
    let (number, factor) = match text.to_ascii_uppercase().chars().last() {
        Some('K') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let found = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    found
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| format!("`{text}` is no size; write one such as 500K, 10M or 1G"))
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<LineClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    triggers: &'a [String],
    decode_ms: f64,
    infer_ms: f64,
    dropped: u64,
}

#[derive(Serialize)]
struct LineClass {
    class: usize,
    label: String,
    probability: f32,
}

fn line<'a>(labels: &[String], sighting: &'a Sighting, top: usize) -> Line<'a> {
    let found = match &sighting.values {
        Ok(values) => top_k(values, labels, top.max(1)),
        Err(_) => Vec::new(),
    };
    let first = found.first();
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
    Line {
        time: timestamp(sighting.time),
        path: sighting.path.to_string_lossy().into_owned(),
        label: first.map(|p| p.label.clone()),
        probability: first.map(|p| p.probability),
        error: sighting.values.as_ref().err().map(String::as_str),
        triggers: &sighting.triggers,
        decode_ms: milliseconds(sighting.decode),
        infer_ms: milliseconds(sighting.infer),
        dropped: sighting.dropped,
        top: match top {
            0 | 1 => Vec::new(),
            _ => found
                .into_iter()
                .map(|p| LineClass {
                    class: p.class,
                    label: p.label,
                    probability: p.probability,
                })
                .collect(),
        },
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyLine<'a> {
    Picture(Line<'a>),
    Model(ModelLine<'a>),
}

/// A line that says that the model's file was replaced.
#[derive(Serialize)]
struct ModelLine<'a> {
    time: String,
    event: &'static str,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn model_line(news: &ModelNews) -> ModelLine<'_> {
    ModelLine {
        time: timestamp(news.time),
        event: "model",
        model: news.path.to_string_lossy().into_owned(),
        sha256: news.outcome.as_ref().ok().map(String::as_str),
        error: news.outcome.as_ref().err().map(String::as_str),
    }
}

/// Runs `tl-batch watch`.
pub(super) fn run(face: &Face, args: &WatchArgs) -> Result<()> {
    let config: WatchConfig = super::configuration("watch", args, None)?;
    in_range("--keep", args.keep, 0..=MOST_KEPT)?;
    let mut file = match &args.output {
        Some(path) => Some(RotatingFile::open(path, args.rotate, args.keep)?),
        None => None,
    };
    let mut out = Out::new();
    let report = face.show(&JobCard::new("watch", &config), false, |progress| {
        watch(&config, progress, |told| {
            let line = match told {
                WatchLine::Picture(labels, sighting) => {
                    AnyLine::Picture(line(labels, sighting, args.top))
                }
                WatchLine::Model(news) => AnyLine::Model(model_line(news)),
            };
            let Some(file) = &mut file else {
                return out.json(&line);
            };
            let write = Error::io("write", args.output.clone().unwrap_or_default());
            let line = json_line(&line).map_err(|e| write(e.into()))?;
            file.add(line.as_bytes())
        })
    })?;
    face.say(&format!(
        "{} classified, {} unusable, {} dropped, {} triggered",
        grouped(report.classified),
        grouped(report.unusable),
        grouped(report.dropped),
        grouped(report.triggered)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_a_thousand() {
        assert_eq!(bytes("10M"), Ok(10_000_000));
        assert_eq!(bytes("500k"), Ok(500_000));
        assert_eq!(bytes("7"), Ok(7));
        for wrong in ["", "M", "0", "1.5M", "-1", "99999999999G", "1Ö"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
