//! The ends of networks: the default cut is the layer that the maker of a network knows, whatever form the classifier
//! has, whichever outputs there are, and however the weights are kept; and its values are those of ONNX Runtime.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use tl::backbone::{Backbone, BackboneParams, Pool};
use tl::features::FeatureStore;
use tl::pixels::{DecodeLimits, Filter, Picture};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};
use crate::reference::{cosine, largest, read_npy, write_npy};

/// Networks in a usual run; `TL_CAMPAIGN` gives another number.
const MADE: usize = 60;

/// What the maker of a network knows of it.
#[derive(Deserialize)]
struct Facts {
    number: usize,
    kind: String,
    features: String,
    classifier: bool,
    pool: Option<String>,
    channels_last: bool,
    outputs: Vec<String>,
}

impl Facts {
    /// Whether its numbers are rounded on the way: then another order of sums may end in another step.
    fn is_rounded(&self) -> bool {
        matches!(self.kind.as_str(), "qdq" | "dynamic")
    }
}

/// Largest difference, as a share of the largest value.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    let apart = largest(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()));
    apart / largest(theirs.iter().map(|v| v.abs())).max(1e-6)
}

/// What is wrong with the default cut of one network; its features otherwise.
fn features(work: &Workplace, facts: &Facts) -> Result<Vec<f32>, String> {
    let params = BackboneParams {
        model: work
            .path(&format!("{}.onnx", facts.number))
            .display()
            .to_string(),
        ..BackboneParams::default()
    };
    let backbone = Backbone::open(&params).map_err(|e| e.to_string())?;
    let cut = backbone.id().cut.to_string();
    if cut != facts.features {
        return Err(format!("cut at {cut}, not at {}", facts.features));
    }
    if backbone.logits().is_some() != facts.classifier {
        return Err(format!("its classifier is {:?}", backbone.logits()));
    }
    if facts.pool.as_deref() == Some("cls") && backbone.id().pool != Pool::Cls {
        return Err("its class token is not seen".into());
    }
    let warnings = backbone.warnings();
    let names_all = |text: &&String| facts.outputs.iter().all(|name| text.contains(name));
    if facts.outputs.len() > 1 && !warnings.iter().any(|text| names_all(&text)) {
        return Err(format!(
            "{warnings:?} does not name the outputs {:?}",
            facts.outputs
        ));
    }
    if let Some(text) = warnings
        .iter()
        .find(|text| text.contains("already lost there"))
    {
        return Err(text.clone());
    }
    let mut session = backbone.session().map_err(|e| e.to_string())?;
    let path = repository("datasets/tiny/fish/fish1.jpg");
    let picture = Picture::open(&path, &DecodeLimits::default(), session.decode_options()).unwrap();
    let values = session.run(&picture).map_err(|e| e.to_string())?.to_vec();
    let shape = match facts.channels_last {
        true => [1, 32, 32, 3],
        false => [1, 3, 32, 32],
    };
    let input = work.path(&format!("{}-in.npy", facts.number));
    write_npy(&input, &shape, session.tensor());
    Ok(values)
}

