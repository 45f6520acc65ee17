//! What a program shares with its system, whatever its face: arguments, signals, standard error.

mod signals;

use std::error::Error as _;
use std::io::Write;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

#[cfg(feature = "tui")]
pub(crate) use self::signals::watch;
pub(crate) use self::signals::{end_on_signals, stop_on_signals, survive_size_limits};
use crate::error::printable;
use crate::foreign::number_fault;

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
    let said = in_plain_words(C::try_parse_from(words).err().unwrap_or(error));
    // Whoever closed the output does not want to be told.
    let _ = said.print();
    Err(u8::try_from(said.exit_code()).unwrap_or(2))
}

/// The error with what it says of a number that cannot be read in words of ours.
fn in_plain_words(error: clap::Error) -> clap::Error {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    let (Some(fault), Some(ContextValue::String(argument)), Some(ContextValue::String(value))) = (
        number_fault(&reason),
        error.get(ContextKind::InvalidArg),
        error.get(ContextKind::InvalidValue),
    ) else {
        return error;
    };
    let said = format!(
        "invalid value '{value}' for '{argument}': {fault}\n\nFor more information, try '--help'.\n"
    );
    clap::Error::raw(error.kind(), said)
}

/// Writes `line` to standard error as [`printable`] text.
pub(crate) fn complain(line: &str) {
    // Whoever closed standard error does not want to be told.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[allow(dead_code)]
    struct Args {
        #[arg(long)]
        epochs: Option<usize>,
        #[arg(long)]
        bits: Option<u8>,
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, value_name = "S")]
        seconds: Option<f64>,
    }

    #[test]
    fn a_number_that_cannot_be_read_is_explained_in_plain_words() {
        let cases = [
            (["--epochs", "x"], "this is not a whole number"),
            (["--epochs", "1e300"], "this is not a whole number"),
            (
                ["--bits", "99999999999999999999"],
                "this number is too large",
            ),
            (["--seed", "-99999999999999999999"], "this"),
            (["--seconds", "many"], "this is not a number"),
            (["--seconds", ""], "a number is missing"),
        ];
        for ([flag, value], expected) in cases {
            let words = ["tl".to_owned(), format!("{flag}={value}")];
            let error = in_plain_words(Args::try_parse_from(words).unwrap_err());
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("error: invalid value '{value}' for '{flag} <")),
                "{text}"
            );
            assert!(text.contains(&format!("': {expected}")), "{text}");
            assert!(text.ends_with("try '--help'.\n"), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
        let other = Args::try_parse_from(["tl", "--other"]).unwrap_err();
        let text = other.to_string();
        assert_eq!(in_plain_words(other).to_string(), text);
    }
}
