//! Augmented views of the images, extracted once and kept beside the features.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::extract::or_replace;
use crate::backbone::Backbone;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::{FeatureStore, PipelineParams, View, extract_view};
use crate::pixels::Augment;
use crate::progress::Progress;

/// Default number of views per image.
pub const USUAL_VIEWS: usize = 8;

/// Maximum number of views per image: each is a separate feature store.
const MOST_VIEWS: usize = 1_000;

/// How training images are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct AugmentParams {
    /// How views are augmented; none by default.
    pub augment: Augment,
    /// Number of views per training image.
    pub views: Views,
}

/// The augmented views of each training image; each runs through the backbone once and is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrWord", into = "NumberOrWord")]
pub enum Views {
    /// This many, 1 to 1,000: each epoch draws one of them or the image itself.
    Kept(usize),
    /// One per epoch: each is used once, and the image itself never.
    Live,
}

impl Views {
    /// Number of views for `epochs` epochs.
    pub fn count(self, epochs: usize) -> usize {
        match self {
            Views::Kept(number) => number,
            Views::Live => epochs,
        }
    }
}

/// A value of [`Views`] in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "it must be a number of views, or a word in quotes"
)]
enum NumberOrWord {
    Number(usize),
    Word(String),
}

impl From<Views> for NumberOrWord {
    fn from(views: Views) -> NumberOrWord {
        match views {
            Views::Kept(number) => NumberOrWord::Number(number),
            Views::Live => NumberOrWord::Word("live".into()),
        }
    }
}

impl TryFrom<NumberOrWord> for Views {
    type Error = Error;

    fn try_from(value: NumberOrWord) -> Result<Views> {
        match value {
            NumberOrWord::Number(number) => number.to_string().parse(),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

impl FromStr for Views {
    type Err = Error;

    /// Reads a number from 1 to 1,000, or `live`.
    fn from_str(text: &str) -> Result<Views> {
        if text == "live" {
            return Ok(Views::Live);
        }
        let number = text.parse().ok();
        let number = number.filter(|number| (1..=MOST_VIEWS).contains(number));
        number.map(Views::Kept).ok_or_else(|| Error::Parameter {
            name: "--views",
            value: text.to_owned(),
            problem: format!(
                "must be from 1 to {MOST_VIEWS}, or live; --augment none turns augmentation off"
            ),
        })
    }
}

impl Default for AugmentParams {
    fn default() -> Self {
        AugmentParams {
            augment: Augment::default(),
            views: Views::Kept(USUAL_VIEWS),
        }
    }
}

/// What views are computed from.
pub(super) struct ViewSource<'a> {
    pub dataset: &'a Dataset,
    pub backbone: &'a Backbone,
    pub pipeline: &'a PipelineParams,
    /// Whether stores with other settings are replaced.
    pub replace: bool,
    pub params: &'a AugmentParams,
    pub seed: u64,
    /// Epochs in which they are used.
    pub epochs: usize,
    /// Folder of the view stores.
    pub folder: &'a Path,
}

/// Extracts the views of the given rows of `store`, resuming an earlier run, and lets training draw from them. Does
/// nothing without augmentation.
pub(super) fn attach_views(
    store: &mut FeatureStore,
    rows: &[usize],
    source: &ViewSource,
    progress: &Progress,
) -> Result<()> {
    let params = source.params;
    if params.augment == Augment::default() {
        return Ok(());
    }
    let count = params.views.count(source.epochs);
    if count > MOST_VIEWS {
        return Err(Error::Parameter {
            name: "--views",
            value: "live".into(),
            problem: format!(
                "{count} epochs would need {count} views of each image, and at most {MOST_VIEWS} are possible; give a number of views, or use fewer epochs"
            ),
        });
    }
    let mut dataset = source.dataset.clone();
    let wanted: std::collections::HashSet<&Path> = rows
        .iter()
        .map(|&row| store.index()[row].path.as_path())
        .collect();
    dataset
        .samples
        .retain(|sample| wanted.contains(sample.path.as_path()));
    let mut views = Vec::with_capacity(count);
    for number in 1..=count {
        progress.info(format!("view {number} of {count}"));
        let view = View {
            augment: params.augment.clone(),
            seed: source.seed,
            number: number as u32,
        };
        let out = source.folder.join(view.family()).join(number.to_string());
        let (backbone, pipeline) = (source.backbone, source.pipeline);
        let filled = or_replace(&out, source.replace, progress, || {
            extract_view(backbone, &dataset, &out, pipeline, &view, progress)
        });
        views.push(filled?);
    }
    store.attach_views(views, params.views == Views::Live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_a_number_or_live_in_a_configuration() {
        let read = |text: &str| toml::from_str::<AugmentParams>(text);
        assert_eq!(read("views = 3").unwrap().views, Views::Kept(3));
        assert_eq!(read("views = 'live'").unwrap().views, Views::Live);
        for params in [read("").unwrap(), read("views = 'live'").unwrap()] {
            let written = toml::to_string(&params).unwrap();
            assert_eq!(read(&written).unwrap(), params, "{written}");
        }
        for wrong in [
            "views = 0",
            "views = 'many'",
            "views = -1",
            "views = 4000000000",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
