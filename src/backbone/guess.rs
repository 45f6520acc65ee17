//! Makes a card for a model without one, from its graph and by guessing the rest. No file access.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::card::{ModelCard, Pool};
use super::flow::Flow;
use super::input_size::InputSize;
use super::onnx::{OnnxGraph, OnnxNode};
use super::processor;
use super::tokens::picture_side;
use crate::error::Result;
use crate::pixels::{Layout, Preprocess};

/// Default height and width.
pub(super) const USUAL_INPUT_SIZE: u32 = 224;

/// Maximum number of operators of a graph's own preprocessing.
const LONGEST: usize = 32;

/// Common preprocessing modes, by framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preparation {
    /// RGB from 0 to 1, minus ImageNet's mean, divided by its standard deviation: torchvision, MXNet, most of timm.
    Torch,
    /// RGB from −1 to 1: Keras's Inception, Xception, MobileNet.
    Tf,
    /// BGR from 0 to 255, minus ImageNet's mean: Caffe, Keras's VGG and ResNet.
    Caffe,
    /// RGB from 0 to 255: the network does its own preprocessing, like Keras's EfficientNet.
    Raw,
    /// RGB from 0 to 1: the network subtracts the mean itself.
    Unit,
}

impl Preparation {
    /// A description.
    pub fn describe(self) -> &'static str {
        match self {
            Preparation::Torch => "RGB, 0 to 1, ImageNet mean and standard deviation (torch)",
            Preparation::Tf => "RGB, -1 to 1 (tf)",
            Preparation::Caffe => "BGR, 0 to 255, ImageNet mean subtracted (caffe)",
            Preparation::Raw => "RGB, 0 to 255 (raw)",
            Preparation::Unit => "RGB, 0 to 1 (unit)",
        }
    }

    /// The same as numbers, for a network of this layout.
    pub fn preprocess(self, layout: Layout) -> Preprocess {
        let preprocess = match self {
            Preparation::Torch => Preprocess::torch(),
            Preparation::Tf => Preprocess::tf(),
            Preparation::Caffe => Preprocess::caffe(),
            Preparation::Raw | Preparation::Unit => Preprocess {
                scale: match self {
                    Preparation::Raw => 1.0,
                    _ => 1.0 / 255.0,
                },
                mean: [0.0; 3],
                std: [1.0; 3],
                ..Preprocess::torch()
            },
        };
        Preprocess {
            layout,
            ..preprocess
        }
    }
}

/// Height and width that `graph` states for its images; a side that is free is taken to be as the other one. None if
/// both are.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no image input.
pub(super) fn stated_size(graph: &OnnxGraph, layout: Layout) -> Result<Option<InputSize>> {
    let (_, dims) = graph.input()?;
    let (height, width) = match layout {
        Layout::Nchw => (dims[2], dims[3]),
        Layout::Nhwc => (dims[1], dims[2]),
    };
    let side = |side: Option<usize>| side.and_then(|side| u32::try_from(side).ok());
    let (height, width) = (side(height), side(width));
    Ok(height.or(width).map(|_| InputSize {
        height: height.or(width).unwrap_or(USUAL_INPUT_SIZE),
        width: width.or(height).unwrap_or(USUAL_INPUT_SIZE),
    }))
}

/// A card made for a model without one, and how.
pub(super) struct GuessedCard {
    pub card: ModelCard,
    /// Height and width in pixels that files beside the model state.
    pub own_size: Option<u32>,
    /// Messages about files beside the model.
    pub notes: Vec<String>,
    /// Warnings about guesses and unusable files.
    pub warnings: Vec<String>,
}

