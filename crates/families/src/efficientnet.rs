//! Mobile networks: stages of inverted residuals, which widen, look with a depthwise convolution, and narrow.
//!
//! MobileNetV2 (Sandler et al., 2018), V3 (Howard et al., 2019) and V4 (Qin et al., 2024); EfficientNet (Tan and Le,
//! 2019), EfficientNet-Lite and V2. Which kind a block is, how wide, and how large its kernels, its weights tell.

use crate::error::{Error, Result};
use crate::graph::{Graph, INPUT};
use crate::layers::{Activation, Padding, Window};
use crate::network::{Last, Network, Pool};

/// What the weights do not tell.
#[derive(Clone, Debug)]
pub(crate) struct MobileNet {
    /// Stride of each stage's first block.
    strides: &'static [usize],
    /// Stages with ReLU before those with `activation`.
    relu_stages: usize,
    activation: Activation,
    /// Activation inside the gate of channels, and the gate itself.
    gate: (Activation, Activation),
    /// Whether plain convolutions add what they read.
    adds_plain: bool,
    padding: Padding,
    epsilon: f32,
    /// Whether the widest convolution comes behind the pooling, as from MobileNetV3 on.
    pools_early: bool,
    /// Height and width of the input in pixels.
    size: usize,
}

/// Strides of the stages of MobileNetV2 and EfficientNet.
const SEVEN: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];

/// What is known of timm's network `name`; none if it is of another family or not built.
pub(crate) fn timm(name: &str, size: usize) -> Option<MobileNet> {
    let is_tensorflow = name.starts_with("tf_");
    let plain = name.strip_prefix("tf_").unwrap_or(name);
    let base = MobileNet {
        strides: &SEVEN,
        relu_stages: 0,
        activation: Activation::Silu,
        gate: (Activation::Silu, Activation::Sigmoid),
        adds_plain: false,
        padding: if is_tensorflow {
            Padding::Same
        } else {
            Padding::Half
        },
        epsilon: if is_tensorflow { 1e-3 } else { 1e-5 },
        pools_early: false,
        size,
    };
    let v3 = MobileNet {
        activation: Activation::HardSwish,
        gate: (Activation::Relu, Activation::HardSigmoid),
        pools_early: true,
        ..base.clone()
    };
    let is_width = |rest: &str| {
        !rest.is_empty()
            && rest
                .trim_end_matches('d')
                .bytes()
                .all(|b| b.is_ascii_digit())
    };
    let is_digit = |rest: &str| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = plain.strip_prefix("mobilenetv2_") {
        let net = MobileNet {
            activation: Activation::Relu6,
            ..base
        };
        return is_width(rest).then_some(net);
    }
    if let Some(rest) = plain.strip_prefix("mobilenetv3_large_") {
        let net = MobileNet {
            relu_stages: 3,
            ..v3
        };
        return is_width(rest).then_some(net);
    }
    if let Some(rest) = plain.strip_prefix("mobilenetv3_small_") {
        let net = MobileNet {
            strides: &[2, 2, 2, 1, 2, 1],
            relu_stages: 2,
            ..v3
        };
        return is_width(rest).then_some(net);
    }
    if let Some(rest) = plain.strip_prefix("mobilenetv4_conv_") {
        let net = MobileNet {
            strides: match rest.split('_').next() {
                Some("small" | "medium" | "large") => &[2, 2, 2, 2, 1],
                _ => return None,
            },
            activation: Activation::Relu,
            gate: (Activation::Relu, Activation::Sigmoid),
            pools_early: true,
            ..base
        };
        let is_plain = matches!(
            rest,
            "small" | "medium" | "large" | "small_035" | "small_050"
        );
        return is_plain.then_some(net);
    }
    if let Some(rest) = plain.strip_prefix("efficientnet_lite") {
        let net = MobileNet {
            activation: Activation::Relu6,
            ..base
        };
        return is_digit(rest).then_some(net);
    }
    if let Some(rest) = plain.strip_prefix("efficientnet_b") {
        return is_digit(rest).then_some(base);
    }
    if let Some(rest) = plain.strip_prefix("efficientnetv2_") {
        let net = MobileNet {
            adds_plain: true,
            ..base
        };
        let is_form = rest.strip_prefix('b').is_some_and(is_digit)
            || matches!(rest, "s" | "m" | "l" | "xl" | "rw_t" | "rw_s" | "rw_m");
        return is_form.then_some(net);
    }
    None
}

