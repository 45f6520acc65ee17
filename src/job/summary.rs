//! The layers and parameters of a model.

use serde::{Deserialize, Serialize};

use crate::backbone::{
    Backbone, BackboneParams, Detail, Layer, Summary, find, input_shape, input_size,
};
use crate::error::{Result, in_range};
use crate::train::check_hidden;

/// Maximum number of classes of a head.
const MOST_CLASSES: usize = 1_000_000;

/// Configuration of [`summary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SummaryConfig {
    /// The backbone and its feature layer.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Number of classes of a dense head after the features; 0 lists the backbone alone.
    #[serde(default)]
    pub head: usize,
    /// Widths of the head's hidden layers.
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// With a head: also list the layers of the backbone.
    #[serde(default)]
    pub expand_nested: bool,
    /// List ONNX nodes instead of layers.
    #[serde(default)]
    pub nodes: bool,
    /// The first trained layer; those before it are frozen. By default all layers count as trained, or as frozen if
    /// there is a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfreeze_from: Option<String>,
}

/// Lists the layers of the backbone, or of the backbone up to its cut (frozen) with a head after it.
///
/// # Errors
/// Those of [`Backbone::open`]; [`crate::Error::Parameter`].
pub fn summary(config: &SummaryConfig) -> Result<Summary> {
    check_hidden(&config.hidden)?;
    in_range("--head", config.head, 0..=MOST_CLASSES)?;
    let detail = match config.nodes {
        true => Detail::Nodes,
        false => Detail::Layers,
    };
    let is_whole =
        config.head == 0 && config.backbone.cut.is_none() && config.backbone.pool.is_none();
    if is_whole {
        let found = find(&config.backbone.model, config.backbone.input_size)?;
        let layout = found.card.preprocess.layout;
        let size = input_size(&found.card, config.backbone.input_size)?;
        let shape = input_shape(&found.graph, layout, size)?;
        let mut summary = Summary::of(&found.graph, shape, layout, detail)?;
        if let Some(layer) = &config.unfreeze_from {
            summary.unfreeze_from(layer)?;
        }
        return Ok(summary);
    }
    let backbone = Backbone::open(&config.backbone)?;
    let mut summary = backbone.summary(detail)?;
    match &config.unfreeze_from {
        Some(layer) => summary.unfreeze_from(layer)?,
        None if config.head > 0 => summary.layers.iter_mut().for_each(Layer::freeze),
        None => {}
    }
    if config.head == 0 {
        return Ok(summary);
    }
    if !config.expand_nested {
        summary.layers = vec![Layer {
            name: backbone.id().model.clone(),
            kind: "Functional".into(),
            output_shape: Some(backbone.feature_shape().to_vec()),
            trainable: summary.trainable(),
            non_trainable: summary.non_trainable(),
            macs: summary.macs(),
            activation_bytes: summary.activation_bytes(),
            ..Layer::default()
        }];
    }
    summary.layers.extend(head_layers(&backbone, config));
    Ok(summary)
}

fn head_layers(backbone: &Backbone, config: &SummaryConfig) -> Vec<Layer> {
    let row = |name: String, kind: &str, units: usize, trainable: usize| Layer {
        name,
        kind: kind.into(),
        output_shape: Some(vec![units]),
        trainable: trainable as u64,
        // One multiply-add per weight; biases have none.
        macs: trainable.saturating_sub(units) as u64,
        activation_bytes: units as u64 * 4,
        ..Layer::default()
    };
    let mut inputs = backbone.feature_len();
    let mut layers = Vec::new();
    if backbone.feature_shape().len() > 1 {
        layers.push(row("flatten".into(), "Flatten", inputs, 0));
    }
    for (i, &units) in config.hidden.iter().chain([&config.head]).enumerate() {
        let name = if i == 0 {
            "dense".to_owned()
        } else {
            format!("dense_{i}")
        };
        layers.push(row(name, "Dense", units, (inputs + 1) * units));
        inputs = units;
    }
    layers
}
