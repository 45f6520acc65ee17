//! Pure maths of dense networks in f32: forward, backward, losses, steps. No file, clock or thread.
//!
//! A batch is `[rows, features]`, row-major. The data's way through a training step:
//!
//! ```text
//! batch ─► mlp (dense, activation, dropout) ─► logits ─► loss ─► gradient ─► optimizer (schedule) ─► weights
//! ```

pub mod dense;

pub mod activation;

pub mod dropout;

pub mod initializer;

pub mod mlp;

pub mod loss;

pub mod l2;

pub mod schedule;

pub mod optimizer;

pub use dense::{Dense, DenseGradient};
pub use loss::CrossEntropy;
pub use optimizer::{Optimizer, Parameter, Rule};
pub use schedule::{Curve, Schedule};
