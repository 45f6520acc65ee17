//! What augmentation makes of pictures, on one sheet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::extract::{self, ExtractConfig};
use super::train::check_output;
use super::views::{AugmentParams, USUAL_VIEWS};
use crate::backbone::{Backbone, BackboneParams, PictureSession};
use crate::error::Result;
use crate::features::View;
use crate::pixels::{Augment, DecodeLimits, Picture};
use crate::progress::{Event, Phase, Progress};
use crate::report::save_sheet;

/// Configuration of [`augment_preview`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AugmentPreviewConfig {
    /// Folder of pictures.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, in place of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The PNG file to write.
    pub output: PathBuf,
    /// Replace the output if it is there.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Pictures on the sheet, of each class in turn; 0 means 6.
    #[serde(default)]
    pub pictures: usize,
    /// Seed of the views: the same as in training shows the views that training sees.
    #[serde(default)]
    pub seed: u64,
    /// The base whose input size and resizing rule are used.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// What views differ in, and how many of each picture are shown; `default` if nothing is asked for.
    #[serde(flatten)]
    pub augment: AugmentParams,
}

/// Writes a sheet with a row for each of some pictures: as the base gets it, then its views. Returns the
/// number of rows and the augmentation that is shown.
///
/// # Errors
/// Those of the data set and the base; [`crate::Error::Image`] for a picture that cannot be used;
/// [`crate::Error::OutputExists`].
pub fn augment_preview(
    config: &AugmentPreviewConfig,
    progress: &Progress,
) -> Result<(usize, Augment)> {
    check_output(&config.output, config.force)?;
    let dataset = extract::open_dataset(
        &ExtractConfig {
            dataset: config.dataset.clone(),
            labels: config.labels.clone(),
            ..ExtractConfig::default()
        },
        progress,
    )?;
    let backbone = Backbone::open(&config.backbone)?;
    let mut session = backbone.session()?;
    let augment = match &config.augment.augment {
        nothing if *nothing == Augment::default() => Augment::photographs(),
        wanted => wanted.clone(),
    };
    let count = if config.pictures == 0 {
        6
    } else {
        config.pictures
    };
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
        let sample = &dataset.samples[index];
        let path = dataset.root.join(&sample.path);
        let picture = Picture::open(&path, &DecodeLimits::default(), session.rendering())?;
        rows.push(row(config, &augment, &sample.path, &picture, &mut session)?);
    }
    let bytes = save_sheet(&rows, &config.output)?;
    progress.emit(Event::Saved {
        path: config.output.clone(),
        bytes,
    });
    Ok((rows.len(), augment))
}

/// A picture as the base gets it, then its views.
fn row(
    config: &AugmentPreviewConfig,
    augment: &Augment,
    path: &std::path::Path,
    picture: &Picture,
    session: &mut PictureSession,
) -> Result<Vec<Picture>> {
    let plain = session.resized(picture)?;
    let views = (1..=config.augment.views.count(USUAL_VIEWS)).map(|number| {
        let view = View {
            augment: augment.clone(),
            seed: config.seed,
            number: number as u32,
        };
        augment.view(&plain, view.seed_of(path))
    });
    Ok(std::iter::once(plain.clone()).chain(views).collect())
}
