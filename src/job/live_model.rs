//! The model of a watch, whose file may be replaced while the watch runs.
//!
//! The file is checked regularly. A new one is verified as by `verify` before it is used; if it cannot be used, the old
//! one stays. Each image is processed by one model only, and no image waits for a new one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::trigger::Trigger;
use super::uses;
use crate::backbone::{Classifier, MAX_ONNX_BYTES, PictureSession, hex_sha256};
use crate::disk::read;
use crate::error::{Result, shown};
use crate::progress::Progress;
use crate::saved_model::{SavedModel, fingerprint, verify_bytes};

/// How often the file is checked. One that changes between two checks is still being written.
const LOOK: Duration = Duration::from_millis(500);

/// How often to check for a stop.
const TICK: Duration = Duration::from_millis(100);

/// Number of models whose class names are kept, for images in progress.
const KEPT_LABELS: usize = 4;

/// The outcome of replacing a model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNews {
    /// When.
    pub time: SystemTime,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the model that is used from now on; or why the old one stays.
    pub outcome: std::result::Result<String, String>,
}

enum Model {
    Saved(Box<SavedModel>),
    Classifier(Box<Classifier>),
}

impl Model {
    /// Emits which tensors are used.
    fn tell(&self, progress: &Progress) {
        match self {
            Model::Saved(model) => progress.info_once(uses::of_saved(model.record())),
            Model::Classifier(classifier) => uses::tell_classifier(classifier, progress),
        }
    }

    fn labels(&self) -> Vec<String> {
        match self {
            Model::Saved(model) => model.classes().to_vec(),
            Model::Classifier(classifier) => classifier.labels().to_vec(),
        }
    }

    fn session(&self) -> Result<PictureSession> {
        match self {
            Model::Saved(model) => model.session(),
            Model::Classifier(classifier) => classifier.session(),
        }
    }
}

/// Device, inode, size and times of a file: while they are the same, so is the file.
type Facts = (u64, u64, u64, [i64; 4]);

/// The model that is in use.
pub(super) struct LiveModel<'a> {
    path: &'a Path,
    triggers: &'a [Trigger],
    current: Mutex<Current>,
    version: AtomicU64,
}

struct Current {
    model: Arc<Model>,
    /// Of the file; `None` for a backbone by name.
    sha256: Option<String>,
    /// The file when it was opened.
    facts: Option<Facts>,
    labels: Vec<(u64, Arc<Vec<String>>)>,
    /// With the number of the model that is used from then on, rising.
    news: Vec<(u64, ModelNews)>,
}

