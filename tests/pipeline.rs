//! The whole pipeline through `tl-batch`: images in, verified model out, and its errors.

use std::fs;

use crate::program::{Workplace, repository};
use crate::skipped::skip;

fn tiny() -> String {
    repository("datasets/tiny").display().to_string()
}

/// A table's text with single blanks.
fn squeezed(table: &str) -> String {
    table.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn fit_ends_with_a_verified_model_that_all_commands_take() {
    let work = Workplace::new();
    let said = work.run(&format!("fit {} -o tiny.onnx", tiny()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("3,843 trained"), "{}", said.stdout);
    assert!(
        squeezed(&said.stdout).contains(" validation 6 "),
        "{}",
        said.stdout
    );
    for file in [
        "tiny.onnx",
        "tiny.run.toml",
        "tiny.features/features.npy",
        "tiny.features/meta.json",
    ] {
        assert!(work.path(file).exists(), "{file}");
    }

    let said = work.run("verify tiny.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("ok    synthetic image"),
        "{}",
        said.stdout
    );

    let said = work.run(&format!("evaluate tiny.onnx {}", tiny()));
    assert!(said.stdout.contains("accuracy 1.0000"), "{}", said.stdout);

    let said = work.run(&format!("predict tiny.onnx {}/fish --format csv", tiny()));
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "path,rank,class,label,probability,error");
    assert_eq!(lines.len(), 9);
    assert!(
        lines[1..].iter().all(|line| line.contains(",1,0,fish,0.")),
        "{}",
        said.stdout
    );

    let said = work.run(&format!(
        "predict tiny.onnx {}/hammer/hammer1.jpg --json",
        tiny()
    ));
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["label"], "hammer");

    let said = work.run("fit --config tiny.run.toml");
    assert_eq!(
        said.code,
        Some(5),
        "an existing output is not replaced: {}",
        said.stderr
    );
    let before = fs::read(work.path("tiny.onnx")).unwrap();
    let said = work.run("fit --config tiny.run.toml --force");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("reusing stored features of 24 images"),
        "{}",
        said.stderr
    );
    assert!(
        fs::read(work.path("tiny.onnx")).unwrap() == before,
        "the same settings give the same bytes"
    );
}

#[test]
fn extract_and_train_lead_to_the_same_model_as_fit() {
    let work = Workplace::new();
    assert_eq!(
        work.run(&format!("fit {} -o fit.onnx --epochs 5", tiny()))
            .code,
        Some(0)
    );
    assert_eq!(
        work.run(&format!("extract {} --out store", tiny())).code,
        Some(0)
    );
    let said = work.run("train store -o train.onnx --epochs 5");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("Epoch 5/5 - loss: "),
        "every epoch is told: {}",
        said.stderr
    );
    assert!(said.stderr.contains(" - val_accuracy: "), "{}", said.stderr);
    assert!(fs::read(work.path("fit.onnx")).unwrap() == fs::read(work.path("train.onnx")).unwrap());
}

#[test]
fn a_changed_weight_is_found_by_verify() {
    let work = Workplace::new();
    assert_eq!(
        work.run(&format!("fit {} -o m.onnx --epochs 2", tiny()))
            .code,
        Some(0)
    );
    let mut bytes = fs::read(work.path("m.onnx")).unwrap();
    let name = b"dense/kernel";
    let weight = bytes.windows(name.len()).rposition(|w| w == name).unwrap();
    // The tensor's raw data stands close to its name; a changed exponent byte makes a large change.
    for byte in &mut bytes[weight + 40..weight + 4040] {
        *byte ^= 0x01;
    }
    fs::write(work.path("m.onnx"), bytes).unwrap();
    let said = work.run("verify m.onnx");
    assert_eq!(said.code, Some(6), "{} {}", said.stdout, said.stderr);
    assert!(
        said.stdout.contains("same results: FALSE"),
        "{}",
        said.stdout
    );
    assert!(
        said.stderr.contains("these checks differ: synthetic image"),
        "{}",
        said.stderr
    );
}

