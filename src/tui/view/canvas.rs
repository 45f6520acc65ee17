//! Drawing tools for all screens: panels, lists, bars, images. Records what is drawn where.

use std::path::Path;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use ratatui_image::Image;

use crate::error::{is_unsafe, printable};
use crate::tui::event::{PictureKey, PictureSource, Seen, Target};
use crate::tui::state::State;
use crate::tui::state::cursor::Cursor;
use crate::tui::text::{cells, fit, path_text, wrap};
use crate::tui::theme::{Font, Mark, Theme};

/// Minimum terminal size (width, height) for frames around panels.
const ROOMY: (u16, u16) = (100, 30);

/// A frame to draw on.
pub(super) struct Canvas<'a, 'f> {
    pub frame: &'a mut Frame<'f>,
    pub state: &'a State,
    pub theme: Theme,
    pub seen: Seen,
}

impl Canvas<'_, '_> {
    /// Writes a line, aligned left, as [`printable`] text; the end is cut if it does not fit.
    pub fn line<'l>(&mut self, area: Rect, row: u16, line: impl Into<Line<'l>>) {
        if row < area.height {
            let mut line = line.into();
            for span in &mut line.spans {
                if span.content.contains(is_unsafe) {
                    span.content = printable(&span.content).into();
                }
            }
            let buffer = self.frame.buffer_mut();
            buffer.set_line(area.x, area.y + row, &line, area.width);
        }
    }

    /// Writes a line, aligned right.
    pub fn line_right<'l>(&mut self, area: Rect, row: u16, line: impl Into<Line<'l>>) {
        let line = line.into();
        let width = length(line.width()).min(area.width);
        let place = Rect {
            x: area.right().saturating_sub(width),
            width,
            ..area
        };
        self.line(place, row, line);
    }

    /// Writes text with word wrap. Returns the number of lines.
    pub fn wrapped(&mut self, area: Rect, text: &str, style: Style) -> u16 {
        let lines = wrap(text, area.width.into());
        for (row, line) in lines.iter().enumerate().take(area.height.into()) {
            self.line(area, row as u16, Span::styled(line.clone(), style));
        }
        length(lines.len()).min(area.height)
    }

    /// Draws a panel with a title on the left and text on the right; returns its inner area.
    pub fn panel(&mut self, area: Rect, title: &str, right: &str) -> Rect {
        let roomy = self.state.size.0 >= ROOMY.0 && self.state.size.1 >= ROOMY.1;
        self.framed(area, title, right, roomy)
    }

    /// Draws a panel with a full frame if `roomy`, else only with a line at the top; returns its inner area.
    pub fn framed(&mut self, area: Rect, title: &str, right: &str, roomy: bool) -> Rect {
        let rule = self.theme.rule();
        let [tl, tr, bl, br] = match self.theme.font {
            Font::Full => ["╭", "╮", "╰", "╯"],
            Font::Console => ["┌", "┐", "└", "┘"],
        };
        if area.width < 4 || area.height == 0 {
            return Rect { height: 0, ..area };
        }
        let width = usize::from(area.width);
        let dashes = |n: usize| "─".repeat(n);
        let buffer = self.frame.buffer_mut();
        let (first, last) = if roomy { (tl, tr) } else { ("─", "─") };
        let top = format!("{first}{}{last}", dashes(width - 2));
        buffer.set_string(area.x, area.y, &top, rule);
        if roomy {
            for y in area.y + 1..area.bottom().saturating_sub(1) {
                buffer.set_string(area.x, y, "│", rule);
                buffer.set_string(area.right() - 1, y, "│", rule);
            }
            let bottom = format!("{bl}{}{br}", dashes(width - 2));
            buffer.set_string(area.x, area.bottom() - 1, &bottom, rule);
        }
        let title = fit(title, width.saturating_sub(6));
        let line = Line::from(vec![Span::styled(format!(" {title} "), self.theme.title())]);
        let head = Rect {
            x: area.x + 2,
            width: area.width - 4,
            height: 1,
            ..area
        };
        let left = line.width();
        self.line(head, 0, line);
        if !right.is_empty() && left + cells(right) + 3 < usize::from(head.width) {
            let line = Span::styled(format!(" {right} "), self.theme.faint());
            self.line_right(head, 0, line);
        }
        if roomy {
            Rect {
                x: area.x + 2,
                y: area.y + 1,
                width: area.width - 4,
                height: area.height.saturating_sub(2),
            }
        } else {
            Rect {
                x: area.x + 1,
                y: area.y + 1,
                width: area.width - 2,
                height: area.height - 1,
            }
        }
    }

    /// Draws the part of a list of `len` lines around the cursor. `row` makes a line from its number and width; lines
    /// react to clicks. `active` is true if the list has the focus.
    pub fn list(
        &mut self,
        area: Rect,
        len: usize,
        cursor: Cursor,
        active: bool,
        target: fn(usize) -> Target,
        mut row: impl FnMut(&Self, usize, usize) -> Line<'static>,
    ) {
        let window = cursor.window(len, usize::from(area.height));
        let scrolls = len > usize::from(area.height) && area.width > 10;
        let text = Rect {
            x: area.x + 2,
            width: area.width.saturating_sub(2 + u16::from(scrolls) * 2),
            ..area
        };
        for (y, number) in window.clone().enumerate() {
            let y = y as u16;
            let line = row(self, number, usize::from(text.width));
            self.line(text, y, line);
            let place = Rect {
                y: area.y + y,
                height: 1,
                ..area
            };
            if number == cursor.at {
                let style = if active {
                    self.theme.selected()
                } else {
                    self.theme.strong()
                };
                let row = Rect {
                    width: text.right().saturating_sub(area.x),
                    ..place
                };
                self.frame.buffer_mut().set_style(row, style);
                if active {
                    let mark = Span::styled(self.theme.mark(Mark::Cursor), self.theme.accent());
                    self.line(place, 0, mark);
                }
            }
            self.seen.targets.push((place, target(number)));
        }
        if scrolls {
            self.scrollbar(area, len, window.start);
        }
        if active {
            self.seen.page = area.height;
        }
    }

    fn scrollbar(&mut self, area: Rect, len: usize, first: usize) {
        let height = usize::from(area.height);
        let thumb = (height * height / len).max(1);
        let room = height.saturating_sub(thumb);
        let place = first * room / len.saturating_sub(height).max(1);
        for y in 0..height {
            let (symbol, style) = if (place..place + thumb).contains(&y) {
                ("█", self.theme.faint())
            } else {
                ("│", self.theme.rule())
            };
            let buffer = self.frame.buffer_mut();
            buffer.set_string(area.right() - 1, area.y + y as u16, symbol, style);
        }
    }

    /// A bar of `width` cells as two spans: the filled part and the rest.
    pub fn bar(&self, share: f64, width: usize, style: Style) -> [Span<'static>; 2] {
        let (full, rest) = self.theme.bar(share, width);
        [
            Span::styled(full, style),
            Span::styled(rest, self.theme.rule()),
        ]
    }

    /// Draws the image file `path` into `area`, or a text if there is no image.
    pub fn picture(&mut self, area: Rect, path: &Path) {
        self.picture_of(area, PictureSource::File(path.to_owned()));
    }

    /// Draws an image with a caption.
    pub fn thumbnail(&mut self, area: Rect, source: PictureSource, caption: &str, selected: bool) {
        let image = Rect {
            height: area.height.saturating_sub(1),
            ..area
        };
        self.picture_of(image, source);
        let (style, mark) = match selected {
            true => (self.theme.selected(), self.theme.mark(Mark::Cursor)),
            false => (self.theme.faint(), " "),
        };
        let caption = fit(caption, usize::from(area.width).saturating_sub(2));
        let line = Line::from(Span::styled(format!("{mark}{caption}"), style));
        self.line(area, image.height, line);
    }

    /// Draws the image `source` into `area`, or a text if there is no image.
    pub fn picture_of(&mut self, area: Rect, source: PictureSource) {
        if area.width < 4 || area.height < 2 {
            return;
        }
        if !self.state.pictures {
            match source {
                PictureSource::File(path) => self.say(area, &path_text(&path)),
                PictureSource::View(..) => {}
            }
            return;
        }
        let key = PictureKey {
            source,
            width: area.width,
            height: area.height,
        };
        match self.state.gallery.get(&key) {
            Some(Some(picture)) => {
                let size = picture.size();
                let place = Rect {
                    x: area.x + (area.width.saturating_sub(size.width)) / 2,
                    width: size.width.min(area.width),
                    height: size.height.min(area.height),
                    ..area
                };
                Image::new(picture).render(place, self.frame.buffer_mut());
            }
            Some(None) => self.say(area, "cannot be shown"),
            None => self.say(area, "…"),
        }
        self.seen.pictures.push(key);
    }

    /// Writes a faint text in the middle of `area`.
    pub fn say(&mut self, area: Rect, text: &str) {
        let width = usize::from(area.width).saturating_sub(2);
        let lines = wrap(text, width);
        let first = usize::from(area.height).saturating_sub(lines.len()) / 2;
        let style = self.theme.faint();
        for (row, line) in lines.into_iter().enumerate() {
            let line = Span::styled(line, style);
            let place = Rect {
                x: area.x + (area.width.saturating_sub(length(line.width()))) / 2,
                width: length(line.width()).min(area.width),
                ..area
            };
            self.line(place, length(first + row), line);
        }
    }

    /// Changes the style of `area`.
    pub fn restyle(&mut self, area: Rect, style: Style) {
        self.frame.buffer_mut().set_style(area, style);
    }

    /// Shows the terminal's cursor.
    pub fn show_cursor(&mut self, x: u16, y: u16) {
        self.frame.set_cursor_position(Position { x, y });
    }
}

/// Number of lines of `text` when wrapped at `width` cells.
pub(super) fn wrapped_lines(text: &str, width: u16) -> u16 {
    length(wrap(text, width.into()).len())
}

/// A number of cells or lines in the type that the terminal uses, with saturation.
pub(super) fn length(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Splits `area` into columns of these widths, one cell apart; the last gets the rest.
pub(super) fn columns<const N: usize>(area: Rect, widths: [u16; N]) -> [Rect; N] {
    let mut x = area.x;
    std::array::from_fn(|i| {
        let left = area.right().saturating_sub(x);
        let width = if i + 1 == N {
            left
        } else {
            widths[i].min(left)
        };
        let column = Rect { x, width, ..area };
        x = x.saturating_add(width).saturating_add(1).min(area.right());
        column
    })
}

/// Splits `area` into rows of these heights; the last gets the rest.
pub(super) fn rows<const N: usize>(area: Rect, heights: [u16; N]) -> [Rect; N] {
    let mut y = area.y;
    std::array::from_fn(|i| {
        let left = area.bottom().saturating_sub(y);
        let height = if i + 1 == N {
            left
        } else {
            heights[i].min(left)
        };
        let row = Rect { y, height, ..area };
        y = y.saturating_add(height);
        row
    })
}
