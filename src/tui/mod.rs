//! The dashboard: the same jobs as `tl-batch`, seen while they run.
//!
//! ```text
//!            ┌────────────────────────── terminal (the only impure file here) ─────────────────────┐
//! keys ────► │ Event ─► update(&mut State, Event) ─► Command ─► worker (threads: jobs, pictures …) │
//! job  ────► │             State ─► view(&State, Frame) ─► screen                                  │
//!            └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing is computed here: numbers come from jobs and their events. Time comes in as an event, too, so
//! that every screen can be tested from a recorded stream of events.

mod args;
mod event;
mod graphics;
mod keys;
mod pictures;
mod state;
mod terminal;
mod text;
mod theme;
mod view;
mod worker;

use self::args::Args;
use self::state::State;
use self::theme::Theme;
use crate::error::{Error, Result};
use crate::process::{complain, parsed, survive_size_limits};

/// Exit code where there is no terminal.
const NO_TERMINAL: u8 = 2;

/// Runs `tl-tui` with the arguments of this process; returns its exit code.
pub fn main() -> u8 {
    let args: Args = match parsed() {
        Ok(args) => args,
        Err(code) => return code,
    };
    survive_size_limits();
    if !terminal::is_there() {
        complain(
            "tl-tui draws on a terminal, and there is none here; use `tl-batch fit DATASET -o MODEL.onnx`, which \
             needs none",
        );
        return NO_TERMINAL;
    }
    match run(&args) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("error: {error}"));
            error.exit_code()
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let config = args.configuration()?;
    if let Some(dataset) = args.dataset.as_ref().filter(|path| !path.exists()) {
        return Err(Error::NotFound {
            what: "data set",
            path: dataset.clone(),
        });
    }
    let theme = Theme::of(args.theme, |name| std::env::var_os(name));
    terminal::run(
        State::new(theme, config, args.attach.clone()),
        &args.pictures,
    )
}

#[cfg(test)]
mod tests;
