//! The feature store on disk and the pipeline that fills it.
//!
//! ```text
//! Backbone + Dataset ─► pipeline::extract ─► journal (unfinished) ─► FeatureStore ─► FeatureMatrix
//! ```

mod journal;
mod matrix;
mod memory;
mod npy;
mod pipeline;
mod reader;
mod store;
mod store_lock;
mod stream;
mod table;
mod view;

pub use matrix::{Dtype, FeatureMatrix};
pub(crate) use memory::peak_memory_bytes;
pub use pipeline::{extract, extract_view};
pub use store::{ArrayMeta, FORMAT_VERSION, FeatureStore, IndexRow, SourceFacts, StoreMeta};
pub use store_lock::remove_store;
pub use stream::PipelineParams;
pub(crate) use stream::{MOST_WORKERS, Outcome, PathList, PictureSource, Stream, stream};
pub(crate) use table::{name_field, path_field};
pub use view::View;
