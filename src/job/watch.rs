//! Pictures classified as they arrive in a folder, for as long as the program runs.
//!
//! ```text
//! folder ─► Arrivals ─► WaitingRoom (bounded, the oldest goes) ─► stream ─► sink, Trigger ─► file removed
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::trigger::{Trigger, TriggerRunner};
use super::uses;
use super::waiting_room::WaitingRoom;
use crate::backbone::{Classifier, PictureSession};
use crate::dataset::Arrivals;
use crate::error::{Error, Result, in_range, shown};
use crate::features::{Outcome, PipelineParams, Stream, stream};
use crate::progress::{Event, Phase, Progress};
use crate::saved_model::SavedModel;

/// How often it is looked whether the watch is to end.
const TICK: Duration = Duration::from_millis(200);

/// Least time between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Most pictures that may wait.
const MOST_WAITING: usize = 100_000;

/// Configuration of [`watch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WatchConfig {
    /// The folder in which pictures arrive.
    pub folder: PathBuf,
    /// A saved model's file, or the name of a base with a classifier.
    pub model: PathBuf,
    /// Take the pictures that are there already first.
    #[serde(default)]
    pub existing: bool,
    /// Remove each picture when it is done with, classified or not.
    #[serde(default)]
    pub delete: bool,
    /// Pictures that may wait, 1 to 100,000; when there are more, the oldest is dropped.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// When [`run`](Self::run) is run.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// The shell command that a trigger runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How the pipeline runs.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

fn default_queue() -> usize {
    64
}

/// What was found on one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// When it was classified.
    pub time: SystemTime,
    /// The picture, below the folder as it was given.
    pub path: PathBuf,
    /// One probability for each class, or why there is none.
    pub values: std::result::Result<Vec<f32>, String>,
    /// Time to read, decode, resize and normalise.
    pub decode: Duration,
    /// Time in the network.
    pub infer: Duration,
    /// The triggers that it set off, as they were given.
    pub triggers: Vec<String>,
    /// Pictures dropped since the watch began.
    pub dropped: u64,
}

/// What a watch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// Pictures that were classified.
    pub classified: u64,
    /// Files that could not be used.
    pub unusable: u64,
    /// Pictures dropped because too many waited.
    pub dropped: u64,
    /// Times that a trigger was set off.
    pub triggered: u64,
}

/// Whoever classifies.
enum Model {
    Saved(Box<SavedModel>),
    Classifier(Box<Classifier>),
}

impl Model {
    fn open(model: &Path) -> Result<Model> {
        let is_name = model.components().count() == 1 && model.extension().is_none();
        match model.to_str().filter(|_| is_name && !model.exists()) {
            Some(name) => Classifier::open(name, None).map(|c| Model::Classifier(Box::new(c))),
            None => SavedModel::open(model).map(|m| Model::Saved(Box::new(m))),
        }
    }

    /// Says what is used of it.
    fn tell(&self, progress: &Progress) {
        match self {
            Model::Saved(model) => progress.info_once(uses::of_saved(model.record())),
            Model::Classifier(classifier) => uses::tell_classifier(classifier, progress),
        }
    }

    fn labels(&self) -> &[String] {
        match self {
            Model::Saved(model) => model.classes(),
            Model::Classifier(classifier) => classifier.labels(),
        }
    }

    fn session(&self) -> Result<PictureSession> {
        match self {
            Model::Saved(model) => model.session(),
            Model::Classifier(classifier) => classifier.session(),
        }
    }
}

