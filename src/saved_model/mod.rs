//! Room `saved_model`.