/// Makes a card for the file `path` from its graph and from files of other programs beside it; `preparation` is the user's
/// preprocessing mode.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no image input.
pub(super) fn guess_card(
    graph: &OnnxGraph,
    path: &Path,
    preparation: Option<Preparation>,
) -> Result<GuessedCard> {
    let (input, dims) = graph.input()?;
    let layout = match dims[..] {
        [_, _, _, Some(3)] if dims[1] != Some(3) => Layout::Nhwc,
        _ => Layout::Nchw,
    };
    let stated = stated_size(graph, layout)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (mut notes, mut warnings) = (Vec::new(), Vec::new());
    let processor = match preparation {
        None => processor::beside(path, &mut warnings),
        Some(_) => None,
    };
    let own = own_preparation(graph, &input);
    let mut size_beside = None;
    let preprocess = match (preparation, processor) {
        (Some(preparation), _) => preparation.preprocess(layout),
        (None, Some(found)) => {
            notes.push(found.sentence());
            let is_scaled = found.preprocess.scale < 0.1;
            if let Some((Preparation::Raw, reason)) = own.filter(|_| is_scaled) {
                warnings.push(format!(
                    "{} seems to preprocess images of 0 to 255 itself (judging {reason}), in addition to {}; if accuracy is poor, write a card with scale = 1",
                    path.display(),
                    found.path.display()
                ));
            }
            size_beside = found.input_size;
            Preprocess {
                layout,
                ..found.preprocess
            }
        }
        (None, None) => {
            let (preparation, reason) = own.unwrap_or_else(|| guess_by_producer(graph));
            warnings.push(format!(
                "{} has no model card ({} next to it); preprocessing is {}, guessed {reason}",
                path.display(),
                path.with_extension("toml")
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy(),
                preparation.describe()
            ));
            preparation.preprocess(layout)
        }
    };
    if let (Some(stated), Some(size)) = (stated, size_beside)
        && stated != InputSize::from(size)
    {
        notes.push(format!(
            "the input of {} is {stated} px, despite the file next to it",
            path.display()
        ));
    }
    let card = ModelCard {
        title: stem.clone().into_owned(),
        name: stem.into_owned(),
        file: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        sha256: String::new(),
        bytes: 0,
        urls: Vec::new(),
        hub: None,
        revision: None,
        source: String::new(),
        license: String::new(),
        checked: true,
        parameters: 0,
        features: 0,
        top1: None,
        gmacs: None,
        good_for: None,
        input_size: stated
            .or(size_beside.map(InputSize::from))
            .or_else(|| picture_side(graph).map(InputSize::from))
            .unwrap_or(InputSize::from(USUAL_INPUT_SIZE)),
        min_size: 1,
        cut: None,
        pool: Pool::Avg,
        prefix_tokens: None,
        logits: None,
        labels: None,
        preprocess,
    };
    Ok(GuessedCard {
        card,
        own_size: size_beside,
        notes,
        warnings,
    })
}

/// What a graph does to its images itself, `y = a·x + b` in each channel, tells what it takes; with a reason. None
/// if it does nothing of the kind at its beginning.
fn own_preparation(graph: &OnnxGraph, input: &str) -> Option<(Preparation, String)> {
    let nodes = graph.nodes();
    let flow = Flow::of(graph, &nodes);
    let mut tensor = input;
    let mut affine = Affine::default();
    let mut first: Option<&OnnxNode> = None;
    // The one node that reads the tensor's values, until there are several or it is a layer.
    for _ in 0..LONGEST {
        let Some((place, node)) = only_reader(&nodes, tensor) else {
            break;
        };
        let is_formula = flow.data_input(node) == Some(tensor);
        match node.op_type.as_str() {
            "Mul" | "Sub" | "Div" | "Add" | "BatchNormalization" if is_formula => {
                affine.add(graph, &flow, node, place, tensor);
                first = first.or(Some(node));
            }
            op if keeps_pixels(op) => {}
            _ => break,
        }
        tensor = node.outputs.first()?;
    }
    let first = first?;
    let reason = format!(
        "from its first operator, {} `{}`",
        first.op_type, first.name
    );
    Some((affine.takes()?, reason))
}

/// Operators that change no value, but its place or type at most.
fn keeps_pixels(op: &str) -> bool {
    matches!(
        op,
        "Cast"
            | "Identity"
            | "Transpose"
            | "Resize"
            | "Upsample"
            | "Unsqueeze"
            | "Squeeze"
            | "Reshape"
            | "Clip"
            | "Dropout"
            | "Pad"
            | "Slice"
    )
}

/// The one node that reads the values of `tensor`, and its place; `None` if there are several.
fn only_reader<'a>(nodes: &'a [OnnxNode], tensor: &str) -> Option<(usize, &'a OnnxNode)> {
    let reads = |node: &&OnnxNode| {
        let reads = node.inputs.iter().any(|input| input == tensor);
        reads && !matches!(node.op_type.as_str(), "Shape" | "Size")
    };
    let mut readers = nodes.iter().enumerate().filter(|(_, node)| reads(node));
    let reader = readers.next()?;
    readers.next().is_none().then_some(reader)
}

/// What the operators so far make of a pixel: `factor · x + shift`, each the largest over the channels; and the
/// values that they take off the pixel itself.
struct Affine {
    factor: f32,
    shift: f32,
    /// Whether a constant on the way could not be read.
    is_unknown: bool,
    is_batch_norm: bool,
}

impl Default for Affine {
    fn default() -> Self {
        Affine {
            factor: 1.0,
            shift: 0.0,
            is_unknown: false,
            is_batch_norm: false,
        }
    }
}

