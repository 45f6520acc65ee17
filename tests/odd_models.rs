//! Models whose numbers no map is made for: each ends with a sentence and the exit code for models, and touches no memory
//! that is not the program's own.

use crate::program::{Said, Workplace, repository};

/// Runs the program on the model `name`, which stands in the line as `MODEL`.
fn run(line: &str, name: &str) -> Said {
    let workplace = Workplace::new();
    let model = repository("tests/data/odd-models").join(format!("{name}.onnx"));
    std::fs::copy(model, workplace.path("m.onnx")).unwrap();
    workplace.copy_tiny("photos", 1);
    workplace.run(&line.replace("MODEL", "m.onnx"))
}

/// Asks that the program refuses the model, in one sentence that has all of `words`.
fn refuses(line: &str, name: &str, words: &[&str]) {
    let said = run(line, name);
    assert_eq!(said.code, Some(4), "{name}: {}", said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{name}: {}", said.stderr);
    }
    let (last, before) = said.stderr.trim_end().rsplit_once('\n').map_or_else(
        || (said.stderr.trim_end(), ""),
        |(before, last)| (last, before),
    );
    assert!(last.starts_with("error: "), "{name}: {}", said.stderr);
    // How many images there are, and what is used of a model, may be said before; nothing else.
    let is_known =
        |l: &str| l.starts_with("24 images in 3 classes: ") || l.starts_with("features: ");
    assert!(before.lines().all(is_known), "{name}: {}", said.stderr);
}

#[test]
fn windows_that_go_with_no_map_are_refused() {
    for (name, size) in [
        ("bigstride", 32),
        ("integer-2_835-size16", 16),
        ("capacity-base", 32),
        ("mem30M-base", 32),
        ("onechannel", 32),
    ] {
        let line = format!("bench MODEL --input-size {size} --seconds 0.1 -j 1");
        refuses(&line, name, &["m.onnx"]);
    }
    let line = "extract photos -o f --model MODEL --input-size 32 -j 1 --memory 300M";
    refuses(line, "onechannel", &["m.onnx"]);
}

#[test]
fn a_saved_model_is_asked_as_a_base_is() {
    for command in [
        "predict MODEL photos/fish",
        "verify MODEL",
        "bench MODEL --seconds 0.1 -j 1",
    ] {
        for name in ["saved", "bigpad", "saved_pad_big_constant"] {
            refuses(command, name, &["m.onnx"]);
        }
        refuses(command, "input100k", &["100000 x 100000 pixels"]);
    }
}

#[test]
fn no_file_may_name_the_operators_of_the_engine() {
    for name in [
        "conv_dilwrap",
        "conv_k0",
        "conv_stride",
        "dw_k0",
        "q_q_oob160",
    ] {
        for command in ["predict MODEL photos/fish", "verify MODEL", "summary MODEL"] {
            refuses(command, name, &["contains the operator Tl"]);
        }
    }
}
