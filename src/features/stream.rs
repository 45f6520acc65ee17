//! Runs many images through one network: in parallel, with bounded memory and one session per worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use super::matrix::Dtype;
use super::memory;
use super::reader::Reader;
use super::store::SourceFacts;
use super::view::View;
use crate::backbone::{PictureSession, gigabytes};
use crate::counts::count;
use crate::error::{Error, Result, in_range, shown};
use crate::pixels::DecodeLimits;
use crate::progress::{Event, Progress};

/// Number of outcomes per worker that may wait for their reader: with rows of 1,280 values, 20 kB.
const OUTCOMES_PER_WORKER: usize = 4;

/// Number of usable images with warnings that a run names; the others are counted.
const TOLD_OF_ODD: usize = 20;

/// Maximum number of workers: more than any machine has cores.
pub(crate) const MOST_WORKERS: usize = 1024;

/// Most that an image may be allowed to have, in millions of pixels.
const MOST_MEGAPIXELS: usize = 10_000;

/// How features are extracted and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PipelineParams {
    /// Images in progress at the same time, at most 1,024; 0 means one per core.
    pub workers: usize,
    /// Type of the stored values.
    pub dtype: Dtype,
    /// Concatenate the features of several cuts into one array instead of one array each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concat: bool,
    /// Stop at the first unusable image instead of skipping it.
    pub strict: bool,
    /// Go on without images that went away, and without more than a tenth of them.
    pub allow_missing: bool,
    /// Images with more pixels than this are skipped, in millions: 1 to 10,000.
    pub max_megapixels: u32,
    /// Images that take longer than this to read and decode are skipped, in seconds, at least 1.
    pub max_seconds: u32,
    /// Maximum memory that the program may take, in bytes: by fewer workers, and by images that are skipped.
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
            allow_missing: false,
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

    /// Checks the numbers against their ranges.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first that is out of range.
    pub fn check(&self) -> Result<()> {
        in_range("--workers", self.workers, 0..=MOST_WORKERS)?;
        let megapixels = self.max_megapixels as usize;
        in_range("--max-megapixels", megapixels, 1..=MOST_MEGAPIXELS)
    }

    /// Limits for decoding an image.
    pub fn limits(&self) -> DecodeLimits {
        DecodeLimits::of_pixels(u64::from(self.max_megapixels) * 1_000_000)
    }
}

/// Where the images of a stream come from.
pub(crate) trait PictureSource: Sync {
    /// Their number, if known.
    fn count(&self) -> Option<usize>;

    /// The next image and its place among all; `None` if there will be no more, or if `goes_on` says no while
    /// one is waited for.
    fn next(&self, goes_on: &dyn Fn() -> bool) -> Option<(usize, PathBuf)>;
}

/// A fixed list of images.
pub(crate) struct PathList<'a> {
    paths: &'a [&'a Path],
    next: AtomicUsize,
}

impl<'a> PathList<'a> {
    pub fn new(paths: &'a [&'a Path]) -> PathList<'a> {
        PathList {
            paths,
            next: AtomicUsize::new(0),
        }
    }
}

impl PictureSource for PathList<'_> {
    fn count(&self) -> Option<usize> {
        Some(self.paths.len())
    }

    fn next(&self, _goes_on: &dyn Fn() -> bool) -> Option<(usize, PathBuf)> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        Some((place, self.paths.get(place)?.to_path_buf()))
    }
}

/// The work to do.
pub(crate) struct Stream<'a> {
    /// Folder to which the images' paths are relative.
    pub root: &'a Path,
    /// The images.
    pub pictures: &'a dyn PictureSource,
    /// Workers, limits, strictness.
    pub params: &'a PipelineParams,
    /// Where [`Event::ImageStarted`] goes and a stop comes from.
    pub progress: &'a Progress,
    /// The augmented view to run instead of each image.
    pub view: Option<&'a View>,
    /// Number of the network, where it can be replaced while images run: a worker that sees another one opens a
    /// new session for its next image.
    pub version: Option<&'a AtomicU64>,
}

impl Stream<'_> {
    fn version(&self) -> u64 {
        self.version.map_or(0, |v| v.load(Ordering::Acquire))
    }
}

/// The outcome for one image.
pub(crate) struct Outcome {
    /// Its place in [`Stream::pictures`].
    pub place: usize,
    /// The image, relative to [`Stream::root`].
    pub path: PathBuf,
    /// The worker that processed it.
    pub worker: usize,
    /// The number of the network that it went through, see [`Stream::version`].
    pub version: u64,
    /// Its facts and the network's first output, row-major; or why there is none.
    pub values: std::result::Result<(SourceFacts, Vec<f32>), String>,
    /// Time to read, decode, resize and normalise.
    pub decode: Duration,
    /// Time in the network.
    pub infer: Duration,
}