#[test]
fn grace_hopper_wears_a_military_uniform() {
    let work = Workplace::new();
    let picture = repository("datasets/single/grace_hopper.jpg");
    let said = work.run(&format!("classify {} --format csv", picture.display()));
    let first = said.stdout.lines().nth(1).unwrap().to_owned();
    assert!(first.contains(",1,652,military uniform,0.4"), "{first}");
    let said = work.run(&format!(
        "classify {} --background --top 1 --format csv",
        picture.display()
    ));
    assert!(
        said.stdout.contains(",1,653,military uniform,0.4"),
        "{}",
        said.stdout
    );
}

#[test]
fn a_classified_picture_is_plotted_in_half_blocks_and_as_png() {
    let work = Workplace::new();
    let picture = repository("datasets/tiny/windmill/windmill1.jpg");
    let line = format!(
        "classify {} --top 2 --plot --save-plot w.png",
        picture.display()
    );
    let said = work.run(&line);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.matches('▄').count() > 500, "{}", said.stdout);
    assert!(said.stdout.contains("   437  0."), "{}", said.stdout);
    let plot = image::open(work.path("w.png")).unwrap();
    assert!(plot.width() > 400 && plot.height() > 100);

    let said = work.run(&line);
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    let said = work.run(&format!("{line} --force"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn a_bad_picture_is_listed_and_skipped_unless_strict() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    fs::write(
        work.path("photos/fish/broken.jpg"),
        b"<html>not found</html>",
    )
    .unwrap();
    let said = work.run("fit photos -o m.onnx --epochs 2");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("skipped fish/broken.jpg: is not an image"),
        "{}",
        said.stderr
    );
    let errors = fs::read_to_string(work.path("m.features/errors.csv")).unwrap();
    assert!(
        errors.starts_with("path,reason\nfish/broken.jpg,"),
        "{errors}"
    );

    let said = work.run("extract photos --out strict --strict");
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("broken.jpg"), "{}", said.stderr);

    let said = work.run("predict m.onnx photos/fish/broken.jpg photos/fish/fish1-0.jpg");
    assert_eq!(
        said.code,
        Some(3),
        "a picture that was named and cannot be used fails the command"
    );
    assert!(
        said.stdout.contains("fish1-0.jpg: "),
        "the others are labelled: {}",
        said.stdout
    );
}

