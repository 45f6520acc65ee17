//! The zoo: fetching from servers with bad manners, adding, listing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tl::backbone::hex_sha256;

use crate::program::{Said, Workplace, repository};
use crate::server::{Manner, Server};

/// A file that is no network: fetching does not look inside.
fn file() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// A folder of models whose one card describes [`file`].
fn with_card(work: &Workplace) {
    let bytes = file();
    let card = fs::read_to_string(repository("models/efficientnet-lite0.toml")).unwrap();
    let own = [
        ("name = ", "name = \"net\"".to_owned()),
        ("file = ", "file = \"net.onnx\"".to_owned()),
        ("sha256 = ", format!("sha256 = \"{}\"", hex_sha256(&bytes))),
        ("bytes = ", format!("bytes = {}", bytes.len())),
    ];
    let lines: Vec<String> = card
        .lines()
        .map(
            |line| match own.iter().find(|(key, _)| line.starts_with(key)) {
                Some((_, replacement)) => replacement.clone(),
                None => line.to_owned(),
            },
        )
        .collect();
    fs::create_dir(work.path("zoo")).unwrap();
    fs::write(work.path("zoo/net.toml"), lines.join("\n")).unwrap();
}

/// The command with the folder of models of [`with_card`] and without the proxies of this machine.
fn command(work: &Workplace, line: &str) -> Command {
    let mut command = work.command(line);
    command.env("TL_MODELS", work.path("zoo"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

fn run(work: &Workplace, line: &str) -> Said {
    Said::from(command(work, line).output().unwrap())
}

fn fetch(manner: Manner) -> (Workplace, Server, Said) {
    let work = Workplace::new();
    with_card(&work);
    let server = Server::start(file(), manner);
    let said = run(
        &work,
        &format!("models fetch net --from {}", server.address),
    );
    (work, server, said)
}

#[test]
fn a_file_comes_whole_from_servers_that_break_off_or_redirect_or_know_no_ranges() {
    for (manner, requests) in [
        (Manner::Honest, 1),
        (Manner::CutAfter(500_000), 3),
        (Manner::Redirect, 2),
        (Manner::WithoutRanges, 1),
    ] {
        let (work, server, said) = fetch(manner);
        assert_eq!(said.code, Some(0), "{manner:?}: {}", said.stderr);
        assert!(
            fs::read(work.path("zoo/net.onnx")).unwrap() == file(),
            "{manner:?}"
        );
        assert!(!work.path("zoo/net.onnx.part").exists(), "{manner:?}");
        assert_eq!(server.requests().len(), requests, "{manner:?}");
        let again = run(
            &work,
            &format!("models fetch net --from {}", server.address),
        );
        assert!(
            again.stdout.contains("is already on this machine"),
            "{}",
            again.stdout
        );
        assert_eq!(server.requests().len(), requests, "{manner:?}");
    }
}

#[test]
fn a_server_that_lies_leaves_no_file_and_says_why() {
    for (manner, reason) in [
        (
            Manner::WrongLength,
            "the server's file has 1200007 bytes, the card says 1200000",
        ),
        (Manner::Endless, "the server sends more"),
        (Manner::WrongBytes, "the file (1200000 bytes, SHA-256 "),
        (
            Manner::Missing,
            "the server returned status 404; use --from with a mirror",
        ),
    ] {
        let (work, _, said) = fetch(manner);
        assert_eq!(said.code, Some(1), "{manner:?}: {}", said.stderr);
        assert!(said.stderr.contains(reason), "{manner:?}: {}", said.stderr);
        assert!(!work.path("zoo/net.onnx").exists(), "{manner:?}");
    }
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let work = Workplace::new();
    with_card(&work);
    let stalling = Server::start(file(), Manner::StallAfter(700_000));
    let mut child = command(
        &work,
        &format!("models fetch net --from {}", stalling.address),
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let part = work.path("zoo/net.onnx.part");
    let started = Instant::now();
    while fs::metadata(&part).map_or(0, |m| m.len()) < 700_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let honest = Server::start(file(), Manner::Honest);
    let said = run(
        &work,
        &format!("models fetch net --from {}", honest.address),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("zoo/net.onnx")).unwrap() == file());
    assert!(
        honest.requests()[0].contains("range: bytes=700000-"),
        "{:?}",
        honest.requests()
    );
}

#[test]
fn what_another_file_left_is_thrown_away() {
    let work = Workplace::new();
    with_card(&work);
    fs::write(work.path("zoo/net.onnx.part"), vec![7; 1000]).unwrap();
    let server = Server::start(file(), Manner::Honest);
    let said = run(
        &work,
        &format!("models fetch net --from {}", server.address),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("zoo/net.onnx")).unwrap() == file());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_proxy_is_asked_for_what_is_not_local() {
    let work = Workplace::new();
    with_card(&work);
    let proxy = Server::start(file(), Manner::Honest);
    let output = command(&work, "models fetch net --from http://models.invalid")
        .env("HTTP_PROXY", &proxy.address)
        .env("http_proxy", &proxy.address)
        .output()
        .unwrap();
    let said = Said::from(output);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        proxy
            .requests()
            .iter()
            .any(|head| head.contains("models.invalid")),
        "{:?}",
        proxy.requests()
    );
}

#[test]
fn a_folder_carries_a_base_to_a_machine_without_a_network() {
    let work = Workplace::new();
    with_card(&work);
    let server = Server::start(file(), Manner::Honest);
    let said = run(
        &work,
        &format!("models fetch net --from {} --to stick", server.address),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    fs::remove_dir_all(work.path("zoo")).unwrap();
    let said = run(&work, "models fetch net --from stick");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(fs::read(work.path("zoo/net.onnx")).unwrap() == file());
    assert!(work.path("zoo/net.toml").exists());

    fs::write(work.path("stick/net.onnx"), b"something else").unwrap();
    fs::remove_file(work.path("zoo/net.onnx")).unwrap();
    let said = run(&work, "models fetch net --from stick");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(!work.path("zoo/net.onnx").exists());
}

#[test]
fn the_list_says_what_there_is_and_where() {
    let work = Workplace::new();
    with_card(&work);
    let said = run(&work, "models");
    let line = |name: &str| {
        let lines = said.stdout.lines();
        let words: Vec<Vec<&str>> = lines.map(|l| l.split_whitespace().collect()).collect();
        words
            .into_iter()
            .find(|words| words.first() == Some(&name))
            .unwrap()
            .join(" ")
    };
    assert_eq!(
        line("efficientnet-lite0"),
        "efficientnet-lite0 4.7 M 18.8 224 0.4 1280 - built in Apache-2.0"
    );
    assert_eq!(
        line("mobilenetv2"),
        "mobilenetv2 ~3.5 M 14.0 224 ? 1280 69.5 % no Apache-2.0"
    );
    assert!(line("net").contains(" no "), "{}", said.stdout);
    let shown = run(&work, "models show mobilenetv2");
    assert!(
        shown
            .stdout
            .contains("the numbers are those that the source publishes"),
        "{}",
        shown.stdout
    );
    let missing = run(&work, "summary mobilenetv2");
    assert_eq!(missing.code, Some(4));
    assert!(
        missing
            .stderr
            .contains("download them with `tl-batch models fetch mobilenetv2` (14.0 MB)"),
        "{}",
        missing.stderr
    );
    let made = run(&work, "models fetch xception");
    assert!(
        made.stderr.contains("scripts/export_keras.py Xception"),
        "{}",
        made.stderr
    );
}

#[test]
fn a_foreign_file_becomes_a_base_with_a_name() {
    let work = Workplace::new();
    fs::create_dir(work.path("zoo")).unwrap();
    let foreign = work.path("foreign.onnx");
    fs::copy(repository("models/efficientnet-lite0.onnx"), &foreign).unwrap();
    let said = run(
        &work,
        "models add foreign.onnx --name mine --license Apache-2.0",
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("guessed"), "{}", said.stderr);
    for fact in [
        "features (1280)",
        "logits      logits",
        "parameters  4,694,024",
    ] {
        assert!(said.stdout.contains(fact), "{fact}: {}", said.stdout);
    }
    let said = run(&work, "models add foreign.onnx --name mine --preprocess tf");
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    let said = run(
        &work,
        "models add foreign.onnx --name mine --preprocess tf --cut block5b_add --force",
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(!said.stderr.contains("guess"), "{}", said.stderr);
    let tiny = repository("datasets/tiny");
    let said = run(
        &work,
        &format!("fit {} -o out.onnx --model mine --epochs 5", tiny.display()),
    );
    assert!(
        said.stdout.ends_with("same results: TRUE\n"),
        "{}",
        said.stderr
    );
    assert!(said.stdout.contains(" 339 trained"), "{}", said.stdout);

    fs::write(
        work.path("bad.onnx"),
        &fs::read(&foreign).unwrap()[..500_000],
    )
    .unwrap();
    let said = run(&work, "models add bad.onnx");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(!Path::new(&work.path("zoo/bad.onnx")).exists());
}
