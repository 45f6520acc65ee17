//! Tests that cannot run on this machine: said at the end of `scripts/test`, and an error where none may be left out.

use std::fs::File;
use std::io::Write;

/// Notes that the test that runs cannot run here: on stderr, which the harness hides, and in the file of `TL_SKIPPED`, which
/// `scripts/test` prints.
///
/// # Panics
/// If `CI` is set.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("CI").is_none(), "{line}");
    eprintln!("skipped: {line}");
    if let Some(file) = std::env::var_os("TL_SKIPPED") {
        let file = File::options().append(true).create(true).open(file);
        // One write, since tests run side by side.
        file.unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }
}

/// As [`skip`], for a comparison with Python or with a model that Python makes.
///
/// # Panics
/// If `CI` or `TL_REQUIRE_PYTHON` is set.
pub fn skip_comparison(why: &str) {
    assert!(std::env::var_os("TL_REQUIRE_PYTHON").is_none(), "{why}");
    skip(why);
}
