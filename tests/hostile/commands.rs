//! Every command that takes a file from elsewhere, on every file that means harm: it ends by itself, within a limit of
//! memory and output, with a documented exit code and one sentence, and leaves what is around its folder alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use tract_onnx::pb;

use super::graphs::fronts;
use super::is_plain;
use crate::program::repository;

/// Address space of a run, in KiB: some ten times what the small networks here need.
const MOST_KIB: usize = 3_000_000;

/// Most that a run may write to its standard output and error together.
const MOST_OUTPUT: usize = 64 << 10;

/// Only a run that never ends takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The exit codes that `--help` lists.
const CODES: [i32; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 130];

/// Commands that read no file which another person may have written.
const WITHOUT_FILES: [&str; 2] = ["completions", "man"];

/// What a word of a command line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A network without a record.
    Base,
    /// A saved model.
    Saved,
    /// The head of one.
    Head,
    /// A feature store, finished or not.
    Store,
    /// A CSV file of labels.
    Labels,
    /// A `run.toml`.
    Config,
    /// A model card.
    Card,
}

use Kind::{Base, Card, Config, Head, Labels, Saved, Store};

/// The command lines; `FILE` stands for the file that means harm. What else they name is in order.
const LINES: [(Kind, &str); 39] = [
    (Base, "summary FILE --input-size 32"),
    (Base, "bench FILE --input-size 32 --seconds 0.001 -j 1"),
    (
        Base,
        "extract photos --out out --model FILE --input-size 32 -j 1",
    ),
    (
        Base,
        "fit photos -o out.onnx --model FILE --input-size 32 --epochs 1 -j 1",
    ),
    (
        Base,
        "finetune FILE photos --unfreeze-from 1 -o out.onnx --epochs 1 --tune-epochs 1 --tune-warmup-epochs 0 --input-size 32",
    ),
    (
        Base,
        "probe-layers photos --out out --model FILE --input-size 32 --epochs 1 --folds 2 -j 1",
    ),
    (Base, "classify photos/a/0.png --model FILE --input-size 32"),
    (
        Base,
        "models add FILE --to zoo --preprocess torch --input-size 32",
    ),
    (Base, "models show FILE"),
    (Base, "augment-preview photos -o out.png --model FILE"),
    (Saved, "predict FILE photos -j 1"),
    (Saved, "verify FILE"),
    (Saved, "evaluate FILE photos -j 1"),
    (Saved, "bench FILE --seconds 0.001 -j 1"),
    (Saved, "summary FILE"),
    (Saved, "export FILE --head-only -o out.onnx"),
    (Saved, "install FILE good.onnx"),
    (Saved, "quantize FILE photos -o out.onnx -j 1"),
    (
        Saved,
        "finetune FILE photos --unfreeze-from 1 -o out.onnx --epochs 1 --tune-epochs 1 --tune-warmup-epochs 0",
    ),
    (Saved, "watch gone FILE"),
    (Head, "install FILE good.onnx"),
    (Head, "install FILE new.onnx --base base.onnx"),
    (Head, "predict FILE photos"),
    (Head, "verify FILE"),
    (Store, "train FILE -o out.onnx --epochs 1"),
    (
        Store,
        "extract photos --out FILE --model base.onnx --input-size 32 -j 1",
    ),
    (
        Store,
        "fit photos -o out.onnx --features FILE --model base.onnx --input-size 32 --epochs 1 -j 1",
    ),
    (
        Store,
        "probe-layers photos --out FILE --model base.onnx --input-size 32 --epochs 1 --folds 2",
    ),
    (
        Labels,
        "extract photos --labels FILE --out out --model base.onnx --input-size 32 -j 1",
    ),
    (Labels, "evaluate good.onnx photos --labels FILE -j 1"),
    (
        Labels,
        "quantize good.onnx photos --labels FILE -o out.onnx",
    ),
    (
        Labels,
        "augment-preview photos --labels FILE -o out.png --model base.onnx",
    ),
    (Config, "fit --config FILE"),
    (Config, "extract --config FILE"),
    (Config, "train --config FILE"),
    (Config, "finetune --config FILE"),
    (Config, "quantize --config FILE"),
    (Card, "models add base.onnx --card FILE --to zoo"),
    (Card, "models fetch net --from cards --to zoo"),
];

