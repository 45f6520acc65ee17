//! Room `backbone`.
