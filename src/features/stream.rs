//! Many pictures through one network: bounded, in parallel, each worker with a session of its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use super::matrix::Dtype;
use super::memory;
use super::reader::Reader;
use super::store::SourceFacts;
use super::view::View;
use crate::backbone::{PictureSession, gigabytes};
use crate::error::{Error, Result, shown};
use crate::pixels::DecodeLimits;
use crate::progress::{Event, Progress};

/// Outcomes that may wait for their reader, for each worker: with rows of 1,280 values, 20 kB.
const OUTCOMES_PER_WORKER: usize = 4;

/// Pictures that are odd but can be used, and of which a run tells by name; the others are counted.
const TOLD_OF_ODD: usize = 20;

/// How features are extracted and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PipelineParams {
    /// Pictures in work at the same time; 0 means one a core.
    pub workers: usize,
    /// Type of the stored values.
    pub dtype: Dtype,
    /// Put the features of several cuts into one array, side by side, rather than each into its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concat: bool,
    /// Stop at the first picture that cannot be used, rather than skip it.
    pub strict: bool,
    /// Pictures with more pixels than this are skipped, in millions.
    pub max_megapixels: u32,
    /// Pictures that take longer than this to read and decode are skipped, in seconds, at least 1.
    pub max_seconds: u32,
    /// Most memory that the program may take, in bytes: by fewer workers, and by pictures that are skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

impl Default for PipelineParams {
    fn default() -> Self {
        PipelineParams {
            workers: 0,
            dtype: Dtype::F32,
            concat: false,
            strict: false,
            max_megapixels: 100,
            max_seconds: 60,
            memory: None,
        }
    }
}

impl PipelineParams {
    /// The number of workers, with 0 turned into the number of cores.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    /// What a picture may cost to decode.
    pub fn limits(&self) -> DecodeLimits {
        DecodeLimits::of_pixels(u64::from(self.max_megapixels) * 1_000_000)
    }
}

/// Where the pictures of a stream come from.
pub(crate) trait Supply: Sync {
    /// How many there will be; none if nobody knows.
    fn count(&self) -> Option<usize>;

    /// The next picture and its place among all; none if there will be no more, or if `goes_on` says no while
    /// one is waited for.
    fn next(&self, goes_on: &dyn Fn() -> bool) -> Option<(usize, PathBuf)>;
}

/// Pictures that are known before the stream begins.
pub(crate) struct Listed<'a> {
    paths: &'a [&'a Path],
    next: AtomicUsize,
}

impl<'a> Listed<'a> {
    pub fn new(paths: &'a [&'a Path]) -> Listed<'a> {
        Listed {
            paths,
            next: AtomicUsize::new(0),
        }
    }
}

impl Supply for Listed<'_> {
    fn count(&self) -> Option<usize> {
        Some(self.paths.len())
    }

    fn next(&self, _goes_on: &dyn Fn() -> bool) -> Option<(usize, PathBuf)> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        Some((place, self.paths.get(place)?.to_path_buf()))
    }
}

/// What is to be run.
pub(crate) struct Stream<'a> {
    /// Folder to which the pictures' paths are relative.
    pub root: &'a Path,
    /// The pictures.
    pub pictures: &'a dyn Supply,
    /// Workers, limits, strictness.
    pub params: &'a PipelineParams,
    /// Where [`Event::ImageStarted`] goes and a stop comes from.
    pub progress: &'a Progress,
    /// The augmented view that is run in a picture's place.
    pub view: Option<&'a View>,
}

/// What became of one picture.
pub(crate) struct Outcome {
    /// Its place in [`Stream::pictures`].
    pub place: usize,
    /// The picture, relative to [`Stream::root`].
    pub path: PathBuf,
    /// The worker that had it.
    pub worker: usize,
    /// Its facts and the network's first output, row-major; or why there is none.
    pub values: std::result::Result<(SourceFacts, Vec<f32>), String>,
    /// Time to read, decode, resize and normalise.
    pub decode: Duration,
    /// Time in the network.
    pub infer: Duration,
}

