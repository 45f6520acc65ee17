//! How a terminal says that it can draw pictures. Pure: the asking is done in `terminal`.

use ratatui_image::FontSize;
use ratatui_image::picker::{Picker, ProtocolType};

/// Asks whether kitty's graphics are there, how large a cell is, and what kind of terminal it is. Every
/// terminal answers the last question, so whoever has its answer need not wait for the others.
pub const QUESTIONS: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[16t\x1b[c";

/// What a terminal answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// It has kitty's graphics.
    pub kitty: bool,
    /// It has sixels.
    pub sixel: bool,
    /// Width and height of a cell in pixels.
    pub cell: Option<(u16, u16)>,
    /// It has answered all it will.
    pub complete: bool,
}

impl Answers {
    /// Reads what came back to [`QUESTIONS`] so far; other bytes, such as keys, are passed over.
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

/// The protocol for a terminal that answered so; `variable` is the environment.
pub fn protocol(answers: Answers, variable: impl Fn(&str) -> Option<String>) -> ProtocolType {
    let program = variable("TERM_PROGRAM").unwrap_or_default();
    let multiplexed = variable("TMUX").is_some() || variable("STY").is_some();
    // These two say that they have kitty's graphics and leave out the part that is needed here.
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

/// What makes pictures of `protocol`, for cells of `cell` pixels.
pub fn picker(protocol: ProtocolType, cell: Option<(u16, u16)>) -> Picker {
    let (ProtocolType::Kitty | ProtocolType::Sixel | ProtocolType::Iterm2, Some((width, height))) =
        (protocol, cell)
    else {
        // Without the size of a cell no picture of pixels fits its place.
        return Picker::halfblocks();
    };
    // The constructor that is not deprecated asks the terminal in a thread that it leaves behind, which
    // takes the user's first keys where nothing answers.
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
