//! Networks of transformers by their model types.

use std::path::Path;

use crate::config::Config;
use crate::convnext::{self, ConvNext};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::layers::Activation;
use crate::network::Base;
use crate::weights::Weights;
use crate::{resnet, vit};

const KINDS: [&str; 10] = [
    "dinov3_vit",
    "vit",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "clip",
    "siglip",
    "convnext",
    "convnextv2",
    "resnet",
];

/// Checks that the model type `kind` is one that is built.
pub(crate) fn check(kind: &str) -> Result<()> {
    // A tower alone is built like the whole.
    let kind = kind.strip_suffix("_vision_model").unwrap_or(kind);
    match KINDS.contains(&kind) {
        true => Ok(()),
        false => Err(Error::Unknown {
            what: format!("the model type {kind} of transformers"),
        }),
    }
}

/// Builds the network of the model type `kind`.
pub(crate) fn build(config: &Config, kind: &str, path: &Path, size: Option<usize>) -> Result<Base> {
    check(kind)?;
    let kind = kind.strip_suffix("_vision_model").unwrap_or(kind);
    let weights = Weights::open(path, kind)?;
    let own_size = size.or(config.side("image_size")?).unwrap_or(224);
    match kind {
        "vit" | "deit" | "dinov2" | "dinov2_with_registers" | "dinov3_vit" | "clip" | "siglip" => {
            let (weights, vit) = vit::transformers(config, kind, weights, size)?;
            let mut graph = Graph::new(&weights);
            vit::build(&mut graph, &vit)?.finish(graph, kind == "clip")
        }
        "convnext" | "convnextv2" => {
            let net = ConvNext {
                epsilon: 1e-6,
                last_epsilon: config.number("layer_norm_eps")?.unwrap_or(1e-12) as f32,
                activation: config.activation("hidden_act")?.unwrap_or(Activation::Gelu),
                size: own_size,
            };
            let weights = weights.renamed(convnext::rename);
            let mut graph = Graph::new(&weights);
            convnext::build(&mut graph, &net)?.finish(graph, false)
        }
        "resnet" => {
            if config.flag("downsample_in_bottleneck")?.unwrap_or(false) {
                return Err(weights.unknown("downsample_in_bottleneck"));
            }
            let weights = weights.renamed(resnet::rename);
            let mut graph = Graph::new(&weights);
            resnet::build(&mut graph, own_size)?.finish(graph, false)
        }
        _ => Err(Error::Unknown {
            what: format!("the model type {kind} of transformers"),
        }),
    }
}