#[test]
fn mistakes_get_one_clear_sentence_and_their_exit_code() {
    let work = Workplace::new();
    fs::create_dir_all(work.path("empty")).unwrap();
    fs::create_dir_all(work.path("one/cat")).unwrap();
    fs::copy(
        repository("datasets/tiny/fish/fish1.jpg"),
        work.path("one/cat/a.jpg"),
    )
    .unwrap();
    fs::write(work.path("text.onnx"), b"no model").unwrap();
    fs::write(work.path("taken.onnx"), b"").unwrap();
    fs::write(work.path("wrong.toml"), b"epoch = 3\n").unwrap();
    let tiny = tiny();
    let cases = [
        (
            "fit nowhere -o m.onnx".to_owned(),
            3,
            "dataset nowhere does not exist",
        ),
        ("fit empty -o m.onnx".to_owned(), 3, "no images found in it"),
        (
            "fit one -o m.onnx".to_owned(),
            3,
            "it has only 1 class (cat)",
        ),
        (
            format!("fit {tiny} -o taken.onnx"),
            5,
            "taken.onnx already exists; use --force",
        ),
        (
            format!("fit {tiny} -o empty"),
            2,
            "invalid value `empty` for --output: this is a folder",
        ),
        (format!("verify {tiny}"), 4, "this is a folder"),
        (
            format!("fit {tiny} -o no/such/m.onnx"),
            3,
            "output folder no/such does not exist",
        ),
        (
            format!("fit {tiny} -o m.onnx --model nonesuch"),
            4,
            "unknown backbone",
        ),
        (
            format!("fit {tiny} -o m.onnx --model text.onnx"),
            4,
            "not an ONNX file",
        ),
        (
            format!("fit {tiny} -o m.onnx --model gone.onnx"),
            4,
            "model gone.onnx does not exist",
        ),
        (
            format!("fit {tiny} -o m.onnx --cut nonesuch"),
            2,
            "no layer of this name",
        ),
        (
            format!("fit {tiny} -o m.onnx --validation-split 1.5"),
            2,
            "must be from 0 to below 1",
        ),
        (format!("fit {tiny} -o m.onnx --epochs 0"), 2, "epochs"),
        (
            format!("fit {tiny} -o m.onnx --config wrong.toml"),
            2,
            "`epoch` is not a setting of `tl-batch fit`",
        ),
        ("train empty -o m.onnx".to_owned(), 4, "it has no meta.json"),
        ("verify text.onnx".to_owned(), 4, "not an ONNX file"),
        ("predict text.onnx one".to_owned(), 4, "not an ONNX file"),
        (
            "classify nowhere.jpg".to_owned(),
            3,
            "image nowhere.jpg does not exist",
        ),
    ];
    let mut wrong = Vec::new();
    for (line, code, sentence) in cases {
        let said = work.run(&line);
        if said.code != Some(code)
            || !said.stderr.contains(sentence)
            || said.stderr.contains("panicked")
        {
            wrong.push(format!("{line}: {:?}, {}", said.code, said.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        !work.path("m.onnx").exists(),
        "nothing half-written under the final name"
    );
}

#[test]
fn an_imagenet_base_itself_is_no_saved_model() {
    let work = Workplace::new();
    let said = work.run(&format!(
        "verify {}",
        repository("models/efficientnet-lite0.onnx").display()
    ));
    assert_eq!(said.code, Some(4));
    assert!(
        said.stderr
            .contains("was not saved by `tl-batch fit` or `train`"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_store_of_another_base_is_refused_with_the_difference() {
    let work = Workplace::new();
    let base = repository("models/efficientnet-lite0.onnx");
    fs::copy(&base, work.path("other.onnx")).unwrap();
    fs::copy(base.with_extension("toml"), work.path("other.toml")).unwrap();
    assert_eq!(
        work.run(&format!("extract {} --out store", tiny())).code,
        Some(0)
    );
    let cases = [
        (
            "--cut top_relu6",
            "feature store store was made with other settings: feature layer is features, not top_relu6",
        ),
        (
            "--input-size 192",
            "feature store store was made with other settings: input-size is 224, not 192",
        ),
        ("--dtype float16", "other settings: dtype is"),
    ];
    for (flags, sentence) in cases {
        let said = work.run(&format!("extract {} --out store {flags}", tiny()));
        assert_eq!(said.code, Some(4), "{flags}: {}", said.stderr);
        assert!(said.stderr.contains(sentence), "{flags}: {}", said.stderr);
    }
    // `fit` keeps its store itself: it says the same, and replaces it with its output.
    let fit = |flags: &str| {
        work.run(&format!(
            "fit {} -o a.onnx --epochs 2 --input-size {flags}",
            tiny()
        ))
    };
    assert_eq!(fit("64").code, Some(0));
    fs::remove_file(work.path("a.onnx")).unwrap();
    let said = fit("96");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr.contains("--force to replace"),
        "{}",
        said.stderr
    );
    let said = fit("96 --augment RandomFlip=horizontal --views 1 --force");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let replaced = "replacing a.features: its features were made with another input-size";
    assert!(said.stderr.contains(replaced), "{}", said.stderr);
    let said = fit("64 --augment RandomFlip=horizontal --views 1 --force");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(
        said.stderr.matches("replacing").count(),
        2,
        "{}",
        said.stderr
    );

    let said = work.run(&format!(
        "extract {} --out store --model ./other.onnx",
        tiny()
    ));
    assert_eq!(
        said.code,
        Some(0),
        "the same weights under another path are the same base: {}",
        said.stderr
    );
    let said = work.run(&format!(
        "extract {} --out store --dtype float16 --force",
        tiny()
    ));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn force_removes_no_folder_that_is_not_a_store() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let said = work.run("extract photos --out photos --force");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(work.path("photos/fish/fish1-0.jpg").exists());
}

#[test]
fn json_gives_one_object_a_line_and_nothing_else() {
    let work = Workplace::new();
    let said = work.run(&format!("fit {} -o m.onnx --epochs 3 --json", tiny()));
    assert_eq!(said.code, Some(0));
    assert_eq!(said.stderr, "");
    let events: Vec<serde_json::Value> = said
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let count = |name: &str| events.iter().filter(|e| e["event"] == name).count();
    assert_eq!(events[0]["event"], "started");
    assert_eq!(count("image_done"), 24);
    assert_eq!(count("epoch"), 3);
    assert_eq!(
        events.iter().rfind(|e| e["event"] == "verified").unwrap()["same_results"],
        true
    );
    assert_eq!(events.last().unwrap()["event"], "finished");
}

#[test]
fn split_folders_label_files_and_hidden_layers_are_wired_through() {
    let work = Workplace::new();
    let mut list = String::from("path,label,split\n");
    for (class, split) in [
        ("fish", "train"),
        ("hammer", "train"),
        ("fish", "test"),
        ("hammer", "test"),
    ] {
        let from = repository("datasets/tiny").join(class);
        let to = work.path("photos").join(split).join(class);
        fs::create_dir_all(&to).unwrap();
        let half = if split == "train" { 0..4 } else { 4..8 };
        let mut files: Vec<_> = fs::read_dir(from)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        for file in &files[half] {
            let name = file.file_name().unwrap().to_str().unwrap();
            fs::copy(file, to.join(name)).unwrap();
            list += &format!("{split}/{class}/{name},the {class},{split}\n");
        }
    }
    fs::write(work.path("labels.csv"), list).unwrap();
    let said = work.run(
        "fit photos -o a.onnx --hidden 16 --dropout 0.2 --folds 2 --early-stopping 3 --pool max",
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("2-fold cross-validation: accuracy "),
        "{}",
        said.stdout
    );
    assert!(
        squeezed(&said.stdout).contains(" test 8 "),
        "{}",
        said.stdout
    );
    // (1280 + 1) * 16 + (16 + 1) * 2
    assert!(said.stdout.contains("20,530 trained"), "{}", said.stdout);
    let said = work.run("evaluate a.onnx photos --split test");
    assert!(said.stdout.contains("on 8 images"), "{}", said.stdout);
    let said = work.run("fit photos --labels labels.csv -o b.onnx --epochs 3");
    assert!(
        said.stdout.contains("the fish"),
        "{} {}",
        said.stdout,
        said.stderr
    );
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let work = Workplace::new();
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef tl-batch"),
        ("fish", "complete -c tl-batch"),
    ] {
        let said = work.run(&format!("completions {shell}"));
        assert!(said.stdout.contains(sign), "{shell}");
    }
    assert_eq!(work.run("man pages").code, Some(0));
    let page = fs::read_to_string(work.path("pages/tl-batch-fit.1")).unwrap();
    assert!(page.contains("validation\\-split"), "{page}");
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_needs_a_network() {
    let alone = |program: &std::ffi::OsStr| {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--net", "--map-root-user", "--"])
            .arg(program);
        command
    };
    let tried = alone("true".as_ref()).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skip("this user may not make a network namespace");
        return;
    }
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    for line in [
        "fit photos -o m.onnx --epochs 2",
        "verify m.onnx",
        "predict m.onnx photos/fish",
        "classify photos/fish/fish1-0.jpg",
    ] {
        let own = work.command(line);
        let output = alone(own.get_program())
            .args(own.get_args())
            .current_dir(work.path(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
    }
}
