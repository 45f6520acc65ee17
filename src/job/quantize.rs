//! Quantises a saved model to int8 or float16: compared, saved, verified.

use std::path::{Path, PathBuf};

use ndarray::aview1;
use serde::{Deserialize, Serialize};

use super::evaluate::{match_classes, surprise};
use super::extract::{Source, open_dataset};
use super::predict::in_order;
use super::runner::{JobInfo, JobKind};
use super::train::check_output;
use super::uses;
use crate::backbone::{Calibration, OnnxGraph, Quantizer, hex_sha256, with_float16_weights};
use crate::counts::count;
use crate::dataset::{Dataset, Layout, Split, divide};
use crate::error::{Error, Result, shown};
use crate::features::PipelineParams;
use crate::pixels::read_file;
use crate::progress::{Event, Phase, Progress};
use crate::saved_model::{
    Precision, QuantizationRecord, ReferenceImage, SavedModel, Verification, fingerprint, verify,
};
use crate::train::{ConfusionMatrix, first_of};

/// Number of images whose outputs are recorded in the new model.
const REFERENCE_IMAGES: usize = 8;
/// Number of images for measuring the cost of quantising each layer: those that change most.
const SENSITIVITY_IMAGES: usize = 16;
/// Largest difference of a probability between kinds of machines. Where one sums a float layer in a different order, a
/// later value may round to the next integer.
const TOLERANCE: f32 = 0.02;

/// Configuration of [`quantize`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuantizeConfig {
    /// The saved model.
    pub model: PathBuf,
    /// Folder of images: class folders with the names of the model's classes.
    pub dataset: PathBuf,
    /// CSV file of paths and labels, instead of class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the folders mean if there is no label file.
    #[serde(default)]
    pub layout: Layout,
    /// The new model, an ONNX file.
    pub output: PathBuf,
    /// Replace an existing output.
    #[serde(default, skip_serializing)]
    pub force: bool,
    /// Store the weights as float16 instead of quantising to integers.
    #[serde(default)]
    pub float16: bool,
    /// How the ranges of the integers are chosen.
    #[serde(default)]
    pub calibration: Calibration,
    /// Maximum number of calibration images, taken from the training images.
    #[serde(default = "default_calibration_images")]
    pub calibration_images: usize,
    /// Layers that stay in floats.
    #[serde(default)]
    pub keep_float: Vec<String>,
    /// Percentage of calibration images whose class may change; above this, the most sensitive layers stay float32.
    #[serde(default = "default_max_loss")]
    pub max_loss: f64,
    /// Bits of a weight, 7 or 8.
    #[serde(default = "default_weight_bits")]
    pub weight_bits: u32,
    /// Settings of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineParams,
}

fn default_calibration_images() -> usize {
    100
}

fn default_max_loss() -> f64 {
    1.0
}

fn default_weight_bits() -> u32 {
    8
}

impl QuantizeConfig {
    /// Description of the job for progress displays.
    pub fn job_info(&self) -> JobInfo {
        JobInfo {
            out: Some(self.output.clone()),
            resume: "run the same command again; it starts from the beginning".to_owned(),
            ..JobInfo::new(JobKind::Quantize, self)
        }
    }

    fn check(&self) -> Result<()> {
        check_output(&self.output, self.force)?;
        let wrong = |name, value: String, problem: &str| {
            Err(Error::Parameter {
                name,
                value,
                problem: problem.into(),
            })
        };
        if !matches!(self.weight_bits, 7 | 8) {
            let bits = self.weight_bits.to_string();
            return wrong("--weight-bits", bits, "must be 7 or 8");
        }
        if !(0.0..=100.0).contains(&self.max_loss) {
            let loss = self.max_loss.to_string();
            return wrong("--max-loss", loss, "must be a percentage from 0 to 100");
        }
        if self.calibration_images == 0 && !self.float16 {
            let problem = "calibration needs at least 1 image";
            return wrong("--calibration-images", "0".into(), problem);
        }
        Ok(())
    }
}

