//! Finds the images in a folder that are most similar to an image, by the cosine of their features:
//! `cargo run --example similar -- IMAGE FOLDER`.

use std::path::PathBuf;

use tl::backbone::{Backbone, BackboneParams};
use tl::dataset::Dataset;
use tl::features::{PipelineParams, extract};
use tl::pixels::{DecodeLimits, Picture};
use tl::progress::Progress;

fn main() -> tl::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let wanted = arguments
        .next()
        .unwrap_or("datasets/tiny/fish/fish1.jpg".into());
    let folder = arguments.next().unwrap_or("datasets/tiny".into());

    let backbone = Backbone::open(&BackboneParams::default())?;
    let mut session = backbone.session()?;
    let picture = Picture::open(&wanted, &DecodeLimits::default(), session.decode_options())?;
    let wanted = session.run(&picture)?.to_vec();

    // The store is kept: the next run computes only the features of new and changed images.
    let store = extract(
        &backbone,
        &Dataset::open(&folder, None)?,
        &std::env::temp_dir().join("tl-similar.features"),
        &PipelineParams::default(),
        &Progress::silent(),
    )?;
    let mut row = vec![0.0; store.matrix().dim()];
    let mut found = Vec::new();
    for (i, entry) in store.index().iter().enumerate() {
        store.matrix().row_into(i, &mut row)?;
        found.push((cosine(&wanted, &row), &entry.path));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (similarity, path) in found.into_iter().take(5) {
        println!("{similarity:.4}  {}", path.display());
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}
