//! The only file that touches the terminal: raw mode, keys and drawing; restores the terminal however the program ends.

use std::io::{IsTerminal, Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event as TerminalEvent,
};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode,
    window_size,
};
use ratatui::crossterm::{cursor, event, execute};
use ratatui_image::picker::{Picker, ProtocolType};

use super::event::{Answer, Command, Event};
use super::graphics::{self, Answers};
use super::state::{State, update};
use super::view::view;
use super::worker::Workers;
use crate::error::{Error, Result};
use crate::process::watch;

/// Minimum time between two frames: at most 20 per second.
const FRAME: Duration = Duration::from_millis(50);

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(250);

/// Capacity of the event queue; a job that is this far ahead of the screen waits.
const EVENT_CAPACITY: usize = 1024;

/// Time to wait for the answers of the terminal; a slow connection needs some.
const ANSWER_TIME: Duration = Duration::from_millis(900);

/// Maximum number of events between two readings of the clock.
const BATCH: usize = 512;

/// Whether standard input and output are a usable terminal.
pub fn is_there() -> bool {
    stdout().is_terminal()
        && std::io::stdin().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Runs the dashboard until the user quits. `images` is the value of `--images`.
///
/// # Errors
/// [`Error::Io`] if the terminal cannot be used or a thread cannot be started.
pub fn run(mut state: State, images: &str) -> Result<()> {
    let (sender, inbox) = bounded(EVENT_CAPACITY);
    let _guard = Guard::enter(sender.clone())?;
    let picker = pick(images, &state);
    state.pictures = picker.is_some();
    let mut workers = Workers::start(sender.clone(), picker.unwrap_or_else(Picker::halfblocks))?;
    if let Some(dir) = &state.attached {
        workers.follow(dir)?;
    }
    listen(sender)?;
    let result = turn(&mut state, &mut workers, &inbox);
    workers.finish(&inbox);
    result
}

/// Chooses how to draw images; none to draw no images.
fn pick(images: &str, state: &State) -> Option<Picker> {
    let variable = |name: &str| std::env::var(name).ok();
    let console = variable("TERM").is_some_and(|term| term == "linux");
    let protocol = match images {
        "none" => return None,
        "blocks" => return Some(Picker::halfblocks()),
        "kitty" => Some(ProtocolType::Kitty),
        "sixel" => Some(ProtocolType::Sixel),
        "iterm2" => Some(ProtocolType::Iterm2),
        _ if state.theme.depth == super::theme::Depth::None => return None,
        _ if console => return Some(Picker::halfblocks()),
        _ => None,
    };
    let answers = ask();
    let protocol = protocol.unwrap_or_else(|| graphics::protocol(answers, variable));
    Some(graphics::picker(protocol, answers.cell.or_else(cell_size)))
}

/// Asks the terminal what it supports, before anything else reads its input.
#[cfg(unix)]
fn ask() -> Answers {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut out = stdout();
    if out
        .write_all(graphics::QUESTIONS.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        return Answers::default();
    }
    let began = Instant::now();
    let stdin = std::io::stdin();
    let mut answered = Vec::new();
    loop {
        let answers = Answers::read(&answered);
        let left = ANSWER_TIME.saturating_sub(began.elapsed());
        if answers.complete || left.is_zero() {
            return answers;
        }
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
        if !matches!(poll(&mut watched, Some(&wait)), Ok(1..)) {
            continue;
        }
        let mut bytes = [0; 256];
        // Not through the library's buffer, which could hold keys back.
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(count @ 1..) => answered.extend_from_slice(&bytes[..count]),
            _ => return answers,
        }
    }
}

#[cfg(not(unix))]
fn ask() -> Answers {
    Answers::default()
}

/// Width and height of a cell in pixels, from the system.
fn cell_size() -> Option<(u16, u16)> {
    let size = window_size().ok()?;
    let side = |pixels: u16, cells: u16| pixels.checked_div(cells).filter(|&side| side > 0);
    Some((
        side(size.width, size.columns)?,
        side(size.height, size.rows)?,
    ))
}