/// Comparison of a model and its quantised version on the same images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Number of images.
    pub images: usize,
    /// Accuracy before and after, 0 to 1.
    pub accuracy: [f64; 2],
    /// Mean cross-entropy before and after, in nats.
    pub loss: [f64; 2],
    /// Share of images with the same predicted class before and after.
    pub agreement: f64,
    /// Mean absolute difference of a probability.
    pub mean_abs_diff: f64,
    /// Largest absolute difference of a probability.
    pub max_abs_diff: f32,
}

/// Result of quantisation.
#[derive(Clone, Debug)]
pub struct QuantizeReport {
    /// Type of the weights.
    pub precision: Precision,
    /// Which images the models were compared on: `validation`, `test` or `all`.
    pub split: &'static str,
    /// The comparison on them.
    pub comparison: Comparison,
    /// Number of quantisable layers with weights; 0 for float16.
    pub layers: usize,
    /// Layers that stayed in floats.
    pub float_layers: Vec<String>,
    /// File sizes before and after.
    pub bytes: [u64; 2],
    /// The new file.
    pub output: PathBuf,
    /// Its verification.
    pub verification: Verification,
}

/// Quantises the saved model `config.model`, compares the two on images not used in training, writes the new one,
/// reloads and verifies it.
///
/// # Errors
/// [`Error::OutputExists`]; [`Error::Parameter`]; those of [`SavedModel::open`], [`Dataset::open`] and
/// [`Quantizer::new`]; [`Error::NotSame`] if the saved file does not give the recorded results.
pub fn quantize(config: &QuantizeConfig, progress: &Progress) -> Result<QuantizeReport> {
    config.check()?;
    let model = SavedModel::open(&config.model)?;
    progress.info_once(uses::of_saved(model.record()));
    let (source_sha256, bytes_before) = fingerprint(&config.model)?;
    let pictures = Pictures::open(config, &model, progress)?;
    let (graph, float_layers, layers, calibration_images) = if config.float16 {
        let graph = with_float16_weights(model.graph());
        (graph, Vec::new(), 0, 0)
    } else {
        let tensors = calibration_tensors(config, &model, &pictures, progress)?;
        let (graph, float, layers) = integers(config, &model, &tensors, progress)?;
        (graph, float, layers, tensors.len())
    };
    let precision = match config.float16 {
        true => Precision::Float16,
        false => Precision::Int8,
    };
    let mut record = model.record().clone();
    record.program_version = env!("CARGO_PKG_VERSION").to_owned();
    record.reference.tolerance = (precision == Precision::Int8).then_some(TOLERANCE);
    let mut quantized = SavedModel::new(graph, record)?;
    let (comparison, images) = compare(config, &model, &quantized, &pictures, progress)?;
    quantized.set_quantization(QuantizationRecord {
        precision,
        source_sha256,
        calibration: (precision == Precision::Int8).then_some(config.calibration),
        calibration_images,
        float_layers: float_layers.clone(),
        split: pictures.split.to_owned(),
        images: comparison.images,
        accuracy_before: comparison.accuracy[0] as f32,
        accuracy_after: comparison.accuracy[1] as f32,
        agreement: comparison.agreement as f32,
    })?;
    progress.phase(Phase::Save, None);
    quantized.set_reference(images)?;
    let bytes_after = quantized.write(&config.output)?;
    progress.emit(quantized_event(
        precision,
        &pictures,
        &comparison,
        [bytes_before, bytes_after],
        &float_layers,
    ));
    progress.emit(Event::Saved {
        path: config.output.clone(),
        bytes: bytes_after,
    });
    let verification = verify(&config.output, Some(&pictures.dataset.root), progress)?;
    verification.require_same(&config.output)?;
    Ok(QuantizeReport {
        precision,
        split: pictures.split,
        comparison,
        layers,
        float_layers,
        bytes: [bytes_before, bytes_after],
        output: config.output.clone(),
        verification,
    })
}

