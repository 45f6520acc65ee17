//! Finds the best feature layer for a dataset: all candidates in one pass, a linear probe on each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::copies::check_copies;
use super::extract::{self, ExtractConfig};
use crate::backbone::{Backbone, BackboneParams, Cuts, PictureSession, candidate_layers, find};
use crate::counts::count;
use crate::dataset::{self, Layout};
use crate::error::{Error, Result};
use crate::features::{FeatureStore, PipelineParams};
use crate::pixels::Picture;
use crate::progress::{Event, Phase, Progress};
use crate::train::{self, HeadParams};

/// Each cut network is timed for about this long, after one warm-up run.
const TIMING: Duration = Duration::from_millis(300);

/// Maximum number of timed runs.
const TIMED_RUNS: usize = 20;

/// Configuration of [`probe_layers`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeConfig {
    /// Folder of images: class folders.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// Folder of the feature store; by default the dataset's name, ending `.layers`, in the working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Discard the contents of `out`.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// The backbone; its cuts are the layers to try, by default layers through which all data passes.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
    /// Maximum number of layers to try if none is named.
    #[serde(default = "default_layers")]
    pub layers: usize,
    /// Folds of the cross-validation.
    #[serde(default = "default_folds")]
    pub folds: usize,
    /// The head and its training.
    #[serde(flatten)]
    pub head: HeadParams,
}

fn default_layers() -> usize {
    10
}

fn default_folds() -> usize {
    5
}

impl Default for ProbeConfig {
    fn default() -> Self {
        ProbeConfig {
            dataset: PathBuf::new(),
            labels: None,
            layout: Layout::default(),
            out: None,
            force: false,
            backbone: BackboneParams::default(),
            pipeline: PipelineParams::default(),
            layers: default_layers(),
            folds: default_folds(),
            head: HeadParams::default(),
        }
    }
}

impl ProbeConfig {
    /// Folder of the feature store.
    pub fn store(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let name = self.dataset.canonicalize();
            let name = name.as_deref().unwrap_or(&self.dataset).file_stem();
            let mut name = name.unwrap_or_default().to_owned();
            name.push(".layers");
            PathBuf::from(name)
        })
    }
}

/// One layer's score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerScore {
    /// The layer, as `--cut` takes it.
    pub layer: String,
    /// Shape of its output before pooling, without the batch, channels last; `None` if it is not known.
    pub output_shape: Option<Vec<usize>>,
    /// Number of features per image.
    pub features: usize,
    /// Cross-validated accuracy, 0 to 1.
    pub accuracy: f32,
    /// Sample standard deviation of the folds' accuracies.
    pub standard_deviation: f32,
    /// Median time on one core from the input tensor to the features of one image, in milliseconds.
    pub image_ms: f64,
    /// Size of the features of all images on disk.
    pub bytes: u64,
}

/// Result of [`probe_layers`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Name of the backbone.
    pub model: String,
    /// The layers in the order of execution.
    pub layers: Vec<LayerScore>,
    /// Index of the layer with the highest accuracy, on a tie the fastest.
    pub best: usize,
    /// Images.
    pub images: usize,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Accuracy of always predicting the largest class: the baseline.
    pub largest_class: f32,
    /// The feature store with an array for each layer.
    pub store: PathBuf,
}

/// Extracts the features of all candidate layers in one pass over the images, and cross-validates a head on each, over
/// the same folds.
///
/// # Errors
/// Those of [`super::extract()`] and of the training; [`Error::Parameter`].
pub fn probe_layers(config: &ProbeConfig, progress: &Progress) -> Result<ProbeReport> {
    let head = config.head.clone().check()?;
    let in_range = |name, value: usize, least: usize| match value >= least {
        true => Ok(()),
        false => Err(Error::Parameter {
            name,
            value: value.to_string(),
            problem: format!("must be at least {least}"),
        }),
    };
    in_range("--layers", config.layers, 2)?;
    in_range("--folds", config.folds, 2)?;
    config.head.clone().check()?;
    let extract_config = ExtractConfig {
        dataset: config.dataset.clone(),
        labels: config.labels.clone(),
        layout: config.layout,
        out: config.store(),
        force: config.force,
        backbone: BackboneParams {
            cut: Some(layers_to_try(config)?),
            ..config.backbone.clone()
        },
        pipeline: PipelineParams {
            concat: false,
            ..config.pipeline.clone()
        },
    };
    let dataset = extract::open_dataset(&extract_config.source(), progress)?;
    dataset.require_classes(2)?;
    let backbone = extract::open_backbone(&extract_config.backbone, progress)?;
    let store = extract::run(&extract_config, &dataset, &backbone, progress)?;
    check_copies(&store, &[], config.pipeline.strict, progress)?;
    let labels = store.labels()?;
    let classes = store.meta().classes.len();
    let mut counts = vec![0_usize; classes];
    labels.iter().for_each(|&class| counts[class] += 1);
    let rarest = counts.iter().copied().filter(|&n| n > 0).min().unwrap_or(0);
    let folds = config.folds.min(rarest);
    if folds < 2 {
        return Err(Error::Dataset {
            path: config.dataset.clone(),
            problem: "a class has only 1 image; cross-validation needs at least 2 per class".into(),
        });
    }
    if folds < config.folds {
        progress.warn(format!(
            "the smallest class has {}: using {folds} folds",
            count(rarest, "image")
        ));
    }
    let fold_of = dataset::stratified_folds(&labels, folds, config.head.seed);
    let arrays = match store.arrays() {
        [] => vec![store.matrix()],
        several => several.iter().map(AsRef::as_ref).collect(),
    };
    let shapes = output_shapes(&backbone);
    let total = arrays.len() as u64;
    progress.phase(Phase::Probe, Some(total));
    let mut layers = Vec::new();
    for (part, matrix) in backbone.parts().iter().zip(arrays) {
        let found = train::cross_validate(
            matrix,
            &labels,
            classes,
            &fold_of,
            &head,
            // Epoch events of every fold of every layer would be too many.
            &progress.muted(),
        )?;
        let time = time_a_picture(&extract_config.backbone, &part.cut, &store, progress)?;
        let score = LayerScore {
            layer: part.cut.clone(),
            output_shape: shapes
                .iter()
                .find(|(t, _)| *t == part.cut)
                .and_then(|(_, s)| s.clone()),
            features: part.len(),
            accuracy: found.accuracy(),
            standard_deviation: found.standard_deviation(),
            image_ms: time.as_secs_f64() * 1e3,
            bytes: (part.len() * labels.len() * store.meta().dtype.bytes()) as u64,
        };
        layers.push(score.clone());
        progress.emit(Event::LayerProbed {
            layer: score.layer,
            done: layers.len() as u64,
            total,
            accuracy: score.accuracy,
            standard_deviation: score.standard_deviation,
        });
    }
    let best = best_of(&layers);
    Ok(ProbeReport {
        model: config.backbone.model.clone(),
        best,
        layers,
        images: labels.len(),
        folds,
        largest_class: counts.iter().copied().max().unwrap_or(0) as f32 / labels.len() as f32,
        store: config.store(),
    })
}

