//! Augmentation through `tl-batch`: views that are kept, the sheet, the recipes.

use std::fs;

use serde_json::Value;

use tl::pixels::{Picture, RandOperation};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};

#[test]
fn views_of_training_pictures_are_extracted_once_and_trained_on() {
    let work = Workplace::new();
    let line = format!(
        "fit {} -o a.onnx --epochs 20 --augment default --views 2",
        repository("datasets/tiny").display()
    );
    let said = work.run(&line);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );
    let families: Vec<_> = fs::read_dir(work.path("a.views"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(families.len(), 1);
    let index = fs::read_to_string(families[0].join("2/index.csv")).unwrap();
    // Six of the 24 pictures are held out: they have no view.
    assert_eq!(index.lines().count(), 1 + 18, "{index}");
    let features = |number: &str| fs::read(families[0].join(number).join("features.npy")).unwrap();
    assert!(features("1") != features("2"));

    let before = fs::read(work.path("a.onnx")).unwrap();
    let said = work.run(&format!("{line} --force"));
    assert_eq!(
        said.stderr
            .matches("reusing stored features of 18 images")
            .count(),
        2,
        "{}",
        said.stderr
    );
    assert!(before == fs::read(work.path("a.onnx")).unwrap());
    // Other views: nothing of the old ones is taken for them.
    let other = line.replace("default", "RandomFlip=horizontal");
    let said = work.run(&format!("{other} --force"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(fs::read_dir(work.path("a.views")).unwrap().count(), 2);
    assert!(before != fs::read(work.path("a.onnx")).unwrap());
}

#[test]
fn live_views_are_new_at_every_epoch() {
    let work = Workplace::new();
    let line = format!(
        "fit {} -o a.onnx --epochs 3 --augment RandAugment=0.5 --views",
        repository("datasets/tiny").display()
    );
    let said = work.run(&format!("{line} live"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let family = fs::read_dir(work.path("a.views")).unwrap().next().unwrap();
    let count = || {
        fs::read_dir(family.as_ref().unwrap().path())
            .unwrap()
            .count()
    };
    assert_eq!(count(), 3);
    let live = fs::read(work.path("a.onnx")).unwrap();
    // The same three views, but drawn: another model.
    let said = work.run(&format!("{line} 3 --force"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(count(), 3);
    assert!(live != fs::read(work.path("a.onnx")).unwrap());
    let said = work.run(&format!("{line} 0 --force"));
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("or live"), "{}", said.stderr);
}

#[test]
fn a_sheet_shows_the_views() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let said = work.run(&format!("augment-preview {tiny} -o sheet.png --pictures 3"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let (width, height) = image::image_dimensions(work.path("sheet.png")).unwrap();
    assert_eq!((width, height), (9 * 134 + 6, 3 * 134 + 6));
    assert!(
        said.stdout.contains("RandomFlip=horizontal"),
        "{}",
        said.stdout
    );
    let said = work.run(&format!(
        "augment-preview {tiny} -o other.png --augment RandomShear=1"
    ));
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("unknown layer RandomShear"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_recipe_is_a_word_for_settings() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let said = work.run(&format!("fit {tiny} -o m.onnx --recipe mlp --epochs 3"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config = fs::read_to_string(work.path("m.run.toml")).unwrap();
    assert!(config.contains("hidden = [256]"), "{config}");
    let said = work.run(&format!(
        "fit {tiny} -o f.onnx --recipe finetune --unfreeze-from 15% --epochs 3"
    ));
    assert_eq!(
        said.code,
        Some(2),
        "fit has no --unfreeze-from: {}",
        said.stderr
    );
}

#[test]
fn the_best_recipe_is_the_one_that_its_folds_show_to_be() {
    let work = Workplace::new();
    let tiny = repository("datasets/tiny").display().to_string();
    let command = format!("fit {tiny} -o b.onnx --recipe best --folds 3 --epochs 3 --views 1");
    // No time but for the first.
    let said = work.run(&format!("{command} --budget 0s"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("winner: linear"), "{}", said.stdout);
    assert!(said.stderr.contains("the --budget of"), "{}", said.stderr);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );

    let said = work.run(&format!("--json {command} --budget 1h --force"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let events = said.stdout.lines();
    let events: Vec<Value> = events.map(|l| serde_json::from_str(l).unwrap()).collect();
    let tried: Vec<&Value> = events
        .iter()
        .filter(|e| e["event"] == "recipe_tried")
        .collect();
    let names: Vec<&str> = tried.iter().filter_map(|e| e["recipe"].as_str()).collect();
    assert_eq!(names, ["linear", "mlp", "augment", "finetune"]);
    assert_eq!(tried[0]["difference"], Value::Null);
    assert!(tried[1..].iter().all(|e| e["margin"].is_number()));
    let best = tried.iter().rfind(|e| e["is_best"] == true).unwrap();
    let most = tried.iter().filter_map(|e| e["accuracy"].as_f64());
    assert_eq!(best["accuracy"].as_f64(), most.reduce(f64::max));
    let recipe = best["recipe"].as_str().unwrap();
    let config = fs::read_to_string(work.path("b.run.toml")).unwrap();
    match recipe {
        "finetune" => assert!(config.contains("unfreeze-from"), "{config}"),
        _ => assert!(
            config.contains(&format!("recipe = \"{recipe}\"")),
            "{config}"
        ),
    }

    let said = work.run(&format!("{command} --budget soon"));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
}

#[test]
fn colours_of_rand_augment_are_those_of_pillow() {
    let Some(python) = python() else { return };
    let work = tempfile::tempdir().unwrap();
    let photo = repository("datasets/tiny/fish/fish1.jpg");
    run_python(&python, "rand_augment.py", &[work.path(), &photo], &[]);
    let read = |name: &str| fs::read(work.path().join(name)).unwrap();
    let found: Value = serde_json::from_slice(&read("cases.json")).unwrap();
    let plain = Picture {
        width: found["width"].as_u64().unwrap() as u32,
        height: found["height"].as_u64().unwrap() as u32,
        rgb: read("plain.rgb"),
        warnings: Vec::new(),
    };
    let cases = found["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let operation = RandOperation::ALL
            .into_iter()
            .find(|operation| case["operation"] == format!("{operation:?}"))
            .unwrap();
        let strength = case["strength"].as_f64().unwrap() as f32;
        let view = operation.apply(strength, &plain);
        let expected = read(case["pixels"].as_str().unwrap());
        let distances = || view.rgb.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let changed = plain.rgb.iter().zip(&expected).filter(|(a, b)| a != b);
        assert!(changed.count() > 1000, "{case}: Pillow changed nothing");
        // Pillow sums the smoothed picture in another order.
        let differing = distances().filter(|d| *d > 0).count();
        assert!(
            distances().max() <= Some(1) && differing * 100 < view.rgb.len(),
            "{case}: {differing} values, up to {:?}",
            distances().max()
        );
    }
}
