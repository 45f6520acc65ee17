//! Vision transformers: patches as tokens, blocks of attention and a perceptron, each with a normalisation before it.
//!
//! Dosovitskiy et al., "An image is worth 16x16 words", 2020; DeiT, AugReg, DINO, DINOv2, CLIP and SigLIP are trained
//! in other ways and differ in details that their weights tell.

mod eva;
mod rotary;
mod timm;
mod transformers;

use crate::attention::Heads;
use crate::error::{Error, Result};
use crate::graph::{Attribute, Graph, INPUT};
use crate::layers::{Activation, Padding, Window};
use crate::network::{Last, Network, Pool};
use crate::resample;
use crate::safetensors::Tensor;

pub(crate) use self::eva::{eva, is_eva};
pub(crate) use self::rotary::{Rotary, Turning};
pub(crate) use self::timm::timm;
pub(crate) use self::transformers::transformers;

/// Which tokens learnt positions are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// Class token, registers and patches.
    All,
    /// Class token and patches; registers come between them later.
    ClassAndPatches,
    /// Patches.
    Patches,
    /// None: their places turn queries and keys.
    None,
}

/// What the weights do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vit {
    pub heads: usize,
    pub epsilon: f32,
    pub activation: Activation,
    pub pool: Pool,
    /// Whether the mean, or the attention of the pooling, is over the class token and the registers, too.
    pub pools_prefix: bool,
    pub positions: Positions,
    /// How queries and keys are turned by places.
    pub rotary: Option<Rotary>,
    /// Heads of the attention that pools, where they are others.
    pub pool_heads: Option<usize>,
    /// How positions are resampled.
    pub antialias: bool,
    /// Height and width for which the positions are wanted; none for those that were learnt.
    pub size: Option<usize>,
}

/// Builds the network.
pub(crate) fn build(graph: &mut Graph, vit: &Vit) -> Result<Network> {
    let weights = graph.weights;
    let [width, colours, patch, patch_width] = weights.shape("patch_embed.proj.weight")?;
    if colours != 3 || patch != patch_width {
        return Err(weights.unknown(format!("patches of {colours} x {patch} x {patch_width}")));
    }
    if vit.heads == 0 || !width.is_multiple_of(vit.heads) {
        let problem = format!("{width} features are not those of {} heads", vit.heads);
        return Err(weights.mismatch(problem));
    }
    let (mut x, prefix, side) = embed(graph, vit, width, patch)?;
    if weights.has_module("norm_pre") {
        x = graph.layer_norm(&x, vit.epsilon, "norm_pre")?;
    }
    let per_head = width / vit.heads;
    let turning = match vit.rotary {
        None => None,
        Some(_) if !per_head.is_multiple_of(4) => {
            return Err(weights.mismatch(format!("heads of {per_head} features cannot be turned")));
        }
        Some(rotary) => Some(rotary.tables(graph, prefix, side, per_head)),
    };
    for i in 0..weights.count("blocks") {
        x = block(graph, &x, vit, turning.as_ref(), &format!("blocks.{i}"))?;
    }
    if weights.has_module("norm") {
        x = graph.layer_norm(&x, vit.epsilon, "norm")?;
    }
    let last = Last {
        tensor: x.clone(),
        width,
        prefix_tokens: prefix,
        pool: vit.pool,
    };
    let mut features = pooled(graph, &x, vit, prefix, width)?;
    if weights.has_module("fc_norm") {
        features = graph.layer_norm(&features, vit.epsilon, "fc_norm")?;
    }
    Ok(Network {
        last,
        features,
        width,
        head: "head",
        fixed_size: Some(side * patch),
        size: side * patch,
        least_size: patch,
    })
}

/// The tokens `[N, T, D]` with their positions, the number of those before the patches, and the patches in a row.
fn embed(
    graph: &mut Graph,
    vit: &Vit,
    width: usize,
    patch: usize,
) -> Result<(String, usize, usize)> {
    let weights = graph.weights;
    let window = Window::PLAIN.stride(patch).padding(Padding::Zeros(0));
    let maps = graph.conv(INPUT, window, "patch_embed.proj")?;
    let flat = graph.reshape(&maps, &[0, width as i64, -1], "patch_embed.flatten");
    let mut x = graph.transpose(&flat, &[0, 2, 1], "patch_embed");
    let mut prefix = Vec::new();
    for name in ["cls_token", "dist_token", "reg_token"] {
        if weights.has(name) {
            let mut tokens = weights.read(name)?;
            let count = tokens.values.len() / width;
            tokens.dims = vec![1, count, width];
            graph.put_weight(name, tokens);
            prefix.push((name, count));
        }
    }
    let before: usize = prefix.iter().map(|(_, count)| count).sum();
    let with_positions = match vit.positions {
        Positions::All => before,
        Positions::ClassAndPatches => prefix
            .iter()
            .filter(|(name, _)| *name == "cls_token")
            .count(),
        Positions::Patches => 0,
        Positions::None => {
            let x = in_front(graph, &prefix, &x, "tokens");
            let size = vit.size.unwrap_or(14 * patch);
            return Ok((x, before, patches_in_a_row(graph, size, patch)?));
        }
    };
    let side = positions(graph, vit, width, patch, with_positions)?;
    if vit.positions == Positions::All {
        x = in_front(graph, &prefix, &x, "tokens");
        x = graph.add(&x, "pos_embed", "positions");
    } else if with_positions == 0 {
        x = graph.add(&x, "pos_embed", "positions");
        x = in_front(graph, &prefix, &x, "tokens");
    } else {
        x = in_front(graph, &prefix[..1], &x, "class_and_patches");
        x = graph.add(&x, "pos_embed", "positions");
        if prefix.len() > 1 {
            let class = graph.slice(&x, 0, 1, 1, "class");
            let patches = graph.slice(&x, 1, i64::MAX, 1, "patches");
            let registers = expanded(graph, "reg_token", &patches);
            x = graph.node(
                "Concat",
                &[&class, &registers, &patches],
                "tokens",
                &[("axis", Attribute::Int(1))],
            );
        }
    }
    Ok((x, before, side))
}

