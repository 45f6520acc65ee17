//! Observes the values of tensors on calibration images.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::range::{Calibration, Histogram, Range};
use crate::backbone::network::{Network, Session};
use crate::backbone::onnx::OnnxGraph;
use crate::error::{Error, Result};

/// Runs the float network on the input tensors `pictures` and chooses the range of each of `tensors`. The input's
/// own range is all that it takes.
///
/// Counts are whole numbers: the ranges do not depend on the number of threads.
///
/// # Errors
/// [`Error::Model`] if the network cannot be run, or gives numbers that are not finite.
pub(super) fn ranges(
    graph: &OnnxGraph,
    input_shape: [usize; 4],
    tensors: &[String],
    pictures: &[Vec<f32>],
    calibration: Calibration,
    threads: usize,
) -> Result<HashMap<String, Range>> {
    let (input, _) = graph.input()?;
    let inner: Vec<String> = tensors.iter().filter(|t| **t != input).cloned().collect();
    let mut known = HashMap::new();
    let of_pictures = pictures.iter().map(|p| Range::of(p));
    known.insert(input, of_pictures.fold(Range::EMPTY, Range::union));
    if inner.is_empty() {
        return Ok(known);
    }
    let mut observed = graph.clone();
    observed.keep(&inner)?;
    let network = Network::load(&observed, input_shape)?;
    let bounds = over_pictures(
        &network,
        pictures,
        threads,
        || vec![Range::EMPTY; inner.len()],
        |bounds, outputs| {
            for (bound, values) in bounds.iter_mut().zip(outputs) {
                *bound = bound.union(Range::of(values));
            }
        },
        |bounds, others| {
            for (bound, other) in bounds.iter_mut().zip(others) {
                *bound = bound.union(other);
            }
        },
    )?;
    let finite = |range: &Range| range.low.is_finite() && range.high.is_finite();
    if let Some(i) = bounds.iter().position(|range| !finite(range)) {
        return Err(graph.fail(format!(
            "its tensor `{}` has values that are not finite",
            inner[i]
        )));
    }
    if calibration == Calibration::MinMax {
        known.extend(inner.into_iter().zip(bounds));
        return Ok(known);
    }
    let histograms = over_pictures(
        &network,
        pictures,
        threads,
        || bounds.iter().map(|&range| Histogram::new(range)).collect(),
        |histograms: &mut Vec<Histogram>, outputs| {
            for (histogram, values) in histograms.iter_mut().zip(outputs) {
                histogram.add(values);
            }
        },
        |histograms, others| {
            for (histogram, other) in histograms.iter_mut().zip(&others) {
                histogram.merge(other);
            }
        },
    )?;
    let chosen = histograms.iter().map(|h| h.choose(calibration));
    known.extend(inner.into_iter().zip(chosen));
    Ok(known)
}

/// Runs `network` on every image, on several threads, and collects its outputs: each thread adds outputs to its
/// own value, and the values are merged at the end.
fn over_pictures<T: Send>(
    network: &Network,
    pictures: &[Vec<f32>],
    threads: usize,
    start: impl Fn() -> T + Sync,
    add: impl Fn(&mut T, &[Vec<f32>]) + Sync,
    merge: impl Fn(&mut T, T) + Sync,
) -> Result<T> {
    let next = AtomicUsize::new(0);
    let merged = Mutex::new(start());
    let work = || -> Result<()> {
        let mut session = network.session()?;
        let mut own = start();
        let mut outputs = Vec::new();
        while let Some(picture) = pictures.get(next.fetch_add(1, Ordering::Relaxed)) {
            session.run(picture, &mut outputs)?;
            add(&mut own, &outputs);
        }
        if let Ok(mut merged) = merged.lock() {
            merge(&mut merged, own);
        }
        Ok(())
    };
    let lost = || Error::Model {
        model: "calibration".into(),
        problem: "a worker thread panicked; please report this bug".into(),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let ended: Vec<Result<()>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(lost())))
            .collect();
        ended.into_iter().collect::<Result<()>>()
    })?;
    merged.into_inner().map_err(|_| lost())
}

/// The first output of `session` for every image.
///
/// # Errors
/// [`Error::Model`] if the network cannot be run.
pub(super) fn outputs(session: &mut Session, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
    let mut found = Vec::new();
    let mut results = Vec::with_capacity(pictures.len());
    for picture in pictures {
        session.run(picture, &mut found)?;
        results.push(found.swap_remove(0));
    }
    Ok(results)
}
