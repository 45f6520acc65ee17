//! The program that only uses models, as a board has it: built with the feature `predict` alone. With more features there is
//! nothing here; `tests.rs` has the tests.
#![cfg(not(feature = "train"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FISH: &str = "datasets/tiny/fish/fish1.jpg";

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A folder with a small model of three classes, `m.onnx`.
struct Board(tempfile::TempDir);

impl Board {
    fn new() -> Board {
        let dir = tempfile::tempdir().unwrap();
        let model = repository("tests/fuzz/seeds/saved_model/m.onnx");
        fs::copy(model, dir.path().join("m.onnx")).unwrap();
        Board(dir)
    }

    /// Runs the program; its exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_tl-batch"))
            .args(arguments)
            .current_dir(&self.0)
            .env("TL_MODELS", repository("models"))
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// What the program prints on standard output; it must end well.
    fn done(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        stdout
    }
}

#[test]
fn a_model_is_verified_asked_and_measured() {
    let board = Board::new();
    let fish = repository(FISH).display().to_string();
    let verified = board.done(&["verify", "m.onnx"]);
    assert!(verified.contains("same results: TRUE"), "{verified}");
    let table = board.done(&["predict", "m.onnx", &fish, "--format", "csv"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(lines.len(), 2, "{table}");
    let at = |name: &str| lines[0].iter().position(|word| *word == name).unwrap();
    assert_eq!(lines[1][at("label")], "hammer", "{table}");
    let probability: f32 = lines[1][at("probability")].parse().unwrap();
    assert!((1.0 / 3.0..0.34).contains(&probability), "{probability}");
    assert!(
        board
            .done(&["summary", "m.onnx"])
            .contains("Total params: 629\n")
    );
    let bench = ["bench", "m.onnx", "--seconds", "0.05", "-j", "1"];
    assert!(board.done(&bench).contains("images/s"));
}

#[test]
fn a_head_goes_out_and_comes_back() {
    let board = Board::new();
    let before = fs::read(board.0.path().join("m.onnx")).unwrap();
    board.done(&["export", "m.onnx", "--head-only", "-o", "head.onnx"]);
    board.done(&["install", "head.onnx", "m.onnx"]);
    assert!(fs::read(board.0.path().join("m.onnx")).unwrap() == before);
}

#[test]
fn the_base_of_a_folder_classifies() {
    let fish = repository(FISH).display().to_string();
    let said = Board::new().done(&["classify", &fish, "--top", "1"]);
    assert!(said.contains("rock beauty"), "{said}");
}

#[test]
fn commands_that_make_models_are_not_there() {
    let board = Board::new();
    let help = board.done(&["--help"]);
    for command in [
        "fit", "finetune", "extract", "train", "evaluate", "quantize",
    ] {
        let line = format!("\n  {command} ");
        assert!(!help.contains(&line), "{help}");
        let (code, _, stderr) = board.run(&[command]);
        assert_eq!(code, 2);
        let words = format!("unrecognized subcommand '{command}'");
        assert!(stderr.contains(&words), "{stderr}");
    }
}
