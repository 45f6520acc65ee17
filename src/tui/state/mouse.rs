//! Mouse input: a click goes to whatever is drawn under it. Pure.

use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::{Overlay, Screen, State};
use crate::tui::event::Target;
use crate::tui::keys::Action;

impl State {
    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        match mouse.kind {
            MouseEventKind::ScrollUp => self.act(Action::Up),
            MouseEventKind::ScrollDown => self.act(Action::Down),
            MouseEventKind::Down(MouseButton::Left) => {
                let at = Position::new(mouse.column, mouse.row);
                let hit = self.seen.targets.iter().rev().find(|(r, _)| r.contains(at));
                if let Some((_, target)) = hit {
                    self.click(*target);
                }
            }
            _ => self.changed = false,
        }
    }

    fn click(&mut self, target: Target) {
        match target {
            Target::Tab(screen) => {
                self.follow = false;
                self.go(screen);
            }
            Target::Cell(truth, prediction) => {
                if self.train.cell == (truth, prediction) {
                    self.act(Action::Enter);
                } else {
                    self.train.cell = (truth, prediction);
                }
            }
            Target::Row(line) => {
                let cursor = match (&mut self.overlay, self.screen) {
                    (Overlay::Settings(form), _) => &mut form.cursor,
                    (_, Screen::Start) => {
                        self.start.side = super::start::Side::Folders;
                        &mut self.start.cursor
                    }
                    (_, Screen::Data) => {
                        self.data.picture = 0;
                        &mut self.data.cursor
                    }
                    (_, Screen::Extract) => &mut self.extract.cursor,
                    (_, Screen::Predict) => &mut self.predict.cursor,
                    (_, Screen::Model) => &mut self.model.cursor,
                    (_, Screen::Runs) => &mut self.runs.cursor,
                    _ => &mut self.verify.cursor,
                };
                let before = std::mem::replace(&mut cursor.at, line);
                // A second click on a folder opens it, like a double click.
                if before == line && self.screen == Screen::Start {
                    self.act(Action::Enter);
                }
                self.ask_models();
            }
            Target::SideRow(line) => {
                if self.screen == Screen::Start {
                    self.start.side = super::start::Side::Backbones;
                    self.start.backbone.at = line;
                } else {
                    self.data.picture = line;
                }
            }
        }
    }
}
