//! Events and commands: plain data, the only way into and out of the state of the dashboard.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::event::{KeyEvent, MouseEvent};
use ratatui::layout::Rect;
use ratatui_image::protocol::Protocol;

use super::state::Screen;
use crate::backbone::{BackboneParams, KnownModel};
use crate::job::{
    BaseLayers, EvaluateConfig, Finding, FitConfig, Labels, Overview, VerifyConfig, ViewSettings,
};
use crate::progress;

/// An input of the state.
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was moved, clicked or scrolled.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and lines.
    Resize(u16, u16),
    /// Time since the dashboard started. The state has no other clock.
    Tick(Duration),
    /// An event of the running or attached job.
    Job(progress::Event),
    /// The answer to a command.
    Answer(Answer),
    /// A screen was drawn with these contents.
    Drawn(Seen),
    /// The program must end: the terminal was closed, or a signal arrived.
    Stop,
}

/// The result of a command.
pub enum Answer {
    /// The contents of a folder.
    Folder(Folder),
    /// The known backbones.
    Backbones(Vec<KnownModel>),
    /// The dataset's classes and images.
    Overview(Result<Arc<Overview>, String>),
    /// A problem with the dataset's files.
    Finding(Finding),
    /// All files of the dataset have been checked.
    Audited,
    /// The layers of a backbone.
    Layers(BackboneParams, Result<Arc<BaseLayers>, String>),
    /// The predictions of the models for an image.
    Labels(PathBuf, Result<Labels, String>),
    /// An image prepared for the terminal; none if it cannot be shown.
    Picture(PictureKey, Option<Protocol>),
    /// The output of a run already exists; contains a name that is free.
    OutputExists(PathBuf),
    /// The job could not start.
    Refused(String),
    /// All earlier events of the attached run have been read; from now on events are live.
    CaughtUp,
    /// A line for the log that does not come from a job.
    Note(String),
}

/// A request of the state to the rest of the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start the job `fit`.
    Fit(Box<FitConfig>),
    /// Start the job `verify`.
    Verify(VerifyConfig),
    /// Start the job `evaluate`.
    Evaluate(EvaluateConfig),
    /// Pause (true) or resume (false) the running job.
    Pause(bool),
    /// Stop the running job.
    Cancel,
    /// List a folder.
    ListFolder(PathBuf),
    /// List the known backbones.
    ListBackbones,
    /// Scan the dataset of this configuration and check its files.
    Overview(Box<FitConfig>),
    /// List the layers of a backbone.
    Layers(BackboneParams),
    /// Classify an image with the saved model, if there is one, and with the ImageNet classifier.
    Label(Option<PathBuf>, PathBuf),
    /// Prepare these images for the terminal; this replaces earlier requests.
    Pictures(Vec<PictureKey>),
    /// Quit, after the running job has stopped.
    Quit,
}

/// Source of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PictureSource {
    /// A file.
    File(PathBuf),
    /// An augmented view of an image of the dataset, by number; 0 is the unaugmented input of the backbone.
    View(Arc<ViewSettings>, PathBuf, u32),
}

/// An image at a certain size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PictureKey {
    /// The source.
    pub source: PictureSource,
    /// Maximum width in columns.
    pub width: u16,
    /// Maximum height in lines.
    pub height: u16,
}

/// The contents of a folder, as listed on the start screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its subfolders, sorted by name.
    pub entries: Vec<FolderEntry>,
    /// The error if it cannot be listed.
    pub problem: Option<String>,
}

/// A subfolder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: String,
    /// Number of its own subfolders that contain images: the classes, if it is a dataset. Counted up to a limit.
    pub classes: usize,
    /// Number of files in it and its subfolders that have the name of an image. Counted up to a limit.
    pub pictures: usize,
}

/// The contents of a drawn screen.
#[derive(Default)]
pub struct Seen {
    /// Areas that react to a click.
    pub targets: Vec<(Rect, Target)>,
    /// Images that are visible.
    pub pictures: Vec<PictureKey>,
    /// Height of the main list in lines: the step of the page keys.
    pub page: u16,
}

/// Something to click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The tab of a screen.
    Tab(Screen),
    /// A line of the main list.
    Row(usize),
    /// A line of the second list.
    SideRow(usize),
    /// A cell of the confusion matrix: true class, predicted class.
    Cell(usize, usize),
}
