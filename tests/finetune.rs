//! Fine-tuning through the library and through `tl-batch`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ndarray::Array2;
use tl::backbone::{Backbone, BackboneParams, TrainableTail};
use tl::error::Error;
use tl::features::FeatureMatrix;
use tl::nn::convnet::Workspace;
use tl::nn::parallel::Sequential;
use tl::pixels::{DecodeLimits, Picture};
use tl::progress::{Event, Progress};
use tl::saved_model::SavedModel;
use tl::train::{Checkpoint, FinetuneInputs, FinetuneParams, HeadParams, ScheduleName, finetune};

use crate::program::{Workplace, model_file, repository};
use crate::python::{python, run_python};
use crate::reference::{read_npy, write_npy};

fn tiny() -> String {
    repository("datasets/tiny").display().to_string()
}

fn backbone(model: &str) -> Backbone {
    let params = BackboneParams {
        model: model.to_owned(),
        ..BackboneParams::default()
    };
    Backbone::open(&params).unwrap()
}

#[test]
fn finetune_ends_with_a_verified_model_that_onnx_runtime_runs() {
    let work = Workplace::new();
    let said = work.run(&format!(
        "finetune efficientnet-lite0 {} --unfreeze-from block7a_dw -o tuned.onnx --epochs 10 --tune-epochs 3 --base-learning-rate 0.0005 --train-batchnorm",
        tiny()
    ));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("head alone: "), "{}", said.stdout);
    assert!(said.stderr.contains("Epoch 3/3"), "{}", said.stderr);
    assert!(work.path("tuned.maps/features.npy").exists());
    assert!(!work.path("tuned.checkpoint").exists());
    assert_eq!(work.run("verify tuned.onnx").code, Some(0));

    let model = SavedModel::open(&work.path("tuned.onnx")).unwrap();
    let record = model.record().training.finetune.as_ref().unwrap();
    assert_eq!(record.first_layer, "block7a_dwconv");
    assert_eq!(record.history.len(), 3);
    compare_with_onnx_runtime(&model, &work);
}

#[test]
fn fine_tuned_vgg16_is_the_same_in_onnx_runtime() {
    if model_file("vgg16-conv-base.onnx").is_none() {
        return;
    }
    let work = Workplace::new();
    let said = work.run(&format!(
        "finetune vgg16 {} --unfreeze-from block5_conv3 --pool avg -o tuned.onnx --epochs 10 --tune-epochs 2 --base-learning-rate 0.0005",
        tiny()
    ));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let model = SavedModel::open(&work.path("tuned.onnx")).unwrap();
    let record = model.record().training.finetune.as_ref().unwrap();
    assert_eq!(record.trained_parameters, 512 * 512 * 9 + 512);
    compare_with_onnx_runtime(&model, &work);
}

/// Probabilities of a photo by `tuned.onnx`, here and in ONNX Runtime, from the same tensor.
fn compare_with_onnx_runtime(model: &SavedModel, work: &Workplace) {
    let Some(python) = python() else { return };
    let mut session = model.session().unwrap();
    let picture = repository("datasets/tiny/fish/fish1.jpg");
    let picture =
        Picture::open(&picture, &DecodeLimits::default(), session.decode_options()).unwrap();
    let ours = session.run(&picture).unwrap().to_vec();
    let size = model.record().backbone.input_size;
    let (height, width) = (size.height as usize, size.width as usize);
    write_npy(
        &work.path("in.npy"),
        &[1, 3, height, width],
        session.tensor(),
    );
    let out = work.path("out");
    run_python(
        &python,
        "run_model.py",
        &[&work.path("tuned.onnx"), &work.path("in.npy"), &out],
        &[],
    );
    let theirs = read_npy(&out.join("probabilities.npy"));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= 1e-4, "{ours:?} {theirs:?}");
    }
}

