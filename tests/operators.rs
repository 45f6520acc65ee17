//! Operators, pairs of them, and random sequences, against ONNX Runtime: what a network computes is what its file says.

use std::fs;

use tl::backbone::{Network, OnnxGraph};

use crate::program::Workplace;
use crate::python::{python, run_python};
use crate::reference::read_npy;

/// Largest difference, relative to the largest value.
const TOLERANCE: f32 = 1e-3;

/// `TL_CAMPAIGN` gives another number of random sequences, which are then others than usual.
#[test]
fn operators_give_what_onnx_runtime_gives() {
    const SEQUENCES: &str = "60";
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    let campaign = std::env::var("TL_CAMPAIGN").ok();
    let words = match &campaign {
        Some(count) => [count.as_str(), "2"],
        None => [SEQUENCES, "1"],
    };
    let cases = run_python(&python, "make_operators.py", &[&folder], &words);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases.lines() {
        let mut parts = case.splitn(4, ' ');
        let mut word = || parts.next().unwrap();
        let (number, height, width, name) = (word(), word(), word(), word());
        let file = |ending: &str| work.path(&format!("{number}{ending}"));
        let graph = OnnxGraph::parse(&fs::read(file(".onnx")).unwrap(), name).unwrap();
        let sides = [height, width].map(|side| side.parse().unwrap());
        let expected = read_npy(&file("-out.npy"));
        let mut outputs = Vec::new();
        let ran = Network::load(&graph, [1, 3, sides[0], sides[1]]).and_then(|network| {
            network
                .session()?
                .run(&read_npy(&file("-in.npy")), &mut outputs)
        });
        compared += 1;
        if let Err(error) = ran {
            wrong.push(format!("{number} {name}: {error}"));
            continue;
        }
        let largest = expected.iter().fold(1e-2_f32, |most, v| most.max(v.abs()));
        let pairs = outputs[0].iter().zip(&expected);
        let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
        if outputs[0].len() != expected.len() || !pairs.clone().all(is_close) {
            let difference = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            wrong.push(format!("{number} {name}: {difference} of {largest}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 300, "only {compared} networks");
}
