//! Renders a job's events: text for people on standard error, JSON lines for programs on standard output.

use std::io::{IsTerminal, Write};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::json_line;
use crate::counts::{count, grouped};
use crate::error::shown;
use crate::progress::{Check, EpochStats, Event, Phase};
use crate::report::{duration, printable, recipe_line};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// How events are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub verbosity: Verbosity,
    /// JSON lines on standard output, nothing else.
    pub json: bool,
    /// The job is one that people wait for: its end and its figures are told, however short it was.
    pub long: bool,
    /// Progress moves a bar where standard error is a terminal.
    pub bar: bool,
    /// Every epoch gets a line; else about ten of them.
    pub every_epoch: bool,
}

/// Lines about progress come at most this often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows events until the job lets go of its end of the channel.
pub(super) fn spawn(events: Receiver<Event>, manner: Manner) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("tl-render".into())
        .spawn(move || {
            let mut renderer = Renderer::new(manner);
            for event in events {
                renderer.show(&event);
            }
            renderer.clear();
        })
}

struct Renderer {
    manner: Manner,
    bar: Option<ProgressBar>,
    with_bar: bool,
    phase: Option<Phase>,
    phase_started: Instant,
    last_line: Instant,
    /// Rows that were there when the phase began: they do not count for the rate.
    resumed: u64,
    skipped: u64,
}

impl Renderer {
    fn new(manner: Manner) -> Renderer {
        Renderer {
            manner,
            bar: None,
            with_bar: manner.bar && std::io::stderr().is_terminal(),
            phase: None,
            phase_started: Instant::now(),
            last_line: Instant::now(),
            resumed: 0,
            skipped: 0,
        }
    }

