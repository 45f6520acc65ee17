//! Tokens as features: poolings and blocks of a network that is built from its weights.

use std::fs;

use tl::backbone::{Backbone, BackboneParams, Pool};
use tl::pixels::Picture;

use crate::hub::network;

/// Tokens of the network: class token, four registers, 4 x 4 patches.
const PREFIX: usize = 5;
const PATCHES: usize = 16;
const WIDTH: usize = 32;

/// Features of a picture of stripes, and their shape.
fn features(params: &BackboneParams) -> (Vec<f32>, Vec<usize>) {
    let backbone = Backbone::open(params).unwrap();
    let rgb = (0..80 * 60 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let picture = Picture {
        width: 80,
        height: 60,
        rgb,
        warnings: Vec::new(),
    };
    let mut session = backbone.session().unwrap();
    let values = session.run(&picture).unwrap().to_vec();
    (values, backbone.feature_shape().to_vec())
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() < 1e-5 * e.abs().max(1.0), "{f} is not {e}");
    }
}

#[test]
fn tokens_are_pooled_without_those_before_the_patches() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in network("vit-dinov2-registers") {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let base = BackboneParams {
        model: folder.path().display().to_string(),
        ..BackboneParams::default()
    };
    let pooled = |pool, prefix_tokens| {
        features(&BackboneParams {
            pool: Some(pool),
            prefix_tokens,
            ..base.clone()
        })
    };
    // All tokens, row by row.
    let (all, shape) = pooled(Pool::Flatten, None);
    assert_eq!(shape, [(PREFIX + PATCHES) * WIDTH]);
    let class = &all[..WIDTH];
    let patches = &all[PREFIX * WIDTH..];
    let mean = |tokens: &[f32]| -> Vec<f32> {
        let rows = tokens.len() / WIDTH;
        (0..WIDTH)
            .map(|i| tokens.iter().skip(i).step_by(WIDTH).sum::<f32>() / rows as f32)
            .collect()
    };
    assert_eq!(pooled(Pool::Cls, None), (class.to_vec(), vec![WIDTH]));
    let (values, shape) = pooled(Pool::Avg, None);
    assert_eq!(shape, [WIDTH]);
    close(&values, &mean(patches));
    let (values, shape) = pooled(Pool::ClsMean, None);
    assert_eq!(shape, [2 * WIDTH]);
    close(&values, &[class, &mean(patches)].concat());
    assert_eq!(
        pooled(Pool::None, None),
        (patches.to_vec(), vec![4, 4, WIDTH])
    );
    // As the user says.
    close(&pooled(Pool::Avg, Some(0)).0, &mean(&all));
    let (_, shape) = pooled(Pool::None, Some(0));
    assert_eq!(shape, [PREFIX + PATCHES, WIDTH]);
    let wrong = BackboneParams {
        pool: Some(Pool::Avg),
        prefix_tokens: Some(21),
        ..base.clone()
    };
    let error = Backbone::open(&wrong).err().unwrap().to_string();
    assert!(
        error.contains("--prefix-tokens") && error.contains("21 tokens in all"),
        "{error}"
    );
    // Without a pooling, what the network makes of the tokens: the class token.
    close(&features(&base).0, class);
}

#[test]
fn a_block_has_a_number() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in network("vit-dinov2") {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let cut = |cut: &str| {
        let params = BackboneParams {
            model: folder.path().display().to_string(),
            cut: Some(cut.into()),
            ..BackboneParams::default()
        };
        Backbone::open(&params).map(|backbone| {
            let id = backbone.id();
            (id.cut.to_string(), id.pool, backbone.feature_len())
        })
    };
    for name in ["block0", "blocks.0", "block_0"] {
        assert_eq!(
            cut(name).unwrap(),
            ("blocks.0".to_owned(), Pool::Cls, WIDTH),
            "{name}"
        );
    }
    let error = cut("block2").unwrap_err().to_string();
    assert!(error.contains("no layer of this name"), "{error}");
}
