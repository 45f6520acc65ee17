//! What a picture sets off: a condition on a class's probability, and the command that is run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Commands that may wait for the one that runs.
const WAITING_COMMANDS: usize = 16;

/// A class and the probability from which on it matters, such as `cat>0.9`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trigger {
    class: String,
    bound: f32,
    /// Whether the bound itself is enough.
    inclusive: bool,
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Trigger, String> {
        let wrong =
            || format!("`{text}` is no trigger; write one as CLASS>PROBABILITY, such as 'cat>0.9'");
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
    /// Tells whether its class is one of `labels`.
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

    /// Tells whether these probabilities set it off.
    pub fn fires(&self, labels: &[String], values: &[f32]) -> bool {
        let found = self.probability(labels, values);
        found.is_some_and(|p| p > self.bound || self.inclusive && p == self.bound)
    }

    /// What is to be run for the picture `path`.
    pub(super) fn task(&self, path: &Path, probability: f32, delete: bool) -> Task {
        Task {
            path: path.to_owned(),
            label: self.class.clone(),
            probability,
            delete,
        }
    }
}

/// A picture for the command.
pub(super) struct Task {
    path: PathBuf,
    label: String,
    probability: f32,
    /// Remove the picture afterwards.
    delete: bool,
}

/// Runs the command for one picture after another, beside the classifying.
pub(super) struct TriggerRunner {
    thread: Option<(Sender<Task>, JoinHandle<()>)>,
}

impl TriggerRunner {
    /// For the shell command `command`; without one, nothing is run.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be started.
    pub fn start(command: Option<&str>, progress: Progress) -> Result<TriggerRunner> {
        let Some(command) = command.map(str::to_owned) else {
            return Ok(TriggerRunner { thread: None });
        };
        let (sender, tasks) = bounded::<Task>(WAITING_COMMANDS);
        let thread = std::thread::Builder::new()
            .name("tl-trigger".into())
            .spawn(move || {
                for task in tasks {
                    run(&command, &task, &progress);
                }
            })
            .map_err(Error::io("start", "a thread for --run"))?;
        Ok(TriggerRunner {
            thread: Some((sender, thread)),
        })
    }

    /// Hands over a picture: true if the command will be run, false if there is none; an error if too many wait.
    pub fn run(&self, task: Task) -> std::result::Result<bool, ()> {
        match &self.thread {
            Some((sender, _)) => sender.try_send(task).map(|()| true).map_err(|_| ()),
            None => Ok(false),
        }
    }

    /// Waits for the commands that were handed over.
    pub fn finish(self) {
        if let Some((sender, thread)) = self.thread {
            drop(sender);
            // It has nothing to fail with.
            let _ = thread.join();
        }
    }
}

/// Runs the command; what it prints goes to standard error, since standard output has the results.
fn run(command: &str, task: &Task, progress: &Progress) {
    let ran = Command::new("sh")
        .args(["-c", command])
        .env("TL_PATH", &task.path)
        .env("TL_LABEL", &task.label)
        .env("TL_PROBABILITY", task.probability.to_string())
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status();
    let problem = match ran {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("ended with {status}")),
        Err(error) => Some(format!("cannot be started: {error}")),
    };
    if let Some(problem) = problem {
        progress.warn(format!("the command of --run {problem}"));
    }
    if task.delete {
        // One that is gone already was the command's to take.
        let _ = std::fs::remove_file(&task.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
