//! Models of smaller numbers: against their float models, ONNX Runtime, and its quantisation.

use std::fs;
use std::path::{Path, PathBuf};

use tl::backbone::{Backbone, BackboneParams, Pool};
use tl::dataset::Dataset;
use tl::pixels::{DecodeLimits, Picture};
use tl::saved_model::{Precision, SavedModel};

use crate::program::{Said, Workplace, model_file, repository};
use crate::python::{python, run_python};
use crate::reference::{largest, read_npy, write_npy};

fn pictures() -> Vec<PathBuf> {
    let root = repository("datasets/tiny");
    let dataset = Dataset::open(&root, None).unwrap();
    dataset.samples.iter().map(|s| root.join(&s.path)).collect()
}

/// Input tensors of the pictures, and what the model makes of them.
fn run(model: &Path) -> (Vec<f32>, Vec<f32>, [usize; 4]) {
    let model = SavedModel::open(model).unwrap();
    let mut session = model.session().unwrap();
    let (mut tensors, mut probabilities) = (Vec::new(), Vec::new());
    for path in pictures() {
        let picture =
            Picture::open(&path, &DecodeLimits::default(), session.decode_options()).unwrap();
        probabilities.extend_from_slice(session.run(&picture).unwrap());
        tensors.extend_from_slice(session.tensor());
    }
    (tensors, probabilities, model.input_shape())
}

/// What ONNX Runtime makes of the same tensors.
fn run_elsewhere(
    work: &Workplace,
    python: &Path,
    model: &str,
    tensors: &[f32],
    shape: [usize; 4],
) -> Vec<f32> {
    let [_, a, b, c] = shape;
    let (input, out) = (work.path("in.npy"), work.path("out"));
    write_npy(&input, &[tensors.len() / (a * b * c), a, b, c], tensors);
    run_python(
        python,
        "run_model.py",
        &[&work.path(model), &input, &out],
        &[],
    );
    read_npy(&out.join("probabilities.npy"))
}

fn classes_of(probabilities: &[f32], classes: usize) -> Vec<usize> {
    let first =
        |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    probabilities.chunks_exact(classes).map(first).collect()
}

fn differences(a: &[f32], b: &[f32]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let all = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    let sum: f32 = all.clone().sum();
    (sum / a.len() as f32, largest(all))
}

fn done(said: &Said) {
    assert_eq!(said.code, Some(0), "{}\n{}", said.stdout, said.stderr);
}

/// `tiny.onnx` trained on all of the data set but a quarter.
fn fitted(flags: &str) -> Workplace {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny");
    let line = format!(
        "fit {} -o tiny.onnx --validation-split 0.25{flags}",
        tiny.display()
    );
    done(&work.run(&line));
    work
}

fn quantize(work: &Workplace, name: &str, flags: &str) -> Said {
    let tiny = repository("datasets/tiny");
    work.run(&format!(
        "quantize tiny.onnx {} -o {name}{flags}",
        tiny.display()
    ))
}

#[test]
fn an_int8_model_does_as_the_float_model_and_as_in_onnx_runtime() {
    let work = fitted(" --epochs 30");
    let (tensors, float, shape) = run(&work.path("tiny.onnx"));
    let python = python();
    for calibration in ["minmax", "percentile", "mse"] {
        let name = format!("{calibration}.onnx");
        let said = quantize(&work, &name, &format!(" --calibration {calibration}"));
        done(&said);
        assert!(
            said.stdout.ends_with("same results: TRUE\n"),
            "{}",
            said.stdout
        );
        assert!(
            said.stdout
                .contains("49 layers in int8, 1 in float32 (dense)"),
            "{}",
            said.stdout
        );
        let size = |name: &str| fs::metadata(work.path(name)).unwrap().len() as f64;
        let share = size(&name) / size("tiny.onnx");
        assert!(share < 0.3, "{share}");
        let (_, ours, _) = run(&work.path(&name));
        assert_eq!(classes_of(&ours, 3), classes_of(&float, 3), "{calibration}");
        let (mean, most) = differences(&ours, &float);
        assert!(
            mean > 0.0 && mean < 0.02 && most < 0.15,
            "{calibration}: {mean} {most}"
        );
        if let Some(python) = &python {
            let theirs = run_elsewhere(&work, python, &name, &tensors, shape);
            assert_eq!(
                classes_of(&ours, 3),
                classes_of(&theirs, 3),
                "{calibration}"
            );
            let (mean, most) = differences(&ours, &theirs);
            assert!(
                mean < 2e-3 && most < 0.02,
                "{calibration}: {mean} {most} from ONNX Runtime"
            );
        }
    }
}

