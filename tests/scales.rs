//! Features of any scale and any mean: heads, what is saved of them, and what is made of that.

use std::fs;

use tl::saved_model::SavedModel;

use crate::program::{Said, Workplace};
use crate::python::{python, run_python};
use crate::reference::{read_npy, write_npy};

/// Pictures and bases, and the accuracy that scikit-learn reaches.
fn workplace() -> Option<(Workplace, f64)> {
    let python = python()?;
    let work = Workplace::new();
    let said = run_python(&python, "make_scaled_bases.py", &[&work.path(".")], &[]);
    let facts: serde_json::Value = serde_json::from_str(&said).unwrap();
    let accuracy = facts["accuracy"].as_f64().unwrap();
    Some((work, accuracy))
}

fn done(said: &Said) {
    assert_eq!(said.code, Some(0), "{}\n{}", said.stdout, said.stderr);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );
}

/// The number in the column `place` of the line that starts with `row` in what a command says.
fn accuracy(said: &Said, row: &str, place: usize) -> f64 {
    let mut lines = said.stdout.lines();
    let line = lines.find(|l| l.trim_start().starts_with(row));
    let line = line.unwrap_or_else(|| panic!("{}", said.stdout));
    line.split_whitespace().nth(place).unwrap().parse().unwrap()
}

/// Whether the features are standardised by operators of their own.
fn stands_apart(work: &Workplace, model: &str) -> bool {
    SavedModel::open(&work.path(model))
        .unwrap()
        .record()
        .standardized
}

/// A shift changes nothing that float32 can hold.
#[test]
fn shifted_features_give_what_they_give_without_the_shift() {
    let Some((work, _)) = workplace() else { return };
    let mut plain = None;
    for (base, is_far) in [
        ("shift0", false),
        ("shift500", true),
        ("shift1e3", true),
        ("shift1e4", true),
        ("shifts", true),
        ("shift1e6", true),
    ] {
        let said = work.run(&format!("fit five -o {base}-m.onnx --model {base}.onnx"));
        done(&said);
        assert_eq!(
            stands_apart(&work, &format!("{base}-m.onnx")),
            is_far,
            "{base}"
        );
        let found = accuracy(&said, "validation", 3);
        let expected = *plain.get_or_insert(found);
        assert!(expected >= 0.9, "{expected}");
        // At a million deviations float32 has some ten steps in one.
        let is_coarse = base == "shift1e6" || base == "shifts";
        let room = if is_coarse { 0.101 } else { 1e-9 };
        assert!(
            (found - expected).abs() <= room,
            "{base}: {found}, unshifted {expected}"
        );
        assert!(
            is_coarse || !said.stderr.contains("so far from 0"),
            "{}",
            said.stderr
        );
    }
    // Where nothing is left of the picture, that is said, and the model still is what was trained.
    let said = work.run("fit five -o lost.onnx --model shift1e8.onnx");
    done(&said);
    assert!(
        said.stderr.contains("features are so far from 0"),
        "{}",
        said.stderr
    );
}

/// Here and in ONNX Runtime, as float16, as int8, and as a head that travels alone.
#[test]
fn a_head_of_shifted_features_stays_right_in_whatever_is_made_of_it() {
    let Some((work, _)) = workplace() else { return };
    let python = python().unwrap();
    done(&work.run("fit five -o m.onnx --model shifts.onnx --hidden 16 --epochs 60"));
    done(&work.run("fit five -o old.onnx --model shifts.onnx --epochs 2"));
    let said = work.run("export m.onnx --head-only -o head.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = work.run("install head.onnx old.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("old.onnx")).unwrap() == fs::read(work.path("m.onnx")).unwrap());
    let said = work.run("install head.onnx fresh.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("fresh.onnx")).unwrap() == fs::read(work.path("m.onnx")).unwrap());

    done(&work.run("quantize m.onnx five -o half.onnx --float16"));
    done(&work.run("quantize m.onnx five -o int8.onnx --max-loss 100"));
    let tensor: Vec<f32> = (0..192)
        .map(|i| ((i * 37) % 64) as f32 / 16.0 - 2.0)
        .collect();
    let input = work.path("in.npy");
    write_npy(&input, &[1, 3, 8, 8], &tensor);
    for (name, room) in [("m", 1e-5), ("half", 1e-5), ("int8", 0.02)] {
        let model = SavedModel::open(&work.path(&format!("{name}.onnx"))).unwrap();
        let mut session = model.session().unwrap();
        session.set_tensor(&tensor).unwrap();
        let ours = session.infer().unwrap().to_vec();
        let out = work.path("out");
        run_python(
            &python,
            "run_model.py",
            &[&work.path(&format!("{name}.onnx")), &input, &out],
            &[],
        );
        let theirs = read_npy(&out.join("probabilities.npy"));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= room, "{name}: {ours:?} {theirs:?}");
        }
    }
    for name in ["half", "int8"] {
        let said = work.run(&format!("evaluate {name}.onnx five"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let float = work.run("evaluate m.onnx five");
        let [a, b] = [&said, &float].map(|said| accuracy(said, "accuracy", 1));
        assert!((a - b).abs() <= 0.05, "{name}: {a}, float {b}");
    }
}

/// As scikit-learn's StandardScaler and LogisticRegression, whatever the scales of the features.
#[test]
fn features_of_other_scales_cost_no_accuracy() {
    let Some((work, expected)) = workplace() else {
        return;
    };
    let mut found = Vec::new();
    for base in ["shift0", "outliers", "scales"] {
        let said = work.run(&format!(
            "fit ten -o {base}-m.onnx --model {base}.onnx --folds 5"
        ));
        done(&said);
        let line = said.stdout.lines().find(|l| l.contains("cross-validation"));
        let line = line.unwrap_or_else(|| panic!("{}", said.stdout));
        let number = |word: &str| word.trim_matches([',', ':', ';']).parse::<f64>().ok();
        let accuracy = line
            .split_whitespace()
            .filter_map(number)
            .find(|n| n.fract() > 0.0);
        found.push(accuracy.unwrap_or_else(|| panic!("{line}")));
    }
    for accuracy in &found {
        assert!((accuracy - found[0]).abs() <= 0.011, "{found:?}");
        assert!(
            *accuracy >= expected - 0.02,
            "{found:?}, scikit-learn {expected}"
        );
    }
}
