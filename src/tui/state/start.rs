//! Choosing a data set and a base. Pure.

use std::path::PathBuf;

use super::cursor::Cursor;
use crate::backbone::KnownModel;
use crate::tui::event::Folder;
use crate::tui::keys::Action;

/// Which list the keys move in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The folders.
    #[default]
    Folders,
    /// The bases.
    Bases,
}

/// What the user chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Look into a folder.
    Open(PathBuf),
    /// Take a folder as the data set.
    DataSet(PathBuf),
    /// Take a base.
    Base(String),
}

/// The start screen.
#[derive(Default)]
pub struct Start {
    /// The folder that is listed; none while it is read.
    pub folder: Option<Folder>,
    /// The selected folder.
    pub cursor: Cursor,
    /// The bases that can be named.
    pub bases: Vec<KnownModel>,
    /// The selected base.
    pub base: Cursor,
    /// Which list the keys move in.
    pub side: Side,
}

impl Start {
    /// Takes a folder's listing; the cursor goes to the first folder that looks like a data set.
    pub fn list(&mut self, folder: Folder) {
        let likely = folder.entries.iter().position(|e| e.classes >= 2);
        self.cursor.at = likely.unwrap_or(0);
        self.folder = Some(folder);
    }

    /// The path of a line of the list of folders.
    pub fn path(&self, line: usize) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.path.join(&folder.entries.get(line)?.name))
    }

    /// Moves, or chooses.
    pub fn act(&mut self, action: Action, page: u16) -> Option<Choice> {
        match (action, self.side) {
            (Action::OtherList, _) => {
                self.side = match self.side {
                    Side::Folders => Side::Bases,
                    Side::Bases => Side::Folders,
                };
                None
            }
            (Action::Enter, Side::Folders) => {
                let path = self.path(self.cursor.at)?;
                let entry = self.folder.as_ref()?.entries.get(self.cursor.at)?;
                Some(if entry.classes >= 2 {
                    Choice::DataSet(path)
                } else {
                    Choice::Open(path)
                })
            }
            (Action::Use, Side::Folders) => self.path(self.cursor.at).map(Choice::DataSet),
            (Action::Left, Side::Folders) => {
                let above = self.folder.as_ref()?.path.parent()?.to_owned();
                Some(Choice::Open(above))
            }
            (Action::Enter | Action::Use, Side::Bases) => {
                let base = self.bases.get(self.base.at)?;
                Some(Choice::Base(base.card.name.clone()))
            }
            (action, Side::Folders) => {
                let len = self.folder.as_ref().map_or(0, |f| f.entries.len());
                self.cursor.act(action, len, page);
                None
            }
            (action, Side::Bases) => {
                self.base.act(action, self.bases.len(), page);
                None
            }
        }
    }
}