/// Nobody else's int8 model of the same network, calibrated on the same pictures, may be closer to the float model.
#[test]
fn int8_is_as_good_as_that_of_onnx_runtimes_tool() {
    let Some(python) = python() else { return };
    let work = fitted(" --epochs 30");
    let (tensors, float, shape) = run(&work.path("tiny.onnx"));
    let [_, a, b, c] = shape;
    write_npy(&work.path("calibration.npy"), &[24, a, b, c], &tensors);
    let given = ["tiny.onnx", "calibration.npy", "theirs.onnx"].map(|name| work.path(name));
    let given: Vec<&Path> = given.iter().map(PathBuf::as_path).collect();
    run_python(&python, "quantize_static.py", &given, &["minmax"]);
    let theirs = run_elsewhere(&work, &python, "theirs.onnx", &tensors, shape);
    done(&quantize(&work, "ours.onnx", ""));
    let ours = run_elsewhere(&work, &python, "ours.onnx", &tensors, shape);
    let (our_mean, _) = differences(&ours, &float);
    let (their_mean, _) = differences(&theirs, &float);
    assert!(
        our_mean <= their_mean * 1.1,
        "{our_mean}, theirs {their_mean}"
    );
}

#[test]
fn vgg16_with_a_hidden_layer_becomes_int8() {
    if model_file("vgg16-conv-base.onnx").is_none() {
        return;
    }
    let work = fitted(" --epochs 5 --model vgg16 --input-size 64 --hidden 16");
    let said = quantize(&work, "int8.onnx", " --keep-float block1_conv1");
    done(&said);
    let (tensors, float, shape) = run(&work.path("tiny.onnx"));
    let (_, ours, _) = run(&work.path("int8.onnx"));
    let (mean, most) = differences(&ours, &float);
    assert!(mean < 0.02 && most < 0.2, "{mean} {most}");
    let model = SavedModel::open(&work.path("int8.onnx")).unwrap();
    let record = model.record().quantization.clone().unwrap();
    assert_eq!(record.precision, Precision::Int8);
    assert_eq!(record.float_layers, ["block1_conv1", "dense_2"]);
    assert_eq!((record.calibration_images, record.images), (18, 6));
    let Some(python) = python() else { return };
    let theirs = run_elsewhere(&work, &python, "int8.onnx", &tensors, shape);
    assert_eq!(classes_of(&ours, 3), classes_of(&theirs, 3));
}

#[test]
fn float16_weights_halve_the_size_and_change_next_to_nothing() {
    let work = fitted(" --epochs 10");
    let said = quantize(&work, "half.onnx", " --float16");
    done(&said);
    let size = |name: &str| fs::metadata(work.path(name)).unwrap().len() as f64;
    let share = size("half.onnx") / size("tiny.onnx");
    assert!((0.45..0.55).contains(&share), "{share}");
    let (tensors, float, shape) = run(&work.path("tiny.onnx"));
    let (_, ours, _) = run(&work.path("half.onnx"));
    let (_, most) = differences(&ours, &float);
    assert!(most > 0.0 && most < 5e-3, "{most}");
    let Some(python) = python() else { return };
    let theirs = run_elsewhere(&work, &python, "half.onnx", &tensors, shape);
    let (_, most) = differences(&ours, &theirs);
    assert!(most < 1e-4, "{most} from ONNX Runtime");
}

#[test]
fn a_quantised_model_is_used_as_any_other() {
    let work = fitted(" --epochs 10");
    done(&quantize(&work, "int8.onnx", ""));
    let tiny = repository("datasets/tiny");
    let said = work.run("verify int8.onnx");
    done(&said);
    assert!(said.stdout.contains("QuantizeLinear"), "{}", said.stdout);
    let said = work.run(&format!(
        "predict int8.onnx {}",
        tiny.join("fish").display()
    ));
    done(&said);
    assert_eq!(said.stdout.matches(": fish ").count(), 8, "{}", said.stdout);
    let said = work.run(&format!("evaluate int8.onnx {}", tiny.display()));
    done(&said);
    let float = work.run("summary tiny.onnx");
    let said = work.run("summary int8.onnx");
    done(&said);
    for line in ["stem_conv (Conv2D)", "dense (Dense)"] {
        assert!(
            said.stdout.contains(line),
            "{}\n{}",
            said.stdout,
            float.stdout
        );
    }
    done(&work.run("bench int8.onnx --seconds 0.2"));
}

