//! Pictures and names that mean harm, or come out of ten years of phones and downloads: what becomes of each
//! is stated in a table (`docs/bad-pictures.md`), and held against the library and the program.

mod bytes;
mod cases;
#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod graphs;
#[cfg(target_os = "linux")]
mod numbers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::Command;

use tl::dataset::Dataset;
use tl::features::FeatureStore;
use tl::pixels::{DecodeLimits, Picture};

use self::bytes::{clean, fixture};
use self::cases::{Case, Outcome, cases};
use crate::program::{Said, Workplace, repository};

/// What is wrong with a case's decoding; none if it is as the table says.
fn difference(case: &Case) -> Option<String> {
    let clean = clean().into_rgb8();
    let path = PathBuf::from(&case.name);
    let found = Picture::decode(&case.bytes, &path, &DecodeLimits::default(), [255; 3]);
    let warned = |picture: &Picture, words: &[&str]| {
        let as_said = picture.warnings == words;
        (!as_said).then(|| format!("warnings are {:?}", picture.warnings))
    };
    let far = |picture: &Picture, mean: f64| {
        if (picture.width, picture.height) != clean.dimensions() {
            return Some(format!("is {} x {}", picture.width, picture.height));
        }
        let sum: u64 = picture
            .rgb
            .iter()
            .zip(clean.as_raw())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        let found = sum as f64 / clean.as_raw().len() as f64;
        (found > mean).then(|| format!("differs by {found:.3} in the mean"))
    };
    match (case.outcome, found) {
        (Outcome::Same(mean), Ok(picture)) => far(&picture, mean).or(warned(&picture, &[])),
        (Outcome::Warned(mean, words), Ok(picture)) => {
            far(&picture, mean).or(warned(&picture, &[words]))
        }
        (Outcome::Other(width, height), Ok(picture)) => {
            let is = (picture.width, picture.height);
            (is != (width, height)).then(|| format!("is {is:?}"))
        }
        (Outcome::Skipped(words), Err(error)) => {
            let text = error.to_string();
            (!text.contains(words)).then_some(text)
        }
        (Outcome::Either, _) => None,
        (_, Ok(_)) => Some("is decoded".to_owned()),
        (_, Err(error)) => Some(error.to_string()),
    }
}

#[test]
fn every_picture_is_decoded_or_refused_as_the_table_says() {
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.about, difference(case)?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table as people read it.
fn table_text() -> String {
    let mut text = String::from(
        "# Bad images\n\nHow the program treats unusual and damaged files in a dataset. A test (`tests/hostile`) creates each of them\nand \
         compares the outcome with this table; `TL_WRITE_TABLE=1 cargo test hostile` rewrites it.\n\n\
         | file | outcome |\n| --- | --- |\n",
    );
    for case in cases() {
        let outcome = match case.outcome {
            Outcome::Same(0.0) => "used; same pixels as the clean image".to_owned(),
            Outcome::Same(mean) => {
                format!("used; mean difference from the clean image at most {mean} of 255 levels")
            }
            Outcome::Warned(_, words) => format!("used, with a warning: it {words}"),
            Outcome::Other(width, height) => format!("used, as {width} x {height} pixels"),
            Outcome::Skipped(words) => format!("skipped: … {words} …"),
            Outcome::Either => "used if it can be decoded, else skipped".to_owned(),
        };
        text += &format!("| {} | {outcome} |\n", case.about.replace('|', "\\|"));
    }
    for (about, outcome) in SPECIAL {
        text += &format!("| {about} | {outcome} |\n");
    }
    text
}

/// What is in a folder but is no ordinary file, and what becomes of it.
const SPECIAL: [(&str, &str); 11] = [
    ("FIFO", "ignored: not a regular file"),
    ("socket", "ignored: not a regular file"),
    ("link to a device", "ignored: not a regular file"),
    ("folder named .jpg", "searched like any folder"),
    ("broken link", "ignored: broken link"),
    ("two links to each other", "ignored: cannot be read"),
    ("link to one of its parent folders", "ignored"),
    ("link to an image", "used"),
    ("file without read permission", "skipped: cannot be read"),
    (
        "folder without read permission",
        "stops the run, unless --allow-missing: cannot be read",
    ),
    (
        "file that vanishes or becomes a FIFO before it is read",
        "skipped",
    ),
];

#[test]
fn the_table_in_the_documentation_is_the_one_that_is_tested() {
    let path = repository("docs/bad-pictures.md");
    let text = table_text();
    if std::env::var_os("TL_WRITE_TABLE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|kept| kept == text),
        "run TL_WRITE_TABLE=1 cargo test hostile"
    );
}

/// True if a program's words can do nothing to a terminal but move to the next line.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c))
}

