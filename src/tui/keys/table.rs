//! The table itself. One line a binding, however long, so that it reads as a table.

use ratatui::crossterm::event::KeyCode;

use super::{Action, Binding, On, Place};
use crate::tui::state::Screen;

use KeyCode::{
    BackTab, Backspace, Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up,
};

pub(super) const START: Place = Place::Screen(Screen::Start);
pub(super) const DATA: Place = Place::Screen(Screen::Data);
pub(super) const EXTRACT: Place = Place::Screen(Screen::Extract);
pub(super) const TRAIN: Place = Place::Screen(Screen::Train);
pub(super) const PREDICT: Place = Place::Screen(Screen::Predict);
pub(super) const VERIFY: Place = Place::Screen(Screen::Verify);
pub(super) const MODEL: Place = Place::Screen(Screen::Model);
pub(super) const RUNS: Place = Place::Screen(Screen::Runs);
pub(super) const LOG: Place = Place::Screen(Screen::Log);

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
#[rustfmt::skip]
pub(super) static BINDINGS: &[Binding] = &[
    // The start screen.
    on(&[Enter, Right], On::These(&[START]), Action::Enter, "choose", "choose the data set or base, or open the folder"),
    on(&[Left, Backspace], On::These(&[START]), Action::Left, "up", "go to the folder above"),
    on(&[Char(' '), Char('u')], On::These(&[START]), Action::Use, "use this folder", "take the selected folder as the data set"),
    on(&[Tab, BackTab], On::These(&[START]), Action::OtherList, "folders/bases", "go from the folders to the bases and back"),
    on(&[Char('/')], On::These(&[START]), Action::TypePath, "type a path", "type or paste the path of a folder"),
    // Data.
    on(&[Left, Char('h')], On::These(&[DATA]), Action::Left, "", "the picture before"),
    on(&[Right, Char('l')], On::These(&[DATA]), Action::Right, "pictures", "the next picture of the class"),
    on(&[Enter], On::These(&[DATA]), Action::Enter, "look", "ask the models about the picture"),
    on(&[Char('a')], On::These(&[DATA]), Action::Views, "augmented", "what augmentation makes of the pictures, or the pictures"),
    on(&[Esc], On::These(&[DATA]), Action::Back, "", "the pictures themselves again"),
    // Train.
    on(&[Up, Char('k')], On::These(&[TRAIN]), Action::Up, "", "up in the confusion matrix"),
    on(&[Down, Char('j')], On::These(&[TRAIN]), Action::Down, "", "down in the confusion matrix"),
    on(&[Left, Char('h')], On::These(&[TRAIN]), Action::Left, "", "left in the confusion matrix"),
    on(&[Right], On::These(&[TRAIN]), Action::Right, "matrix", "right in the confusion matrix"),
    on(&[Enter], On::These(&[TRAIN]), Action::Enter, "its pictures", "open the pictures behind the cell"),
    on(&[Char('l')], On::These(&[TRAIN]), Action::LogScale, "log", "losses on a logarithmic scale, or back"),
    on(&[Char('t')], On::These(&[TRAIN]), Action::NextSplit, "split", "matrix of the next split"),
    // Predict.
    on(&[Char('/')], On::These(&[PREDICT]), Action::TypePath, "type a path", "type or paste the path of a picture"),
    on(&[Char('t')], On::These(&[PREDICT]), Action::NextSplit, "split", "pictures of the next split"),
    on(&[Char('e')], On::These(&[PREDICT]), Action::Evaluate, "score all", "label all pictures of the data set with the saved model"),
    on(&[Esc], On::These(&[PREDICT]), Action::Back, "all", "all pictures of the split again"),
    // Verify.
    on(&[Char('v'), Enter], On::These(&[VERIFY]), Action::Verify, "verify", "reload the saved model and compare again"),
    // Model.
    on(&[Enter], On::These(&[MODEL]), Action::Enter, "cut here", "cut the base at this layer from the next run on"),
    on(&[Char('b')], On::These(&[MODEL]), Action::Back, "base", "choose another base"),
    // Runs.
    on(&[Enter], On::These(&[RUNS]), Action::Enter, "its settings", "take the run's settings for the next run"),
    // Log.
    on(&[Char('w')], On::These(&[LOG]), Action::Filter, "warnings", "warnings and errors only, or all"),
    // Lists.
    on(&[Up, Char('k')], LISTS, Action::Up, "", "up"),
    on(&[Down, Char('j')], LISTS, Action::Down, "", "down"),
    on(&[PageUp], LISTS, Action::PageUp, "", "a page up"),
    on(&[PageDown], LISTS, Action::PageDown, "", "a page down"),
    on(&[Home, Char('g')], LISTS, Action::First, "", "to the first line"),
    on(&[End, Char('G')], LISTS, Action::Last, "", "to the last line"),
    // What lies over a screen.
    on(&[Esc, Char('?'), Char('q'), Enter], On::These(&[Place::Help]), Action::Back, "close", "close"),
    on(&[Enter], On::These(&[Place::Settings]), Action::Enter, "change", "change the value"),
    on(&[Left], On::These(&[Place::Settings]), Action::Left, "", "the value before"),
    on(&[Right, Char(' ')], On::These(&[Place::Settings]), Action::Right, "next value", "the next value"),
    on(&[Char('r')], On::These(&[Place::Settings]), Action::Run, "run", "close and run"),
    on(&[Esc, Char('s'), Char('q')], On::These(&[Place::Settings]), Action::Back, "close", "close"),
    on(&[Enter], On::These(&[Place::Typing]), Action::Enter, "take", "take the text"),
    on(&[Esc], On::These(&[Place::Typing]), Action::Back, "drop", "drop it"),
    on(&[Char('y'), Char('q'), Enter], On::These(&[Place::AskQuit]), Action::Yes, "stop and leave", "stop the job and leave"),
    on(&[Esc, Char('n')], On::These(&[Place::AskQuit]), Action::Back, "stay", "stay"),
    on(&[Char('y'), Char('x'), Enter], On::These(&[Place::AskCancel]), Action::Yes, "stop it", "stop the job"),
    on(&[Esc, Char('n')], On::These(&[Place::AskCancel]), Action::Back, "go on", "go on"),
    on(&[Enter, Char('n')], On::These(&[Place::AskReplace]), Action::Rename, "new name", "save under the new name"),
    on(&[Char('r')], On::These(&[Place::AskReplace]), Action::Yes, "replace", "replace the file"),
    on(&[Esc], On::These(&[Place::AskReplace]), Action::Back, "neither", "do not run"),
    // Every screen.
    all(&[Char('r')], Action::Run, "run", "run: extract, train, save, reload and verify"),
    all(&[Char('s')], Action::Settings, "settings", "settings of the next run"),
    all(&[Char('p'), Char(' ')], Action::Pause, "pause", "pause the job, or go on"),
    all(&[Char('x')], Action::Cancel, "stop", "stop the job; what is done is kept"),
    all(&[Char('f')], Action::Follow, "", "follow the job from screen to screen"),
    all(&[Char('o')], Action::Go(Screen::Start), "open", "choose a data set and a base"),
    all(&[Char('1')], Action::Go(Screen::Data), "", "Data: classes, splits, pictures"),
    all(&[Char('2')], Action::Go(Screen::Extract), "", "Extract: pictures through the base"),
    all(&[Char('3')], Action::Go(Screen::Train), "", "Train: curves and confusion matrix"),
    all(&[Char('4')], Action::Go(Screen::Predict), "", "Predict: what the models say of a picture"),
    all(&[Char('5')], Action::Go(Screen::Verify), "", "Verify: the saved model gives the same results"),
    all(&[Char('6')], Action::Go(Screen::Model), "", "Model: the base's layers and its cut"),
    all(&[Char('7')], Action::Go(Screen::Runs), "", "Runs: all runs side by side"),
    all(&[Char('8')], Action::Go(Screen::Log), "", "Log: all that was said"),
    all(&[Tab], Action::NextScreen, "", "the next screen"),
    all(&[BackTab], Action::PreviousScreen, "", "the screen before"),
    all(&[Char('?'), KeyCode::F(1)], Action::Help, "help", "all keys"),
    all(&[Char('q')], Action::Quit, "quit", "leave; asks if a job runs"),
    Binding {
        keys: &[Char('c')],
        control: true,
        on: On::These(&[
            START, DATA, EXTRACT, TRAIN, PREDICT, VERIFY, MODEL, RUNS, LOG, Place::Help, Place::Settings,
            Place::Typing, Place::AskCancel, Place::AskReplace,
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
