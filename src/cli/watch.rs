//! `tl-batch watch`: prints a line for each arriving image.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::FrontEnd;
use super::args::PipelineArgs;
use super::output::{Out, json_line};
use crate::backbone::top_k;
use crate::disk::RotatingFile;
use crate::error::{Error, Result, in_range};
use crate::job::{
    JobInfo, JobKind, ModelNews, Trigger, WatchConfig, WatchLine, WatchRecord, watch,
};
use crate::report::{grouped, timestamp};

/// Most full files to keep.
const MOST_KEPT: usize = 1_000;

/// Watch a folder and classify images as they arrive, one JSON line each.
///
/// A file is classified when its writer closes it or when it is moved into the folder; names that start with a dot or
/// end in .part or .tmp are ignored as unfinished. If images arrive faster than they are classified, the oldest in
/// the queue are dropped and counted in `dropped`. SIGTERM or Ctrl-C ends the watch with exit code 0; a --run command
/// that is still running gets one second to finish. For a camera, let another program write frames to a folder in
/// memory, and use --delete.
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
    /// Folder to watch; its subfolders are not watched.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// A saved model, or the name of a backbone with an ImageNet classifier. When the file is replaced, the new model
    /// is verified and used, and a line with `event: model` reports it.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// First classify the images that are already there, in order of name; none of them is dropped.
    #[arg(long)]
    pub existing: bool,

    /// Delete each image when done, including dropped and unusable ones.
    #[arg(long)]
    pub delete: bool,

    /// Maximum number of images waiting to be classified [default: 64].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,

    /// Number of classes to list per line, most probable first.
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[serde(skip)]
    pub top: usize,

    /// Flag images whose probability for this class is above P, and run the --run command; repeatable.
    #[arg(long = "trigger", value_name = "CLASS>P")]
    pub triggers: Vec<Trigger>,

    /// Shell command to run on a trigger, one at a time, with TL_PATH, TL_LABEL and TL_PROBABILITY set.
    #[arg(long, value_name = "COMMAND", requires = "triggers")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,

    /// Append the lines to this file instead of writing to standard output.
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: Option<PathBuf>,

    /// Start a new file at this size, such as 500K, 10M or 1G; the full one becomes FILE.1.
    #[arg(long, value_name = "SIZE", requires = "output", value_parser = bytes)]
    #[serde(skip)]
    pub rotate: Option<u64>,

    /// Number of full files to keep.
    #[arg(long, value_name = "N", requires = "rotate", default_value_t = 5)]
    #[serde(skip)]
    pub keep: usize,

    #[command(flatten)]
    #[serde(flatten)]
    pub pipeline: PipelineArgs,
}

/// A number of bytes, followed by K, M or G for powers of 1,000.
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
        .ok_or_else(|| format!("`{text}` is not a size; write one such as 500K, 10M or 1G"))
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

fn line<'a>(labels: &[String], record: &'a WatchRecord, top: usize) -> Line<'a> {
    let found = match &record.values {
        Ok(values) => top_k(values, labels, top.max(1)),
        Err(_) => Vec::new(),
    };
    let first = found.first();
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
    Line {
        time: timestamp(record.time),
        path: record.path.to_string_lossy().into_owned(),
        label: first.map(|p| p.label.clone()),
        probability: first.map(|p| p.probability),
        error: record.values.as_ref().err().map(String::as_str),
        triggers: &record.triggers,
        decode_ms: milliseconds(record.decode),
        infer_ms: milliseconds(record.infer),
        dropped: record.dropped,
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
pub(super) fn run(front_end: &FrontEnd, args: &WatchArgs) -> Result<()> {
    let config: WatchConfig = super::configuration("watch", args, None)?;
    in_range("--keep", args.keep, 0..=MOST_KEPT)?;
    let mut file = match &args.output {
        Some(path) => Some(RotatingFile::open(path, args.rotate, args.keep)?),
        None => None,
    };
    let mut out = Out::new();
    let report = front_end.show(&JobInfo::new(JobKind::Watch, &config), false, |progress| {
        watch(&config, progress, |told| {
            let line = match told {
                WatchLine::Picture(labels, record) => {
                    AnyLine::Picture(line(labels, record, args.top))
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
    front_end.say(&format!(
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
