//! Images and their predictions, worst mistakes first. Pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use crate::job::Labels;
use crate::progress::Event;
use crate::tui::keys::Action;

/// Maximum number of answers kept.
const ANSWERS: usize = 256;

/// An image and its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The file, relative to the dataset.
    pub path: PathBuf,
    /// Index of its true class; none for an image that the user opened.
    pub class: Option<usize>,
    /// −ln of the probability of the true class.
    pub loss: f32,
    /// The most probable classes and their probabilities.
    pub top: Vec<(usize, f32)>,
}

impl Scored {
    /// The most probable class.
    pub fn prediction(&self) -> Option<usize> {
        self.top.first().map(|(class, _)| *class)
    }
}

/// The images of a split.
#[derive(Clone, Debug, Default, PartialEq)]
struct SplitPictures {
    split: String,
    pictures: Vec<Scored>,
}

/// State of the predict screen.
#[derive(Default)]
pub struct Predict {
    splits: Vec<SplitPictures>,
    split: usize,
    /// Images that the user opened, latest first.
    opened: Vec<Scored>,
    /// If set, only images of this (true, predicted) pair are listed.
    pub cell: Option<(usize, usize)>,
    /// Indices into the images of the split, in the order of the list.
    order: Vec<usize>,
    /// The selected line; opened images come first.
    pub cursor: Cursor,
    answers: HashMap<PathBuf, Result<Labels, String>>,
    asked: Vec<PathBuf>,
}