/// A data set of random maps at the cut of `tail`, classes in turn, which differ in their mean.
fn random_maps(tail: &TrainableTail, rows: usize) -> (FeatureMatrix, Vec<usize>) {
    let mut state = 1u32;
    let mut noise = || {
        // Numerical Recipes' linear congruential generator.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values = tail.net.input().values();
    let maps = Array2::from_shape_fn((rows, values), |(row, place)| {
        let class = if place % 3 == row % 3 { 0.05 } else { 0.0 };
        class + noise()
    });
    let labels = (0..rows).map(|row| row % 3).collect();
    (FeatureMatrix::from_array(maps), labels)
}

/// Weights, head and history of a run on random maps.
#[derive(PartialEq)]
struct Outcome {
    weights: Vec<Vec<f32>>,
    head: tl::train::Head,
    losses: Vec<f32>,
    best_epoch: usize,
}

/// A run that keeps `wise_ft` of the joint weights.
fn run(
    wise_ft: f32,
    tail: &TrainableTail,
    threads: usize,
    epochs: usize,
    validation: &[usize],
    checkpoint: Option<&Path>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let (maps, labels) = random_maps(tail, 22);
    let head = HeadParams {
        epochs: 5,
        batch_size: 8,
        dropout: 0.2,
        mixup: 0.2,
        schedule: ScheduleName::Constant,
        ..HeadParams::default()
    };
    let params = FinetuneParams {
        unfreeze_from: "1".into(),
        tune_epochs: epochs,
        base_learning_rate: 1e-3,
        // Mixed maps would let the joint epochs do better on rows that are held out.
        cutmix: if validation.is_empty() { 0.2 } else { 0.0 },
        wise_ft,
        ..FinetuneParams::default()
    };
    let inputs = FinetuneInputs {
        tail,
        maps: &maps,
        labels: &labels,
        classes: 3,
        head: &head.check()?,
        params: &params.check()?,
        threads,
        checkpoint: checkpoint.map(|path| Checkpoint {
            path: path.to_owned(),
            fingerprint: "a".into(),
            interval: Duration::ZERO,
        }),
    };
    let training: Vec<usize> = (0..18).collect();
    let found = finetune(&inputs, &training, validation, progress, None)?;
    Ok(Outcome {
        weights: (0..tail.weights.len())
            .map(|n| found.model.weight(n).to_vec())
            .collect(),
        head: found.model.head()?,
        losses: found.history.iter().map(|e| e.loss).collect(),
        best_epoch: found.best_epoch,
    })
}

#[test]
fn the_result_depends_neither_on_threads_nor_on_stops() {
    let backbone = backbone("efficientnet-lite0");
    let tail = TrainableTail::of(&backbone, "block7a_project", false).unwrap();
    let silent = Progress::silent();
    let calm = run(1.0, &tail, 1, 4, &[], None, &silent).unwrap();
    assert!(calm.losses[3] < calm.losses[0], "{:?}", calm.losses);
    let first = tail.weights.iter().position(|w| w.trained).unwrap();
    assert!(calm.weights[first] != tail.weights[first].values);
    assert_eq!(calm.best_epoch, 4);
    for (found, before) in calm.weights.iter().zip(&tail.weights) {
        assert!(before.trained || *found == before.values, "{}", before.name);
    }
    assert!(run(1.0, &tail, 3, 4, &[], None, &silent).unwrap() == calm);

    // A run of two epochs stops where a run of four has its second checkpoint.
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    run(1.0, &tail, 2, 2, &[], Some(&checkpoint), &silent).unwrap();
    assert!(checkpoint.exists());
    let (progress, events) = Progress::channel();
    let resumed = run(1.0, &tail, 2, 4, &[], Some(&checkpoint), &progress).unwrap();
    drop(progress);
    assert!(resumed == calm);
    let told: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Info { message } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["resuming after epoch 2 of 4"]);
}

