//! The events of a job, and its phases.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The phases of a job, each with its own length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Walking the folders.
    Scan,
    /// Images through the backbone.
    Extract,
    /// Epochs of the head.
    Train,
    /// Epochs of the head alone, before the backbone is trained with it.
    WarmUp,
    /// Epochs of the end of the backbone with the head.
    Tune,
    /// Scoring a finished model on labelled images.
    Evaluate,
    /// Writing the saved model.
    Save,
    /// Reloading the saved model and comparing.
    Verify,
    /// Calibration before quantisation.
    Calibrate,
    /// Predicting new images.
    Predict,
    /// Downloading a backbone; steps are bytes.
    Download,
    /// Linear probes, one layer after another.
    Probe,
    /// Watching for images.
    Watch,
}

impl Phase {
    /// The phase as one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Scan => "scan",
            Phase::Extract => "extract",
            Phase::Train => "train",
            Phase::WarmUp => "warm-up",
            Phase::Tune => "tune",
            Phase::Evaluate => "evaluate",
            Phase::Save => "save",
            Phase::Verify => "verify",
            Phase::Calibrate => "calibrate",
            Phase::Predict => "predict",
            Phase::Download => "download",
            Phase::Probe => "probe",
            Phase::Watch => "watch",
        }
    }
}

/// One epoch of a head's training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// 1-based number of this epoch.
    pub epoch: usize,
    /// Requested epochs; early stopping may end training before.
    pub epochs: usize,
    /// Learning rate at the last step of this epoch.
    pub learning_rate: f32,
    /// Mean cross-entropy over the training rows, in nats, measured during training (with dropout).
    pub loss: f32,
    /// Training accuracy, 0 to 1, measured during training.
    pub accuracy: f32,
    /// Mean cross-entropy over the validation rows; none without validation rows.
    pub val_loss: Option<f32>,
    /// Validation accuracy.
    pub val_accuracy: Option<f32>,
    /// The best epoch so far, 1-based.
    pub best_epoch: usize,
    /// Epochs without improvement that early stopping still allows; `None` if it is off.
    pub patience_left: Option<usize>,
}

/// One item of a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared, such as `probe`.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// What was found, in words.
    pub detail: String,
    /// Largest absolute difference, where numbers were compared.
    pub max_abs_diff: Option<f32>,
}

