//! What timm's names say of vision transformers.

use super::{Positions, Vit};
use crate::config::Timm;
use crate::error::{Error, Result};
use crate::layers::Activation;
use crate::network::Pool;

/// Parts of names that are known, besides sizes of patches and pictures.
const PARTS: [&str; 33] = [
    "vit",
    "deit",
    "deit3",
    "flexivit",
    "test",
    "tiny",
    "xsmall",
    "small",
    "medium",
    "mediumd",
    "betwixt",
    "base",
    "large",
    "huge",
    "giant",
    "giantopt",
    "gigantic",
    "wee",
    "little",
    "so150m",
    "so150m2",
    "so400m",
    "plus",
    "miil",
    "clip",
    "quickgelu",
    "siglip",
    "gap",
    "map",
    "reg1",
    "reg4",
    "dinov2",
    "tipsv2",
];

/// The largest input at which DINOv2 is used where nobody asks for another: it is trained at this size.
const DINOV2_SIZE: usize = 224;

/// What is known of the vision transformer `config`, whose tokens have `width` features; none if its name is of
/// another family.
///
/// # Errors
/// [`Error::Unknown`] if the name or an argument asks for something that is not built.
pub(crate) fn timm(config: &Timm, width: usize, size: Option<usize>) -> Result<Vit> {
    let name = config.architecture.as_str();
    let parts: Vec<&str> = name.split('_').collect();
    let is_size = |part: &str| {
        let digits = part.strip_prefix("patch").unwrap_or(part);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if let Some(part) = parts
        .iter()
        .find(|part| !PARTS.contains(part) && !is_size(part))
    {
        return Err(Error::Unknown {
            what: format!("{name}, for the part {part} of its name,"),
        });
    }
    config.only(&[
        "img_size",
        "patch_size",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
        "class_token",
        "reg_tokens",
        "init_values",
        "no_embed_class",
        "global_pool",
        "act_layer",
        "qkv_bias",
        "fc_norm",
        "pre_norm",
        "dynamic_img_size",
    ])?;
    let has = |part: &str| parts.contains(&part);
    let args = &config.args;
    let heads = args.count("num_heads")?.unwrap_or(match width {
        1152 | 1280 | 1408 | 1664 => 16,
        1536 if has("giantopt") => 16,
        768 if name == "vit_base_patch16_gap_224" => 16,
        _ if has("test") => 2,
        _ => width / 64,
    });
    let is_tanh = has("siglip")
        && (has("patch32")
            || has("giantopt")
            || has("large") && has("512")
            || has("so400m") && has("patch16"));
    let activation = match args.activation("act_layer")? {
        Some(activation) => activation,
        None if has("quickgelu") => Activation::QuickGelu,
        None if is_tanh => Activation::GeluTanh,
        None => Activation::Gelu,
    };
    let pool = match args
        .text("global_pool")?
        .or(config.pretrained.text("global_pool")?)
    {
        None if has("siglip") && !has("gap") || has("map") => Pool::Attention,
        None if has("gap") => Pool::Mean,
        None | Some("token") => Pool::Class,
        Some("avg") => Pool::Mean,
        Some("map") => Pool::Attention,
        Some(other) => {
            return Err(Error::Unknown {
                what: format!("{name} with the pooling {other}"),
            });
        }
    };
    let is_big_vision = (has("reg1") || has("reg4")) && !has("so150m") && !has("so150m2");
    let in_patches = args
        .flag("no_embed_class")?
        .unwrap_or(is_big_vision || has("deit3") || has("flexivit"));
    let positions = match in_patches {
        true => Positions::Patches,
        false => Positions::All,
    };
    let own = config.size()?;
    let size = size.or(own.map(|own| match has("dinov2") {
        true => own.min(DINOV2_SIZE),
        false => own,
    }));
    Ok(Vit {
        heads,
        epsilon: if has("clip") { 1e-5 } else { 1e-6 },
        activation,
        pool,
        pools_prefix: false,
        positions,
        rotary: None,
        pool_heads: None,
        antialias: true,
        size,
    })
}
