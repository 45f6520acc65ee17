//! What a program shares with its system, whatever its face: arguments, signals, standard error.

mod signals;

use std::io::Write;

use clap::Parser;

#[cfg(feature = "tui")]
pub(crate) use self::signals::watch;
pub(crate) use self::signals::{end_on_signals, stop_on_signals, survive_size_limits};
use crate::error::printable;

/// Reads this process's arguments; or says what is wrong with them, or what help there is, and gives the exit code.
///
/// An argument can be the name of a file from elsewhere, which a shell put in the place of a `*`: it is shown as
/// [`printable`] text.
pub(crate) fn parsed<C: Parser>() -> std::result::Result<C, u8> {
    let error = match C::try_parse() {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let words = std::env::args_os().map(|word| printable(&word.to_string_lossy()));
    let said = C::try_parse_from(words).err().unwrap_or(error);
    // Whoever closed the output does not want to be told.
    let _ = said.print();
    Err(u8::try_from(said.exit_code()).unwrap_or(2))
}

/// Writes `line` to standard error as [`printable`] text.
pub(crate) fn complain(line: &str) {
    // Whoever closed standard error does not want to be told.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(line));
}
