//! Vision transformers as transformers names their parts.

use super::{Positions, Rotary, Vit};
use crate::config::Config;
use crate::error::Result;
use crate::layers::Activation;
use crate::network::Pool;
use crate::weights::{Part, Weights};

/// Names of parts, theirs and timm's. Longer ones stand before what they contain.
const NAMES: [(&str, &str); 46] = [
    // DINOv3's.
    (
        "embeddings.patch_embeddings.weight",
        "patch_embed.proj.weight",
    ),
    ("embeddings.patch_embeddings.bias", "patch_embed.proj.bias"),
    (".attention.q_proj.", ".attn.q_proj."),
    (".attention.k_proj.", ".attn.k_proj."),
    (".attention.v_proj.", ".attn.v_proj."),
    (".attention.o_proj.", ".attn.proj."),
    (".mlp.gate_proj.", ".mlp.fc1_g."),
    (".mlp.down_proj.", ".mlp.fc2."),
    ("model.layer.", "blocks."),
    ("layer.", "blocks."),
    (
        "embeddings.patch_embeddings.projection.",
        "patch_embed.proj.",
    ),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.distillation_token", "dist_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("encoder.layers.", "blocks."),
    ("encoder.layer.", "blocks."),
    ("pre_layrnorm.", "norm_pre."),
    ("post_layernorm.", "norm."),
    ("head.probe", "attn_pool.latent"),
    ("head.attention.in_proj_weight", "attn_pool.qkv.weight"),
    ("head.attention.in_proj_bias", "attn_pool.qkv.bias"),
    ("head.attention.out_proj.", "attn_pool.proj."),
    ("head.layernorm.", "attn_pool.norm."),
    ("head.mlp.", "attn_pool.mlp."),
    (".attention.attention.query.", ".attn.q."),
    (".attention.attention.key.", ".attn.k."),
    (".attention.attention.value.", ".attn.v."),
    (".attention.output.dense.", ".attn.proj."),
    (".self_attn.q_proj.", ".attn.q."),
    (".self_attn.k_proj.", ".attn.k."),
    (".self_attn.v_proj.", ".attn.v."),
    (".self_attn.out_proj.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    (".mlp.weights_in.", ".mlp.fc1."),
    (".mlp.weights_out.", ".mlp.fc2."),
];

/// What belongs to other tasks than features: text towers, poolers that were never trained, masks, classifiers that
/// read more than the features.
const NOT_READ: [&str; 6] = [
    "text_model.",
    "text_projection.",
    "logit_",
    "embeddings.mask_token",
    "embeddings.position_ids",
    "pooler.",
];

/// The name that timm has for the weight `name` of the model type `kind`; none for what is not read.
fn rename(kind: &str, is_gated: bool, name: &str) -> Option<String> {
    if NOT_READ.iter().any(|start| name.starts_with(start)) {
        return None;
    }
    match name {
        "visual_projection.weight" => return Some("head.weight".into()),
        "classifier.weight" | "classifier.bias" if kind == "vit" || kind == "deit" => {
            return Some(name.replace("classifier", "head"));
        }
        // DINOv2's reads the class token and the mean of the patches.
        "classifier.weight" | "classifier.bias" => return None,
        _ => {}
    }
    let prefixes = [
        "vision_model.",
        "vit.",
        "deit.",
        "dinov2.",
        "dinov2_with_registers.",
        "siglip.",
    ];
    let mut name = name;
    for prefix in prefixes {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    if NOT_READ.iter().any(|start| name.starts_with(start)) {
        return None;
    }
    let mut renamed = name.to_owned();
    for (theirs, ours) in NAMES {
        // Only the newest networks number their blocks at the top.
        if theirs == "layer." && !renamed.starts_with(theirs) {
            continue;
        }
        renamed = renamed.replacen(theirs, ours, 1);
    }
    if kind == "dinov3_vit" {
        // The values of a gate, or the only layer.
        let up = if is_gated { ".mlp.fc1_x." } else { ".mlp.fc1." };
        renamed = renamed.replacen(".mlp.up_proj.", up, 1);
    }
    if let Some(rest) = renamed.strip_prefix("layernorm.") {
        renamed = format!("norm.{rest}");
    }
    Some(renamed)
}

/// The weights of the vision transformer `kind` by timm's names, and what else is known of it.
///
/// # Errors
/// [`crate::Error::Config`] or [`crate::Error::Unknown`] for what the configuration says.
pub(crate) fn transformers(
    config: &Config,
    kind: &str,
    weights: Weights,
    size: Option<usize>,
) -> Result<(Weights, Vit)> {
    let is_gated = config.flag("use_gated_mlp")?.unwrap_or(false);
    let weights = weights
        .renamed(|name| rename(kind, is_gated, name))
        .joined([".attn.q.", ".attn.k.", ".attn.v."], ".attn.qkv.")
        .parted(
            "attn_pool.qkv.",
            [
                ("attn_pool.q.", Part::FirstThird),
                ("attn_pool.kv.", Part::LastTwoThirds),
            ],
        );
    let is_clip = matches!(kind, "clip" | "siglip");
    // Those that have a text tower, too, keep the vision tower's values apart.
    let inner = config.object("vision_config")?;
    let own = if is_clip && inner.keys().next().is_some() {
        inner
    } else {
        config.clone()
    };
    let activation = own.activation("hidden_act")?.unwrap_or(match kind {
        "clip" => Activation::QuickGelu,
        "siglip" => Activation::GeluTanh,
        _ => Activation::Gelu,
    });
    let epsilon = match kind {
        "clip" => 1e-5,
        "vit" | "deit" => 1e-12,
        "dinov3_vit" => 1e-5,
        _ => 1e-6,
    };
    let epsilon = own.number("layer_norm_eps")?.unwrap_or(epsilon) as f32;
    let side = own.side("image_size")?;
    let size = size.or(match kind.starts_with("dino") {
        true => side.map(|side| side.min(224)),
        false => None,
    });
    Ok((
        weights,
        Vit {
            heads: own.count("num_attention_heads")?.unwrap_or(12),
            epsilon,
            activation,
            pool: if kind == "siglip" {
                Pool::Attention
            } else {
                Pool::Class
            },
            pools_prefix: false,
            positions: match kind {
                "dinov2_with_registers" => Positions::ClassAndPatches,
                "dinov3_vit" => Positions::None,
                _ => Positions::All,
            },
            rotary: match kind {
                "dinov3_vit" => Some(Rotary::Centred {
                    temperature: own.number("rope_theta")?.unwrap_or(100.0),
                }),
                _ => None,
            },
            pool_heads: None,
            antialias: kind == "dinov2_with_registers",
            size,
        },
    ))
}
