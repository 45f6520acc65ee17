//! Sequences of events and their effects.

use ratatui::crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};

use super::*;
use crate::backbone::Weights;
use crate::job::VerifyConfig;
use crate::progress::Event as JobEvent;
use crate::tui::event::{Event, Folder, FolderEntry, Target};
use crate::tui::tests::{Player, backbones};
use crate::tui::theme::{Background, Depth, Font};

const FIT: &str = include_str!("../../../tests/events/fit.jsonl");

const THEME: Theme = Theme {
    depth: Depth::Many,
    background: Background::Dark,
    font: Font::Full,
};

fn extracting() -> Player {
    let mut player = Player::opened(THEME);
    player.play_until(FIT, |event| {
        matches!(event, JobEvent::ImageDone { done: 9, .. })
    });
    player
}

fn finished() -> Player {
    let mut player = Player::opened(THEME);
    player.play(FIT);
    player
}

fn job(player: &mut Player, event: JobEvent) -> Vec<Command> {
    update(&mut player.state, Event::Job(event))
}

fn fit_of(commands: &[Command]) -> &FitConfig {
    match commands {
        [Command::Fit(config)] => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn quitting_asks_only_while_a_job_is_running_and_waits_for_it() {
    assert_eq!(finished().press('q'), [Command::Quit]);
    let mut player = extracting();
    assert_eq!(player.press('q'), []);
    assert_eq!(player.state.overlay, Overlay::AskQuit);
    assert_eq!(player.key(KeyCode::Esc), []);
    assert_eq!(player.state.overlay, Overlay::Nothing);
    player.press('q');
    assert_eq!(player.press('y'), [Command::Cancel]);
    let stopped = JobEvent::Cancelled {
        resume: String::new(),
    };
    assert_eq!(job(&mut player, stopped), [Command::Quit]);
}

#[test]
fn a_signal_stops_the_job_and_quits_without_a_question() {
    let mut player = extracting();
    assert_eq!(update(&mut player.state, Event::Stop), [Command::Cancel]);
    let failed = JobEvent::Failed {
        message: "full disk".into(),
        exit_code: 1,
    };
    assert_eq!(job(&mut player, failed), [Command::Quit]);
    let mut player = finished();
    assert_eq!(update(&mut player.state, Event::Stop), [Command::Quit]);
}

#[test]
fn a_job_is_paused_resumed_and_stopped() {
    let mut player = extracting();
    assert_eq!(player.press('p'), [Command::Pause(true)]);
    assert_eq!(player.press('p'), [Command::Pause(false)]);
    assert_eq!(player.press('x'), []);
    assert_eq!(player.press('y'), [Command::Cancel]);
    assert!(player.state.stopping);
    job(
        &mut player,
        JobEvent::Cancelled {
            resume: "again".into(),
        },
    );
    assert!(!player.state.stopping && player.state.running().is_none());
    assert_eq!(player.press('p'), [], "there is nothing to pause");
    assert!(player.state.notice.is_some());
}

#[test]
fn a_second_job_is_not_started_beside_the_first() {
    let mut player = extracting();
    assert_eq!(player.press('r'), []);
    assert!(
        player
            .state
            .notice
            .as_ref()
            .unwrap()
            .contains("a job is running")
    );
    player.press('5');
    assert_eq!(player.press('v'), []);
}

#[test]
fn an_existing_output_is_renamed_or_replaced_as_the_user_says() {
    let mut player = finished();
    let commands = player.press('r');
    assert!(!fit_of(&commands).force);
    player.tell(Answer::OutputExists("photos-2.onnx".into()));
    let commands = player.press('n');
    let config = fit_of(&commands);
    assert_eq!(config.output, PathBuf::from("photos-2.onnx"));
    assert_eq!(
        config.store(),
        PathBuf::from("photos.features"),
        "features are not computed twice"
    );
    player.tell(Answer::OutputExists("photos-3.onnx".into()));
    let commands = player.press('r');
    assert!(fit_of(&commands).force);
    assert!(!player.state.config.force, "the next run asks again");
}

#[test]
fn the_screen_follows_the_job_until_the_user_switches_screens() {
    let player = extracting();
    assert_eq!(player.state.screen, Screen::Extract);
    let mut player = finished();
    assert_eq!(player.state.screen, Screen::Verify);
    player.press('7');
    player.play(FIT);
    assert_eq!(player.state.screen, Screen::Runs);
    assert_eq!(player.state.runs.all.len(), 2);
    player.press('f');
    player.play(FIT);
    assert_eq!(player.state.screen, Screen::Verify);
}

#[test]
fn the_images_of_a_cell_are_opened() {
    let mut player = finished();
    player.press('3');
    assert_eq!(player.state.train.cell, (0, 1), "the worst mistake");
    let commands = player.key(KeyCode::Enter);
    assert_eq!(player.state.screen, Screen::Predict);
    assert_eq!(player.state.predict.len(), 1);
    let path = player.state.selected_picture().unwrap();
    let model = Some(PathBuf::from("photos.onnx"));
    assert_eq!(commands, [Command::Label(model, path)]);
    player.press('3');
    player.key(KeyCode::Down);
    player.key(KeyCode::Left);
    player.key(KeyCode::Enter);
    assert_eq!(player.state.screen, Screen::Train, "an empty cell has none");
    assert!(player.state.notice.is_some());
}

#[test]
fn a_feature_layer_is_used_by_the_next_run_with_its_own_store() {
    let mut player = finished();
    // The recorded run names its own dataset.
    player.state.config = player.state.runs.all[0].config.clone().unwrap();
    player.press('6');
    player.key(KeyCode::Up);
    let commands = player.key(KeyCode::Enter);
    let cut = player.state.config.backbone.cut.clone();
    assert_eq!(cut, Some("top_pool".into()));
    assert!(matches!(&commands[..], [Command::Layers(params)] if params.cut == cut));
    assert_eq!(
        player.state.config.store(),
        PathBuf::from("photos-2.features")
    );
    let commands = player.press('r');
    assert_eq!(fit_of(&commands).backbone.cut, cut);
}

#[test]
fn a_run_can_be_repeated_with_its_settings() {
    let mut player = finished();
    player.press('7');
    player.key(KeyCode::Enter);
    assert_eq!(player.state.config.head.early_stopping, 4);
}

#[test]
fn settings_are_changed_in_place() {
    let mut player = finished();
    player.press('s');
    let place = match &player.state.overlay {
        Overlay::Settings(form) => form
            .fields
            .iter()
            .position(|f| f.setting.name == "epochs")
            .unwrap(),
        other => panic!("{other:?}"),
    };
    for _ in 0..place {
        player.key(KeyCode::Down);
    }
    player.key(KeyCode::Enter);
    for _ in 0..3 {
        player.key(KeyCode::Backspace);
    }
    player.press('q');
    player.key(KeyCode::Enter);
    assert_eq!(player.state.config.head.epochs, 100, "q is not a number");
    player.key(KeyCode::Enter);
    for _ in 0..3 {
        player.key(KeyCode::Backspace);
    }
    player.press('7');
    player.key(KeyCode::Enter);
    assert_eq!(player.state.config.head.epochs, 7);
    let commands = player.press('r');
    assert_eq!(fit_of(&commands).head.epochs, 7);
}

#[test]
fn a_dataset_and_a_backbone_are_chosen_on_the_start_screen() {
    let mut player = Player::new(THEME);
    assert_eq!(player.state.screen, Screen::Start);
    assert_eq!(player.press('r'), []);
    let entry = |name: &str, classes| FolderEntry {
        name: name.into(),
        classes,
        pictures: 10,
    };
    player.tell(Answer::Folder(Folder {
        path: "/home".into(),
        entries: vec![entry("a", 0), entry("b", 3)],
        problem: None,
    }));
    let mut backbones = backbones();
    player.tell(Answer::Backbones(backbones.clone()));
    player.key(KeyCode::Up);
    assert_eq!(
        player.key(KeyCode::Enter),
        [Command::ListFolder("/home/a".into())]
    );
    assert_eq!(player.key(KeyCode::Left), [Command::ListFolder("/".into())]);
    player.key(KeyCode::Tab);
    player.key(KeyCode::Down);
    assert_eq!(backbones[1].weights, Weights::Missing);
    assert_eq!(player.key(KeyCode::Enter), [], "its weights are not here");
    backbones[1].weights = Weights::File("/models/vgg16.onnx".into());
    player.tell(Answer::Backbones(backbones));
    player.key(KeyCode::Down);
    let commands = player.key(KeyCode::Enter);
    assert!(matches!(&commands[..], [Command::Layers(params)] if params.model == "vgg16"));
    player.key(KeyCode::Down);
    let commands = player.key(KeyCode::Enter);
    assert!(
        matches!(&commands[..], [Command::Overview(config)] if config.dataset.ends_with("b")),
        "{commands:?}"
    );
    assert_eq!(player.state.screen, Screen::Data);
    assert_eq!(player.state.config.output, PathBuf::from("b.onnx"));
}

#[test]
fn a_path_is_typed_or_pasted() {
    let mut player = finished();
    player.press('4');
    player.press('/');
    for c in "a q.jpg".chars() {
        assert_eq!(player.press(c), [], "letters are text here");
    }
    let commands = player.key(KeyCode::Enter);
    let model = Some(PathBuf::from("photos.onnx"));
    assert_eq!(commands, [Command::Label(model.clone(), "a q.jpg".into())]);
    player.press('8');
    let commands = update(&mut player.state, Event::Paste("'/tmp/x.png'\n".into()));
    assert_eq!(commands, [Command::Label(model, "/tmp/x.png".into())]);
    assert_eq!(player.state.screen, Screen::Predict);
}

#[test]
fn the_saved_model_is_verified_again() {
    let mut player = finished();
    let commands = player.press('v');
    let wanted = VerifyConfig {
        model: "photos.onnx".into(),
        dataset: None,
    };
    assert_eq!(commands, [Command::Verify(wanted)]);
}

#[test]
fn an_attached_run_is_read_only() {
    let mut player = Player {
        state: State::new(THEME, FitConfig::default(), Some("photos.features".into())),
        ..Player::new(THEME)
    };
    assert_eq!(player.state.begin("/".into()).len(), 2);
    player.play_until(FIT, |event| {
        matches!(event, JobEvent::ImageDone { done: 9, .. })
    });
    assert_eq!(player.state.config.dataset, PathBuf::from("photos"));
    assert_eq!(
        player.state.extract.rate(player.state.now),
        None,
        "nobody knows how fast the past was"
    );
    player.tell(Answer::CaughtUp);
    for key in ['r', 'p', 'x', 's'] {
        assert_eq!(player.press(key), [], "{key}");
        assert!(player.state.notice.is_some(), "{key}");
    }
    assert_eq!(player.press('q'), [Command::Quit], "quitting stops nothing");
}

#[test]
fn a_click_on_a_tab_shows_its_screen() {
    let mut player = finished();
    player.screen(80, 24);
    let (place, _) = player
        .state
        .seen
        .targets
        .iter()
        .find(|(_, target)| *target == Target::Tab(Screen::Model))
        .copied()
        .unwrap();
    let click = MouseEvent {
        kind: MouseEventKind::Down(MouseButton::Left),
        column: place.x + 1,
        row: place.y,
        modifiers: ratatui::crossterm::event::KeyModifiers::NONE,
    };
    update(&mut player.state, Event::Mouse(click));
    assert_eq!(player.state.screen, Screen::Model);
}

#[test]
fn nothing_is_drawn_where_nothing_changes() {
    let mut player = finished();
    player.state.take_changed();
    update(&mut player.state, Event::Tick(Duration::from_secs(1000)));
    assert!(!player.state.take_changed());
    let mut player = extracting();
    player.state.take_changed();
    update(&mut player.state, Event::Tick(Duration::from_secs(1000)));
    assert!(player.state.take_changed(), "the time that is left changes");
}
