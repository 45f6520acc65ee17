//! The direction of use between the modules of `src/`: a module imports only modules above it in `lib.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::repository;

/// Modules in the order of `lib.rs`.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(repository("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| {
            let line = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .map(str::to_owned)
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Modules that `text` names after `crate::`, as in `crate::disk::read` or `crate::{disk, error::Error}`, in its tests, too.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let name = |text: &str| -> String {
        let letters = text.trim_start().chars();
        letters
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        // Each name of the group that is in no group inside.
        let mut depth = 1;
        let mut start = true;
        for (place, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => start = depth == 1,
                c if start && !c.is_whitespace() => {
                    found.insert(name(&group[place..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The two front ends do not import each other, except that the form of `tl-tui` has the flags and the configuration of
/// `tl-batch fit`.
fn takes_settings(file: &Path) -> bool {
    file.ends_with("tui/args.rs") || file.ends_with("tui/state/form.rs")
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let modules = modules();
    assert!(modules.len() > 10, "{modules:?}");
    let mut wrong = Vec::new();
    for (place, module) in modules.iter().enumerate() {
        let mut files = Vec::new();
        let folder = repository("src").join(module);
        if folder.is_dir() {
            sources(&folder, &mut files);
        } else {
            files.push(folder.with_extension("rs"));
        }
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for other in used(&text) {
                let is_front_end = module == "tui" && other == "cli" && !takes_settings(&file);
                if modules[place + 1..].contains(&other) || is_front_end {
                    wrong.push(format!("{} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_modules() {
    let homes = [
        ("cnn_engine", "backbone"),
        ("tract_onnx", "backbone"),
        ("prost", "backbone"),
        ("fast_image_resize", "pixels"),
        ("jpeg_decoder", "pixels"),
        ("walkdir", "dataset"),
        ("indicatif", "cli"),
        ("ureq", "download.rs"),
        ("viuer", "report"),
        ("noto_sans_mono_bitmap", "report"),
        ("ratatui", "tui"),
        ("ratatui_image", "tui"),
        ("unicode_normalization", "dataset"),
        ("unicode_segmentation", "tui"),
        ("unicode_width", "tui"),
    ];
    let mut files = Vec::new();
    sources(&repository("src"), &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let relative = file.strip_prefix(repository("src")).unwrap();
        for (name, module) in homes {
            let uses = text
                .lines()
                .any(|l| l.trim_start().starts_with(&format!("use {name}")));
            if uses && !relative.starts_with(module) {
                wrong.push(format!("{} uses {name}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_are_thin() {
    for program in ["tl-batch", "tl-tui"] {
        let text = fs::read_to_string(repository("src/bin").join(format!("{program}.rs"))).unwrap();
        assert!(text.lines().count() < 60, "{program}");
    }
}
