//! Choice of a dataset and a backbone. Pure.

use std::path::PathBuf;

use super::cursor::Cursor;
use crate::backbone::KnownModel;
use crate::tui::event::Folder;
use crate::tui::keys::Action;

/// The list that has the focus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The folders.
    #[default]
    Folders,
    /// The backbones.
    Backbones,
}

/// A choice of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Open a folder.
    Open(PathBuf),
    /// Use a folder as the dataset.
    Dataset(PathBuf),
    /// Use a backbone.
    Backbone(String),
}

/// The start screen.
#[derive(Default)]
pub struct Start {
    /// The open folder; none while it is being read.
    pub folder: Option<Folder>,
    /// The selected folder.
    pub cursor: Cursor,
    /// The known backbones.
    pub backbones: Vec<KnownModel>,
    /// The selected backbone.
    pub backbone: Cursor,
    /// The list that has the focus.
    pub side: Side,
}

impl Start {
    /// Shows a folder; the cursor moves to the first subfolder that looks like a dataset.
    pub fn list(&mut self, folder: Folder) {
        let likely = folder.entries.iter().position(|e| e.classes >= 2);
        self.cursor.at = likely.unwrap_or(0);
        self.folder = Some(folder);
    }

    /// The path on a line of the list of folders.
    pub fn path(&self, line: usize) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.path.join(&folder.entries.get(line)?.name))
    }

    /// Moves or chooses.
    pub fn act(&mut self, action: Action, page: u16) -> Option<Choice> {
        match (action, self.side) {
            (Action::OtherList, _) => {
                self.side = match self.side {
                    Side::Folders => Side::Backbones,
                    Side::Backbones => Side::Folders,
                };
                None
            }
            (Action::Enter, Side::Folders) => {
                let path = self.path(self.cursor.at)?;
                let entry = self.folder.as_ref()?.entries.get(self.cursor.at)?;
                Some(if entry.classes >= 2 {
                    Choice::Dataset(path)
                } else {
                    Choice::Open(path)
                })
            }
            (Action::Use, Side::Folders) => self.path(self.cursor.at).map(Choice::Dataset),
            (Action::Left, Side::Folders) => {
                let above = self.folder.as_ref()?.path.parent()?.to_owned();
                Some(Choice::Open(above))
            }
            (Action::Enter | Action::Use, Side::Backbones) => {
                let backbone = self.backbones.get(self.backbone.at)?;
                Some(Choice::Backbone(backbone.card.name.clone()))
            }
            (action, Side::Folders) => {
                let len = self.folder.as_ref().map_or(0, |f| f.entries.len());
                self.cursor.act(action, len, page);
                None
            }
            (action, Side::Backbones) => {
                self.backbone.act(action, self.backbones.len(), page);
                None
            }
        }
    }
}
