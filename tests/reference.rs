//! Features and saved models against ONNX Runtime and Pillow.

use std::fs;
use std::path::{Path, PathBuf};

use tl::backbone::{Backbone, BackboneParams, Pool};
use tl::dataset::Dataset;
use tl::pixels::{DecodeLimits, Picture};
use tl::saved_model::SavedModel;

use crate::program::{Workplace, model_file, repository};
use crate::python::{python, run_python};

/// Writes f32 values as a NumPy file.
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) {
    let dims: String = shape.iter().map(|d| format!("{d},")).collect();
    let mut dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    while (dict.len() + 11) % 64 != 0 {
        dict.push(' ');
    }
    dict.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dict.len() as u16).to_le_bytes());
    bytes.extend(dict.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// The f32 values of a NumPy file.
pub fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(String::from_utf8_lossy(&bytes[10..10 + header]).contains("'<f4'"));
    bytes[10 + header..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn tiny_pictures() -> Vec<PathBuf> {
    let root = repository("datasets/tiny");
    let dataset = Dataset::open(&root, None).unwrap();
    dataset.samples.iter().map(|s| root.join(&s.path)).collect()
}

/// The largest of values that are not negative; infinite where one is no number, which `f32::max` would pass over.
pub fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, value| match value.is_nan() {
        true => f32::INFINITY,
        false => most.max(value),
    })
}

/// |a − b| ≤ 1e-3 + 1e-4·|b| for all values.
pub fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs() - 1e-4 * b.abs());
    let worst = largest(worst);
    assert!(worst <= 1e-3, "{what}: {worst} over the tolerance");
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(p, q)| f64::from(*p) * f64::from(*q))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

struct Base {
    model: &'static str,
    file: &'static str,
    cut: &'static str,
    pool: Pool,
    features: usize,
}

const BASES: [Base; 4] = [
    Base {
        model: "efficientnet-lite0",
        file: "efficientnet-lite0",
        cut: "features",
        pool: Pool::Avg,
        features: 1280,
    },
    Base {
        model: "efficientnet-lite0",
        file: "efficientnet-lite0",
        cut: "block5b_add",
        pool: Pool::Max,
        features: 112,
    },
    Base {
        model: "vgg16",
        file: "vgg16-conv-base",
        cut: "block5_pool",
        pool: Pool::None,
        features: 4 * 4 * 512,
    },
    Base {
        model: "vgg16",
        file: "vgg16-conv-base",
        cut: "block4_pool",
        pool: Pool::Avg,
        features: 512,
    },
];

/// Runs all pictures through our base; returns input tensors and features.
fn our_features(base: &Base) -> Option<(Vec<f32>, Vec<f32>, Vec<usize>)> {
    let params = BackboneParams {
        model: base.model.into(),
        cut: Some(base.cut.into()),
        pool: Some(base.pool),
        ..BackboneParams::default()
    };
    model_file(&format!("{}.onnx", base.file))?;
    let backbone = Backbone::open(&params).unwrap();
    let mut session = backbone.session().unwrap();
    let (mut tensors, mut features) = (Vec::new(), Vec::new());
    for path in tiny_pictures() {
        let picture =
            Picture::open(&path, &DecodeLimits::default(), session.decode_options()).unwrap();
        features.extend_from_slice(session.run(&picture).unwrap());
        tensors.extend_from_slice(session.tensor());
    }
    Some((tensors, features, backbone.feature_shape().to_vec()))
}