fn quantized_event(
    precision: Precision,
    pictures: &Pictures,
    comparison: &Comparison,
    [bytes_before, bytes_after]: [u64; 2],
    float_layers: &[String],
) -> Event {
    Event::Quantized {
        numbers: precision.name().to_owned(),
        split: pictures.split.to_owned(),
        images: comparison.images,
        accuracy_before: comparison.accuracy[0] as f32,
        accuracy_after: comparison.accuracy[1] as f32,
        loss_before: comparison.loss[0] as f32,
        loss_after: comparison.loss[1] as f32,
        agreement: comparison.agreement as f32,
        mean_abs_diff: comparison.mean_abs_diff as f32,
        max_abs_diff: comparison.max_abs_diff,
        bytes_before,
        bytes_after,
        float_layers: float_layers.to_vec(),
    }
}

/// The images of a dataset, split.
struct Pictures {
    dataset: Dataset,
    /// Calibration images, with the model's predicted class of each.
    calibration: Vec<(PathBuf, usize)>,
    /// Comparison images, likewise.
    compared: Vec<(PathBuf, usize)>,
    /// Which images the latter are: `validation`, `test` or `all`.
    split: &'static str,
}

impl Pictures {
    fn open(config: &QuantizeConfig, model: &SavedModel, progress: &Progress) -> Result<Pictures> {
        let source = Source {
            root: &config.dataset,
            labels: config.labels.as_deref(),
            layout: config.layout,
            allow_missing: config.pipeline.allow_missing,
        };
        let dataset = open_dataset(&source, progress)?;
        let class_of = match_classes(&config.dataset, &dataset, model.classes())?;
        let labelled: Vec<_> = dataset
            .samples
            .iter()
            .filter_map(|sample| Some((sample, sample.class?)))
            .collect();
        if labelled.is_empty() {
            return Err(Error::Dataset {
                path: config.dataset.clone(),
                problem:
                    "it has no labelled images; quantize needs one folder per class, or --labels"
                        .into(),
            });
        }
        let given: Vec<Option<Split>> = labelled.iter().map(|(sample, _)| sample.split).collect();
        let labels: Vec<usize> = labelled.iter().map(|&(_, class)| class).collect();
        let training = &model.record().training;
        let (validation, test) = (training.validation_split, training.test_split);
        let splits = divide(&given, &labels, validation, test, training.head.seed)?;
        let of = |wanted: Option<Split>| -> Vec<(PathBuf, usize)> {
            let members = labelled.iter().zip(&splits);
            members
                .filter(|(_, split)| wanted.is_none_or(|wanted| **split == wanted))
                .map(|((sample, class), _)| (sample.path.clone(), class_of[*class]))
                .collect()
        };
        let counts = [Split::Training, Split::Validation, Split::Test].map(|s| of(Some(s)).len());
        let trained_with = [
            training.training_images,
            training.validation_images,
            training.test_images,
        ];
        let as_in_training = counts == trained_with;
        if !as_in_training {
            progress.info(format!(
                "{} is not the dataset that the model was trained on ({}); comparing on all of its {}",
                shown(&config.dataset),
                count(trained_with.iter().sum::<usize>(), "image"),
                count(labelled.len(), "image")
            ));
        }
        let (split, compared) = match counts {
            [_, n, _] if as_in_training && n > 0 => ("validation", of(Some(Split::Validation))),
            [_, _, n] if as_in_training && n > 0 => ("test", of(Some(Split::Test))),
            _ => ("all", of(None)),
        };
        let source = match as_in_training {
            true => of(Some(Split::Training)),
            false => of(None),
        };
        Ok(Pictures {
            calibration: evenly(&source, config.calibration_images),
            compared,
            split,
            dataset,
        })
    }
}

