//! Draws the state. [`view`] returns what is drawn where. Pure: it changes nothing.
//!
//! ```text
//!  1 Data ✓  2 Extract ▶  3 Train  4 Predict  5 Verify  6 Model  7 Runs  8 Log      tabs
//!
//!   one file per screen                                                             body
//!
//! ▶ fit photos → photos.onnx  extract ████████▌     412/1,000  8.1 images/s  1 min  status
//! r run  s settings  p pause  x stop  ? help  q quit                                 hints
//! ```

mod canvas;
mod curves;
mod data;
mod extract;
mod log;
mod matrix;
mod model;
mod overlay;
mod predict;
mod runs;
mod start;
mod status;
mod train;
mod verify;
mod views;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use self::canvas::{Canvas, length, rows};
use super::event::{Seen, Target};
use super::keys::{self, Action};
use super::state::runs::Status;
use super::state::{Overlay, Screen, State};
use super::theme::Mark;
use crate::progress::Phase;

/// Minimum size of the terminal: width, height.
pub const LEAST: (u16, u16) = (60, 20);

/// Draws `state` and returns what is drawn where.
pub fn view(state: &State, frame: &mut Frame) -> Seen {
    let area = frame.area();
    let mut canvas = Canvas {
        frame,
        state,
        theme: state.theme,
        seen: Seen::default(),
    };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "terminal too small: {}×{}, needs at least {}×{}",
            area.width, area.height, LEAST.0, LEAST.1
        );
        canvas.say(area, &text);
        return canvas.seen;
    }
    let [head, body, status, hints] = rows(area, [1, area.height.saturating_sub(3), 1, 1]);
    tabs(&mut canvas, head);
    match state.screen {
        Screen::Start => start::draw(&mut canvas, body),
        Screen::Data if state.data.views && state.data.known().is_some() => {
            views::draw(&mut canvas, body)
        }
        Screen::Data => data::draw(&mut canvas, body),
        Screen::Extract => extract::draw(&mut canvas, body),
        Screen::Train => train::draw(&mut canvas, body),
        Screen::Predict => predict::draw(&mut canvas, body),
        Screen::Verify => verify::draw(&mut canvas, body),
        Screen::Model => model::draw(&mut canvas, body),
        Screen::Runs => runs::draw(&mut canvas, body),
        Screen::Log => log::draw(&mut canvas, body),
    }
    status::draw(&mut canvas, status);
    if state.overlay != Overlay::Nothing {
        // With some protocols, images would show through the overlay.
        canvas.seen = Seen::default();
        overlay::draw(&mut canvas, body);
    }
    draw_hints(&mut canvas, hints);
    canvas.seen
}

/// The status of a screen's part of the pipeline.
fn mark(state: &State, screen: Screen) -> Option<Mark> {
    let run = state.runs.latest()?;
    let place = |phase| match phase {
        Phase::Scan | Phase::Download | Phase::Extract => 1,
        Phase::Train
        | Phase::WarmUp
        | Phase::Tune
        | Phase::Probe
        | Phase::Evaluate
        | Phase::Save => 2,
        Phase::Predict | Phase::Calibrate | Phase::Watch => 3,
        Phase::Verify => 4,
    };
    let own = match screen {
        Screen::Extract => 1,
        Screen::Train => 2,
        Screen::Predict => 3,
        Screen::Verify => 4,
        _ => return None,
    };
    let is_pipeline = matches!(run.job.as_str(), "fit" | "train" | "finetune" | "extract");
    let at = run.phase.map_or(0, place);
    let only = match run.job.as_str() {
        "extract" => own == 1,
        "verify" => own == 4,
        "evaluate" => own == 3,
        "train" => own == 2 || own == 4,
        _ => own != 3,
    };
    if !only {
        return None;
    }
    let finished = matches!(run.status, Status::Finished(_));
    Some(match &run.status {
        _ if finished || (is_pipeline && own < at) => Mark::Good,
        Status::Running if own == at => match state.paused {
            true => Mark::Paused,
            false => Mark::Running,
        },
        Status::Failed(_) if own == at => Mark::Bad,
        Status::Stopped(_) if own == at => Mark::Stopped,
        _ => return None,
    })
}

fn tabs(canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let wide = area.width >= 100;
    let mut x = area.x;
    if wide {
        canvas.line(area, 0, Span::styled(" tl ", theme.title()));
        x += 5;
    }
    for (number, screen) in (1..).zip(Screen::NUMBERED) {
        let here = canvas.state.screen == screen;
        let style = if here {
            theme.selected()
        } else {
            theme.faint()
        };
        let mut spans = vec![
            Span::styled(format!(" {number} "), style),
            Span::styled(screen.name(), if here { style } else { Default::default() }),
        ];
        if let Some(mark) = mark(canvas.state, screen) {
            spans.push(Span::styled(
                format!(" {}", theme.mark(mark)),
                style_of(canvas, mark),
            ));
        }
        spans.push(Span::styled(" ", style));
        let line = Line::from(spans);
        let place = Rect {
            x,
            width: length(line.width()).min(area.right().saturating_sub(x)),
            ..area
        };
        canvas.line(place, 0, line);
        if here {
            canvas.restyle(place, theme.selected());
        }
        canvas.seen.targets.push((place, Target::Tab(screen)));
        x = place.right() + u16::from(wide);
    }
}

fn style_of(canvas: &Canvas, mark: Mark) -> ratatui::style::Style {
    let theme = canvas.theme;
    match mark {
        Mark::Good => theme.good(),
        Mark::Bad => theme.bad(),
        Mark::Warning | Mark::Paused | Mark::Stopped => theme.warn(),
        _ => theme.accent(),
    }
}

/// Hints for keys that do something here, as many as fit; those for help and quitting are always shown.
fn draw_hints(canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let place = canvas.state.place();
    let busy = canvas.state.running().is_some();
    let hints: Vec<_> = keys::bindings(place)
        .filter(|b| !b.hint.is_empty())
        .filter(|b| match b.action {
            Action::Pause | Action::Cancel => busy,
            Action::Run => !busy,
            _ => true,
        })
        .map(|b| {
            let width = b.first_key().chars().count() + b.hint.chars().count() + 3;
            (b, width)
        })
        .collect();
    let is_needed = |action| matches!(action, Action::Help | Action::Quit);
    let needed: usize = hints
        .iter()
        .filter(|(b, _)| is_needed(b.action))
        .map(|(_, width)| width)
        .sum();
    let mut room = usize::from(area.width).saturating_sub(needed);
    let mut spans: Vec<Span> = Vec::new();
    for (binding, width) in hints {
        if !is_needed(binding.action) {
            if width > room {
                continue;
            }
            room -= width;
        }
        let hint = hint_of(canvas.state, binding);
        spans.push(Span::styled(
            format!(" {}", binding.first_key()),
            theme.key(),
        ));
        spans.push(Span::styled(format!(" {hint} "), theme.faint()));
    }
    canvas.line(area, 0, Line::from(spans));
}

fn hint_of(state: &State, binding: &keys::Binding) -> &'static str {
    match binding.action {
        Action::Pause if state.paused => "resume",
        _ => binding.hint,
    }
}
