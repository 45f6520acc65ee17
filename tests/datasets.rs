//! Data sets as people have them: split folders of any name, folders of other systems, names that nearly agree,
//! copies, lists from spreadsheets, and folders that go away.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use tl::backbone::{Backbone, BackboneParams};
use tl::dataset::{Dataset, Layout};
use tl::features::{FeatureStore, PipelineParams, extract};
use tl::job::{FitConfig, overview};
use tl::progress::Progress;

use crate::program::{Said, Workplace, repository};

/// Copies `count` pictures of the class `class` of `tiny` into the folder `to`, beginning with the `skip`-th.
fn put(work: &Workplace, class: &str, to: &str, skip: usize, count: usize) {
    let from = repository("datasets/tiny").join(class);
    let mut files: Vec<_> = fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    fs::create_dir_all(work.path(to)).unwrap();
    for file in files.iter().skip(skip).take(count) {
        let name = file.file_name().unwrap();
        fs::copy(file, work.path(to).join(name)).unwrap();
    }
}

/// Number of pictures by class and split.
fn table(dataset: &Dataset) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sample in &dataset.samples {
        let class = sample.class.map_or("-", |c| &dataset.classes[c]);
        let split = sample.split.map_or("-", |split| split.name());
        *counts.entry(format!("{class} {split}")).or_default() += 1;
    }
    counts
}

fn open(work: &Workplace, name: &str) -> Dataset {
    Dataset::open(&work.path(name), None).unwrap()
}