/// The data set of all cases, under a class whose name is a formula, and of special files.
#[cfg(unix)]
fn folder_of_all(work: &Workplace) -> (PathBuf, tempfile::TempDir) {
    use std::os::unix::fs::symlink;
    let folder = work.path("all");
    let class = folder.join("=odd");
    fs::create_dir_all(&class).unwrap();
    for case in cases() {
        fs::write(class.join(&case.name), &case.bytes).unwrap();
    }
    let special = folder.join("special");
    fs::create_dir_all(special.join("folder.jpg")).unwrap();
    fs::write(special.join("folder.jpg/in.png"), fixture("clean.png")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(special.join("fifo.jpg"))
        .status();
    assert!(fifo.unwrap().success());
    // The name of a socket must be short.
    let short = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(short.path().join("s")).unwrap());
    symlink(short.path().join("s"), special.join("socket.jpg")).unwrap();
    symlink("/dev/zero", special.join("device.jpg")).unwrap();
    symlink("nowhere", special.join("broken.jpg")).unwrap();
    symlink("round-b.jpg", special.join("round-a.jpg")).unwrap();
    symlink("round-a.jpg", special.join("round-b.jpg")).unwrap();
    symlink(&folder, special.join("around")).unwrap();
    symlink("folder.jpg/in.png", special.join("link.png")).unwrap();
    (folder, short)
}

