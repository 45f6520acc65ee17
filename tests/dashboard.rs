//! End-to-end tests of `tl-tui`: the real program in a pseudo-terminal.

use std::fs;
use std::io::{Read, Write};
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::program::{Workplace, repository};

/// Longer than any step takes on a slow machine; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(120);

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

type Keys = Arc<Mutex<Box<dyn Write + Send>>>;

/// A terminal with a program in it.
struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    /// All output of the program.
    written: Arc<Mutex<Vec<u8>>>,
    keys: Keys,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    /// Ends when all output of the program is on the screen.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Draws images as half blocks: nobody answers queries about graphics here.
    fn start(work: &Workplace, arguments: &[&str], size: (u16, u16)) -> Terminal {
        let arguments = [&["--images", "blocks"], arguments].concat();
        Terminal::answering("", work, &arguments, size)
    }

    /// A terminal that gives `answer` when asked for its device attributes.
    fn answering(
        answer: &'static str,
        work: &Workplace,
        arguments: &[&str],
        (rows, cols): (u16, u16),
    ) -> Terminal {
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tl-tui"));
        command.args(arguments);
        command.cwd(work.path(""));
        command.env("TERM", "xterm-256color");
        command.env("TL_MODELS", repository("models"));
        for name in ["NO_COLOR", "TMUX", "STY", "TERM_PROGRAM", "KONSOLE_VERSION"] {
            command.env_remove(name);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(cols), 0)));
        let mut output = pair.master.try_clone_reader().unwrap();
        let parser = screen.clone();
        let keys: Keys = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let written = Arc::new(Mutex::new(Vec::new()));
        let (answers, all) = (keys.clone(), written.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if bytes[..count].windows(3).any(|w| w == b"\x1b[c") {
                    answers
                        .lock()
                        .unwrap()
                        .write_all(answer.as_bytes())
                        .unwrap();
                }
                all.lock().unwrap().extend_from_slice(&bytes[..count]);
                parser.lock().unwrap().process(&bytes[..count]);
            }
        });
        Terminal {
            screen,
            written,
            keys,
            master: pair.master,
            child,
            reader,
        }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn press(&mut self, keys: &str) {
        let mut writer = self.keys.lock().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&str) -> bool) {
        let started = Instant::now();
        loop {
            let text = self.text();
            if holds(&text) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "waited for {what}, ended: {ended:?}, the screen:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        self.screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(cells(rows), cells(cols));
        self.master.resize(size).unwrap();
    }

    /// Waits for the end and checks that the terminal is restored; returns the exit code.
    fn end(&mut self) -> u32 {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        };
        // The last bytes may still be on their way.
        while !self.reader.is_finished() {
            assert!(started.elapsed() < PATIENCE, "{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let restored = !screen.alternate_screen()
            && !screen.hide_cursor()
            && !screen.bracketed_paste()
            && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
        assert!(restored, "the terminal was not restored");
        status.exit_code()
    }
}

#[test]
fn from_an_empty_start_screen_to_a_verified_model_and_out() {
    let work = Workplace::new();
    work.copy_tiny("photos", 1);
    // An image in the wrong folder makes a mistake to look at.
    fs::copy(
        repository("datasets/tiny/hammer/hammer1.jpg"),
        work.path("photos/fish/odd.jpg"),
    )
    .unwrap();
    let mut terminal = Terminal::start(&work, &[], (24, 80));
    terminal.wait_for("3 classes, 25 images");
    terminal.press("\r");
    terminal.wait_for("press r to run: photos → photos.onnx");
    terminal.press("r");
    terminal.wait_for("images/s");
    terminal.resize(40, 120);
    terminal.wait_for("─╮");
    terminal.resize(10, 30);
    terminal.wait_for("too small");
    terminal.resize(24, 80);
    terminal.wait_for("same results: TRUE");
    terminal.press("3");
    terminal.wait_for("Confusion matrix");
    terminal.press("\r");
    terminal.wait_for("true → predicted");
    terminal.wait_for("ImageNet");
    terminal.press("5");
    terminal.wait_for("Verdict");
    terminal.press("v");
    terminal.wait_for("verify  done in");
    terminal.wait_for("same results: TRUE");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    for file in [
        "photos.onnx",
        "photos.run.toml",
        "photos.features/features.npy",
        "photos.features/events.jsonl",
    ] {
        assert!(work.path(file).exists(), "{file}");
    }
    let said = work.run("verify photos.onnx");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn quitting_asks_while_a_job_is_running_and_tl_batch_resumes_the_run() {
    let work = Workplace::new();
    work.copy_tiny("photos", 8);
    let mut terminal = Terminal::start(&work, &["photos", "--out", "m.onnx"], (24, 80));
    terminal.wait_for("press r");
    terminal.press("r");
    let journal = work.path("m.features/partial/journal.jsonl");
    terminal.wait_until("a checkpoint", |_| {
        fs::metadata(&journal).is_ok_and(|facts| facts.len() > 0)
    });
    terminal.press("q");
    terminal.wait_for("Quit?");
    terminal.press("y");
    assert_eq!(terminal.end(), 0);
    // A fast machine may finish before the question is answered; then there is nothing to resume.
    if work.path("m.features/partial").exists() {
        let said = work.run("fit photos -o m.onnx --epochs 2");
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(
            said.stderr.contains("reusing stored features"),
            "{}",
            said.stderr
        );
    }
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let work = Workplace::new();
    work.copy_tiny("photos", 20);
    let mut terminal = Terminal::start(&work, &["photos"], (24, 80));
    terminal.wait_for("press r");
    terminal.press("r");
    terminal.wait_for("images/s");
    let id = terminal.child.process_id().unwrap().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .unwrap();
    assert!(killed.success());
    terminal.end();
    assert!(!work.path("photos.onnx").exists());
}

#[test]
fn a_run_of_tl_batch_is_followed() {
    let work = Workplace::new();
    work.copy_tiny("photos", 2);
    let mut terminal = Terminal::start(&work, &["--attach", "m.features"], (24, 80));
    terminal.wait_for("waiting for a run in");
    let said = work.run("fit photos -o m.onnx --epochs 3");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    terminal.wait_for("fit (attached) → m.onnx");
    terminal.wait_for("same results: TRUE");
    terminal.press("3");
    terminal.wait_for("epoch 3 of 3");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn an_attached_run_that_was_killed_is_shown_as_stopped() {
    let work = Workplace::new();
    work.copy_tiny("photos", 40);
    let mut child = work.spawn("fit photos -o m.onnx --epochs 3");
    let mut terminal = Terminal::start(&work, &["--attach", "m.features"], (24, 80));
    terminal.wait_for("fit (attached) → m.onnx");
    child.kill().unwrap();
    child.wait().unwrap();
    terminal.press("8");
    terminal.wait_for("its process has ended");
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn terminals_with_graphics_get_real_images() {
    let cell = "\x1b[6;20;10t";
    for (answer, beginning) in [
        ("\x1b_Gi=31;OK\x1b\\", "\x1b_G"),
        ("\x1b[?62;4;22c", "\x1bP"),
    ] {
        let work = Workplace::new();
        work.copy_tiny("photos", 1);
        let answer = format!("{answer}{cell}\x1b[?62;4;22c").leak();
        let mut terminal = Terminal::answering(answer, &work, &["photos"], (40, 120));
        terminal.wait_for("press r");
        let started = Instant::now();
        let after_questions = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let begin = text.find("\x1b[c").map_or(0, |place| place + 3);
            text[begin..].matches(beginning).count()
        };
        while after_questions(&terminal.written.lock().unwrap()) < 2 {
            assert!(started.elapsed() < PATIENCE, "no image came: {beginning:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        terminal.press("q");
        assert_eq!(terminal.end(), 0);
    }
}

#[test]
fn without_a_terminal_the_user_is_pointed_to_tl_batch() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tl-tui"))
        .arg(repository("datasets/tiny"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("use `tl-batch fit"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_missing_dataset_is_reported_before_anything_is_drawn() {
    let work = Workplace::new();
    let mut terminal = Terminal::start(&work, &["nowhere"], (24, 80));
    assert_eq!(terminal.end(), 3);
    assert!(terminal.text().contains("dataset nowhere does not exist"));
}
