//! Room `features`.

pub mod matrix;

pub use matrix::{Dtype, FeatureMatrix};