/// Runs all images and passes each outcome to `sink`, in the order in which they are done.
///
/// Memory is bounded: one image and one input tensor per worker, and [`OUTCOMES_PER_WORKER`].
///
/// # Errors
/// The first error of `sink` or of a session, a panic included; [`Error::Image`] for a bad image if the parameters are
/// strict; [`Error::Cancelled`] if a stop was requested. What was handed to `sink` before stays handed.
pub(crate) fn stream(
    what: &Stream,
    open_session: impl Fn() -> Result<PictureSession> + Sync,
    mut sink: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    what.params.check()?;
    let most = what.pictures.count().unwrap_or(usize::MAX);
    let (mut workers, mut limits) = (what.params.worker_count().min(most), what.params.limits());
    let asked = workers;
    let each = open_session()?.run_bytes();
    let with_room = memory::with_room(each, workers, what.params.workers != 0)?;
    if with_room < workers {
        what.progress.warn(format!(
            "running {with_room} of {workers} workers: each needs {} of memory, and there is no more free",
            gigabytes(each)
        ));
        workers = with_room;
    }
    if let Some(memory) = what.params.memory {
        (workers, limits) = memory::share(memory, workers, limits, &open_session)?;
    }
    // With fewer images than cores, cores that have none help with those of others.
    let cores = what.params.worker_count();
    let few = what.pictures.count().is_none_or(|n| n < cores)
        && what.params.memory.is_none()
        && with_room >= asked;
    let busy = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let odd = AtomicUsize::new(0);
    let (sender, receiver) = bounded(workers * OUTCOMES_PER_WORKER);
    let work = |worker: usize, sender: Sender<Outcome>| -> Result<()> {
        let time_limit = Duration::from_secs(u64::from(what.params.max_seconds.max(1)));
        let open = || -> Result<_> {
            loop {
                let version = what.version();
                let session = open_session()?;
                let reader = Reader::new(limits.clone(), session.decode_options(), time_limit)?;
                // Else it was replaced in between, and the session may be of either.
                if what.version() == version {
                    return Ok((version, session, reader));
                }
            }
        };
        let (mut version, mut session, mut reader) = open()?;
        let goes_on = || !stop.load(Ordering::Relaxed) && !what.progress.cancel().is_cancelled();
        while !stop.load(Ordering::Relaxed) {
            let Some((place, path)) = what.pictures.next(&goes_on) else {
                break;
            };
            what.progress.checkpoint()?;
            if what.version() != version {
                (version, session, reader) = open()?;
            }
            what.progress.emit(Event::ImageStarted {
                worker,
                path: path.clone(),
            });
            if few {
                let busy = busy.fetch_add(1, Ordering::Relaxed) + 1;
                session.set_threads((cores / busy).max(1))?;
            }
            let mut outcome =
                run_one(&mut session, &mut reader, what, (place, path), worker, &odd)?;
            if few {
                busy.fetch_sub(1, Ordering::Relaxed);
            }
            outcome.version = version;
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
        // A panic here would wait for the workers, which wait for more images.
        let sunk = catch_unwind(AssertUnwindSafe(|| receiver.iter().try_for_each(&mut sink)));
        let mut result = sunk.unwrap_or_else(|_| Err(died(what.root, "handling a result")));
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        // A worker that waits to send must see that nobody receives any more.
        drop(receiver);
        for handle in handles {
            let ended = handle
                .join()
                .unwrap_or_else(|_| Err(died(what.root, "processing an image")));
            result = result.and(ended);
        }
        result
    });
    let untold = odd.into_inner().saturating_sub(TOLD_OF_ODD);
    if untold > 0 {
        what.progress.warn(format!(
            "{} had warnings but {} used",
            count(untold, "more image"),
            if untold == 1 { "was" } else { "were" }
        ));
    }
    result
}

/// The message for a bug in the program.
fn died(root: &Path, when: &str) -> Error {
    Error::Model {
        model: shown(root).to_string(),
        problem: format!("a worker thread panicked while {when}; please report this bug"),
    }
}

/// Takes one image through all steps. A bad image is an outcome, unless the parameters are strict.
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
        version: 0,
        values,
        decode,
        infer: started.elapsed().saturating_sub(decode),
    })
}
