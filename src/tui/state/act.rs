//! What the user does: keys and their actions. Pure.

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::start::Choice;
use super::{Form, Overlay, Screen, State};
use crate::job::{EvaluateConfig, VerifyConfig};
use crate::tui::event::{Command, Event};
use crate::tui::keys::{self, Action, Place};

/// Takes one event, and returns what is to be done about it.
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

    /// The text that is typed at present.
    fn line(&mut self) -> Option<&mut String> {
        match &mut self.overlay {
            Overlay::Path(text) => Some(text),
            Overlay::Settings(form) => form.editing.as_mut(),
            _ => None,
        }
    }

    /// Changes the line that is typed; tells whether the key did.
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
            // A path that is pasted or dropped anywhere is one to look at.
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
                    "the screen follows the job"
                } else {
                    "the screen stays"
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
                    // The features stay where they are: only the head is new.
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
                Some(Choice::DataSet(path)) => self.take_data_set(path),
                Some(Choice::Base(name)) => self.take_base(name),
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
                Action::Enter => self.cut(),
                Action::Back => {
                    self.start.side = super::start::Side::Bases;
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

    /// Leaves, or asks first if a job would be stopped by it.
    fn quit(&mut self) {
        if self.running().is_some() && self.attached.is_none() {
            self.overlay = Overlay::AskQuit;
        } else {
            self.command(Command::Quit);
        }
    }

    /// Leaves as soon as the job has stopped.
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

    /// Tells why nothing can be started, if it cannot.
    pub(super) fn is_busy(&mut self) -> bool {
        let why = if self.attached.is_some() {
            "this dashboard follows another program's run; start one without --attach"
        } else if self.running().is_some() {
            "a job runs; stop it first with x, or wait"
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
            self.notify("choose a data set first");
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
            self.notify("only the program that runs the job can pause it");
        } else if self.running().is_some() && !self.stopping {
            self.paused = !self.paused;
            self.command(Command::Pause(self.paused));
        } else {
            self.notify("no job runs");
        }
    }

    fn ask_cancel(&mut self) {
        if self.attached.is_some() {
            self.notify("only the program that runs the job can stop it");
        } else if self.running().is_some() {
            self.overlay = Overlay::AskCancel;
        } else {
            self.notify("no job runs");
        }
    }

    fn verify(&mut self) {
        if self.is_busy() {
            return;
        }
        let model = self.saved_model();
        if model.as_os_str().is_empty() {
            self.notify("there is no saved model yet; run first");
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
            self.notify("choose a data set first");
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
            self.notify(format!("the pictures of the {split} split were not listed"));
        } else if count == 0 {
            self.notify(format!(
                "no picture of {} was taken for {}",
                confusion.classes[truth], confusion.classes[prediction]
            ));
        } else {
            self.predict.open_cell(&split, self.train.cell);
            self.follow = false;
            self.go(Screen::Predict);
        }
    }

    fn look_at(&mut self, path: PathBuf) {
        self.predict.name(path);
        self.follow = false;
        self.go(Screen::Predict);
    }

    /// Takes a path that was typed or pasted: a folder is a data set, a file is a picture.
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