/// At most `count` of `items`, evenly spaced, so that each class keeps its share.
fn evenly<T: Clone>(items: &[T], count: usize) -> Vec<T> {
    let count = count.min(items.len());
    (0..count)
        .map(|i| items[i * items.len() / count].clone())
        .collect()
}

/// Input tensors of the calibration images; those that cannot be read are left out.
fn calibration_tensors(
    config: &QuantizeConfig,
    model: &SavedModel,
    pictures: &Pictures,
    progress: &Progress,
) -> Result<Vec<Vec<f32>>> {
    let paths: Vec<PathBuf> = pictures.calibration.iter().map(|p| p.0.clone()).collect();
    let mut tensors = Vec::new();
    in_order(
        &pictures.dataset.root,
        &paths,
        &config.pipeline,
        Phase::Calibrate,
        progress,
        || model.preparation(),
        |_, values| {
            tensors.extend(values.ok());
            Ok(())
        },
    )?;
    match tensors.is_empty() {
        true => Err(Error::Dataset {
            path: config.dataset.clone(),
            problem: "none of the calibration images can be used".into(),
        }),
        false => Ok(tensors),
    }
}

/// The graph in integers, the layers that stayed in floats, and the number of layers that could be integers.
fn integers(
    config: &QuantizeConfig,
    model: &SavedModel,
    tensors: &[Vec<f32>],
    progress: &Progress,
) -> Result<(OnnxGraph, Vec<String>, usize)> {
    let quantizer = Quantizer::new(
        model.graph(),
        model.input_shape(),
        tensors,
        config.calibration,
        config.weight_bits,
        config.pipeline.worker_count(),
    )?;
    progress.checkpoint()?;
    let layers = quantizer.layers();
    for name in &config.keep_float {
        if !layers.contains(&name.as_str()) {
            return Err(Error::Parameter {
                name: "--keep-float",
                value: name.clone(),
                problem: format!("the layers that can be quantised are {}", layers.join(", ")),
            });
        }
    }
    let mut float: Vec<&str> = config.keep_float.iter().map(String::as_str).collect();
    // The last layer is small, and its outputs are the visible result.
    if let Some(&last) = layers.last()
        && layers.len() > 1
        && !float.contains(&last)
    {
        float.push(last);
    }
    let expected = quantizer.outputs(&layers, tensors)?;
    let found = quantizer.outputs(&float, tensors)?;
    let share = |found: &[Vec<f32>]| 100.0 * changed(found, &expected) / tensors.len() as f64;
    let mut best = (share(&found), float.len());
    let mut order: Vec<String> = Vec::new();
    if best.0 > config.max_loss {
        let (some, their_expected) = most_changed(tensors, &found, &expected);
        progress.info(format!(
            "{:.1} % of the calibration images change class; looking for sensitive layers to keep in float32",
            best.0
        ));
        order =
            quantizer.most_sensitive(&float, &some, &their_expected, || progress.checkpoint())?;
    }
    let given = float.len();
    let mut kept = 1;
    while best.0 > config.max_loss && kept <= order.len() / 2 {
        progress.checkpoint()?;
        let mut tried = float.clone();
        tried.extend(order[..kept].iter().map(String::as_str));
        let share = share(&quantizer.outputs(&tried, tensors)?);
        if share < best.0 {
            best = (share, tried.len());
        }
        kept *= 2;
    }
    float.extend(order[..best.1 - given].iter().map(String::as_str));
    if best.0 > config.max_loss {
        progress.warn(format!(
            "{:.1} % of the calibration images change class, more than --max-loss {}; more --calibration-images or another --calibration may help",
            best.0, config.max_loss
        ));
    }
    let graph = quantizer.quantized(&float);
    let kept = layers.iter().filter(|layer| float.contains(layer));
    let kept = kept.map(|&layer| layer.to_owned()).collect();
    Ok((graph, kept, layers.len()))
}

