//! Graphs made of a fuzzer's bytes: valid ones, odd ones, and hostile ones whose numbers no map is made for; with floats,
//! with quantised chains, with the engine's own operators. They are loaded and run, and what comes out is held against
//! tract alone.

use std::cell::{Cell, RefCell};
use std::sync::Once;

use prost::Message;
use tl::backbone::{Network, OnnxGraph};
use tract_onnx::pb;
use tract_onnx::prelude::*;

use self::maker::Maker;

mod maker;

/// Largest difference of a float, relative to the largest value.
const TOLERANCE: f32 = 2e-3;

/// Largest mean difference where bytes are rounded on the way, relative to the largest value: a rounding to the other
/// neighbour is made larger by what follows.
const ROUNDED_TOLERANCE: f32 = 0.1;

thread_local! {
    /// A panic of this thread that must not be, even if the library makes an error of it.
    static FINDING: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether a panic of this thread becomes an error, or an answer.
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`, whose panics are seen.
fn watched<T>(call: impl FnOnce() -> T) -> std::thread::Result<T> {
    WATCHING.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    WATCHING.set(false);
    result
}

/// Sees panics before the library makes errors of them: in the engine none may be, and a number that overflows is no
/// panic in a program without checks.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The library puts its own hook in place with its first graph.
        let small = Maker::new(&[0; 8]).model();
        let _ = OnnxGraph::parse(&small.encode_to_vec(), "first")
            .and_then(|graph| Network::load(&graph, [1, 3, 8, 8]));
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !WATCHING.get() {
                return match cfg!(fuzzing) {
                    true => eprintln!("{panic}"),
                    false => usual(panic),
                };
            }
            let place = panic.location().map_or("", |place| place.file());
            let text = panic.to_string();
            // What tract computes of a file's numbers before the engine does is another question.
            let overflow = text.contains("attempt to")
                && text.contains("overflow")
                && !place.contains("/tract-");
            if place.contains("crates/engine") || overflow {
                FINDING.set(Some(text));
            }
        }));
    });
}

/// The bytes of a fuzzer → a graph → what it gives, beside what tract gives.
pub fn graph(bytes: &[u8]) {
    compared(bytes);
}

/// As [`graph()`]; tells whether there was something to compare: whether the graph is none of a hostile file, and tract
/// runs it.
pub fn compared(bytes: &[u8]) -> bool {
    watch_panics();
    let mut maker = Maker::new(bytes);
    maker.operators();
    let input = maker.picture();
    let shape = maker.input;
    let hostile = maker.hostile;
    let rounds = maker.rounds;
    let model = maker.model();
    let found = watched(|| run(&model, shape, &input));
    if let Some(panic) = FINDING.take() {
        panic!("a panic became an error: {panic}");
    }
    let found = found.unwrap_or_else(|_| panic!("a panic left the library"));
    if let Ok(found) = &found {
        let bits = |outputs: &[Vec<f32>]| -> Vec<u32> {
            outputs.iter().flatten().map(|x| x.to_bits()).collect()
        };
        for other in &found[1..] {
            assert_eq!(bits(&found[0]), bits(other), "not the same again");
        }
    }
    if hostile {
        return false;
    }
    let reference = watched(|| reference(&model, shape, &input));
    FINDING.take();
    let Ok(Ok(reference)) = reference else {
        return false;
    };
    let found = found.unwrap_or_else(|error| panic!("tract runs what is refused: {error}"));
    assert_eq!(found[0].len(), reference.len(), "numbers of outputs");
    for (found, reference) in found[0].iter().zip(&reference) {
        if let Err(problem) = compare(found, reference, rounds) {
            // For another program to look at.
            let kept = std::env::temp_dir().join("tl-graph.onnx");
            let values: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
            let _ = std::fs::write(kept.with_extension("f32"), values);
            let _ = std::fs::write(&kept, model.encode_to_vec());
            panic!("{problem}; see {}", kept.display());
        }
    }
    true
}

/// Loads the graph as a file, saves it, loads it again, and runs both twice: the outputs of each run.
fn run(
    model: &pb::ModelProto,
    shape: [usize; 4],
    input: &[f32],
) -> Result<Vec<Vec<Vec<f32>>>, tl::error::Error> {
    let graph = OnnxGraph::parse(&model.encode_to_vec(), "fuzzed")?;
    let again = OnnxGraph::parse(&graph.to_bytes(), "saved")?;
    let mut outputs = Vec::new();
    let mut results = Vec::new();
    for graph in [graph, again] {
        let network = Network::load(&graph, shape)?;
        let mut session = network.session()?;
        for _ in 0..2 {
            session.run(input, &mut outputs)?;
            results.push(outputs.clone());
        }
    }
    Ok(results)
}

/// What tract alone gives, operator by operator: its own rewriting changes what some pairs of them compute.
fn reference(
    model: &pb::ModelProto,
    shape: [usize; 4],
    input: &[f32],
) -> TractResult<Vec<Vec<f32>>> {
    let plan = tract_onnx::onnx()
        .model_for_proto_model(model)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_typed()?
        .into_runnable()?;
    let outputs = plan.run(tvec!(Tensor::from_shape(&shape, input)?.into()))?;
    let values = outputs.iter().map(|output| {
        let output = output.cast_to::<f32>()?;
        Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    });
    values.collect()
}

fn compare(found: &[f32], reference: &[f32], rounds: bool) -> Result<(), String> {
    if found.len() != reference.len() {
        return Err(format!("{} values, not {}", found.len(), reference.len()));
    }
    let finite = |x: &&f32| x.is_finite();
    let largest = reference
        .iter()
        .filter(finite)
        .fold(1e-2_f32, |m, x| m.max(x.abs()));
    // Where sums leave float32, so do their differences.
    if largest > 1e15 || !reference.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    let pairs = found.iter().zip(reference);
    let differences = pairs.map(|(a, b)| (a - b).abs() / largest);
    if rounds {
        let mean = differences.sum::<f32>() / found.len().max(1) as f32;
        return match mean <= ROUNDED_TOLERANCE {
            true => Ok(()),
            false => Err(format!("mean difference {mean} of {largest}")),
        };
    }
    for (i, difference) in differences.enumerate() {
        // NaN is no small difference.
        if difference.is_nan() || difference > TOLERANCE {
            let (a, b, n) = (found[i], reference[i], found.len());
            return Err(format!("{a} for {b} at {i} of {n}, largest {largest}"));
        }
    }
    Ok(())
}
