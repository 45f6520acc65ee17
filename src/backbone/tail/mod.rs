//! The end of a graph: its classifier, and the features that the classifier reads. No file access.

mod finder;
mod operators;

use self::finder::{End, Finder};
use super::card::Pool;
use super::onnx::{DeclaredOutput, OnnxGraph};
use super::outputs;
use crate::error::Result;

/// Widths of ImageNet's classifiers: 1,000 classes, with a background class, and the larger sets.
const IMAGENET_WIDTHS: [usize; 6] = [1000, 1001, 11221, 21841, 21842, 21843];

/// Maximum number of outputs examined.
const MOST_OUTPUTS: usize = 64;

/// The two tensors at the end of an ImageNet classifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tail {
    /// The tensor before the softmax; `None` if the graph has no classifier.
    pub logits: Option<String>,
    /// The tensor that the classifier reads; without a classifier, the output.
    pub features: String,
    /// How the graph itself pools what the classifier makes of the features, where it does so after the classifier.
    pub pool: Option<Pool>,
    /// Messages about choices, for users who do not select a feature layer.
    pub notes: Vec<String>,
}

/// Whether a tensor of this many values may well be the logits of an ImageNet classifier.
pub(super) fn is_imagenet_width(values: usize) -> bool {
    IMAGENET_WIDTHS.contains(&values)
}

/// Finds the logits and the features of a graph by walking back from its outputs.
///
/// The classifier is the last layer that multiplies by a weight matrix: `Gemm`, `MatMul`, `Einsum` or their
/// quantised forms; a 1 × 1 convolution after a global pooling, as in Keras's MobileNet; a convolution that a global
/// pooling follows, as in SqueezeNet. Between it and the output may be whatever makes probabilities of logits. Weights
/// may come through any operators that do not depend on the image. A dense layer that is followed by an activation
/// or a normalisation, or whose output is called an embedding, is not a classifier but makes features.
///
/// Of several outputs the one is taken that is called features (`pooler_output`, `image_embeds` …), else the first
/// with one vector per image, else `last_hidden_state`, else the last that is computed. Shapes that the file does not
/// declare are those for the input shape `input`, batch included, if there is one.
///
/// # Errors
/// [`crate::Error::Model`] if the graph has no output.
pub fn find_tail(graph: &OnnxGraph, input: Option<[usize; 4]>) -> Result<Tail> {
    let nodes = graph.nodes();
    let finder = Finder::new(graph, &nodes, input);
    let declared = graph.declared_outputs();
    let declared = declared.into_iter().take(MOST_OUTPUTS);
    let outputs: Vec<DeclaredOutput> = declared.map(|o| finder.completed(o)).collect();
    let ends: Vec<Option<End>> = outputs.iter().map(|o| finder.end(&o.name)).collect();
    let has_classifier: Vec<bool> = ends.iter().map(Option::is_some).collect();
    let made_at = |o: &DeclaredOutput| finder.flow.maker(&o.name).map_or(0, |(place, _)| place);
    let places: Vec<usize> = outputs.iter().map(made_at).collect();
    let chosen = outputs::choose(&outputs, &has_classifier, &places)
        .ok_or_else(|| graph.fail("it has no output"))?;
    let name = outputs[chosen].name.clone();
    let is_named = outputs.len() > 1 && outputs::is_called_features(&name);
    let mut notes = Vec::new();
    let tail = match &ends[chosen] {
        Some(end) if !is_named => {
            notes.extend(end.note());
            Tail {
                logits: Some(end.logits.clone()),
                features: end.features[0].clone(),
                pool: end.pool,
                notes: Vec::new(),
            }
        }
        _ => Tail {
            logits: ends.iter().flatten().map(|e| e.logits.clone()).next(),
            features: name.clone(),
            pool: None,
            notes: Vec::new(),
        },
    };
    if outputs.len() > 1 {
        let way = match tail.features == name {
            true => format!("its features are {name}"),
            false => format!("its features are {}, which leads to {name}", tail.features),
        };
        notes.push(format!(
            "{} has {} outputs, {}: {way}; choose another with --feature-layer",
            graph.name(),
            outputs.len(),
            outputs::listed(&outputs)
        ));
    }
    Ok(Tail { notes, ..tail })
}