/// Number of images whose predicted class changes.
fn changed(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let first = |values: &Vec<f32>| first_of(aview1(values));
    let pairs = found.iter().zip(expected);
    pairs.filter(|(a, b)| first(a) != first(b)).count() as f64
}

/// The images whose outputs differ most from the expected ones, with the expected outputs.
fn most_changed(
    tensors: &[Vec<f32>],
    found: &[Vec<f32>],
    expected: &[Vec<f32>],
) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let difference = |i: usize| {
        let pairs = found[i].iter().zip(&expected[i]);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| difference(b).total_cmp(&difference(a)));
    order.truncate(SENSITIVITY_IMAGES);
    let of = |all: &[Vec<f32>]| order.iter().map(|&i| all[i].clone()).collect();
    (of(tensors), of(expected))
}

/// Runs both models on the same images. Also returns the new model's outputs for some of them, one of each class in
/// turn.
fn compare(
    config: &QuantizeConfig,
    before: &SavedModel,
    after: &SavedModel,
    pictures: &Pictures,
    progress: &Progress,
) -> Result<(Comparison, Vec<ReferenceImage>)> {
    let paths: Vec<PathBuf> = pictures.compared.iter().map(|p| p.0.clone()).collect();
    let classes = before.classes().len();
    let mut confusions = [ConfusionMatrix::new(classes), ConfusionMatrix::new(classes)];
    let mut sums = Comparison::default();
    let (mut same, mut differences) = (0, 0.0);
    let mut by_class: Vec<Vec<(usize, Vec<f32>)>> = vec![Vec::new(); classes];
    in_order(
        &pictures.dataset.root,
        &paths,
        &config.pipeline,
        Phase::Evaluate,
        progress,
        || before.session_beside(after),
        |place, values| {
            let Ok(values) = values else {
                return Ok(());
            };
            let truth = pictures.compared[place].1;
            let (a, b) = values.split_at(classes);
            for (i, probabilities) in [a, b].into_iter().enumerate() {
                confusions[i].record(truth, first_of(aview1(probabilities)));
                sums.loss[i] += f64::from(surprise(probabilities[truth]));
            }
            same += usize::from(first_of(aview1(a)) == first_of(aview1(b)));
            for (a, b) in a.iter().zip(b) {
                differences += f64::from((a - b).abs());
                sums.max_abs_diff = sums.max_abs_diff.max((a - b).abs());
            }
            if by_class[truth].len() < REFERENCE_IMAGES {
                by_class[truth].push((place, b.to_vec()));
            }
            Ok(())
        },
    )?;
    let images = confusions[0].total() as usize;
    if images == 0 {
        return Err(Error::Dataset {
            path: config.dataset.clone(),
            problem: "none of its images can be used".into(),
        });
    }
    let count = images as f64;
    let comparison = Comparison {
        images,
        accuracy: [confusions[0].accuracy(), confusions[1].accuracy()],
        loss: sums.loss.map(|loss| loss / count),
        agreement: same as f64 / count,
        mean_abs_diff: differences / (count * classes as f64),
        max_abs_diff: sums.max_abs_diff,
    };
    let references = (0..REFERENCE_IMAGES)
        .flat_map(|i| by_class.iter().filter_map(move |of_class| of_class.get(i)))
        .take(REFERENCE_IMAGES)
        .filter_map(|(place, probabilities)| {
            reference(&pictures.dataset.root, &paths[*place], probabilities)
        })
        .collect();
    Ok((comparison, references))
}

/// The reference record of an image; `None` if its file is gone.
fn reference(root: &Path, path: &Path, probabilities: &[f32]) -> Option<ReferenceImage> {
    let (bytes, _) = read_file(&root.join(path)).ok()?;
    Some(ReferenceImage {
        path: path.to_str()?.to_owned(),
        sha256: hex_sha256(&bytes),
        probabilities: probabilities.to_vec(),
    })
}