fn assert_refused(said: &Said, words: &[&str]) {
    assert_eq!(said.code, Some(3), "{} {}", said.stdout, said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
}

#[test]
fn split_folders_of_any_name_are_splits() {
    for (about, places, splits) in [
        ("annotations", ["train", "val"], ["training", "validation"]),
        ("dev", ["train", "dev"], ["training", "validation"]),
        (
            "nested",
            ["seg_train/seg_train", "seg_test/seg_test"],
            ["training", "test"],
        ),
        ("capitals", ["TRAIN", "Eval"], ["training", "validation"]),
        (
            "sets",
            ["training_set/training_set", "test_set/test_set"],
            ["training", "test"],
        ),
        (
            "below",
            ["images/train", "images/val"],
            ["training", "validation"],
        ),
        ("no training", ["val", "test"], ["validation", "test"]),
    ] {
        let work = Workplace::new();
        for place in places {
            for class in ["fish", "hammer"] {
                put(&work, class, &format!("photos/{place}/{class}"), 0, 1);
            }
        }
        if about == "annotations" {
            put(&work, "fish", "photos/annotations", 0, 1);
        }
        let dataset = open(&work, "photos");
        assert_eq!(dataset.classes, ["fish", "hammer"], "{about}");
        let expected = ["fish", "hammer"]
            .iter()
            .flat_map(|class| splits.map(|split| (format!("{class} {split}"), 1)));
        assert_eq!(table(&dataset), expected.collect(), "{about}");
        let said = dataset.warnings.join("\n");
        assert_eq!(
            said.contains("ignored annotations: it is not a split folder"),
            about == "annotations"
        );
    }
}

#[test]
fn folders_that_are_neither_splits_nor_classes_end_a_run_by_name() {
    let work = Workplace::new();
    put(&work, "fish", "flat/train", 0, 2);
    put(&work, "hammer", "flat/test", 0, 1);
    let said = work.run("fit flat -o m.onnx");
    assert_refused(&said, &["no class folders in `test` and `train`"]);

    for class in ["fish", "hammer"] {
        put(&work, class, &format!("mixed/train/{class}"), 0, 1);
    }
    put(&work, "windmill", "mixed/windmill", 0, 1);
    let said = work.run("fit mixed -o m.onnx");
    assert_refused(
        &said,
        &["`windmill` is next to `train`", "--layout classes"],
    );
    let opened = |layout| Dataset::open_as(&work.path("mixed"), None, layout).unwrap();
    assert_eq!(opened(Layout::Classes).classes, ["train", "windmill"]);
    assert_eq!(opened(Layout::Splits).classes, ["fish", "hammer"]);
    assert_eq!(opened(Layout::Flat).samples.len(), 3);

    for (split, class) in [("val", "fish"), ("val", "hammer"), ("test", "fish")] {
        put(&work, class, &format!("held/{split}/{class}"), 0, 1);
    }
    for command in [
        "fit held -o m.onnx",
        "finetune efficientnet-lite0 held -o m.onnx --unfreeze-from 10%",
    ] {
        let said = work.run(command);
        assert_refused(
            &said,
            &["validation and test images, but no training images"],
        );
    }
    // The setting is written down, and a file of settings may have it.
    fs::write(
        work.path("run.toml"),
        "dataset = 'flat'\noutput = 'm.onnx'\nlayout = 'flat'\n",
    )
    .unwrap();
    let said = work.run("fit --config run.toml");
    assert_refused(&said, &["its images have no classes"]);
}

#[test]
fn doubtful_classes_are_told_of_and_the_run_goes_on() {
    let work = Workplace::new();
    put(&work, "fish", "photos/train/Fish", 0, 2);
    put(&work, "fish", "photos/val/fish", 2, 1);
    put(&work, "hammer", "photos/train/caf\u{e9}", 0, 2);
    put(&work, "hammer", "photos/val/cafe\u{301}", 2, 1);
    put(&work, "hammer", "photos/train/@eaDir", 0, 2);
    fs::create_dir_all(work.path("photos/train/zebra")).unwrap();
    fs::create_dir_all(work.path("photos/train/broken")).unwrap();
    fs::write(work.path("photos/train/broken/a.jpg"), b"x").unwrap();
    let warnings = [
        "the classes `Fish` with 2 images and `fish` with 1 image have almost the same name",
        "look alike but are spelled differently",
        "the class `fish` has no training images",
        "ignored the class folder train/zebra: it has no images",
        "ignored the folder @eaDir: it is not a class (2 images in it)",
    ];
    let said = work.run("fit photos -o m.onnx --epochs 1");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let after = "the class `broken` has no usable image";
    for words in warnings.iter().chain([&after]) {
        let found = said.stderr.matches(words).count();
        assert_eq!(found, 1, "{words}: {}", said.stderr);
    }
    // The dashboard shows them before anything is computed, and a program gets them as events.
    let config = FitConfig {
        dataset: work.path("photos"),
        ..FitConfig::default()
    };
    let shown = overview(&config).unwrap().warnings.join("\n");
    let json = work.run("extract photos --out m.features --json").stdout;
    for words in warnings {
        assert!(shown.contains(words), "{words}: {shown}");
        let line = json.lines().find(|line| line.contains(words)).unwrap();
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["event"], "warning", "{line}");
    }
}

#[test]
fn the_same_bytes_in_two_classes_or_splits_are_counted_and_named() {
    let work = Workplace::new();
    put(&work, "fish", "photos/train/a", 0, 2);
    put(&work, "fish", "photos/train/b", 0, 1);
    put(&work, "hammer", "photos/train/c", 0, 2);
    put(&work, "hammer", "photos/val/c", 0, 1);
    let mixed = "2 identical images in more than one class (for example, train/a/fish1.jpg and train/b/fish1.jpg)";
    let leaked = "1 image in the validation and test splits is also in the training split (for example, val/c/hammer1.jpg and train/c/hammer1.jpg)";
    for command in [
        "extract photos --out m.features",
        "train m.features -o m.onnx --epochs 1",
        "fit photos -o m.onnx --epochs 1",
    ] {
        let said = work.run(&format!("{command} --force"));
        assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
        for words in [mixed, leaked] {
            let found = said.stderr.matches(words).count();
            assert_eq!(found, 1, "{command}: {words}: {}", said.stderr);
        }
        let said = work.run(&format!("{command} --strict --force"));
        assert_refused(&said, &[mixed, "--strict"]);
    }
}