impl Affine {
    /// Adds what `node` at `place` makes of `tensor`.
    fn add(&mut self, graph: &OnnxGraph, flow: &Flow, node: &OnnxNode, place: usize, tensor: &str) {
        let is_first = node.inputs.first().is_some_and(|i| i == tensor);
        let largest = |name: Option<&String>| {
            let values = name.and_then(|name| constant_values(graph, flow, name));
            let largest = |a: f32, b: &f32| if b.abs() > a.abs() { *b } else { a };
            values.map(|values| values.iter().fold(0.0, largest))
        };
        if node.op_type == "BatchNormalization" {
            let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| largest(node.inputs.get(i)));
            let epsilon = graph.attributes(place).float("epsilon").unwrap_or(1e-5);
            self.is_batch_norm = true;
            match (scale, bias, mean, variance) {
                (Some(scale), Some(bias), Some(mean), Some(variance)) => {
                    let factor = scale / (variance + epsilon).sqrt();
                    self.factor *= factor;
                    self.shift = (self.shift - mean) * factor + bias;
                }
                _ => self.is_unknown = true,
            }
            return;
        }
        let other = node.inputs.iter().find(|input| *input != tensor);
        let Some(value) = largest(other) else {
            self.is_unknown = true;
            return;
        };
        match (node.op_type.as_str(), is_first) {
            ("Mul", _) => {
                self.factor *= value;
                self.shift *= value;
            }
            ("Div", true) => {
                self.factor /= value;
                self.shift /= value;
            }
            ("Add", _) => self.shift += value,
            ("Sub", true) => self.shift -= value,
            ("Sub", false) => {
                self.factor = -self.factor;
                self.shift = value - self.shift;
            }
            _ => self.is_unknown = true,
        }
    }

    /// What images a graph takes that begins so: those from which it makes numbers that layers are used to. None if
    /// nothing follows from it.
    fn takes(&self) -> Option<Preparation> {
        // The value that it takes for the middle, in units of the image.
        let middle = -self.shift / self.factor;
        if self.is_batch_norm && !self.is_unknown && middle.abs() < 0.2 {
            // A batch normalisation of images that were normalised before.
            return None;
        }
        let is_unit = self.factor.abs() > 0.1 && middle.abs() <= 2.0;
        Some(match is_unit && !self.is_unknown {
            true => Preparation::Unit,
            false => Preparation::Raw,
        })
    }
}

/// Values of a float32 constant, which may come through operators that leave them as they are.
fn constant_values(graph: &OnnxGraph, flow: &Flow, name: &str) -> Option<Vec<f32>> {
    let mut name = name;
    for _ in 0..LONGEST {
        if let Some(values) = graph.weight_values(name) {
            return Some(values);
        }
        let (_, node) = flow.maker(name)?;
        let keeps = matches!(
            node.op_type.as_str(),
            "Identity" | "Cast" | "Reshape" | "Unsqueeze" | "Squeeze" | "Transpose"
        );
        name = node.inputs.first().filter(|_| keeps)?;
    }
    None
}

fn guess_by_producer(graph: &OnnxGraph) -> (Preparation, String) {
    let producer = graph.producer();
    let lower = producer.to_lowercase();
    let preparation = match lower.as_str() {
        p if p.contains("tf2onnx") || p.contains("keras") || p.contains("tensorflow") => {
            Preparation::Tf
        }
        p if p.contains("caffe") => Preparation::Caffe,
        _ => Preparation::Torch,
    };
    let reason = match producer {
        "" => "(the most common)".to_owned(),
        name => format!("from the program that wrote it, {name}"),
    };
    (preparation, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph that makes of `x` what the operators say, one after another, each with a constant.
    fn graph(operators: &[(&str, f32)]) -> OnnxGraph {
        let text = std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/small.onnx"
        ));
        let mut graph = OnnxGraph::parse(&text.unwrap(), "small").unwrap();
        let (mut tensor, _) = graph.input().unwrap();
        for (i, (op, value)) in operators.iter().enumerate() {
            let (name, constant) = (format!("added{i}"), format!("constant{i}"));
            let inputs = match *op {
                "Mul" | "Sub" | "Div" | "Add" => {
                    graph.add_weight(&constant, &[], [*value].into_iter());
                    vec![tensor.as_str(), constant.as_str()]
                }
                _ => vec![tensor.as_str()],
            };
            graph.add_node(op, &name, &inputs, &[]);
            tensor = name;
        }
        graph.keep(&[tensor]).unwrap();
        graph
    }

    #[test]
    fn what_a_graph_does_to_its_pictures_tells_what_it_takes() {
        use Preparation::{Raw, Unit};
        for (operators, expected) in [
            (&[("Mul", 1.0 / 255.0)][..], Some(Raw)),
            (
                &[("Cast", 0.0), ("Mul", 1.0 / 127.5), ("Add", -1.0)],
                Some(Raw),
            ),
            (
                &[("Identity", 0.0), ("Transpose", 0.0), ("Sub", 117.0)],
                Some(Raw),
            ),
            (&[("Div", 255.0), ("Sub", 0.45), ("Div", 0.22)], Some(Raw)),
            (&[("Sub", 127.5), ("Clip", 0.0), ("Div", 127.5)], Some(Raw)),
            (&[("Sub", 0.45), ("Div", 0.22)], Some(Unit)),
            (&[("Mul", 2.0), ("Sub", 1.0)], Some(Unit)),
            (&[("Mul", 255.0), ("Sub", 117.0)], Some(Unit)),
            (&[("Cast", 0.0), ("Relu", 0.0), ("Mul", 0.1)], None),
        ] {
            let graph = graph(operators);
            let (input, _) = graph.input().unwrap();
            let found = own_preparation(&graph, &input).map(|(preparation, _)| preparation);
            assert_eq!(found, expected, "{operators:?}");
        }
    }
}
