//! `tl-batch watch`: pictures as they arrive.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Workplace, repository};

/// A watch that runs, and its lines.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(work: &Workplace, line: &str) -> Watch {
        let mut child = work
            .command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says so when it watches.
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("watching ") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watch { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// Asks it to end, as a service manager does; its exit code.
    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

fn photo(name: &str) -> std::path::PathBuf {
    repository("datasets/tiny").join(name)
}

fn with_model() -> Workplace {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny");
    let said = work.run(&format!("fit {} -o m.onnx --epochs 20", tiny.display()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    fs::create_dir(work.path("in")).unwrap();
    work
}

#[test]
fn pictures_are_labelled_as_they_arrive_and_sigterm_ends_it_well() {
    let work = with_model();
    fs::copy(photo("hammer/hammer1.jpg"), work.path("in/old.jpg")).unwrap();
    let mut watch = Watch::start(&work, "watch in m.onnx --existing --top 2");
    let line = watch.next();
    assert_eq!(
        (&line["path"], &line["label"]),
        (&"in/old.jpg".into(), &"hammer".into())
    );
    assert_eq!(line["top"].as_array().unwrap().len(), 2);

    fs::copy(photo("fish/fish1.jpg"), work.path("in/a.jpg")).unwrap();
    let line = watch.next();
    assert_eq!(
        (&line["path"], &line["label"]),
        (&"in/a.jpg".into(), &"fish".into())
    );
    assert!(line["probability"].as_f64().unwrap() > 0.5, "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");

    fs::write(work.path("in/bad.jpg"), "no picture").unwrap();
    let line = watch.next();
    assert!(
        line["error"].as_str().unwrap().contains("is not an image"),
        "{line}"
    );
    assert_eq!(watch.end(), Some(0));
    assert!(
        work.path("in/a.jpg").exists(),
        "nothing is removed unless asked for"
    );
}

#[test]
fn a_trigger_runs_its_command_and_what_is_done_with_is_removed() {
    let work = with_model();
    let mut command =
        work.command("watch in m.onnx --delete --trigger fish>0.5 --output out.jsonl --run");
    command.arg("echo $TL_LABEL $(basename $TL_PATH) $(test -s $TL_PATH && echo there) >> ran");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("watching ") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    for name in ["fish/fish1.jpg", "hammer/hammer1.jpg"] {
        let to = work.path("in").join(name.replace('/', "-"));
        fs::copy(photo(name), to).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read_dir(work.path("in")).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the pictures stay");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        fs::read_to_string(work.path("ran")).unwrap(),
        "fish fish-fish1.jpg there\n"
    );
    let lines = fs::read_to_string(work.path("out.jsonl")).unwrap();
    let marked: Vec<bool> = lines
        .lines()
        .map(|l| l.contains("\"triggers\":[\"fish>0.5\"]"))
        .collect();
    assert_eq!(
        (marked.len(), marked.iter().filter(|&&m| m).count()),
        (2, 1),
        "{lines}"
    );
}

#[test]
fn a_folder_that_is_made_anew_is_watched_on() {
    let work = with_model();
    let mut watch = Watch::start(&work, "watch in m.onnx");
    // Somebody is still in the old one, so that the system does not tell that it is gone.
    let _held = fs::File::open(work.path("in")).unwrap();
    fs::remove_dir_all(work.path("in")).unwrap();
    fs::create_dir(work.path("in")).unwrap();
    fs::copy(photo("fish/fish1.jpg"), work.path("in/a.jpg")).unwrap();
    assert_eq!(watch.next()["label"], "fish");
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_new_model_is_used_once_it_is_verified_and_a_bad_one_is_not() {
    let work = with_model();
    let tiny = repository("datasets/tiny");
    let said = work.run(&format!(
        "fit {} -o n.onnx --epochs 5 --seed 3",
        tiny.display()
    ));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let mut watch = Watch::start(&work, "watch in m.onnx --trigger fish>0.9");
    let picture = |number: u32| {
        fs::copy(
            photo("fish/fish1.jpg"),
            work.path(&format!("in/{number}.jpg")),
        )
        .unwrap();
    };
    picture(1);
    let first = watch.next();
    assert_eq!(first["label"], "fish");

    // A model that is cut off, as by a copy that was broken off.
    let bytes = fs::read(work.path("n.onnx")).unwrap();
    fs::write(work.path("bad"), &bytes[..bytes.len() / 2]).unwrap();
    fs::rename(work.path("bad"), work.path("m.onnx")).unwrap();
    let mut number = 1;
    let mut next_of_model = |watch: &mut Watch| loop {
        number += 1;
        picture(number);
        let line = watch.next();
        if line["event"] == "model" {
            // The picture comes behind it.
            return (line, watch.next());
        }
        assert_eq!(line["label"], "fish", "{line}");
        assert_eq!(line["probability"], first["probability"], "{line}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let (news, line) = next_of_model(&mut watch);
    let error = news["error"].as_str().unwrap();
    assert!(error.contains("keeping the old model"), "{error}");
    assert_eq!(line["probability"], first["probability"]);

    fs::rename(work.path("n.onnx"), work.path("m.onnx")).unwrap();
    let (news, line) = next_of_model(&mut watch);
    assert_eq!(news["sha256"].as_str().unwrap().len(), 64, "{news}");
    assert_eq!(line["label"], "fish");
    assert_ne!(line["probability"], first["probability"]);
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn sigterm_ends_a_command_that_runs() {
    let work = with_model();
    let mut command = work.command("watch in m.onnx --trigger fish>0.5 --run");
    let mut child = command
        .arg("touch started; sleep 1000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("watching ") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    fs::copy(photo("fish/fish1.jpg"), work.path("in/a.jpg")).unwrap();
    while !work.path("started").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let asked = Command::new("kill").arg(child.id().to_string()).status();
    assert!(asked.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Whoever still had it open would keep this from ending.
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(
        said.contains("the --run command ended with signal: 15"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_watched_is_said_before_it_begins() {
    let work = with_model();
    for (line, code, sentence) in [
        ("watch nowhere m.onnx", 3, "folder nowhere does not exist"),
        ("watch m.onnx m.onnx", 3, "is not a folder"),
        (
            "watch in nothing.onnx",
            4,
            "model nothing.onnx does not exist",
        ),
        (
            "watch in m.onnx --trigger dog>0.5",
            2,
            "the model has no class `dog`; it has fish, hammer, windmill",
        ),
        (
            "watch in m.onnx --queue 0",
            2,
            "invalid value `0` for --queue: must be from 1 to 100000",
        ),
    ] {
        let said = work.run(line);
        assert_eq!(said.code, Some(code), "{line}: {}", said.stderr);
        assert!(said.stderr.contains(sentence), "{line}: {}", said.stderr);
    }
}
