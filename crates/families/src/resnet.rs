//! Residual networks: stages of blocks whose result is added to what they read.
//!
//! He et al., "Deep residual learning", 2015; ResNeXt (groups), ResNet-D (three small convolutions at the beginning,
//! means in the shortcuts) and SENet (channels weighted by what the whole map shows).

use crate::error::Result;
use crate::graph::{Attribute, Graph, INPUT};
use crate::layers::{Activation, Padding, Window};
use crate::network::{Last, Network, Pool};

const EPSILON: f32 = 1e-5;

/// Whether timm's `name` is one of the forms that are built: `resnet50`, `resnet50d`, `resnext50_32x4d`,
/// `wide_resnet50_2`, `seresnet50` and the like.
pub(crate) fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("wide_").unwrap_or(name);
    let name = name.strip_prefix("se").unwrap_or(name);
    let Some(rest) = name.strip_prefix("resnet").or(name.strip_prefix("resnext")) else {
        return false;
    };
    let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_size = |c: char| c.is_ascii_digit() || matches!(c, 'x' | 'd' | '_');
    let variant = digits.strip_prefix(['c', 'd', 's', 't']).unwrap_or(digits);
    digits.len() < rest.len()
        && (variant.is_empty() || variant.starts_with('_') && variant.chars().all(is_size))
}

/// Builds the network.
pub(crate) fn build(graph: &mut Graph, size: usize) -> Result<Network> {
    let mut x = stem(graph)?;
    let pool = [
        ("kernel_shape", Attribute::Ints(&[3, 3])),
        ("strides", Attribute::Ints(&[2, 2])),
        ("pads", Attribute::Ints(&[1, 1, 1, 1])),
    ];
    x = graph.node("MaxPool", &[&x], "maxpool", &pool);
    for stage in 1..=4 {
        for i in 0..graph.weights.count(&format!("layer{stage}")) {
            let stride = if stage > 1 && i == 0 { 2 } else { 1 };
            x = block(graph, &x, stride, &format!("layer{stage}.{i}"))?;
        }
    }
    let deepest = graph.weights.count("layer4").saturating_sub(1);
    let [width, ..] = [3, 2]
        .iter()
        .map(|i| format!("layer4.{deepest}.conv{i}.weight"))
        .find(|name| graph.weights.has(name))
        .map_or_else(
            || Err(graph.weights.mismatch("it has no layer4")),
            |name| graph.weights.shape::<4>(&name),
        )?;
    Ok(Network {
        features: graph.global_pool(&x, "global_pool"),
        last: Last {
            tensor: x,
            width,
            prefix_tokens: 0,
            pool: Pool::Mean,
        },
        width,
        head: "fc",
        fixed_size: None,
        size,
        least_size: 32,
    })
}

/// One large convolution, or three small ones.
fn stem(graph: &mut Graph) -> Result<String> {
    let down = Window::PLAIN.stride(2);
    let first = if graph.weights.has("conv1.weight") {
        "conv1"
    } else {
        "conv1.0"
    };
    let mut x = graph.conv(INPUT, down, first)?;
    if first == "conv1.0" {
        for (norm, conv) in [("1", "3"), ("4", "6")] {
            let name = format!("conv1.{norm}");
            x = graph.batch_norm(&x, EPSILON, &name)?;
            x = graph.activation(&x, Activation::Relu, &format!("{name}.act"));
            x = graph.conv(&x, Window::PLAIN, &format!("conv1.{conv}"))?;
        }
    }
    x = graph.batch_norm(&x, EPSILON, "bn1")?;
    Ok(graph.activation(&x, Activation::Relu, "act1"))
}

