//! The feature store on disk and the pipeline that fills it.
mod journal;
mod matrix;
mod npy;
mod pipeline;
mod store;
mod stream;
mod table;

pub use matrix::FeatureMatrix;
pub use npy::Dtype;
pub use pipeline::extract;
pub use stream::PipelineParams;
pub(crate) use stream::{Outcome, Stream, stream};
pub use store::{FORMAT_VERSION, FeatureStore, IndexRow, SourceFacts, StoreMeta};