#[test]
fn features_agree_with_onnx_runtime() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.npy"), dir.path().join("out.npy"));
    for base in &BASES {
        let Some((tensors, features, shape)) = our_features(base) else {
            continue;
        };
        assert_eq!(
            shape.iter().product::<usize>(),
            base.features,
            "{} {}",
            base.model,
            base.cut
        );
        if base.pool == Pool::None {
            assert_eq!(shape, [4, 4, 512]);
        }
        let model = repository("models").join(format!("{}.onnx", base.file));
        let side = if base.model == "vgg16" { 150 } else { 224 };
        let pool = ["--pool", base.pool.name()];

        // The same input tensors: only the networks differ.
        write_npy(&input, &[24, 3, side, side], &tensors);
        let with_input = [
            model.as_path(),
            Path::new(base.cut),
            &output,
            Path::new("--input"),
            &input,
        ];
        run_python(&python, "features.py", &with_input, &pool);
        assert_close(
            &features,
            &read_npy(&output),
            &format!("{} at {}", base.model, base.cut),
        );

        // The same files: decoding and resizing differ, too.
        let card = repository("models").join(format!("{}.toml", base.model));
        let mut arguments = vec![
            model.as_path(),
            Path::new(base.cut),
            &output,
            Path::new("--card"),
            &card,
        ];
        let pictures = tiny_pictures();
        arguments.extend(pictures.iter().map(PathBuf::as_path));
        run_python(&python, "features.py", &arguments, &pool);
        let theirs = read_npy(&output);
        let cosines: Vec<f64> = features
            .chunks_exact(base.features)
            .zip(theirs.chunks_exact(base.features))
            .map(|(a, b)| cosine(a, b))
            .collect();
        let least = cosines.iter().copied().fold(1.0, f64::min);
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        assert!(
            least >= 0.999 && mean >= 0.9995,
            "{} at {}: {least} {mean}",
            base.model,
            base.cut
        );
    }
}

#[test]
fn onnx_runtime_runs_a_saved_model_and_agrees() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let tiny = repository("datasets/tiny");
    let vgg = if repository("models/vgg16-conv-base.onnx").exists() {
        "vgg16"
    } else {
        "efficientnet-lite0"
    };
    for (name, flags) in [
        ("linear.onnx", "--epochs 20".to_owned()),
        ("hidden.onnx", "--epochs 5 --hidden 12,7".to_owned()),
        ("maps.onnx", format!("--epochs 3 --model {vgg}")),
    ] {
        let said = work.run(&format!("fit {} -o {name} {flags}", tiny.display()));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let model = SavedModel::open(&work.path(name)).unwrap();
        let mut session = model.session().unwrap();
        let (mut tensors, mut ours) = (Vec::new(), Vec::new());
        for path in tiny_pictures().iter().step_by(4) {
            let picture =
                Picture::open(path, &DecodeLimits::default(), session.decode_options()).unwrap();
            ours.extend_from_slice(session.run(&picture).unwrap());
            tensors.extend_from_slice(session.tensor());
        }
        let [_, c, h, w] = model.input_shape();
        // A batch of 6: the saved file has a free batch axis.
        write_npy(&work.path("in.npy"), &[6, c, h, w], &tensors);
        let out = work.path("out");
        let said = run_python(
            &python,
            "run_model.py",
            &[&work.path(name), &work.path("in.npy"), &out],
            &[],
        );
        let theirs = read_npy(&out.join("probabilities.npy"));
        let worst = largest(ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()));
        assert_eq!(ours.len(), theirs.len());
        assert!(worst <= 1e-4, "{name}: {worst}");
        assert!(
            said.contains(r#"[\"fish\",\"hammer\",\"windmill\"]"#),
            "class names are in the metadata: {said}"
        );
    }
}

#[test]
fn channels_last_models_with_a_fixed_batch_run_without_a_card() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    for variant in ["nhwc-fixed", "nchw-free", "nchw-opset9-softmax"] {
        let model = work.path(&format!("{variant}.onnx"));
        run_python(&python, "make_small_model.py", &[&model], &[variant]);
        let said = work.run(&format!("summary {}", model.display()));
        assert!(said.stdout.contains("Total params: "), "{}", said.stderr);
        let params = BackboneParams {
            model: model.display().to_string(),
            input_size: Some(32.into()),
            ..BackboneParams::default()
        };
        let backbone = Backbone::open(&params).unwrap();
        assert_eq!(backbone.feature_shape(), [8], "{variant}");
        assert!(
            backbone.warnings()[0].contains("has no model card"),
            "{variant}"
        );
        let mut session = backbone.session().unwrap();
        let picture = Picture::open(
            &tiny_pictures()[0],
            &DecodeLimits::default(),
            session.decode_options(),
        )
        .unwrap();
        let ours = session.run(&picture).unwrap().to_vec();
        let shape = if variant == "nhwc-fixed" {
            [1, 32, 32, 3]
        } else {
            [1, 3, 32, 32]
        };
        write_npy(&work.path("in.npy"), &shape, session.tensor());
        let (input, output) = (work.path("in.npy"), work.path("out.npy"));
        run_python(
            &python,
            "features.py",
            &[
                &model,
                Path::new("features"),
                &output,
                Path::new("--input"),
                &input,
            ],
            &[],
        );
        assert_close(&ours, &read_npy(&output), variant);
        let said = work.run(&format!(
            "fit {} -o {variant}-head.onnx --model {} --input-size 32 --epochs 2",
            repository("datasets/tiny").display(),
            model.display()
        ));
        assert!(
            said.stdout.ends_with("same results: TRUE\n"),
            "{variant}: {}",
            said.stderr
        );
    }
}

