//! The dataset: its classes and possible problems. Pure.

use std::path::PathBuf;
use std::sync::Arc;

use super::cursor::Cursor;
use crate::job::{DatasetImage, Finding, Overview};
use crate::tui::keys::Action;
use crate::tui::text::path_text;

/// Maximum number of findings to list; more are only counted.
const LISTED: usize = 1_000;

/// The dataset for the next run.
#[derive(Default)]
pub struct Data {
    /// Its classes and images, or why it cannot be used; none during the scan or without a dataset.
    pub overview: Option<Result<Arc<Overview>, String>>,
    /// Whether it is being scanned.
    pub scanning: bool,
    /// Whether its files are being checked.
    pub auditing: bool,
    /// Number of files that are not images.
    pub unreadable: usize,
    /// Number of small images.
    pub small: usize,
    /// Number of groups of files with identical bytes.
    pub duplicates: usize,
    /// Descriptions of the problems found in the files.
    pub findings: Vec<String>,
    /// The selected class.
    pub cursor: Cursor,
    /// Index of the selected image among those of the class.
    pub picture: usize,
    /// Whether augmented views of the images are shown.
    pub views: bool,
    /// For each class, indices into the images of the overview.
    members: Vec<Vec<u32>>,
}

impl Data {
    /// Starts over with another dataset.
    pub fn scan(&mut self) {
        *self = Data {
            scanning: true,
            ..Data::default()
        };
    }

    /// Stores the result of the scan.
    pub fn answer(&mut self, overview: Result<Arc<Overview>, String>) {
        self.scanning = false;
        if let Ok(found) = &overview {
            self.auditing = true;
            // Images without classes count as one group.
            self.members = vec![Vec::new(); found.classes.len().max(1)];
            for (place, picture) in found.pictures.iter().enumerate() {
                if let Some(members) = self.members.get_mut(picture.class.unwrap_or(0)) {
                    members.push(place as u32);
                }
            }
        }
        self.overview = Some(overview);
    }

    /// Adds a problem with the files.
    pub fn finding(&mut self, finding: &Finding) {
        let text = match finding {
            Finding::Unreadable(path, reason) => {
                self.unreadable += 1;
                format!("{} {reason}", path_text(path))
            }
            Finding::Small(path, width, height) => {
                self.small += 1;
                format!("{} is only {width}×{height} pixels", path_text(path))
            }
            Finding::Duplicates(paths) => {
                self.duplicates += 1;
                let names: Vec<String> = paths.iter().map(|p| path_text(p)).collect();
                let classes: Vec<Option<usize>> = paths.iter().map(|p| self.class_of(p)).collect();
                let mixed = classes.windows(2).any(|pair| pair[0] != pair[1]);
                format!(
                    "{}: {}",
                    if mixed {
                        "same image in different classes"
                    } else {
                        "same image"
                    },
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
        // The images are sorted by the bytes of their paths.
        let place = overview
            .pictures
            .binary_search_by_key(&bytes(path), |p| bytes(&p.path))
            .ok()?;
        overview.pictures[place].class
    }

    /// The dataset, if it has been scanned.
    pub fn known(&self) -> Option<&Overview> {
        match &self.overview {
            Some(Ok(overview)) => Some(overview),
            _ => None,
        }
    }

    /// Number of lines in the list of classes.
    pub fn groups(&self) -> usize {
        self.members.len()
    }

    /// Number of images of the selected class.
    pub fn pictures(&self) -> usize {
        self.members.get(self.cursor.at).map_or(0, Vec::len)
    }

    /// An image of the selected class, by index.
    pub fn picture(&self, place: usize) -> Option<&DatasetImage> {
        let index = *self.members.get(self.cursor.at)?.get(place)?;
        self.known()?.pictures.get(index as usize)
    }

    /// The file of the selected image.
    pub fn selected(&self) -> Option<PathBuf> {
        let picture = self.picture(self.picture)?;
        Some(self.known()?.root.join(&picture.path))
    }

    /// All warnings: those of the scan, then those of the file check.
    pub fn warnings(&self) -> Vec<&str> {
        let overview = self.known().map_or(&[][..], |o| &o.warnings);
        overview
            .iter()
            .chain(&self.findings)
            .map(String::as_str)
            .collect()
    }

    /// Handles an action.
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
    fn the_same_image_in_different_classes_is_reported_as_such() {
        let listed = |path: &str, class| DatasetImage {
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
                "same image in different classes: a/1, b/1",
                "same image: a/1, a/2"
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
