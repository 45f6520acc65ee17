//! Signals with which the user or the system stops a program.

use crate::error::{Error, Result};
use crate::progress::Cancel;

/// Stops the job when it is asked to: Ctrl-C, a hangup, or the polite signal of `kill`. Asked twice, the
/// process ends at once.
///
/// # Errors
/// [`Error::Io`] if the signals cannot be watched.
pub(crate) fn stop_on_signals(cancel: Cancel) -> Result<()> {
    watch(move || {
        if cancel.is_cancelled() {
            // The user does not want to wait for the last pictures.
            std::process::exit(i32::from(Error::Cancelled.exit_code()));
        }
        cancel.cancel();
    })
}

/// Ends the process with the exit code of a stop when it is asked to end: for what writes nothing and has nothing to go
/// on with.
///
/// # Errors
/// [`Error::Io`] if the signals cannot be watched.
pub(crate) fn end_on_signals() -> Result<()> {
    watch(|| {
        super::complain("stopped");
        std::process::exit(i32::from(Error::Cancelled.exit_code()));
    })
}

/// Lets a write beyond the limit on the size of a file (`ulimit -f`) fail, as one to a full disk does, rather than end
/// the process without a word.
pub(crate) fn survive_size_limits() {
    // Without it, such a write ends the process as it does any other.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Default::default());
}

/// Calls `asked` each time that the process is asked to end.
///
/// # Errors
/// [`Error::Io`] if the signals cannot be watched.
pub(crate) fn watch(asked: impl Fn() + Send + 'static) -> Result<()> {
    start(asked).map_err(Error::io("watch", "for signals"))
}

#[cfg(unix)]
fn start(asked: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored_signals();
    // A signal that is ignored when the program starts stays so: that is what nohup does.
    let heard = [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::Builder::new()
        .name("tl-signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                asked();
            }
        })?;
    Ok(())
}

/// The signals that this process was started to ignore, signal 1 in the lowest bit; on systems other than
/// Linux, none are known.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0)
}

#[cfg(not(unix))]
fn start(asked: impl Fn() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(asked).map_err(std::io::Error::other)
}
