//! Layers: summaries line by line, several cuts in one pass, the best layer for a data set, broken graphs.

use std::fs;
use std::process::Command;
use std::time::Instant;

use tl::features::FeatureStore;

use crate::program::{Said, Workplace, model_file, repository};
use crate::python::{python, run_python};

/// Makes ONNX files here with a script of tests/python; none where there is no Python.
fn make(work: &Workplace, script: &str, name: &str) -> Option<()> {
    run_python(&python()?, script, &[&work.path(name)], &[]);
    Some(())
}

fn rows(store: &FeatureStore) -> Vec<Vec<f32>> {
    let matrix = store.matrix();
    (0..matrix.rows())
        .map(|row| {
            let mut values = vec![0.0; matrix.dim()];
            matrix.row_into(row, &mut values).unwrap();
            values
        })
        .collect()
}

#[test]
fn the_summary_of_mobilenetv2_is_that_of_keras_line_by_line() {
    let work = Workplace::new();
    if make(&work, "make_mobilenetv2.py", "mobilenetv2.onnx").is_none() {
        return;
    }
    let said = work.run("summary ./mobilenetv2.onnx --json");
    let ours: Vec<String> = said
        .stdout
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let dims = row["output_shape"].as_array().unwrap();
            let shape: Vec<String> = dims.iter().map(ToString::to_string).collect();
            let count = row["trainable"].as_u64().unwrap() + row["non_trainable"].as_u64().unwrap();
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            format!(
                "{}\t{}\t{}\t{count}",
                text("name"),
                text("kind"),
                shape.join("x")
            )
        })
        .collect();
    // Keras 3.15.1: name, type, output and count_params() of each layer of MobileNetV2(include_top=False).
    let keras = fs::read_to_string(repository("tests/data/mobilenetv2-keras.tsv")).unwrap();
    assert_eq!(ours, keras.lines().skip(1).collect::<Vec<_>>());

    let said = work.run("summary ./mobilenetv2.onnx --head 3 --pool avg");
    assert!(
        said.stdout.contains(
            "Total params: 2,261,827\nTrainable params: 3,843\nNon-trainable params: 2,257,984\n"
        ),
        "{}",
        said.stdout
    );
    let said = work.run("summary ./mobilenetv2.onnx --unfreeze-from block_16_project");
    // 320 x 960 + 2 x 320, and 1280 x 320 + 2 x 1280: the two last convolutions and their BatchNorms.
    assert!(
        said.stdout.contains("\nTrainable params: 720,000\n"),
        "{}",
        said.stdout
    );
    let said = work.run("summary ./mobilenetv2.onnx --nodes");
    assert!(said.stdout.contains("Conv1/pad (Pad)"), "{}", said.stdout);
}

