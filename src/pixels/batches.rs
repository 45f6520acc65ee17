//! Reads a dataset as batches of tensors and one-hot labels.

use ndarray::{Array2, Array4};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg32;

use super::{DecodeLimits, DecodeOptions, Layout, Picture, Preprocess, Preprocessor};
use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};

/// The order of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the dataset lists them: by path.
    Path,
    /// Shuffled; the same seed gives the same order on every machine.
    Shuffled {
        /// Any number; give another one each epoch for a new order each epoch.
        seed: u64,
    },
}

/// Some samples of a dataset.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Input tensors, `[N, 3, H, W]` or `[N, H, W, 3]` by the layout, normalised.
    pub images: Array4<f32>,
    /// One-hot, `[N, classes]`: 1 in the column of the sample's class, else 0. All 0 for a sample without
    /// a class.
    pub labels: Array2<f32>,
    /// Places of the samples in [`Dataset::samples`], `N` of them.
    pub indices: Vec<usize>,
}

/// One pass over a dataset in batches, like Keras's data generators.
///
/// Memory is one batch and one decoded image. All batches hold `batch_size` samples but the last, which
/// holds the rest.
///
/// ```
/// use std::path::Path;
/// use tl::dataset::Dataset;
/// use tl::pixels::{Batches, Order, Preprocess};
///
/// let dataset = Dataset::open(Path::new("datasets/tiny"), None)?;
/// let order = Order::Shuffled { seed: 1 };
/// for batch in Batches::new(&dataset, &Preprocess::tf(), 64, 48, 8, order) {
///     let batch = batch?;
///     let n = batch.indices.len();
///     assert!(n <= 8);
///     assert_eq!(batch.images.dim(), (n, 48, 64, 3));
///     assert_eq!(batch.labels.dim(), (n, dataset.classes.len()));
/// }
/// # Ok::<(), tl::Error>(())
/// ```
pub struct Batches<'a> {
    dataset: &'a Dataset,
    preprocessor: Preprocessor,
    layout: Layout,
    decode_options: DecodeOptions,
    size: [usize; 2],
    batch_size: usize,
    limits: DecodeLimits,
    order: Vec<usize>,
    next: usize,
}

impl<'a> Batches<'a> {
    /// All samples of `dataset`, at `width` x `height` pixels; `batch_size` is at least 1.
    pub fn new(
        dataset: &'a Dataset,
        preprocess: &Preprocess,
        width: u32,
        height: u32,
        batch_size: usize,
        order: Order,
    ) -> Batches<'a> {
        let mut places: Vec<usize> = (0..dataset.samples.len()).collect();
        if let Order::Shuffled { seed } = order {
            places.shuffle(&mut Pcg32::seed_from_u64(seed));
        }
        Batches {
            dataset,
            preprocessor: Preprocessor::new(preprocess, width, height),
            layout: preprocess.layout,
            decode_options: preprocess.decode_options(width, height),
            size: [height as usize, width as usize],
            batch_size: batch_size.max(1),
            limits: DecodeLimits::default(),
            order: places,
            next: 0,
        }
    }

    /// Keeps only the samples of `split`, in their order.
    pub fn of_split(mut self, split: Split) -> Batches<'a> {
        let samples = &self.dataset.samples;
        self.order.retain(|&i| samples[i].split == Some(split));
        self
    }

    /// Sets other limits than the defaults.
    pub fn with_limits(mut self, limits: DecodeLimits) -> Batches<'a> {
        self.limits = limits;
        self
    }

    fn load(&mut self, indices: Vec<usize>) -> Result<Batch> {
        let (count, [height, width]) = (indices.len(), self.size);
        let classes = self.dataset.classes.len();
        let sample_len = 3 * height * width;
        let mut values = vec![0.0; count * sample_len];
        let mut labels = Array2::zeros((count, classes));
        for (row, &index) in indices.iter().enumerate() {
            let sample = &self.dataset.samples[index];
            let path = self.dataset.root.join(&sample.path);
            let picture = Picture::open(&path, &self.limits, self.decode_options)?;
            let out = &mut values[row * sample_len..(row + 1) * sample_len];
            self.preprocessor.tensor(&picture, out)?;
            if let Some(class) = sample.class {
                labels[[row, class]] = 1.0;
            }
        }
        let shape = match self.layout {
            Layout::Nchw => [count, 3, height, width],
            Layout::Nhwc => [count, height, width, 3],
        };
        let images = Array4::from_shape_vec(shape, values).map_err(|e| Error::Mismatch {
            what: "shape of a batch".into(),
            expected: format!("{shape:?}"),
            found: e.to_string(),
            hint: "take a smaller batch".into(),
        })?;
        Ok(Batch {
            images,
            labels,
            indices,
        })
    }
}