fn layers_to_try(config: &ProbeConfig) -> Result<Cuts> {
    if let Some(cuts) = &config.backbone.cut {
        return Ok(cuts.clone());
    }
    let found = find(&config.backbone.model, config.backbone.input_size)?;
    let layers = candidate_layers(&found, config.backbone.input_size, config.layers)?;
    let tensors = layers.into_iter().map(|layer| layer.tensor).collect();
    Cuts::several(tensors).ok_or_else(|| Error::Model {
        model: config.backbone.model.clone(),
        problem: "it has no layer to take features from".into(),
    })
}

/// Tensors of the backbone's layers with their shapes.
fn output_shapes(backbone: &Backbone) -> Vec<(String, Option<Vec<usize>>)> {
    let summary = backbone.summary(crate::backbone::Detail::Layers);
    let layers = summary.map(|s| s.layers).unwrap_or_default();
    layers
        .into_iter()
        .map(|l| (l.tensor, l.output_shape))
        .collect()
}

/// Median time on one core from the input tensor to the features at `cut`.
fn time_a_picture(
    params: &BackboneParams,
    cut: &str,
    store: &FeatureStore,
    progress: &Progress,
) -> Result<Duration> {
    let backbone = Backbone::open(&BackboneParams {
        cut: Some(Cuts::from(cut)),
        ..params.clone()
    })?;
    let mut session = backbone.session()?;
    prepare_first(&mut session, store);
    session.infer()?;
    let started = Instant::now();
    let mut times = Vec::new();
    while times.len() < TIMED_RUNS && (times.is_empty() || started.elapsed() < TIMING) {
        progress.checkpoint()?;
        let run = Instant::now();
        session.infer()?;
        times.push(run.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Uses the first available image; any input works, but a real one is more representative for caches.
fn prepare_first(session: &mut PictureSession, store: &FeatureStore) {
    let root = Path::new(&store.meta().dataset);
    for row in store.index().iter().take(3) {
        let path = root.join(&row.path);
        let decode_options = session.decode_options();
        let limits = crate::pixels::DecodeLimits::default();
        if let Ok(picture) = Picture::open(&path, &limits, decode_options)
            && session.prepare(&picture).is_ok()
        {
            return;
        }
    }
}

fn best_of(layers: &[LayerScore]) -> usize {
    let better = |a: &LayerScore, b: &LayerScore| {
        a.accuracy
            .total_cmp(&b.accuracy)
            .then(b.image_ms.total_cmp(&a.image_ms))
    };
    (0..layers.len())
        .max_by(|&a, &b| better(&layers[a], &layers[b]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_layer_is_the_most_accurate_and_then_the_fastest() {
        let layer = |accuracy, image_ms| LayerScore {
            layer: String::new(),
            output_shape: None,
            features: 1,
            accuracy,
            standard_deviation: 0.0,
            image_ms,
            bytes: 4,
        };
        let layers = [
            layer(0.5, 1.0),
            layer(0.9, 2.0),
            layer(0.9, 3.0),
            layer(0.8, 4.0),
        ];
        assert_eq!(best_of(&layers), 1);
    }

    #[test]
    fn the_store_is_named_after_the_data_set() {
        let config = ProbeConfig {
            dataset: PathBuf::from("photos/"),
            ..ProbeConfig::default()
        };
        assert_eq!(config.store(), Path::new("photos.layers"));
    }
}
