//! All that the dashboard knows, and how it changes: [`update`] takes one event after another. Pure: no
//! file, no clock, no thread. What is to be done outside comes out as [`Command`]s.

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
    /// Choosing a data set and a base; reached by its own key.
    #[default]
    Start,
    /// The data set.
    Data,
    /// Pictures through the base.
    Extract,
    /// The head.
    Train,
    /// Pictures and what the models say of them.
    Predict,
    /// The saved model's checklist.
    Verify,
    /// The base's layers.
    Model,
    /// All runs.
    Runs,
    /// All that was said.
    Log,
}

impl Screen {
    /// The screens that have a number, from 1.
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

    /// Its name.
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

/// What lies over the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Overlay {
    /// Nothing.
    #[default]
    Nothing,
    /// The keys, from this line on.
    Help(usize),
    /// The settings.
    Settings(Form),
    /// A path that is typed.
    Path(String),
    /// Whether to leave while a job runs.
    AskQuit,
    /// Whether to stop the job.
    AskCancel,
    /// Whether to replace the output, or to take this free name.
    AskReplace(PathBuf),
}

/// All that the dashboard knows.
pub struct State {
    /// Colours and glyphs.
    pub theme: Theme,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    /// Time since the dashboard began.
    pub now: Duration,
    /// The screen that is shown.
    pub screen: Screen,
    /// What lies over it.
    pub overlay: Overlay,
    /// Whether the screen changes with the job's phase.
    pub follow: bool,
    /// The settings of the next run.
    pub config: FitConfig,
    /// The folder whose job is followed; none if jobs are started here.
    pub attached: Option<PathBuf>,
    /// Whether what is followed is told of the past.
    pub catching_up: bool,
    /// Whether the job is held.
    pub paused: bool,
    /// Whether the job was asked to stop.
    pub stopping: bool,
    /// Whether pictures can be shown.
    pub pictures: bool,
    /// A line for the user, until the next key.
    pub notice: Option<String>,
    /// Choosing a data set and a base.
    pub start: Start,
    /// The data set.
    pub data: Data,
    /// Pictures through the base.
    pub extract: Extract,
    /// The head.
    pub train: Train,
    /// Pictures and what the models say of them.
    pub predict: Predict,
    /// The saved model's checklist.
    pub verify: Verify,
    /// The base's layers.
    pub model: Model,
    /// All runs.
    pub runs: Runs,
    /// All that was said.
    pub log: Log,
    /// Pictures that are ready.
    pub gallery: Gallery,
    seen: Seen,
    changed: bool,
    quitting: bool,
    commands: Vec<Command>,
}

impl State {
    /// The state at the beginning: on the start screen without a data set, else on the data screen.
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

    /// What is to be done first.
    pub fn begin(&mut self, folder: PathBuf) -> Vec<Command> {
        self.commands.push(Command::ListBases);
        self.commands.push(Command::ListFolder(folder));
        if self.attached.is_none() {
            self.open_data_set();
            self.list_layers();
        }
        std::mem::take(&mut self.commands)
    }

    /// Tells whether the screen has to be drawn again, once.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The place that keys are for.
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

    /// The job that runs.
    pub fn running(&self) -> Option<&Run> {
        self.runs.running()
    }

    /// The saved model of the latest run that has one, else the one that the next run will write.
    pub fn saved_model(&self) -> PathBuf {
        let of_run = self.runs.all.iter().rev().find(|run| {
            run.job != "extract" && run.out.is_some() && matches!(run.status, Status::Finished(_))
        });
        of_run
            .and_then(|run| run.out.clone())
            .unwrap_or_else(|| self.config.output.clone())
    }

    /// The data set's folder, to which paths in events are relative.
    pub fn root(&self) -> PathBuf {
        match self.data.known() {
            Some(overview) => overview.root.clone(),
            None => self.config.dataset.clone(),
        }
    }

    /// The file of the picture that is selected among the predictions.
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

    /// Scans the data set, if there is one.
    fn open_data_set(&mut self) {
        if !self.config.dataset.as_os_str().is_empty() {
            self.data.scan();
            self.command(Command::Overview(Box::new(self.config.clone())));
        }
    }

    fn list_layers(&mut self) {
        let params = self.config.backbone.clone();
        self.command(Command::Layers(params));
    }

    /// Asks the models about the selected picture while the predictions are on the screen.
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
            let is_other_base =
                self.config.backbone != config.backbone || self.model.layers.is_none();
            self.config = config;
            if is_other {
                self.open_data_set();
            }
            if is_other_base {
                self.list_layers();
            }
        }
    }

    /// Shows the screen of the job's phase.
    fn follow_phase(&mut self, phase: Phase) {
        let is_road = self.running().is_some_and(|run| {
            matches!(run.job.as_str(), "fit" | "train" | "finetune" | "extract")
        });
        if !self.follow || !is_road || self.overlay != Overlay::Nothing {
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
            Answer::Bases(bases) => {
                let present = bases
                    .iter()
                    .position(|b| b.card.name == self.config.backbone.model);
                self.start.base.at = present.unwrap_or(0);
                self.start.bases = bases;
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
        // Times are shown in whole seconds or tenths; a job that runs shows more.
        let shown = |time: Duration| time.as_millis() / 250;
        self.changed |= self.running().is_some() && shown(now) != shown(self.now);
        self.now = now;
        self.extract.tick(now, self.paused);
    }
}

#[cfg(test)]
mod tests;
