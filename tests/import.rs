//! Bases in the forms in which programs export them, against ONNX Runtime: functions, branches, attention, numbers of
//! other widths, weights elsewhere, integers; shapes that are no square, and batches that are fixed.

use std::fs;
use std::path::Path;

use tl::backbone::{Backbone, BackboneParams, InputSize};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};
use crate::reference::{read_npy, write_npy};

fn open(model: &Path) -> Backbone {
    let params = BackboneParams {
        model: model.display().to_string(),
        cut: Some("features".into()),
        ..BackboneParams::default()
    };
    Backbone::open(&params).unwrap_or_else(|error| panic!("{}: {error:?}", model.display()))
}

/// |a − b| ≤ tolerance · (1 + |b|) for all values.
fn assert_within(ours: &[f32], theirs: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let excess = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
        .fold(0.0, |most: f32, d| {
            if d.is_nan() {
                f32::INFINITY
            } else {
                most.max(d)
            }
        });
    assert!(
        excess <= tolerance,
        "{what}: {excess} over 1 + |x|\n{ours:?}\n{theirs:?}"
    );
    assert!(theirs.iter().any(|v| v.abs() > 1e-3), "{what} says nothing");
}

/// `TL_CAMPAIGN` gives another number of networks of each form.
#[test]
fn networks_in_every_form_give_the_features_of_onnx_runtime() {
    const NETWORKS: usize = 2;
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    let networks = std::env::var("TL_CAMPAIGN").map_or(NETWORKS, |text| text.parse().unwrap());
    let cases = run_python(
        &python,
        "make_import_forms.py",
        &[&folder],
        &["1", &networks.to_string()],
    );
    let mut found = 0;
    for case in cases.lines() {
        let words: Vec<&str> = case.split(' ').collect();
        let [name, height, width, tolerance] = words[..] else {
            panic!("{case}");
        };
        let size = InputSize {
            height: height.parse().unwrap(),
            width: width.parse().unwrap(),
        };
        let base = open(&work.path(&format!("{name}.onnx")));
        assert_eq!(base.id().input_size, size, "{name}");
        // Each takes any number of pictures, whatever its exporter fixed.
        assert!(
            !base
                .warnings()
                .iter()
                .any(|w| w.contains("a batch size of 1")),
            "{name}: {:?}",
            base.warnings()
        );
        let mut session = base.session().unwrap();
        let tensor = read_npy(&work.path(&format!("{name}-in.npy")));
        session.set_tensor(&tensor).unwrap();
        let ours = session.infer().unwrap();
        let theirs = read_npy(&work.path(&format!("{name}-out.npy")));
        assert_within(ours, &theirs, tolerance.parse().unwrap(), name);
        found += 1;
    }
    assert_eq!(found, 13 * networks);
}

/// Trains `model` on three small classes and returns what the program said.
fn fit(work: &Workplace, model: &str, flags: &str) -> crate::program::Said {
    let tiny = repository("datasets/tiny");
    work.run(
        &format!(
            "fit {} {flags} -o saved.onnx --model ./{model} --epochs 3 --force",
            tiny.display()
        )
        .replace("  ", " "),
    )
}

/// Runs `saved.onnx` on `batch` pictures in ONNX Runtime; returns their probabilities and what it says of its input.
fn in_onnx_runtime(
    work: &Workplace,
    python: &Path,
    sides: [usize; 2],
    batch: usize,
) -> (Vec<f32>, String) {
    let values = batch * 3 * sides[0] * sides[1];
    let tensor: Vec<f32> = (0..values).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    write_npy(
        &work.path("in.npy"),
        &[batch, 3, sides[0], sides[1]],
        &tensor,
    );
    let out = work.path("out");
    let facts = run_python(
        python,
        "run_model.py",
        &[&work.path("saved.onnx"), &work.path("in.npy"), &out],
        &[],
    );
    (read_npy(&out.join("probabilities.npy")), facts)
}

