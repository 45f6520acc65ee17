//! The end of a base with a head behind it: features, and derivatives of the loss, of many pictures at once.
//!
//! Pictures are taken in shards of a fixed number. A shard is one thread's work from its maps to its
//! derivatives, and shards are summed in their order: results do not depend on the number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, ArrayView2};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use super::head::Head;
use super::standardizer::Standardizer;
use crate::backbone::TrainableTail;
use crate::error::{Error, Result};
use crate::features::FeatureMatrix;
use crate::nn::maps::put_channels_last;
use crate::nn::{ConvNet, CrossEntropy, Dense, DenseGradient, mlp};
use crate::progress::Progress;

/// Pictures of a shard: enough for fast matrix products, few enough that a batch of 32 keeps 8 cores busy.
pub(super) const SHARD: usize = 4;

/// The weights of the end of a base and of the head behind it.
#[derive(Clone, Debug)]
pub struct TunedModel {
    net: ConvNet,
    /// All weights of the network, in the order of its numbers.
    pub(super) weights: Vec<Vec<f32>>,
    /// The head's layers, on standardised features.
    pub(super) layers: Vec<Dense>,
    pub(super) standardizer: Standardizer,
}

/// What a shard of a training batch gave.
pub(super) struct ShardResult {
    /// Derivatives by the weights of the network; empty for those that are not trained.
    pub(super) gradients: Vec<Vec<f32>>,
    /// Derivatives by the head's layers.
    pub(super) head: Vec<DenseGradient>,
    /// The shard's part of the batch's loss.
    pub(super) loss: f32,
    /// `[rows, classes]`.
    pub(super) logits: Array2<f32>,
}

/// The pictures of a training batch and what their loss is.
pub(super) struct TrainingBatch<'a> {
    pub(super) maps: &'a FeatureMatrix,
    pub(super) rows: &'a [usize],
    pub(super) labels: &'a [usize],
    pub(super) loss: &'a CrossEntropy,
    pub(super) dropout: f32,
    /// Seed of the batch's dropout.
    pub(super) seed: u64,
}

impl TunedModel {
    /// The base as it is, with a head of no layers.
    pub(super) fn untrained(tail: &TrainableTail) -> TunedModel {
        TunedModel {
            net: tail.net.clone(),
            weights: tail.weights.iter().map(|w| w.values.clone()).collect(),
            layers: Vec::new(),
            standardizer: Standardizer::identity(tail.net.output().values()),
        }
    }

    /// The head on raw features.
    ///
    /// # Errors
    /// [`Error::Mismatch`] before the head was trained.
    pub fn head(&self) -> Result<Head> {
        let mut layers = self.layers.clone();
        if let Some(first) = layers.first_mut() {
            *first = self.standardizer.fold(first);
        }
        Head::new(layers)
    }

    /// Values of the network's weight `number`.
    pub fn weight(&self, number: usize) -> &[f32] {
        &self.weights[number]
    }

    /// Features `[rows, dim]` of the given rows of `maps`, on `threads` threads.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Io`] if no thread can be started.
    pub fn features(
        &self,
        maps: &FeatureMatrix,
        rows: &[usize],
        threads: usize,
        progress: &Progress,
    ) -> Result<Array2<f32>> {
        let dim = self.net.output().values();
        let shards: Vec<&[usize]> = rows.chunks(SHARD).collect();
        let found = in_order(shards.len(), threads, |shard| {
            progress.checkpoint()?;
            let rows = shards[shard];
            let output = self
                .net
                .forward(&self.weights, rows.len(), self.load(maps, rows, || 0));
            Ok(to_rows(&output, rows.len()))
        })?;
        let mut features = Array2::zeros((rows.len(), dim));
        let places = features.axis_chunks_iter_mut(ndarray::Axis(0), SHARD);
        for (mut place, shard) in places.zip(&found) {
            place.assign(shard);
        }
        Ok(features)
    }

    /// Loss and derivatives of a training batch, a result a shard, in order. `reused` gives back buffers of
    /// an earlier batch.
    pub(super) fn train_batch(
        &self,
        batch: &TrainingBatch,
        reused: Vec<Vec<Vec<f32>>>,
        threads: usize,
    ) -> Result<Vec<ShardResult>> {
        let reused = Mutex::new(reused);
        let shards: Vec<&[usize]> = batch.rows.chunks(SHARD).collect();
        in_order(shards.len(), threads, |shard| {
            let buffers = reused.lock().ok().and_then(|mut all| all.pop());
            let buffers = buffers.unwrap_or_else(|| self.empty_gradients());
            Ok(self.train_shard(batch, shard, shards[shard], buffers))
        })
    }

