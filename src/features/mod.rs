//! Room `features`.
