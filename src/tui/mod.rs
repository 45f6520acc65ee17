//! The dashboard: the same jobs as `tl-batch`, shown live.
//!
//! ```text
//!            ┌────────────────────────── terminal (the only file with side effects) ───────────────┐
//! keys ────► │ Event ─► update(&mut State, Event) ─► Command ─► worker (threads: jobs, images …) │
//! job  ────► │             State ─► view(&State, Frame) ─► screen                                  │
//!            └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The dashboard computes no results: all numbers come from jobs and their events. Time is an event as well, so every
//! screen can be tested with a recorded stream of events.

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
use crate::error::{Error, PathRole, Result};
use crate::process::{complain, parsed, survive_size_limits};

/// Exit code if there is no terminal.
const NO_TERMINAL: u8 = 2;

/// Runs `tl-tui` with the arguments of this process and returns its exit code.
pub fn main() -> u8 {
    let args: Args = match parsed() {
        Ok(args) => args,
        Err(code) => return code,
    };
    survive_size_limits();
    if !terminal::is_there() {
        complain("tl-tui needs a terminal; without one, use `tl-batch fit DATASET -o MODEL.onnx`");
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
            what: PathRole::Dataset,
            path: dataset.clone(),
        });
    }
    let theme = Theme::of(args.theme, |name| std::env::var_os(name));
    terminal::run(State::new(theme, config, args.attach.clone()), &args.images)
}

#[cfg(test)]
mod tests;