/// Builds the network.
pub(crate) fn build(graph: &mut Graph, net: &MobileNet) -> Result<Network> {
    let mut x = convolved(
        graph,
        INPUT,
        net,
        ["conv_stem", "bn1"],
        2,
        Some(net.activation),
    )?;
    let [mut width, ..] = graph.weights.shape::<4>("conv_stem.weight")?;
    let stages = graph.weights.count("blocks");
    for stage in 0..stages {
        for i in 0..graph.weights.count(&format!("blocks.{stage}")) {
            let stride = match i {
                0 => net.strides.get(stage).copied().ok_or_else(|| {
                    graph
                        .weights
                        .mismatch(format!("it has {stages} stages, not {}", net.strides.len()))
                })?,
                _ => 1,
            };
            let name = format!("blocks.{stage}.{i}");
            (x, width) = block(
                graph,
                &x,
                net,
                net.activation_of(stage),
                stride,
                width,
                &name,
            )?;
        }
    }
    let mut last = Last {
        tensor: x.clone(),
        width,
        prefix_tokens: 0,
        pool: Pool::Mean,
    };
    let features = match net.pools_early {
        true => {
            x = graph.mean_of_maps(&x, "global_pool");
            x = graph.conv(&x, Window::PLAIN, "conv_head")?;
            if graph.weights.has_module("norm_head") {
                x = graph.batch_norm(&x, net.epsilon, "norm_head")?;
            }
            x = graph.activation(&x, net.activation, "act2");
            graph.reshape(&x, &[0, -1], "flatten")
        }
        false => {
            x = convolved(
                graph,
                &x,
                net,
                ["conv_head", "bn2"],
                1,
                Some(net.activation),
            )?;
            last.tensor = x.clone();
            graph.global_pool(&x, "global_pool")
        }
    };
    [width, ..] = graph.weights.shape::<4>("conv_head.weight")?;
    if !net.pools_early {
        last.width = width;
    }
    Ok(Network {
        last,
        features,
        width,
        head: "classifier",
        fixed_size: None,
        size: net.size,
        least_size: 32,
    })
}

impl MobileNet {
    fn activation_of(&self, stage: usize) -> Activation {
        match stage < self.relu_stages {
            true => Activation::Relu,
            false => self.activation,
        }
    }
}

/// A convolution, its normalisation and an activation.
fn convolved(
    graph: &mut Graph,
    x: &str,
    net: &MobileNet,
    [conv, norm]: [&str; 2],
    stride: usize,
    activation: Option<Activation>,
) -> Result<String> {
    let [out, per_group, ..] = graph.weights.shape::<4>(&format!("{conv}.weight"))?;
    // A kernel that reads one channel is a depthwise one; pictures have three.
    let groups = if per_group == 1 { out } else { 1 };
    let window = Window::PLAIN
        .stride(stride)
        .padding(net.padding)
        .groups(groups);
    let x = graph.conv(x, window, conv)?;
    let x = graph.batch_norm(&x, net.epsilon, norm)?;
    Ok(match activation {
        Some(activation) => graph.activation(&x, activation, &format!("{norm}.act")),
        None => x,
    })
}

