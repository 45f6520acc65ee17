//! Tests of the library through its public surface, in one binary.

/// The head against scikit-learn.
mod head;

/// Decoding and resizing against Pillow.
mod pixels;

/// Finding the Python with the references.
mod python;
