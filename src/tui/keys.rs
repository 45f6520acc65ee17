//! The keys, as one table: what a key does where. The same table draws the help and the line of hints.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

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

use KeyCode::{
    BackTab, Backspace, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up,
};

const START: Place = Place::Screen(Screen::Start);
const DATA: Place = Place::Screen(Screen::Data);
const EXTRACT: Place = Place::Screen(Screen::Extract);
const TRAIN: Place = Place::Screen(Screen::Train);
const PREDICT: Place = Place::Screen(Screen::Predict);
const VERIFY: Place = Place::Screen(Screen::Verify);
const MODEL: Place = Place::Screen(Screen::Model);
const RUNS: Place = Place::Screen(Screen::Runs);
const LOG: Place = Place::Screen(Screen::Log);

/// Places with a list that is walked up and down.
const LISTS: On = On::These(&[
    START,
    DATA,
    EXTRACT,
    PREDICT,
    VERIFY,
    MODEL,
    RUNS,
    LOG,
    Place::Settings,
    Place::Help,
]);

const fn on(
    keys: &'static [KeyCode],
    on: On,
    action: Action,
    hint: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        control: false,
        on,
        action,
        help,
        hint,
    }
}

const fn all(
    keys: &'static [KeyCode],
    action: Action,
    hint: &'static str,
    help: &'static str,
) -> Binding {
    on(keys, On::Screens, action, hint, help)
}

