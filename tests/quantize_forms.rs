//! Quantising networks with parts that do not depend on the picture, as exporters leave them.

use std::path::Path;

use tl::backbone::{Calibration, Network, OnnxGraph, Quantizer};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};
use crate::reference::{read_npy, write_npy};

const SHAPE: [usize; 4] = [1, 3, 32, 32];

/// Smooth pictures, as tensors: noise would be rounded alike everywhere.
fn tensors(count: usize) -> Vec<Vec<f32>> {
    let value = |picture: usize, place: usize| {
        let (channel, y, x) = (place / 1024, place / 32 % 32, place % 32);
        let wave = (picture + 1) as f32 * (x as f32 * 0.11 + channel as f32) + y as f32 * 0.23;
        1.5 * wave.sin() + 0.4 * ((x * y + 3 * picture) as f32 * 0.37).cos()
    };
    (0..count)
        .map(|picture| (0..3 * 1024).map(|place| value(picture, place)).collect())
        .collect()
}

fn run(graph: &OnnxGraph, pictures: &[Vec<f32>]) -> Vec<f32> {
    let network = Network::load(graph, SHAPE).unwrap();
    let mut session = network.session().unwrap();
    let mut outputs = Vec::new();
    let mut found = Vec::new();
    for picture in pictures {
        session.run(picture, &mut outputs).unwrap();
        found.extend_from_slice(&outputs[0]);
    }
    found
}

/// Root of the mean square of the differences, by that of the values.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let difference = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (difference / square(&mut expected.iter().copied())).sqrt()
}

/// What is the same for every picture stays as it is: the result runs here and in ONNX Runtime, close to the float
/// network.
#[test]
fn what_does_not_depend_on_the_picture_is_not_quantised() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path("models");
    run_python(&python, "make_constant_models.py", &[&folder], &[]);
    let pictures = tensors(12);
    let input = work.path("in.npy");
    write_npy(&input, &[12, 3, 32, 32], &pictures.concat());
    let mut models: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    models.sort();
    assert!(models.len() >= 11, "{models:?}");
    for path in models {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let graph = OnnxGraph::parse(&std::fs::read(&path).unwrap(), &name).unwrap();
        let made = Quantizer::new(&graph, SHAPE, &pictures, Calibration::MinMax, 8, 2);
        let quantizer = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let layers = quantizer.layers();
        let quantized = quantizer.quantized(&layers[layers.len() - 1..]);
        assert!(quantized.is_quantized(), "{name}");
        let float = run(&graph, &pictures);
        let ours = run(&quantized, &pictures);
        let file = work.path("int8.onnx");
        std::fs::write(&file, quantized.to_bytes()).unwrap();
        let out = work.path("out");
        run_python(&python, "run_model.py", &[&file, &input, &out], &[]);
        let output = format!("{}.npy", quantized.outputs()[0].replace(['/', ':'], "_"));
        let theirs = read_npy(&out.join(output));
        eprintln!(
            "{name}: {} layers; {:.4} from float, {:.4} from ONNX Runtime",
            layers.len(),
            error(&ours, &float),
            error(&ours, &theirs)
        );
        assert!(
            error(&ours, &float) < 0.35,
            "{name}: {}",
            error(&ours, &float)
        );
        assert!(
            error(&ours, &theirs) < 0.1,
            "{name}: {}",
            error(&ours, &theirs)
        );
    }
}

/// Kernels that go through a Transpose or Reshape are layers like others.
#[test]
fn weights_behind_a_transpose_become_integers() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path("models");
    let count = |name: &str| {
        run_python(&python, "make_constant_models.py", &[&folder], &[name]);
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        let graph = OnnxGraph::parse(&bytes, name).unwrap();
        let made = Quantizer::new(&graph, SHAPE, &tensors(1), Calibration::MinMax, 8, 1);
        made.unwrap().layers().len()
    };
    assert_eq!(count("vit_transposed"), count("vit"));
    assert_eq!(count("joined_constants"), 3);
}

/// The whole way of a user, with a vision transformer.
#[test]
fn a_saved_vision_transformer_is_quantised() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    run_python(
        &python,
        "make_constant_models.py",
        &[Path::new(&work.path("m"))],
        &["vit"],
    );
    let tiny = repository("datasets/tiny").display().to_string();
    for line in [
        format!("fit {tiny} -o tiny.onnx --model m/vit.onnx --epochs 5"),
        format!("quantize tiny.onnx {tiny} -o int8.onnx --max-loss 100"),
        format!("quantize tiny.onnx {tiny} -o half.onnx --float16"),
    ] {
        let said = work.run(&line);
        assert_eq!(said.code, Some(0), "{line}: {}", said.stderr);
        assert!(
            said.stdout.ends_with("same results: TRUE\n"),
            "{}",
            said.stdout
        );
    }
}