/// Starts the thread that reads keys, and the handler of signals.
fn listen(sender: Sender<Event>) -> Result<()> {
    let stop = sender.clone();
    watch(move || {
        let _ = stop.try_send(Event::Stop);
    })?;
    std::thread::Builder::new()
        .name("tl-keys".into())
        .spawn(move || {
            loop {
                let event = match event::read() {
                    Ok(TerminalEvent::Key(key)) => Event::Key(key),
                    Ok(TerminalEvent::Mouse(mouse)) => Event::Mouse(mouse),
                    Ok(TerminalEvent::Paste(text)) => Event::Paste(text),
                    Ok(TerminalEvent::Resize(width, height)) => Event::Resize(width, height),
                    Ok(_) => continue,
                    // The terminal is gone.
                    Err(_) => Event::Stop,
                };
                let is_end = matches!(event, Event::Stop);
                if sender.send(event).is_err() || is_end {
                    return;
                }
            }
        })
        .map(drop)
        .map_err(Error::io("start", "the keyboard thread"))
}

/// Handles events and draws until the user quits.
fn turn(state: &mut State, workers: &mut Workers, inbox: &Receiver<Event>) -> Result<()> {
    let backend = CrosstermBackend::new(stdout());
    let fail = Error::io("draw on", "the terminal");
    let mut terminal = match ratatui::Terminal::new(backend) {
        Ok(terminal) => terminal,
        Err(error) => return Err(fail(error)),
    };
    let began = Instant::now();
    let mut drawn = began.checked_sub(FRAME).unwrap_or(began);
    let mut dirty = true;
    if let Ok(size) = terminal.size() {
        update(state, Event::Resize(size.width, size.height));
    }
    let folder = std::env::current_dir().unwrap_or_default();
    for command in state.begin(folder) {
        workers.run(command)?;
    }
    loop {
        let wait = if dirty {
            FRAME.saturating_sub(drawn.elapsed())
        } else {
            TICK
        };
        let first = match inbox.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let tick = Event::Tick(began.elapsed());
        let events = first.into_iter().chain(inbox.try_iter().take(BATCH));
        for event in std::iter::once(tick).chain(events) {
            for command in update(state, event) {
                if command == Command::Quit {
                    return Ok(());
                }
                workers.run(command)?;
            }
        }
        dirty |= state.take_changed();
        if dirty && drawn.elapsed() >= FRAME {
            let mut seen = None;
            terminal
                .draw(|frame| seen = Some(view(state, frame)))
                .map_err(Error::io("draw on", "the terminal"))?;
            dirty = false;
            drawn = Instant::now();
            if let Some(seen) = seen {
                for command in update(state, Event::Drawn(seen)) {
                    workers.run(command)?;
                }
            }
        }
    }
}

/// Whether the terminal is in use by the dashboard.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Restores the terminal when dropped.
struct Guard;

impl Guard {
    fn enter(notes: Sender<Event>) -> Result<Guard> {
        let default = std::panic::take_hook();
        let main = std::thread::current().id();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == main {
                leave();
                default(panic);
            } else {
                // The panic of a worker is caught and reported elsewhere; printing it here would garble the screen.
                let _ = notes.try_send(Event::Answer(Answer::Note(panic.to_string())));
            }
        }));
        let fail = || Error::io("use", "the terminal");
        enable_raw_mode().map_err(fail())?;
        ENTERED.store(true, Ordering::SeqCst);
        let guard = Guard;
        execute!(
            stdout(),
            EnterAlternateScreen,
            SetTitle("tl"),
            EnableMouseCapture,
            EnableBracketedPaste,
            cursor::Hide
        )
        .map_err(fail())?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave();
    }
}

/// Restores the terminal; a second call does nothing.
fn leave() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        // Errors do not matter: the terminal may be gone.
        let _ = execute!(
            stdout(),
            DisableBracketedPaste,
            DisableMouseCapture,
            LeaveAlternateScreen,
            cursor::Show
        );
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}