/// Every key of the program. The first line that fits is taken, so a screen's own lines stand first.
static BINDINGS: &[Binding] = &[
    // The start screen.
    on(
        &[Enter, Right],
        On::These(&[START]),
        Action::Enter,
        "choose",
        "choose the data set or base, or open the folder",
    ),
    on(
        &[Left, Backspace],
        On::These(&[START]),
        Action::Left,
        "up",
        "go to the folder above",
    ),
    on(
        &[Char(' '), Char('u')],
        On::These(&[START]),
        Action::Use,
        "use this folder",
        "take the selected folder as the data set",
    ),
    on(
        &[Tab, BackTab],
        On::These(&[START]),
        Action::OtherList,
        "folders/bases",
        "go from the folders to the bases and back",
    ),
    on(
        &[Char('/')],
        On::These(&[START]),
        Action::TypePath,
        "type a path",
        "type or paste the path of a folder",
    ),
    // Data.
    on(
        &[Left, Char('h')],
        On::These(&[DATA]),
        Action::Left,
        "",
        "the picture before",
    ),
    on(
        &[Right, Char('l')],
        On::These(&[DATA]),
        Action::Right,
        "pictures",
        "the next picture of the class",
    ),
    on(
        &[Enter],
        On::These(&[DATA]),
        Action::Enter,
        "look",
        "ask the models about the picture",
    ),
    // Extract.
    // Train.
    on(
        &[Up, Char('k')],
        On::These(&[TRAIN]),
        Action::Up,
        "",
        "up in the confusion matrix",
    ),
    on(
        &[Down, Char('j')],
        On::These(&[TRAIN]),
        Action::Down,
        "",
        "down in the confusion matrix",
    ),
    on(
        &[Left, Char('h')],
        On::These(&[TRAIN]),
        Action::Left,
        "",
        "left in the confusion matrix",
    ),
    on(
        &[Right],
        On::These(&[TRAIN]),
        Action::Right,
        "matrix",
        "right in the confusion matrix",
    ),
    on(
        &[Enter],
        On::These(&[TRAIN]),
        Action::Enter,
        "its pictures",
        "open the pictures behind the cell",
    ),
    on(
        &[Char('l')],
        On::These(&[TRAIN]),
        Action::LogScale,
        "log",
        "losses on a logarithmic scale, or back",
    ),
    on(
        &[Char('t')],
        On::These(&[TRAIN]),
        Action::NextSplit,
        "split",
        "matrix of the next split",
    ),
    // Predict.
    on(
        &[Char('/')],
        On::These(&[PREDICT]),
        Action::TypePath,
        "type a path",
        "type or paste the path of a picture",
    ),
    on(
        &[Char('t')],
        On::These(&[PREDICT]),
        Action::NextSplit,
        "split",
        "pictures of the next split",
    ),
    on(
        &[Char('e')],
        On::These(&[PREDICT]),
        Action::Evaluate,
        "score all",
        "label all pictures of the data set with the saved model",
    ),
    on(
        &[Esc],
        On::These(&[PREDICT]),
        Action::Back,
        "all",
        "all pictures of the split again",
    ),
    // Verify.
    on(
        &[Char('v'), Enter],
        On::These(&[VERIFY]),
        Action::Verify,
        "verify",
        "reload the saved model and compare again",
    ),
    // Model.
    on(
        &[Enter],
        On::These(&[MODEL]),
        Action::Enter,
        "cut here",
        "cut the base at this layer from the next run on",
    ),
    on(
        &[Char('b')],
        On::These(&[MODEL]),
        Action::Back,
        "base",
        "choose another base",
    ),
    // Runs.
    on(
        &[Enter],
        On::These(&[RUNS]),
        Action::Enter,
        "its settings",
        "take the run's settings for the next run",
    ),
    // Log.
    on(
        &[Char('w')],
        On::These(&[LOG]),
        Action::Filter,
        "warnings",
        "warnings and errors only, or all",
    ),
    // Lists.
    on(&[Up, Char('k')], LISTS, Action::Up, "", "up"),
    on(&[Down, Char('j')], LISTS, Action::Down, "", "down"),
    on(&[PageUp], LISTS, Action::PageUp, "", "a page up"),
    on(&[PageDown], LISTS, Action::PageDown, "", "a page down"),
    on(
        &[Home, Char('g')],
        LISTS,
        Action::First,
        "",
        "to the first line",
    ),
    on(
        &[End, Char('G')],
        LISTS,
        Action::Last,
        "",
        "to the last line",
    ),
    // What lies over a screen.
    on(
        &[Esc, Char('?'), Char('q'), Enter],
        On::These(&[Place::Help]),
        Action::Back,
        "close",
        "close",
    ),
    on(
        &[Enter],
        On::These(&[Place::Settings]),
        Action::Enter,
        "change",
        "change the value",
    ),
    on(
        &[Left],
        On::These(&[Place::Settings]),
        Action::Left,
        "",
        "the value before",
    ),
    on(
        &[Right, Char(' ')],
        On::These(&[Place::Settings]),
        Action::Right,
        "next value",
        "the next value",
    ),
    on(
        &[Char('r')],
        On::These(&[Place::Settings]),
        Action::Run,
        "run",
        "close and run",
    ),
    on(
        &[Esc, Char('s'), Char('q')],
        On::These(&[Place::Settings]),
        Action::Back,
        "close",
        "close",
    ),
    on(
        &[Enter],
        On::These(&[Place::Typing]),
        Action::Enter,
        "take",
        "take the text",
    ),
    on(
        &[Esc],
        On::These(&[Place::Typing]),
        Action::Back,
        "drop",
        "drop it",
    ),
    on(
        &[Char('y'), Char('q'), Enter],
        On::These(&[Place::AskQuit]),
        Action::Yes,
        "stop and leave",
        "stop the job and leave",
    ),
    on(
        &[Esc, Char('n')],
        On::These(&[Place::AskQuit]),
        Action::Back,
        "stay",
        "stay",
    ),
    on(
        &[Char('y'), Char('x'), Enter],
        On::These(&[Place::AskCancel]),
        Action::Yes,
        "stop it",
        "stop the job",
    ),
    on(
        &[Esc, Char('n')],
        On::These(&[Place::AskCancel]),
        Action::Back,
        "go on",
        "go on",
    ),
    on(
        &[Enter, Char('n')],
        On::These(&[Place::AskReplace]),
        Action::Rename,
        "new name",
        "save under the new name",
    ),
    on(
        &[Char('r')],
        On::These(&[Place::AskReplace]),
        Action::Yes,
        "replace",
        "replace the file",
    ),
    on(
        &[Esc],
        On::These(&[Place::AskReplace]),
        Action::Back,
        "neither",
        "do not run",
    ),
    // Every screen.
    all(
        &[Char('r')],
        Action::Run,
        "run",
        "run: extract, train, save and verify with the present settings",
    ),
    all(
        &[Char('s')],
        Action::Settings,
        "settings",
        "settings of the next run",
    ),
    all(
        &[Char('p'), Char(' ')],
        Action::Pause,
        "pause",
        "pause the job, or go on",
    ),
    all(
        &[Char('x')],
        Action::Cancel,
        "stop",
        "stop the job; what is done is kept",
    ),
    all(
        &[Char('f')],
        Action::Follow,
        "",
        "follow the job from screen to screen",
    ),
    all(
        &[Char('o')],
        Action::Go(Screen::Start),
        "open",
        "choose a data set and a base",
    ),
    all(
        &[Char('1')],
        Action::Go(Screen::Data),
        "",
        "Data: classes, splits, pictures",
    ),
    all(
        &[Char('2')],
        Action::Go(Screen::Extract),
        "",
        "Extract: pictures through the base",
    ),
    all(
        &[Char('3')],
        Action::Go(Screen::Train),
        "",
        "Train: curves and confusion matrix",
    ),
    all(
        &[Char('4')],
        Action::Go(Screen::Predict),
        "",
        "Predict: what the models say of a picture",
    ),
    all(
        &[Char('5')],
        Action::Go(Screen::Verify),
        "",
        "Verify: the saved model gives the same results",
    ),
    all(
        &[Char('6')],
        Action::Go(Screen::Model),
        "",
        "Model: the base's layers and its cut",
    ),
    all(
        &[Char('7')],
        Action::Go(Screen::Runs),
        "",
        "Runs: all runs side by side",
    ),
    all(
        &[Char('8')],
        Action::Go(Screen::Log),
        "",
        "Log: all that was said",
    ),
    all(&[Tab], Action::NextScreen, "", "the next screen"),
    all(&[BackTab], Action::PreviousScreen, "", "the screen before"),
    all(
        &[Char('?'), KeyCode::F(1)],
        Action::Help,
        "help",
        "all keys",
    ),
    all(
        &[Char('q')],
        Action::Quit,
        "quit",
        "leave; asks if a job runs",
    ),
    Binding {
        keys: &[Char('c')],
        control: true,
        on: On::These(&[
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
            Place::AskCancel,
            Place::AskReplace,
        ]),
        action: Action::Quit,
        help: "leave; asks if a job runs",
        hint: "",
    },
    Binding {
        keys: &[Char('c')],
        control: true,
        on: On::These(&[Place::AskQuit]),
        action: Action::Yes,
        help: "stop the job and leave",
        hint: "",
    },
];

#[cfg(test)]
mod tests {
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