#[test]
fn a_share_of_the_joint_weights_is_kept_also_after_a_stop() {
    let backbone = backbone("efficientnet-lite0");
    let tail = TrainableTail::of(&backbone, "block7a_project", false).unwrap();
    let silent = Progress::silent();
    let whole = run(1.0, &tail, 2, 3, &[], None, &silent).unwrap();
    let half = run(0.5, &tail, 2, 3, &[], None, &silent).unwrap();
    assert_eq!(half.losses, whole.losses);
    for ((half, whole), before) in half.weights.iter().zip(&whole.weights).zip(&tail.weights) {
        for ((half, whole), before) in half.iter().zip(whole).zip(&before.values) {
            let between = 0.5 * (f64::from(*whole) + f64::from(*before));
            assert!((f64::from(*half) - between).abs() <= f64::from(1e-6 * whole.abs().max(1.0)));
        }
    }
    assert!(half.head != whole.head);

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    run(0.5, &tail, 2, 2, &[], Some(&checkpoint), &silent).unwrap();
    let resumed = run(0.5, &tail, 2, 3, &[], Some(&checkpoint), &silent).unwrap();
    assert!(resumed == half);
}

#[test]
fn the_base_stays_as_it_was_if_no_joint_epoch_is_better() {
    // The classes of these maps are hardly there: what is learned of 18 of them does worse on the others.
    let backbone = backbone("efficientnet-lite0");
    let tail = TrainableTail::of(&backbone, "block7a_project", false).unwrap();
    let found = run(
        1.0,
        &tail,
        2,
        4,
        &[18, 19, 20, 21],
        None,
        &Progress::silent(),
    )
    .unwrap();
    assert_eq!(found.best_epoch, 0);
    assert_eq!(found.losses.len(), 4);
    for (found, before) in found.weights.iter().zip(&tail.weights) {
        assert!(*found == before.values, "{}", before.name);
    }
}

