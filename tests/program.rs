//! Running `tl-batch` as its user does, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::skipped::skip_comparison;

/// A fresh working folder with a link to the project's data sets.
pub struct Workplace {
    dir: tempfile::TempDir,
}

/// What a finished run said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Workplace {
    pub fn new() -> Workplace {
        Workplace {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command, not yet started; words are separated by single blanks.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tl-batch"));
        command
            .args(line.split(' '))
            .current_dir(self.dir.path())
            .env("TL_MODELS", repository("models"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Said {
        Said::from(self.command(line).output().unwrap())
    }

    pub fn spawn(&self, line: &str) -> Child {
        self.command(line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Copies the data set `tiny` here, `times` times over, as `name`.
    pub fn copy_tiny(&self, name: &str, times: usize) {
        for class in ["fish", "hammer", "windmill"] {
            let to = self.path(name).join(class);
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(repository("datasets/tiny").join(class)).unwrap() {
                let from = entry.unwrap().path();
                for copy in 0..times {
                    let stem = from.file_stem().unwrap().to_str().unwrap();
                    std::fs::copy(&from, to.join(format!("{stem}-{copy}.jpg"))).unwrap();
                }
            }
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A file of the repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file of `models`; none, with a [note](skip_comparison), if `scripts/build-models` has not made it.
///
/// # Panics
/// If it is not there and no comparison may be skipped.
pub fn model_file(name: &str) -> Option<PathBuf> {
    let file = repository("models").join(name);
    if file.exists() {
        return Some(file);
    }
    skip_comparison(&format!(
        "models/{name} is not built; run scripts/build-models"
    ));
    None
}
