//! Tests of the library through its public surface, in one binary.

/// The head against scikit-learn.
mod head;

/// Finding the Python with the references.
mod python;
