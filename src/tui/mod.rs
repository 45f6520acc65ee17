//! Room `tui`.
