//! ConvNeXt: blocks of a large depthwise convolution and a perceptron at every place of the map.
//!
//! Liu et al., "A ConvNet for the 2020s", 2022; V2 (Woo et al., 2023) has a response normalisation in the perceptron
//! in the place of LayerScale. Networks of DINOv3 have the same form.

use crate::error::Result;
use crate::graph::{Attribute, Graph, INPUT};
use crate::layers::{Activation, Padding, Window};
use crate::network::{Last, Network, Pool};
use crate::safetensors::Tensor;

/// What the weights do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvNext {
    pub epsilon: f32,
    /// Of the normalisation behind the pooling.
    pub last_epsilon: f32,
    pub activation: Activation,
    /// Height and width of the input in pixels.
    pub size: usize,
}

/// Whether timm's `name` is one of the forms that are built.
pub(crate) fn is_known(name: &str) -> bool {
    const SIZES: [&str; 10] = [
        "atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "xlarge", "huge",
    ];
    let rest = name
        .strip_prefix("convnext_")
        .or(name.strip_prefix("convnextv2_"));
    name == "convnext_xxlarge"
        || name == "convnext_large_mlp"
        || rest.is_some_and(|rest| SIZES.contains(&rest))
}

/// Builds the network.
pub(crate) fn build(graph: &mut Graph, net: &ConvNext) -> Result<Network> {
    let [_, _, patch, _] = graph.weights.shape::<4>("stem.0.weight")?;
    let window = Window::PLAIN.stride(patch).padding(Padding::Zeros(0));
    let mut x = graph.conv(INPUT, window, "stem.0")?;
    x = graph.map_norm(&x, net.epsilon, "stem.1")?;
    let mut width = 0;
    for i in 0..graph.weights.count("stages") {
        let stage = format!("stages.{i}");
        if graph.weights.has_module(&format!("{stage}.downsample")) {
            x = graph.map_norm(&x, net.epsilon, &format!("{stage}.downsample.0"))?;
            let window = Window::PLAIN.stride(2).padding(Padding::Zeros(0));
            x = graph.conv(&x, window, &format!("{stage}.downsample.1"))?;
        }
        for j in 0..graph.weights.count(&format!("{stage}.blocks")) {
            let name = format!("{stage}.blocks.{j}");
            [width, ..] = graph
                .weights
                .shape::<4>(&format!("{name}.conv_dw.weight"))?;
            x = block(graph, &x, net, width, &name)?;
        }
    }
    let mut features = graph.global_pool(&x, "head.flatten");
    if graph.weights.has_module("head.norm") {
        features = graph.layer_norm(&features, net.last_epsilon, "head.norm")?;
    }
    let last = Last {
        tensor: x,
        width,
        prefix_tokens: 0,
        pool: Pool::Mean,
    };
    if graph.weights.has_module("head.pre_logits.fc") {
        [width, _] = graph.weights.shape("head.pre_logits.fc.weight")?;
        features = graph.dense(&features, "head.pre_logits.fc")?;
        features = graph.activation(&features, net.activation, "head.pre_logits");
    }
    Ok(Network {
        last,
        features,
        width,
        head: "head.fc",
        fixed_size: None,
        size: net.size,
        least_size: 32,
    })
}

/// A depthwise convolution, a normalisation and a perceptron, channels last; added to what was read.
fn block(
    graph: &mut Graph,
    input: &str,
    net: &ConvNext,
    width: usize,
    name: &str,
) -> Result<String> {
    let mut x = graph.conv(
        input,
        Window::PLAIN.groups(width),
        &format!("{name}.conv_dw"),
    )?;
    x = graph.transpose(&x, &[0, 2, 3, 1], &format!("{name}.channels_last"));
    x = graph.layer_norm(&x, net.epsilon, &format!("{name}.norm"))?;
    x = graph.linear(&x, &format!("{name}.mlp.fc1"))?;
    x = graph.activation(&x, net.activation, &format!("{name}.mlp.act"));
    if graph.weights.has_module(&format!("{name}.mlp.grn")) {
        x = response_norm(graph, &x, &format!("{name}.mlp.grn"))?;
    }
    x = graph.linear(&x, &format!("{name}.mlp.fc2"))?;
    let gamma = format!("{name}.gamma");
    if graph.weights.has(&gamma) {
        let gamma = graph.weight(&gamma)?;
        x = graph.node("Mul", &[&x, &gamma], &format!("{name}.scaled"), &[]);
    }
    x = graph.transpose(&x, &[0, 3, 1, 2], &format!("{name}.channels_first"));
    Ok(graph.add(&x, input, name))
}

