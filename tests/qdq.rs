//! Quantised layers in the forms of other programs' files, against what ONNX Runtime makes of them.

use std::path::Path;

use serde::Deserialize;
use tl::backbone::{Network, OnnxGraph};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};
use crate::reference::{largest, read_npy, write_npy};

/// Random layers; `TL_CAMPAIGN` gives another number.
const LAYERS: usize = 120;

/// Layers that are made at a time.
const MADE: usize = 500;

/// What `make_qdq_layers.py` says of a layer.
#[derive(Deserialize)]
struct Layer {
    seed: u64,
    form: String,
    shape: [usize; 4],
    tolerance: f32,
}

/// What a graph gives for an input, and whether bytes were multiplied on the way.
fn run(path: &Path, shape: [usize; 4], input: &[f32]) -> Result<(Vec<f32>, bool), String> {
    let bytes = std::fs::read(path).unwrap();
    let graph = OnnxGraph::parse(&bytes, "layer").map_err(|e| e.to_string())?;
    let network = Network::load(&graph, shape).map_err(|e| e.to_string())?;
    let mut session = network.session().map_err(|e| e.to_string())?;
    session.start_profile();
    let mut outputs = Vec::new();
    session
        .run(input, &mut outputs)
        .map_err(|e| e.to_string())?;
    let integer = session
        .profile()
        .iter()
        .any(|layer| layer.kind.starts_with("int8"));
    Ok((outputs.swap_remove(0), integer))
}

/// Each value is at most one step of its rounding from ONNX Runtime's, and hardly any is a step away.
#[test]
fn quantised_layers_of_any_form_give_what_onnx_runtime_gives() {
    let Some(python) = python() else { return };
    let count = std::env::var("TL_CAMPAIGN").map_or(LAYERS, |text| text.parse().unwrap());
    let (mut values, mut moved, mut integer) = (0, 0, 0);
    let mut wrong = Vec::new();
    for first in (0..count).step_by(MADE) {
        let work = Workplace::new();
        let folder = work.path("layers");
        let words = [
            MADE.min(count - first).to_string(),
            (100 * first).to_string(),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = run_python(&python, "make_qdq_layers.py", &[&folder], &words);
        let layers: Vec<Layer> = serde_json::from_str(&said).unwrap();
        for (i, layer) in layers.iter().enumerate() {
            let file = |end: &str| folder.join(format!("{i}{end}"));
            let theirs = read_npy(&file("-out.npy"));
            let fail = |problem: &str| format!("{} ({}): {problem}", layer.seed, layer.form);
            match run(&file(".onnx"), layer.shape, &read_npy(&file("-in.npy"))) {
                Err(error) => wrong.push(fail(&error)),
                Ok((ours, _)) if ours.len() != theirs.len() => wrong.push(fail("another shape")),
                Ok((ours, in_integers)) => {
                    let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
                    let most = largest(apart.clone());
                    values += ours.len();
                    moved += apart.filter(|&d| d > 0.4 * layer.tolerance).count();
                    integer += usize::from(in_integers);
                    if most > layer.tolerance {
                        wrong.push(fail(&format!("{most} of {}", layer.tolerance)));
                    }
                }
            }
        }
    }
    eprintln!("{count} layers, {integer} in integers; {moved} of {values} values a step away");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(8 * integer > count, "{integer} of {count} in integers");
    assert!(
        100 * moved < values,
        "{moved} of {values} values are a step away"
    );
}

/// A bias in steps of its own is not one in steps of the products.
#[test]
fn a_bias_with_a_scale_of_its_own_is_read_with_it() {
    let Some(python) = python() else { return };
    let shape = [1, 3, 33, 33];
    let input: Vec<f32> = (0..3 * 33 * 33)
        .map(|i| (i * 7919 % 251) as f32 * 0.004)
        .collect();
    for name in ["bias-scale-power", "bias-scale-product"] {
        let work = Workplace::new();
        let model = repository("tests/data/qdq").join(format!("{name}.onnx"));
        let (given, out) = (work.path("in.npy"), work.path("out"));
        write_npy(&given, &shape, &input);
        run_python(&python, "run_model.py", &[&model, &given, &out], &[]);
        let theirs = read_npy(&out.join("y.npy"));
        let (ours, in_integers) = run(&model, shape, &input).unwrap();
        assert!(in_integers, "{name}");
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let most = largest(apart);
        // The file's steps are 0.03.
        assert!(
            ours.len() == theirs.len() && most < 0.0301,
            "{name}: {most}"
        );
    }
}