/// Puts the learnt tokens in front of `x`.
fn in_front(graph: &mut Graph, prefix: &[(&str, usize)], x: &str, name: &str) -> String {
    if prefix.is_empty() {
        return x.to_owned();
    }
    let mut parts: Vec<String> = prefix
        .iter()
        .map(|(token, _)| expanded(graph, token, x))
        .collect();
    parts.push(x.to_owned());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    graph.node("Concat", &parts, name, &[("axis", Attribute::Int(1))])
}

/// The learnt tokens `[1, T, D]`, once for each picture of `x`.
fn expanded(graph: &mut Graph, token: &str, x: &str) -> String {
    let range = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
    let batch = graph.node("Shape", &[x], &format!("{token}.batch"), &range);
    let ones = graph.integers("one_by_one", &[1, 1]);
    let shape = graph.node(
        "Concat",
        &[&batch, &ones],
        &format!("{token}.shape"),
        &[("axis", Attribute::Int(0))],
    );
    graph.node(
        "Expand",
        &[token, &shape],
        &format!("{token}.expanded"),
        &[],
    )
}

/// Puts `pos_embed` into the graph, for the size that is wanted; returns the number of patches in a row.
fn positions(
    graph: &mut Graph,
    vit: &Vit,
    width: usize,
    patch: usize,
    before: usize,
) -> Result<usize> {
    let weights = graph.weights;
    let mut learnt = weights.read("pos_embed")?;
    let count = learnt.values.len() / width;
    let patches = count.saturating_sub(before);
    let side = patches.isqrt();
    if learnt.values.len() != count * width || side * side != patches || side == 0 {
        return Err(weights.mismatch(format!(
            "{count} positions are not those of {before} tokens and a square"
        )));
    }
    let new = match vit.size {
        None => side,
        Some(size) => patches_in_a_row(graph, size, patch)?,
    };
    if new != side {
        let own = learnt.values.split_off(before * width);
        let own = Tensor {
            dims: vec![1, patches, width],
            values: own,
        };
        learnt
            .values
            .extend(resample::positions(&own, side, new, vit.antialias).values);
    }
    learnt.dims = vec![1, before + new * new, width];
    graph.put_weight("pos_embed", learnt);
    Ok(new)
}

fn patches_in_a_row(graph: &Graph, size: usize, patch: usize) -> Result<usize> {
    if size >= patch && size.is_multiple_of(patch) {
        return Ok(size / patch);
    }
    Err(Error::InputSize {
        size,
        problem: format!(
            "{} takes multiples of its patches' {patch} pixels",
            graph.weights.architecture()
        ),
    })
}

/// x + attention(norm(x)), then x + perceptron(norm(x)), each scaled where the block has LayerScale.
fn block(
    graph: &mut Graph,
    x: &str,
    vit: &Vit,
    turning: Option<&Turning>,
    name: &str,
) -> Result<String> {
    let heads = Heads {
        count: vit.heads,
        epsilon: vit.epsilon,
        turning,
    };
    let normed = graph.layer_norm(x, vit.epsilon, &format!("{name}.norm1"))?;
    let attended = graph.self_attention(&normed, heads, &format!("{name}.attn"))?;
    let attended = graph.layer_scale(&attended, name, 1)?;
    let x = graph.add(x, &attended, &format!("{name}.add1"));
    let normed = graph.layer_norm(&x, vit.epsilon, &format!("{name}.norm2"))?;
    let thought = graph.perceptron(&normed, vit, &format!("{name}.mlp"))?;
    let thought = graph.layer_scale(&thought, name, 2)?;
    Ok(graph.add(&x, &thought, name))
}

