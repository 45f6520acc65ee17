//! Detects how a terminal can draw images. Pure: `terminal` sends the query and reads the answer.

use ratatui_image::FontSize;
use ratatui_image::picker::{Picker, ProtocolType};

/// Asks for support of kitty's graphics protocol, the size of a cell, and the device attributes. Every terminal answers
/// the last question, so after that answer there is nothing more to wait for.
pub const QUESTIONS: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[16t\x1b[c";

/// The answers of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// It supports kitty's graphics protocol.
    pub kitty: bool,
    /// It supports sixel graphics.
    pub sixel: bool,
    /// Width and height of a cell in pixels.
    pub cell: Option<(u16, u16)>,
    /// No more answers will come.
    pub complete: bool,
}

impl Answers {
    /// Parses the answers to [`QUESTIONS`] received so far; other bytes, such as keys, are ignored.
    pub fn read(bytes: &[u8]) -> Answers {
        let text = String::from_utf8_lossy(bytes);
        let mut answers = Answers {
            kitty: text.contains("\x1b_Gi=31;OK"),
            ..Answers::default()
        };
        for part in text.split("\x1b[").skip(1) {
            let Some(end) = part.find(|c: char| c.is_ascii_alphabetic()) else {
                continue;
            };
            let (parameters, kind) = (&part[..end], &part[end..=end]);
            match (kind, parameters.strip_prefix('?')) {
                ("c", Some(attributes)) => {
                    answers.complete = true;
                    answers.sixel = attributes.split(';').skip(1).any(|a| a == "4");
                }
                ("t", None) => {
                    let numbers: Vec<u16> = parameters
                        .split(';')
                        .filter_map(|n| n.parse().ok())
                        .collect();
                    if let [6, height, width] = numbers[..] {
                        answers.cell = Some((width, height)).filter(|_| width > 0 && height > 0);
                    }
                }
                _ => {}
            }
        }
        answers
    }
}

/// Chooses the protocol from the answers of the terminal; `variable` reads the environment.
pub fn protocol(answers: Answers, variable: impl Fn(&str) -> Option<String>) -> ProtocolType {
    let program = variable("TERM_PROGRAM").unwrap_or_default();
    let multiplexed = variable("TMUX").is_some() || variable("STY").is_some();
    // Some of these claim kitty's graphics protocol without the part that is needed here.
    let iterm = ["iTerm", "WezTerm", "mintty", "rio"]
        .iter()
        .any(|name| program.contains(name))
        || variable("KONSOLE_VERSION").is_some();
    match answers {
        _ if multiplexed => ProtocolType::Halfblocks,
        _ if iterm => ProtocolType::Iterm2,
        Answers { kitty: true, .. } => ProtocolType::Kitty,
        Answers { sixel: true, .. } => ProtocolType::Sixel,
        _ => ProtocolType::Halfblocks,
    }
}

/// Creates the picker for `protocol` and cells of `cell` (width, height) pixels.
pub fn picker(protocol: ProtocolType, cell: Option<(u16, u16)>) -> Picker {
    let (ProtocolType::Kitty | ProtocolType::Sixel | ProtocolType::Iterm2, Some((width, height))) =
        (protocol, cell)
    else {
        // Without the size of a cell, images cannot be scaled to fit.
        return Picker::halfblocks();
    };
    // The constructor that is not deprecated queries the terminal in a thread that keeps running, and swallows the
    // user's first keys if the terminal does not answer.
    #[allow(deprecated)]
    let mut picker = Picker::from_fontsize(FontSize::new(width, height));
    picker.set_protocol_type(protocol);
    picker
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_keys() {
        let kitty = Answers::read(b"q\x1b_Gi=31;OK\x1b\\\x1b[6;18;9t\x1b[?62;22c");
        let expected = Answers {
            kitty: true,
            sixel: false,
            cell: Some((9, 18)),
            complete: true,
        };
        assert_eq!(kitty, expected);
        let xterm = Answers::read(b"\x1b[A\x1b[?63;1;2;4;6c");
        assert!(xterm.sixel && xterm.complete && !xterm.kitty);
        assert!(!Answers::read(b"\x1b[?62;2").complete);
        assert!(
            !Answers::read(b"\x1b[?4c").sixel,
            "the first number is the kind of terminal"
        );
    }

    #[test]
    fn the_best_protocol_that_works_is_taken() {
        let all = Answers {
            kitty: true,
            sixel: true,
            cell: Some((8, 16)),
            complete: true,
        };
        let sixel = Answers {
            kitty: false,
            ..all
        };
        let none = |_: &str| None;
        assert_eq!(protocol(all, none), ProtocolType::Kitty);
        assert_eq!(protocol(sixel, none), ProtocolType::Sixel);
        assert_eq!(protocol(Answers::default(), none), ProtocolType::Halfblocks);
        let tmux = |name: &str| (name == "TMUX").then(|| "1".to_owned());
        assert_eq!(protocol(all, tmux), ProtocolType::Halfblocks);
        let wezterm = |name: &str| (name == "TERM_PROGRAM").then(|| "WezTerm".to_owned());
        assert_eq!(protocol(all, wezterm), ProtocolType::Iterm2);
    }

    #[test]
    fn without_the_size_of_a_cell_pictures_are_blocks() {
        let made = picker(ProtocolType::Sixel, None);
        assert_eq!(made.protocol_type(), ProtocolType::Halfblocks);
        let made = picker(ProtocolType::Sixel, Some((9, 18)));
        assert_eq!(made.protocol_type(), ProtocolType::Sixel);
    }
}