/// A folder to work in, with a file beside it that nobody may touch.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(ground.dir.path().join("untouched"), "as it was\n").unwrap();
        for folder in ["photos/a", "photos/b", "cards", "zoo"] {
            fs::create_dir_all(ground.path(folder)).unwrap();
        }
        for (class, level) in [("a", 40), ("b", 200)] {
            for number in 0..3 {
                let picture =
                    image::RgbImage::from_pixel(16, 16, image::Rgb([level, 99, number * 50]));
                let path = ground.path(&format!("photos/{class}/{number}.png"));
                picture.save(path).unwrap();
            }
        }
        fs::write(ground.path("base.onnx"), base()).unwrap();
        fs::write(ground.path("good.onnx"), saved()).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Runs `tl-batch` with `line` in the folder, within the limits.
    fn run(&self, line: &str) -> Output {
        let limits = format!("ulimit -v {MOST_KIB}; ulimit -c 0; exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &limits, env!("CARGO_BIN_EXE_tl-batch")])
            .args(line.split(' '))
            .current_dir(self.path(""))
            .env("TL_MODELS", self.path("zoo"))
            .env("HOME", self.path("home"))
            .env("XDG_DATA_HOME", self.path("home"))
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let reading = [
            read_all(child.stdout.take().unwrap()),
            read_all(child.stderr.take().unwrap()),
        ];
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{line}: does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] = reading.map(|thread| thread.join().unwrap());
        Output {
            status,
            stdout,
            stderr,
        }
    }

    /// What is wrong with how a run of `line` ended; none if it kept its promises.
    fn broken_promise(&self, line: &str) -> Option<String> {
        let output = self.run(line);
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|l| l.starts_with("error: "))
            .collect();
        let code = output.status.code();
        let problem = if !code.is_some_and(|code| CODES.contains(&code)) {
            format!("ends with {}", output.status)
        } else if stdout.len() + stderr.len() > MOST_OUTPUT {
            "says too much".to_owned()
        } else if stderr.contains("panicked") || stderr.contains("RUST_BACKTRACE") {
            "panics".to_owned()
        } else if !is_plain(&stderr) || !is_plain(&stdout) {
            "writes what a terminal acts on".to_owned()
        } else if errors.len() != usize::from(code != Some(0)) {
            format!("has exit code {code:?} and {} errors", errors.len())
        } else if forged(&stdout) || forged(&stderr) {
            "says a line that a file made it say".to_owned()
        } else if !self.is_alone() {
            "writes outside of its folder".to_owned()
        } else {
            return None;
        };
        let shown: String = stderr.chars().take(600).collect();
        Some(format!("{line}: {problem}\n  {shown}"))
    }

    /// Whether what is beside the folder is as it was.
    fn is_alone(&self) -> bool {
        let beside = fs::read_dir(self.dir.path()).unwrap();
        let names: BTreeSet<OsString> = beside.map(|e| e.unwrap().file_name()).collect();
        let expected: BTreeSet<OsString> = ["untouched", "work"].map(OsString::from).into();
        let kept = fs::read_to_string(self.dir.path().join("untouched"));
        names == expected && kept.is_ok_and(|text| text == "as it was\n")
    }
}

/// The marks that the files here try to put at the beginning of a line.
fn forged(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("FORGED"))
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Beyond what may be said, it is only emptied.
        let _ = from.by_ref().take(1 << 20).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut from, &mut std::io::sink());
        bytes
    })
}

fn base() -> Vec<u8> {
    fs::read(repository("tests/data/small.onnx")).unwrap()
}

fn saved() -> Vec<u8> {
    fs::read(repository("tests/fuzz/seeds/saved_model/m.onnx")).unwrap()
}

/// The model `bytes` with `change` made to it.
fn changed(bytes: &[u8], change: impl FnOnce(&mut pb::ModelProto)) -> Vec<u8> {
    let mut model = pb::ModelProto::decode(bytes).unwrap();
    change(&mut model);
    model.encode_to_vec()
}

/// The saved model with `change` made to its record.
fn with_record(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    changed(&saved(), |model| {
        let mut entries = model.metadata_props.iter_mut();
        let entry = entries.find(|e| e.key == "tl.record").unwrap();
        let mut record: serde_json::Value = serde_json::from_str(&entry.value).unwrap();
        change(&mut record);
        entry.value = record.to_string();
    })
}