#[test]
fn stops_when_asked() {
    let backbone = backbone("efficientnet-lite0");
    let tail = TrainableTail::of(&backbone, "top_conv", false).unwrap();
    let progress = Progress::silent();
    progress.cancel().cancel();
    let stopped = run(1.0, &tail, 2, 4, &[], None, &progress);
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[cfg(unix)]
#[test]
fn a_killed_run_ends_with_the_bytes_of_an_undisturbed_one() {
    let work = Workplace::new();
    let line = |name: &str| {
        format!(
            "finetune efficientnet-lite0 {} --unfreeze-from block7a --maps maps -o {name} --epochs 5 --tune-epochs 3",
            tiny()
        )
    };
    assert_eq!(work.run(&line("calm.onnx")).code, Some(0));
    let mut child = work.spawn(&line("killed.onnx"));
    let started = Instant::now();
    while !work.path("killed.checkpoint").exists() {
        assert!(started.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    // SIGKILL: nothing of the process can tidy up.
    child.kill().unwrap();
    child.wait().unwrap();
    let was_killed = work.path("killed.checkpoint").exists();
    let said = work.run(&format!("{} --force", line("killed.onnx")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(
        said.stderr.contains("resuming after epoch"),
        was_killed,
        "{}",
        said.stderr
    );
    let bytes = |name| fs::read(work.path(name)).unwrap();
    assert!(bytes("calm.onnx") == bytes("killed.onnx"));
}

#[test]
fn the_layer_is_found_by_name_number_and_share() {
    let backbone = backbone("efficientnet-lite0");
    let first =
        |from: &str| TrainableTail::of(&backbone, from, false).map(|t| (t.first_layer, t.cut));
    let of = |name: &str, cut: &str| (name.to_owned(), cut.to_owned());
    let top = of("top_conv", "block7a_project_bn");
    assert_eq!(first("top_conv").unwrap(), top);
    assert_eq!(first("1").unwrap(), top);
    // The kernels of top_conv and of the convolution before it have 12 % and 11 % of the weights.
    assert_eq!(first("15%").unwrap(), top);
    assert_eq!(
        first("block6c").unwrap(),
        of("block6c_expand_conv", "block6b_add")
    );
    // Inside a residual block the cut is before the block.
    assert_eq!(
        first("block6c_project_conv").unwrap(),
        of("block6c_project_conv", "block6b_add")
    );
    for (from, part) in [
        ("block9", "no layer of this name"),
        ("dwconv", "several layers"),
        ("0", "unfreeze at least 1"),
        ("1%", "the last layer alone"),
        (
            "stem_conv",
            "no layer of efficientnet-lite0 would stay frozen",
        ),
    ] {
        let error = first(from).unwrap_err().to_string();
        assert!(error.contains(part), "{from}: {error}");
    }
}

#[test]
fn an_operator_that_cannot_be_trained_through_is_named_with_the_deepest_layer_that_can() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let model = work.path("lrn.onnx");
    run_python(&python, "make_small_model.py", &[&model], &["nchw-lrn"]);
    let params = BackboneParams {
        model: model.display().to_string(),
        input_size: Some(32.into()),
        ..BackboneParams::default()
    };
    let backbone = Backbone::open(&params).unwrap();
    let error = TrainableTail::of(&backbone, "conv2", false).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("lrn2, an operator LRN"), "{text}");
    assert!(text.contains("to train from is conv3"), "{text}");
    let tail = TrainableTail::of(&backbone, "conv3", false).unwrap();
    assert_eq!(tail.cut, "n2");
}

#[test]
fn weights_that_nodes_make_are_trained_and_saved() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let model = work.path("filled.onnx");
    run_python(&python, "make_small_model.py", &[&model], &["nchw-filled"]);
    let tiny = repository("datasets/tiny").display().to_string();
    for from in ["conv2", "conv3"] {
        let said = work.run(&format!(
            "finetune ./filled.onnx {tiny} --unfreeze-from {from} --train-batchnorm --input-size 32 --epochs 2 \
             --tune-epochs 2 --base-learning-rate 0.01 -o tuned.onnx --force"
        ));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(
            said.stdout.contains("same results: TRUE"),
            "{}",
            said.stdout
        );
    }
}

/// Our layers against ONNX Runtime: the end of a base on the maps of its prefix gives the features of the
/// whole base.
#[test]
fn the_end_of_a_base_gives_the_features_of_the_whole_base() {
    let mut models = vec![("efficientnet-lite0", "block5a")];
    if repository("models/vgg16-conv-base.onnx").exists() {
        models.push(("vgg16", "block4_conv2"));
    }
    for (model, from) in models {
        let whole = backbone(model);
        let tail = TrainableTail::of(&whole, from, false).unwrap();
        let prefix = Backbone::open(&BackboneParams {
            model: model.to_owned(),
            cut: Some(tail.cut.clone().into()),
            pool: Some(tl::backbone::Pool::None),
            ..BackboneParams::default()
        })
        .unwrap();
        let mut sessions = (whole.session().unwrap(), prefix.session().unwrap());
        let path = repository("datasets/tiny/windmill/windmill1.jpg");
        let picture =
            Picture::open(&path, &DecodeLimits::default(), sessions.0.decode_options()).unwrap();
        let expected = sessions.0.run(&picture).unwrap();
        let maps = sessions.1.run(&picture).unwrap();
        let mut shard = vec![0.0; maps.len()];
        tl::nn::maps::put_channels_last(tail.net.input(), 1, 0, maps, &mut shard);
        let weights: Vec<Vec<f32>> = tail.weights.iter().map(|w| w.values.clone()).collect();
        let mut workspace = Workspace::default();
        let weights = tail.net.prepare(&weights, &mut workspace, &Sequential);
        let found = tail
            .net
            .forward(&weights, &[1], vec![shard], &mut workspace, &Sequential)
            .concat();
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * largest, "{model}: {a} {b}");
        }
    }
}
