//! Networks of timm by their names.

use std::path::Path;

use crate::config::{Config, Timm};
use crate::convnext::{self, ConvNext};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::layers::Activation;
use crate::network::Base;
use crate::weights::Weights;
use crate::{efficientnet, resnet, vit};

/// Features of a token where no weights say how many.
const DEFAULT_WIDTH: usize = 768;

/// Height and width in pixels of networks whose configuration gives none.
const DEFAULT_SIZE: usize = 224;

fn is_vit(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or(name);
    name.starts_with("test_vit") || matches!(first, "vit" | "deit" | "deit3" | "flexivit")
}

/// Checks that `architecture` is one that is built.
pub(crate) fn check(config: &Config, architecture: &str) -> Result<()> {
    let config = Timm::of(config, architecture)?;
    let name = config.architecture.as_str();
    if vit::is_eva(name) {
        return vit::eva(&config, DEFAULT_WIDTH, None).map(drop);
    }
    if is_vit(name) {
        return vit::timm(&config, DEFAULT_WIDTH, None).map(drop);
    }
    let is_known = efficientnet::timm(name, DEFAULT_SIZE).is_some()
        || convnext::is_known(name)
        || resnet::is_known(name);
    match is_known {
        true => Ok(()),
        false => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::Unknown {
        what: format!("timm's {name}"),
    }
}

/// Builds the network `architecture` of timm.
pub(crate) fn build(
    config: &Config,
    architecture: &str,
    path: &Path,
    size: Option<usize>,
) -> Result<Base> {
    let config = Timm::of(config, architecture)?;
    let name = config.architecture.as_str();
    let weights = Weights::open(path, name)?;
    let mut graph = Graph::new(&weights);
    let own_size = size.or(config.size()?).unwrap_or(DEFAULT_SIZE);
    let mut is_embedding = false;
    let network = if vit::is_eva(name) {
        let [width, ..] = weights.shape::<4>("patch_embed.proj.weight")?;
        is_embedding = name.contains("_clip_") || name.contains("_pe_core_");
        vit::build(&mut graph, &vit::eva(&config, width, size)?)?
    } else if is_vit(name) {
        let [width, ..] = weights.shape::<4>("patch_embed.proj.weight")?;
        // The projection into the space that pictures share with texts has no bias.
        is_embedding = name.contains("_clip_") && !weights.has("head.bias");
        vit::build(&mut graph, &vit::timm(&config, width, size)?)?
    } else if let Some(net) = efficientnet::timm(name, own_size) {
        config.only(&[])?;
        efficientnet::build(&mut graph, &net)?
    } else if convnext::is_known(name) {
        config.only(&["depths", "dims"])?;
        let epsilon = if name == "convnext_xxlarge" {
            1e-5
        } else {
            1e-6
        };
        let net = ConvNext {
            epsilon,
            last_epsilon: epsilon,
            activation: Activation::Gelu,
            size: own_size,
        };
        convnext::build(&mut graph, &net)?
    } else if resnet::is_known(name) {
        config.only(&["layers", "channels"])?;
        resnet::build(&mut graph, own_size)?
    } else {
        return Err(unknown(name));
    };
    let base = network.finish(graph, is_embedding)?;
    Ok(Base {
        preprocess: config.preprocess()?,
        license: config.pretrained.text("license")?.map(str::to_owned),
        source: config.pretrained.text("hf_hub_id")?.map(str::to_owned),
        ..base
    })
}