impl Iterator for Batches<'_> {
    /// A batch with an image that cannot be used is an error that names the image; the next call goes
    /// on with the batch after it.
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = (self.next + self.batch_size).min(self.order.len());
        if self.next == end {
            return None;
        }
        let indices = self.order[self.next..end].to_vec();
        self.next = end;
        Some(self.load(indices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    /// Five plain images of two classes, of levels 0, 10, 20, 30, 40, and the folder that holds them.
    fn levels() -> (tempfile::TempDir, Dataset) {
        let folder = tempfile::tempdir().unwrap();
        for (i, class) in ["a", "a", "b", "b", "b"].iter().enumerate() {
            let class = folder.path().join(class);
            std::fs::create_dir_all(&class).unwrap();
            RgbImage::from_pixel(5, 4, Rgb([i as u8 * 10; 3]))
                .save(class.join(format!("{i}.png")))
                .unwrap();
        }
        let dataset = Dataset::open(folder.path(), None).unwrap();
        (folder, dataset)
    }

    fn plain(layout: Layout) -> Preprocess {
        Preprocess {
            layout,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            ..Preprocess::torch()
        }
    }

    #[test]
    fn batches_come_in_order_with_the_rest_last() {
        let (_folder, dataset) = levels();
        let batches: Vec<Batch> =
            Batches::new(&dataset, &plain(Layout::Nchw), 3, 2, 2, Order::Path)
                .collect::<Result<_>>()
                .unwrap();
        let indices: Vec<&[usize]> = batches.iter().map(|b| &b.indices[..]).collect();
        assert_eq!(indices, [&[0, 1][..], &[2, 3], &[4]]);
        assert_eq!(batches[0].images.dim(), (2, 3, 2, 3));
        assert_eq!(batches[0].labels, ndarray::array![[1.0, 0.0], [1.0, 0.0]]);
        assert_eq!(batches[2].images.dim(), (1, 3, 2, 3));
        assert_eq!(batches[2].labels, ndarray::array![[0.0, 1.0]]);
        assert!(batches[2].images.iter().all(|&v| v == 40.0));
    }

    #[test]
    fn a_shuffled_pass_gives_every_sample_once_with_its_own_label() {
        let (_folder, dataset) = levels();
        let order = Order::Shuffled { seed: 3 };
        let pass = || -> Vec<usize> {
            Batches::new(&dataset, &plain(Layout::Nhwc), 3, 2, 2, order)
                .flat_map(|batch| {
                    let batch = batch.unwrap();
                    for (row, &i) in batch.indices.iter().enumerate() {
                        assert_eq!(batch.images[[row, 0, 0, 0]], i as f32 * 10.0);
                        assert_eq!(batch.labels[[row, dataset.samples[i].class.unwrap()]], 1.0);
                    }
                    batch.indices
                })
                .collect()
        };
        let first = pass();
        assert_eq!(first, pass());
        assert_ne!(first, [0, 1, 2, 3, 4]);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_bad_picture_spoils_its_own_batch_alone() {
        let (folder, dataset) = levels();
        std::fs::write(folder.path().join("a/1.png"), "").unwrap();
        let results: Vec<Result<Batch>> =
            Batches::new(&dataset, &plain(Layout::Nhwc), 3, 2, 2, Order::Path).collect();
        let error = results[0].as_ref().unwrap_err().to_string();
        assert!(error.ends_with("1.png: is empty"), "{error}");
        assert!(results[1].is_ok() && results[2].is_ok());
    }
}
