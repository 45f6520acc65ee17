//! What timm's names say of vision transformers whose queries and keys are turned: EVA-02, the Perception Encoder (PE)
//! and DINOv3.

use super::{Positions, Rotary, Vit};
use crate::config::Timm;
use crate::error::{Error, Result};
use crate::layers::Activation;
use crate::network::Pool;

/// Whether timm's network `name` is one of them.
pub(crate) fn is_eva(name: &str) -> bool {
    name.starts_with("eva02_")
        || name.starts_with("vit_") && (name.contains("_dinov3") || name.contains("_pe_"))
}

/// What is known of the network `config`, whose tokens have `width` features.
///
/// # Errors
/// [`Error::Unknown`] if the name or an argument asks for something that is not built.
pub(crate) fn eva(config: &Timm, width: usize, size: Option<usize>) -> Result<Vit> {
    let name = config.architecture.as_str();
    let has = |part: &str| name.contains(part);
    let is_sized = ["_small", "_base", "_large", "_tiny", "_huge"]
        .iter()
        .any(|size| has(size));
    let is_known = is_sized && (name.starts_with("eva02_") || has("_dinov3") || has("_pe_core_"));
    if !is_known || has("enormous") {
        return Err(Error::Unknown {
            what: format!("timm's {name}"),
        });
    }
    config.only(&[
        "img_size",
        "embed_dim",
        "depth",
        "num_heads",
        "global_pool",
        "ref_feat_shape",
        "attn_pool_num_heads",
        "dynamic_img_size",
    ])?;
    let args = &config.args;
    let pool = match args
        .text("global_pool")?
        .or(config.pretrained.text("global_pool")?)
    {
        None if has("_pe_") => Pool::Attention,
        None if has("_clip_") => Pool::Class,
        None | Some("avg") => Pool::Mean,
        Some("token") => Pool::Class,
        Some("map") => Pool::Attention,
        Some(other) => {
            return Err(Error::Unknown {
                what: format!("{name} with the pooling {other}"),
            });
        }
    };
    let own = config.size()?;
    let patch_reference = match has("_pe_") {
        true if has("patch14_336") || has("_384") => 24,
        true => 14,
        false => 16,
    };
    let rotary = match has("_dinov3") {
        true => Rotary::Centred { temperature: 100.0 },
        false => Rotary::Counted {
            reference: Some(args.side("ref_feat_shape")?.unwrap_or(patch_reference)),
            offset: if has("_pe_") { 1.0 } else { 0.0 },
            column_first: has("_pe_"),
        },
    };
    Ok(Vit {
        heads: args.count("num_heads")?.unwrap_or(width / 64),
        epsilon: if name.starts_with("eva02_") {
            1e-6
        } else {
            1e-5
        },
        activation: Activation::Gelu,
        pool,
        pools_prefix: pool == Pool::Attention,
        positions: if has("_dinov3") {
            Positions::None
        } else {
            Positions::All
        },
        rotary: Some(rotary),
        pool_heads: match pool {
            Pool::Attention => Some(args.count("attn_pool_num_heads")?.unwrap_or(8)),
            _ => None,
        },
        antialias: true,
        size: size.or(match has("_dinov3") {
            true => own.map(|own| own.min(224)),
            false => own,
        }),
    })
}