#[test]
fn a_saved_model_states_the_shape_that_it_takes() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    run_python(&python, "make_shape_models.py", &[&folder], &[]);

    // Not square, and the size as a flag.
    for (model, flags) in [("flat.onnx", ""), ("free.onnx", "--input-size 48x64")] {
        let said = fit(&work, model, flags);
        assert_eq!(said.code, Some(0), "{model}: {}", said.stderr);
        let (probabilities, facts) = in_onnx_runtime(&work, &python, [48, 64], 2);
        assert_eq!(probabilities.len(), 6, "{model}");
        assert!(facts.contains(r#"["N", 3, 48, 64]"#), "{model}: {facts}");
        let settings = fs::read_to_string(work.path("saved.run.toml")).unwrap();
        assert_eq!(
            settings.contains("input-size = [48, 64]"),
            !flags.is_empty(),
            "{settings}"
        );
    }

    // A batch that is fixed inside the graph and can be freed.
    let said = fit(&work, "one-reshape.onnx", "");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let (six, facts) = in_onnx_runtime(&work, &python, [32, 32], 6);
    assert_eq!(six.len(), 18);
    assert!(facts.contains(r#"["N", 3, 32, 32]"#), "{facts}");

    // One that cannot: the file says so.
    for model in ["one-token.onnx", "mixes.onnx"] {
        let said = fit(&work, model, "");
        assert_eq!(said.code, Some(0), "{model}: {}", said.stderr);
        assert!(
            said.stderr.contains("a batch size of 1"),
            "{model}: {}",
            said.stderr
        );
        let (one, facts) = in_onnx_runtime(&work, &python, [32, 32], 1);
        assert_eq!(one.len(), 3);
        assert!(facts.contains("[1, 3, 32, 32]"), "{model}: {facts}");
        let verified = work.run("verify saved.onnx");
        assert_eq!(verified.code, Some(0), "{model}: {}", verified.stderr);
    }

    // A file that says otherwise is found out.
    run_python(&python, "make_shape_models.py", &[&folder], &["lie"]);
    let verified = work.run("verify saved.onnx --verbose");
    assert_eq!(verified.code, Some(6), "{}", verified.stderr);
    let text = format!("{}{}", verified.stdout, verified.stderr);
    assert!(text.contains("batch") && text.contains("FALSE"), "{text}");
}

#[test]
fn what_cannot_be_run_is_named_with_advice_and_without_the_engines_words() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    run_python(&python, "make_refused_models.py", &[&folder], &[]);
    let tiny = repository("datasets/tiny");
    for (model, reason, advice) in [
        (
            "loop",
            "the operator Loop of the node `again`",
            "choose a --feature-layer before it",
        ),
        (
            "foreign",
            "the operator Relu of the node `mine`",
            "from the domain my.own",
        ),
        (
            "microsoft",
            "the operator FusedConv of the node `fused`",
            "com.microsoft",
        ),
        (
            "text",
            "the operator LabelEncoder of the node `words`",
            "strings",
        ),
        (
            "sequence",
            "the operator SequenceConstruct",
            "sequences of tensors",
        ),
        ("sparse", "`k` is a sparse tensor", "dense weights"),
        ("circle", "its function Again is recursive", ""),
        ("versions", "its function Squash uses opset 11", "one opset"),
        (
            "explode",
            "with its functions inlined, it has more than",
            "",
        ),
        ("cache", "key/value cache", "opset 22 or below"),
        ("new", "the operator TensorScatter", "opset 22 or below"),
        ("size", "does not say its input size", "--input-size"),
        (
            "mismatch",
            "the operator Gemm of the node `dense`",
            "--feature-layer",
        ),
    ] {
        let command = format!("extract {} --out o --model ./{model}.onnx", tiny.display());
        let said = work.run(&format!("{command} --cut y"));
        assert_eq!(said.code, Some(4), "{model}: {}", said.stderr);
        let line = said.stderr.lines().find(|line| line.starts_with("error: "));
        let line = line.unwrap_or_else(|| panic!("{model}: {}", said.stderr));
        assert!(
            line.contains(reason) && line.contains(advice),
            "{model}: {line}"
        );
        for word in [
            "wiring",
            "tract",
            "Tract",
            "InferenceModel",
            "unify",
            "Failed",
            "#",
        ] {
            assert!(!line.contains(word), "{model}: {line}");
        }
        assert!(
            !said.stderr.contains("engine message"),
            "{model}: {}",
            said.stderr
        );
        if matches!(model, "size" | "mismatch") {
            let loud = work.run(&format!("{command} --cut y --verbose"));
            assert!(
                loud.stderr.contains("engine message: "),
                "{model}: {}",
                loud.stderr
            );
        }
    }
}
