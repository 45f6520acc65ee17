//! Pictures a second of rten on an ONNX file: rten-rate MODEL SIDE THREADS SECONDS. Each thread runs one picture,
//! `[1, 3, SIDE, SIDE]`, at a time, with weights packed ahead.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rten::{Model, ModelOptions, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

/// Runs pictures for `time` on one thread; how many.
fn count(
    model: &Model,
    side: usize,
    time: Duration,
) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let mut bits = 1u32;
    let picture = NdTensor::<f32, 4>::from_simple_fn([1, 3, side, side], || {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    let mut options = RunOptions::default();
    options.thread_pool = Some(Arc::new(ThreadPool::with_num_threads(1)));
    model.run_one(picture.view().into(), Some(options.clone()))?;
    let (start, mut pictures) = (Instant::now(), 0);
    while start.elapsed() < time {
        model.run_one(picture.view().into(), Some(options.clone()))?;
        pictures += 1;
    }
    Ok(pictures)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, side, threads, seconds] = &arguments[..] else {
        return Err("usage: rten-rate MODEL SIDE THREADS SECONDS".into());
    };
    let (side, threads): (usize, usize) = (side.parse()?, threads.parse()?);
    let time = Duration::try_from_secs_f64(seconds.parse()?)?;
    let model = ModelOptions::with_all_ops()
        .prepack_weights(true)
        .load_file(model)?;
    let mut pictures = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| count(&model, side, time)))
            .collect();
        for worker in workers {
            pictures += worker.join().map_err(|_| "a thread of rten panicked")??;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    })?;
    println!("{:.2}", pictures as f64 / time.as_secs_f64());
    Ok(())
}
