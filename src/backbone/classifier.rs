//! The ImageNet classifier as which a backbone was trained.

use super::cut::Layouts;
use super::input_size::InputSize;
use super::network::tensor_shapes;
use super::onnx::Attribute;
use super::zoo::{find, label_list};
use super::{
    Network, PictureSession, Tail, cut, import, input_shape, input_size, with_size_advice,
};
use crate::error::Result;
use crate::pixels::{Layout, Preprocess};

/// A backbone with its own classifier.
pub struct Classifier {
    network: Network,
    preprocess: Preprocess,
    labels: Vec<String>,
    feature_len: Option<usize>,
    tail: Tail,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// One class of a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// 0-based index of the class.
    pub class: usize,
    /// Its name.
    pub label: String,
    /// Its probability, 0 to 1.
    pub probability: f32,
}

impl Classifier {
    /// Opens a backbone with its classifier, by name or path.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if it has no classifier.
    pub fn open(model: &str, size: Option<InputSize>) -> Result<Classifier> {
        let found = find(model, None)?;
        let mut graph = found.graph;
        let Some(logits) = found.tail.logits.clone() else {
            return Err(graph.fail(
                "it has no classifier, only features; use one with logits, such as efficientnet-lite0, or train a head \
                 with `tl-batch fit`",
            ));
        };
        let is_guess = found.size_is_guess && size.is_none();
        let size = input_size(&found.card, size)?;
        let shape = input_shape(&graph, found.card.preprocess.layout, size)?;
        let layouts = Layouts::of(&graph, found.card.preprocess.layout);
        let feature_len = tensor_shapes(&graph, shape)?
            .get(&found.tail.features)
            .and_then(|shape| match *shape.get(1..)? {
                [channels, height, width] => match layouts.at(&found.tail.features) {
                    Layout::Nchw => found.card.pool.feature_len(&[height, width, channels]),
                    Layout::Nhwc => found.card.pool.feature_len(&[channels, height, width]),
                },
                ref other => found.card.pool.feature_len(other),
            });
        let logits = cut::find_cut(&graph, &logits)?;
        graph.keep(std::slice::from_ref(&logits))?;
        import::settle(&mut graph, shape)?;
        let flat = cut::flattened(&mut graph, &logits);
        let output = graph.fresh_name("probabilities");
        graph.add_node("Softmax", &output, &[&flat], &[("axis", Attribute::Int(1))]);
        graph.set_output(&output, &[]);
        let network = Network::load(&graph, shape).map_err(|error| match is_guess {
            true => with_size_advice(error, size),
            false => error,
        })?;
        let classes = network
            .output_shapes()
            .first()
            .map_or(0, |s| s.iter().product());
        let list = match &found.card.labels {
            Some(name) => Some(label_list(name).ok_or_else(|| {
                graph.fail(format!("its card names an unknown label list `{name}`"))
            })?),
            None => imagenet_list(classes),
        };
        let labels = list.unwrap_or_else(|| (0..classes).map(|i| format!("class {i}")).collect());
        if labels.len() != classes {
            return Err(graph.fail(format!(
                "it has {classes} classes but its label list has {}",
                labels.len()
            )));
        }
        Ok(Classifier {
            network,
            preprocess: found.card.preprocess,
            labels,
            feature_len,
            tail: found.tail,
            notes: found.notes,
            warnings: found.warnings,
        })
    }

    /// Class names in the order of the outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The end of the backbone: its features and its logits.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Number of features that its classifier reads, pooled; `None` if it cannot be found.
    pub fn feature_len(&self) -> Option<usize> {
        self.feature_len
    }

    /// Messages about files beside the backbone.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Messages about what had to be guessed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes the state that one worker needs to run this classifier; its output is one probability per label.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if the network cannot be set up.
    pub fn session(&self) -> Result<PictureSession> {
        PictureSession::new(&self.network, &self.preprocess)
    }
}

/// The ImageNet labels for 1,000 classes, or for 1,001 with a leading `background`.
fn imagenet_list(classes: usize) -> Option<Vec<String>> {
    let mut labels = super::zoo::imagenet_labels();
    if classes == labels.len() + 1 {
        labels.insert(0, "background".to_owned());
    }
    (labels.len() == classes).then_some(labels)
}

/// The `k` most probable classes, most probable first; on a tie the lower index first.
pub fn top_k(probabilities: &[f32], labels: &[String], k: usize) -> Vec<Prediction> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| {
        probabilities[b]
            .total_cmp(&probabilities[a])
            .then(a.cmp(&b))
    });
    order
        .into_iter()
        .take(k)
        .map(|class| Prediction {
            class,
            label: labels
                .get(class)
                .cloned()
                .unwrap_or_else(|| format!("class {class}")),
            probability: probabilities[class],
        })
        .collect()
}
