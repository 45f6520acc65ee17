//! The feature store: the same bytes however the run went, and open to others.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tl::features::FeatureStore;

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};

/// The files that must not depend on how a run went.
fn contents(store: &Path) -> Vec<Vec<u8>> {
    ["features.npy", "index.csv", "errors.csv", "meta.json"]
        .map(|f| fs::read(store.join(f)).unwrap())
        .into()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "waited too long for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_workers() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    fs::write(work.path("photos/fish/empty.jpg"), b"").unwrap();
    assert_eq!(
        work.run("extract photos --out one --workers 1").code,
        Some(0)
    );
    assert_eq!(
        work.run("extract photos --out five --workers 5").code,
        Some(0)
    );
    assert!(contents(&work.path("one")) == contents(&work.path("five")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_memory_changes_no_bytes_and_is_refused_where_it_is_too_little() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    assert_eq!(work.run("extract photos --out free").code, Some(0));
    let held = work.run("extract photos --out held --memory 1G");
    assert_eq!(held.code, Some(0), "{}", held.stderr);
    assert!(contents(&work.path("free")) == contents(&work.path("held")));
    let refused = work.run("extract photos --out refused --memory 20M");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let (said, advice) = ("for --memory: ", "use at least ");
    let has = |text| refused.stderr.contains(text);
    assert!(has(said) && has(advice), "{}", refused.stderr);
}

#[cfg(unix)]
#[test]
fn a_run_killed_at_any_instant_ends_with_the_bytes_of_an_undisturbed_one() {
    let work = Workplace::new();
    work.copy_tiny("photos", 5);
    fs::write(work.path("photos/hammer/empty.jpg"), b"").unwrap();
    assert_eq!(work.run("extract photos --out calm").code, Some(0));
    let mut resumed = 0;
    for journal_bytes in [0, 1, 5_000, 12_000] {
        let mut child = work.spawn("extract photos --out killed");
        let journal = work.path("killed/partial/journal.jsonl");
        wait_for("the journal to grow", || {
            fs::metadata(&journal).is_ok_and(|m| m.len() >= journal_bytes)
                || child.try_wait().unwrap().is_some()
        });
        // SIGKILL: nothing of the process can tidy up.
        child.kill().unwrap();
        child.wait().unwrap();
        resumed += usize::from(fs::metadata(&journal).is_ok_and(|m| m.len() > 0));
    }
    assert!(
        resumed > 0,
        "no run was killed between its first checkpoint and its end"
    );
    // A power cut can tear the last line of the journal.
    let journal = work.path("killed/partial/journal.jsonl");
    if let Ok(bytes) = fs::read(&journal) {
        fs::write(&journal, &bytes[..bytes.len().saturating_sub(10)]).unwrap();
    }
    assert_eq!(work.run("extract photos --out killed").code, Some(0));
    assert!(contents(&work.path("killed")) == contents(&work.path("calm")));
    assert!(!work.path("killed/partial").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly_and_says_how_to_go_on() {
    let work = Workplace::new();
    work.copy_tiny("photos", 20);
    let child = work
        .command("extract photos --out store")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first checkpoint", || {
        fs::metadata(work.path("store/partial/journal.jsonl")).is_ok_and(|m| m.len() > 0)
    });
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("stopped; run the same command again to resume"),
        "{said}"
    );
    let said = work.run("extract photos --out store");
    assert_eq!(said.code, Some(0));
    assert!(
        said.stderr.contains("reusing stored features"),
        "{}",
        said.stderr
    );
}

#[test]
fn only_new_and_changed_pictures_are_computed_again() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    assert_eq!(work.run("extract photos --out store").code, Some(0));
    let fish = repository("datasets/tiny/fish/fish1.jpg");
    fs::copy(&fish, work.path("photos/fish/new.jpg")).unwrap();
    fs::copy(&fish, work.path("photos/hammer/hammer1-0.jpg")).unwrap();
    fs::remove_file(work.path("photos/windmill/windmill1-0.jpg")).unwrap();
    let said = work.run("extract photos --out store --json");
    let done = said
        .stdout
        .lines()
        .filter(|l| l.contains("\"image_done\""))
        .count();
    assert_eq!(done, 2, "one is new, one was changed: {}", said.stdout);
    assert_eq!(work.run("extract photos --out fresh").code, Some(0));
    assert!(contents(&work.path("store")) == contents(&work.path("fresh")));
}

