//! Labels one image at a time, interactively: models stay loaded until their file changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::SystemTime;

use crate::backbone::{Classifier, DEFAULT_MODEL, PictureSession, Prediction, top_k};
use crate::error::Result;
use crate::pixels::{DecodeLimits, Picture};
use crate::saved_model::SavedModel;

/// Predictions for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The first classes of the saved model, most probable first; empty if there is no saved model.
    pub own: Vec<Prediction>,
    /// The first classes of the ImageNet classifier.
    pub imagenet: Vec<Prediction>,
}

/// A loaded network with its class names.
struct Loaded {
    session: PictureSession,
    labels: Vec<String>,
}

impl Loaded {
    /// A network that runs on all cores, since there is one image at a time.
    fn new(mut session: PictureSession, labels: &[String]) -> Result<Loaded> {
        session.set_threads(available_parallelism().map_or(1, usize::from))?;
        Ok(Loaded {
            session,
            labels: labels.to_vec(),
        })
    }

    fn top(&mut self, path: &Path, k: usize) -> Result<(u32, u32, Vec<Prediction>)> {
        let decode_options = self.session.decode_options();
        let picture = Picture::open(path, &DecodeLimits::default(), decode_options)?;
        let values = self.session.run(&picture)?;
        Ok((
            picture.width,
            picture.height,
            top_k(values, &self.labels, k),
        ))
    }
}

/// Labels images with a saved model and with the built-in ImageNet classifier.
#[derive(Default)]
pub struct Labeller {
    own: Option<((PathBuf, Option<SystemTime>), Loaded)>,
    imagenet: Option<Loaded>,
}

impl Labeller {
    /// Labels the image `path`, with the `k` first classes of each model.
    ///
    /// # Errors
    /// Those of [`SavedModel::open`], [`Classifier::open`] and [`Picture::open`].
    pub fn label(&mut self, model: Option<&Path>, path: &Path, k: usize) -> Result<Labels> {
        let imagenet = match &mut self.imagenet {
            Some(loaded) => loaded,
            none => {
                let classifier = Classifier::open(DEFAULT_MODEL, None)?;
                none.insert(Loaded::new(classifier.session()?, classifier.labels())?)
            }
        };
        let (width, height, imagenet) = imagenet.top(path, k)?;
        let own = match model {
            Some(model) => self.open(model)?.top(path, k)?.2,
            None => Vec::new(),
        };
        Ok(Labels {
            width,
            height,
            own,
            imagenet,
        })
    }

    fn open(&mut self, model: &Path) -> Result<&mut Loaded> {
        let changed = fs::metadata(model).and_then(|facts| facts.modified()).ok();
        let key = (model.to_owned(), changed);
        let own = match self.own.take().filter(|(loaded, _)| *loaded == key) {
            Some(own) => own,
            None => {
                let saved = SavedModel::open(model)?;
                (key, Loaded::new(saved.session()?, saved.classes())?)
            }
        };
        Ok(&mut self.own.insert(own).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_saved_model_imagenet_answers_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let picture = root.join("datasets/single/grace_hopper.jpg");
        let labels = Labeller::default().label(None, &picture, 3).unwrap();
        assert_eq!(labels.own, []);
        assert_eq!(labels.imagenet[0].label, "military uniform");
        assert_eq!(labels.imagenet.len(), 3);
        assert!(labels.width > 0 && labels.height > 0);
    }
}
