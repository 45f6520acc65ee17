//! The card of a model that has none: what its graph tells, and a guess at the rest. Touches no file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::card::{ModelCard, Pool};
use super::input_size::InputSize;
use super::onnx::OnnxGraph;
use crate::error::Result;
use crate::pixels::{Layout, Preprocess};

/// Height and width where neither the graph nor a card gives any.
const USUAL_INPUT_SIZE: u32 = 224;

/// The usual ways of preparing pictures, by the framework that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preparation {
    /// RGB from 0 to 1, less ImageNet's mean, by its standard deviation: torchvision, MXNet, most of timm.
    Torch,
    /// RGB from −1 to 1: Keras' Inception, Xception, MobileNet.
    Tf,
    /// BGR from 0 to 255, less ImageNet's mean: Caffe, Keras' VGG and ResNet.
    Caffe,
    /// RGB from 0 to 255: the network prepares its pictures itself, as Keras' EfficientNet does.
    Raw,
}

impl Preparation {
    /// What is done, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Preparation::Torch => "RGB, 0 to 1, ImageNet mean and deviation (torch)",
            Preparation::Tf => "RGB, -1 to 1 (tf)",
            Preparation::Caffe => "BGR, 0 to 255 less the ImageNet mean (caffe)",
            Preparation::Raw => "RGB, 0 to 255 (raw)",
        }
    }

    /// The same as numbers, for a network of this layout.
    pub fn preprocess(self, layout: Layout) -> Preprocess {
        let preprocess = match self {
            Preparation::Torch => Preprocess::torch(),
            Preparation::Tf => Preprocess::tf(),
            Preparation::Caffe => Preprocess::caffe(),
            Preparation::Raw => Preprocess {
                scale: 1.0,
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

/// Height and width that `graph` states for its pictures; a side that is free is taken to be as the other one. None if
/// both are.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no picture input.
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

/// Makes a card for the file `path` from its graph. Sentences on what is a guess go to `warnings`.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no picture input.
pub(super) fn guess_card(
    graph: &OnnxGraph,
    path: &Path,
    preparation: Option<Preparation>,
    warnings: &mut Vec<String>,
) -> Result<ModelCard> {
    let (input, dims) = graph.input()?;
    let layout = match dims[..] {
        [_, _, _, Some(3)] if dims[1] != Some(3) => Layout::Nhwc,
        _ => Layout::Nchw,
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (preparation, reason) = match preparation {
        Some(preparation) => (preparation, None),
        None => {
            let (preparation, reason) = guess_preparation(graph, &input);
            (preparation, Some(reason))
        }
    };
    if let Some(reason) = reason {
        warnings.push(format!(
            "{} has no card ({} beside it); its pictures are prepared as {}, which is a guess {reason}",
            path.display(),
            path.with_extension("toml")
                .file_name()
                .unwrap_or_default()
                .to_string_lossy(),
            preparation.describe()
        ));
    }
    Ok(ModelCard {
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
        source: String::new(),
        license: String::new(),
        checked: true,
        parameters: 0,
        features: 0,
        top1: None,
        input_size: stated_size(graph, layout)?.unwrap_or(InputSize::from(USUAL_INPUT_SIZE)),
        min_size: 1,
        cut: None,
        pool: Pool::Avg,
        logits: None,
        labels: None,
        preprocess: preparation.preprocess(layout),
    })
}

fn guess_preparation(graph: &OnnxGraph, input: &str) -> (Preparation, String) {
    let constants = graph.weight_shapes();
    let nodes = graph.nodes();
    // Past a transposition, which turns channels last into channels first.
    let mut tensor = input;
    let first = loop {
        match nodes.iter().find(|n| n.inputs.iter().any(|i| i == tensor)) {
            Some(node) if node.op_type == "Transpose" => tensor = &node.outputs[0],
            other => break other,
        }
    };
    if let Some(node) = first
        && matches!(node.op_type.as_str(), "Mul" | "Sub" | "Div" | "Add")
        && node.inputs.iter().any(|i| constants.contains_key(i))
    {
        let reason = format!("from its first operator, {} `{}`", node.op_type, node.name);
        return (Preparation::Raw, reason);
    }
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
        "" => "(the usual one)".to_owned(),
        name => format!("from the program that wrote it, {name}"),
    };
    (preparation, reason)
}
