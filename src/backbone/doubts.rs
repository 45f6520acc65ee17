//! Warns of a feature layer that holds a classifier's output instead of its input. No file access.

use super::flow::Flow;
use super::onnx::OnnxGraph;
use super::tail::{Tail, is_imagenet_width};

/// Why a cut may hold no features.
pub(super) struct Doubt {
    cut: String,
    what: String,
    advice: String,
    /// Whether it is one only if the features are as many as ImageNet has classes.
    by_width: bool,
}

impl Doubt {
    /// The doubts about `cut`, a tensor of `graph`; `tail` is the end of the graph.
    pub fn of(graph: &OnnxGraph, cut: &str, tail: &Tail) -> Option<Doubt> {
        let nodes = graph.nodes();
        let flow = Flow::of(graph, &nodes);
        let source = past_shapes(&flow, cut);
        let softmax = flow.maker(source).filter(|(_, node)| {
            matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax" | "Hardmax")
        });
        let is_end = |output: &String| output == cut || past_shapes(&flow, output) == source;
        let mut by_width = false;
        let what = if let Some((_, node)) = softmax {
            format!("holds probabilities (the output of {})", node.op_type)
        } else if let Some(logits) = &tail.logits
            && tail.features != cut
            && flow.depends(cut, logits, usize::MAX)
        {
            match logits == cut {
                true => "holds the logits of the classifier".to_owned(),
                false => format!("is computed from the logits of the classifier, {logits}"),
            }
        } else if tail.logits.is_none() && graph.outputs().iter().any(is_end) {
            by_width = true;
            "is the last of the graph and has as many values as ImageNet has classes, like logits"
                .to_owned()
        } else {
            return None;
        };
        let advice = match tail.logits.is_some() && tail.features != cut {
            true => format!("without --feature-layer they are {}", tail.features),
            false => {
                "choose a layer before the classifier with --feature-layer; `tl-batch summary` lists them"
                    .to_owned()
            }
        };
        Some(Doubt {
            cut: cut.to_owned(),
            what,
            advice,
            by_width,
        })
    }

    /// A sentence on it, for a cut with `values` features per image; `None` if there is no reason to doubt.
    pub fn sentence(&self, values: usize) -> Option<String> {
        let Doubt {
            cut, what, advice, ..
        } = self;
        (!self.by_width || is_imagenet_width(values)).then(|| {
            format!(
                "the features are {cut}, which {what}: much information about the image is already lost there; {advice}"
            )
        })
    }
}

/// The tensor whose values `tensor` has in another shape.
fn past_shapes<'a>(flow: &Flow<'a>, tensor: &'a str) -> &'a str {
    let mut tensor = tensor;
    while let Some((_, node)) = flow.maker(tensor)
        && matches!(
            node.op_type.as_str(),
            "Identity" | "Dropout" | "Cast" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze"
        )
        && let Some(input) = flow.data_input(node)
    {
        tensor = input;
    }
    tensor
}
