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

/// Recognising formats by the first bytes.
mod format;

/// Decoded pixels.
mod picture;

/// JPEG: header and choice of decoder.
mod jpeg;

/// TIFF: directory and colour conversion.
mod tiff;

/// The other formats: metadata, and fixes for their decoders.
mod source;

/// The orientation of the camera.
mod orientation;

/// Decoding.
mod decode;

/// Resizing and cropping.
mod resize;

/// Augmented views.
mod augment;

/// Preprocessing: from pixels to a normalised tensor.
mod preprocess;

/// A dataset as batches of tensors and one-hot labels.
mod batches;

pub use augment::{Augment, Flip, RandOperation};
pub use batches::{Batch, Batches, Order};
pub use decode::{DecodeLimits, DecodeOptions};
pub(crate) use file::read_file;
pub use picture::Picture;
pub use preprocess::{ChannelOrder, Layout, Preprocess, Preprocessor};
pub use resize::{Filter, ResizeRule};
