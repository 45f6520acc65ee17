//! The data set: its classes and what may be wrong with it. Pure.

use std::path::PathBuf;
use std::sync::Arc;

use super::cursor::Cursor;
use crate::job::{Finding, Listed, Overview};
use crate::tui::keys::Action;
use crate::tui::text::path_text;

/// Findings that are listed; more are only counted.
const LISTED: usize = 1_000;

/// The data set of the next run.
#[derive(Default)]
pub struct Data {
    /// Its classes and pictures, or why it cannot be used; none while it is scanned or if there is none.
    pub overview: Option<Result<Arc<Overview>, String>>,
    /// Whether it is scanned.
    pub scanning: bool,
    /// Whether its files are looked into.
    pub auditing: bool,
    /// Files that are no pictures.
    pub unreadable: usize,
    /// Pictures smaller than what the base takes.
    pub small: usize,
    /// Groups of files with the same bytes.
    pub duplicates: usize,
    /// Sentences on what was found in the files.
    pub findings: Vec<String>,
    /// The class that is selected.
    pub cursor: Cursor,
    /// Place of the first picture shown among those of the class.
    pub picture: usize,
    /// Whether augmented views of the pictures are shown.
    pub views: bool,
    /// For each class, places in the overview's pictures.
    members: Vec<Vec<u32>>,
}

impl Data {
    /// Begins anew with another data set.
    pub fn scan(&mut self) {
        *self = Data {
            scanning: true,
            ..Data::default()
        };
    }

    /// Takes the classes and pictures.
    pub fn answer(&mut self, overview: Result<Arc<Overview>, String>) {
        self.scanning = false;
        if let Ok(found) = &overview {
            self.auditing = true;
            // Pictures without classes count as one group.
            self.members = vec![Vec::new(); found.classes.len().max(1)];
            for (place, picture) in found.pictures.iter().enumerate() {
                if let Some(members) = self.members.get_mut(picture.class.unwrap_or(0)) {
                    members.push(place as u32);
                }
            }
        }
        self.overview = Some(overview);
    }

    /// Takes something odd.
    pub fn finding(&mut self, finding: &Finding) {
        let text = match finding {
            Finding::Unreadable(path, reason) => {
                self.unreadable += 1;
                format!("{} {reason}", path_text(path))
            }
            Finding::Small(path, width, height) => {
                self.small += 1;
                format!("{} is small: {width}×{height} pixels", path_text(path))
            }
            Finding::Duplicates(paths) => {
                self.duplicates += 1;
                let names: Vec<String> = paths.iter().map(|p| path_text(p)).collect();
                let classes: Vec<Option<usize>> = paths.iter().map(|p| self.class_of(p)).collect();
                let mixed = classes.windows(2).any(|pair| pair[0] != pair[1]);
                format!(
                    "the same picture{}: {}",
                    if mixed { " in two classes" } else { "" },
                    names.join(", ")
                )
            }
        };
        if self.findings.len() < LISTED {
            self.findings.push(text);
        }
    }

    fn class_of(&self, path: &std::path::Path) -> Option<usize> {
        let overview = self.known()?;
        let bytes = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().to_vec();
        // They are in the byte order of their paths.
        let place = overview
            .pictures
            .binary_search_by_key(&bytes(path), |p| bytes(&p.path))
            .ok()?;
        overview.pictures[place].class
    }

    /// The data set, if it is known.
    pub fn known(&self) -> Option<&Overview> {
        match &self.overview {
            Some(Ok(overview)) => Some(overview),
            _ => None,
        }
    }

    /// Number of lines of the list of classes.
    pub fn groups(&self) -> usize {
        self.members.len()
    }

    /// Number of pictures of the selected class.
    pub fn pictures(&self) -> usize {
        self.members.get(self.cursor.at).map_or(0, Vec::len)
    }

    /// A picture of the selected class.
    pub fn picture(&self, place: usize) -> Option<&Listed> {
        let index = *self.members.get(self.cursor.at)?.get(place)?;
        self.known()?.pictures.get(index as usize)
    }

    /// The file of the picture that is selected.
    pub fn selected(&self) -> Option<PathBuf> {
        let picture = self.picture(self.picture)?;
        Some(self.known()?.root.join(&picture.path))
    }

    /// All warnings: those of the overview, then those of the files.
    pub fn warnings(&self) -> Vec<&str> {
        let overview = self.known().map_or(&[][..], |o| &o.warnings);
        overview
            .iter()
            .chain(&self.findings)
            .map(String::as_str)
            .collect()
    }

    /// Moves.
    pub fn act(&mut self, action: Action, page: u16) {
        let last = self.pictures().saturating_sub(1);
        match action {
            Action::Left => self.picture = self.picture.saturating_sub(1),
            Action::Right => self.picture = (self.picture + 1).min(last),
            Action::Views => self.views = !self.views,
            Action::Back => self.views = false,
            action => {
                if self.cursor.act(action, self.groups(), page) {
                    self.picture = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_picture_in_two_classes_is_named_as_such() {
        let listed = |path: &str, class| Listed {
            path: path.into(),
            class: Some(class),
            split: None,
        };
        let mut data = Data::default();
        data.scan();
        data.answer(Ok(Arc::new(Overview {
            classes: vec!["a".into(), "b".into()],
            pictures: vec![listed("a/1", 0), listed("a/2", 0), listed("b/1", 1)],
            ..Overview::default()
        })));
        data.finding(&Finding::Duplicates(vec!["a/1".into(), "b/1".into()]));
        data.finding(&Finding::Duplicates(vec!["a/1".into(), "a/2".into()]));
        assert_eq!(
            data.findings,
            [
                "the same picture in two classes: a/1, b/1",
                "the same picture: a/1, a/2"
            ]
        );
        assert_eq!((data.groups(), data.pictures()), (2, 2));
        data.act(Action::Right, 5);
        data.act(Action::Right, 5);
        assert_eq!(data.picture, 1);
        data.act(Action::Down, 5);
        assert_eq!((data.pictures(), data.picture), (1, 0));
    }
}
