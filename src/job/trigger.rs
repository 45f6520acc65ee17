//! Triggers: a condition on a class's probability, and the command to run.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::counts::count;
use crate::error::{Error, Result};
use crate::foreign::system_error;
use crate::progress::{Cancel, Progress};

/// Number of commands that may wait for the running one.
const WAITING_COMMANDS: usize = 16;

/// When the watch ends, commands have this long to finish; then the running one is sent a signal, and after the same
/// time again it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum time between two checks of a running command.
const LOOK: Duration = Duration::from_millis(50);

/// A class and a probability threshold, such as `cat>0.9`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trigger {
    class: String,
    bound: f32,
    /// Whether the threshold itself counts.
    inclusive: bool,
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Trigger, String> {
        let wrong = || {
            format!("`{text}` is not a trigger; write it as CLASS>PROBABILITY, such as 'cat>0.9'")
        };
        let (class, bound) = text.rsplit_once('>').ok_or_else(wrong)?;
        let (inclusive, bound) = match bound.strip_prefix('=') {
            Some(bound) => (true, bound),
            None => (false, bound),
        };
        let bound: f32 = bound.trim().parse().map_err(|_| wrong())?;
        let class = class.trim().to_owned();
        if class.is_empty() || !(0.0..=1.0).contains(&bound) {
            return Err(wrong());
        }
        Ok(Trigger {
            class,
            bound,
            inclusive,
        })
    }
}

impl TryFrom<String> for Trigger {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Trigger, String> {
        text.parse()
    }
}

impl From<Trigger> for String {
    fn from(trigger: Trigger) -> String {
        trigger.to_string()
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.inclusive { ">=" } else { ">" };
        write!(f, "{}{sign}{}", self.class, self.bound)
    }
}

impl Trigger {
    /// Checks that its class is one of `labels`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if not.
    pub fn check(&self, labels: &[String]) -> Result<()> {
        if labels.contains(&self.class) {
            return Ok(());
        }
        const SHOWN: usize = 12;
        let mut known: Vec<&str> = labels.iter().take(SHOWN).map(String::as_str).collect();
        if labels.len() > SHOWN {
            known.push("…");
        }
        Err(Error::Parameter {
            name: "--trigger",
            value: self.to_string(),
            problem: format!(
                "the model has no class `{}`; it has {}",
                self.class,
                known.join(", ")
            ),
        })
    }

    /// The probability of its class.
    pub(super) fn probability(&self, labels: &[String], values: &[f32]) -> Option<f32> {
        let class = labels.iter().position(|label| *label == self.class)?;
        values.get(class).copied()
    }

    /// Whether these probabilities fire it.
    pub fn fires(&self, labels: &[String], values: &[f32]) -> bool {
        let found = self.probability(labels, values);
        found.is_some_and(|p| p > self.bound || self.inclusive && p == self.bound)
    }

    /// The command to run for the image `path`.
    pub(super) fn task(&self, path: &Path, probability: f32, delete: bool) -> Task {
        Task {
            path: path.to_owned(),
            label: self.class.clone(),
            probability,
            delete,
        }
    }
}

/// An image for the command.
pub(super) struct Task {
    path: PathBuf,
    label: String,
    probability: f32,
    /// Remove the image after the command.
    delete: bool,
}

/// Runs the command for one image at a time, in parallel with classification.
pub(super) struct TriggerRunner {
    thread: Option<(Sender<Task>, JoinHandle<()>)>,
    /// Set when the watch has ended, by a signal or an error.
    ending: Cancel,
}

impl TriggerRunner {
    /// For the shell command `command`; without one, runs nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be started.
    pub fn start(command: Option<&str>, progress: Progress) -> Result<TriggerRunner> {
        let Some(command) = command.map(str::to_owned) else {
            return Ok(TriggerRunner {
                thread: None,
                ending: Cancel::default(),
            });
        };
        let ending = Cancel::default();
        let mut clock = Clock {
            asked: [progress.cancel().clone(), ending.clone()],
            since: None,
        };
        let (sender, tasks) = bounded::<Task>(WAITING_COMMANDS);
        let thread = std::thread::Builder::new()
            .name("tl-trigger".into())
            .spawn(move || {
                let mut left = 0;
                for task in tasks {
                    match clock.is_over() {
                        true => left += 1,
                        false => run(&command, &task, &progress, &mut clock),
                    }
                }
                if left > 0 {
                    progress.warn(format!(
                        "the watch ended before the --run command could run for the last {}",
                        count(left, "image")
                    ));
                }
            })
            .map_err(Error::io("start", "a thread for --run"))?;
        Ok(TriggerRunner {
            thread: Some((sender, thread)),
            ending,
        })
    }

