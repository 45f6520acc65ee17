//! The keys, as one table: what a key does where. The same table draws the help and the line of hints.

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
    /// Show the keys.
    Help,
    /// Leave.
    Quit,
    /// Run the whole road with the present settings.
    Run,
    /// Change the settings.
    Settings,
    /// Hold the job or let it go on.
    Pause,
    /// Stop the job.
    Cancel,
    /// Show the screen of the job's phase whenever it changes.
    Follow,
    /// Move in a list, a matrix, a row of pictures.
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    /// Open what is selected.
    Enter,
    /// Close what was opened.
    Back,
    /// Take the folder that is open as the data set.
    Use,
    /// Go to the other list.
    OtherList,
    /// Type a path.
    TypePath,
    /// Put the losses on a logarithmic scale, or back.
    LogScale,
    /// Show the other splits.
    NextSplit,
    /// Show all lines or warnings only.
    Filter,
    /// Verify the saved model.
    Verify,
    /// Label the whole data set with the saved model.
    Evaluate,
    /// Show what augmentation makes of the pictures, or the pictures again.
    Views,
    /// Answers to a question.
    Yes,
    Rename,
}

/// Where a key means what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A screen, with nothing over it.
    Screen(Screen),
    /// The list of keys.
    Help,
    /// The settings.
    Settings,
    /// A line of text is typed.
    Typing,
    /// Whether to leave while a job runs.
    AskQuit,
    /// Whether to stop the job.
    AskCancel,
    /// Whether to replace an output.
    AskReplace,
}

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Screens,
    These(&'static [Place]),
}

/// One line of the table.
pub struct Binding {
    keys: &'static [KeyCode],
    control: bool,
    on: On,
    /// What the keys do.
    pub action: Action,
    /// The same in words.
    pub help: &'static str,
    /// The same in a word or two, for the line of hints; empty to leave it out there.
    pub hint: &'static str,
}

impl Binding {
    /// The names of the keys, as the help shows them.
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

/// The bindings that hold in `place`: those of the place alone first, then those of all screens.
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

/// The bindings of `place` alone.
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
    fn a_screens_own_keys_go_before_those_of_all_screens() {
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
    fn no_key_of_a_place_is_hidden_behind_another_of_its_lines() {
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
