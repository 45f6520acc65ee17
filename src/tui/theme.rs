//! Colours and glyphs, in one place. Colour is never the only carrier of information: there is always a word, a mark or
//! a shade as well, so nothing is lost without colours. Pure.

use std::ffi::OsString;

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::{self, Marker};

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// None (`NO_COLOR` is set).
    None,
    /// The 16 colours that the terminal defines.
    Sixteen,
    /// 256 or more.
    Many,
}

/// Background of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Background {
    /// Light text on a dark background.
    Dark,
    /// Dark text on a light background.
    Light,
}

/// Which characters the terminal's font supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Font {
    /// Braille, eighth blocks, marks.
    Full,
    /// Only those of a console font: lines, half blocks and shades.
    Console,
}

/// Colours and glyphs for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Number of colours.
    pub depth: Depth,
    /// Dark or light background.
    pub background: Background,
    /// Supported characters.
    pub font: Font,
}

impl Theme {
    /// Chooses the theme from the environment, read by `variable`; `background` overrides what the environment says.
    pub fn of(
        background: Option<Background>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Theme {
        let text = |name| {
            variable(name)
                .and_then(|value| value.into_string().ok())
                .unwrap_or_default()
        };
        let term = text("TERM");
        let many = matches!(text("COLORTERM").as_str(), "truecolor" | "24bit")
            || [
                "256",
                "direct",
                "kitty",
                "ghostty",
                "alacritty",
                "wezterm",
                "foot",
            ]
            .iter()
            .any(|word| term.contains(word));
        let depth = if !text("NO_COLOR").is_empty() {
            Depth::None
        } else if many && term != "linux" {
            Depth::Many
        } else {
            Depth::Sixteen
        };
        // COLORFGBG is `foreground;background`, as numbers of the 16 colours; 7 and 9 to 15 are light.
        let colorfgbg = text("COLORFGBG");
        let is_light = matches!(
            colorfgbg.rsplit(';').next().and_then(|b| b.parse().ok()),
            Some(7 | 9..=15)
        );
        Theme {
            depth,
            background: background.unwrap_or(if is_light {
                Background::Light
            } else {
                Background::Dark
            }),
            font: if term == "linux" {
                Font::Console
            } else {
                Font::Full
            },
        }
    }

    fn colour(&self, dark: u8, light: u8, sixteen: Color) -> Style {
        match (self.depth, self.background) {
            (Depth::None, _) => Style::new(),
            (Depth::Sixteen, _) => Style::new().fg(sixteen),
            (Depth::Many, Background::Dark) => Style::new().fg(Color::Indexed(dark)),
            (Depth::Many, Background::Light) => Style::new().fg(Color::Indexed(light)),
        }
    }

    /// The title of a panel.
    pub fn title(&self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// The accent colour of the program.
    pub fn accent(&self) -> Style {
        match self.background {
            Background::Dark => self.colour(80, 30, Color::Cyan),
            Background::Light => self.colour(80, 30, Color::Blue),
        }
    }

    /// Secondary text.
    pub fn faint(&self) -> Style {
        match self.depth {
            // Bright black is invisible on some backgrounds; dim text is always readable.
            Depth::None | Depth::Sixteen => Style::new().add_modifier(Modifier::DIM),
            Depth::Many => self.colour(245, 242, Color::Reset),
        }
    }

    /// Lines, and the empty part of a bar.
    pub fn rule(&self) -> Style {
        match self.depth {
            Depth::None | Depth::Sixteen => Style::new().add_modifier(Modifier::DIM),
            Depth::Many => self.colour(239, 251, Color::Reset),
        }
    }

    /// Important numbers.
    pub fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Success.
    pub fn good(&self) -> Style {
        self.colour(114, 28, Color::Green)
    }

    /// A warning.
    pub fn warn(&self) -> Style {
        match self.background {
            Background::Dark => self.colour(221, 130, Color::Yellow),
            Background::Light => self.colour(221, 130, Color::Magenta),
        }
    }

    /// An error.
    pub fn bad(&self) -> Style {
        self.colour(203, 160, Color::Red)
            .add_modifier(Modifier::BOLD)
    }

    /// The training curve.
    pub fn training(&self) -> Style {
        match self.background {
            Background::Dark => self.colour(75, 26, Color::Cyan),
            Background::Light => self.colour(75, 26, Color::Blue),
        }
    }

    /// The validation curve.
    pub fn validation(&self) -> Style {
        match self.background {
            Background::Dark => self.colour(215, 166, Color::Yellow),
            Background::Light => self.colour(215, 166, Color::Red),
        }
    }

    /// The selected line.
    pub fn selected(&self) -> Style {
        match (self.depth, self.background) {
            (Depth::Many, Background::Dark) => Style::new()
                .bg(Color::Indexed(237))
                .add_modifier(Modifier::BOLD),
            (Depth::Many, Background::Light) => Style::new()
                .bg(Color::Indexed(254))
                .add_modifier(Modifier::BOLD),
            _ => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// The name of a key.
    pub fn key(&self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// Style of a cell of the confusion matrix that holds the fraction `share` (0 to 1) of its row: green on the
    /// diagonal, red elsewhere.
    pub fn heat(&self, share: f64, on_diagonal: bool) -> Style {
        const GOOD_DARK: [u8; 5] = [236, 22, 28, 34, 40];
        const BAD_DARK: [u8; 5] = [236, 52, 88, 124, 160];
        const GOOD_LIGHT: [u8; 5] = [255, 194, 157, 120, 83];
        const BAD_LIGHT: [u8; 5] = [255, 224, 217, 210, 203];
        let step = if share <= 0.0 {
            0
        } else {
            (1 + (share * 4.0) as usize).min(4)
        };
        match self.depth {
            Depth::None => Style::new(),
            Depth::Sixteen if step == 0 => self.faint(),
            Depth::Sixteen if on_diagonal => Style::new().fg(Color::Green),
            Depth::Sixteen => self.bad(),
            Depth::Many => {
                let (ramp, ink) = match (self.background, on_diagonal) {
                    (Background::Dark, true) => (GOOD_DARK, 231),
                    (Background::Dark, false) => (BAD_DARK, 231),
                    (Background::Light, true) => (GOOD_LIGHT, 16),
                    (Background::Light, false) => (BAD_LIGHT, 16),
                };
                let ink = if step == 0 { 242 } else { ink };
                Style::new()
                    .bg(Color::Indexed(ramp[step]))
                    .fg(Color::Indexed(ink))
            }
        }
    }

    /// A shade for the fraction `share`, for terminals without background colours for the confusion matrix.
    pub fn shade(&self, share: f64) -> &'static str {
        match (self.depth, (share * 4.0).ceil() as i32) {
            (Depth::Many, _) | (_, ..=0) => " ",
            (_, 1) => "░",
            (_, 2) => "▒",
            (_, 3) => "▓",
            _ => "█",
        }
    }

    /// Marker for curves.
    pub fn marker(&self) -> Marker {
        match self.font {
            Font::Full => Marker::Braille,
            Font::Console => Marker::HalfBlock,
        }
    }

    /// Levels of a sparkline.
    pub fn levels(&self) -> symbols::bar::Set<'static> {
        match self.font {
            Font::Full => symbols::bar::NINE_LEVELS,
            Font::Console => symbols::bar::THREE_LEVELS,
        }
    }

    /// A thin bar for lists, filled to the fraction `share` (0 to 1) of `width` cells: the filled part and the rest.
    pub fn bar(&self, share: f64, width: usize) -> (String, String) {
        let halves = (whole_share(share) * width as f64 * 2.0).round() as usize;
        let (full, half) = (halves / 2, halves % 2);
        match self.font {
            Font::Full => (
                "━".repeat(full) + if half == 1 { "╸" } else { "" },
                "─".repeat(width - full - half),
            ),
            Font::Console => ("█".repeat(full), "░".repeat(width - full)),
        }
    }

    /// A thick bar, for use outside lists.
    pub fn thick_bar(&self, share: f64, width: usize) -> (String, String) {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        if self.font == Font::Console {
            return self.bar(share, width);
        }
        let eighths = (whole_share(share) * width as f64 * 8.0).round() as usize;
        let part = EIGHTHS[eighths % 8];
        let full = "█".repeat(eighths / 8) + part;
        let rest = width - eighths / 8 - usize::from(!part.is_empty());
        (full, " ".repeat(rest))
    }

    /// The character for a mark.
    pub fn mark(&self, mark: Mark) -> &'static str {
        let (full, console) = match mark {
            Mark::Good => ("✓", "+"),
            Mark::Bad => ("✗", "x"),
            Mark::Running => ("▶", ">"),
            Mark::Paused => ("‖", "="),
            Mark::Stopped => ("■", "■"),
            Mark::Warning => ("▲", "!"),
            Mark::Waiting => ("·", "·"),
            Mark::Cursor => ("▸", ">"),
            Mark::Here => ("◆", "*"),
        };
        match self.font {
            Font::Full => full,
            Font::Console => console,
        }
    }
}

/// `share` limited to 0 to 1.
fn whole_share(share: f64) -> f64 {
    if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// Marks for states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Good,
    Bad,
    Running,
    Paused,
    Stopped,
    Warning,
    Waiting,
    Cursor,
    Here,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(variables: &[(&str, &str)]) -> Theme {
        Theme::of(None, |name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_decides() {
        let seen = theme(&[("TERM", "xterm-256color"), ("COLORFGBG", "0;15")]);
        assert_eq!(
            (seen.depth, seen.background),
            (Depth::Many, Background::Light)
        );
        let seen = theme(&[("TERM", "linux")]);
        assert_eq!((seen.depth, seen.font), (Depth::Sixteen, Font::Console));
        let seen = theme(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]);
        assert_eq!(
            (seen.depth, seen.background),
            (Depth::None, Background::Dark)
        );
    }

    #[test]
    fn a_bar_has_its_width_at_every_length() {
        for variables in [[("TERM", "xterm")], [("TERM", "linux")]] {
            for tenths in 0..=10 {
                let (theme, share) = (theme(&variables), f64::from(tenths) / 10.0);
                for (full, rest) in [theme.bar(share, 13), theme.thick_bar(share, 13)] {
                    assert_eq!((full + &rest).chars().count(), 13);
                }
            }
        }
        assert_eq!(theme(&[]).bar(f64::NAN, 2).1, "──");
        assert_eq!(theme(&[]).bar(0.5, 3).0, "━╸");
        assert_eq!(theme(&[]).thick_bar(0.5, 1).0, "▌");
    }

    #[test]
    fn without_colours_no_style_has_one() {
        let plain = theme(&[("NO_COLOR", "1")]);
        let styles = [
            plain.title(),
            plain.accent(),
            plain.faint(),
            plain.rule(),
            plain.good(),
            plain.warn(),
            plain.bad(),
            plain.training(),
            plain.validation(),
            plain.selected(),
            plain.key(),
            plain.heat(0.7, true),
        ];
        for style in styles {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
