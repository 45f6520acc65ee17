//! Room `pixels`.
