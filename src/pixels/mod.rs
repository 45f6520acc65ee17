//! From the bytes of an image to the input tensor of a network.
//!
//! ```text
//! bytes ─► format ─► decode ─► Picture ─► resize ─► preprocess ─► f32 tensor
//!          what is   RGB8,     HWC        u8, anti-  (v·scale −     NCHW or NHWC
//!          it?       upright              aliased    mean) / std
//! ```
//!
//! Everything follows Pillow; tests compare each step with it.

/// The file of an image.
mod file;

/// What a file is, by its first bytes.
mod format;

/// Decoded pixels.
mod picture;

/// JPEG: its header, and which decoder reads it.
mod jpeg;

/// TIFF: its directory, and its samples as colours.
mod tiff;

/// The other formats, with their metadata and what their decoders get wrong.
mod source;

/// How the camera was held.
mod orientation;

/// From bytes to decoded pixels.
mod decode;

/// Bringing an image to the size of the network's input.
mod resize;

/// Random views of an image.
mod augment;

/// From pixels to normalised numbers.
mod preprocess;

/// A data set as batches of tensors and one-hot labels.
mod batches;

pub use augment::{Augment, Flip, RandOperation};
pub use batches::{Batch, Batches, Order};
pub use decode::{DecodeLimits, Rendering};
pub(crate) use file::read_file;
pub use picture::Picture;
pub use preprocess::{ChannelOrder, Layout, Preprocess, Preprocessor};
pub use resize::{Filter, ResizeRule};