impl<'a> LiveModel<'a> {
    /// Opens the saved model `path`, or the backbone of this name.
    ///
    /// # Errors
    /// Those of [`SavedModel::open`] and [`Classifier::open`]; [`crate::Error::Parameter`] if a trigger names a class that it
    /// does not have.
    pub fn open(path: &'a Path, triggers: &'a [Trigger]) -> Result<LiveModel<'a>> {
        let is_name = path.components().count() == 1 && path.extension().is_none();
        let facts = facts_of(path);
        let (model, sha256) = match path.to_str().filter(|_| is_name && !path.exists()) {
            Some(name) => (
                Model::Classifier(Box::new(Classifier::open(name, None)?)),
                None,
            ),
            None => {
                // Read before opening, so that a file swapped in between counts as another.
                let sha256 = fingerprint(path)?.0;
                (
                    Model::Saved(Box::new(SavedModel::open(path)?)),
                    Some(sha256),
                )
            }
        };
        let labels = model.labels();
        for trigger in triggers {
            trigger.check(&labels)?;
        }
        Ok(LiveModel {
            path,
            triggers,
            current: Mutex::new(Current {
                model: Arc::new(model),
                sha256,
                facts,
                labels: vec![(0, Arc::new(labels))],
                news: Vec::new(),
            }),
            version: AtomicU64::new(0),
        })
    }

    /// Emits which tensors are used.
    pub fn tell(&self, progress: &Progress) {
        let model = self.current().model.clone();
        model.tell(progress);
    }

    /// Number of models used so far.
    pub fn version(&self) -> &AtomicU64 {
        &self.version
    }

    /// A session of the model that is in use.
    ///
    /// # Errors
    /// [`crate::Error::Model`].
    pub fn session(&self) -> Result<PictureSession> {
        let model = self.current().model.clone();
        model.session()
    }

    /// Class names of the model with the number `version`.
    pub fn labels(&self, version: u64) -> Arc<Vec<String>> {
        let current = self.current();
        let found = current.labels.iter().find(|(number, _)| *number == version);
        found.map_or_else(Arc::default, |(_, labels)| labels.clone())
    }

    /// Replacements not yet returned, up to the model with the number `version`: for an image that it processed. A later model
    /// is reported with its own first image.
    pub fn news(&self, version: u64) -> Vec<ModelNews> {
        let news = &mut self.current().news;
        let due = news.partition_point(|(number, _)| *number <= version);
        news.drain(..due).map(|(_, news)| news).collect()
    }

    /// Checks the file while `goes_on` returns true, and switches to its model when it changes.
    pub fn follow_file(&self, goes_on: &dyn Fn() -> bool, progress: &Progress) {
        if self.current().sha256.is_none() {
            return;
        }
        let mut seen = self.current().facts;
        let mut looked = Instant::now();
        while goes_on() {
            std::thread::sleep(TICK);
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            let found = facts_of(self.path);
            let is_steady = found == seen;
            seen = found;
            // During a rename the file may be missing for a moment.
            if found.is_some() && is_steady && found != self.current().facts {
                self.current().facts = found;
                self.renew(progress);
            }
        }
    }

    /// Switches to the model in the file, if it has changed and can be used.
    fn renew(&self, progress: &Progress) {
        match self.load() {
            Ok(false) => {}
            Ok(true) => progress.info(format!(
                "{} was replaced and verified; using it from the next image on",
                shown(self.path)
            )),
            Err(error) => {
                let line = format!("keeping the old model, the new one cannot be used: {error}");
                progress.warn(line.clone());
                let version = self.version.load(Ordering::Acquire);
                self.current().news.push((version, self.told(Err(line))));
            }
        }
    }

    fn told(&self, outcome: std::result::Result<String, String>) -> ModelNews {
        ModelNews {
            time: SystemTime::now(),
            path: self.path.to_owned(),
            outcome,
        }
    }

    /// Switches to the model in the file; whether it is another than the one in use.
    fn load(&self) -> Result<bool> {
        let bytes = read(self.path, MAX_ONNX_BYTES)?;
        let sha256 = hex_sha256(&bytes);
        if self.current().sha256.as_ref() == Some(&sha256) {
            return Ok(false);
        }
        verify_bytes(&bytes, self.path, None, &Progress::silent())?.require_same(self.path)?;
        let model = Model::Saved(Box::new(SavedModel::parse(&bytes, self.path)?));
        drop(bytes);
        let labels = model.labels();
        for trigger in self.triggers {
            trigger.check(&labels)?;
        }
        // Run it here, so that a worker is not the first to find that it does not work.
        model.session()?.infer()?;
        let mut current = self.current();
        let version = self.version.load(Ordering::Acquire) + 1;
        current.model = Arc::new(model);
        current.sha256 = Some(sha256.clone());
        current.labels.push((version, Arc::new(labels)));
        if current.labels.len() > KEPT_LABELS {
            current.labels.remove(0);
        }
        // Before the first image of this model can be done.
        current.news.push((version, self.told(Ok(sha256))));
        self.version.store(version, Ordering::Release);
        Ok(true)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // A panic cannot leave it inconsistent: each change is one step.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn facts_of(path: &Path) -> Option<Facts> {
    let facts = fs::metadata(path).ok()?;
    let times = [
        facts.mtime(),
        facts.mtime_nsec(),
        facts.ctime(),
        facts.ctime_nsec(),
    ];
    Some((facts.dev(), facts.ino(), facts.len(), times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_reported_with_its_first_image_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        let bytes = include_bytes!("../../tests/fuzz/seeds/saved_model/m.onnx");
        fs::write(&path, bytes).unwrap();
        let model = LiveModel::open(&path, &[]).unwrap();
        // The same network with a comment of one letter, field 6 of ONNX's ModelProto.
        let other = [&bytes[..], &[0x32, 1, b'x']].concat();
        fs::write(&path, &other).unwrap();
        model.renew(&Progress::silent());
        assert_eq!(model.version().load(Ordering::Acquire), 1);
        // An image that was in progress with the model of before.
        assert_eq!(model.news(0), []);
        let [news] = &model.news(1)[..] else {
            panic!("it is not reported")
        };
        assert_eq!(news.outcome, Ok(hex_sha256(&other)));

        // One that cannot be used concerns the model that stays.
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        model.renew(&Progress::silent());
        assert!(matches!(&model.news(1)[..], [news] if news.outcome.is_err()));
        assert_eq!(model.news(1), []);
    }
}
