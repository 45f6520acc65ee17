//! Numbers of flags and settings that nobody means, and limits of the system: a sentence, not an end by a signal.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::program::{Said, Workplace, repository};

/// A folder with the data set `photos`, the small network `base.onnx`, the saved model `good.onnx` and the store `store`
/// of its features.
fn workplace() -> Workplace {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    let copies = [
        ("tests/data/small.onnx", "base.onnx"),
        ("tests/fuzz/seeds/saved_model/m.onnx", "good.onnx"),
    ];
    for (from, to) in copies {
        fs::copy(repository(from), work.path(to)).unwrap();
    }
    work
}

/// The line of standard error that is an error, which must be the only one.
fn sentence(said: &Said) -> &str {
    let mut lines = said.stderr.lines().filter(|l| l.starts_with("error: "));
    let line = lines.next().unwrap_or_default();
    assert_eq!(lines.next(), None, "{}", said.stderr);
    line
}

#[test]
fn numbers_that_nobody_means_are_refused_with_their_range() {
    let work = workplace();
    let said = work.run("extract photos --out store --model ./base.onnx --input-size 32");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let base = "--model ./base.onnx --input-size 32";
    let train = "train store -o z.onnx";
    let fit = format!("fit photos -o z.onnx {base}");
    let finetune = "finetune ./base.onnx photos --unfreeze-from 1 -o z.onnx --input-size 32";
    let bench = "bench ./base.onnx --input-size 32 --seconds 0.01";
    let preview = "augment-preview photos -o z.png --model ./base.onnx";
    let cases = [
        (
            format!("{train} --epochs 99999999999"),
            "invalid value `99999999999` for --epochs: must be from 1 to 1000000",
        ),
        (
            format!("{train} --hidden 4000000000"),
            "invalid value `4000000000` for --hidden: must be from 1 to 65536",
        ),
        (
            format!("{train} --hidden 1000000,1000000"),
            "invalid value `1000000` for --hidden: must be from 1 to 65536",
        ),
        (
            format!("{train} --hidden 65536,65536,65536,65536,65536,65536,65536,65536,65536,65536"),
            "of memory, and",
        ),
        (
            format!("{train} --hidden {}", ["1"; 1000].join(",")),
            "at most 16 hidden layers",
        ),
        (
            format!("{train} --batch-size 1000000000000"),
            "invalid value `1000000000000` for --batch-size: must be from",
        ),
        (format!("{train} --early-stopping 18446744073709551615"), ""),
        (
            format!("{train} --step-epochs 9000000000000000000"),
            "invalid value `9000000000000000000` for --step-epochs",
        ),
        (
            format!("{train} --folds 4000000000"),
            "invalid value `4000000000` for --folds: must be from 2 to 24",
        ),
        (
            format!("{train} --learning-rate inf"),
            "invalid value `inf` for --learning-rate",
        ),
        (
            format!("{train} --validation-split 1e300"),
            "validation-split",
        ),
        (
            format!("{fit} --workers 4000000000"),
            "invalid value `4000000000` for --workers: must be from 0 to 1024",
        ),
        (
            format!("{fit} --max-megapixels 4000000000"),
            "invalid value `4000000000` for --max-megapixels: must be from 1 to 10000",
        ),
        (
            format!("{fit} --augment default --views 4000000000"),
            "must be from 1 to 1000",
        ),
        (
            format!("{fit} --augment default --views live --epochs 1000000"),
            "at most 1000",
        ),
        (
            format!("{fit} --recipe best --budget 99999999999h"),
            "budget",
        ),
        (
            format!("extract photos --out o {base} --memory 1"),
            "use at least ",
        ),
        (
            format!("{finetune} --tune-epochs 99999999999"),
            "invalid value `99999999999` for --tune-epochs: must be from",
        ),
        (
            format!("{finetune} --epochs 99999999999"),
            "invalid value `99999999999` for --epochs: must be from",
        ),
        (
            format!("probe-layers photos --out p {base} --epochs 99999999999"),
            "invalid value `99999999999` for --epochs",
        ),
        (
            format!("{bench} -j 4000000000"),
            "invalid value `4000000000` for --threads: must be from 1 to 1024",
        ),
        (
            format!("{bench} -j 1,{}", ["1"; 100].join(",")),
            "at most 64 are allowed",
        ),
        (
            "bench ./base.onnx --seconds 1e300".to_owned(),
            "at most 3600",
        ),
        (
            "bench ./base.onnx --input-size 4294967295".to_owned(),
            "to 4096 pixels",
        ),
        (
            "summary ./base.onnx --input-size 32 --head 9000000000000000000".to_owned(),
            "invalid value `9000000000000000000` for --head: must be",
        ),
        (
            "summary ./base.onnx --input-size 32 --head 3 --hidden 9000000000000000000".to_owned(),
            "invalid value `9000000000000000000` for --hidden",
        ),
        (
            format!("{preview} --pictures 4000000000"),
            "more than 2000 images",
        ),
        (
            format!("{preview} --augment default --views 1000"),
            "more than 2000 images",
        ),
        (
            "predict good.onnx photos -j 4000000000".to_owned(),
            "invalid value `4000000000` for --workers: must be from 0 to 1024",
        ),
        (
            "watch photos good.onnx --queue 1000000000000".to_owned(),
            "invalid value `1000000000000` for --queue: must be from 1 to 100000",
        ),
        (
            "watch photos good.onnx --output o --rotate 1K --keep 1000000000000".to_owned(),
            "invalid value `1000000000000` for --keep: must be",
        ),
    ];
    for (line, words) in cases {
        let said = work.run(&line);
        assert_eq!(said.code, Some(2), "{line}: {}", said.stderr);
        assert!(sentence(&said).contains(words), "{line}: {}", said.stderr);
        assert!(!work.path("z.onnx").exists(), "{line}");
    }
    // As many as there are; nothing is taken for those that there are not.
    for line in [
        "predict good.onnx photos/fish/fish1-0.jpg --top 18446744073709551615",
        "quantize good.onnx photos -o q.onnx --calibration-images 18446744073709551615",
    ] {
        let said = work.run(line);
        assert!(said.code.is_some(), "{line}: {}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{line}: {}", said.stderr);
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_like_a_full_disk() {
    let work = workplace();
    let fit = "fit photos -o z.onnx --model ./base.onnx --input-size 32 --epochs 1";
    let command = work.command(fit);
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(work.path(""))
        .output()
        .unwrap();
    let said = Said::from(output);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let sentence = sentence(&said);
    assert!(sentence.contains("raise the file size limit"), "{sentence}");
    // What is done is kept, and goes on.
    assert_eq!(work.run(fit).code, Some(0));
}

#[test]
fn a_command_that_is_asked_to_end_has_exit_code_130() {
    let work = workplace();
    let lines = [
        "bench ./base.onnx --input-size 32 --seconds 3000 -j 1",
        "fit photos -o z.onnx --model ./base.onnx --input-size 32 --epochs 1000000",
    ];
    for line in lines {
        let mut child = work.spawn(line);
        // The signal is meant for a program that has begun.
        let status = format!("/proc/{}/status", child.id());
        let is_heard = |text: &str| {
            let mask = text.lines().find_map(|l| l.strip_prefix("SigCgt:"));
            let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
            mask.is_some_and(|mask| mask >> (15 - 1) & 1 == 1)
        };
        while !fs::read_to_string(&status).is_ok_and(|text| is_heard(&text)) {
            assert_eq!(child.try_wait().unwrap(), None, "{line}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(kill.unwrap().success());
        let status = child.wait().unwrap();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(130), None),
            "{line}"
        );
    }
}

#[test]
fn a_graph_may_have_more_nodes_if_its_user_says_so() {
    let work = workplace();
    let run = |most: &str| {
        let mut command = work.command("summary ./base.onnx --input-size 32");
        Said::from(command.env("TL_MAX_NODES", most).output().unwrap())
    };
    let said = run("3");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    let words =
        "it has more than 3 nodes; if you trust its source, set TL_MAX_NODES to a larger number";
    assert!(sentence(&said).contains(words), "{}", said.stderr);
    assert_eq!(run("100000").code, Some(0));
    let said = run("many");
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(
        sentence(&said).contains("TL_MAX_NODES is `many`"),
        "{}",
        said.stderr
    );
}
