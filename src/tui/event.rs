//! What the dashboard is told, and what it asks for: plain data, the only way in and out of its state.

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

/// Something that happened.
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and lines.
    Resize(u16, u16),
    /// Time since the dashboard began. The only clock that the state has.
    Tick(Duration),
    /// The running job, or the one that is followed, says something.
    Job(progress::Event),
    /// A command was answered.
    Answer(Answer),
    /// A screen was drawn, and this was on it.
    Drawn(Seen),
    /// The system asks for an end: the terminal was closed, or somebody sent a signal.
    Stop,
}

/// What came of a command.
pub enum Answer {
    /// The contents of a folder.
    Folder(Folder),
    /// The bases that can be named.
    Bases(Vec<KnownModel>),
    /// The data set's classes and pictures.
    Overview(Result<Arc<Overview>, String>),
    /// Something odd in the data set's files.
    Finding(Finding),
    /// Every file of the data set was looked into.
    Audited,
    /// The layers of the base that was asked for.
    Layers(BackboneParams, Result<Arc<BaseLayers>, String>),
    /// What the models say of a picture.
    Labels(PathBuf, Result<Labels, String>),
    /// A picture made ready for the terminal; none if it cannot be shown.
    Picture(PictureKey, Option<Protocol>),
    /// The output of a run is there already; a name that is free.
    OutputExists(PathBuf),
    /// The job could not even begin.
    Refused(String),
    /// What is followed is told as it happens from now on.
    CaughtUp,
    /// A line for the log from outside of a job.
    Note(String),
}

/// What the state wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start the job `fit`.
    Fit(Box<FitConfig>),
    /// Start the job `verify`.
    Verify(VerifyConfig),
    /// Start the job `evaluate`.
    Evaluate(EvaluateConfig),
    /// Hold the running job, or let it go on.
    Pause(bool),
    /// Stop the running job.
    Cancel,
    /// List a folder.
    ListFolder(PathBuf),
    /// List the bases that can be named.
    ListBases,
    /// Scan the data set of this configuration and look into its files.
    Overview(Box<FitConfig>),
    /// List the layers of a base.
    Layers(BackboneParams),
    /// Ask the saved model, if there is one, and the ImageNet classifier about a picture.
    Label(Option<PathBuf>, PathBuf),
    /// Make these pictures ready for the terminal; whatever else was asked for is not wanted any more.
    Pictures(Vec<PictureKey>),
    /// End the program, after the running job has stopped.
    Quit,
}

/// What a picture shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PictureSource {
    /// A file.
    File(PathBuf),
    /// The view with this number of a data set's picture; 0 is the picture as the base gets it.
    View(Arc<ViewSettings>, PathBuf, u32),
}

/// A picture at a size in cells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PictureKey {
    /// What it shows.
    pub source: PictureSource,
    /// Most columns.
    pub width: u16,
    /// Most lines.
    pub height: u16,
}

/// A folder as the start screen lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// Its absolute path.
    pub path: PathBuf,
    /// The folders in it, by name.
    pub entries: Vec<FolderEntry>,
    /// Why it cannot be listed.
    pub problem: Option<String>,
}

/// A folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: String,
    /// Folders directly in it that hold pictures: classes, if it is a data set. Counted up to a bound.
    pub classes: usize,
    /// Files in it, and directly in its folders, that are pictures by their name. Counted up to a bound.
    pub pictures: usize,
}

/// What a drawn screen had on it.
#[derive(Default)]
pub struct Seen {
    /// Places that react to a click.
    pub targets: Vec<(Rect, Target)>,
    /// Pictures that it has room for.
    pub pictures: Vec<PictureKey>,
    /// Lines of its main list: how far a page key goes.
    pub page: u16,
}

/// Something that can be clicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The name of a screen.
    Tab(Screen),
    /// A line of the main list.
    Row(usize),
    /// A line of the second list.
    SideRow(usize),
    /// A cell of the confusion matrix: truth, prediction.
    Cell(usize, usize),
}
