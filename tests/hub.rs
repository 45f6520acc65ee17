//! Backbones from a server that speaks as the Hugging Face Hub does: what is fetched, what is refused, what is left.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tl::backbone::hex_sha256;

use crate::program::{Said, Workplace, repository};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const DINO: &str = "hf:timm/vit_small_patch14_dinov2.lvd142m";
const NAME: &str = "vit_small_patch14_dinov2.lvd142m";

/// What a hub does.
#[derive(Clone, Default)]
struct Manners {
    /// Ends connections to its store after this many bytes.
    cut_after: Option<usize>,
    /// Sends other bytes of the same length from its store.
    wrong_bytes: bool,
    /// Refuses everything but the listing with this status and code.
    refuses: Option<(u16, &'static str)>,
    /// Has no repository.
    has_none: bool,
}

/// A hub with one repository, and a store at another address, to which large files are redirected.
struct Hub {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

pub type Files = Vec<(String, Vec<u8>)>;

impl Hub {
    fn start(files: Files, manners: Manners) -> Hub {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files = Arc::new(files);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let store_address = format!("http://{}", store.local_addr().unwrap());
        let (for_hub, for_store, hub_manners) = (files.clone(), files, manners.clone());
        listen(listener, requests.clone(), move |head| {
            answer(head, &for_hub, &store_address, &hub_manners)
        });
        listen(store, requests.clone(), move |head| {
            stored(head, &for_store, &manners)
        });
        Hub { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The command with this hub, a folder of models of its own, and nothing of this machine's account.
    fn command(&self, work: &Workplace, line: &str) -> Command {
        let mut command = work.command(line);
        command
            .env("TL_MODELS", work.path("zoo"))
            .env("HF_ENDPOINT", &self.address)
            .env("HF_HOME", work.path("hf"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, work: &Workplace, line: &str) -> Said {
        Said::from(self.command(work, line).output().unwrap())
    }
}

fn listen(
    listener: TcpListener,
    requests: Arc<Mutex<Vec<String>>>,
    answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (requests, answer) = (requests.clone(), answer.clone());
            // A client that goes away is no fault of the server.
            std::thread::spawn(move || drop(serve(stream, &requests, &*answer)));
        }
    });
}

fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    requests.lock().unwrap().push(head.clone());
    stream.write_all(&answer(&head))
}

fn response(head: &str, status: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    if !head.starts_with("HEAD ") {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn answer(head: &str, files: &Files, store: &str, manners: &Manners) -> Vec<u8> {
    let path = target(head);
    if let Some(rest) = path.strip_prefix("/api/models/") {
        if manners.has_none {
            let code = [("X-Error-Code", "RepoNotFound".to_owned())];
            return response(head, "401 Unauthorized", &code, b"");
        }
        if !rest.ends_with("/revision/main") && !rest.ends_with(COMMIT) {
            let code = [("X-Error-Code", "RevisionNotFound".to_owned())];
            return response(head, "404 Not Found", &code, b"");
        }
        let siblings: Vec<Value> = files
            .iter()
            .map(|(name, _)| json!({"rfilename": name}))
            .collect();
        let listing =
            json!({"sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}});
        return response(head, "200 OK", &[], listing.to_string().as_bytes());
    }
    if let Some((status, code)) = manners.refuses {
        let code = [("X-Error-Code", code.to_owned())];
        return response(head, &format!("{status} No"), &code, b"");
    }
    let resolve = format!("/resolve/{COMMIT}/");
    let name = path.split_once(&resolve).map_or("", |(_, name)| name);
    let Some((_, bytes)) = files.iter().find(|(file, _)| file == name) else {
        let code = [("X-Error-Code", "EntryNotFound".to_owned())];
        return response(head, "404 Not Found", &code, b"");
    };
    let commit = ("X-Repo-Commit", COMMIT.to_owned());
    if name.ends_with(".json") {
        let etag = (
            "ETag",
            "\"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3\"".to_owned(),
        );
        return response(head, "200 OK", &[commit, etag], bytes);
    }
    let headers = [
        commit,
        ("X-Linked-Etag", format!("\"{}\"", hex_sha256(bytes))),
        ("X-Linked-Size", bytes.len().to_string()),
        ("Location", format!("{store}/{name}")),
    ];
    response(head, "302 Found", &headers, b"")
}

/// Large files, and parts of them.
fn stored(head: &str, files: &Files, manners: &Manners) -> Vec<u8> {
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    let name = &target(head)[1..];
    let bytes = &files.iter().find(|(file, _)| file == name).unwrap().1;
    let lower = head.to_lowercase();
    let range = lower.split("range: bytes=").nth(1);
    let start: usize = range.map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
    let mut body = bytes[start..].to_vec();
    if manners.wrong_bytes {
        body.iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    let mut whole = match start {
        0 => response(head, "200 OK", &[], &body),
        _ => response(
            head,
            "206 Partial Content",
            &[("Content-Range", range)],
            &body,
        ),
    };
    let sent = whole.len() - body.len() + manners.cut_after.unwrap_or(body.len()).min(body.len());
    whole.truncate(sent);
    whole
}

/// A safetensors file with numbers that differ.
fn safetensors(weights: &Value) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dims) in weights.as_object().unwrap() {
        let dims: Vec<usize> = serde_json::from_value(dims.clone()).unwrap();
        let begin = data.len();
        for i in 0..dims.iter().product::<usize>() {
            let value = ((begin + i * 7919) % 1009) as f32 / 1009.0 - 0.5;
            data.extend((value * 0.2).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": dims, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat()
}

/// The repository of a small network of DINOv2's architecture.
fn dino() -> Files {
    network("vit-dinov2")
}

/// The repository of a small network, by its name in crates/families/tests/data.
pub fn network(name: &str) -> Files {
    let text = fs::read_to_string(repository(&format!(
        "crates/families/tests/data/{name}.json"
    )))
    .unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let mut config = fixture["config"].clone();
    config["pretrained_cfg"] = json!({
        "input_size": [3, 56, 56], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "center", "num_classes": 0
    });
    vec![
        ("README.md".into(), b"# A network".to_vec()),
        ("config.json".into(), config.to_string().into_bytes()),
        ("model.safetensors".into(), safetensors(&fixture["weights"])),
    ]
}

fn photos(work: &Workplace) {
    work.copy_tiny("photos", 1);
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn a_network_of_the_hub_is_fetched_and_fitted_by_two_commands() {
    let (work, hub) = (Workplace::new(), Hub::start(dino(), Manners::default()));
    photos(&work);
    let missing = hub.run(&work, &format!("fit photos --model {DINO} -o m.onnx"));
    assert!(
        missing
            .stderr
            .contains(&format!("`tl-batch models fetch {NAME}`")),
        "{}",
        missing.stderr
    );
    let missing = hub.run(&work, "fit photos --model hf:timm/other -o m.onnx");
    let way = "download it with `tl-batch models fetch hf:timm/other`";
    assert!(missing.stderr.contains(way), "{}", missing.stderr);
    let mut fetch = hub.command(&work, &format!("models fetch {DINO}"));
    let said = Said::from(fetch.env("HF_TOKEN", "hf_secret").output().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("licence: apache-2.0"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("hf_secret"), "{}", said.stderr);
    assert!(
        hub.requests()
            .iter()
            .any(|head| head.contains("Bearer hf_secret"))
    );
    let said = hub.run(&work, &format!("fit photos --model {NAME} -o m.onnx"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("same results: TRUE"),
        "{}",
        said.stdout
    );

    let card = fs::read_to_string(work.path(&format!("zoo/{NAME}.toml"))).unwrap();
    let weights = hex_sha256(&dino()[2].1);
    for line in [
        "hub = \"timm/vit_small_patch14_dinov2.lvd142m\"".to_owned(),
        format!("revision = \"{COMMIT}\""),
        format!("sha256 = \"{weights}\""),
        "license = \"apache-2.0\"".into(),
        "crop-pct = 1.0".into(),
        "filter = \"bicubic\"".into(),
        "input-size = 56".into(),
    ] {
        assert!(card.contains(&line), "{line} is not in\n{card}");
    }
    let before = hub.requests().len();
    let again = hub.run(&work, &format!("models fetch {DINO}"));
    assert!(
        again.stdout.contains("is already on this machine"),
        "{}",
        again.stdout
    );
    assert_eq!(hub.requests().len(), before + 1);
    // The name of the repository and that of the network lead to the same features, at another size, too.
    let said = hub.run(
        &work,
        &format!("extract photos --model {DINO}@{COMMIT} --input-size 42 --out f"),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = hub.run(
        &work,
        &format!("extract photos --model {NAME} --input-size 43 --out g"),
    );
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("multiples of its patches' 14 pixels"),
        "{}",
        said.stderr
    );
    let said = hub.run(
        &work,
        "summary hf:facebook/vit_small_patch14_dinov2.lvd142m",
    );
    assert!(said.stderr.contains("is from hf:timm/"), "{}", said.stderr);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let manners = Manners {
        cut_after: Some(100_000),
        ..Manners::default()
    };
    let (work, hub) = (Workplace::new(), Hub::start(dino(), manners));
    let said = hub.run(&work, &format!("models fetch {DINO}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let resumed = hub
        .requests()
        .iter()
        .any(|head| head.to_lowercase().contains("range: bytes=100000-"));
    assert!(resumed, "{:?}", hub.requests());
    let folder = work.path(&format!("zoo/{NAME}@{}", &COMMIT[..12]));
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == dino()[2].1);
    assert!(!folder.join("model.safetensors.part").exists());
}

#[test]
fn what_the_hub_refuses_or_has_not_is_said_in_a_sentence_and_leaves_no_network() {
    let gated = |status| Manners {
        refuses: Some((status, "GatedRepo")),
        ..Manners::default()
    };
    let with = |manners| (dino(), manners);
    let without = |name: &str, other: &str| {
        let mut files = dino();
        files
            .iter_mut()
            .filter(|(file, _)| file == name)
            .for_each(|(file, _)| *file = other.into());
        (files, Manners::default())
    };
    let other = |config: &str| {
        let mut files = dino();
        files[1].1 = config.into();
        (files, Manners::default())
    };
    let weights = |bytes: Vec<u8>| {
        let mut files = dino();
        files[2].1 = bytes;
        (files, Manners::default())
    };
    let missing = Manners {
        has_none: true,
        ..Manners::default()
    };
    let wrong = Manners {
        wrong_bytes: true,
        ..Manners::default()
    };
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for ((files, manners), revision, said_to_user) in [
        (
            with(gated(401)),
            "",
            "accept their terms there, and set HF_TOKEN to a token of that account",
        ),
        (
            with(gated(403)),
            "",
            "accept their terms there, and set HF_TOKEN",
        ),
        (
            with(missing),
            "",
            "there is no such repository, or it is private",
        ),
        (with(Manners::default()), "@v2", "has no such revision"),
        (with(wrong), "", "is not the one that the hub describes"),
        (
            without("model.safetensors", "pytorch_model.bin"),
            "",
            "weights for PyTorch only",
        ),
        (
            without("config.json", "x.json"),
            "",
            "no config.json that says which network it is",
        ),
        (
            other(r#"{"architecture": "tresnet_m"}"#),
            "",
            "timm's tresnet_m is not built here",
        ),
        (other("{"), "", "config.json: it is not valid JSON"),
        (
            weights(huge),
            "",
            "its header would have 18446744073709551615 bytes",
        ),
    ] {
        let (work, hub) = (Workplace::new(), Hub::start(files, manners));
        let said = hub.run(&work, &format!("models fetch {DINO}{revision}"));
        let code = if said.stderr.contains("cannot download") {
            1
        } else {
            4
        };
        assert_eq!(said.code, Some(code), "{said_to_user}: {}", said.stderr);
        assert!(
            said.stderr.contains(said_to_user),
            "{said_to_user}: {}",
            said.stderr
        );
        assert!(
            !work.path(&format!("zoo/{NAME}.toml")).exists(),
            "{said_to_user}"
        );
        let came = hub
            .requests()
            .iter()
            .any(|head| head.contains("GET /model.safetensors"));
        let is_late = ["the hub describes", "its header"]
            .iter()
            .any(|end| said_to_user.contains(end));
        assert_eq!(came, is_late, "{said_to_user}");
    }
    let (work, hub) = (Workplace::new(), Hub::start(dino(), gated(403)));
    let mut fetch = hub.command(&work, &format!("models fetch {DINO}"));
    let said = Said::from(fetch.env("HF_TOKEN", "hf_secret").output().unwrap());
    assert!(
        said.stderr
            .contains("not given access to the account of your token"),
        "{}",
        said.stderr
    );
    let said = hub.run(&work, "models fetch hf:timm");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(is_empty(&work.path("elsewhere")));
}

#[test]
fn a_copied_repository_and_what_other_programs_fetched_need_no_network() {
    let (work, hub) = (Workplace::new(), Hub::start(dino(), Manners::default()));
    let write = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        for (name, bytes) in dino() {
            fs::write(folder.join(name), bytes).unwrap();
        }
    };
    write(&work.path("stick"));
    let said = hub.run(&work, &format!("models fetch {DINO} --from stick"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(hub.requests(), Vec::<String>::new());
    let said = hub.run(&work, &format!("models show {NAME}"));
    assert!(said.stdout.contains("pool (32)"), "{}", said.stdout);

    let work = Workplace::new();
    write(&work.path(&format!("hf/hub/models--timm--{NAME}/snapshots/{COMMIT}")));
    fs::write(work.path("hf/token"), "hf_stored\n").unwrap();
    let said = hub.run(&work, &format!("models fetch {DINO}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let requests = hub.requests();
    assert!(
        !requests
            .iter()
            .any(|head| head.contains("GET /model.safetensors")),
        "{requests:?}"
    );
    assert!(
        requests
            .iter()
            .all(|head| head.contains("Bearer hf_stored")),
        "{requests:?}"
    );
}

#[test]
fn a_repository_of_onnx_is_taken_as_it_is() {
    let processor = json!({
        "do_resize": true, "size": {"height": 32, "width": 32}, "resample": 3, "do_rescale": true,
        "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]
    });
    let files = vec![
        (
            "onnx/model.onnx".to_owned(),
            fs::read(repository("tests/data/small.onnx")).unwrap(),
        ),
        (
            "config.json".to_owned(),
            br#"{"model_type": "something"}"#.to_vec(),
        ),
        (
            "preprocessor_config.json".to_owned(),
            processor.to_string().into_bytes(),
        ),
    ];
    let (work, hub) = (Workplace::new(), Hub::start(files, Manners::default()));
    photos(&work);
    let said = hub.run(&work, "models fetch hf:onnx-community/small");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let card = fs::read_to_string(work.path("zoo/small.toml")).unwrap();
    assert!(
        card.contains("mean = [0.5, 0.5, 0.5]") && card.contains("filter = \"bicubic\""),
        "{card}"
    );
    let said = hub.run(&work, "fit photos --model small -o m.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}
