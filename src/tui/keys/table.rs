//! The table of key bindings. Each binding is on one line, however long, so that it reads as a table.

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

/// Places with a list that the arrow keys move in.
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

/// All key bindings. The first match wins, so a screen's own bindings come first.
#[rustfmt::skip]
pub(super) static BINDINGS: &[Binding] = &[
    // The start screen.
    on(&[Enter, Right], On::These(&[START]), Action::Enter, "choose", "choose this dataset or backbone, or open the folder"),
    on(&[Left, Backspace], On::These(&[START]), Action::Left, "parent", "go to the parent folder"),
    on(&[Char(' '), Char('u')], On::These(&[START]), Action::Use, "use folder", "use the selected folder as the dataset"),
    on(&[Tab, BackTab], On::These(&[START]), Action::OtherList, "switch list", "switch between folders and backbones"),
    on(&[Char('/')], On::These(&[START]), Action::TypePath, "type path", "type or paste the path of a folder"),
    // Data.
    on(&[Left, Char('h')], On::These(&[DATA]), Action::Left, "", "previous image of the class"),
    on(&[Right, Char('l')], On::These(&[DATA]), Action::Right, "next", "next image of the class"),
    on(&[Enter], On::These(&[DATA]), Action::Enter, "predict", "show the predictions for this image"),
    on(&[Char('a')], On::These(&[DATA]), Action::Views, "augmented", "show or hide augmented views of the images"),
    on(&[Esc], On::These(&[DATA]), Action::Back, "", "hide augmented views"),
    // Train.
    on(&[Up, Char('k')], On::These(&[TRAIN]), Action::Up, "", "move up in the confusion matrix"),
    on(&[Down, Char('j')], On::These(&[TRAIN]), Action::Down, "", "move down in the confusion matrix"),
    on(&[Left, Char('h')], On::These(&[TRAIN]), Action::Left, "", "move left in the confusion matrix"),
    on(&[Right], On::These(&[TRAIN]), Action::Right, "cell", "move right in the confusion matrix"),
    on(&[Enter], On::These(&[TRAIN]), Action::Enter, "images", "show the images of the selected cell"),
    on(&[Char('l')], On::These(&[TRAIN]), Action::LogScale, "log scale", "show the loss on a logarithmic or linear scale"),
    on(&[Char('t')], On::These(&[TRAIN]), Action::NextSplit, "split", "show the confusion matrix of the next split"),
    // Predict.
    on(&[Char('/')], On::These(&[PREDICT]), Action::TypePath, "type path", "type or paste the path of an image"),
    on(&[Char('t')], On::These(&[PREDICT]), Action::NextSplit, "split", "show the images of the next split"),
    on(&[Char('e')], On::These(&[PREDICT]), Action::Evaluate, "evaluate", "evaluate the saved model on the whole dataset"),
    on(&[Esc], On::These(&[PREDICT]), Action::Back, "all", "show all images of the split again"),
    // Verify.
    on(&[Char('v'), Enter], On::These(&[VERIFY]), Action::Verify, "verify", "reload the saved model and verify it again"),
    // Model.
    on(&[Enter], On::These(&[MODEL]), Action::Enter, "feature layer", "use this layer as the feature layer in the next run"),
    on(&[Char('b')], On::These(&[MODEL]), Action::Back, "backbone", "choose another backbone"),
    // Runs.
    on(&[Enter], On::These(&[RUNS]), Action::Enter, "reuse settings", "use this run's settings for the next run"),
    // Log.
    on(&[Char('w')], On::These(&[LOG]), Action::Filter, "warnings", "show warnings and errors only, or all lines"),
    // Lists.
    on(&[Up, Char('k')], LISTS, Action::Up, "", "up"),
    on(&[Down, Char('j')], LISTS, Action::Down, "", "down"),
    on(&[PageUp], LISTS, Action::PageUp, "", "page up"),
    on(&[PageDown], LISTS, Action::PageDown, "", "page down"),
    on(&[Home, Char('g')], LISTS, Action::First, "", "first line"),
    on(&[End, Char('G')], LISTS, Action::Last, "", "last line"),
    // Overlays.
    on(&[Esc, Char('?'), Char('q'), Enter], On::These(&[Place::Help]), Action::Back, "close", "close"),
    on(&[Enter], On::These(&[Place::Settings]), Action::Enter, "edit", "edit the value"),
    on(&[Left], On::These(&[Place::Settings]), Action::Left, "", "previous value"),
    on(&[Right, Char(' ')], On::These(&[Place::Settings]), Action::Right, "next value", "next value"),
    on(&[Char('r')], On::These(&[Place::Settings]), Action::Run, "run", "close and run"),
    on(&[Esc, Char('s'), Char('q')], On::These(&[Place::Settings]), Action::Back, "close", "close"),
    on(&[Enter], On::These(&[Place::Typing]), Action::Enter, "OK", "accept the text"),
    on(&[Esc], On::These(&[Place::Typing]), Action::Back, "cancel", "cancel"),
    on(&[Char('y'), Char('q'), Enter], On::These(&[Place::AskQuit]), Action::Yes, "stop and quit", "stop the job and quit"),
    on(&[Esc, Char('n')], On::These(&[Place::AskQuit]), Action::Back, "stay", "stay"),
    on(&[Char('y'), Char('x'), Enter], On::These(&[Place::AskCancel]), Action::Yes, "stop", "stop the job"),
    on(&[Esc, Char('n')], On::These(&[Place::AskCancel]), Action::Back, "continue", "let the job continue"),
    on(&[Enter, Char('n')], On::These(&[Place::AskReplace]), Action::Rename, "new name", "save under the new name"),
    on(&[Char('r')], On::These(&[Place::AskReplace]), Action::Yes, "replace", "replace the file"),
    on(&[Esc], On::These(&[Place::AskReplace]), Action::Back, "cancel", "do not run"),
    // All screens.
    all(&[Char('r')], Action::Run, "run", "run: extract features, train, save and verify"),
    all(&[Char('s')], Action::Settings, "settings", "settings for the next run"),
    all(&[Char('p'), Char(' ')], Action::Pause, "pause", "pause or resume the job"),
    all(&[Char('x')], Action::Cancel, "stop", "stop the job; finished work is kept"),
    all(&[Char('f')], Action::Follow, "", "follow the job: switch screens with it, or not"),
    all(&[Char('o')], Action::Go(Screen::Start), "open", "choose a dataset and a backbone"),
    all(&[Char('1')], Action::Go(Screen::Data), "", "Data: classes, splits, images, warnings"),
    all(&[Char('2')], Action::Go(Screen::Extract), "", "Extract: features of all images, speed, skipped files"),
    all(&[Char('3')], Action::Go(Screen::Train), "", "Train: learning curves and confusion matrix"),
    all(&[Char('4')], Action::Go(Screen::Predict), "", "Predict: predictions image by image, worst first"),
    all(&[Char('5')], Action::Go(Screen::Verify), "", "Verify: check that the saved model predicts the same"),
    all(&[Char('6')], Action::Go(Screen::Model), "", "Model: layers of the backbone, feature layer"),
    all(&[Char('7')], Action::Go(Screen::Runs), "", "Runs: compare the runs of this session"),
    all(&[Char('8')], Action::Go(Screen::Log), "", "Log: all messages"),
    all(&[Tab], Action::NextScreen, "", "next screen"),
    all(&[BackTab], Action::PreviousScreen, "", "previous screen"),
    all(&[Char('?'), KeyCode::F(1)], Action::Help, "help", "show all keys"),
    all(&[Char('q')], Action::Quit, "quit", "quit; asks first if a job is running"),
    Binding {
        keys: &[Char('c')],
        control: true,
        on: On::These(&[
            START, DATA, EXTRACT, TRAIN, PREDICT, VERIFY, MODEL, RUNS, LOG, Place::Help, Place::Settings,
            Place::Typing, Place::AskCancel, Place::AskReplace,
        ]),
        action: Action::Quit,
        help: "quit; asks first if a job is running",
        hint: "",
    },
    Binding {
        keys: &[Char('c')],
        control: true,
        on: On::These(&[Place::AskQuit]),
        action: Action::Yes,
        help: "stop the job and quit",
        hint: "",
    },
];
