//! Key bindings in one table, which is also the source of the help and of the hints.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

mod table;

use self::table::BINDINGS;
use super::state::Screen;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show a screen.
    Go(Screen),
    /// Show the next or the previous screen.
    NextScreen,
    PreviousScreen,
    /// Show the help.
    Help,
    /// Quit.
    Quit,
    /// Run the whole pipeline with the current settings.
    Run,
    /// Change the settings.
    Settings,
    /// Pause or resume the job.
    Pause,
    /// Stop the job.
    Cancel,
    /// Turn on or off: switch to the screen of the job's current phase.
    Follow,
    /// Move in a list, a matrix, or a row of images.
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    /// Open the selection.
    Enter,
    /// Close or go back.
    Back,
    /// Use the selected folder as the dataset.
    Use,
    /// Switch to the other list.
    OtherList,
    /// Type a path.
    TypePath,
    /// Switch between a logarithmic and a linear loss scale.
    LogScale,
    /// Show the next split.
    NextSplit,
    /// Switch between all lines and warnings only.
    Filter,
    /// Verify the saved model.
    Verify,
    /// Evaluate the saved model on the whole dataset.
    Evaluate,
    /// Show or hide augmented views.
    Views,
    /// Answer a question.
    Yes,
    Rename,
}

/// Where a key is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A screen without an overlay.
    Screen(Screen),
    /// The help.
    Help,
    /// The settings.
    Settings,
    /// A text field.
    Typing,
    /// The question whether to quit while a job is running.
    AskQuit,
    /// The question whether to stop the job.
    AskCancel,
    /// The question whether to replace an existing output.
    AskReplace,
}

/// Where a binding applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Screens,
    These(&'static [Place]),
}

/// One binding.
pub struct Binding {
    keys: &'static [KeyCode],
    control: bool,
    on: On,
    /// The action.
    pub action: Action,
    /// Description for the help.
    pub help: &'static str,
    /// One or two words for the line of hints; empty for no hint.
    pub hint: &'static str,
}

impl Binding {
    /// The names of the keys, as shown in the help.
    pub fn key_names(&self) -> String {
        let names: Vec<String> = self.keys.iter().map(|key| name(*key)).collect();
        let prefix = if self.control { "Ctrl-" } else { "" };
        format!("{prefix}{}", names.join(" "))
    }

    /// The name of the first key.
    pub fn first_key(&self) -> String {
        let prefix = if self.control { "Ctrl-" } else { "" };
        self.keys
            .first()
            .map_or_else(String::new, |key| format!("{prefix}{}", name(*key)))
    }

    fn holds(&self, place: Place) -> bool {
        match self.on {
            On::Screens => matches!(place, Place::Screen(_)),
            On::These(places) => places.contains(&place),
        }
    }
}

/// The action of `key` in `place`.
pub fn action(key: KeyEvent, place: Place) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    BINDINGS
        .iter()
        .find(|b| b.control == control && b.keys.contains(&key.code) && b.holds(place))
        .map(|b| b.action)
}

/// The bindings that apply in `place`: its own first, then those of all screens.
pub fn bindings(place: Place) -> impl Iterator<Item = &'static Binding> {
    let own = BINDINGS
        .iter()
        .filter(move |b| b.on != On::Screens && b.holds(place));
    own.chain(
        BINDINGS
            .iter()
            .filter(move |b| b.on == On::Screens && b.holds(place)),
    )
}

/// The bindings of all screens.
pub fn common_bindings() -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(|b| b.on == On::Screens)
}

/// The bindings of `place` only.
pub fn own_bindings(place: Place) -> impl Iterator<Item = &'static Binding> {
    BINDINGS
        .iter()
        .filter(move |b| b.on != On::Screens && b.holds(place))
}

fn name(key: KeyCode) -> String {
    match key {
        KeyCode::Char(' ') => "Space".into(),
        KeyCode::Char(c) => c.to_string(),
        KeyCode::Up => "↑".into(),
        KeyCode::Down => "↓".into(),
        KeyCode::Left => "←".into(),
        KeyCode::Right => "→".into(),
        KeyCode::PageUp => "PgUp".into(),
        KeyCode::PageDown => "PgDn".into(),
        KeyCode::BackTab => "Shift-Tab".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use KeyCode::Char;

    use super::table::{DATA, EXTRACT, LOG, MODEL, PREDICT, RUNS, START, TRAIN, VERIFY};
    use super::*;

    const PLACES: [Place; 15] = [
        START,
        DATA,
        EXTRACT,
        TRAIN,
        PREDICT,
        VERIFY,
        MODEL,
        RUNS,
        LOG,
        Place::Help,
        Place::Settings,
        Place::Typing,
        Place::AskQuit,
        Place::AskCancel,
        Place::AskReplace,
    ];

    #[test]
    fn a_screens_own_keys_take_precedence_over_those_of_all_screens() {
        let press = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert_eq!(action(press(Char('l')), TRAIN), Some(Action::LogScale));
        assert_eq!(action(press(Char('l')), DATA), Some(Action::Right));
        assert_eq!(action(press(Char(' ')), START), Some(Action::Use));
        assert_eq!(action(press(Char(' ')), DATA), Some(Action::Pause));
        assert_eq!(
            action(press(Char('5')), LOG),
            Some(Action::Go(Screen::Verify))
        );
        assert_eq!(action(press(Char('5')), Place::Typing), None);
    }

    #[test]
    fn every_place_can_be_left_by_a_key_and_by_ctrl_c() {
        let ctrl_c = KeyEvent::new(Char('c'), KeyModifiers::CONTROL);
        for place in PLACES {
            assert!(action(ctrl_c, place).is_some(), "{place:?}");
            assert!(
                bindings(place).any(|b| matches!(b.action, Action::Quit | Action::Back)),
                "{place:?}"
            );
        }
    }

    #[test]
    fn no_key_is_bound_twice_in_the_same_place() {
        for place in PLACES {
            let mut seen = std::collections::HashMap::new();
            for binding in own_bindings(place) {
                for key in binding.keys {
                    let before = seen.insert((binding.control, *key), binding.help);
                    assert_eq!(before, None, "{place:?} {key:?}: {}", binding.help);
                }
            }
        }
    }
}
