//! Finding the Python with the references, and running its scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::repository;
use crate::skipped::skip_comparison;

/// The Python of `TL_PYTHON`, or of the environment that `scripts/venv` makes; none, with a
/// [note](skip_comparison), if neither is there.
///
/// # Panics
/// If neither is there and no comparison may be skipped.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TL_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python"),
        PathBuf::from,
    );
    if python.exists() {
        return Some(python);
    }
    skip_comparison("there is no Python with the references; run scripts/venv");
    None
}

/// Runs a script of `tests/python`, which must end well; returns what it prints.
pub fn run_python(python: &Path, script: &str, arguments: &[&Path], words: &[&str]) -> String {
    let output = Command::new(python)
        .arg(repository("tests/python").join(script))
        .args(arguments)
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
