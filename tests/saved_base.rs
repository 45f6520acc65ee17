//! Saved models as bases: of another training, of features, of a head that comes alone.

use std::fs;

use tl::saved_model::SavedModel;

use crate::program::{Said, Workplace, repository};
use crate::python::{python, run_python};

/// A base that is known by its path alone, in a folder of its own, and a model on it.
fn workplace() -> Option<Workplace> {
    let python = python()?;
    let work = Workplace::new();
    fs::create_dir(work.path("bases")).unwrap();
    let base = work.path("bases/small.onnx");
    run_python(&python, "make_small_model.py", &[&base], &["nchw-free"]);
    done(&work.run(&format!(
        "fit {} -o m.onnx --model bases/small.onnx --input-size 32 --epochs 5",
        tiny()
    )));
    Some(work)
}

fn tiny() -> String {
    repository("datasets/tiny").display().to_string()
}

fn done(said: &Said) {
    assert_eq!(said.code, Some(0), "{}\n{}", said.stdout, said.stderr);
}

fn finetune(work: &Workplace, model: &str) -> Said {
    work.run(&format!(
        "finetune {model} {} --unfreeze-from conv2 --epochs 2 --tune-epochs 2 -o tuned.onnx --force",
        tiny()
    ))
}

#[test]
fn a_saved_model_is_fine_tuned_without_its_bases_file() {
    let Some(work) = workplace() else { return };
    fs::remove_dir_all(work.path("bases")).unwrap();
    let said = finetune(&work, "m.onnx");
    done(&said);
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stdout
    );
    // What was fine-tuned once is gone on from.
    fs::rename(work.path("tuned.onnx"), work.path("first.onnx")).unwrap();
    let said = finetune(&work, "first.onnx");
    done(&said);
    assert!(
        said.stderr.contains("fine-tuned backbone"),
        "{}",
        said.stderr
    );
    let id = |name: &str| {
        let model = SavedModel::open(&work.path(name)).unwrap();
        model.record().backbone.clone()
    };
    assert_eq!(id("m.onnx"), id("first.onnx"));
    assert_ne!(id("first.onnx").sha256, id("tuned.onnx").sha256);
    assert_eq!(id("tuned.onnx").model, "first");
}

#[test]
fn a_saved_model_prepares_pictures_as_its_record_says() {
    let Some(work) = workplace() else { return };
    let tiny = tiny();
    done(&work.run(&format!(
        "extract {tiny} --out a --model bases/small.onnx --input-size 32"
    )));
    let said = work.run(&format!("extract {tiny} --out b --model ./m.onnx"));
    done(&said);
    assert!(!said.stderr.contains("guess"), "{}", said.stderr);
    let features = |store: &str| fs::read(work.path(store).join("features.npy")).unwrap();
    assert!(features("a") == features("b"));
    let said = work.run("summary m.onnx");
    done(&said);
    assert!(said.stdout.contains("(None, 32, 32, 3)"), "{}", said.stdout);
}

#[test]
fn the_base_of_a_quantised_model_is_found_by_the_path_that_it_had() {
    let Some(work) = workplace() else { return };
    done(&work.run(&format!(
        "quantize m.onnx {} -o int8.onnx --max-loss 100",
        tiny()
    )));
    done(&finetune(&work, "int8.onnx"));
    // Beside the model in another folder.
    fs::create_dir_all(work.path("elsewhere")).unwrap();
    fs::rename(work.path("int8.onnx"), work.path("elsewhere/int8.onnx")).unwrap();
    fs::rename(
        work.path("bases/small.onnx"),
        work.path("elsewhere/small.onnx"),
    )
    .unwrap();
    done(&finetune(&work, "elsewhere/int8.onnx"));
    // Another file of this name.
    let mut bytes = fs::read(work.path("elsewhere/small.onnx")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(work.path("elsewhere/small.onnx"), bytes).unwrap();
    let said = finetune(&work, "elsewhere/int8.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    fs::remove_file(work.path("elsewhere/small.onnx")).unwrap();
    let said = finetune(&work, "elsewhere/int8.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    let sentence =
        "its backbone was the file bases/small.onnx, which does not exist; give the path";
    assert!(said.stderr.contains(sentence), "{}", said.stderr);
}

#[test]
fn a_model_of_before_paths_were_kept_is_read() {
    let Some(work) = workplace() else { return };
    let model = SavedModel::open(&work.path("m.onnx")).unwrap();
    assert_eq!(
        model.record().base_path.as_deref(),
        Some("bases/small.onnx")
    );
    let mut record = model.record().clone();
    record.base_path = None;
    let older = SavedModel::new(model.graph().clone(), record).unwrap();
    older.write(&work.path("older.onnx")).unwrap();
    done(&finetune(&work, "older.onnx"));
    done(&work.run("verify older.onnx"));
    done(&work.run("export older.onnx --head-only -o head.onnx"));
    let said = work.run("install head.onnx fresh.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("its backbone small is unknown here; give the path"),
        "{}",
        said.stderr
    );
    done(&work.run("install head.onnx fresh.onnx --base bases/small.onnx"));
    done(&work.run("install head.onnx again.onnx --base ./m.onnx"));
}

#[test]
fn the_base_in_a_model_of_another_version_is_not_taken() {
    let Some(work) = workplace() else { return };
    let model = SavedModel::open(&work.path("m.onnx")).unwrap();
    let mut record = model.record().clone();
    record.record_version += 1;
    let newer = SavedModel::new(model.graph().clone(), record).unwrap();
    newer.write(&work.path("newer.onnx")).unwrap();
    let extract = format!("extract {} --out f --model ./newer.onnx", tiny());
    for said in [finetune(&work, "newer.onnx"), work.run(&extract)] {
        assert_eq!(said.code, Some(4), "{}", said.stderr);
        let sentence = "its record has version 2, this program reads version 1";
        assert!(said.stderr.contains(sentence), "{}", said.stderr);
    }
}