    fn show(&mut self, event: &Event) {
        if self.manner.json {
            if let Ok(line) = json_line(event) {
                // A reader that went away is no reason to stop the job.
                let _ = std::io::stdout().lock().write_all(line.as_bytes());
            }
            return;
        }
        match event {
            Event::Warning { message } => {
                self.say(Verbosity::Normal, &format!("warning: {message}"))
            }
            Event::Info { message } => self.say(Verbosity::Normal, message),
            Event::Scanned { images, classes } if self.manner.long => {
                self.say(Verbosity::Normal, &scanned(*images, classes))
            }
            Event::Phase { phase, total } => self.begin(*phase, *total),
            Event::Resumed { rows } => {
                self.resumed = *rows;
                self.say(
                    Verbosity::Normal,
                    &format!("reusing stored features of {}", count(*rows, "image")),
                );
                if let Some(bar) = &self.bar {
                    bar.set_position(*rows);
                    bar.reset_eta();
                }
            }
            Event::ImageDone { done, total, .. } => self.count(*done, *total),
            Event::ImageSkipped {
                path,
                reason,
                done,
                total,
            } => {
                self.skipped += 1;
                self.say(
                    Verbosity::Normal,
                    &format!("skipped {}: {reason}", shown(path)),
                );
                self.count(*done, *total);
            }
            Event::BytesDone { done, total } => self.bytes(*done, *total),
            Event::LayerProbed {
                layer,
                done,
                total,
                accuracy,
                standard_deviation,
            } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(*done);
                }
                self.say(
                    Verbosity::Normal,
                    &format!(
                        "layer {done}/{total} {layer} - accuracy: {accuracy:.4} ± {standard_deviation:.4}"
                    ),
                );
            }
            Event::Epoch { fold, stats, .. } => self.epoch(*fold, stats),
            Event::FoldDone {
                fold,
                folds,
                accuracy,
            } => {
                self.say(
                    Verbosity::Normal,
                    &format!("fold {}/{folds} - accuracy: {accuracy:.4}", fold + 1),
                );
            }
            Event::RecipeTried {
                recipe,
                accuracy,
                difference,
                margin,
                ..
            } => {
                let line = recipe_line(recipe, *accuracy, difference.zip(*margin));
                self.say(Verbosity::Normal, &line);
            }
            Event::Check(check) => {
                let level = if check.ok {
                    Verbosity::Verbose
                } else {
                    Verbosity::Quiet
                };
                self.say(level, &check_line(check));
            }
            Event::Finished { seconds } if self.manner.long => {
                self.say(
                    Verbosity::Normal,
                    &format!("done in {}", duration(*seconds)),
                );
            }
            _ => {}
        }
    }

    fn begin(&mut self, phase: Phase, total: Option<u64>) {
        self.clear();
        self.phase = Some(phase);
        self.phase_started = Instant::now();
        self.last_line = Instant::now();
        self.resumed = 0;
        self.skipped = 0;
        let shown = matches!(
            phase,
            Phase::Extract
                | Phase::Predict
                | Phase::Calibrate
                | Phase::Train
                | Phase::WarmUp
                | Phase::Tune
                | Phase::Download
                | Phase::Probe
        );
        if shown && self.with_bar && self.manner.verbosity > Verbosity::Quiet {
            let bar = ProgressBar::new(total.unwrap_or(0));
            let template = match phase {
                Phase::Train | Phase::WarmUp | Phase::Tune => {
                    "{prefix:>8} [{bar:30}] {pos}/{len} epochs  {msg}"
                }
                Phase::Probe => "{prefix:>8} [{bar:30}] {pos}/{len} layers",
                Phase::Download => {
                    "{prefix:>8} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}"
                }
                _ => "{prefix:>8} [{bar:30}] {pos}/{len} images  {per_sec}  ETA {eta}  {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                let per_sec = |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                    let _ = write!(w, "{:.1} images/s", state.per_sec());
                };
                bar.set_style(style.progress_chars("=> ").with_key("per_sec", per_sec));
            }
            bar.set_prefix(phase.name());
            self.bar = Some(bar);
        }
    }

    /// An image is done: the bar moves, or now and then a line is written.
    fn count(&mut self, done: u64, total: u64) {
        if self.phase == Some(Phase::Watch) {
            // Its results are its progress, for days.
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if self.skipped > 0 {
                bar.set_message(format!("{} skipped", self.skipped));
            }
            return;
        }
        let ended = done == total && self.manner.long;
        if self.last_line.elapsed() < LINE_INTERVAL && !ended {
            return;
        }
        self.last_line = Instant::now();
        let seconds = self.phase_started.elapsed().as_secs_f64().max(1e-6);
        let rate = done.saturating_sub(self.resumed) as f64 / seconds;
        let phase = self.phase.map_or("", Phase::name);
        let skipped = if self.skipped > 0 {
            format!(", {} skipped", self.skipped)
        } else {
            String::new()
        };
        let eta = match done < total && rate > 0.0 {
            true => format!(", ETA {}", duration((total - done) as f64 / rate)),
            false => String::new(),
        };
        self.say(
            Verbosity::Normal,
            &format!(
                "{phase}: {}/{} images, {rate:.1} images/s{eta}{skipped}",
                grouped(done),
                grouped(total)
            ),
        );
    }

    /// Bytes came: the bar moves, or now and then a line is written.
    fn bytes(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        if self.last_line.elapsed() < LINE_INTERVAL {
            return;
        }
        self.last_line = Instant::now();
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        self.say(
            Verbosity::Normal,
            &format!(
                "download: {:.1}/{:.1} MB",
                megabytes(done),
                megabytes(total)
            ),
        );
    }

    fn epoch(&mut self, fold: Option<usize>, stats: &EpochStats) {
        let line = epoch_line(stats);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(line.clone());
        }
        let every = if self.manner.every_epoch {
            1
        } else {
            stats.epochs.div_ceil(10)
        };
        let wanted = stats.epoch == 1
            || stats.epoch.is_multiple_of(every.max(1))
            || stats.epoch == stats.epochs;
        if fold.is_none() && wanted || self.manner.verbosity == Verbosity::Verbose {
            let fold = fold.map_or(String::new(), |f| format!("fold {} ", f + 1));
            self.say(
                Verbosity::Normal,
                &format!("{fold}Epoch {}/{} - {line}", stats.epoch, stats.epochs),
            );
        }
    }

    /// Writes a line to standard error, above the bar if there is one.
    fn say(&self, level: Verbosity, line: &str) {
        if level > self.manner.verbosity {
            return;
        }
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(&line)),
            None => write_line(&line),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn write_line(line: &str) {
    // Whoever closed standard error does not want to be told.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One item of a verification.
pub(super) fn check_line(check: &Check) -> String {
    format!(
        "{} {}: {}",
        if check.ok { "  ok   " } else { "DIFFERS" },
        check.name,
        check.detail
    )
}

/// One epoch as Keras prints it.
fn epoch_line(stats: &EpochStats) -> String {
    let mut line = format!("loss: {:.4} - accuracy: {:.4}", stats.loss, stats.accuracy);
    if let (Some(loss), Some(accuracy)) = (stats.val_loss, stats.val_accuracy) {
        line += &format!(" - val_loss: {loss:.4} - val_accuracy: {accuracy:.4}");
    }
    line
}

fn scanned(images: usize, classes: &[(String, usize)]) -> String {
    const SHOWN: usize = 12;
    if classes.is_empty() {
        return count(images, "image");
    }
    let mut names: Vec<String> = classes
        .iter()
        .take(SHOWN)
        .map(|(name, n)| format!("{name} {}", grouped(*n as u64)))
        .collect();
    if classes.len() > SHOWN {
        names.push(format!("and {} more", classes.len() - SHOWN));
    }
    format!(
        "{} in {}: {}",
        count(images, "image"),
        count(classes.len(), "class"),
        names.join(", ")
    )
}