/// Each channel by its length over the whole map, compared with that of the other channels; scaled, shifted, and added
/// to what was read. Channels are last.
fn response_norm(graph: &mut Graph, x: &str, name: &str) -> Result<String> {
    let mut read = |part: &str| -> Result<String> {
        let name = format!("{name}.{part}");
        let tensor = graph.weights.read(&name)?;
        let flat = Tensor {
            dims: vec![tensor.values.len()],
            values: tensor.values,
        };
        Ok(graph.put_weight(&name, flat))
    };
    let (weight, bias) = (read("weight")?, read("bias")?);
    let keep = [("keepdims", Attribute::Int(1))];
    let places = graph.integers("height_and_width", &[1, 2]);
    let channels = graph.integers("channels", &[3]);
    let length = graph.node("ReduceL2", &[x, &places], &format!("{name}.length"), &keep);
    let mean = graph.node(
        "ReduceMean",
        &[&length, &channels],
        &format!("{name}.mean"),
        &keep,
    );
    let epsilon = graph.number("response_norm_epsilon", 1e-6);
    let mean = graph.add(&mean, &epsilon, &format!("{name}.mean_and_epsilon"));
    let share = graph.node("Div", &[&length, &mean], &format!("{name}.share"), &[]);
    let weighed = graph.node("Mul", &[x, &share], &format!("{name}.weighed"), &[]);
    let scaled = graph.node("Mul", &[&weighed, &weight], &format!("{name}.scaled"), &[]);
    let shifted = graph.add(&scaled, &bias, &format!("{name}.shifted"));
    Ok(graph.add(x, &shifted, name))
}

impl Graph<'_> {
    /// Normalises the channels at every place of maps `[N, C, H, W]`.
    pub fn map_norm(&mut self, x: &str, epsilon: f32, name: &str) -> Result<String> {
        let last = self.transpose(x, &[0, 2, 3, 1], &format!("{name}.channels_last"));
        let normed = self.layer_norm(&last, epsilon, name)?;
        Ok(self.transpose(&normed, &[0, 3, 1, 2], &format!("{name}.channels_first")))
    }
}

/// The name that timm has for the weight `name` of transformers' ConvNeXt; none for what is not read.
pub(crate) fn rename(name: &str) -> Option<String> {
    let name = name
        .strip_prefix("convnextv2.")
        .or(name.strip_prefix("convnext."))
        .unwrap_or(name);
    let starts = [
        ("embeddings.patch_embeddings.", "stem.0."),
        ("embeddings.layernorm.", "stem.1."),
        ("layernorm.", "head.norm."),
        ("classifier.", "head.fc."),
    ];
    for (theirs, ours) in starts {
        if let Some(end) = name.strip_prefix(theirs) {
            return Some(format!("{ours}{end}"));
        }
    }
    let mut name = name.strip_prefix("encoder.")?.to_owned();
    for (theirs, ours) in [
        (".downsampling_layer.", ".downsample."),
        (".layers.", ".blocks."),
        (".dwconv.", ".conv_dw."),
        (".layernorm.", ".norm."),
        (".pwconv1.", ".mlp.fc1."),
        (".pwconv2.", ".mlp.fc2."),
        (".grn.", ".mlp.grn."),
        (".layer_scale_parameter", ".gamma"),
    ] {
        name = name.replacen(theirs, ours, 1);
    }
    Some(name)
}