/// Runs all pictures and hands each outcome to `sink`, in the order in which they are done.
///
/// Memory is bounded: one picture and one input tensor a worker, and [`OUTCOMES_PER_WORKER`].
///
/// # Errors
/// The first error of `sink` or of a session; [`Error::Image`] for a bad picture if the parameters are
/// strict; [`Error::Cancelled`] if a stop was asked for. What was handed to `sink` before stays handed.
pub(crate) fn stream(
    what: &Stream,
    open_session: impl Fn() -> Result<PictureSession> + Sync,
    mut sink: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let most = what.pictures.count().unwrap_or(usize::MAX);
    let (mut workers, mut limits) = (what.params.worker_count().min(most), what.params.limits());
    let each = open_session()?.run_bytes();
    let with_room = memory::with_room(each, workers, what.params.workers != 0)?;
    if with_room < workers {
        what.progress.warn(format!(
            "{with_room} of {workers} workers: one takes {} of memory, and more are not free",
            gigabytes(each)
        ));
        workers = with_room;
    }
    if let Some(memory) = what.params.memory {
        (workers, limits) = memory::share(memory, workers, limits, &open_session)?;
    }
    let stop = AtomicBool::new(false);
    let odd = AtomicUsize::new(0);
    let (sender, receiver) = bounded(workers * OUTCOMES_PER_WORKER);
    let work = |worker: usize, sender: Sender<Outcome>| -> Result<()> {
        let mut session = open_session()?;
        let time_limit = Duration::from_secs(u64::from(what.params.max_seconds.max(1)));
        let mut reader = Reader::new(limits.clone(), session.rendering(), time_limit)?;
        let goes_on = || !stop.load(Ordering::Relaxed) && !what.progress.cancel().is_cancelled();
        while !stop.load(Ordering::Relaxed) {
            let Some((place, path)) = what.pictures.next(&goes_on) else {
                break;
            };
            what.progress.checkpoint()?;
            what.progress.emit(Event::ImageStarted {
                worker,
                path: path.clone(),
            });
            let outcome = run_one(&mut session, &mut reader, what, (place, path), worker, &odd)?;
            if sender.send(outcome).is_err() {
                break;
            }
        }
        Ok(())
    };
    let result = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for worker in 0..workers {
            let sender = sender.clone();
            let work = &work;
            let stop = &stop;
            let handle = std::thread::Builder::new()
                .name(format!("tl-worker-{worker}"))
                .spawn_scoped(scope, move || {
                    let ended = work(worker, sender);
                    if ended.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    ended
                });
            handles.push(handle.map_err(Error::io("start a worker for", what.root))?);
        }
        drop(sender);
        let mut result = receiver.iter().try_for_each(&mut sink);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        // A worker that waits to send must see that nobody receives any more.
        drop(receiver);
        for handle in handles {
            let ended = handle.join().unwrap_or_else(|_| {
                Err(Error::Model {
                    model: shown(what.root).to_string(),
                    problem: "a worker died; this is a fault of the program".into(),
                })
            });
            result = result.and(ended);
        }
        result
    });
    let untold = odd.into_inner().saturating_sub(TOLD_OF_ODD);
    if untold > 0 {
        what.progress
            .warn(format!("{untold} more pictures are odd, but were used"));
    }
    result
}

/// Takes one picture through all steps. A bad picture is an outcome, unless the parameters are strict.
fn run_one(
    session: &mut PictureSession,
    reader: &mut Reader,
    what: &Stream,
    (place, name): (usize, PathBuf),
    worker: usize,
    odd: &AtomicUsize,
) -> Result<Outcome> {
    let path = what.root.join(&name);
    let started = Instant::now();
    let prepared = reader.read(&path).and_then(|(picture, facts)| {
        for warning in &picture.warnings {
            if odd.fetch_add(1, Ordering::Relaxed) < TOLD_OF_ODD {
                what.progress.warn(format!("{} {warning}", shown(&name)));
            }
        }
        match what.view {
            None => session.prepare(&picture)?,
            Some(view) => {
                let seed = view.seed_of(&name);
                session.prepare_view(&picture, &view.augment, seed)?;
            }
        }
        Ok(facts)
    });
    let decode = started.elapsed();
    let inferred = prepared.and_then(|facts| {
        let values = session.infer()?;
        if values.iter().all(|v| v.is_finite()) {
            return Ok((facts, values.to_vec()));
        }
        Err(Error::Image {
            path: path.clone(),
            reason: "gives features that are not finite numbers".into(),
        })
    });
    let values = match inferred {
        Ok(values) => Ok(values),
        Err(Error::Image { reason, .. }) if !what.params.strict => Err(reason),
        Err(error) => return Err(error),
    };
    Ok(Outcome {
        place,
        path: name,
        worker,
        values,
        decode,
        infer: started.elapsed().saturating_sub(decode),
    })
}
