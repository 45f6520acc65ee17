//! Pure maths of networks in f32: forward, backward, losses, steps. No file, clock or thread.
//!
//! A batch of features is `[rows, features]`, row-major; a shard of feature maps is `[channels, images,
//! height, width]`. The data's way through a training step:
//!
//! ```text
//! maps ─► convnet (conv, norm, pointwise, pool) ─► features
//! features ─► mlp (dense, activation, dropout) ─► logits ─► loss ─► gradient ─► optimizer (schedule) ─► weights
//! ```

pub mod parallel;

pub mod dense;

pub mod activation;

pub mod dropout;

pub mod initializer;

pub mod mlp;

pub mod loss;

pub mod mixup;

pub mod l2;

pub mod schedule;

pub mod optimizer;

pub mod maps;

pub mod conv;

mod depthwise;

mod winograd;

pub mod pool;

pub mod norm;

pub mod pointwise;

pub mod convnet;

pub use convnet::ConvNet;
pub use dense::{Dense, DenseGradient};
pub use loss::CrossEntropy;
pub use mixup::Mixup;
pub use optimizer::{Optimizer, Parameter, Rule};
pub use schedule::{Curve, Schedule};