#[test]
fn multiply_adds_are_those_of_the_paper() {
    // Table 1 of "Very Deep Convolutional Networks": 13 convolutions; each with its output's size times its
    // weights, at 224 px. 15.35 G is also what fvcore and torchinfo say of the base.
    if model_file("vgg16-conv-base.onnx").is_none() {
        return;
    }
    let said = Workplace::new().run("summary vgg16 --input-size 224 --macs --activations");
    assert!(
        said.stdout
            .contains("Multiply-adds per image: 15,346,630,656\n"),
        "{}",
        said.stdout
    );
    let line = said
        .stdout
        .lines()
        .find(|l| l.contains("block1_conv2"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    // 224 x 224 x 64 values of 9 x 64 multiply-adds and of 4 bytes.
    assert_eq!(words[words.len() - 2..], ["1,849,688,064", "12,845,056"]);
}

#[test]
fn several_cuts_fill_an_array_each_in_one_pass_with_the_bytes_of_single_passes() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    fs::write(work.path("photos/fish/empty.jpg"), b"").unwrap();
    let cuts = "--cut block3b_add --cut block5b_add --cut features";
    for (out, flags) in [("one", "--workers 1"), ("five", "--workers 5")] {
        let said = work.run(&format!("extract photos --out {out} {cuts} {flags}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    let read = |path: &str| fs::read(work.path(path)).unwrap();
    for cut in ["block3b_add", "block5b_add", "features"] {
        let array = format!("features-{cut}.npy");
        assert!(
            read(&format!("one/{array}")) == read(&format!("five/{array}")),
            "{cut}"
        );
        let said = work.run(&format!(
            "extract photos --out alone-{cut} --cut {cut} --pool avg"
        ));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(
            read(&format!("one/{array}")) == read(&format!("alone-{cut}/features.npy")),
            "{cut}"
        );
        let narrowed = FeatureStore::open(&work.path("one"))
            .unwrap()
            .narrowed_to(cut)
            .unwrap();
        let alone = FeatureStore::open(&work.path(&format!("alone-{cut}"))).unwrap();
        assert!(rows(&narrowed) == rows(&alone), "{cut}");
    }
    assert!(!work.path("one/features.npy").exists());
    assert!(read("one/meta.json") == read("five/meta.json"));

    // Side by side: what training sees of several arrays, and what --concat writes.
    let said = work.run(&format!("extract photos --out wide {cuts} --concat"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let wide = FeatureStore::open(&work.path("wide")).unwrap();
    assert_eq!(wide.meta().feature_shape, [40 + 112 + 1280]);
    assert!(rows(&wide) == rows(&FeatureStore::open(&work.path("one")).unwrap()));
    let said = work.run(&format!("extract photos --out one {cuts} --concat"));
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(said.stderr.contains("number of arrays"), "{}", said.stderr);

    for (flags, trained) in [("", 3 * 1433), (" --cut block5b_add", 3 * 113)] {
        let said = work.run(&format!("train one -o m.onnx --force --epochs 3{flags}"));
        assert!(
            said.stdout.ends_with("same results: TRUE\n"),
            "{}",
            said.stderr
        );
        let grouped = format!("{},{:03} trained", trained / 1000, trained % 1000);
        let small = format!(" {trained} trained");
        assert!(
            said.stdout.contains(&grouped) || said.stdout.contains(&small),
            "{}",
            said.stdout
        );
    }
    let said = work.run("train one -o m.onnx --force --cut block9");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("has block3b_add, block5b_add, features"),
        "{}",
        said.stderr
    );
}

#[cfg(unix)]
#[test]
fn a_killed_run_with_several_cuts_goes_on_and_ends_with_the_same_bytes() {
    let work = Workplace::new();
    work.copy_tiny("photos", 5);
    fs::write(work.path("photos/hammer/empty.jpg"), b"").unwrap();
    let cuts = "--cut block5b_add --cut features";
    assert_eq!(
        work.run(&format!("extract photos --out calm {cuts}")).code,
        Some(0)
    );
    let mut child = work.spawn(&format!("extract photos --out killed {cuts}"));
    let journal = work.path("killed/partial/journal.jsonl");
    let started = Instant::now();
    while fs::metadata(&journal).map_or(0, |m| m.len()) == 0 {
        assert!(started.elapsed().as_secs() < 120, "no checkpoint came");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(journal.exists(), "the run was not killed before its end");
    let said = work.run(&format!("extract photos --out killed {cuts}"));
    assert!(
        said.stderr.contains("reusing stored features"),
        "{}",
        said.stderr
    );
    for file in [
        "features-block5b_add.npy",
        "features-features.npy",
        "index.csv",
        "meta.json",
    ] {
        let read = |store: &str| fs::read(work.path(store).join(file)).unwrap();
        assert!(read("calm") == read("killed"), "{file}");
    }
    // New pictures: the other rows are taken over, from all arrays.
    fs::copy(
        repository("datasets/tiny/fish/fish1.jpg"),
        work.path("photos/fish/new.jpg"),
    )
    .unwrap();
    let said = work.run(&format!("extract photos --out killed {cuts} --json"));
    assert_eq!(
        said.stdout.matches("\"image_done\"").count(),
        1,
        "{}",
        said.stderr
    );
    assert_eq!(
        work.run(&format!("extract photos --out fresh {cuts}")).code,
        Some(0)
    );
    for file in [
        "features-block5b_add.npy",
        "features-features.npy",
        "index.csv",
    ] {
        let read = |store: &str| fs::read(work.path(store).join(file)).unwrap();
        assert!(read("fresh") == read("killed"), "{file}");
    }
}

#[test]
fn probing_layers_says_which_to_use_and_keeps_its_features() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny");
    let line = format!(
        "probe-layers {} --layers 4 --folds 4 --epochs 30",
        tiny.display()
    );
    let said = work.run(&line);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("◄ best"), "{}", said.stdout);
    assert!(
        said.stdout
            .contains("tl-batch train tiny.layers --feature-layer "),
        "{}",
        said.stdout
    );
    let again = work.run(&format!("{line} --json"));
    assert!(again.stderr.is_empty(), "{}", again.stderr);
    let layers: Vec<serde_json::Value> = again
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(layers.len(), 4, "{}", again.stdout);
    let last = &layers[3];
    assert_eq!(last["layer"], "features");
    assert_eq!(last["features"], 1280);
    assert_eq!(last["bytes"], 24 * 1280 * 4);
    // The same features, folds and seed as a cross-validation by hand.
    let cut = work.run("train tiny.layers --cut features -o m.onnx --folds 4 --epochs 30");
    let stated = format!("accuracy {:.4} ± ", last["accuracy"].as_f64().unwrap());
    assert!(cut.stdout.contains(&stated), "{stated}: {}", cut.stdout);
    let early = layers[0]["accuracy"].as_f64().unwrap();
    assert!(
        early < last["accuracy"].as_f64().unwrap(),
        "{}",
        again.stdout
    );
}

/// What the command says with 2 GB of address space and ten seconds of processor time, a thousand times what a
/// refusal takes.
fn within_limits(command: &Command) -> Said {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -v 2000000 -t 10; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    Said::from(shell.output().unwrap())
}

#[test]
fn broken_and_malicious_graphs_are_refused_at_once_with_a_reason() {
    let work = Workplace::new();
    if make(&work, "make_broken_models.py", ".").is_none() {
        return;
    }
    let outside = "which is not in the model's folder";
    for (model, reason) in [
        (
            "custom",
            "the operator FancyOp of the node `fancy7` is not supported",
        ),
        (
            "circle",
            "its graph has a cycle: the node `a` (Add) depends on its own output",
        ),
        (
            "fill",
            "the node `z` (ConstantOfShape) creates a tensor of 1000000000000 values",
        ),
        (
            "claim",
            "the tensor `k` has the shape [1000000, 1000000, 3, 3] but 4 values",
        ),
        (
            "pads",
            "has 100000 in `pads`, which must be from -65536 to 65536",
        ),
        ("outside", outside),
        ("absolute", outside),
        ("link", outside),
        ("folder", "which is not a regular file"),
        ("offset", "which is too short"),
        (
            "repeated",
            "its weights need 315000000 bytes from files that have 35000000",
        ),
        ("number", "whose `offset` is not a number"),
        ("resize", "is too large: [1, 4, 3000000, 3000000]"),
        (
            "window",
            "has 1000000000 in `kernel_shape`, which must be from 1 to 65536",
        ),
        ("groups", "the node `c` (Conv) has 0 in `group`"),
        ("still", "the node `c` (Conv) has 0 in `strides`"),
        (
            "two-inputs",
            "it has 2 inputs (x, x2); a backbone has one, the image",
        ),
        ("integers", "its input `x` is not float32"),
    ] {
        let extract = work.command(&format!(
            "extract {} --out o --model ./{model}.onnx --cut y",
            repository("datasets/tiny").display()
        ));
        let said = within_limits(&extract);
        assert_eq!(said.code, Some(4), "{model}: {}", said.stderr);
        assert!(said.stderr.contains(reason), "{model}: {}", said.stderr);
        assert!(
            !said.stderr.contains("panicked"),
            "{model}: {}",
            said.stderr
        );
    }
    let said = work.run("summary ./huge-picture.onnx");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    // Nodes that are not in the order of execution are a fault that can be mended.
    let said = work.run("summary ./unsorted.onnx");
    assert!(
        said.stdout.contains("Total params: 108\n"),
        "{}",
        said.stderr
    );
}
