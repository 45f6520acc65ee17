//! Runs that are killed, cut off from power, out of room, hung up on: whatever happened, the same command
//! again ends with the bytes of an undisturbed run.
//!
//! The campaigns are short here. `TL_CAMPAIGN=200 cargo test campaign` kills 200 times, and makes every step
//! of writing fail once in every way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Said, Workplace, repository};
use crate::skipped::skip;

/// How many times each of the two campaigns disturbs a run; none for the short form.
fn asked_for() -> Option<usize> {
    std::env::var("TL_CAMPAIGN").ok()?.parse().ok()
}

/// Numbers that look random and are the same in each run: the upper half of a 64-bit congruential generator
/// (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// A command and the files that it makes, which must not depend on how it came to its end.
struct Deed {
    /// What the command needs beforehand.
    before: Option<&'static str>,
    line: &'static str,
    outputs: &'static [&'static str],
}

const EXTRACT: Deed = Deed {
    before: None,
    line: "extract photos --out store --model ./small.onnx --input-size 32",
    outputs: &["store"],
};

const TRAIN: Deed = Deed {
    before: Some("extract photos --out store --model ./small.onnx --input-size 32"),
    line: "train store -o m.onnx --epochs 20",
    outputs: &["m.onnx", "m.run.toml"],
};

const FIT: Deed = Deed {
    before: None,
    line: "fit photos -o m.onnx --model ./small.onnx --input-size 32 --epochs 10",
    outputs: &["m.onnx", "m.run.toml", "m.features"],
};

const FINETUNE: Deed = Deed {
    before: None,
    line: "finetune ./small.onnx photos --unfreeze-from conv2 --input-size 32 -o t.onnx --epochs 5 --tune-epochs 3",
    outputs: &["t.onnx", "t.run.toml", "t.maps"],
};

/// The bytes of the files below `path` by their names, but for the events, which tell of one run.
fn contents(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            contents(&entry.unwrap().path(), found);
        }
    } else if !matches!(
        path.file_name().unwrap().to_str(),
        Some("events.jsonl" | ".lock")
    ) {
        found.insert(path.to_owned(), fs::read(path).unwrap());
    }
}

/// Pictures, one of which cannot be used: rows are moved up at the end. And a small base.
fn prepare(work: &Workplace) {
    work.copy_tiny("photos", 1);
    fs::copy(repository("tests/data/small.onnx"), work.path("small.onnx")).unwrap();
    fs::write(work.path("photos/fish/empty.jpg"), b"").unwrap();
}

/// All files of a work place but the pictures, with their names in it.
fn results(work: &Workplace, deed: &Deed) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for output in deed.outputs {
        contents(&work.path(output), &mut found);
    }
    let root = work.path("");
    found
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes))
        .collect()
}

/// A work place where the deed can begin, with the pictures of another: a store knows them by their times.
fn begin(ground: &Workplace, deed: &Deed) -> Workplace {
    let work = Workplace::new();
    for name in ["photos", "small.onnx"] {
        std::os::unix::fs::symlink(ground.path(name), work.path(name)).unwrap();
    }
    if let Some(line) = deed.before {
        let said = work.run(line);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    work
}

/// Runs the deed again to its end. A run that was killed when its output had its name already is told so.
fn go_on(work: &Workplace, deed: &Deed) -> Said {
    let said = work.run(deed.line);
    match said.code {
        Some(5) => work.run(&format!("{} --force", deed.line)),
        _ => said,
    }
}

/// What is wrong after a disturbed run was gone on with; none if nothing is.
fn problem(work: &Workplace, deed: &Deed, calm: &BTreeMap<PathBuf, Vec<u8>>) -> Option<String> {
    let said = go_on(work, deed);
    if said.code != Some(0) {
        return Some(format!("{:?}: {}", said.code, said.stderr));
    }
    let found = results(work, deed);
    for (path, bytes) in calm {
        if found.get(path) != Some(bytes) {
            return Some(format!("{} is not the same", path.display()));
        }
    }
    let more: Vec<_> = found
        .keys()
        .filter(|path| !calm.contains_key(*path))
        .collect();
    if !more.is_empty() {
        return Some(format!("{more:?} should not be there"));
    }
    let entries = fs::read_dir(work.path("")).unwrap();
    let left: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".tl-") || name.ends_with(".checkpoint"))
        .collect();
    (!left.is_empty()).then(|| format!("{left:?} is left"))
}

