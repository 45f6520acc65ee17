//! The state of the dashboard. [`update`] changes it, one event at a time. Pure: no files, no clock, no threads; work to
//! be done elsewhere is returned as [`Command`]s.

pub mod cursor;
pub mod data;
pub mod extract;
pub mod form;
pub mod gallery;
pub mod log;
pub mod model;
pub mod predict;
pub mod runs;
pub mod start;
pub mod train;
pub mod verify;

mod act;
mod mouse;
mod setup;

use std::path::PathBuf;
use std::time::Duration;

pub use act::update;
pub use setup::default_output;

use self::data::Data;
use self::extract::Extract;
use self::form::Form;
use self::gallery::Gallery;
use self::log::{Log, Severity};
use self::model::Model;
use self::predict::Predict;
use self::runs::{Run, Runs, Status};
use self::start::Start;
use self::train::Train;
use self::verify::Verify;
use super::event::{Answer, Command, Seen};
use super::keys::Place;
use super::theme::Theme;
use crate::job::FitConfig;
use crate::progress::{self, Phase};

/// The screens, in the order of their number keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Screen {
    /// Choice of a dataset and a backbone; it has its own key.
    #[default]
    Start,
    /// The dataset.
    Data,
    /// Feature extraction.
    Extract,
    /// Training of the head.
    Train,
    /// Images and their predictions.
    Predict,
    /// Verification of the saved model.
    Verify,
    /// The layers of the backbone.
    Model,
    /// All runs.
    Runs,
    /// All messages.
    Log,
}

impl Screen {
    /// The screens with a number key, starting at 1.
    pub const NUMBERED: [Screen; 8] = [
        Screen::Data,
        Screen::Extract,
        Screen::Train,
        Screen::Predict,
        Screen::Verify,
        Screen::Model,
        Screen::Runs,
        Screen::Log,
    ];

    /// The name on its tab.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Start => "Start",
            Screen::Data => "Data",
            Screen::Extract => "Extract",
            Screen::Train => "Train",
            Screen::Predict => "Predict",
            Screen::Verify => "Verify",
            Screen::Model => "Model",
            Screen::Runs => "Runs",
            Screen::Log => "Log",
        }
    }

    fn beside(self, by: isize) -> Screen {
        let len = Screen::NUMBERED.len() as isize;
        match Screen::NUMBERED.iter().position(|s| *s == self) {
            Some(place) => Screen::NUMBERED[(place as isize + by).rem_euclid(len) as usize],
            None => Screen::Data,
        }
    }
}

/// A window over the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Overlay {
    /// Nothing.
    #[default]
    Nothing,
    /// The help, scrolled to this line.
    Help(usize),
    /// The settings.
    Settings(Form),
    /// A text field for a path.
    Path(String),
    /// The question whether to quit while a job is running.
    AskQuit,
    /// The question whether to stop the job.
    AskCancel,
    /// The question whether to replace the output or to use this free name.
    AskReplace(PathBuf),
}

/// The state of the dashboard.
pub struct State {
    /// Colours and glyphs.
    pub theme: Theme,
    /// Width and height of the terminal in cells.
    pub size: (u16, u16),
    /// Time since the dashboard started.
    pub now: Duration,
    /// The current screen.
    pub screen: Screen,
    /// The window over it.
    pub overlay: Overlay,
    /// Whether the screen follows the phases of the job.
    pub follow: bool,
    /// The settings for the next run.
    pub config: FitConfig,
    /// The feature store or model whose run is watched; none if this dashboard starts the jobs.
    pub attached: Option<PathBuf>,
    /// Whether the events of the attached run are still those of the past.
    pub catching_up: bool,
    /// Whether the job is paused.
    pub paused: bool,
    /// Whether the job is stopping.
    pub stopping: bool,
    /// Whether images can be shown.
    pub pictures: bool,
    /// A message in the status line, until the next key.
    pub notice: Option<String>,
    /// The start screen.
    pub start: Start,
    /// The data screen.
    pub data: Data,
    /// The extract screen.
    pub extract: Extract,
    /// The train screen.
    pub train: Train,
    /// The predict screen.
    pub predict: Predict,
    /// The verify screen.
    pub verify: Verify,
    /// The model screen.
    pub model: Model,
    /// The runs screen.
    pub runs: Runs,
    /// The log screen.
    pub log: Log,
    /// Images prepared for the terminal.
    pub gallery: Gallery,
    seen: Seen,
    changed: bool,
    quitting: bool,
    commands: Vec<Command>,
}

