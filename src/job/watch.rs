//! Classifies images as they arrive in a folder, until the program is stopped.
//!
//! ```text
//! folder ─► Arrivals ─► DropOldestQueue (bounded, drops the oldest) ─► stream ─► sink, Trigger ─► file removed
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::drop_oldest_queue::{CloseOnDrop, DropOldestQueue};
use super::live_model::{LiveModel, ModelNews};
use super::trigger::{Trigger, TriggerRunner};
use crate::dataset::{Arrivals, FolderNews};
use crate::error::{Error, Result, in_range, shown};
use crate::features::{Outcome, PipelineParams, Stream, stream};
use crate::foreign::system_error;
use crate::progress::{Event, Phase, Progress};
use crate::report::grouped;

/// How often to check whether the watch is to end.
const TICK: Duration = Duration::from_millis(200);

/// Minimum time between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of queued images.
const MOST_WAITING: usize = 100_000;

/// Configuration of [`watch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WatchConfig {
    /// The folder in which images arrive.
    pub folder: PathBuf,
    /// A saved model's file, or the name of a backbone with a classifier.
    pub model: PathBuf,
    /// First classify the images that already exist.
    #[serde(default)]
    pub existing: bool,
    /// Remove each image after processing, classified or not.
    #[serde(default)]
    pub delete: bool,
    /// Maximum number of queued images, 1 to 100,000; when there are more, the oldest is dropped.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// When to run [`run`](Self::run).
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// The shell command that a trigger runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

fn default_queue() -> usize {
    64
}

/// The prediction for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchRecord {
    /// When it was classified.
    pub time: SystemTime,
    /// Path of the image, starting with the folder as given.
    pub path: PathBuf,
    /// One probability per class, or why there is none.
    pub values: std::result::Result<Vec<f32>, String>,
    /// Time to read, decode, resize and normalise.
    pub decode: Duration,
    /// Time of inference.
    pub infer: Duration,
    /// The triggers that fired, as given.
    pub triggers: Vec<String>,
    /// Images dropped since the watch began.
    pub dropped: u64,
}

/// Statistics of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// Number of classified images.
    pub classified: u64,
    /// Number of unusable files.
    pub unusable: u64,
    /// Number of images dropped from the queue.
    pub dropped: u64,
    /// Number of times that a trigger fired.
    pub triggered: u64,
}

/// A result of a watch.
#[derive(Clone, Copy, Debug)]
pub enum WatchLine<'a> {
    /// The prediction for an image, and the class names of the model that made it.
    Picture(&'a [String], &'a WatchRecord),
    /// The model's file was replaced.
    Model(&'a ModelNews),
}

/// Classifies images as they arrive in a folder, until a stop is requested, and passes each result to `sink`, with the
/// class names, in the order of completion. Memory does not grow: when images arrive faster than they are classified,
/// the oldest are dropped and counted. When the model's file is replaced, the new one is
/// verified and used from the next image on; if it cannot be used, the old one stays.
///
/// # Errors
/// Those of opening the model and of [`Arrivals`]; [`Error::Parameter`]; the first error of `sink`. A stop is not
/// an error here.
pub fn watch(
    config: &WatchConfig,
    progress: &Progress,
    sink: impl FnMut(WatchLine) -> Result<()>,
) -> Result<WatchReport> {
    in_range("--queue", config.queue, 1..=MOST_WAITING)?;
    config.pipeline.check()?;
    let model = LiveModel::open(&config.model, &config.triggers)?;
    model.tell(progress);
    let arrivals = Arrivals::watch(&config.folder)?;
    let existing = match config.existing {
        true => arrivals.present()?,
        false => Vec::new(),
    };
    progress.phase(Phase::Watch, None);
    progress.info(format!("watching {}", shown(&config.folder)));
    let queue = DropOldestQueue::new(config.queue, existing);
    let mut desk = Desk {
        config,
        model: &model,
        queue: &queue,
        runner: TriggerRunner::start(config.run.as_deref(), progress.clone())?,
        report: WatchReport::default(),
        progress,
        sink,
    };
    let start = |name: &str| std::thread::Builder::new().name(name.into());
    let cannot_start = |e| Error::io("start a thread for", &config.folder)(e);
    let (fed, streamed) = std::thread::scope(|scope| {
        // The threads must notice the end in any case.
        let _ending = CloseOnDrop(&queue);
        let feeder = start("tl-arrivals").spawn_scoped(scope, || {
            let _ending = CloseOnDrop(&queue);
            feed(arrivals, config, &queue, progress)
        });
        let renewer = start("tl-model").spawn_scoped(scope, || {
            let goes_on = || !queue.is_closed() && !progress.cancel().is_cancelled();
            model.follow_file(&goes_on, progress);
        });
        let what = Stream {
            root: &config.folder,
            pictures: &queue,
            params: &config.pipeline,
            progress,
            view: None,
            version: Some(model.version()),
        };
        let streamed = match (&feeder, renewer) {
            (Ok(_), Ok(_)) => stream(&what, || model.session(), |outcome| desk.take(outcome)),
            (Ok(_), Err(e)) => Err(cannot_start(e)),
            (Err(_), _) => Ok(()),
        };
        queue.close();
        let fed = match feeder {
            Ok(feeder) => feeder.join().unwrap_or_else(|_| {
                Err(Error::Dataset {
                    path: config.folder.clone(),
                    problem: "the thread that watches it panicked; please report this bug".into(),
                })
            }),
            Err(e) => Err(cannot_start(e)),
        };
        (fed, streamed)
    });
    let told = desk.tell_of_model(u64::MAX);
    desk.runner.finish();
    match streamed.and(fed).and(told) {
        Ok(()) | Err(Error::Cancelled) => Ok(WatchReport {
            dropped: queue.dropped(),
            ..desk.report
        }),
        Err(error) => Err(error),
    }
}

