//! Targets that go the whole way of a job: a saved model with somebody's record, and a feature store with somebody's
//! plan, in which an extraction goes on and on which a head is trained.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tl::backbone::{Backbone, BackboneParams};
use tl::dataset::{Dataset, Layout};
use tl::features::{PipelineParams, extract};
use tl::job::{EvaluateConfig, PredictConfig, TrainConfig, evaluate, predict, train};
use tl::progress::Progress;
use tl::saved_model::{SavedModel, verify};
use tl::train::HeadParams;

use super::{folder, let_the_library_catch};

/// A saved model of three classes.
const SAVED: &[u8] = include_bytes!("../seeds/saved_model/m.onnx");

/// The base that it was made of.
const BASE: &[u8] = include_bytes!("../../data/small.onnx");

const PICTURE: &[u8] = include_bytes!("../../data/pictures/clean.png");

/// What [`plan`] finds in the folder of the store, in this order.
const STORE_FILES: [&str; 7] = [
    "meta.json",
    "index.csv",
    "errors.csv",
    "features.npy",
    "partial/plan.json",
    "partial/journal.jsonl",
    "partial/features.npy",
];

/// A folder with the data set `photos` of two classes, always of the same age, and the base `base.onnx`.
static WORK: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = folder("jobs");
    for class in ["fish", "hammer"] {
        let class = dir.path().join("photos").join(class);
        fs::create_dir_all(&class).unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            fs::write(class.join(name), PICTURE).unwrap();
            let file = File::options().write(true).open(class.join(name)).unwrap();
            let age = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            file.set_modified(age).unwrap();
        }
    }
    fs::write(dir.path().join("base.onnx"), BASE).unwrap();
    dir
});

fn photos() -> PathBuf {
    WORK.path().join("photos")
}

fn one_worker() -> PipelineParams {
    PipelineParams {
        workers: 1,
        ..PipelineParams::default()
    }
}

/// The record of a saved model, as JSON, in a network that is in order: opened, verified, run, scored.
pub fn record(bytes: &[u8]) {
    let_the_library_catch();
    let path = WORK.path().join("record.onnx");
    fs::write(&path, with_record(bytes)).unwrap();
    if SavedModel::open(&path).is_err() {
        return;
    }
    let progress = Progress::silent();
    let _ = verify(&path, Some(&photos()), &progress);
    let config = PredictConfig {
        model: path.clone(),
        images: vec![photos()],
        pipeline: one_worker(),
    };
    let _ = predict(&config, &progress, |classes, result| {
        assert!(result.values.is_err() || result.values.is_ok_and(|v| v.len() == classes.len()));
        Ok(())
    });
    let config = EvaluateConfig {
        model: path,
        dataset: photos(),
        labels: None,
        layout: Layout::default(),
        split: None,
        pipeline: one_worker(),
    };
    if let Ok(found) = evaluate(&config, &progress) {
        assert_eq!(found.confusion.total() + found.skipped as u64, 6);
    }
}

/// The saved model with another record.
///
/// A file of this format is a sequence of fields; those of the metadata have the number 14, and their key is their
/// first field.
fn with_record(record: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b"tl.record";
    let mut model = Vec::new();
    let mut rest = SAVED;
    while !rest.is_empty() {
        let (tag, after_tag) = varint(rest);
        let (number, after) = varint(after_tag);
        let end = match tag & 7 {
            0 => rest.len() - after.len(),
            _ => rest.len() - after.len() + number,
        };
        let (field, next) = rest.split_at(end);
        if tag >> 3 != 14 || !field.windows(KEY.len()).any(|w| w == KEY) {
            model.extend(field);
        }
        rest = next;
    }
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 128 {
            field.push(length as u8 | 128);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend(bytes);
        field
    };
    model.extend(field(14, &[field(1, KEY), field(2, record)].concat()));
    model
}

/// The number at the beginning of `bytes`, 7 bits a byte, and what follows it.
fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|b| b & 128 == 0).unwrap() + 1;
    let digits = bytes[..length].iter().rev();
    let number = digits.fold(0, |number, &b| number << 7 | usize::from(b & 127));
    (number, &bytes[length..])
}

/// The files of a feature store that may be finished, begun or both, one behind the other with a line `----` between; a
/// file of nothing is not there. An extraction goes on in it, and a head is trained on what is there then.
pub fn plan(bytes: &[u8]) {
    static BACKBONE: LazyLock<(Backbone, Dataset)> = LazyLock::new(|| {
        let params = BackboneParams {
            model: WORK.path().join("base.onnx").display().to_string(),
            input_size: Some(32),
            ..BackboneParams::default()
        };
        let dataset = Dataset::open(&photos(), None).unwrap();
        (Backbone::open(&params).unwrap(), dataset)
    });
    let_the_library_catch();
    let dir = WORK.path().join("store");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("partial")).unwrap();
    let mut rest = bytes;
    for name in STORE_FILES {
        let end = rest.windows(6).position(|w| w == b"\n----\n");
        let (own, after) = match end {
            Some(end) => (&rest[..end + 1], &rest[end + 6..]),
            None => (rest, &rest[rest.len()..]),
        };
        if own.len() > 1 {
            fs::write(dir.join(name), own).unwrap();
        }
        rest = after;
    }
    let (backbone, dataset) = &*BACKBONE;
    let progress = Progress::silent();
    if let Ok(store) = extract(backbone, dataset, &dir, &one_worker(), &progress) {
        assert_eq!(store.meta().rows + store.meta().errors, 6);
        assert_eq!(store.matrix().dim(), backbone.feature_len());
    }
    let config = TrainConfig {
        features: dir,
        output: WORK.path().join("trained.onnx"),
        force: true,
        model: Some(WORK.path().join("base.onnx").display().to_string()),
        head: HeadParams {
            epochs: 1,
            ..HeadParams::default()
        },
        ..TrainConfig::default()
    };
    let _ = train(&config, &progress);
    let beside = fs::read_dir(WORK.path()).unwrap();
    let names = beside.map(|entry| entry.unwrap().file_name());
    let known = ["photos", "store", "trained", "base", "record"];
    for name in names {
        let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap();
        assert!(known.contains(&stem.split('.').next().unwrap()), "{stem}");
    }
}

pub fn write_plan_seeds(to: &Path) {
    use tl::progress::Event;
    fs::create_dir_all(to).unwrap();
    let params = BackboneParams {
        model: WORK.path().join("base.onnx").display().to_string(),
        input_size: Some(32),
        ..BackboneParams::default()
    };
    let backbone = Backbone::open(&params).unwrap();
    let dataset = Dataset::open(&photos(), None).unwrap();
    let dir = WORK.path().join("seed");
    let pack = |name: &str| {
        let mut all = Vec::new();
        for file in STORE_FILES {
            all.extend(fs::read(dir.join(file)).unwrap_or_default());
            all.extend(b"\n----\n");
        }
        fs::write(to.join(name), all).unwrap();
    };
    let (progress, events) = Progress::channel();
    let cancel = progress.cancel().clone();
    let reader = std::thread::spawn(move || {
        let mut done = 0;
        for event in events {
            done += usize::from(matches!(event, Event::ImageDone { .. }));
            if done == 3 {
                cancel.cancel();
            }
        }
    });
    let _ = extract(&backbone, &dataset, &dir, &one_worker(), &progress);
    drop(progress);
    reader.join().unwrap();
    pack("begun");
    extract(
        &backbone,
        &dataset,
        &dir,
        &one_worker(),
        &Progress::silent(),
    )
    .unwrap();
    pack("finished");
}
