//! Previews of augmentation: one view at a time, or a contact sheet.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::extract::{self, Source};
use super::train::check_output;
use super::views::{AugmentParams, USUAL_VIEWS};
use crate::backbone::{Backbone, BackboneParams, PictureSession};
use crate::dataset::Layout;
use crate::error::{Error, Result};
use crate::features::View;
use crate::pixels::{Augment, DecodeLimits, Picture};
use crate::progress::{Event, Phase, Progress};
use crate::report::save_sheet;

/// What determines the augmented views of a dataset's images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewSettings {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// The backbone whose input size and resizing rule are used.
    pub backbone: BackboneParams,
    /// How views are augmented.
    pub augment: Augment,
    /// Seed of the views; the training seed shows the views used in training.
    pub seed: u64,
}

// Parsed ranges are valid numbers.
impl Eq for ViewSettings {}

impl Hash for ViewSettings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.root, &self.backbone.model, self.seed).hash(state);
    }
}

/// Makes views of images, one at a time.
pub struct Previewer {
    settings: ViewSettings,
    session: PictureSession,
    /// The last image, as the backbone receives it.
    last: Option<(PathBuf, Picture)>,
}

impl Previewer {
    /// Opens the backbone.
    ///
    /// # Errors
    /// Those of [`Backbone::open`].
    pub fn open(settings: ViewSettings) -> Result<Previewer> {
        Ok(Previewer {
            session: Backbone::open(&settings.backbone)?.session()?,
            settings,
            last: None,
        })
    }

    /// What it was opened with.
    pub fn settings(&self) -> &ViewSettings {
        &self.settings
    }

    /// The view with this number of the image `path`; 0 is the image as the backbone receives it.
    ///
    /// # Errors
    /// Those of [`Picture::open`].
    pub fn view(&mut self, path: &Path, number: u32) -> Result<Picture> {
        let plain = match self.last.take() {
            Some((last, plain)) if last == path => plain,
            _ => {
                let file = self.settings.root.join(path);
                let decode_options = self.session.decode_options();
                let picture = Picture::open(&file, &DecodeLimits::default(), decode_options)?;
                self.session.resized(&picture)?
            }
        };
        let view = View {
            augment: self.settings.augment.clone(),
            seed: self.settings.seed,
            number,
        };
        let shown = match number {
            0 => plain.clone(),
            _ => view.augment.view(&plain, view.seed_of(path)),
        };
        self.last = Some((path.to_owned(), plain));
        Ok(shown)
    }
}

/// Maximum number of images on a sheet, views included: 300 MB of images of 224 x 224.
const MOST_CELLS: usize = 2_000;

/// Configuration of [`augment_preview`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AugmentPreviewConfig {
    /// Folder of images.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// The PNG file to write.
    pub output: PathBuf,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Images on the sheet, of each class in turn; 0 means 6.
    #[serde(default)]
    pub pictures: usize,
    /// Seed of the views; the training seed shows the views used in training.
    #[serde(default)]
    pub seed: u64,
    /// The backbone whose input size and resizing rule are used.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// How views are augmented, and how many of each image are shown; `default` if not given.
    #[serde(flatten)]
    pub augment: AugmentParams,
}

/// Writes a sheet with one row per image: as the backbone receives it, then its views. Returns the number of rows
/// and the augmentation shown.
///
/// # Errors
/// Those of the dataset and the backbone; [`crate::Error::Image`] for an image that cannot be used;
/// [`crate::Error::OutputExists`].
pub fn augment_preview(
    config: &AugmentPreviewConfig,
    progress: &Progress,
) -> Result<(usize, Augment)> {
    check_output(&config.output, config.force)?;
    let count = match config.pictures {
        0 => 6,
        count => count,
    };
    let views = config.augment.views.count(USUAL_VIEWS);
    if count.saturating_mul(views + 1) > MOST_CELLS {
        return Err(Error::Parameter {
            name: "--images",
            value: count.to_string(),
            problem: format!(
                "with {views} views each, the sheet would have more than {MOST_CELLS} images; use fewer images or fewer --views"
            ),
        });
    }
    let dataset = extract::open_dataset(
        &Source {
            root: &config.dataset,
            labels: config.labels.as_deref(),
            layout: config.layout,
            // A sheet without some images is still useful.
            allow_missing: true,
        },
        progress,
    )?;
    let settings = ViewSettings {
        root: dataset.root.clone(),
        backbone: config.backbone.clone(),
        augment: config.augment.augment.clone().or_photographs(),
        seed: config.seed,
    };
    let mut previewer = Previewer::open(settings)?;
    // The first of each class, then the second of each, and so on.
    let mut seen = vec![0usize; dataset.classes.len() + 1];
    let mut order: Vec<(usize, usize)> = dataset
        .samples
        .iter()
        .enumerate()
        .map(|(i, sample)| {
            let class = sample.class.map_or(0, |class| class + 1);
            seen[class] += 1;
            (seen[class], i)
        })
        .collect();
    order.sort_unstable();
    progress.phase(Phase::Save, Some(count as u64));
    let mut rows = Vec::new();
    for (_, index) in order.into_iter().take(count) {
        progress.checkpoint()?;
        let path = &dataset.samples[index].path;
        let numbers = 0..=views as u32;
        let row: Result<Vec<Picture>> = numbers.map(|n| previewer.view(path, n)).collect();
        rows.push(row?);
    }
    let bytes = save_sheet(&rows, &config.output)?;
    progress.emit(Event::Saved {
        path: config.output.clone(),
        bytes,
    });
    Ok((rows.len(), previewer.settings.augment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_depends_on_its_number_and_the_seed_and_on_nothing_seen_before() {
        let settings = |seed| ViewSettings {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny"),
            augment: Augment::photographs(),
            seed,
            ..ViewSettings::default()
        };
        let [fish, hammer] = ["fish/fish1.jpg", "hammer/hammer1.jpg"].map(Path::new);
        let mut previewer = Previewer::open(settings(0)).unwrap();
        let plain = previewer.view(fish, 0).unwrap();
        assert_eq!((plain.width, plain.height), (224, 224));
        let views = [1, 2].map(|number| previewer.view(fish, number).unwrap());
        assert!(views[0] != views[1] && views.iter().all(|view| *view != plain));
        assert_ne!(previewer.view(hammer, 0).unwrap(), plain);
        assert_eq!(previewer.view(fish, 2).unwrap(), views[1]);
        let mut other = Previewer::open(settings(1)).unwrap();
        assert_eq!(other.view(fish, 0).unwrap(), plain);
        assert_ne!(other.view(fish, 1).unwrap(), views[0]);
    }
}