impl State {
    /// The initial state: on the start screen without a dataset, on the data screen with one.
    pub fn new(theme: Theme, config: FitConfig, attached: Option<PathBuf>) -> State {
        State {
            theme,
            size: (80, 24),
            now: Duration::ZERO,
            screen: if attached.is_some() {
                Screen::Extract
            } else if config.dataset.as_os_str().is_empty() {
                Screen::Start
            } else {
                Screen::Data
            },
            overlay: Overlay::Nothing,
            follow: true,
            config,
            catching_up: attached.is_some(),
            attached,
            paused: false,
            stopping: false,
            pictures: true,
            notice: None,
            start: Start::default(),
            data: Data::default(),
            extract: Extract::default(),
            train: Train::default(),
            predict: Predict::default(),
            verify: Verify::default(),
            model: Model::default(),
            runs: Runs::default(),
            log: Log::default(),
            gallery: Gallery::default(),
            seen: Seen::default(),
            changed: true,
            quitting: false,
            commands: Vec::new(),
        }
    }

    /// The first commands.
    pub fn begin(&mut self, folder: PathBuf) -> Vec<Command> {
        self.commands.push(Command::ListBackbones);
        self.commands.push(Command::ListFolder(folder));
        if self.attached.is_none() {
            self.open_dataset();
            self.list_layers();
        }
        std::mem::take(&mut self.commands)
    }

    /// Whether the screen must be redrawn; resets the flag.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The place that receives keys.
    pub fn place(&self) -> Place {
        match &self.overlay {
            Overlay::Nothing => Place::Screen(self.screen),
            Overlay::Help(_) => Place::Help,
            Overlay::Settings(form) if form.editing.is_some() => Place::Typing,
            Overlay::Settings(_) => Place::Settings,
            Overlay::Path(_) => Place::Typing,
            Overlay::AskQuit => Place::AskQuit,
            Overlay::AskCancel => Place::AskCancel,
            Overlay::AskReplace(_) => Place::AskReplace,
        }
    }

    /// The running job.
    pub fn running(&self) -> Option<&Run> {
        self.runs.running()
    }

    /// The saved model of the latest run that has one, else the output of the next run.
    pub fn saved_model(&self) -> PathBuf {
        let of_run = self.runs.all.iter().rev().find(|run| {
            run.job != "extract" && run.out.is_some() && matches!(run.status, Status::Finished(_))
        });
        of_run
            .and_then(|run| run.out.clone())
            .unwrap_or_else(|| self.config.output.clone())
    }

    /// The folder of the dataset; paths in events are relative to it.
    pub fn root(&self) -> PathBuf {
        match self.data.known() {
            Some(overview) => overview.root.clone(),
            None => self.config.dataset.clone(),
        }
    }

    /// The file of the image that is selected on the predict screen.
    pub fn selected_picture(&self) -> Option<PathBuf> {
        let scored = self.predict.selected()?;
        Some(match scored.class {
            Some(_) => self.root().join(&scored.path),
            None => scored.path.clone(),
        })
    }

    fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    fn notify(&mut self, text: impl Into<String>) {
        self.notice = Some(text.into());
    }

    fn go(&mut self, screen: Screen) {
        self.screen = screen;
        self.overlay = Overlay::Nothing;
        self.ask_models();
    }

    /// Scans the dataset, if there is one.
    fn open_dataset(&mut self) {
        if !self.config.dataset.as_os_str().is_empty() {
            self.data.scan();
            self.command(Command::Overview(Box::new(self.config.clone())));
        }
    }

    fn list_layers(&mut self) {
        let params = self.config.backbone.clone();
        self.command(Command::Layers(params));
    }

    /// Classifies the selected image if the predict screen is shown.
    fn ask_models(&mut self) {
        if self.screen != Screen::Predict {
            return;
        }
        if let Some(path) = self.selected_picture()
            && self.predict.ask(&path)
        {
            let model = self.saved_model();
            let model = (!model.as_os_str().is_empty()).then_some(model);
            self.command(Command::Label(model, path));
        }
    }

