//! The threads that carry out commands: jobs, queries, images, and the events of an attached run. They report back
//! only through the channel of events.
//!
//! ```text
//! Command ─► Workers ─┬─ tl-job       fit, verify, evaluate      ─┐
//!                     ├─ tl-queries   folders, backbones, layers │
//!                     ├─ tl-audit     scan and check a dataset   ├─► Event
//!                     ├─ tl-label     classify one image         │
//!                     ├─ tl-pictures  images for the terminal    │
//!                     └─ tl-follow    events of an attached run ─┘
//! ```

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use ratatui_image::picker::Picker;

use super::event::{Answer, Command, Event, Folder, FolderEntry, PictureKey};
use super::pictures::serve_pictures;
use crate::backbone::{BackboneParams, known_models};
use crate::error::{Error, Result};
use crate::foreign::system_error;
use crate::job::{
    EventTail, FinetuneConfig, FitConfig, JobInfo, JobKind, Labeller, Recipe, audit, best,
    evaluate, finetune, fit, layers, overview, run_job, verify,
};
use crate::progress::{self, Cancel, Pause, Progress};

/// Capacity of the queues of queries; a user cannot fill them.
const QUESTIONS: usize = 64;

/// Number of classes to list for an image.
const TOP: usize = 8;

/// Images whose shorter side has fewer pixels than this are reported as small.
const LEAST_SIDE: u32 = 32;

/// Maximum number of entries to look at when describing a folder.
const LOOKED_AT: usize = 2_000;

/// Interval between two looks at the events of an attached run.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

type JobBody = Box<dyn FnOnce(&Progress) -> Result<()> + Send>;

/// All threads of the dashboard except the main one.
pub struct Workers {
    events: Sender<Event>,
    queries: Sender<Command>,
    label: Sender<(Option<PathBuf>, PathBuf)>,
    pictures: Sender<Vec<PictureKey>>,
    audit: Cancel,
    job: Option<Job>,
}

struct Job {
    cancel: Cancel,
    pause: Pause,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads that wait for queries; `picker` prepares images for the terminal.
    ///
    /// # Errors
    /// [`Error::Io`] if a thread cannot be started.
    pub fn start(events: Sender<Event>, picker: Picker) -> Result<Workers> {
        let (queries, questions) = bounded(QUESTIONS);
        let to = events.clone();
        spawn("tl-queries", move || serve_queries(&questions, &to))?;
        let (label, asked) = bounded(QUESTIONS);
        let to = events.clone();
        spawn("tl-label", move || serve_labels(&asked, &to))?;
        let (pictures, wanted) = bounded(QUESTIONS);
        let to = events.clone();
        spawn("tl-pictures", move || serve_pictures(&wanted, &to, &picker))?;
        Ok(Workers {
            events,
            queries,
            label,
            pictures,
            audit: Cancel::default(),
            job: None,
        })
    }

    /// Follows the events of another program's run in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] if the thread cannot be started.
    pub fn follow(&self, dir: &Path) -> Result<()> {
        let to = self.events.clone();
        let mut tail = EventTail::new(dir);
        spawn("tl-follow", move || {
            let mut caught_up = false;
            let mut is_running = false;
            loop {
                // Check this before reading the last lines, so that none is missed.
                let is_left = tail.is_left();
                let mut events = match tail.poll() {
                    Ok(events) => events,
                    Err(error) => {
                        let _ = to.send(Event::Answer(Answer::Refused(error.to_string())));
                        return;
                    }
                };
                let is_end = events.is_empty();
                if is_end && is_left && is_running {
                    let resume =
                        "its process has ended; run the same command again to resume".to_owned();
                    events.push(progress::Event::Cancelled { resume });
                }
                for event in events {
                    is_running = !event.is_end();
                    if to.send(Event::Job(event)).is_err() {
                        return;
                    }
                }
                if is_end && !caught_up {
                    caught_up = true;
                    let _ = to.send(Event::Answer(Answer::CaughtUp));
                }
                if is_end {
                    std::thread::sleep(FOLLOW_INTERVAL);
                }
            }
        })
        .map(drop)
    }