/// Lines as Keras 3 prints them for `VGG16(include_top=False, input_shape=(150, 150, 3)).summary()`.
const VGG16_SUMMARY: [(&str, &str, &str); 18] = [
    ("block1_conv1 (Conv2D)", "(None, 150, 150, 64)", "1,792"),
    ("block1_conv2 (Conv2D)", "(None, 150, 150, 64)", "36,928"),
    ("block1_pool (MaxPooling2D)", "(None, 75, 75, 64)", "0"),
    ("block2_conv1 (Conv2D)", "(None, 75, 75, 128)", "73,856"),
    ("block2_conv2 (Conv2D)", "(None, 75, 75, 128)", "147,584"),
    ("block2_pool (MaxPooling2D)", "(None, 37, 37, 128)", "0"),
    ("block3_conv1 (Conv2D)", "(None, 37, 37, 256)", "295,168"),
    ("block3_conv2 (Conv2D)", "(None, 37, 37, 256)", "590,080"),
    ("block3_conv3 (Conv2D)", "(None, 37, 37, 256)", "590,080"),
    ("block3_pool (MaxPooling2D)", "(None, 18, 18, 256)", "0"),
    ("block4_conv1 (Conv2D)", "(None, 18, 18, 512)", "1,180,160"),
    ("block4_conv2 (Conv2D)", "(None, 18, 18, 512)", "2,359,808"),
    ("block4_conv3 (Conv2D)", "(None, 18, 18, 512)", "2,359,808"),
    ("block4_pool (MaxPooling2D)", "(None, 9, 9, 512)", "0"),
    ("block5_conv1 (Conv2D)", "(None, 9, 9, 512)", "2,359,808"),
    ("block5_conv2 (Conv2D)", "(None, 9, 9, 512)", "2,359,808"),
    ("block5_conv3 (Conv2D)", "(None, 9, 9, 512)", "2,359,808"),
    ("block5_pool (MaxPooling2D)", "(None, 4, 4, 512)", "0"),
];

#[test]
fn the_summary_of_vgg16_is_the_textbooks_line_by_line() {
    if model_file("vgg16-conv-base.onnx").is_none() {
        return;
    }
    let said = Workplace::new().run("summary vgg16 --input 150");
    let lines: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|l| {
            l.split("  ")
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .collect()
        })
        .collect();
    let first = lines
        .iter()
        .position(|l| l.first() == Some(&VGG16_SUMMARY[0].0))
        .unwrap();
    for (line, (layer, shape, count)) in lines[first..].iter().zip(VGG16_SUMMARY) {
        assert_eq!(line[..], [layer, shape, count]);
    }
    assert_eq!(
        lines[first - 1],
        vec!["image (InputLayer)", "[(None, 150, 150, 3)]", "0"]
    );
    assert!(said.stdout.contains(
        "Total params: 14,714,688\nTrainable params: 14,714,688\nNon-trainable params: 0\n"
    ));
}

#[test]
fn a_head_of_three_classes_has_the_textbooks_parameters() {
    let said = Workplace::new().run("summary efficientnet-lite0 --head 3");
    assert!(
        said.stdout
            .contains("dense (Dense)                    (None, 3)                 3,843"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("Trainable params: 3,843\n"),
        "{}",
        said.stdout
    );
}