    fn job(&mut self, event: &progress::Event) {
        self.log.event(self.now, event);
        self.runs.event(self.now, event);
        let live = !self.catching_up;
        self.extract.event(self.now, event, live);
        self.train.event(event);
        self.predict.event(event);
        self.verify.event(event);
        match event {
            progress::Event::Started { .. } => self.job_began(),
            progress::Event::Phase { phase, .. } => self.follow_phase(*phase),
            progress::Event::Finished { .. } => self.job_ended(None),
            progress::Event::Failed { message, .. } => self.job_ended(Some(message.clone())),
            progress::Event::Cancelled { .. } => self.job_ended(None),
            _ => {}
        }
    }

    fn job_began(&mut self) {
        self.paused = false;
        self.stopping = false;
        self.notice = None;
        let config = self.runs.latest().and_then(|run| run.config.clone());
        if let (Some(_), Some(config)) = (&self.attached, config) {
            let is_other = self.config.dataset != config.dataset || self.data.overview.is_none();
            let is_other_backbone =
                self.config.backbone != config.backbone || self.model.layers.is_none();
            self.config = config;
            if is_other {
                self.open_dataset();
            }
            if is_other_backbone {
                self.list_layers();
            }
        }
    }

    /// Shows the screen for a phase of the job.
    fn follow_phase(&mut self, phase: Phase) {
        let is_pipeline = self.running().is_some_and(|run| {
            matches!(run.job.as_str(), "fit" | "train" | "finetune" | "extract")
        });
        if !self.follow || !is_pipeline || self.overlay != Overlay::Nothing {
            return;
        }
        match phase {
            Phase::Extract => self.go(Screen::Extract),
            Phase::Train | Phase::WarmUp | Phase::Tune | Phase::Evaluate | Phase::Save => {
                self.go(Screen::Train);
            }
            Phase::Verify => self.go(Screen::Verify),
            Phase::Scan
            | Phase::Predict
            | Phase::Calibrate
            | Phase::Download
            | Phase::Probe
            | Phase::Watch => {}
        }
    }

    fn job_ended(&mut self, failure: Option<String>) {
        self.paused = false;
        self.stopping = false;
        if let Overlay::AskCancel | Overlay::AskQuit = self.overlay {
            self.overlay = Overlay::Nothing;
        }
        if let Some(message) = failure {
            self.notify(message);
        }
        if self.quitting {
            self.command(Command::Quit);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Folder(folder) => self.start.list(folder),
            Answer::Backbones(backbones) => {
                let present = backbones
                    .iter()
                    .position(|b| b.card.name == self.config.backbone.model);
                self.start.backbone.at = present.unwrap_or(0);
                self.start.backbones = backbones;
            }
            Answer::Overview(found) => self.data.answer(found),
            Answer::Finding(finding) => self.data.finding(&finding),
            Answer::Audited => self.data.auditing = false,
            Answer::Layers(params, layers) => {
                if params == self.config.backbone {
                    self.model.answer(params, layers);
                }
            }
            Answer::Labels(path, labels) => self.predict.answer(path, labels),
            Answer::Picture(key, picture) => self.gallery.put(key, picture),
            Answer::OutputExists(free) => self.overlay = Overlay::AskReplace(free),
            Answer::Refused(problem) => {
                self.log.add(self.now, Severity::Error, problem.clone());
                self.notify(problem);
            }
            Answer::Note(text) => self.log.add(self.now, Severity::Warning, text),
            Answer::CaughtUp => self.catching_up = false,
        }
    }

    fn drawn(&mut self, mut seen: Seen) {
        let pictures = std::mem::take(&mut seen.pictures);
        self.seen = seen;
        if let Some(command) = self.gallery.want(pictures) {
            self.command(command);
        }
    }

    fn tick(&mut self, now: Duration) {
        // Only a running job shows times; redraw them four times a second.
        let shown = |time: Duration| time.as_millis() / 250;
        self.changed |= self.running().is_some() && shown(now) != shown(self.now);
        self.now = now;
        self.extract.tick(now, self.paused);
    }
}

#[cfg(test)]
mod tests;