/// Two convolutions of 3 × 3, or one of them between two of 1 × 1, with a shortcut around them.
fn block(graph: &mut Graph, input: &str, stride: usize, name: &str) -> Result<String> {
    let is_bottleneck = graph.weights.has(&format!("{name}.conv3.weight"));
    let [first_out, ..] = graph.weights.shape::<4>(&format!("{name}.conv1.weight"))?;
    let [_, per_group, ..] = graph.weights.shape::<4>(&format!("{name}.conv2.weight"))?;
    let groups = first_out / per_group;
    let (first, second) = match is_bottleneck {
        true => (1, stride),
        false => (stride, 1),
    };
    let mut x = graph.conv(input, Window::PLAIN.stride(first), &format!("{name}.conv1"))?;
    x = graph.batch_norm(&x, EPSILON, &format!("{name}.bn1"))?;
    x = graph.activation(&x, Activation::Relu, &format!("{name}.act1"));
    x = graph.conv(
        &x,
        Window::PLAIN.stride(second).groups(groups),
        &format!("{name}.conv2"),
    )?;
    x = graph.batch_norm(&x, EPSILON, &format!("{name}.bn2"))?;
    if is_bottleneck {
        x = graph.activation(&x, Activation::Relu, &format!("{name}.act2"));
        x = graph.conv(&x, Window::PLAIN, &format!("{name}.conv3"))?;
        x = graph.batch_norm(&x, EPSILON, &format!("{name}.bn3"))?;
    }
    if graph.weights.has_module(&format!("{name}.se")) {
        let gate = (Activation::Relu, Activation::Sigmoid);
        x = graph.squeeze_excite(&x, ["fc1", "fc2"], gate, &format!("{name}.se"))?;
    }
    let shortcut = shortcut(graph, input, stride, &format!("{name}.downsample"))?;
    let sum = graph.add(&x, &shortcut, &format!("{name}.add"));
    Ok(graph.activation(&sum, Activation::Relu, name))
}

fn shortcut(graph: &mut Graph, input: &str, stride: usize, name: &str) -> Result<String> {
    if !graph.weights.has_module(name) {
        return Ok(input.to_owned());
    }
    if graph.weights.has(&format!("{name}.0.weight")) {
        let x = graph.conv(
            input,
            Window::PLAIN.stride(stride).padding(Padding::Zeros(0)),
            &format!("{name}.0"),
        )?;
        return graph.batch_norm(&x, EPSILON, &format!("{name}.1"));
    }
    let mut x = input.to_owned();
    if stride > 1 {
        let pool = [
            ("kernel_shape", Attribute::Ints(&[2, 2])),
            ("strides", Attribute::Ints(&[2, 2])),
            ("ceil_mode", Attribute::Int(1)),
        ];
        x = graph.node("AveragePool", &[&x], &format!("{name}.0"), &pool);
    }
    x = graph.conv(&x, Window::PLAIN, &format!("{name}.1"))?;
    graph.batch_norm(&x, EPSILON, &format!("{name}.2"))
}

/// The name that timm has for the weight `name` of transformers' residual networks; none for what is not read.
pub(crate) fn rename(name: &str) -> Option<String> {
    let name = name.strip_prefix("resnet.").unwrap_or(name);
    let kind = |rest: &str, conv: &str, norm: &str| {
        let rest = rest
            .strip_prefix("convolution.")
            .map(|end| format!("{conv}.{end}"));
        let end = name.rsplit('.').next().unwrap_or("");
        rest.or_else(|| {
            name.contains("normalization.")
                .then(|| format!("{norm}.{end}"))
        })
    };
    if let Some(rest) = name.strip_prefix("embedder.embedder.") {
        return kind(rest, "conv1", "bn1");
    }
    if let Some(end) = name.strip_prefix("classifier.1.") {
        return Some(format!("fc.{end}"));
    }
    let mut parts = name.strip_prefix("encoder.stages.")?.splitn(4, '.');
    let stage: usize = parts.next()?.parse().ok()?;
    let block = parts.nth(1)?;
    let rest = parts.next()?;
    let start = format!("layer{}.{block}", stage + 1);
    if let Some(rest) = rest.strip_prefix("shortcut.") {
        return Some(format!(
            "{start}.{}",
            kind(rest, "downsample.0", "downsample.1")?
        ));
    }
    let (number, rest) = rest.strip_prefix("layer.")?.split_once('.')?;
    let number = number.parse::<usize>().ok()? + 1;
    Some(format!(
        "{start}.{}",
        kind(rest, &format!("conv{number}"), &format!("bn{number}"))?
    ))
}