    fn empty_gradients(&self) -> Vec<Vec<f32>> {
        let trained = self.net.trained().iter();
        let lengths = self.weights.iter().zip(trained);
        lengths
            .map(|(w, &trained)| vec![0.0; if trained { w.len() } else { 0 }])
            .collect()
    }

    fn train_shard(
        &self,
        batch: &TrainingBatch,
        shard: usize,
        rows: &[usize],
        mut gradients: Vec<Vec<f32>>,
    ) -> ShardResult {
        let images = rows.len();
        let mut rng = Pcg32::new(batch.seed, shard as u64);
        // The first numbers of streams of one seed are alike; later ones are not.
        rng = Pcg32::from_rng(&mut rng);
        let views = batch.maps.views();
        let input = self.load(batch.maps, rows, || match views {
            0 => 0,
            views => rng.random_range(0..=views),
        });
        let trace = self.net.trace(&self.weights, images, input);
        let output = trace.last().map_or(&[][..], Vec::as_slice);
        let mut features = to_rows(output, images);
        self.standardizer.apply(&mut features);
        let head = mlp::forward_training(&self.layers, features, batch.dropout, &mut rng);
        let labels: Vec<usize> = rows.iter().map(|&row| batch.labels[row]).collect();
        let (loss, mut slope) = batch.loss.with_gradient(head.logits.view(), &labels);
        // The loss of a batch is the mean over its rows, not over those of a shard.
        let share = images as f32 / batch.rows.len() as f32;
        slope *= share;
        let (head_gradients, mut slope) = mlp::backward_to_input(&self.layers, &head, slope);
        self.standardizer.backward(&mut slope);
        for gradient in &mut gradients {
            gradient.fill(0.0);
        }
        self.net.backward(
            &self.weights,
            images,
            &trace,
            from_rows(slope.view()),
            &mut gradients,
        );
        ShardResult {
            gradients,
            head: head_gradients,
            loss: loss * share,
            logits: head.logits,
        }
    }

    /// The maps of `rows`, as the network takes them; `view` draws which view of each.
    fn load(
        &self,
        maps: &FeatureMatrix,
        rows: &[usize],
        mut view: impl FnMut() -> usize,
    ) -> Vec<f32> {
        let shape = self.net.input();
        let mut shard = vec![0.0; shape.values() * rows.len()];
        let mut picture = vec![0.0; shape.values()];
        for (place, &row) in rows.iter().enumerate() {
            maps.view_into(row, view(), &mut picture);
            put_channels_last(shape, rows.len(), place, &picture, &mut shard);
        }
        shard
    }
}

/// Vectors `[dim, images]` as rows `[images, dim]`.
fn to_rows(vectors: &[f32], images: usize) -> Array2<f32> {
    let dim = vectors.len() / images.max(1);
    Array2::from_shape_fn((images, dim), |(image, feature)| {
        vectors[feature * images + image]
    })
}

/// Rows `[images, dim]` as vectors `[dim, images]`.
fn from_rows(rows: ArrayView2<f32>) -> Vec<f32> {
    rows.t().iter().copied().collect()
}

/// Results of `work` for 0 to below `count`, in order, computed on up to `threads` threads.
///
/// # Errors
/// The first error of `work`, in order.
pub(super) fn in_order<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let places: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = places.get(index) else {
                return;
            };
            let result = work(index);
            let failed = result.is_err();
            if let Ok(mut place) = place.lock() {
                *place = Some(result);
            }
            if failed {
                next.store(count, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            // A thread that cannot be started leaves its work to the others.
            let _ = std::thread::Builder::new()
                .name("tl-tune".into())
                .spawn_scoped(scope, run);
        }
        run();
    });
    let mut results = Vec::with_capacity(count);
    for place in places {
        match place.into_inner() {
            Ok(Some(result)) => results.push(result?),
            // Left out after an error, which stands at another place.
            _ => continue,
        }
    }
    if results.len() < count {
        return Err(Error::Cancelled);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_is_told() {
        for threads in [1, 3] {
            let squares = in_order(50, threads, |i| Ok(i * i)).unwrap();
            assert_eq!(squares, (0..50).map(|i| i * i).collect::<Vec<_>>());
            let failed = in_order(50, threads, |i| match i {
                7 => Err(Error::Diverged {
                    epoch: i,
                    loss: 0.0,
                }),
                _ => Ok(i),
            });
            assert!(matches!(failed, Err(Error::Diverged { epoch: 7, .. })));
        }
    }

    #[test]
    fn rows_and_vectors_are_each_others_transpose() {
        let rows = Array2::from_shape_fn((3, 2), |(r, c)| (10 * r + c) as f32);
        let vectors = from_rows(rows.view());
        assert_eq!(vectors, [0.0, 10.0, 20.0, 1.0, 11.0, 21.0]);
        assert_eq!(to_rows(&vectors, 3), rows);
    }
}
