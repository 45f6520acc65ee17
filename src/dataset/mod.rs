//! Room `dataset`.