/// Queues arriving files, until the queue is closed or a stop is requested.
fn feed(
    mut arrivals: Arrivals,
    config: &WatchConfig,
    queue: &DropOldestQueue,
    progress: &Progress,
) -> Result<()> {
    let mut warned: Option<Instant> = None;
    let mut may_warn = || {
        let may = warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if may {
            warned = Some(Instant::now());
        }
        may
    };
    while !queue.is_closed() && !progress.cancel().is_cancelled() {
        let arrived = arrivals.wait(TICK)?;
        let folder = shown(&config.folder);
        match arrived.folder {
            FolderNews::None => {}
            FolderNews::Gone => progress.warn(format!(
                "the folder {folder} was removed or renamed; waiting for it to return"
            )),
            FolderNews::MadeAnew => progress.warn(format!(
                "the folder {folder} was recreated; watching the new one"
            )),
        }
        if let Some(found) = arrived.listed {
            progress.warn(format!(
                "event queue overflowed: some events were missed; found {} by listing the folder",
                grouped(found as u64)
            ));
        }
        for name in arrived.names {
            let Some(dropped) = queue.enter(name) else {
                continue;
            };
            if config.delete {
                remove(&config.folder.join(&dropped), progress);
            }
            if may_warn() {
                progress.warn(format!(
                    "images arrive faster than they are classified: {} dropped so far",
                    queue.dropped()
                ));
            }
        }
    }
    Ok(())
}

fn remove(path: &Path, progress: &Progress) {
    match fs::remove_file(path) {
        // The file may have been removed or overwritten.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            progress.warn(format!(
                "cannot delete {}: {}",
                shown(path),
                system_error(&error)
            ));
        }
        _ => {}
    }
}

/// Where results go.
struct Desk<'a, S> {
    config: &'a WatchConfig,
    model: &'a LiveModel<'a>,
    queue: &'a DropOldestQueue,
    runner: TriggerRunner,
    report: WatchReport,
    progress: &'a Progress,
    sink: S,
}

impl<S: FnMut(WatchLine) -> Result<()>> Desk<'_, S> {
    /// Reports replacements of the model's file before the first image of the model `version`.
    fn tell_of_model(&mut self, version: u64) -> Result<()> {
        let mut news = self.model.news(version).into_iter();
        news.try_for_each(|news| (self.sink)(WatchLine::Model(&news)))
    }

    fn take(&mut self, outcome: Outcome) -> Result<()> {
        self.tell_of_model(outcome.version)?;
        let labels = self.model.labels(outcome.version);
        let path = self.config.folder.join(&outcome.path);
        let values = outcome.values.map(|(_, values)| values);
        let fired: Vec<&Trigger> = match &values {
            Ok(values) => {
                self.report.classified += 1;
                let triggers = self.config.triggers.iter();
                triggers.filter(|t| t.fires(&labels, values)).collect()
            }
            Err(_) => {
                self.report.unusable += 1;
                Vec::new()
            }
        };
        let record = WatchRecord {
            time: SystemTime::now(),
            path,
            triggers: fired.iter().map(|t| t.to_string()).collect(),
            values,
            decode: outcome.decode,
            infer: outcome.infer,
            dropped: self.queue.dropped(),
        };
        (self.sink)(WatchLine::Picture(&labels, &record))?;
        let done = self.report.classified + self.report.unusable;
        self.progress.emit(Event::ImageDone {
            worker: outcome.worker,
            path: outcome.path,
            done,
            total: done,
            decode_us: outcome.decode.as_micros() as u64,
            infer_us: outcome.infer.as_micros() as u64,
            write_us: 0,
        });
        self.settle(&record, &labels, fired.first().copied())
    }

    /// Runs the command if a trigger fired, and removes the image if requested: after the command, which may need it.
    fn settle(
        &mut self,
        record: &WatchRecord,
        labels: &[String],
        fired: Option<&Trigger>,
    ) -> Result<()> {
        let path = &record.path;
        if let (Some(trigger), Ok(values)) = (fired, &record.values) {
            self.report.triggered += 1;
            let probability = trigger.probability(labels, values).unwrap_or(0.0);
            let task = trigger.task(path, probability, self.config.delete);
            match self.runner.run(task) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(()) => self
                    .progress
                    .warn("the --run command takes too long: skipped it for an image"),
            }
        }
        if self.config.delete {
            remove(path, self.progress);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::DEFAULT_MODEL;

    #[test]
    fn a_sink_that_panics_ends_the_watch_with_a_sentence() {
        let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny/fish");
        let config = WatchConfig {
            folder: photos,
            model: DEFAULT_MODEL.into(),
            existing: true,
            delete: false,
            queue: 1,
            triggers: Vec::new(),
            run: None,
            pipeline: PipelineParams::default(),
        };
        let sink = |_: WatchLine| -> Result<()> { panic!("the clock is wrong") };
        let error = watch(&config, &Progress::silent(), sink).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("panicked while handling a result"), "{said}");
    }
}
