//! A new head for a model that is on a board already.

use std::fs;

use crate::program::{Workplace, repository};

fn with_models() -> Workplace {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    for (name, options) in [("old", "--epochs 2"), ("new", "--epochs 20 --hidden 8")] {
        let said = work.run(&format!("fit {tiny} -o {name}.onnx {options}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    let said = work.run("export new.onnx --head-only -o head.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    work
}

#[test]
fn a_head_of_some_kilobytes_makes_the_old_model_the_new_one() {
    let work = with_models();
    let bytes = fs::metadata(work.path("head.onnx")).unwrap().len();
    assert!(bytes < 100_000, "{bytes}");
    let said = work.run("install head.onnx old.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("byte-identical to the exported model"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("same results: TRUE"),
        "{}",
        said.stdout
    );
    assert!(fs::read(work.path("old.onnx")).unwrap() == fs::read(work.path("new.onnx")).unwrap());
    assert!(!work.path("old.onnx.previous").exists());

    let said = work.run("install head.onnx fresh.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("fresh.onnx")).unwrap() == fs::read(work.path("new.onnx")).unwrap());
}

#[test]
fn a_head_of_another_base_and_a_damaged_one_leave_the_model_as_it_is() {
    let work = with_models();
    let tiny = repository("datasets/tiny").display().to_string();
    let said = work.run(&format!(
        "fit {tiny} -o other.onnx --epochs 1 --input-size 96"
    ));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let before = fs::read(work.path("other.onnx")).unwrap();
    let said = work.run("install head.onnx other.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr.contains("backbone of the head"),
        "{}",
        said.stderr
    );
    assert!(fs::read(work.path("other.onnx")).unwrap() == before);

    let mut damaged = fs::read(work.path("head.onnx")).unwrap();
    let name = b"dense/kernel";
    let weights = damaged
        .windows(name.len())
        .rposition(|w| w == name)
        .unwrap();
    for byte in &mut damaged[weights + 40..weights + 4040] {
        *byte ^= 0x01;
    }
    fs::write(work.path("damaged.onnx"), damaged).unwrap();
    let before = fs::read(work.path("old.onnx")).unwrap();
    let said = work.run("install damaged.onnx old.onnx");
    assert_eq!(said.code, Some(6), "{}", said.stderr);
    assert!(
        said.stderr.contains("these checks differ: synthetic image"),
        "{}",
        said.stderr
    );
    assert!(fs::read(work.path("old.onnx")).unwrap() == before);
    assert!(!work.path("old.onnx.previous").exists());

    let said = work.run("export head.onnx --head-only -o again.onnx");
    assert_eq!(
        said.code,
        Some(4),
        "a head has no base to leave out: {}",
        said.stderr
    );
}