/// Classifies pictures as they arrive in a folder, until a stop is asked for, and hands each to `sink`, with the
/// class names, in the order in which they are done. Memory does not grow: pictures that come faster than they
/// are classified are dropped, the oldest first, and counted.
///
/// # Errors
/// Those of [`SavedModel::open`], [`Classifier::open`] and [`Arrivals`]; [`Error::Parameter`]; the first error of
/// `sink`. A stop is no error here.
pub fn watch(
    config: &WatchConfig,
    progress: &Progress,
    sink: impl FnMut(&[String], &Sighting) -> Result<()>,
) -> Result<WatchReport> {
    in_range("queue", config.queue, 1..=MOST_WAITING)?;
    config.pipeline.check()?;
    let model = Model::open(&config.model)?;
    model.tell(progress);
    for trigger in &config.triggers {
        trigger.check(model.labels())?;
    }
    let arrivals = Arrivals::watch(&config.folder)?;
    let existing = match config.existing {
        true => arrivals.present()?,
        false => Vec::new(),
    };
    progress.phase(Phase::Watch, None);
    progress.info(format!("watching {}", shown(&config.folder)));
    let waiting = WaitingRoom::new(config.queue, existing);
    let mut desk = Desk {
        config,
        labels: model.labels(),
        waiting: &waiting,
        runner: TriggerRunner::start(config.run.as_deref(), progress.clone())?,
        report: WatchReport::default(),
        progress,
        sink,
    };
    let (fed, streamed) = std::thread::scope(|scope| {
        let feeder = std::thread::Builder::new()
            .name("tl-arrivals".into())
            .spawn_scoped(scope, || {
                let fed = feed(arrivals, config, &waiting, progress);
                waiting.close();
                fed
            });
        let what = Stream {
            root: &config.folder,
            pictures: &waiting,
            params: &config.pipeline,
            progress,
            view: None,
        };
        let streamed = match &feeder {
            Ok(_) => stream(&what, || model.session(), |outcome| desk.take(outcome)),
            Err(_) => Ok(()),
        };
        waiting.close();
        let fed = match feeder {
            Ok(feeder) => feeder.join().unwrap_or(Ok(())),
            Err(e) => Err(Error::io("start a thread for", &config.folder)(e)),
        };
        (fed, streamed)
    });
    desk.runner.finish();
    match streamed.and(fed) {
        Ok(()) | Err(Error::Cancelled) => Ok(WatchReport {
            dropped: waiting.dropped(),
            ..desk.report
        }),
        Err(error) => Err(error),
    }
}

/// Brings arriving files to the waiting room, until it is closed or a stop is asked for.
fn feed(
    mut arrivals: Arrivals,
    config: &WatchConfig,
    waiting: &WaitingRoom,
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
    while !waiting.is_closed() && !progress.cancel().is_cancelled() {
        let mut arrived = arrivals.wait(TICK)?;
        if arrived.lost {
            progress.warn("more files came at once than the system could tell of");
            if config.delete {
                // What is left there was not seen, or is waiting.
                arrived.names = arrivals.present()?;
            }
        }
        for name in arrived.names {
            let Some(dropped) = waiting.enter(name) else {
                continue;
            };
            if config.delete {
                remove(&config.folder.join(&dropped), progress);
            }
            if may_warn() {
                progress.warn(format!(
                    "pictures come faster than they are classified: {} dropped so far",
                    waiting.dropped()
                ));
            }
        }
    }
    Ok(())
}

fn remove(path: &Path, progress: &Progress) {
    match fs::remove_file(path) {
        // Whoever put it there may have taken it away, or written over it.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            progress.warn(format!("{} cannot be removed: {error}", shown(path)));
        }
        _ => {}
    }
}

/// Where results go.
struct Desk<'a, S> {
    config: &'a WatchConfig,
    labels: &'a [String],
    waiting: &'a WaitingRoom,
    runner: TriggerRunner,
    report: WatchReport,
    progress: &'a Progress,
    sink: S,
}

impl<S: FnMut(&[String], &Sighting) -> Result<()>> Desk<'_, S> {
    fn take(&mut self, outcome: Outcome) -> Result<()> {
        let path = self.config.folder.join(&outcome.path);
        let values = outcome.values.map(|(_, values)| values);
        let fired: Vec<&Trigger> = match &values {
            Ok(values) => {
                self.report.classified += 1;
                let triggers = self.config.triggers.iter();
                triggers.filter(|t| t.fires(self.labels, values)).collect()
            }
            Err(_) => {
                self.report.unusable += 1;
                Vec::new()
            }
        };
        let sighting = Sighting {
            time: SystemTime::now(),
            path,
            triggers: fired.iter().map(|t| t.to_string()).collect(),
            values,
            decode: outcome.decode,
            infer: outcome.infer,
            dropped: self.waiting.dropped(),
        };
        (self.sink)(self.labels, &sighting)?;
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
        self.settle(&sighting, fired.first().copied())
    }

    /// Runs the command if a trigger was set off, and removes the picture if that is asked for: after the
    /// command, which may want to look at it.
    fn settle(&mut self, sighting: &Sighting, fired: Option<&Trigger>) -> Result<()> {
        let path = &sighting.path;
        if let (Some(trigger), Ok(values)) = (fired, &sighting.values) {
            self.report.triggered += 1;
            let probability = trigger.probability(self.labels, values).unwrap_or(0.0);
            let task = trigger.task(path, probability, self.config.delete);
            match self.runner.run(task) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(()) => self
                    .progress
                    .warn("the command of --run takes too long: it was left out for a picture"),
            }
        }
        if self.config.delete {
            remove(path, self.progress);
        }
        Ok(())
    }
}
