//! Small networks of every family, built and run, against what PyTorch makes of them. scripts/check-families writes
//! tests/data; the weights follow from their names.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tl_families::Head;
use tract_onnx::pb::ValueInfoProto;
use tract_onnx::prelude::*;

/// Largest difference, relative to the largest value.
const TOLERANCE: f32 = 1e-4;

/// So many numbers from 0 to 1 that follow from the name.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(2166136261u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(16777619)
    });
    let one = |i: u32| {
        let mut x = i.wrapping_mul(2654435761).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (x >> 8) as f32 / (1 << 24) as f32
    };
    (0..count as u32).map(one).collect()
}

fn weight(name: &str, dims: &[usize]) -> Vec<f32> {
    let values = noise(name, dims.iter().product());
    let is_scale = ["weight", "gamma", "lambda1", "layer_scale_parameter"]
        .iter()
        .any(|end| name.ends_with(end));
    let change = |value: f32| match dims {
        _ if name.ends_with("running_var") => value + 0.5,
        [] | [_] => (value - 0.5) * 0.4 + if is_scale { 1.0 } else { 0.0 },
        [_, inputs @ ..] => {
            let inputs = inputs.iter().product::<usize>().max(1);
            (value - 0.5) * (12.0 / inputs as f64).sqrt() as f32
        }
    };
    values.into_iter().map(change).collect()
}

/// A safetensors file with these weights.
fn safetensors(weights: &[(String, Vec<usize>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dims) in weights {
        let begin = data.len();
        data.extend(weight(name, dims).iter().flat_map(|v| v.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": dims, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat()
}

struct Fixture {
    config: String,
    weights: Vec<(String, Vec<usize>)>,
    value: Value,
}

fn fixture(path: &Path) -> Fixture {
    let value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let dims = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let weights = value["weights"].as_object().unwrap();
    Fixture {
        config: value["config"].to_string(),
        weights: weights
            .iter()
            .map(|(name, shape)| (name.clone(), dims(shape)))
            .collect(),
        value,
    }
}

fn build(fixture: &Fixture) -> tl_families::Result<tl_families::Base> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, safetensors(&fixture.weights)).unwrap();
    let size = fixture.value["size"].as_u64().map(|size| size as usize);
    tl_families::build(&fixture.config, &path, size)
}

fn named(name: &str) -> Fixture {
    fixture(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(format!("{name}.json")),
    )
}

/// Features and what the head makes of them.
fn run(base: &tl_families::Base) -> Vec<Vec<f32>> {
    let side = base.size;
    let picture: Vec<f32> = noise("image", 3 * side * side)
        .iter()
        .map(|v| (v - 0.5) * 4.0)
        .collect();
    let picture = Tensor::from_shape(&[1, 3, side, side], &picture).unwrap();
    let mut outputs = vec![base.features.clone()];
    outputs.extend(base.head.iter().map(|head| match head {
        Head::Classes { tensor, .. } | Head::Embedding { tensor, .. } => tensor.clone(),
    }));
    let mut proto = base.model.clone();
    let output = |name: String| ValueInfoProto {
        name,
        ..Default::default()
    };
    proto.graph.as_mut().unwrap().output = outputs.into_iter().map(output).collect();
    let fact = InferenceFact::dt_shape(f32::datum_type(), [1, 3, side, side]);
    let model = tract_onnx::onnx().model_for_proto_model(&proto).unwrap();
    let model = model
        .with_input_fact(0, fact)
        .unwrap()
        .into_optimized()
        .unwrap();
    let results = model
        .into_runnable()
        .unwrap()
        .run(tvec!(picture.into()))
        .unwrap();
    let values = |tensor: &TValue| {
        let tensor = tensor.cast_to::<f32>().unwrap();
        tensor
            .try_as_plain_ram()
            .unwrap()
            .as_slice::<f32>()
            .unwrap()
            .to_vec()
    };
    results.iter().map(values).collect()
}

fn check(name: &str) {
    let fixture = named(name);
    let base = build(&fixture).unwrap();
    assert_eq!(
        Some(base.parameters),
        fixture.value["parameters"].as_u64(),
        "{name}"
    );
    let results = run(&base);
    for (result, key) in results.iter().zip(["features", "head"]) {
        let expected: Vec<f32> = serde_json::from_value(fixture.value[key].clone()).unwrap();
        let largest = result.iter().fold(0f32, |most, v| most.max(v.abs()));
        assert!(!expected.is_empty(), "{name}: {key}");
        for (result, expected) in result.iter().zip(expected) {
            let difference = (result - expected).abs() / largest;
            assert!(
                difference <= TOLERANCE,
                "{name}: {key} {result}, not {expected}"
            );
        }
    }
    assert_eq!(results[0].len(), base.feature_width, "{name}");
}

#[test]
fn every_family_gives_what_pytorch_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .ok()?
                .strip_suffix(".json")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        check(&name);
    }
}

#[test]
fn a_network_with_a_weight_too_many_or_too_few_is_refused() {
    let mut more = named("vit");
    more.weights
        .push(("blocks.0.adapter.weight".into(), vec![4]));
    let error = build(&more).unwrap_err().to_string();
    assert!(
        error.contains("nothing in it reads the weight `blocks.0.adapter.weight`"),
        "{error}"
    );
    let mut fewer = named("vit");
    fewer
        .weights
        .retain(|(name, _)| name != "blocks.1.norm2.bias");
    let error = build(&fewer).unwrap_err().to_string();
    assert!(error.contains("no weight `blocks.1.norm2.bias`"), "{error}");
}

#[test]
fn what_is_not_built_is_named_with_the_way_that_there_is() {
    let vit = named("vit");
    for (config, said) in [
        (
            json!({"architecture": "vit_base_patch16_rpn_224"}),
            "the part rpn of its name",
        ),
        (
            json!({"architecture": "tresnet_m"}),
            "timm's tresnet_m is not built here",
        ),
        (
            json!({"model_type": "bert"}),
            "the model type bert of transformers",
        ),
        (
            json!({"architecture": "vit_small_patch16_224", "model_args": {"mlp_layer": "x"}}),
            "with the argument mlp_layer",
        ),
        (
            json!({"architecture": "vit_small_patch16_224", "model_args": {"global_pool": "max"}}),
            "the pooling max",
        ),
    ] {
        let other = Fixture {
            config: config.to_string(),
            weights: vit.weights.clone(),
            value: json!({}),
        };
        let error = build(&other).unwrap_err().to_string();
        assert!(error.contains(said), "{config}: {error}");
        assert!(error.contains("scripts/export_timm.py"), "{error}");
    }
}

#[test]
fn positions_are_resized_to_whole_patches_only() {
    let mut vit = named("vit");
    vit.value["size"] = json!(70);
    let error = build(&vit).unwrap_err().to_string();
    assert!(
        error.contains("input size 70: vit_small_patch16_224 takes multiples"),
        "{error}"
    );
}