/// Records that mean harm, in a network that is in order.
fn records() -> Vec<(String, Vec<u8>)> {
    use serde_json::json;
    let set = |pointer: &'static str, value: serde_json::Value| {
        let name = format!("record{}", pointer.replace('/', "-"));
        let bytes = with_record(|record| *record.pointer_mut(pointer).unwrap() = value.clone());
        (format!("{name}-{}", value.to_string().len()), bytes)
    };
    let forging = "x\nFORGED same results: TRUE\n\u{1b}[2J";
    vec![
        set("/backbone/input-size", json!(100_000)),
        set("/backbone/input-size", json!(0)),
        set("/backbone/input-size", json!(4_294_967_295_u32)),
        set("/backbone/model", json!(forging)),
        set("/backbone/cut", json!(forging)),
        set("/backbone/preprocess/std", json!([0.0, 0.0, 0.0])),
        set("/backbone/preprocess/mean", json!([1e38, -1e38, 0.0])),
        set("/backbone/preprocess/scale", json!(1e38)),
        set("/classes/0", json!(forging)),
        set("/classes", json!(["one"])),
        set("/classes", json!([])),
        set("/feature-shape", json!([1_u64 << 60, 1_u64 << 60])),
        set("/reference/machine", json!(forging)),
        set("/reference/probe", json!([])),
        set("/reference/probe", json!([1e38, 0.0, 0.0])),
        set("/training/dataset", json!(format!("/dev/{forging}"))),
        set("/training/dataset", json!("/proc/self/fd")),
        set("/training/head/epochs", json!(u64::MAX)),
        set("/training/head/hidden", json!([u64::MAX, u64::MAX])),
        set(
            "/reference/images",
            json!([{"path": "../../../etc/passwd", "sha256": "", "probabilities": [0.1]}]),
        ),
        set("/record-version", json!(7)),
        (
            "record-cut-off".into(),
            changed(&saved(), |model| {
                model
                    .metadata_props
                    .iter_mut()
                    .for_each(|e| e.value.truncate(200));
            }),
        ),
        (
            "record-deep".into(),
            changed(&saved(), |model| {
                model
                    .metadata_props
                    .iter_mut()
                    .for_each(|e| e.value = "[".repeat(100_000));
            }),
        ),
    ]
}

/// Networks in order, but for the names in them.
fn forged_names(bytes: &[u8]) -> Vec<u8> {
    changed(bytes, |model| {
        let graph = model.graph.get_or_insert_default();
        for (i, node) in graph.node.iter_mut().enumerate() {
            node.name = format!("n{i}\nFORGED line\r\nFORGED \u{1b}[31m\u{202e}");
        }
    })
}

/// A file, or a folder of files, that means harm.
struct Hostile {
    kind: Kind,
    name: String,
    /// Name in the folder `NAME`, or nothing for the file itself, and bytes.
    files: Vec<(String, Vec<u8>)>,
}

fn file(kind: Kind, name: impl Into<String>, bytes: Vec<u8>) -> Hostile {
    Hostile {
        kind,
        name: name.into(),
        files: vec![(String::new(), bytes)],
    }
}