    /// Carries out a command, except [`Command::Quit`], which the main loop handles.
    ///
    /// # Errors
    /// [`Error::Io`] if a thread cannot be started.
    pub fn run(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Fit(config) => self.fit(*config)?,
            Command::Verify(config) => {
                let info = JobInfo::new(JobKind::Verify, &config);
                self.start_job(info, Box::new(move |p| verify(&config, p).map(drop)))?;
            }
            Command::Evaluate(config) => {
                let info = JobInfo::new(JobKind::Evaluate, &config);
                self.start_job(info, Box::new(move |p| evaluate(&config, p).map(drop)))?;
            }
            Command::Pause(paused) => {
                if let Some(job) = &self.job {
                    job.pause.set(paused);
                }
            }
            Command::Cancel => {
                if let Some(job) = &self.job {
                    job.cancel.cancel();
                }
            }
            Command::Overview(config) => self.overview(*config)?,
            Command::Label(model, path) => {
                let _ = self.label.try_send((model, path));
            }
            Command::Pictures(keys) => {
                let _ = self.pictures.try_send(keys);
            }
            command => {
                let _ = self.queries.try_send(command);
            }
        }
        Ok(())
    }

    fn fit(&mut self, config: FitConfig) -> Result<()> {
        if config.output.exists() && !config.force {
            let free = free_name(&config.output);
            // This thread also reads the channel, so it must not wait for space in it.
            let _ = self
                .events
                .try_send(Event::Answer(Answer::OutputExists(free)));
            return Ok(());
        }
        if config.recipe == Recipe::Finetune {
            return match FinetuneConfig::of_recipe(&config) {
                Ok(config) => {
                    let info = config.job_info();
                    self.start_job(info, Box::new(move |p| finetune(&config, p).map(drop)))
                }
                Err(error) => {
                    let refused = Answer::Refused(error.to_string());
                    let _ = self.events.try_send(Event::Answer(refused));
                    Ok(())
                }
            };
        }
        let info = config.job_info();
        if config.recipe == Recipe::Best {
            return self.start_job(info, Box::new(move |p| best(&config, p).map(drop)));
        }
        self.start_job(info, Box::new(move |p| fit(&config, p).map(drop)))
    }

    fn start_job(&mut self, info: JobInfo, body: JobBody) -> Result<()> {
        if let Some(job) = self.job.take() {
            // The job has reported its end; its threads are about to return.
            job.join();
        }
        let (progress, events) = Progress::channel();
        let (cancel, pause) = (progress.cancel().clone(), progress.pause().clone());
        let to = self.events.clone();
        let forward = spawn("tl-events", move || {
            for event in events {
                if to.send(Event::Job(event)).is_err() {
                    break;
                }
            }
        })?;
        let work = spawn("tl-job", move || {
            let run = || run_job(&info, &progress, body);
            // The job reports its own error as its last event.
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                progress.emit(progress::Event::Failed {
                    message: "the job panicked; this is a bug, please report it".into(),
                    exit_code: 1,
                });
            }
        })?;
        self.job = Some(Job {
            cancel,
            pause,
            threads: vec![work, forward],
        });
        Ok(())
    }

    fn overview(&mut self, config: FitConfig) -> Result<()> {
        self.audit.cancel();
        self.audit = Cancel::default();
        let cancel = self.audit.clone();
        let to = self.events.clone();
        let send = move |answer| to.send(Event::Answer(answer)).is_ok();
        spawn("tl-audit", move || {
            let found = match overview(&config) {
                Ok(found) => Arc::new(found),
                Err(error) => {
                    send(Answer::Overview(Err(error.to_string())));
                    return;
                }
            };
            if cancel.is_cancelled() {
                return;
            }
            send(Answer::Overview(Ok(found.clone())));
            audit(&found, LEAST_SIDE, &cancel, |finding| {
                send(Answer::Finding(finding));
            });
            if !cancel.is_cancelled() {
                send(Answer::Audited);
            }
        })
        .map(drop)
    }

    /// Stops the job and waits for it, draining its last events from `inbox`.
    pub fn finish(&mut self, inbox: &Receiver<Event>) {
        self.audit.cancel();
        let Some(job) = self.job.take() else {
            return;
        };
        job.cancel.cancel();
        while job.threads.iter().any(|thread| !thread.is_finished()) {
            let _ = inbox.recv_timeout(Duration::from_millis(20));
        }
        job.join();
    }
}