#[test]
fn what_cannot_be_quantised_is_said() {
    let work = fitted(" --epochs 2");
    let said = quantize(&work, "int8.onnx", " --keep-float nowhere");
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr
            .contains("invalid value `nowhere` for --keep-float: the layers that can be quantised are stem_conv, "),
        "{}",
        said.stderr
    );
    for (flags, name) in [
        (" --weight-bits 4", "weight-bits"),
        (" --max-loss 101", "max-loss"),
        (" --calibration-images 0", "calibration-images"),
    ] {
        let said = quantize(&work, "int8.onnx", flags);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains(name), "{}", said.stderr);
    }
    done(&quantize(&work, "int8.onnx", ""));
    let said = quantize(&work, "int8.onnx", "");
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    let tiny = repository("datasets/tiny");
    let said = work.run(&format!(
        "quantize int8.onnx {} -o again.onnx",
        tiny.display()
    ));
    assert_eq!(said.code, Some(4));
    assert!(
        said.stderr.contains("it is already quantised"),
        "{}",
        said.stderr
    );
    assert!(!work.path("again.onnx").exists());
}

/// A small base of an operator set older than scales for channels, in both layouts.
#[test]
fn older_and_channels_last_networks_are_quantised() {
    let Some(python) = python() else { return };
    let tiny = repository("datasets/tiny");
    for variant in ["nhwc-fixed", "nchw-free", "nchw-opset9-softmax"] {
        let work = Workplace::new();
        let base = work.path("base.onnx");
        run_python(&python, "make_small_model.py", &[&base], &[variant]);
        let line = "--model base.onnx --input-size 32 --epochs 20";
        done(&work.run(&format!("fit {} -o tiny.onnx {line}", tiny.display())));
        done(&quantize(&work, "int8.onnx", " --max-loss 100"));
        let (tensors, float, shape) = run(&work.path("tiny.onnx"));
        let (_, ours, _) = run(&work.path("int8.onnx"));
        let (mean, most) = differences(&ours, &float);
        assert!(mean > 0.0 && most < 0.1, "{variant}: {mean} {most}");
        let batch = if variant == "nhwc-fixed" { 1 } else { 24 };
        let one = tensors.len() / 24;
        let theirs = run_elsewhere(&work, &python, "int8.onnx", &tensors[..batch * one], shape);
        let (_, most) = differences(&ours[..theirs.len()], &theirs);
        assert!(most < 0.01, "{variant}: {most} from ONNX Runtime");
    }
}

/// Bytes inside the network, seen as what they stand for: at most two steps from ONNX Runtime's.
#[test]
fn inner_values_are_within_two_steps_of_onnx_runtimes() {
    let Some(python) = python() else { return };
    let work = fitted(" --epochs 2");
    done(&quantize(&work, "int8.onnx", ""));
    let file = work.path("int8.onnx");
    for (cut, channels) in [
        ("stem_relu6", 32),
        ("block2b_add", 24),
        ("block4a_dw_relu6", 240),
        ("block5c_add", 112),
        ("top_relu6", 1280),
    ] {
        let tensor = format!("{cut}/dequantized");
        let params = BackboneParams {
            model: file.display().to_string(),
            cut: Some(tensor.as_str().into()),
            pool: Some(Pool::None),
            ..BackboneParams::default()
        };
        let backbone = Backbone::open(&params).unwrap();
        assert_eq!(backbone.feature_shape()[2], channels);
        let mut session = backbone.session().unwrap();
        let picture = Picture::open(
            &pictures()[0],
            &DecodeLimits::default(),
            session.decode_options(),
        )
        .unwrap();
        let ours = session.run(&picture).unwrap().to_vec();
        let (input, output) = (work.path("one.npy"), work.path("out.npy"));
        write_npy(&input, &[1, 3, 224, 224], session.tensor());
        let given = [
            file.as_path(),
            Path::new(&tensor),
            &output,
            Path::new("--input"),
            &input,
        ];
        run_python(&python, "features.py", &given, &["--pool", "none"]);
        let theirs = read_npy(&output);
        let mut values = theirs.clone();
        values.sort_by(f32::total_cmp);
        let gaps = values.windows(2).map(|pair| pair[1] - pair[0]);
        let step = gaps.filter(|&gap| gap > 1e-6).fold(f32::MAX, f32::min);
        let (mean, most) = differences(&ours, &theirs);
        assert!(
            most <= 2.01 * step && mean <= 0.1 * step,
            "{cut}: {} and {} steps",
            most / step,
            mean / step
        );
    }
}