/// Damage that every kind of file can have.
fn damaged(kind: Kind, ending: &str, bytes: &[u8]) -> Vec<Hostile> {
    let half = bytes[..bytes.len() / 2].to_vec();
    let noise: Vec<u8> = (0..5_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    vec![
        file(kind, format!("empty.{ending}"), Vec::new()),
        file(kind, format!("half.{ending}"), half),
        file(kind, format!("noise.{ending}"), noise),
        file(
            kind,
            format!("text.{ending}"),
            b"x\nFORGED line\n\x1b[2J".repeat(50),
        ),
    ]
}

fn models() -> Vec<Hostile> {
    let mut found = Vec::new();
    for front in fronts() {
        for (kind, bytes) in [(Base, base()), (Saved, saved())] {
            let bytes = changed(&bytes, |m| {
                front.put_before(m.graph.get_or_insert_default())
            });
            found.push(file(kind, format!("{}.onnx", front.name), bytes));
        }
    }
    for (kind, bytes) in [(Base, base()), (Saved, saved())] {
        found.extend(damaged(kind, "onnx", &bytes));
        found.push(file(kind, "names.onnx", forged_names(&bytes)));
    }
    for (name, bytes) in records() {
        found.push(file(Saved, format!("{name}.onnx"), bytes));
    }
    found.extend(damaged(Head, "onnx", &saved()));
    found
}

fn stores() -> Vec<Hostile> {
    let seed = fs::read(repository("tests/fuzz/seeds/store/small")).unwrap();
    let names = ["meta.json", "index.csv", "errors.csv", "features.npy"];
    let mut parts = Vec::new();
    let mut rest = &seed[..];
    while let Some(end) = rest.windows(6).position(|w| w == b"\n----\n") {
        parts.push(rest[..=end].to_vec());
        rest = &rest[end + 6..];
    }
    parts.push(rest.to_vec());
    assert_eq!(parts.len(), names.len());
    let store = |name: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut parts = parts.clone();
        change(&mut parts);
        let files = names.map(str::to_owned).into_iter().zip(parts);
        Hostile {
            kind: Store,
            name: name.to_owned(),
            files: files.collect(),
        }
    };
    let replaced = |part: usize, from: &'static str, to: &'static str| {
        move |parts: &mut Vec<Vec<u8>>| {
            let text = String::from_utf8_lossy(&parts[part]).replace(from, to);
            parts[part] = text.into_bytes();
        }
    };
    vec![
        store("store-as-it-is", &|_| {}),
        store(
            "store-rows",
            &replaced(0, "\"rows\": 2", "\"rows\": 1152921504606846976"),
        ),
        store(
            "store-shape",
            &replaced(0, "  8\n", "  1152921504606846976\n"),
        ),
        store(
            "store-class",
            &replaced(0, "\"fish\"", "\"x\\nFORGED line\""),
        ),
        store(
            "store-model",
            &replaced(0, "./small.onnx", "../../../../etc/passwd"),
        ),
        store(
            "store-cut",
            &replaced(0, "\"features\"", "\"x\\nFORGED line\""),
        ),
        store(
            "store-index",
            &replaced(1, "fish/fish1.jpg", "../../untouched"),
        ),
        store(
            "store-huge-row",
            &replaced(1, "\n0,", "\n99999999999999999999,"),
        ),
        store("store-no-features", &|parts| parts[3].clear()),
        store("store-half-features", &|parts| {
            let half = parts[3].len() / 2;
            parts[3].truncate(half);
        }),
        store("store-no-meta", &|parts| parts[0].clear()),
    ]
}

fn texts() -> Vec<Hostile> {
    let csv = |name: &str, text: &str| file(Labels, name, text.as_bytes().to_vec());
    let long = format!("a/0.png,{}\nb/0.png,b\n", "x".repeat(1 << 20));
    let mut found = vec![
        csv(
            "forging.csv",
            "a/0.png,\"x\nFORGED line\"\nb/0.png,\"y\r\nFORGED\"\n",
        ),
        csv("outside.csv", "../../untouched,a\nb/0.png,b\n"),
        csv("absolute.csv", "/etc/passwd,a\nb/0.png,b\n"),
        csv("unclosed.csv", "a/0.png,\"a\nb/0.png,b\n"),
        csv("binary.csv", "a/0.png,\u{1b}]0;x\u{7}\nb/0.png,\u{202e}b\n"),
        csv("long.csv", &long),
    ];
    found.extend(damaged(Labels, "csv", b"a/0.png,a\nb/0.png,b\n"));
    let settings = "dataset = 'photos'\noutput = 'out.onnx'\nmodel = 'base.onnx'\ninput-size = 32\nworkers = 1\n";
    let numbers = [
        "epochs = 99999999999",
        "hidden = [4000000000]",
        "hidden = [65536, 65536, 65536]",
        "batch-size = 1000000000000",
        "workers = 4000000000",
        "folds = 4000000000",
        "views = 4000000000\naugment = 'default'",
        "early-stopping = 9000000000000000000",
        "max-megapixels = 4000000000",
        "input-size = 4000000000",
        "budget = '99999999999h'",
        "learning-rate = nan",
        "model = \"x\\nFORGED line\"",
        "\"x\\nFORGED line\" = 1",
        "epochs = -1",
    ];
    for (i, line) in numbers.iter().enumerate() {
        let name = line.split(' ').next().unwrap_or_default();
        let kept: String = settings
            .lines()
            .filter(|l| !l.starts_with(&format!("{name} =")))
            .map(|l| format!("{l}\n"))
            .collect();
        let text = format!("{kept}{line}\n");
        found.push(file(Config, format!("numbers-{i}.toml"), text.into_bytes()));
    }
    found.extend(damaged(Config, "toml", settings.as_bytes()));
    let card = fs::read_to_string(repository("tests/fuzz/seeds/settings/card.toml")).unwrap();
    let title = card.replacen("title = \"", "title = \"x\\nFORGED line\\u001b[2J", 1);
    let size = format!("{card}\n").replacen("input-size = ", "input-size = 4000000", 1);
    found.push(file(Card, "title.toml", title.into_bytes()));
    found.push(file(Card, "size.toml", size.into_bytes()));
    found.extend(damaged(Card, "toml", card.as_bytes()));
    found
}