impl Job {
    fn join(self) {
        for thread in self.threads {
            // A thread that panicked has closed its channel.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(Error::io("start", name))
}

/// `photos.onnx` → `photos-2.onnx`, or the next free number.
fn free_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let base = match stem.rsplit_once('-') {
        Some((base, number)) if number.parse::<u32>().is_ok() => base.to_owned(),
        _ => stem.into_owned(),
    };
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    (2..u32::MAX)
        .map(|n| path.with_file_name(format!("{base}-{n}.{extension}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| path.to_owned())
}

fn serve_queries(questions: &Receiver<Command>, to: &Sender<Event>) {
    for question in questions {
        let answer = match question {
            Command::ListFolder(path) => Answer::Folder(list_folder(&path)),
            Command::ListBackbones => Answer::Backbones(known_models(&mut Vec::new())),
            Command::Layers(params) => list_layers(params),
            _ => continue,
        };
        if to.send(Event::Answer(answer)).is_err() {
            return;
        }
    }
}

fn list_layers(params: BackboneParams) -> Answer {
    let found = layers(&params)
        .map(Arc::new)
        .map_err(|error| error.to_string());
    Answer::Layers(params, found)
}

fn list_folder(path: &Path) -> Folder {
    let fail = |error: std::io::Error, path: PathBuf| Folder {
        problem: Some(format!("cannot read this folder: {}", system_error(&error))),
        path,
        ..Folder::default()
    };
    let path = match std::path::absolute(path) {
        Ok(path) => path,
        Err(error) => return fail(error, path.to_owned()),
    };
    let listing = match fs::read_dir(&path) {
        Ok(listing) => listing,
        Err(error) => return fail(error, path),
    };
    let mut names: Vec<String> = listing
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_by_key(|name| name.to_lowercase());
    let entries = names
        .into_iter()
        .map(|name| describe_folder(&path.join(&name), name))
        .collect();
    Folder {
        path,
        entries,
        problem: None,
    }
}

/// Counts the images in a folder and its subfolders, up to a limit.
fn describe_folder(path: &Path, name: String) -> FolderEntry {
    let mut looked_at = 0;
    let mut count = |dir: &Path, folders: Option<&mut Vec<PathBuf>>| {
        let mut pictures = 0;
        let mut inside = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > LOOKED_AT {
                break;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => inside.push(entry.path()),
                Ok(_) if is_picture(&entry.path()) => pictures += 1,
                _ => {}
            }
        }
        if let Some(folders) = folders {
            *folders = inside;
        }
        pictures
    };
    let mut folders = Vec::new();
    let mut pictures = count(path, Some(&mut folders));
    let mut classes = 0;
    for folder in folders {
        let found = count(&folder, None);
        classes += usize::from(found > 0);
        pictures += found;
    }
    FolderEntry {
        name,
        classes,
        pictures,
    }
}

/// Whether a file has the name of an image: good enough for a list of folders.
fn is_picture(path: &Path) -> bool {
    image::ImageFormat::from_path(path).is_ok()
}

fn serve_labels(asked: &Receiver<(Option<PathBuf>, PathBuf)>, to: &Sender<Event>) {
    let mut labeller = Labeller::default();
    while let Ok(first) = asked.recv() {
        // While the user scrolls, only the last image matters.
        let (model, path) = asked.try_iter().last().unwrap_or(first);
        let model = model.filter(|path| path.is_file());
        let labels = labeller
            .label(model.as_deref(), &path, TOP)
            .map_err(|error| error.to_string());
        if to
            .send(Event::Answer(Answer::Labels(path, labels)))
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_has_the_next_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        assert_eq!(free_name(&file("a.onnx")), file("a-2.onnx"));
        fs::write(file("a-2.onnx"), "").unwrap();
        assert_eq!(free_name(&file("a.onnx")), file("a-3.onnx"));
        assert_eq!(free_name(&file("a-2.onnx")), file("a-3.onnx"));
        assert_eq!(free_name(&file("my-photos.onnx")), file("my-photos-2.onnx"));
    }

    #[test]
    fn a_folder_of_class_folders_is_told_from_others() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
        let folder = list_folder(&root);
        let entry = |name: &str| folder.entries.iter().find(|e| e.name == name).unwrap();
        assert_eq!((entry("tiny").classes, entry("tiny").pictures), (3, 24));
        assert_eq!((entry("single").classes, entry("single").pictures), (0, 1));
        assert!(list_folder(&root.join("nowhere")).problem.is_some());
    }
}
