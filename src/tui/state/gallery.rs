//! A bounded cache of images prepared for the terminal; only visible images are requested. Pure.

use std::collections::{HashMap, VecDeque};

use ratatui_image::protocol::Protocol;

use crate::tui::event::{Command, PictureKey};

/// Maximum number of images kept. At 40×20 cells an image takes about 20 kB as half blocks, 100 kB as a sixel.
pub const KEPT: usize = 64;

/// Images by source and size.
#[derive(Default)]
pub struct Gallery {
    ready: HashMap<PictureKey, Option<Protocol>>,
    /// Keys of `ready`, most recently visible last.
    order: VecDeque<PictureKey>,
    asked: Vec<PictureKey>,
}

impl Gallery {
    /// The image, if it is ready; the inner option is none if it cannot be shown.
    pub fn get(&self, key: &PictureKey) -> Option<&Option<Protocol>> {
        self.ready.get(key)
    }

    /// Notes which images are visible, and requests those that are missing.
    pub fn want(&mut self, seen: Vec<PictureKey>) -> Option<Command> {
        for key in &seen {
            if let Some(place) = self.order.iter().position(|k| k == key)
                && let Some(key) = self.order.remove(place)
            {
                self.order.push_back(key);
            }
        }
        let missing: Vec<PictureKey> = seen
            .into_iter()
            .filter(|key| !self.ready.contains_key(key))
            .collect();
        let is_new = missing.iter().any(|key| !self.asked.contains(key));
        self.asked.clone_from(&missing);
        is_new.then_some(Command::Pictures(missing))
    }

    /// Stores an image, and drops those that have not been visible for longest.
    pub fn put(&mut self, key: PictureKey, picture: Option<Protocol>) {
        if self.ready.insert(key.clone(), picture).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.ready.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::event::PictureSource;

    fn key(name: &str) -> PictureKey {
        PictureKey {
            source: PictureSource::File(name.into()),
            width: 4,
            height: 2,
        }
    }

    #[test]
    fn a_picture_is_asked_for_once_and_kept_while_it_is_seen() {
        let mut gallery = Gallery::default();
        let asked = gallery.want(vec![key("a"), key("b")]);
        assert_eq!(asked, Some(Command::Pictures(vec![key("a"), key("b")])));
        assert_eq!(gallery.want(vec![key("a"), key("b")]), None);
        gallery.put(key("a"), None);
        assert_eq!(gallery.want(vec![key("a"), key("b")]), None);
        for i in 0..2 * KEPT {
            gallery.put(key(&i.to_string()), None);
            gallery.want(vec![key("a")]);
        }
        assert!(gallery.get(&key("a")).is_some());
        assert!(gallery.get(&key("0")).is_none());
        assert_eq!(gallery.ready.len(), KEPT);
    }
}