/// The commands that `--help` lists, with those below `models`.
fn commands() -> BTreeSet<String> {
    let listed = |words: &[&str]| -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_tl-batch"))
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.strip_prefix("  ")?
                    .split(' ')
                    .next()
                    .map(str::to_owned)
            })
            .filter(|name| !name.is_empty())
            .collect()
    };
    let mut all: BTreeSet<String> = listed(&["--help"]).into_iter().collect();
    assert!(all.remove("models"), "{all:?}");
    all.extend(
        listed(&["models", "--help"])
            .into_iter()
            .map(|name| format!("models {name}")),
    );
    all
}

#[test]
fn no_command_that_takes_a_file_is_left_out() {
    let mut tried: BTreeSet<String> = LINES
        .iter()
        .map(|(_, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            words[..if words[0] == "models" { 2 } else { 1 }].join(" ")
        })
        .collect();
    tried.extend(WITHOUT_FILES.map(str::to_owned));
    // It shows what is in the folders of models; cards there are read by `models show` as well.
    tried.insert("models list".to_owned());
    let there = commands();
    let untried: Vec<&String> = there.iter().filter(|name| !tried.contains(*name)).collect();
    assert!(
        untried.is_empty() && there.len() > 20,
        "{untried:?} of {there:?}"
    );
}

/// Runs the lines of some files; each file meets `lines` of the command lines of its kind, in turn.
fn hold_against(files: &[Hostile], lines: usize) {
    let lines = match std::env::var_os("TL_CAMPAIGN") {
        Some(_) => usize::MAX,
        None => lines,
    };
    let threads = 2;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let broken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let ground = Ground::new();
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(hostile) = files.get(number) else {
                        break;
                    };
                    let found = try_one(&ground, hostile, number, lines);
                    broken.lock().unwrap().extend(found);
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "{} of {} files:\n{}",
        broken.len(),
        files.len(),
        broken.join("\n")
    );
}

fn try_one(ground: &Ground, hostile: &Hostile, number: usize, lines: usize) -> Vec<String> {
    let own: Vec<&str> = LINES
        .iter()
        .filter(|(kind, _)| *kind == hostile.kind)
        .map(|(_, line)| *line)
        .collect();
    let chosen = (0..lines.min(own.len())).map(|i| own[(number + i * 3) % own.len()]);
    let mut broken = Vec::new();
    for line in chosen {
        for left in [
            "out",
            "out.onnx",
            "out.png",
            "out.run.toml",
            "new.onnx",
            "out.features",
            "out.maps",
            "zoo",
            "cards",
        ] {
            let path = ground.path(left);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
        }
        fs::create_dir_all(ground.path("zoo")).unwrap();
        fs::create_dir_all(ground.path("cards")).unwrap();
        fs::write(ground.path("good.onnx"), saved()).unwrap();
        lay(ground, hostile);
        let line = line.replace("FILE", &hostile.name);
        broken.extend(ground.broken_promise(&line));
    }
    broken
}

/// Puts a file, or a folder, where the command lines look for it.
fn lay(ground: &Ground, hostile: &Hostile) {
    let path = ground.path(&hostile.name);
    let _ = fs::remove_dir_all(&path);
    for (name, bytes) in &hostile.files {
        let target = if name.is_empty() {
            path.clone()
        } else {
            path.join(name)
        };
        fs::create_dir_all(target.parent().unwrap_or(Path::new("."))).unwrap();
        fs::write(target, bytes).unwrap();
    }
    if hostile.kind == Card {
        let bytes = &hostile.files[0].1;
        fs::write(ground.path("cards/net.toml"), bytes).unwrap();
        fs::write(ground.path("cards/net.onnx"), base()).unwrap();
    }
}

#[test]
fn networks_and_records_that_mean_harm_end_in_a_sentence() {
    hold_against(&models(), 2);
}

#[test]
fn stores_labels_settings_and_cards_that_mean_harm_end_in_a_sentence() {
    let files: Vec<Hostile> = stores().into_iter().chain(texts()).collect();
    hold_against(&files, 3);
}
