//! The forms in which ONNX files come: opsets, layouts, fixed batches, weights in other files.

use std::fs;
use std::path::Path;

use tl::backbone::{Backbone, BackboneParams};
use tl::pixels::{DecodeLimits, Picture};

use crate::program::{Workplace, repository};
use crate::python::{python, run_python};
use crate::reference::{assert_close, read_npy, write_npy};

/// What the base in the file `model` makes of a picture of 32 x 32 pixels: input tensor and features.
fn run(model: &Path) -> (Vec<f32>, Vec<f32>) {
    let params = BackboneParams {
        model: model.display().to_string(),
        input_size: Some(32.into()),
        ..BackboneParams::default()
    };
    let backbone = Backbone::open(&params).unwrap();
    let mut session = backbone.session().unwrap();
    let path = repository("datasets/tiny/fish/fish1.jpg");
    let picture = Picture::open(&path, &DecodeLimits::default(), session.decode_options()).unwrap();
    let features = session.run(&picture).unwrap().to_vec();
    (session.tensor().to_vec(), features)
}

#[test]
fn opsets_7_to_21_agree_with_onnx_runtime_in_both_layouts_with_free_and_fixed_batch() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let folder = work.path(".");
    let script = "make_opset_models.py";
    run_python(&python, script, &[Path::new("make"), &folder], &[]);
    let mut networks = Vec::new();
    for opset in 7..=21 {
        for (layout, shape) in [("nchw", [1, 3, 32, 32]), ("nhwc", [1, 32, 32, 3])] {
            for batch in ["free", "fixed"] {
                let name = format!("{opset}-{layout}-{batch}");
                let (tensor, features) = run(&work.path(&format!("{name}.onnx")));
                write_npy(&work.path(&format!("{name}-in.npy")), &shape, &tensor);
                networks.push((name, features));
            }
        }
    }
    run_python(&python, script, &[Path::new("run"), &folder], &[]);
    for (name, features) in networks {
        assert_eq!(features.len(), 10, "{name}");
        let theirs = read_npy(&work.path(&format!("{name}-out.npy")));
        assert!(
            theirs.iter().any(|&v| v.abs() > 0.01),
            "{name} says nothing"
        );
        assert_close(&features, &theirs, &name);
    }
}

#[test]
fn weights_in_a_file_beside_the_graph_count_as_part_of_it() {
    let Some(python) = python() else { return };
    let work = Workplace::new();
    let (whole, split) = (work.path("whole.onnx"), work.path("split.onnx"));
    run_python(&python, "make_small_model.py", &[&whole], &["nchw-free"]);
    run_python(
        &python,
        "make_small_model.py",
        &[&split],
        &["nchw-external"],
    );
    let data = work.path("split.onnx.data");
    assert!(fs::metadata(&data).unwrap().len() > fs::metadata(&split).unwrap().len() / 2);
    assert!(run(&whole) == run(&split));

    // In the zoo it is one file.
    let said = work.run("models add split.onnx --name mine --preprocess tf --to zoo");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    fs::remove_file(&data).unwrap();
    assert_eq!(run(&work.path("zoo/mine.onnx")).1.len(), 8);
    let said = work.run("summary ./split.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        said.stderr.contains("which is not next to it")
            && said.stderr.contains("put both in one folder"),
        "{}",
        said.stderr
    );
    fs::write(&data, b"short").unwrap();
    let said = work.run("summary ./split.onnx");
    assert!(
        said.stderr.contains("which is too short"),
        "{}",
        said.stderr
    );
}
