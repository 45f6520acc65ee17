//! Keys and their actions. Pure.

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::start::Choice;
use super::{Form, Overlay, Screen, State};
use crate::job::{EvaluateConfig, VerifyConfig};
use crate::tui::event::{Command, Event};
use crate::tui::keys::{self, Action, Place};

/// Handles one event and returns the commands to carry out.
pub fn update(state: &mut State, event: Event) -> Vec<Command> {
    state.changed |= !matches!(event, Event::Tick(_) | Event::Drawn(_));
    match event {
        Event::Key(key) => state.key(key),
        Event::Mouse(mouse) => state.mouse(mouse),
        Event::Paste(text) => state.paste(&text),
        Event::Resize(width, height) => state.size = (width, height),
        Event::Tick(now) => state.tick(now),
        Event::Job(event) => state.job(&event),
        Event::Answer(answer) => state.answer(answer),
        Event::Drawn(seen) => state.drawn(seen),
        Event::Stop => state.stop(),
    }
    std::mem::take(&mut state.commands)
}

impl State {
    fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            self.changed = false;
            return;
        }
        self.notice = None;
        let place = self.place();
        if place == Place::Typing && self.typed(key) {
            return;
        }
        if let Some(action) = keys::action(key, place) {
            self.act(action);
        }
    }

    /// The text being typed.
    fn line(&mut self) -> Option<&mut String> {
        match &mut self.overlay {
            Overlay::Path(text) => Some(text),
            Overlay::Settings(form) => form.editing.as_mut(),
            _ => None,
        }
    }

    /// Edits the text being typed; returns whether the key was used.
    fn typed(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let Some(line) = self.line() else {
            return false;
        };
        match key.code {
            KeyCode::Char('u') if control => line.clear(),
            KeyCode::Char(_) if control => return false,
            KeyCode::Char(c) => line.push(c),
            KeyCode::Backspace => {
                line.pop();
            }
            _ => return false,
        }
        true
    }

    pub(super) fn paste(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        match self.line() {
            Some(line) => line.push_str(&text),
            // A path that is pasted or dropped anywhere is opened.
            None => {
                self.overlay = Overlay::Nothing;
                self.take_path(&text);
            }
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Quit => self.quit(),
            Action::Help => self.overlay = Overlay::Help(0),
            Action::Go(screen) => {
                self.follow = false;
                self.go(screen);
            }
            Action::NextScreen => {
                self.follow = false;
                self.go(self.screen.beside(1));
            }
            Action::PreviousScreen => {
                self.follow = false;
                self.go(self.screen.beside(-1));
            }
            Action::Run => self.run(),
            Action::Settings => self.settings(),
            Action::Pause => self.pause(),
            Action::Cancel => self.ask_cancel(),
            Action::Follow => {
                self.follow = !self.follow;
                match self.running().and_then(|run| run.phase) {
                    Some(phase) if self.follow => self.follow_phase(phase),
                    _ => {}
                }
                self.notify(if self.follow {
                    "screens now follow the job"
                } else {
                    "screens no longer follow the job"
                });
            }
            action if self.overlay != Overlay::Nothing => self.act_on_overlay(action),
            action => self.act_on_screen(action),
        }
    }

    fn act_on_overlay(&mut self, action: Action) {
        let page = self.seen.page;
        match std::mem::take(&mut self.overlay) {
            Overlay::Nothing => {}
            Overlay::Help(top) => {
                if action != Action::Back {
                    let mut cursor = super::cursor::Cursor { at: top };
                    cursor.act(action, self.seen.page as usize + 200, page);
                    self.overlay = Overlay::Help(cursor.at);
                }
            }
            Overlay::Settings(mut form) => {
                let taken = match (action, form.editing.is_some()) {
                    (Action::Enter, true) => form.finish_editing(),
                    (Action::Back, true) => {
                        form.editing = None;
                        None
                    }
                    (Action::Back, false) => return,
                    _ => form.act(action, page),
                };
                self.overlay = Overlay::Settings(form);
                if let Some(config) = taken {
                    self.take_config(config);
                }
            }
            Overlay::Path(text) => {
                if action == Action::Enter {
                    self.take_path(&text);
                }
            }
            Overlay::AskQuit => {
                if action == Action::Yes {
                    self.stop();
                }
            }
            Overlay::AskCancel => {
                if action == Action::Yes && self.running().is_some() {
                    self.stopping = true;
                    self.command(Command::Cancel);
                }
            }
            Overlay::AskReplace(free) => match action {
                Action::Yes => {
                    let mut config = self.config.clone();
                    config.force = true;
                    self.command(Command::Fit(Box::new(config)));
                }
                Action::Rename => {
                    // Keep the feature store: only the head is new.
                    let store = self.config.store();
                    self.config.features = Some(store);
                    self.config.output = free;
                    self.command(Command::Fit(Box::new(self.config.clone())));
                }
                _ => {}
            },
        }
    }

    fn act_on_screen(&mut self, action: Action) {
        let page = self.seen.page;
        match self.screen {
            Screen::Start => match self.start.act(action, page) {
                Some(Choice::Open(path)) => self.command(Command::ListFolder(path)),
                Some(Choice::Dataset(path)) => self.take_dataset(path),
                Some(Choice::Backbone(name)) => self.take_backbone(name),
                None if action == Action::TypePath => self.overlay = Overlay::Path(String::new()),
                None => {}
            },
            Screen::Data => match action {
                Action::Enter => {
                    if let Some(path) = self.data.selected() {
                        self.look_at(path);
                    }
                }
                action => self.data.act(action, page),
            },
            Screen::Extract => {
                let len = self.extract.skipped.len();
                self.extract.cursor.act(action, len, page);
            }
            Screen::Train => {
                if !self.train.act(action) && action == Action::Enter {
                    self.open_cell();
                }
            }
            Screen::Predict => match action {
                Action::TypePath => self.overlay = Overlay::Path(String::new()),
                Action::Evaluate => self.evaluate(),
                action => {
                    self.predict.act(action, page);
                    self.ask_models();
                }
            },
            Screen::Verify => match action {
                Action::Verify => self.verify(),
                action => {
                    let len = self.verify.checks.len();
                    self.verify.cursor.act(action, len, page);
                }
            },
            Screen::Model => match action {
                Action::Enter => self.set_feature_layer(),
                Action::Back => {
                    self.start.side = super::start::Side::Backbones;
                    self.go(Screen::Start);
                }
                action => {
                    let len = self.model.known().map_or(0, |l| l.summary.layers.len());
                    self.model.cursor.act(action, len, page);
                }
            },
            Screen::Runs => match action {
                Action::Enter => self.take_run(),
                action => {
                    let len = self.runs.all.len();
                    self.runs.cursor.act(action, len, page);
                }
            },
            Screen::Log => self.log.act(action, page),
        }
    }

    /// Quits, or asks first if this would stop a job.
    fn quit(&mut self) {
        if self.running().is_some() && self.attached.is_none() {
            self.overlay = Overlay::AskQuit;
        } else {
            self.command(Command::Quit);
        }
    }

    /// Quits as soon as the job has stopped.
    pub(super) fn stop(&mut self) {
        self.overlay = Overlay::Nothing;
        if self.running().is_some() && self.attached.is_none() {
            self.quitting = true;
            self.stopping = true;
            self.command(Command::Cancel);
        } else {
            self.command(Command::Quit);
        }
    }

    /// Whether no job can be started; if so, notifies the user of the reason.
    pub(super) fn is_busy(&mut self) -> bool {
        let why = if self.attached.is_some() {
            "read-only: attached to another run"
        } else if self.running().is_some() {
            "a job is running; wait, or press x to stop it"
        } else {
            return false;
        };
        self.notify(why);
        true
    }

    fn run(&mut self) {
        self.overlay = Overlay::Nothing;
        if self.is_busy() {
            return;
        }
        if self.config.dataset.as_os_str().is_empty() {
            self.notify("choose a dataset first");
            self.go(Screen::Start);
            return;
        }
        self.follow = true;
        self.command(Command::Fit(Box::new(self.config.clone())));
    }

    fn settings(&mut self) {
        if self.attached.is_some() {
            self.is_busy();
            return;
        }
        self.overlay = Overlay::Settings(Form::new(&self.config));
    }

    fn pause(&mut self) {
        if self.attached.is_some() {
            self.is_busy();
        } else if self.running().is_some() && !self.stopping {
            self.paused = !self.paused;
            self.command(Command::Pause(self.paused));
        } else {
            self.notify("no job is running");
        }
    }

    fn ask_cancel(&mut self) {
        if self.attached.is_some() {
            self.is_busy();
        } else if self.running().is_some() {
            self.overlay = Overlay::AskCancel;
        } else {
            self.notify("no job is running");
        }
    }

    fn verify(&mut self) {
        if self.is_busy() {
            return;
        }
        let model = self.saved_model();
        if model.as_os_str().is_empty() {
            self.notify("no saved model yet; press r to run first");
            return;
        }
        self.command(Command::Verify(VerifyConfig {
            model,
            dataset: None,
        }));
    }

    fn evaluate(&mut self) {
        if self.is_busy() {
            return;
        }
        if self.config.dataset.as_os_str().is_empty() {
            self.notify("choose a dataset first");
            return;
        }
        self.command(Command::Evaluate(EvaluateConfig {
            model: self.saved_model(),
            dataset: self.config.dataset.clone(),
            labels: self.config.labels.clone(),
            layout: self.config.layout,
            split: None,
            pipeline: self.config.pipeline.clone(),
        }));
    }

    fn open_cell(&mut self) {
        let Some(confusion) = self.train.confusion() else {
            return;
        };
        let split = confusion.split.clone();
        let (truth, prediction) = self.train.cell;
        let count = confusion.counts[truth][prediction];
        if !self.predict.has(&split) {
            self.notify(format!(
                "no predictions are available for the {split} split"
            ));
        } else if count == 0 {
            self.notify(format!(
                "no image of {} was predicted as {}",
                confusion.classes[truth], confusion.classes[prediction]
            ));
        } else {
            self.predict.open_cell(&split, self.train.cell);
            self.follow = false;
            self.go(Screen::Predict);
        }
    }

    fn look_at(&mut self, path: PathBuf) {
        self.predict.open(path);
        self.follow = false;
        self.go(Screen::Predict);
    }

    /// Opens a path that was typed or pasted: a folder on the start screen, else an image.
    fn take_path(&mut self, text: &str) {
        let text = text.trim().trim_matches(['\'', '"']);
        let text = text.strip_prefix("file://").unwrap_or(text);
        if text.is_empty() {
            return;
        }
        let path = PathBuf::from(text);
        match self.screen {
            Screen::Start => self.command(Command::ListFolder(path)),
            _ => self.look_at(path),
        }
    }
}