/// A data set with `missing` taken away after it was listed, as it is extracted.
fn extracted(
    work: &Workplace,
    params: &PipelineParams,
    take_away: impl FnOnce(),
) -> tl::Result<FeatureStore> {
    let dataset = Dataset::open(&work.path("photos"), None).unwrap();
    take_away();
    let backbone = Backbone::open(&BackboneParams {
        model: "efficientnet-lite0".into(),
        ..BackboneParams::default()
    })
    .unwrap();
    let out = work.path("store");
    extract(&backbone, &dataset, &out, params, &Progress::silent())
}

#[test]
fn a_class_that_goes_away_is_an_error_and_nothing_is_lost() {
    let work = Workplace::new();
    for class in ["fish", "hammer"] {
        put(&work, class, &format!("photos/{class}"), 0, 2);
    }
    let away = || fs::rename(work.path("photos/fish"), work.path("fish")).unwrap();
    let params = PipelineParams::default();
    let error = extracted(&work, &params, away).err().unwrap();
    assert_eq!(error.exit_code(), 3);
    let error = error.to_string();
    for words in [
        "none of `fish` is left",
        "features of the other 2 are kept",
        "--allow-missing",
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert!(FeatureStore::open(&work.path("store")).is_err());
    fs::rename(work.path("fish"), work.path("photos/fish")).unwrap();
    let store = extracted(&work, &params, || ()).unwrap();
    assert_eq!((store.meta().rows, store.meta().errors), (4, 0));

    fs::remove_dir_all(work.path("store")).unwrap();
    let params = PipelineParams {
        allow_missing: true,
        ..PipelineParams::default()
    };
    let store = extracted(&work, &params, || {
        fs::remove_dir_all(work.path("photos/fish")).unwrap();
    });
    let store = store.unwrap();
    assert_eq!((store.meta().rows, store.meta().errors), (2, 2));
}

#[test]
fn a_share_that_is_unmounted_during_a_run_ends_it_and_the_next_run_goes_on() {
    let work = Workplace::new();
    work.copy_tiny("photos", 3);
    let mut child = work
        .command("fit photos -o m.onnx --epochs 1 --json --workers 1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().contains("image_done"));
    fs::rename(work.path("photos"), work.path("gone")).unwrap();
    assert!(begun);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("it disappeared while being read"), "{said}");
    let last: serde_json::Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"failed".into(), &3.into())
    );
    assert!(!work.path("m.onnx").exists());

    fs::rename(work.path("gone"), work.path("photos")).unwrap();
    let said = work.run("fit photos -o m.onnx --epochs 1");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("reusing stored features"),
        "{}",
        said.stderr
    );
    let store = FeatureStore::open(&work.path("m.features")).unwrap();
    assert_eq!((store.meta().rows, store.meta().errors), (72, 0));
}

