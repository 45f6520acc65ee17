//! The end of a backbone with a head: features and gradients for many images at once.
//!
//! Images are processed in shards of fixed size, summed in order, so that results do not depend on the number of
//! threads.

use ndarray::{Array2, ArrayView2, Axis};
use rand::SeedableRng;
use rand_pcg::Pcg32;

use super::head::Head;
use super::standardizer::Standardizer;
use super::threads::Threads;
use super::views::draw_view;
use crate::backbone::TrainableTail;
use crate::error::Result;
use crate::features::FeatureMatrix;
use crate::nn::convnet::Workspace;
use crate::nn::maps::put_channels_last;
use crate::nn::parallel::map;
use crate::nn::{ConvNet, CrossEntropy, Dense, DenseGradient, Mixup, mlp};
use crate::progress::Progress;

/// Images per shard: enough for fast matrix products, few enough that a batch of 32 keeps 8 cores busy.
pub(super) const SHARD: usize = 4;
/// Images per pass without training.
const PASSING: usize = 8 * SHARD;

/// The weights of the end of a backbone and its head.
#[derive(Clone, Debug)]
pub struct TunedModel {
    net: ConvNet,
    /// All weights of the network, in the order of its numbers.
    pub(super) weights: Vec<Vec<f32>>,
    /// The head's layers, on standardised features.
    pub(super) layers: Vec<Dense>,
    pub(super) standardizer: Standardizer,
}

/// Result of one shard of a training batch.
pub(super) struct ShardResult {
    /// Gradients of the head's layers.
    pub(super) head: Vec<DenseGradient>,
    /// The shard's part of the batch's loss.
    pub(super) loss: f32,
    /// `[rows, classes]`.
    pub(super) logits: Array2<f32>,
}

/// The images of a training batch and the definition of their loss.
pub(super) struct TrainingBatch<'a> {
    /// Epoch, counted from 1.
    pub(super) epoch: usize,
    pub(super) maps: &'a FeatureMatrix,
    pub(super) rows: &'a [usize],
    pub(super) labels: &'a [usize],
    pub(super) loss: &'a CrossEntropy,
    pub(super) dropout: f32,
    /// α of mixup.
    pub(super) mixup: f32,
    /// α of CutMix.
    pub(super) cutmix: f32,
    /// Seed of the batch's dropout.
    pub(super) seed: u64,
}

impl TunedModel {
    /// The backbone as it is, with a head of no layers.
    pub(super) fn untrained(tail: &TrainableTail) -> TunedModel {
        TunedModel {
            net: tail.net.clone(),
            weights: tail.weights.iter().map(|w| w.values.clone()).collect(),
            layers: Vec::new(),
            standardizer: Standardizer::identity(tail.net.output().values()),
        }
    }

    /// Interpolates the weights from this model (`share` 0) to `other` (`share` 1).
    pub(super) fn towards(&self, other: &TunedModel, share: f32) -> TunedModel {
        let step = |a: &mut f32, b: &f32| *a += share * (b - *a);
        let mut model = self.clone();
        for (from, to) in model.weights.iter_mut().zip(&other.weights) {
            from.iter_mut().zip(to).for_each(|(a, b)| step(a, b));
        }
        for (from, to) in model.layers.iter_mut().zip(&other.layers) {
            from.weights.zip_mut_with(&to.weights, step);
            from.bias.zip_mut_with(&to.bias, step);
        }
        model
    }

    /// The head on raw features.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] before the head was trained.
    pub fn head(&self) -> Result<Head> {
        self.standardizer.head(&self.layers)
    }

    /// Values of the network's weight `number`.
    pub fn weight(&self, number: usize) -> &[f32] {
        &self.weights[number]
    }

    /// Features `[rows, dim]` of the given rows of `maps`, on `threads` threads.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`]; [`crate::Error::Io`] if no thread can be started, or the maps cannot be read.
    pub fn features(
        &self,
        maps: &FeatureMatrix,
        rows: &[usize],
        threads: usize,
        progress: &Progress,
    ) -> Result<Array2<f32>> {
        let dim = self.net.output().values();
        let executor = Threads(threads);
        let mut workspace = Workspace::default();
        let weights = self.net.prepare(&self.weights, &mut workspace, &executor);
        let mut features = Array2::zeros((rows.len(), dim));
        let places = features.axis_chunks_iter_mut(Axis(0), PASSING);
        for (rows, mut place) in rows.chunks(PASSING).zip(places) {
            progress.checkpoint()?;
            let shards: Vec<&[usize]> = rows.chunks(SHARD).collect();
            let images: Vec<usize> = shards.iter().map(|rows| rows.len()).collect();
            let loaded = map(&executor, shards.len(), |shard| {
                self.load(maps, shards[shard], || 0)
            });
            let input = loaded.into_iter().collect::<Result<_>>()?;
            let output = self
                .net
                .forward(&weights, &images, input, &mut workspace, &executor);
            let places = place.axis_chunks_iter_mut(Axis(0), SHARD);
            for ((mut place, output), images) in places.zip(output).zip(images) {
                place.assign(&to_rows(&output, images));
            }
        }
        Ok(features)
    }