#[test]
fn killed_at_random_instants_all_commands_end_with_the_same_bytes() {
    let deeds = [EXTRACT, TRAIN, FIT, FINETUNE];
    let kills = asked_for().unwrap_or(8).div_ceil(deeds.len());
    let mut random = Random(8);
    let mut wrong = Vec::new();
    let (mut hit, mut late) = (0, 0);
    let ground = Workplace::new();
    prepare(&ground);
    for deed in &deeds {
        let work = begin(&ground, deed);
        let started = Instant::now();
        let said = work.run(deed.line);
        let lasts = started.elapsed();
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let calm = results(&work, deed);
        for _ in 0..kills {
            let work = begin(&ground, deed);
            let instant = lasts.mul_f64(random.below(1000) as f64 / 1000.0);
            let mut child = work.spawn(deed.line);
            std::thread::sleep(instant);
            // SIGKILL: nothing of the process can tidy up.
            child.kill().unwrap();
            match child.wait().unwrap().code() {
                None => hit += 1,
                Some(_) => late += 1,
            }
            let found = problem(&work, deed, &calm);
            wrong.extend(found.map(|p| format!("{} after {instant:?}: {p}", deed.line)));
        }
    }
    eprintln!("killed {hit} times; {late} runs had ended before");
    assert!(hit > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The steps of writing of the deed, in their order.
fn steps(ground: &Workplace, deed: &Deed) -> Vec<String> {
    let work = begin(ground, deed);
    let log = work.path("steps");
    let status = work
        .command(deed.line)
        .env("TL_FAULT_LOG", &log)
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[cfg(debug_assertions)]
#[test]
fn whatever_step_of_writing_fails_the_same_command_again_ends_with_the_same_bytes() {
    const KINDS: [&str; 6] = ["kill", "torn", "power", "full", "quota", "io"];
    let mut random = Random(88);
    let mut wrong = Vec::new();
    let mut faults = 0;
    let ground = Workplace::new();
    prepare(&ground);
    for (deed, short) in [(EXTRACT, 10), (TRAIN, 5), (FINETUNE, 5)] {
        let work = begin(&ground, &deed);
        assert_eq!(work.run(deed.line).code, Some(0));
        let calm = results(&work, &deed);
        let steps = steps(&ground, &deed);
        let all = (0..steps.len()).flat_map(|step| KINDS.map(|kind| (step, kind)));
        let chosen: Vec<_> = match asked_for() {
            Some(_) => all.collect(),
            None => (0..short)
                .map(|i| (random.below(steps.len()), KINDS[i % KINDS.len()]))
                .collect(),
        };
        for (step, kind) in chosen {
            let work = begin(&ground, &deed);
            let said = Said::from(
                work.command(deed.line)
                    .env("TL_FAULT", format!("{kind}@{}", step + 1))
                    .output()
                    .unwrap(),
            );
            faults += 1;
            let about = format!(
                "{} with {kind} at step {} ({})",
                deed.line,
                step + 1,
                steps[step]
            );
            let ended = match kind {
                "full" | "quota" => {
                    said.code == Some(0)
                        || said.code == Some(1) && said.stderr.contains("free some space")
                }
                "io" => said.code == Some(1) && said.stderr.contains("error: cannot "),
                _ => said.code.is_none(),
            };
            if !ended || said.stderr.contains("panicked") {
                wrong.push(format!("{about}: {:?}, {}", said.code, said.stderr));
            }
            wrong.extend(problem(&work, &deed, &calm).map(|p| format!("{about}: {p}")));
        }
    }
    eprintln!("{faults} faults");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A small file system in memory; gone when dropped.
#[cfg(target_os = "linux")]
struct Tmpfs(PathBuf);

#[cfg(target_os = "linux")]
impl Tmpfs {
    /// None if this user may not mount.
    fn mount(at: PathBuf, kib: usize) -> Option<Tmpfs> {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={kib}k");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&at)
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|s| s.success()).then_some(Tmpfs(at))
    }

    fn resize(&self, kib: usize) {
        let options = format!("remount,size={kib}k");
        let status = std::process::Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_after_room_is_made_the_run_goes_on() {
    let work = Workplace::new();
    prepare(&work);
    assert_eq!(work.run(EXTRACT.line).code, Some(0));
    let calm = results(&work, &EXTRACT);
    let Some(disk) = Tmpfs::mount(work.path("small"), 4) else {
        skip("this user may not mount a file system");
        return;
    };
    let line = EXTRACT.line.replace("--out store", "--out small/store");
    let mut kib = 4;
    let mut full = 0;
    loop {
        let said = work.run(&line);
        if said.code == Some(0) {
            break;
        }
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(
            said.stderr.contains("No space left on device")
                && said
                    .stderr
                    .contains("free some space and run the same command again"),
            "{}",
            said.stderr
        );
        full += 1;
        kib += 4;
        assert!(kib < 400, "no room is ever enough");
        disk.resize(kib);
    }
    eprintln!("full {full} times, enough at {kib} KiB");
    assert!(full > 5, "{full}");
    for name in ["features.npy", "index.csv", "errors.csv", "meta.json"] {
        let bytes = fs::read(work.path("small/store").join(name)).unwrap();
        assert!(calm[&Path::new("store").join(name)] == bytes, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_target_that_cannot_be_written_is_an_error_with_its_path() {
    let work = Workplace::new();
    prepare(&work);
    let Some(disk) = Tmpfs::mount(work.path("closed"), 64) else {
        skip("this user may not mount a file system");
        return;
    };
    let status = std::process::Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&disk.0)
        .status();
    assert!(status.unwrap().success());
    for line in [
        "extract photos --out closed/store",
        "fit photos -o closed/m.onnx",
    ] {
        let said = work.run(line);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(
            said.stderr.contains("error: cannot ") && said.stderr.contains("closed/"),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn readers_that_go_away_end_nothing() {
    let work = Workplace::new();
    prepare(&work);
    for (out, flags) in [("a", ""), ("b", " --json")] {
        let mut child = work
            .command(&format!("extract photos --out {out}{flags}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(work.path(out).join("meta.json").exists());
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = work
        .command("classify photos/fish/fish1-0.jpg")
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: cannot write standard output"),
        "{said}"
    );
}

fn wait_for_checkpoint(work: &Workplace, child: &mut Child) {
    let started = Instant::now();
    while fs::metadata(work.path("store/partial/journal.jsonl")).map_or(0, |m| m.len()) == 0 {
        assert!(started.elapsed() < Duration::from_secs(120));
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn signals_stop_a_run_so_that_it_can_go_on() {
    let work = Workplace::new();
    work.copy_tiny("photos", 10);
    assert_eq!(work.run("extract photos --out calm").code, Some(0));
    for signals in [
        &["-TERM"][..],
        &["-HUP"],
        &["-INT", "-INT"],
        &["-STOP", "-CONT", "-TERM"],
    ] {
        let mut child = work.spawn("extract photos --out store --workers 1");
        wait_for_checkpoint(&work, &mut child);
        for name in signals {
            signal(&child, name);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signals:?}");
        assert!(work.path("store/partial").exists(), "{signals:?}");
        fs::rename(work.path("store"), work.path(&signals.concat())).unwrap();
    }
    fs::rename(work.path("-TERM"), work.path("store")).unwrap();
    let said = work.run("extract photos --out store");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for name in ["features.npy", "index.csv", "errors.csv", "meta.json"] {
        let bytes = |out: &str| fs::read(work.path(out).join(name)).unwrap();
        assert!(bytes("calm") == bytes("store"), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_under_nohup_goes_on_when_its_terminal_hangs_up() {
    let work = Workplace::new();
    work.copy_tiny("photos", 10);
    let mut command = std::process::Command::new("nohup");
    let own = work.command("extract photos --out store --workers 1");
    command
        .arg(own.get_program())
        .args(own.get_args())
        .current_dir(work.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for_checkpoint(&work, &mut child);
    signal(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