/// One block of any kind; returns its output and how many channels that has.
fn block(
    graph: &mut Graph,
    input: &str,
    net: &MobileNet,
    activation: Activation,
    stride: usize,
    width: usize,
    name: &str,
) -> Result<(String, usize)> {
    let has = |graph: &Graph, part: &str| graph.weights.has_module(&format!("{name}.{part}"));
    // Each step: convolution, normalisation, stride, whether an activation follows; the gate stands before the last.
    let active = Some(activation);
    let (steps, gated_from): (Vec<Step>, usize) = if has(graph, "pw_proj") {
        let (start, middle) = (has(graph, "dw_start"), has(graph, "dw_mid"));
        let mut steps = Vec::new();
        if start {
            steps.push((
                "dw_start.conv",
                "dw_start.bn",
                if middle { 1 } else { stride },
                None,
            ));
        }
        steps.push(("pw_exp.conv", "pw_exp.bn", 1, active));
        if middle {
            steps.push(("dw_mid.conv", "dw_mid.bn", stride, active));
        }
        let gate = steps.len();
        steps.push(("pw_proj.conv", "pw_proj.bn", 1, None));
        if has(graph, "dw_end") {
            steps.push((
                "dw_end.conv",
                "dw_end.bn",
                if start || middle { 1 } else { stride },
                None,
            ));
        }
        (steps, gate)
    } else if has(graph, "conv_exp") {
        (
            vec![
                ("conv_exp", "bn1", stride, active),
                ("conv_pwl", "bn2", 1, None),
            ],
            1,
        )
    } else if has(graph, "conv_pwl") {
        let steps = vec![
            ("conv_pw", "bn1", 1, active),
            ("conv_dw", "bn2", stride, active),
            ("conv_pwl", "bn3", 1, None),
        ];
        (steps, 2)
    } else if has(graph, "conv_dw") {
        (
            vec![
                ("conv_dw", "bn1", stride, active),
                ("conv_pw", "bn2", 1, None),
            ],
            1,
        )
    } else if has(graph, "conv") {
        (vec![("conv", "bn1", stride, active)], 1)
    } else {
        return Err(Error::Unknown {
            what: format!("{} with the block {name}", graph.weights.architecture()),
        });
    };
    let is_plain = steps.len() == 1;
    let mut x = input.to_owned();
    let mut out = width;
    for (place, (conv, norm, stride, activation)) in steps.into_iter().enumerate() {
        if place == gated_from && has(graph, "se") {
            let names = ["conv_reduce", "conv_expand"];
            x = graph.squeeze_excite(&x, names, net.gate, &format!("{name}.se"))?;
        }
        let names = [conv, norm].map(|part| format!("{name}.{part}"));
        [out, ..] = graph.weights.shape::<4>(&format!("{}.weight", names[0]))?;
        x = convolved(graph, &x, net, [&names[0], &names[1]], stride, activation)?;
    }
    let scale = format!("{name}.layer_scale.gamma");
    if graph.weights.has(&scale) {
        let mut gamma = graph.weights.read(&scale)?;
        gamma.dims = vec![1, gamma.values.len(), 1, 1];
        let gamma = graph.put_weight(&scale, gamma);
        x = graph.node("Mul", &[&x, &gamma], &format!("{name}.layer_scale"), &[]);
    }
    // Every block's result has its name.
    x = match out == width && stride == 1 && (!is_plain || net.adds_plain) {
        true => graph.add(&x, input, name),
        false => graph.renamed(&x, name),
    };
    Ok((x, out))
}

/// A convolution, its normalisation, the stride, and the activation behind them.
type Step = (&'static str, &'static str, usize, Option<Activation>);

impl Graph<'_> {
    /// Weighs every channel by what the means of all channels say: two 1 × 1 convolutions with an activation between
    /// them and a gate behind.
    pub fn squeeze_excite(
        &mut self,
        x: &str,
        names: [&str; 2],
        (inner, gate): (Activation, Activation),
        name: &str,
    ) -> Result<String> {
        let mean = self.mean_of_maps(x, &format!("{name}.mean"));
        let few = self.conv(&mean, Window::PLAIN, &format!("{name}.{}", names[0]))?;
        let few = self.activation(&few, inner, &format!("{name}.act"));
        let all = self.conv(&few, Window::PLAIN, &format!("{name}.{}", names[1]))?;
        let gate = self.activation(&all, gate, &format!("{name}.gate"));
        Ok(self.node("Mul", &[x, &gate], name, &[]))
    }
}