    /// Queues an image: true if the command will run, false if there is none; an error if too many wait.
    pub fn run(&self, task: Task) -> std::result::Result<bool, ()> {
        match &self.thread {
            Some((sender, _)) => sender.try_send(task).map(|()| true).map_err(|_| ()),
            None => Ok(false),
        }
    }

    /// Waits for the queued commands, for a limited time.
    pub fn finish(self) {
        self.ending.cancel();
        if let Some((sender, thread)) = self.thread {
            drop(sender);
            // It cannot fail.
            let _ = thread.join();
        }
    }
}

/// Runs the command; its output goes to standard error, since standard output has the results.
fn run(command: &str, task: &Task, progress: &Progress, clock: &mut Clock) {
    let started = Command::new("sh")
        .args(["-c", command])
        .env("TL_PATH", &task.path)
        .env("TL_LABEL", &task.label)
        .env("TL_PROBABILITY", task.probability.to_string())
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        // A separate process group, so that its children can be ended with it.
        .process_group(0)
        .spawn();
    let ran = started.and_then(|mut child| wait(&mut child, clock));
    let problem = match ran {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("ended with {status}")),
        Err(error) => Some(format!("cannot be started: {}", system_error(&error))),
    };
    if let Some(problem) = problem {
        progress.warn(format!("the --run command {problem}"));
    }
    if task.delete {
        // If the file is gone, the command has taken it.
        let _ = std::fs::remove_file(&task.path);
    }
}

/// When the watch was asked to end.
struct Clock {
    asked: [Cancel; 2],
    since: Option<Instant>,
}

impl Clock {
    /// Time since the watch was asked to end; `None` if it was not.
    fn elapsed(&mut self) -> Option<Duration> {
        if self.since.is_none() && self.asked.iter().any(Cancel::is_cancelled) {
            self.since = Some(Instant::now());
        }
        self.since.map(|since| since.elapsed())
    }

    fn is_over(&mut self) -> bool {
        self.elapsed().is_some_and(|elapsed| elapsed > GRACE)
    }
}

/// Waits for a command, and ends it after the watch has ended.
fn wait(child: &mut Child, clock: &mut Clock) -> io::Result<ExitStatus> {
    let mut signals = [(GRACE, "TERM"), (2 * GRACE, "KILL")]
        .into_iter()
        .peekable();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(elapsed) = clock.elapsed()
            && let Some((_, signal)) = signals.next_if(|(after, _)| elapsed > *after)
        {
            signal_group(child.id(), signal);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(LOOK);
    }
}

/// Sends a signal to all processes of a group, through the shell, which runs the command anyway.
fn signal_group(group: u32, signal: &str) {
    // The group may just have ended, which is fine.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -s {signal} -- -{group}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        // This one ignores the signal.
        let command = "trap '' TERM; sleep 1000 & echo $! > \"$TL_PATH\"; wait";
        let runner = TriggerRunner::start(Some(command), Progress::silent()).unwrap();
        let task = |path: &Path| Task {
            path: path.to_owned(),
            label: "x".into(),
            probability: 1.0,
            delete: false,
        };
        assert_eq!(runner.run(task(&path)), Ok(true));
        let waiting = dir.path().join("waiting");
        assert_eq!(runner.run(task(&waiting)), Ok(true));
        let started = loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => break text,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        runner.finish();
        let status = std::fs::read_to_string(format!("/proc/{}/status", started.trim()));
        let is_dead = status.map_or(true, |status| status.contains("\nState:\tZ"));
        assert!(is_dead, "the command's child lives");
        assert!(!waiting.exists());
    }

    #[test]
    fn a_trigger_is_a_class_and_a_bound() {
        let labels = ["cat".to_owned(), "a > b".to_owned()];
        let above: Trigger = "cat>0.5".parse().unwrap();
        assert!(above.fires(&labels, &[0.6, 0.4]));
        assert!(!above.fires(&labels, &[0.5, 0.5]));
        let from: Trigger = "a > b >= 0.5".parse().unwrap();
        assert!(from.fires(&labels, &[0.5, 0.5]));
        assert_eq!(from.to_string(), "a > b>=0.5");
        for wrong in ["cat", ">0.5", "cat>", "cat>1.5", "cat>often", "cat>NaN"] {
            assert!(wrong.parse::<Trigger>().is_err(), "{wrong}");
        }
        let unknown: Trigger = "dog>0.5".parse().unwrap();
        let error = unknown.check(&labels).unwrap_err().to_string();
        assert!(
            error.contains("no class `dog`; it has cat, a > b"),
            "{error}"
        );
    }
}
