//! An ONNX network of one picture, run by tract alone and with this crate's kernels: the time of each, and the largest
//! difference between their outputs.
//!
//! ```text
//! cargo run --release -p tract-cnn-engine --example faster -- NETWORK.onnx [SECONDS] [THREADS] [--layers]
//! ```
//!
//! `SECONDS` (1 if left out) is how long each is measured, `THREADS` (1) how many compute a picture with this crate;
//! `--layers` prints the time of each layer. An input of which a
//! dimension is not fixed gets a batch of 1 and 224 pixels.

use std::time::{Duration, Instant};

use cnn_engine::{
    Profile, canonical, check_windows, declutter, framework, in_integers, kernels, optimize,
    set_threads, workspace_bytes,
};
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

fn main() -> TractResult<()> {
    let (options, given): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let path = given.first().expect("give the path of an ONNX file");
    let seconds = given.get(1).map_or(Ok(1.0), |text| text.parse())?;
    let file = tract_onnx::onnx().proto_model_for_path(path)?;

    let threads = given.get(2).map_or(Ok(1), |text| text.parse())?;

    // tract alone.
    let plain = typed(tract_onnx::onnx(), &file)?
        .into_optimized()
        .and_then(TypedModel::into_runnable);

    // The same with this crate: three calls more.
    let file = canonical(&file);
    let integers = in_integers(&file);
    let model = typed(framework(), integers.as_ref().unwrap_or(&file))?;
    check_windows(&model)?;
    let model = optimize(declutter(model)?, u64::MAX)?;
    let bytes = workspace_bytes(&model);
    let fast = model.into_optimized()?.into_runnable()?;

    let shape = fast.model().input_fact(0)?.shape.as_concrete();
    let shape = shape.expect("shapes are fixed by now").to_vec();
    let input = picture(&shape)?;
    let mut fast = fast.spawn()?;
    set_threads(&mut fast, threads)?;
    let found = fast.run(tvec!(input.clone().into()))?;
    let after = rate(&mut fast, &input, seconds)?;
    println!(
        "{}: {:.2} ms, {} kB of buffers",
        kernels(),
        1e3 * after.as_secs_f64(),
        bytes / 1000
    );
    match plain {
        Ok(plain) => {
            let mut plain = plain.spawn()?;
            let expected = plain.run(tvec!(input.clone().into()))?;
            let before = rate(&mut plain, &input, seconds)?;
            println!(
                "tract: {:.2} ms, {:.2} times as long",
                1e3 * before.as_secs_f64(),
                before.as_secs_f64() / after.as_secs_f64()
            );
            println!("largest difference: {:e}", difference(&expected, &found)?);
        }
        Err(error) => println!("tract: does not run it: {}", error.root_cause()),
    }
    if options.iter().any(|option| option == "--layers") {
        let mut profile = Profile::start(&mut fast);
        profile.run(&mut fast, tvec!(input.into()))?;
        for layer in profile.layers(&mut fast)? {
            let rate = layer.multiply_adds as f64 / layer.time.as_nanos().max(1) as f64;
            println!(
                "{:9.3} ms {rate:7.1} G/s {:?} {} {}",
                1e3 * layer.time.as_secs_f64(),
                layer.shape,
                layer.kind,
                layer.name
            );
        }
    }
    Ok(())
}

/// `file` with all shapes fixed.
fn typed(onnx: tract_onnx::Onnx, file: &pb::ModelProto) -> TractResult<TypedModel> {
    let model = onnx.model_for_proto_model(file)?;
    let fact = model.input_fact(0)?;
    let dims = fact.shape.dims().enumerate().map(|(axis, dim)| {
        let dim = dim.concretize().and_then(|dim| dim.to_i64().ok());
        dim.map_or(if axis == 0 { 1 } else { 224 }, |dim| dim as usize)
    });
    let shape: Vec<usize> = dims.collect();
    model
        .with_input_fact(0, f32::fact(shape).into())?
        .into_typed()
}

/// Values from -1 to 1 without an order.
fn picture(shape: &[usize]) -> TractResult<Tensor> {
    let mut state = 0x2545_f491_u32;
    let values = (0..shape.iter().product()).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        2.0 * (state as f32 / u32::MAX as f32) - 1.0
    });
    Tensor::from_shape(shape, &values.collect::<Vec<f32>>())
}

/// The shortest of the runs that fit into `seconds`.
fn rate(state: &mut TypedSimpleState, input: &Tensor, seconds: f64) -> TractResult<Duration> {
    let begin = Instant::now();
    let mut shortest = Duration::MAX;
    while shortest == Duration::MAX || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        state.run(tvec!(input.clone().into()))?;
        shortest = shortest.min(start.elapsed());
    }
    Ok(shortest)
}

/// The largest difference of two values in the same place, of all outputs.
fn difference(expected: &[TValue], found: &[TValue]) -> TractResult<f32> {
    let mut largest = 0.0_f32;
    for (expected, found) in expected.iter().zip(found) {
        let (expected, found) = (expected.cast_to::<f32>()?, found.cast_to::<f32>()?);
        let expected = expected.try_as_plain_ram()?;
        let found = found.try_as_plain_ram()?;
        for (a, b) in expected
            .as_slice::<f32>()?
            .iter()
            .zip(found.as_slice::<f32>()?)
        {
            largest = largest.max((a - b).abs());
        }
    }
    Ok(largest)
}