#[test]
fn the_default_cut_is_the_layer_that_the_maker_knows() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let made = std::env::var("TL_CAMPAIGN").map_or(MADE, |text| text.parse().unwrap());
    let folder = work.path(".");
    let script = "make_tails.py";
    let last = made.to_string();
    run_python(
        &python,
        script,
        &[Path::new("make"), &folder],
        &["0", &last],
    );
    let lines = fs::read_to_string(work.path("networks.jsonl")).unwrap();
    let all: Vec<Facts> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all.len(), made);
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for facts in &all {
        match features(&work, facts) {
            Ok(values) => right.push((facts, values)),
            Err(problem) => wrong.push(format!("{} ({}): {problem}", facts.number, facts.kind)),
        }
    }
    run_python(&python, script, &[Path::new("run"), &folder], &[]);
    for (facts, ours) in right {
        let theirs = read_npy(&work.path(&format!("{}-out.npy", facts.number)));
        let is_right = ours.len() == theirs.len()
            && match facts.is_rounded() {
                true => cosine(&ours, &theirs) > 0.98,
                false => difference(&ours, &theirs) < 1e-4,
            };
        if !is_right {
            let name = format!("{} ({})", facts.number, facts.kind);
            wrong.push(format!("{name}: {ours:?}, not {theirs:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {made}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The values of a feature store, row after row, and their number a row.
fn stored(path: &Path) -> (Vec<f32>, usize) {
    let store = FeatureStore::open(path).unwrap();
    let matrix = store.matrix();
    let mut all = Vec::new();
    for row in 0..matrix.rows() {
        let mut values = vec![0.0; matrix.dim()];
        matrix.row_into(row, &mut values).unwrap();
        all.extend(values);
    }
    (all, matrix.dim())
}

#[test]
fn tokens_are_pooled_by_class_token_mean_maximum_or_not_at_all() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    run_python(
        &python,
        "make_tails.py",
        &[Path::new("tokens"), &folder],
        &[],
    );
    work.copy_tiny("photos", 1);
    let extract = |name: &str, flags: &str| {
        let said = work.run(&format!("extract photos --out {name} --model {flags}"));
        assert_eq!(said.code, Some(0), "{flags}: {}", said.stderr);
        (stored(&work.path(name)), said.stderr)
    };
    let ((all, length), _) = extract("none", "./tokens.onnx --pool none");
    // A class token and 4 x 4 patches of 12 values; the side of the pictures follows from the positions.
    assert_eq!(length, 17 * 12);
    let pooled = |pool: &dyn Fn(&mut dyn Iterator<Item = f32>) -> f32| -> Vec<f32> {
        let pictures = all.chunks(17 * 12);
        pictures
            .flat_map(|tokens| (0..12).map(move |i| (tokens, i)))
            .map(|(tokens, i)| pool(&mut tokens.chunks(12).map(|token| token[i])))
            .collect()
    };
    let first = pooled(&|values| values.next().unwrap());
    let mean = pooled(&|values| values.sum::<f32>() / 17.0);
    let largest = pooled(&|values| values.fold(f32::NEG_INFINITY, f32::max));
    assert_ne!(first, mean);
    for (pool, expected) in [
        ("", &first),
        (" --pool cls", &first),
        (" --pool avg", &mean),
        (" --pool max", &largest),
        (" --pool flatten", &all),
    ] {
        let name = format!("out{}", pool.replace(' ', ""));
        let ((values, _), said) = extract(&name, &format!("./tokens.onnx{pool}"));
        assert!(difference(&values, expected) < 1e-5, "{pool}");
        assert_eq!(values.len(), expected.len(), "{pool}");
        let is_class_token = expected.len() == first.len() && *expected == first;
        let line = match (is_class_token, pool.contains("flatten")) {
            (true, _) => "features: last_hidden_state (12), class token; classifier: none\n",
            (_, true) => "features: last_hidden_state (204); classifier: none\n",
            _ => "features: last_hidden_state (12); classifier: none\n",
        };
        assert!(said.contains(line), "{pool}: {said}");
    }

    let (_, said) = extract("pooler", "./pooler.onnx");
    assert!(
        said.contains(
            "2 outputs, last_hidden_state [17, 12], pooler_output [12]: its features are pooler_output"
        ),
        "{said}"
    );
    assert!(
        said.contains("features: pooler_output (12); classifier: none\n"),
        "{said}"
    );

    // The saved model has the class token in it, and other programs run it.
    let said = work.run("fit photos -o m.onnx --model ./tokens.onnx --epochs 3 --force");
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stderr
    );
    let model = tl::saved_model::SavedModel::open(&work.path("m.onnx")).unwrap();
    let mut session = model.session().unwrap();
    let picture = repository("datasets/tiny/fish/fish1.jpg");
    let picture =
        Picture::open(&picture, &DecodeLimits::default(), session.decode_options()).unwrap();
    let ours = session.run(&picture).unwrap().to_vec();
    write_npy(&work.path("in.npy"), &[1, 3, 32, 32], session.tensor());
    run_python(
        &python,
        "run_model.py",
        &[
            &work.path("m.onnx"),
            &work.path("in.npy"),
            &work.path("ran"),
        ],
        &[],
    );
    assert!(difference(&ours, &read_npy(&work.path("ran/probabilities.npy"))) < 1e-5);
    let said = work.run("finetune ./tokens.onnx photos --unfreeze-from 1 -o t.onnx");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("cannot backpropagate through"),
        "{}",
        said.stderr
    );

    let maps = "extract photos --out maps --cut top_relu6 --pool cls";
    let said = work.run(maps);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("which have no class token"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_cut_at_probabilities_or_logits_is_doubted() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let said = work.run("extract photos --out logits --cut logits");
    assert!(
        said.stderr
            .contains("logits, which holds the logits of the classifier")
            && said
                .stderr
                .contains("without --feature-layer they are features"),
        "{}",
        said.stderr
    );
    let said = work.run("extract photos --out features");
    assert_eq!(
        said.stderr
            .matches("features: features (1,280); classifier: logits\n")
            .count(),
        1
    );
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    // JSON lines have it as an event.
    let said = work.run("extract photos --out features --json");
    let line = r#"{"event":"info","message":"features: features (1,280); classifier: logits"}"#;
    assert_eq!(said.stdout.matches(line).count(), 1, "{}", said.stdout);
}

#[test]
fn what_other_programs_put_beside_a_file_says_how_pictures_are_prepared() {
    let work = Workplace::new();
    fs::create_dir_all(work.path("repo/onnx")).unwrap();
    for place in ["repo/model.onnx", "repo/onnx/model.onnx"] {
        fs::copy(repository("tests/data/small.onnx"), work.path(place)).unwrap();
    }
    let text = r#"{"do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3,
                   "size": {"height": 40, "width": 40}}"#;
    let open = |place: &str| {
        let params = BackboneParams {
            model: work.path(place).display().to_string(),
            ..BackboneParams::default()
        };
        Backbone::open(&params).unwrap()
    };
    assert!(open("repo/model.onnx").warnings()[0].contains("guessed"));
    fs::write(work.path("repo/preprocessor_config.json"), text).unwrap();
    for place in ["repo/model.onnx", "repo/onnx/model.onnx"] {
        let backbone = open(place);
        assert_eq!(backbone.warnings(), Vec::<String>::new(), "{place}");
        assert_eq!(backbone.id().preprocess.mean, [0.5; 3]);
        assert_eq!(backbone.id().preprocess.filter, Filter::Bicubic);
        let note = &backbone.notes()[0];
        assert!(
            note.contains("preprocessor_config.json: 40 px, stretched"),
            "{note}"
        );
    }
    // One that cannot be used is left out, with a word, and the guess is said.
    fs::write(
        work.path("repo/preprocessor_config.json"),
        text.replace("[0.5, 0.5, 0.5]", "0"),
    )
    .unwrap();
    let backbone = open("repo/model.onnx");
    let warnings = backbone.warnings().join("\n");
    assert!(
        warnings.starts_with("ignoring ") && warnings.contains("preprocessor_config.json: "),
        "{warnings}"
    );
    assert!(warnings.contains("guessed"), "{warnings}");
}