impl Predict {
    /// Handles an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { job, .. } if matches!(job.as_str(), "fit" | "train" | "finetune") => {
                *self = Predict::default();
            }
            Event::Started { job, .. } if job == "evaluate" => {
                self.splits.clear();
                self.sort();
            }
            Event::PictureScored {
                split,
                path,
                class,
                loss,
                top,
            } => {
                let scored = Scored {
                    path: path.clone(),
                    class: Some(*class),
                    loss: *loss,
                    top: top.clone(),
                };
                match self.splits.iter_mut().find(|s| s.split == *split) {
                    Some(found) => found.pictures.push(scored),
                    None => self.splits.push(SplitPictures {
                        split: split.clone(),
                        pictures: vec![scored],
                    }),
                }
            }
            Event::Evaluated { split, .. } => {
                if let Some(place) = self.splits.iter().position(|s| s.split == *split) {
                    self.split = place;
                    self.sort();
                }
            }
            // A new model may predict something else.
            Event::Saved { .. } => {
                self.answers.clear();
                self.asked.clear();
            }
            _ => {}
        }
    }

    /// The name of the current split.
    pub fn split(&self) -> Option<&str> {
        self.splits.get(self.split).map(|s| s.split.as_str())
    }

    /// Shows the images of a cell of the confusion matrix of `split`.
    pub fn open_cell(&mut self, split: &str, cell: (usize, usize)) {
        if let Some(place) = self.splits.iter().position(|s| s.split == split) {
            self.split = place;
            self.cell = Some(cell);
            self.sort();
        }
    }

    /// Whether the images of `split` are known.
    pub fn has(&self, split: &str) -> bool {
        self.splits.iter().any(|s| s.split == split)
    }

    /// Sorts by loss, highest first.
    fn sort(&mut self) {
        let pictures = self.splits.get(self.split).map_or(&[][..], |s| &s.pictures);
        self.order = (0..pictures.len())
            .filter(|&i| {
                self.cell.is_none_or(|(truth, prediction)| {
                    pictures[i].class == Some(truth) && pictures[i].prediction() == Some(prediction)
                })
            })
            .collect();
        self.order
            .sort_by(|&a, &b| pictures[b].loss.total_cmp(&pictures[a].loss));
        self.cursor = Cursor::default();
    }

    /// Number of lines in the list.
    pub fn len(&self) -> usize {
        self.opened.len() + self.order.len()
    }

    /// The image on a line of the list.
    pub fn get(&self, line: usize) -> Option<&Scored> {
        if let Some(opened) = self.opened.get(line) {
            return Some(opened);
        }
        let place = *self.order.get(line - self.opened.len())?;
        self.splits.get(self.split)?.pictures.get(place)
    }

    /// The selected image.
    pub fn selected(&self) -> Option<&Scored> {
        self.get(self.cursor.at)
    }

    /// Adds an image that the user opened to the top of the list and selects it.
    pub fn open(&mut self, path: PathBuf) {
        self.opened.retain(|opened| opened.path != path);
        self.opened.insert(
            0,
            Scored {
                path,
                class: None,
                loss: 0.0,
                top: Vec::new(),
            },
        );
        self.cursor = Cursor::default();
    }

    /// Moves or changes what is listed.
    pub fn act(&mut self, action: Action, page: u16) {
        match action {
            Action::NextSplit if !self.splits.is_empty() => {
                self.split = (self.split + 1) % self.splits.len();
                self.cell = None;
                self.sort();
            }
            Action::Back if self.cell.is_some() => {
                self.cell = None;
                self.sort();
            }
            action => {
                self.cursor.act(action, self.len(), page);
            }
        }
    }

    /// Whether `path` still has to be classified; if so, notes that the query was sent.
    pub fn ask(&mut self, path: &Path) -> bool {
        let new = !self.answers.contains_key(path) && self.asked.last().is_none_or(|p| p != path);
        if new {
            self.asked.push(path.to_owned());
        }
        new
    }

    /// Stores the predictions.
    pub fn answer(&mut self, path: PathBuf, labels: Result<Labels, String>) {
        if self.answers.len() >= ANSWERS {
            self.answers.clear();
        }
        self.asked.retain(|asked| *asked != path);
        self.answers.insert(path, labels);
    }

    /// The predictions for the file `path`; none if there is no answer yet.
    pub fn labels(&self, path: &Path) -> Option<&Result<Labels, String>> {
        self.answers.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(path: &str, class: usize, top: usize, loss: f32) -> Event {
        Event::PictureScored {
            split: "validation".into(),
            path: path.into(),
            class,
            loss,
            top: vec![(top, 0.5)],
        }
    }

    fn evaluated() -> Event {
        Event::Evaluated {
            split: "validation".into(),
            images: 3,
            accuracy: 0.0,
            loss: 0.0,
            classes: Vec::new(),
            confusion: Vec::new(),
        }
    }

    fn paths(predict: &Predict) -> Vec<&str> {
        (0..predict.len())
            .map(|i| predict.get(i).unwrap().path.to_str().unwrap())
            .collect()
    }

    #[test]
    fn the_worst_come_first_and_a_cell_shows_its_own() {
        let mut predict = Predict::default();
        predict.event(&scored("good", 0, 0, 0.1));
        predict.event(&scored("worst", 0, 1, 3.0));
        predict.event(&scored("bad", 1, 0, 2.0));
        predict.event(&evaluated());
        assert_eq!(paths(&predict), ["worst", "bad", "good"]);
        predict.open_cell("validation", (1, 0));
        assert_eq!(paths(&predict), ["bad"]);
        predict.act(Action::Back, 10);
        assert_eq!(predict.len(), 3);
        predict.open("mine".into());
        assert_eq!(paths(&predict), ["mine", "worst", "bad", "good"]);
        assert_eq!(predict.selected().unwrap().class, None);
    }

    #[test]
    fn the_models_are_asked_once() {
        let mut predict = Predict::default();
        let path = Path::new("a.jpg");
        assert!(predict.ask(path));
        assert!(!predict.ask(path));
        predict.answer(path.to_owned(), Err("no".into()));
        assert!(!predict.ask(path));
        predict.event(&Event::Saved {
            path: "m.onnx".into(),
            bytes: 1,
        });
        assert!(
            predict.ask(path),
            "another model may predict something else"
        );
    }
}
