//! Labels an image with the ImageNet classifier: `cargo run --example classify -- IMAGE`.

use std::path::PathBuf;

use tl::backbone::{Classifier, DEFAULT_MODEL, top_k};
use tl::pixels::{DecodeLimits, Picture};

fn main() -> tl::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .map_or("datasets/single/grace_hopper.jpg".into(), PathBuf::from);
    let classifier = Classifier::open(DEFAULT_MODEL, None)?;
    let mut session = classifier.session()?;
    let picture = Picture::open(&path, &DecodeLimits::default(), session.decode_options())?;
    let probabilities = session.run(&picture)?;
    for prediction in top_k(probabilities, classifier.labels(), 3) {
        println!(
            "{:>4}  {:.4}  {}",
            prediction.class, prediction.probability, prediction.label
        );
    }
    Ok(())
}
