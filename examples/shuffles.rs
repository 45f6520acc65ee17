//! Cross-validates the default head over several shuffles of a feature store:
//! `cargo run --example shuffles -- STORE [FOLDS] [SHUFFLES]`.
//!
//! Writes one JSON object per shuffle: its seed, the fold of each row, and the accuracy over all rows.

use std::path::PathBuf;

use tl::dataset::stratified_folds;
use tl::features::FeatureStore;
use tl::progress::Progress;
use tl::train::{HeadParams, cross_validate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let store = arguments.next().ok_or("give a feature store")?;
    let mut number = |default: usize| match arguments.next() {
        Some(text) => text.to_string_lossy().parse(),
        None => Ok(default),
    };
    let (folds, shuffles) = (number(5)?, number(10)?);
    let store = FeatureStore::open(&PathBuf::from(store))?;
    let labels = store.labels()?;
    for seed in 0..shuffles as u64 {
        let fold_of = stratified_folds(&labels, folds, seed);
        let found = cross_validate(
            store.matrix(),
            &labels,
            store.meta().classes.len(),
            &fold_of,
            &HeadParams::default().check()?,
            &Progress::silent(),
        )?;
        let line = serde_json::json!({
            "seed": seed,
            "fold_of": fold_of,
            "accuracy": found.accuracy(),
        });
        println!("{line}");
    }
    Ok(())
}