/// One vector `[N, D]` of all tokens.
fn pooled(graph: &mut Graph, x: &str, vit: &Vit, prefix: usize, width: usize) -> Result<String> {
    let patches = |graph: &mut Graph| match vit.pools_prefix || prefix == 0 {
        true => x.to_owned(),
        false => graph.slice(x, prefix, i64::MAX, 1, "patch_tokens"),
    };
    match vit.pool {
        Pool::Class => {
            let first = graph.slice(x, 0, 1, 1, "class_token");
            Ok(graph.reshape(&first, &[0, width as i64], "pool"))
        }
        Pool::Mean => {
            let tokens = patches(graph);
            let axes = graph.integers("pool.axes", &[1]);
            Ok(graph.node(
                "ReduceMean",
                &[&tokens, &axes],
                "pool",
                &[("keepdims", Attribute::Int(0))],
            ))
        }
        Pool::Attention => {
            let tokens = patches(graph);
            attention_pool(graph, &tokens, vit, width)
        }
    }
}

/// A learnt query asks all tokens; a perceptron follows.
fn attention_pool(graph: &mut Graph, x: &str, vit: &Vit, width: usize) -> Result<String> {
    let name = "attn_pool";
    let mut latent = graph.weights.read("attn_pool.latent")?;
    if latent.values.len() != width {
        return Err(graph.weights.unknown("a pooling by several queries"));
    }
    latent.dims = vec![1, 1, width];
    let latent = graph.put_weight("attn_pool.latent", latent);
    let q = graph.linear(&latent, "attn_pool.q")?;
    let kv = graph.linear(x, "attn_pool.kv")?;
    let parts = ["attn_pool.k".to_owned(), "attn_pool.v".to_owned()];
    graph.split(&kv, &[width; 2], -1, &parts);
    let heads = vit.pool_heads.unwrap_or(vit.heads);
    if !width.is_multiple_of(heads) {
        return Err(graph
            .weights
            .mismatch(format!("{width} features are not those of {heads} heads")));
    }
    let q = graph.heads_first(&q, heads, width);
    let k = graph.heads_first(&parts[0], heads, width);
    let v = graph.heads_first(&parts[1], heads, width);
    let mixed = graph.mixed(&q, &k, &v, width, heads, name);
    let x = graph.linear(&mixed, "attn_pool.proj")?;
    let normed = graph.layer_norm(&x, vit.epsilon, "attn_pool.norm")?;
    let thought = graph.perceptron(&normed, vit, "attn_pool.mlp")?;
    let x = graph.add(&x, &thought, "attn_pool.add");
    Ok(graph.reshape(&x, &[0, width as i64], "pool"))
}

impl Graph<'_> {
    /// Features times one learnt number each, the first or second such of `block`; `x` itself where it has none.
    fn layer_scale(&mut self, x: &str, block: &str, number: usize) -> Result<String> {
        let name = format!("{block}.ls{number}");
        let names = [format!("{name}.gamma"), format!("{block}.gamma_{number}")];
        match names.iter().find(|gamma| self.weights.has(gamma)) {
            None => Ok(x.to_owned()),
            Some(gamma) => {
                let gamma = self.weight(gamma)?;
                Ok(self.node("Mul", &[x, &gamma], &name, &[]))
            }
        }
    }

    /// Two dense layers with an activation between them, or with a gate (SwiGLU): then the first layer makes both.
    fn perceptron(&mut self, x: &str, vit: &Vit, name: &str) -> Result<String> {
        let (first, second) = (format!("{name}.fc1"), format!("{name}.fc2"));
        let act = format!("{name}.act");
        let norm = format!("{name}.norm");
        if self.weights.has(&format!("{first}_g.weight")) {
            let gate = self.linear(x, &format!("{first}_g"))?;
            let value = self.linear(x, &format!("{first}_x"))?;
            let gate = self.activation(&gate, Activation::Silu, &act);
            let mut hidden = self.node("Mul", &[&gate, &value], &format!("{name}.gated"), &[]);
            if self.weights.has_module(&norm) {
                hidden = self.layer_norm(&hidden, vit.epsilon, &norm)?;
            }
            return self.linear(&hidden, &second);
        }
        let [made, _] = self.weights.shape(&format!("{first}.weight"))?;
        let [_, read] = self.weights.shape(&format!("{second}.weight"))?;
        let hidden = self.linear(x, &first)?;
        let mut hidden = match made == 2 * read {
            false => self.activation(&hidden, vit.activation, &act),
            true => {
                let parts = ["gate", "value"].map(|part| format!("{name}.{part}"));
                self.split(&hidden, &[read; 2], -1, &parts);
                let gate = self.activation(&parts[0], Activation::Silu, &act);
                self.node("Mul", &[&gate, &parts[1]], &format!("{name}.gated"), &[])
            }
        };
        if self.weights.has_module(&norm) {
            hidden = self.layer_norm(&hidden, vit.epsilon, &norm)?;
        }
        self.linear(&hidden, &second)
    }
}
