//! Folders that others can write into, and files that came from elsewhere: what somebody planted there is not
//! followed, not waited for and not believed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Said, Workplace, repository};

/// Runs `tl-batch`; fails if it does not end.
fn run(work: &Workplace, line: &str) -> Said {
    let mut child = work
        .command(line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("`{line}` does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Said::from(child.wait_with_output().unwrap())
}

fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

/// A workplace with an unfinished store `begun`, and a finished one, `done`.
fn with_stores() -> (Workplace, String) {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let begun = work
        .command(&format!("extract {tiny} --out begun"))
        .env("TL_FAULT", "kill@25")
        .output()
        .unwrap();
    assert!(begun.status.code().is_none(), "it should have been killed");
    assert!(work.path("begun/partial/plan.json").exists());
    let said = run(&work, &format!("extract {tiny} --out done"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    (work, tiny)
}

#[test]
fn links_that_somebody_planted_in_a_store_are_refused_and_what_they_lead_to_stays_as_it_is() {
    let (work, tiny) = with_stores();
    let precious = work.path("precious");
    fs::write(&precious, "precious").unwrap();
    fs::create_dir(work.path("folder")).unwrap();
    fs::write(work.path("folder/meta.json"), "precious").unwrap();
    for (store, name, target) in [
        ("begun", ".lock", "precious"),
        ("begun", ".lock", "nowhere"),
        ("begun", "partial", "folder"),
        ("begun", "partial/plan.json", "precious"),
        ("begun", "partial/journal.jsonl", "precious"),
        ("begun", "partial/features.npy", "precious"),
        ("done", "meta.json", "precious"),
        ("done", "index.csv", "precious"),
        ("done", "features.npy", "precious"),
    ] {
        let out = work.path("out");
        copy_folder(&work.path(store), &out);
        let planted = out.join(name);
        match planted.is_dir() {
            true => fs::remove_dir_all(&planted).unwrap(),
            false => drop(fs::remove_file(&planted)),
        }
        symlink(work.path(target), &planted).unwrap();
        if name == "partial" {
            copy_folder(&work.path("begun/partial"), &work.path("folder"));
        }
        let before = work
            .path("folder")
            .exists()
            .then(|| contents(&work.path("folder")));
        let said = run(&work, &format!("extract {tiny} --out out"));
        assert!(
            matches!(said.code, Some(1 | 4)),
            "{name}: {:?} {}",
            said.code,
            said.stderr
        );
        assert!(said.stderr.contains("link"), "{name}: {}", said.stderr);
        let errors = said.stderr.lines().filter(|l| l.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{name}: {}", said.stderr);
        assert_eq!(fs::read(&precious).unwrap(), b"precious", "{name}");
        assert!(!work.path("nowhere").exists());
        assert_eq!(before, Some(contents(&work.path("folder"))), "{name}");
        fs::remove_dir_all(&out).unwrap();
    }
}

/// Names and contents of a folder's files, in order.
fn contents(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_plan_or_a_store_that_names_files_outside_or_sizes_that_there_are_not_is_not_believed() {
    let (work, tiny) = with_stores();
    let plan: serde_json::Value =
        serde_json::from_slice(&fs::read(work.path("begun/partial/plan.json")).unwrap()).unwrap();
    let array = |file: &str, shape: serde_json::Value| serde_json::json!([{ "file": file, "cut": "features", "shape": shape }]);
    let huge = serde_json::json!(1_u64 << 60);
    for (key, value) in [
        ("arrays", array("../../outside.npy", [1280].into())),
        ("arrays", array("../outside.npy", [1280].into())),
        ("arrays", array("journal.jsonl", [1280].into())),
        ("arrays", array("features.npy", [u64::MAX, 2].into())),
        ("arrays", array("features.npy", [0].into())),
        ("pictures", huge.clone()),
        ("pictures", (1_u64 << 40).into()),
        ("feature_shape", [huge.clone(), huge.clone()].into()),
        ("feature_shape", [7].into()),
    ] {
        let out = work.path("out");
        copy_folder(&work.path("begun"), &out);
        let mut wrong = plan.clone();
        wrong[key] = value.clone();
        // As a stranger would: with a file as long as the plan says, which takes no room.
        if key == "pictures" {
            let length = (value.as_u64().unwrap().min(1 << 30)) * 5120 + 128;
            let sparse = File::options()
                .write(true)
                .open(out.join("partial/features.npy"));
            let _ = sparse.unwrap().set_len(length);
        }
        let json = serde_json::to_vec(&wrong).unwrap();
        fs::write(out.join("partial/plan.json"), json).unwrap();
        let said = run(&work, &format!("extract {tiny} --out out"));
        // It begins anew, or says that the features are others.
        assert!(
            matches!(said.code, Some(0 | 4)),
            "{key} {value}: {}",
            said.stderr
        );
        assert!(
            !said.stderr.contains("panicked"),
            "{key} {value}: {}",
            said.stderr
        );
        assert!(!work.path("outside.npy").exists() && !out.join("outside.npy").exists());
        fs::remove_dir_all(&out).unwrap();
    }

    let meta: serde_json::Value =
        serde_json::from_slice(&fs::read(work.path("done/meta.json")).unwrap()).unwrap();
    for (key, value) in [
        ("arrays", array("../done/features.npy", [1280].into())),
        ("arrays", array("features.npy", [u64::MAX, 2].into())),
        ("rows", huge.clone()),
        ("feature-shape", [huge.clone(), huge].into()),
        ("feature-shape", [0].into()),
    ] {
        let mut wrong = meta.clone();
        wrong[key] = value.clone();
        fs::write(
            work.path("done/meta.json"),
            serde_json::to_vec(&wrong).unwrap(),
        )
        .unwrap();
        let said = run(&work, "train done -o t.onnx --epochs 1");
        assert_eq!(said.code, Some(4), "{key} {value}: {}", said.stderr);
        assert!(
            said.stderr.contains("feature store done"),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    for name in ["pipe", "pipe.onnx", "net.toml", ".tl-x.tmp", "events.jsonl"] {
        fifo(&work.path(name));
    }
    fs::create_dir(work.path("store")).unwrap();
    fifo(&work.path("store/meta.json"));
    fs::write(work.path("net.onnx"), b"").unwrap();
    for line in [
        format!("predict pipe.onnx {tiny}/fish/fish1.jpg"),
        "verify pipe.onnx".into(),
        "summary pipe.onnx".into(),
        "summary ./net.onnx".into(),
        "train store -o t.onnx".into(),
        format!("extract {tiny} --out s --config pipe"),
        format!("extract {tiny} --out s --labels pipe"),
        "classify pipe".into(),
        "install pipe.onnx m.onnx".into(),
        "models add net.onnx --card pipe".into(),
    ] {
        let said = run(&work, &line);
        assert!(
            said.code.is_some_and(|code| code > 0),
            "{line}: {}",
            said.stderr
        );
        assert!(
            said.stderr.contains("not a regular file"),
            "{line}: {}",
            said.stderr
        );
    }
    // The one of the name of a temporary file is in nobody's way.
    let said = run(&work, &format!("extract {tiny} --out . --force"));
    assert_eq!(
        said.code,
        Some(4),
        "a folder of other things: {}",
        said.stderr
    );
    let said = run(
        &work,
        &format!("augment-preview {tiny} -o sheet.png --pictures 1"),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(work.path(".tl-x.tmp").exists());
}

#[test]
fn a_setting_may_come_from_standard_input() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_tl-batch");
    command.args([
        "-c",
        &format!(
            "echo 'dtype = \"float16\"' | {program} extract {tiny} --out s --config /dev/stdin"
        ),
    ]);
    let said = command.current_dir(work.path("")).output().unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let meta = fs::read_to_string(work.path("s/meta.json")).unwrap();
    assert!(meta.contains("float16"), "{meta}");
}

#[test]
fn features_that_become_shorter_under_a_training_are_an_error() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let said = run(&work, &format!("extract {tiny} --out s"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let mut child = work
        .command("train s -o t.onnx --epochs 200000 --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines
        .next()
        .unwrap()
        .unwrap()
        .contains("\"event\":\"epoch\"")
    {}
    let file = File::options()
        .write(true)
        .open(work.path("s/features.npy"));
    file.unwrap().set_len(200).unwrap();
    lines.for_each(drop);
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{stderr}");
    assert!(
        stderr.contains("s/features.npy: it was truncated"),
        "{stderr}"
    );
    assert!(!work.path("t.onnx").exists());
}

#[test]
fn the_card_of_a_stick_writes_nothing_outside_and_brings_no_other_base() {
    let work = Workplace::new();
    let card = fs::read_to_string(repository("models/efficientnet-lite0.toml")).unwrap();
    let own = fs::read(repository("models/efficientnet-lite0.onnx")).unwrap();
    let fetch = |card: &str| {
        let _ = fs::remove_dir_all(work.path("stick"));
        fs::create_dir_all(work.path("stick")).unwrap();
        fs::create_dir_all(work.path("home")).unwrap();
        fs::create_dir_all(work.path("victim")).unwrap();
        fs::write(work.path("victim/Cargo.toml"), "[package]").unwrap();
        fs::write(work.path("stick/net.toml"), card).unwrap();
        symlink(
            repository("models/efficientnet-lite0.onnx"),
            work.path("stick/link.onnx"),
        )
        .unwrap();
        fs::write(work.path("stick/net.onnx"), &own).unwrap();
        let said = work
            .command("models fetch net --from stick")
            .env("TL_MODELS", work.path("home"))
            .output();
        Said::from(said.unwrap())
    };
    let with = |name: &str, file: &str| {
        let lines = card.lines().map(|line| match line.split(" = ").next() {
            Some("name") => format!("name = {name:?}"),
            Some("file") => format!("file = {file:?}"),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    for (name, file, code, sentence) in [
        ("../victim/Cargo", "net.onnx", 4, "is not a plain name"),
        ("/tmp/tl-net", "net.onnx", 4, "is not a plain name"),
        ("..", "net.onnx", 4, "is not a plain name"),
        ("other", "net.onnx", 4, "is for `other`, not `net`"),
        (
            "net",
            "../victim/Cargo.toml",
            4,
            "is not a plain file name next to it",
        ),
        ("net", "net.toml", 4, "does not end in .onnx"),
        ("net", "link.onnx", 1, "outside the --from folder"),
    ] {
        let said = fetch(&with(name, file));
        assert_eq!(said.code, Some(code), "{name} {file}: {}", said.stderr);
        assert!(
            said.stderr.contains(sentence),
            "{name} {file}: {}",
            said.stderr
        );
        assert_eq!(
            fs::read(work.path("victim/Cargo.toml")).unwrap(),
            b"[package]"
        );
        assert_eq!(fs::read_dir(work.path("victim")).unwrap().count(), 1);
        assert_eq!(
            fs::read_dir(work.path("home")).unwrap().count(),
            0,
            "{name} {file}"
        );
    }
    let said = fetch(&with("net", "net.onnx"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(work.path("home/net.onnx").exists() && work.path("home/net.toml").exists());
}
