//! The layers and parameters of a model.

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneParams, Layer, Summary, find, input_shape, input_size};
use crate::error::{Error, Result};

/// Configuration of [`summary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SummaryConfig {
    /// Which base, and where it is cut.
    #[serde(flatten)]
    pub backbone: BackboneParams,
    /// Number of classes of a dense head behind the features; 0 lists the base alone.
    #[serde(default)]
    pub head: usize,
    /// Widths of the head's hidden layers.
    #[serde(default)]
    pub hidden: Vec<usize>,
    /// With a head: list the layers of the base, too.
    #[serde(default)]
    pub expand_nested: bool,
}

/// Lists the layers of the base, or of the base up to its cut (frozen) with a head behind it.
///
/// # Errors
/// Those of [`Backbone::open`].
pub fn summary(config: &SummaryConfig) -> Result<Summary> {
    if config.head == 0 && config.backbone.cut.is_none() && config.backbone.pool.is_none() {
        let found = find(&config.backbone.model)?;
        let layout = found.card.preprocess.layout;
        let size = input_size(&found.card, config.backbone.input_size)?;
        let shape = input_shape(&found.graph, layout, size)?;
        return Summary::of(&found.graph, shape, layout);
    }
    if config.hidden.contains(&0) {
        return Err(Error::Parameter {
            name: "hidden",
            value: "0".into(),
            problem: "a layer has 1 or more units".into(),
        });
    }
    let backbone = Backbone::open(&config.backbone)?;
    let mut summary = backbone.summary()?;
    if config.head == 0 {
        return Ok(summary);
    }
    for layer in &mut summary.layers {
        layer.non_trainable += std::mem::take(&mut layer.trainable);
    }
    if !config.expand_nested {
        summary.layers = vec![Layer {
            name: backbone.id().model.clone(),
            kind: "Functional".into(),
            tensor: String::new(),
            output_shape: Some(backbone.feature_shape().to_vec()),
            trainable: 0,
            non_trainable: summary.non_trainable(),
        }];
    }
    summary.layers.extend(head_layers(&backbone, config));
    Ok(summary)
}

fn head_layers(backbone: &Backbone, config: &SummaryConfig) -> Vec<Layer> {
    let row = |name: String, kind: &str, units: usize, trainable: usize| Layer {
        name,
        kind: kind.into(),
        tensor: String::new(),
        output_shape: Some(vec![units]),
        trainable: trainable as u64,
        non_trainable: 0,
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
