//! Layers that all families share. Each takes the name of its module, which is the name of its node, its output and
//! the beginning of its weights' names.

use crate::error::Result;
use crate::graph::{Attribute, Graph};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu,
    Relu6,
    Silu,
    HardSwish,
    HardSigmoid,
    Sigmoid,
    Gelu,
    /// The approximation by a hyperbolic tangent.
    GeluTanh,
    /// x · σ(1.702 x), as in the first CLIP.
    QuickGelu,
}

impl Activation {
    /// By the names of timm and transformers.
    pub fn named(name: &str) -> Option<Activation> {
        Some(match name {
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "silu" | "swish" => Activation::Silu,
            "hard_swish" | "hardswish" => Activation::HardSwish,
            "hard_sigmoid" | "hardsigmoid" => Activation::HardSigmoid,
            "sigmoid" => Activation::Sigmoid,
            "gelu" => Activation::Gelu,
            "gelu_tanh" | "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
            "quick_gelu" | "quickgelu" => Activation::QuickGelu,
            _ => return None,
        })
    }
}

/// How a convolution moves and what it sees beyond the edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub stride: usize,
    pub padding: Padding,
    pub groups: usize,
}

/// What stands around a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// So many zeros on each side.
    Zeros(usize),
    /// Half a kernel on each side.
    Half,
    /// As TensorFlow pads: so much that the output has the input's size by the stride, more of it below and right.
    Same,
}

impl Window {
    /// Stride 1, half a kernel of zeros, one group.
    pub const PLAIN: Window = Window {
        stride: 1,
        padding: Padding::Half,
        groups: 1,
    };

    pub fn stride(self, stride: usize) -> Window {
        Window { stride, ..self }
    }

    pub fn padding(self, padding: Padding) -> Window {
        Window { padding, ..self }
    }

    pub fn groups(self, groups: usize) -> Window {
        Window { groups, ..self }
    }
}

impl Graph<'_> {
    /// A convolution with the weights `name.weight` and, where there is one, `name.bias`.
    pub fn conv(&mut self, x: &str, window: Window, name: &str) -> Result<String> {
        let kernel = format!("{name}.weight");
        let [_, _, height, width] = self.weights.shape(&kernel)?;
        let kernel = self.weight(&kernel)?;
        let bias = format!("{name}.bias");
        let mut inputs = vec![x, &kernel];
        if self.weights.has(&bias) {
            self.weight(&bias)?;
            inputs.push(&bias);
        }
        let shape = [height as i64, width as i64];
        let strides = [window.stride as i64; 2];
        let mut attributes = vec![
            ("kernel_shape", Attribute::Ints(&shape)),
            ("strides", Attribute::Ints(&strides)),
            ("group", Attribute::Int(window.groups as i64)),
        ];
        let (top, left) = match window.padding {
            Padding::Zeros(n) => (n, n),
            Padding::Half | Padding::Same => {
                (height.saturating_sub(1) / 2, width.saturating_sub(1) / 2)
            }
        };
        let pads = [top as i64, left as i64, top as i64, left as i64];
        match window.padding {
            // Without a stride both are the same, and numbers are what more programs read.
            Padding::Same if window.stride > 1 => {
                attributes.push(("auto_pad", Attribute::Text("SAME_UPPER")))
            }
            _ => attributes.push(("pads", Attribute::Ints(&pads))),
        }
        Ok(self.node("Conv", &inputs, name, &attributes))
    }

    /// Batch normalisation over channels with its own statistics.
    pub fn batch_norm(&mut self, x: &str, epsilon: f32, name: &str) -> Result<String> {
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.node(
            "BatchNormalization",
            &inputs,
            name,
            &[("epsilon", Attribute::Float(epsilon))],
        ))
    }

    /// Normalises the last axis, then scales and shifts it.
    pub fn layer_norm(&mut self, x: &str, epsilon: f32, name: &str) -> Result<String> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = self.weight(&format!("{name}.bias"))?;
        let attributes = [
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(epsilon)),
        ];
        Ok(self.node(
            "LayerNormalization",
            &[x, &weight, &bias],
            name,
            &attributes,
        ))
    }

    /// A dense layer over the last axis of tensors of any rank.
    pub fn linear(&mut self, x: &str, name: &str) -> Result<String> {
        let weight = self.transposed_weight(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        if !self.weights.has(&bias) {
            return Ok(self.node("MatMul", &[x, &weight], name, &[]));
        }
        let bias = self.weight(&bias)?;
        let product = self.node("MatMul", &[x, &weight], &format!("{name}.matmul"), &[]);
        Ok(self.node("Add", &[&product, &bias], name, &[]))
    }

    /// A dense layer on vectors `[N, C]`: a classifier.
    pub fn dense(&mut self, x: &str, name: &str) -> Result<String> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let mut inputs = vec![x, &weight];
        if self.weights.has(&bias) {
            self.weight(&bias)?;
            inputs.push(&bias);
        }
        Ok(self.node("Gemm", &inputs, name, &[("transB", Attribute::Int(1))]))
    }

    /// An activation.
    pub fn activation(&mut self, x: &str, activation: Activation, name: &str) -> String {
        match activation {
            Activation::Relu => self.node("Relu", &[x], name, &[]),
            Activation::Relu6 => {
                let least = self.number("zero", 0.0);
                let most = self.number("six", 6.0);
                self.node("Clip", &[x, &least, &most], name, &[])
            }
            Activation::Silu => {
                let gate = self.node("Sigmoid", &[x], &format!("{name}.sigmoid"), &[]);
                self.node("Mul", &[x, &gate], name, &[])
            }
            Activation::HardSwish => self.node("HardSwish", &[x], name, &[]),
            Activation::HardSigmoid => {
                let attributes = [
                    ("alpha", Attribute::Float(1.0 / 6.0)),
                    ("beta", Attribute::Float(0.5)),
                ];
                self.node("HardSigmoid", &[x], name, &attributes)
            }
            Activation::Sigmoid => self.node("Sigmoid", &[x], name, &[]),
            Activation::Gelu => self.node("Gelu", &[x], name, &[]),
            Activation::GeluTanh => self.node(
                "Gelu",
                &[x],
                name,
                &[("approximate", Attribute::Text("tanh"))],
            ),
            Activation::QuickGelu => {
                let factor = self.number("quick_gelu_factor", 1.702);
                let scaled = self.node("Mul", &[x, &factor], &format!("{name}.scaled"), &[]);
                let gate = self.node("Sigmoid", &[&scaled], &format!("{name}.sigmoid"), &[]);
                self.node("Mul", &[x, &gate], name, &[])
            }
        }
    }

    /// The sum of two tensors.
    pub fn add(&mut self, a: &str, b: &str, name: &str) -> String {
        self.node("Add", &[a, b], name, &[])
    }

    /// The mean over height and width of maps `[N, C, H, W]`, as `[N, C, 1, 1]`.
    pub fn mean_of_maps(&mut self, x: &str, name: &str) -> String {
        self.node("GlobalAveragePool", &[x], name, &[])
    }

    /// The mean over height and width of maps `[N, C, H, W]`, as vectors `[N, C]`.
    pub fn global_pool(&mut self, x: &str, name: &str) -> String {
        let mean = self.mean_of_maps(x, &format!("{name}.pool"));
        self.node("Flatten", &[&mean], name, &[("axis", Attribute::Int(1))])
    }
}