#[cfg(unix)]
#[test]
fn a_folder_of_all_of_them_is_extracted_to_its_end() {
    let work = Workplace::new();
    let (folder, _short) = folder_of_all(&work);
    let said = work.run("extract all --out store --allow-missing");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(is_plain(&said.stderr), "{:?}", said.stderr);
    assert!(is_plain(&said.stdout), "{:?}", said.stdout);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    assert!(!said.stderr.contains("\nerror: forged"), "{}", said.stderr);
    for (name, reason) in [
        ("fifo.jpg", "is not a regular file"),
        ("socket.jpg", "is not a regular file"),
        ("device.jpg", "is not a regular file"),
        ("broken.jpg", "is a broken link"),
        ("round-a.jpg", "cannot be read"),
        ("round-b.jpg", "cannot be read"),
        ("around", "is a link to one of its parent folders"),
    ] {
        let line = format!("warning: special/{name} {reason}");
        assert!(said.stderr.contains(&line), "{line}: {}", said.stderr);
    }

    let store = FeatureStore::open(&work.path("store")).unwrap();
    assert_eq!(store.meta().classes, ["=odd", "special"]);
    let rows: BTreeMap<OsString, usize> = store
        .index()
        .iter()
        .enumerate()
        .map(|(row, facts)| (facts.path.clone().into_os_string(), row))
        .collect();
    let errors: BTreeMap<OsString, String> = store
        .errors()
        .unwrap()
        .into_iter()
        .map(|(path, reason)| (path.into_os_string(), reason))
        .collect();
    assert_eq!(rows.len() + errors.len(), cases().len() + 2);
    assert!(rows.contains_key(&OsString::from("special/folder.jpg/in.png")));
    assert!(rows.contains_key(&OsString::from("special/link.png")));
    let features = |row: usize| {
        let mut values = vec![0.0; 1280];
        store.matrix().row_into(row, &mut values).unwrap();
        values
    };
    let clean = features(rows[&OsString::from("=odd/clean.png")]);
    let mut wrong = Vec::new();
    for case in cases() {
        let path = Path::new("=odd").join(&case.name).into_os_string();
        let problem = match (case.outcome, rows.get(&path), errors.get(&path)) {
            // The same pixels give the same features to the bit; how far other pixels may be off is a matter of
            // the decoding.
            (Outcome::Same(0.0) | Outcome::Warned(0.0, _), Some(&row), None) => {
                (features(row) != clean).then(|| "features differ".to_owned())
            }
            (Outcome::Same(_) | Outcome::Warned(..), Some(_), None) => None,
            (Outcome::Other(..) | Outcome::Either, Some(_), None) => None,
            (Outcome::Either, None, Some(_)) => None,
            (Outcome::Skipped(words), None, Some(reason)) => {
                (!reason.contains(words)).then(|| reason.clone())
            }
            (_, row, error) => Some(format!("row {row:?}, error {error:?}")),
        };
        wrong.extend(problem.map(|problem| format!("{}: {problem}", case.about)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for table in ["index.csv", "errors.csv"] {
        assert_no_formula(&fs::read(work.path("store").join(table)).unwrap());
    }
    let said = work.run("extract all --out store --allow-missing --json");
    assert_eq!(said.code, Some(0));
    for line in said.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    drop(folder);
}

/// No field of a CSV file begins as a spreadsheet's formula does.
fn assert_no_formula(bytes: &[u8]) {
    let mut reader = csv::Reader::from_reader(bytes);
    for record in reader.byte_records() {
        for field in &record.unwrap() {
            let first = field.first().copied().unwrap_or(b' ');
            let field = String::from_utf8_lossy(field);
            assert!(!b"=+-@\t\r".contains(&first), "{field}");
        }
    }
}

#[cfg(unix)]
#[test]
fn predictions_for_odd_names_can_be_shown_and_opened_in_a_spreadsheet() {
    let work = Workplace::new();
    fs::create_dir(work.path("odd")).unwrap();
    let odd = |case: &Case| case.about.contains("name");
    let mut count = 0;
    for case in cases().iter().filter(|case| odd(case)) {
        fs::write(work.path("odd").join(&case.name), &case.bytes).unwrap();
        count += 1;
    }
    assert!(count > 20, "{count}");
    // Given by name in the working folder, a name stands at the beginning of its field.
    fs::copy(work.path("odd/=1+1.png"), work.path("=1+1.png")).unwrap();
    let said = work.run("classify odd --top 1");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(is_plain(&said.stdout), "{:?}", said.stdout);
    assert_eq!(
        said.stdout
            .lines()
            .filter(|l| l.starts_with("odd/"))
            .count(),
        count
    );
    let said = work.run("classify =1+1.png odd --top 1 --format csv");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("\n./=1+1.png,1,"), "{}", said.stdout);
    assert_no_formula(said.stdout.as_bytes());
}

#[cfg(unix)]
#[test]
fn files_that_vanish_or_change_before_they_are_read_are_skipped_by_name() {
    use tl::backbone::{Backbone, BackboneParams};
    use tl::features::{PipelineParams, extract};
    use tl::progress::Progress;

    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let dataset = Dataset::open(&work.path("photos"), None).unwrap();
    fs::remove_file(work.path("photos/fish/fish1-0.jpg")).unwrap();
    fs::remove_file(work.path("photos/fish/fish25-0.jpg")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(work.path("photos/fish/fish25-0.jpg"))
        .status();
    assert!(fifo.unwrap().success());
    fs::write(work.path("photos/fish/fish3-0.jpg"), b"").unwrap();
    let backbone = Backbone::open(&BackboneParams {
        model: "efficientnet-lite0".into(),
        ..BackboneParams::default()
    })
    .unwrap();
    let store = extract(
        &backbone,
        &dataset,
        &work.path("store"),
        &PipelineParams {
            allow_missing: true,
            ..PipelineParams::default()
        },
        &Progress::silent(),
    )
    .unwrap();
    let errors = store.errors().unwrap();
    let found: Vec<(&str, &str)> = errors
        .iter()
        .map(|(path, reason)| (path.to_str().unwrap(), reason.as_str()))
        .collect();
    assert_eq!(store.meta().rows, 21);
    assert!(
        found[0].0 == "fish/fish1-0.jpg" && found[0].1.starts_with("cannot be read: No such file")
    );
    assert_eq!(
        found[1..],
        [
            (
                "fish/fish25-0.jpg",
                "cannot be read: it is not a regular file"
            ),
            ("fish/fish3-0.jpg", "is empty")
        ]
    );
}

#[cfg(unix)]
#[test]
fn files_and_folders_that_may_not_be_read_are_skipped_by_name() {
    use std::os::unix::fs::PermissionsExt;
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let closed = |name: &str| {
        let nothing = fs::Permissions::from_mode(0o000);
        fs::set_permissions(work.path(name), nothing).unwrap();
    };
    closed("photos/fish/fish1-0.jpg");
    closed("photos/windmill");
    // Root may read everything, but for the capabilities that let it.
    let root = fs::read(work.path("photos/fish/fish1-0.jpg")).is_ok();
    let run = |line: &str| {
        let mut command = work.command(line);
        if root {
            let program = std::mem::replace(&mut command, Command::new("setpriv"));
            command
                .arg("--bounding-set=-dac_override,-dac_read_search")
                .arg("--")
                .arg(program.get_program())
                .args(program.get_args())
                .current_dir(work.path(""))
                .env("TL_MODELS", repository("models"));
        }
        Said::from(command.output().unwrap())
    };
    let said = run("extract photos --out store");
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let words = "the folder `windmill` cannot be read; use --allow-missing";
    assert!(said.stderr.contains(words), "{}", said.stderr);
    let said = run("extract photos --out store --allow-missing");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for line in [
        "skipped fish/fish1-0.jpg: cannot be read",
        "windmill cannot be read",
    ] {
        assert!(said.stderr.contains(line), "{}", said.stderr);
    }
    let open = fs::Permissions::from_mode(0o700);
    fs::set_permissions(work.path("photos/windmill"), open).unwrap();
}

#[test]
fn the_limits_are_options() {
    let work = Workplace::new();
    fs::create_dir_all(work.path("photos")).unwrap();
    let jpeg = bytes::encode_jpeg(&image::DynamicImage::new_rgb8(1500, 1000));
    fs::write(work.path("photos/large.jpg"), jpeg).unwrap();
    fs::write(work.path("photos/small.png"), fixture("clean.png")).unwrap();
    let said = work.run("extract photos --out store --max-megapixels 1 --max-seconds 30");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains(
            "skipped large.jpg: is 1500 x 1000 pixels, 2 megapixels; the limit is 1 megapixels"
        ),
        "{}",
        said.stderr
    );
}
