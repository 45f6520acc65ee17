//! What is fuzzed: for each kind of file that comes from elsewhere, the way from its bytes to its use; and graphs that are
//! made of bytes, run and held against tract. A
//! target panics if a promise is broken; an error is no panic.
//!
//! The fuzzers in `targets/` and the tests in `tests/fuzzed.rs` share them.

mod graph;
mod jobs;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

use tl::backbone::{ModelCard, Network, OnnxGraph};
use tl::dataset::Dataset;
use tl::features::FeatureStore;
use tl::job::{ExtractConfig, FinetuneConfig, FitConfig, TrainConfig};
use tl::pixels::{DecodeLimits, Picture, Preprocess, Preprocessor};
use tl::progress::Progress;
use tl::saved_model::{SavedModel, verify};

pub use graph::graph;
pub use jobs::{plan, record, write_plan_seeds};

/// What is done with the bytes of a file.
pub type Target = fn(&[u8]);

/// Name and function of each target.
pub const TARGETS: [(&str, Target); 9] = [
    ("graph", graph),
    ("picture", picture),
    ("store", store),
    ("saved_model", saved_model),
    ("onnx", onnx),
    ("settings", settings),
    ("labels", labels),
    ("record", record),
    ("plan", plan),
];

/// A panic that the library catches becomes an error: that is the promise. The fuzzer's own hook would end the
/// process at it.
fn let_the_library_catch() {
    static ONCE: Once = Once::new();
    if cfg!(fuzzing) {
        ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    }
}

/// A folder of this thread's process, for what is read by its path.
fn folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(name).tempdir().unwrap()
}

/// The bytes of a picture → the tensor of a network.
pub fn picture(bytes: &[u8]) {
    let_the_library_catch();
    let limits = DecodeLimits {
        max_pixels: 1 << 20,
        max_bytes: 16 << 20,
    };
    if let Ok(picture) = Picture::decode(bytes, Path::new("a.jpg"), &limits, [255; 3]) {
        let pixels = picture.width as usize * picture.height as usize;
        assert!(pixels > 0 && picture.rgb.len() == 3 * pixels);
        let mut tensor = vec![f32::NAN; 3 * 32 * 32];
        Preprocessor::new(&Preprocess::torch(), 32, 32)
            .tensor(&picture, &mut tensor)
            .unwrap();
        assert!(tensor.iter().all(|v| v.is_finite()));
    }
}

/// The files of a feature store, one behind the other with a line `----` between: `meta.json`, `index.csv`,
/// `errors.csv`, `features.npy`.
pub fn store(bytes: &[u8]) {
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| folder("store"));
    let mut rest = bytes;
    for name in ["meta.json", "index.csv", "errors.csv", "features.npy"] {
        let end = rest.windows(6).position(|w| w == b"\n----\n");
        let (own, after) = match end {
            Some(end) => (&rest[..end + 1], &rest[end + 6..]),
            None => (rest, &rest[rest.len()..]),
        };
        fs::write(DIR.path().join(name), own).unwrap();
        rest = after;
    }
    if let Ok(store) = FeatureStore::open(DIR.path()) {
        let _ = store.labels();
        let _ = store.errors();
        let mut row = vec![0.0; store.matrix().dim()];
        for i in 0..store.index().len() {
            let _ = store.matrix().row_into(i, &mut row);
        }
    }
}

/// A saved model: an ONNX file with our record in it; opened, and verified as `tl-batch verify` does.
pub fn saved_model(bytes: &[u8]) {
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| folder("model"));
    let_the_library_catch();
    let path = DIR.path().join("m.onnx");
    fs::write(&path, bytes).unwrap();
    if SavedModel::open(&path).is_ok() {
        let _ = verify(&path, Some(DIR.path()), &Progress::silent());
    }
}

/// Somebody's ONNX file as a base: read, checked and loaded.
pub fn onnx(bytes: &[u8]) {
    let_the_library_catch();
    let Ok(graph) = OnnxGraph::parse(bytes, "m.onnx") else {
        return;
    };
    let _ = graph.input();
    if let Ok(network) = Network::load(&graph, [1, 3, 32, 32]) {
        let _ = network.output_shapes();
    }
}

/// Model cards and run configurations: TOML.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(card) = ModelCard::parse(text, "m.toml") {
        ModelCard::parse(&card.to_toml(), "m.toml").unwrap();
    }
    if let Ok(config) = toml::from_str::<FitConfig>(text) {
        let _ = config.head.check();
    }
    let _ = toml::from_str::<ExtractConfig>(text);
    let _ = toml::from_str::<TrainConfig>(text);
    let _ = toml::from_str::<FinetuneConfig>(text);
}

/// A CSV file of labels: whatever is in it, no sample lies outside of the data set.
pub fn labels(bytes: &[u8]) {
    static DIR: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let dir = folder("labels");
        let root = dir.path().join("photos");
        fs::create_dir(&root).unwrap();
        for name in ["a.jpg", "b.jpg", "c"] {
            fs::write(root.join(name), b"x").unwrap();
        }
        (dir, root)
    });
    let csv = DIR.0.path().join("labels.csv");
    fs::write(&csv, bytes).unwrap();
    if let Ok(dataset) = Dataset::open(&DIR.1, Some(&csv)) {
        let known = |path: &Path| matches!(path.file_name(), Some(n) if n.len() <= 5);
        assert!(
            dataset
                .samples
                .iter()
                .all(|s| known(&s.path) && DIR.1.join(&s.path).is_file())
        );
        assert!(
            dataset
                .samples
                .iter()
                .all(|s| s.class.is_some_and(|c| c < dataset.classes.len()))
        );
    }
}