#[test]
fn more_than_a_tenth_of_bad_pictures_and_a_score_over_none_are_errors() {
    let work = Workplace::new();
    for class in ["fish", "hammer"] {
        put(&work, class, &format!("photos/{class}"), 0, 2);
        fs::create_dir_all(work.path("bad").join(class)).unwrap();
        fs::write(work.path("bad").join(class).join("a.jpg"), b"x").unwrap();
    }
    let said = work.run("fit photos -o m.onnx --epochs 1");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for more in ["", " --allow-missing"] {
        let said = work.run(&format!("evaluate m.onnx bad{more}"));
        assert_refused(&said, &["none of its 2 images can be used"]);
    }
    for i in 0..3 {
        fs::write(work.path(&format!("photos/fish/bad{i}.jpg")), b"x").unwrap();
    }
    for command in ["extract photos --out store", "evaluate m.onnx photos"] {
        let said = work.run(command);
        assert_refused(&said, &["3 of 7 images could not be used, more than 10 %"]);
        let said = work.run(&format!("{command} --allow-missing"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    put(&work, "fish", "near/Fish", 0, 1);
    put(&work, "hammer", "near/hammer", 0, 1);
    let said = work.run("evaluate m.onnx near");
    assert!(
        said.stderr.contains("rename it to `fish`"),
        "{}",
        said.stderr
    );
}

#[test]
fn lists_of_spreadsheets_are_understood_or_refused_with_what_to_do() {
    let work = Workplace::new();
    put(&work, "fish", "d", 0, 2);
    put(&work, "hammer", "d/sub", 0, 2);
    let plain = "fish1.jpg,fish\nfish25.jpg,fish\nsub/hammer1.jpg,hammer\nsub/hammer2.jpg,hammer\n";
    let utf16: Vec<u8> = format!("\u{feff}{plain}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let swapped: String = plain
        .lines()
        .map(|line| {
            let (path, label) = line.split_once(',').unwrap();
            format!("{label},{path}\n")
        })
        .collect();
    for (about, text) in [
        ("semicolons", plain.replace(',', ";").into_bytes()),
        ("tabs", plain.replace(',', "\t").into_bytes()),
        ("UTF-16", utf16),
        ("backslashes", plain.replace('/', "\\").into_bytes()),
        ("swapped", swapped.clone().into_bytes()),
        (
            "swapped with a header",
            format!("label,filename\n{swapped}").into_bytes(),
        ),
        ("own folder", plain.replace("fish1", "d/fish1").into_bytes()),
    ] {
        fs::write(work.path("list.csv"), text).unwrap();
        let dataset = Dataset::open(&work.path("d"), Some(&work.path("list.csv"))).unwrap();
        assert_eq!(dataset.classes, ["fish", "hammer"], "{about}");
        assert_eq!(dataset.samples.len(), 4, "{about}");
        let said = [dataset.notes, dataset.warnings].concat();
        assert_eq!(
            said.len(),
            usize::from(about != "UTF-16"),
            "{about}: {said:?}"
        );
    }
    for (text, words) in [
        ("", "the list is empty"),
        ("filename,label\n", "has only a header"),
        (
            "./fish1.jpg,fish\nfish1.jpg,hammer\n",
            "line 2: `fish1.jpg` is the same file as `./fish1.jpg` in line 1",
        ),
        (
            "hammer1.jpg,hammer\n",
            "relative to the dataset, separated by /",
        ),
        (
            "fish1.jpg,fish\na.jpg,cat\n",
            "none of the listed files of `cat` exists",
        ),
    ] {
        fs::write(work.path("list.csv"), text).unwrap();
        let said = work.run("fit d --labels list.csv -o m.onnx");
        assert_refused(&said, &[words, "list.csv"]);
    }
    let text = "fish1.jpg,fish\nfish25.jpg,FISH\nsub/hammer1.jpg,\"hammer\nerror: forged\"\n";
    fs::write(work.path("list.csv"), text).unwrap();
    let dataset = Dataset::open(&work.path("d"), Some(&work.path("list.csv"))).unwrap();
    let said = dataset.warnings.join(" | ");
    assert!(said.contains("`FISH` with 1 image and `fish`"), "{said}");
    assert!(
        said.contains("1 label in the list has a line break in it, the first at line 3"),
        "{said}"
    );
    assert!(!said.contains('\n'), "{said}");
}

#[cfg(unix)]
#[test]
fn class_folders_that_are_not_utf8_are_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let work = Workplace::new();
    for name in [&b"K\xe4fer"[..], b"K\xf6fer", b"ok"] {
        let folder = work.path("photos").join(OsStr::from_bytes(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.jpg"), b"x").unwrap();
    }
    let said = work.run("fit photos -o m.onnx");
    assert_refused(&said, &["`K\\xE4fer`, `K\\xF6fer`", "convmv"]);
    assert!(!Path::new(&work.path("m.features")).exists());
}