/// Something that happened in a job. Serialises to one JSON object with the tag `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A job began.
    Started {
        /// The job's name as on the command line, such as `fit`.
        job: String,
        /// Version of this program.
        version: String,
        /// Where its output will be, if it has any.
        out: Option<String>,
        /// Its configuration, as `run.toml` has it; null in records of older programs.
        #[serde(default)]
        config: serde_json::Value,
    },
    /// A phase began.
    Phase {
        /// Which.
        phase: Phase,
        /// Steps it has: images, epochs, checks, bytes or layers; `None` if not known.
        total: Option<u64>,
    },
    /// Information that needs no action.
    Info {
        /// One sentence.
        message: String,
    },
    /// A problem that did not stop the job.
    Warning {
        /// One sentence: what, which file, what to do.
        message: String,
    },
    /// The dataset was walked.
    Scanned {
        /// Images in all.
        images: usize,
        /// Class name and number of images; empty for unlabelled data.
        classes: Vec<(String, usize)>,
    },
    /// Rows reused from an earlier run.
    Resumed {
        /// Number of rows found valid.
        rows: u64,
    },
    /// A worker took an image.
    ImageStarted {
        /// 0-based number of the worker.
        worker: usize,
        /// The image, relative to its dataset.
        #[serde(with = "lossy_path")]
        path: PathBuf,
    },
    /// An image's row was computed and written.
    ImageDone {
        /// 0-based number of the worker.
        worker: usize,
        /// The image, relative to its dataset.
        #[serde(with = "lossy_path")]
        path: PathBuf,
        /// Rows finished so far, skipped and resumed ones included.
        done: u64,
        /// Rows in all.
        total: u64,
        /// Time to read, decode, resize and normalise, in microseconds.
        decode_us: u64,
        /// Time in the network, in microseconds.
        infer_us: u64,
        /// Time to write the row, in microseconds.
        write_us: u64,
    },
    /// An image could not be used; the job continues without it.
    ImageSkipped {
        /// The image, relative to its dataset.
        #[serde(with = "lossy_path")]
        path: PathBuf,
        /// Why, in one clause.
        reason: String,
        /// Rows finished so far, skipped and resumed ones included.
        done: u64,
        /// Rows in all.
        total: u64,
    },
    /// Bytes of a download came.
    BytesDone {
        /// Bytes so far, those of earlier runs included.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A head was cross-validated on the features of one layer.
    LayerProbed {
        /// The layer.
        layer: String,
        /// Layers done so far.
        done: u64,
        /// Layers in all.
        total: u64,
        /// Accuracy, 0 to 1.
        accuracy: f32,
        /// Sample standard deviation over the folds.
        standard_deviation: f32,
    },
    /// All rows so far are safe on disk; a killed run resumes here.
    Checkpoint {
        /// Rows that are safe.
        rows: u64,
    },
    /// An epoch of the head ended.
    Epoch {
        /// 0-based fold of a cross-validation; none outside one.
        fold: Option<usize>,
        /// What was measured.
        #[serde(flatten)]
        stats: EpochStats,
        /// Validation accuracy of each class, in the order of the classes;
        /// empty without validation rows.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        class_accuracy: Vec<f32>,
    },
    /// A fold of a cross-validation ended.
    FoldDone {
        /// 0-based number of the fold.
        fold: usize,
        /// Folds in all.
        folds: usize,
        /// Accuracy on the fold's held-out rows.
        accuracy: f32,
    },
    /// A recipe was cross-validated.
    RecipeTried {
        /// Its name.
        recipe: String,
        /// Accuracy, 0 to 1.
        accuracy: f32,
        /// Sample standard deviation over the folds.
        standard_deviation: f32,
        /// Wall time in seconds.
        seconds: f64,
        /// How much more accurate it is than the best before it, the mean over the folds; `None` for the first.
        difference: Option<f32>,
        /// A difference up to this may be noise.
        margin: Option<f32>,
        /// Whether it is the best so far.
        is_best: bool,
    },
    /// The prediction for one labelled image that was not used in training.
    PictureScored {
        /// Which rows it is of, as in [`Event::Evaluated`].
        split: String,
        /// The image, relative to its dataset.
        #[serde(with = "lossy_path")]
        path: PathBuf,
        /// Index of its true class.
        class: usize,
        /// −ln of the probability of the true class, in nats.
        loss: f32,
        /// Index and probability of the first classes, at most five, most probable first.
        top: Vec<(usize, f32)>,
    },
    /// A model was scored on labelled rows.
    Evaluated {
        /// Which rows: `training`, `validation`, `test` or `all`.
        split: String,
        /// Number of rows.
        images: usize,
        /// Accuracy, 0 to 1.
        accuracy: f32,
        /// Mean cross-entropy, in nats.
        loss: f32,
        /// Class names, in the order of the matrix.
        classes: Vec<String>,
        /// Counts: `confusion[truth][prediction]`.
        confusion: Vec<Vec<u64>>,
    },
    /// A model was compared with its quantised version.
    Quantized {
        /// What its weights are: `int8` or `float16`.
        numbers: String,
        /// Which images: `validation`, `test` or `all`.
        split: String,
        /// Number of images.
        images: usize,
        /// Accuracy before, 0 to 1.
        accuracy_before: f32,
        /// The same afterwards.
        accuracy_after: f32,
        /// Mean cross-entropy before, in nats.
        loss_before: f32,
        /// The same afterwards.
        loss_after: f32,
        /// Share of images that get the same first class before and after.
        agreement: f32,
        /// Mean absolute difference of a probability.
        mean_abs_diff: f32,
        /// Largest absolute difference of a probability.
        max_abs_diff: f32,
        /// Size of the file before.
        bytes_before: u64,
        /// Size of the file afterwards.
        bytes_after: u64,
        /// Layers that stayed in floats.
        float_layers: Vec<String>,
    },
    /// A file got its final name.
    Saved {
        /// The file.
        #[serde(with = "lossy_path")]
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// One item of a verification.
    Check(Check),
    /// A verification ended.
    Verified {
        /// The file.
        #[serde(with = "lossy_path")]
        path: PathBuf,
        /// Whether every check held.
        same_results: bool,
        /// Largest absolute difference over all checks.
        max_abs_diff: f32,
    },
    /// The job succeeded.
    Finished {
        /// Wall time in seconds.
        seconds: f64,
    },
    /// The job failed.
    Failed {
        /// The error in one sentence.
        message: String,
        /// The exit code that belongs to it.
        exit_code: u8,
    },
    /// The job was stopped by its user.
    Cancelled {
        /// How to resume, in one sentence.
        resume: String,
    },
}

impl Event {
    /// Returns whether nothing follows it in a job.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Event::Finished { .. } | Event::Failed { .. } | Event::Cancelled { .. }
        )
    }
}

/// Paths as text: a byte that is not UTF-8 becomes `U+FFFD`, as in the rest of what people see.
mod lossy_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(PathBuf::from)
    }
}