    /// Loss of a training batch, a result a shard, in order; its derivatives by the weights of the network
    /// go to `gradients`, which are empty for those that are not trained.
    ///
    /// # Errors
    /// Those of reading the maps.
    pub(super) fn train_batch(
        &self,
        batch: &TrainingBatch,
        gradients: &mut Vec<Vec<f32>>,
        workspace: &mut Workspace,
        threads: usize,
    ) -> Result<Vec<ShardResult>> {
        let executor = Threads(threads);
        let shards: Vec<&[usize]> = batch.rows.chunks(SHARD).collect();
        let images: Vec<usize> = shards.iter().map(|rows| rows.len()).collect();
        let mut rng = Pcg32::new(batch.seed, shards.len() as u64);
        let input = self.net.input();
        let mixup = Mixup::draw_maps(
            batch.mixup,
            batch.cutmix,
            [input.height, input.width],
            batch.rows.len(),
            &mut rng,
        );
        let others: Vec<usize> = mixup
            .iter()
            .flat_map(|mixup| mixup.partners.iter().map(|&j| batch.rows[j]))
            .collect();
        let loaded = map(&executor, shards.len(), |shard| {
            let mut rng = Pcg32::new(batch.seed, shard as u64);
            // The first numbers of streams of one seed are alike; later ones are not.
            rng = Pcg32::from_rng(&mut rng);
            let mut draw = || draw_view(batch.maps, batch.epoch, &mut rng);
            let mut input = self.load(batch.maps, shards[shard], &mut draw)?;
            if let Some(mixup) = &mixup {
                let others = others.chunks(SHARD).nth(shard).unwrap_or_default();
                mixup.mix(&mut input, &self.load(batch.maps, others, &mut draw)?);
            }
            Ok((rng, input))
        });
        let loaded = loaded.into_iter().collect::<Result<Vec<_>>>()?;
        let (rngs, input): (Vec<Pcg32>, Vec<Vec<f32>>) = loaded.into_iter().unzip();
        let weights = self.net.prepare(&self.weights, workspace, &executor);
        let traces = self
            .net
            .trace(&weights, &images, input, workspace, &executor);
        let found = map(&executor, shards.len(), |shard| {
            let output = traces[shard].last().map_or(&[][..], Vec::as_slice);
            let others = others.chunks(SHARD).nth(shard).unwrap_or_default();
            let mixed = mixup.as_ref().map(|mixup| (mixup, others));
            self.train_head(batch, shards[shard], mixed, output, rngs[shard].clone())
        });
        let (results, slopes): (Vec<ShardResult>, Vec<Vec<f32>>) = found.into_iter().unzip();
        gradients.resize_with(self.weights.len(), Vec::new);
        let trained = self.net.trained().iter().zip(&self.weights);
        for (gradient, (&trained, weights)) in gradients.iter_mut().zip(trained) {
            gradient.clear();
            gradient.resize(if trained { weights.len() } else { 0 }, 0.0);
        }
        self.net.backward(
            &weights, &images, &traces, slopes, gradients, workspace, &executor,
        );
        workspace.reclaim(weights);
        Ok(results)
    }

    /// What the head makes of a shard's features, which were `mixed` with those of other rows, and the derivative of the loss by them, both
    /// `[dim, images]`.
    fn train_head(
        &self,
        batch: &TrainingBatch,
        rows: &[usize],
        mixed: Option<(&Mixup, &[usize])>,
        features: &[f32],
        mut rng: Pcg32,
    ) -> (ShardResult, Vec<f32>) {
        let images = rows.len();
        let mut features = to_rows(features, images);
        self.standardizer.apply(&mut features);
        let head = mlp::forward_training(&self.layers, features, batch.dropout, &mut rng);
        let labels =
            |rows: &[usize]| -> Vec<usize> { rows.iter().map(|&row| batch.labels[row]).collect() };
        let (own, logits) = (labels(rows), head.logits.view());
        let (loss, mut slope) = match mixed {
            None => batch.loss.with_gradient(logits, &own),
            Some((mixup, others)) => mixup.loss(batch.loss, logits, &own, &labels(others)),
        };
        // The loss of a batch is the mean over its rows, not over those of a shard.
        let share = images as f32 / batch.rows.len() as f32;
        slope *= share;
        let (gradients, mut slope) = mlp::backward_to_input(&self.layers, &head, slope);
        self.standardizer.backward(&mut slope);
        let result = ShardResult {
            head: gradients,
            loss: loss * share,
            logits: head.logits,
        };
        (result, from_rows(slope.view()))
    }

    /// The maps of `rows`, as the network takes them; `view` draws which view of each.
    fn load(
        &self,
        maps: &FeatureMatrix,
        rows: &[usize],
        mut view: impl FnMut() -> usize,
    ) -> Result<Vec<f32>> {
        let shape = self.net.input();
        let mut shard = vec![0.0; shape.values() * rows.len()];
        let mut picture = vec![0.0; shape.values()];
        for (place, &row) in rows.iter().enumerate() {
            maps.view_into(row, view(), &mut picture)?;
            put_channels_last(shape, rows.len(), place, &picture, &mut shard);
        }
        Ok(shard)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_vectors_are_each_others_transpose() {
        let rows = Array2::from_shape_fn((3, 2), |(r, c)| (10 * r + c) as f32);
        let vectors = from_rows(rows.view());
        assert_eq!(vectors, [0.0, 10.0, 20.0, 1.0, 11.0, 21.0]);
        assert_eq!(to_rows(&vectors, 3), rows);
    }
}