#[test]
fn a_second_run_on_the_same_store_is_refused() {
    let work = Workplace::new();
    work.copy_tiny("photos", 20);
    let mut first = work.spawn("extract photos --out store");
    wait_for("the first run to start", || {
        work.path("store/partial/plan.json").exists()
    });
    let said = work.run("extract photos --out store");
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    assert!(
        said.stderr.contains("store is in use by another run"),
        "{}",
        said.stderr
    );
    let said = work.run("extract photos --out store --force");
    assert_eq!(
        said.code,
        Some(5),
        "it is not removed either: {}",
        said.stderr
    );
    assert!(work.path("store/partial/plan.json").exists());
    let said = work.run("train store -o m.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(said.stderr.contains("it is incomplete"), "{}", said.stderr);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(
        work.run("extract photos --out store").code,
        Some(0),
        "the lock ended with its process"
    );
}

#[test]
fn what_is_left_of_the_beginning_of_a_run_is_replaced_by_force() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    for left in [".lock", "partial.new/plan.json", "partial.old/plan.json"] {
        let path = work.path("store").join(left);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
        let said = work.run("extract photos --out store --force");
        assert_eq!(said.code, Some(0), "{left}: {}", said.stderr);
        fs::remove_dir_all(work.path("store")).unwrap();
    }
}

#[test]
fn four_runs_at_once_on_one_store_leave_one_whole_store() {
    let work = Workplace::new();
    work.copy_tiny("photos", 2);
    assert_eq!(work.run("extract photos --out calm").code, Some(0));
    let line = "extract photos --out store";
    let codes: Vec<_> = (0..4)
        .map(|_| work.spawn(line))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|mut child| child.wait().unwrap().code())
        .collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|c| matches!(c, Some(0 | 5))), "{codes:?}");
    assert!(contents(&work.path("store")) == contents(&work.path("calm")));
}

#[test]
fn a_store_of_another_preprocessing_or_byte_order_is_refused_with_the_difference() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let base = repository("models/efficientnet-lite0.onnx");
    fs::copy(&base, work.path("other.onnx")).unwrap();
    let card = fs::read_to_string(base.with_extension("toml")).unwrap();
    fs::write(
        work.path("other.toml"),
        card.replace("std = [128.0, 128.0, 128.0]", "std = [127.0, 127.0, 127.0]"),
    )
    .unwrap();
    assert_eq!(work.run("extract photos --out store").code, Some(0));
    let said = work.run("extract photos --out store --model ./other.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("preprocessing is std [128.0,128.0,128.0], not std [127.0,127.0,127.0]"),
        "{}",
        said.stderr
    );

    let features = work.path("store/features.npy");
    let mut bytes = fs::read(&features).unwrap();
    let order = bytes.iter().position(|&b| b == b'<').unwrap();
    bytes[order] = b'>';
    fs::write(&features, &bytes).unwrap();
    let said = work.run("train store -o m.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr.contains("features.npy is big-endian"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_store_without_its_meta_or_of_another_version_is_refused() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    assert_eq!(work.run("extract photos --out store").code, Some(0));
    let meta = work.path("store/meta.json");
    let text = fs::read_to_string(&meta).unwrap();
    fs::write(
        &meta,
        text.replace("\"format-version\": 1", "\"format-version\": 99"),
    )
    .unwrap();
    let error = FeatureStore::open(&work.path("store"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("format version 99, this program reads version 1"),
        "{error}"
    );
    fs::remove_file(meta).unwrap();
    let error = FeatureStore::open(&work.path("store"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("it has no meta.json"), "{error}");
}

#[test]
fn numpy_and_a_csv_reader_open_the_store_without_us() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    fs::write(work.path("photos/fish/bad, \"quoted\".jpg"), b"").unwrap();
    for (flags, dtype) in [("", "float32"), (" --dtype float16", "float16")] {
        let store = format!("store-{dtype}");
        assert_eq!(
            work.run(&format!("extract photos --out {store}{flags}"))
                .code,
            Some(0)
        );
        let facts = run_python(&python, "open_store.py", &[&work.path(&store)], &[]);
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        assert_eq!(facts["shape"], serde_json::json!([24, 1280]));
        assert_eq!(facts["dtype"], dtype);
        assert_eq!(facts["memory_mapped"], true);
        assert_eq!(facts["rows_in_order"], true);
        assert_eq!(facts["finite"], true);
        assert_eq!(facts["index_rows"], 24);
        assert_eq!(
            facts["classes"],
            serde_json::json!(["fish", "hammer", "windmill"])
        );
        let ours = FeatureStore::open(&work.path(&store)).unwrap();
        let mut row = vec![0.0; 1280];
        let mut sum = 0.0_f64;
        for i in 0..24 {
            ours.matrix().row_into(i, &mut row).unwrap();
            sum += row.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        let theirs = facts["sum"].as_f64().unwrap();
        assert!((sum - theirs).abs() < 1e-3 * theirs, "{sum} {theirs}");
    }
}
