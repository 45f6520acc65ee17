//! Snapshots of whole screens, drawn from recorded events of real runs.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;

use super::event::{Answer, Command, Event, Folder, FolderEntry, PictureKey, PictureSource};
use super::state::{Screen, State, update};
use super::theme::{Background, Depth, Font, Theme};
use super::view::view;
use crate::backbone::{BackboneParams, KnownModel, Weights, known_models};
use crate::job::{BaseLayers, FitConfig, Labels, Overview, layers, overview};
use crate::progress;

const FIT: &str = include_str!("../../tests/events/fit.jsonl");
const FAILED: &str = include_str!("../../tests/events/failed.jsonl");
const CANCELLED: &str = include_str!("../../tests/events/cancelled.jsonl");

const THEME: Theme = Theme {
    depth: Depth::Many,
    background: Background::Dark,
    font: Font::Full,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn config() -> FitConfig {
    FitConfig {
        dataset: root().join("datasets/tiny"),
        output: "photos.onnx".into(),
        ..FitConfig::default()
    }
}

/// The two backbones with cards in every checkout, whatever else this machine has.
pub(super) fn backbones() -> Vec<KnownModel> {
    let mut backbones = known_models(&mut Vec::new());
    backbones
        .retain(|backbone| ["efficientnet-lite0", "vgg16"].contains(&backbone.card.name.as_str()));
    for backbone in &mut backbones[1..] {
        backbone.weights = Weights::Missing;
    }
    backbones
}

fn tiny() -> Arc<Overview> {
    static TINY: OnceLock<Arc<Overview>> = OnceLock::new();
    TINY.get_or_init(|| Arc::new(overview(&config()).unwrap()))
        .clone()
}

fn backbone() -> Arc<BaseLayers> {
    static BASE: OnceLock<Arc<BaseLayers>> = OnceLock::new();
    BASE.get_or_init(|| Arc::new(layers(&BackboneParams::default()).unwrap()))
        .clone()
}

/// A dashboard that plays a recording.
pub(super) struct Player {
    pub state: State,
    pub now: Duration,
}

impl Player {
    /// Without a dataset.
    pub fn new(theme: Theme) -> Player {
        Player {
            state: State::new(theme, FitConfig::default(), None),
            now: Duration::ZERO,
        }
    }

    /// With a dataset and a backbone.
    pub fn opened(theme: Theme) -> Player {
        let mut player = Player {
            state: State::new(theme, config(), None),
            now: Duration::ZERO,
        };
        player.state.begin(root().to_owned());
        player.tell(Answer::Backbones(backbones()));
        player.tell(Answer::Overview(Ok(tiny())));
        player.tell(Answer::Audited);
        player.tell(Answer::Layers(BackboneParams::default(), Ok(backbone())));
        player
    }

    pub fn tell(&mut self, answer: Answer) -> Vec<Command> {
        update(&mut self.state, Event::Answer(answer))
    }

    pub fn key(&mut self, code: KeyCode) -> Vec<Command> {
        update(
            &mut self.state,
            Event::Key(KeyEvent::new(code, KeyModifiers::NONE)),
        )
    }

    pub fn press(&mut self, c: char) -> Vec<Command> {
        self.key(KeyCode::Char(c))
    }

    /// Plays a recording up to, but without, the first event for which `until` holds.
    pub fn play_until(&mut self, recording: &str, until: impl Fn(&progress::Event) -> bool) {
        for line in recording.lines() {
            let event: progress::Event = serde_json::from_str(line).unwrap();
            if until(&event) {
                return;
            }
            self.now += Duration::from_millis(match event {
                progress::Event::ImageDone { .. } => 90,
                _ => 10,
            });
            update(&mut self.state, Event::Tick(self.now));
            update(&mut self.state, Event::Job(event));
        }
    }

    pub fn play(&mut self, recording: &str) {
        self.play_until(recording, |_| false);
    }

    /// The screen as text, with its images.
    pub fn screen(&mut self, width: u16, height: u16) -> String {
        update(&mut self.state, Event::Resize(width, height));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        loop {
            let mut seen = None;
            terminal
                .draw(|frame| seen = Some(view(&self.state, frame)))
                .unwrap();
            let commands = update(&mut self.state, Event::Drawn(seen.unwrap()));
            let pictures = commands.into_iter().flat_map(|command| match command {
                Command::Pictures(keys) => keys,
                _ => Vec::new(),
            });
            let mut more = false;
            for key in pictures {
                more = true;
                let picture = striped(&key);
                self.tell(Answer::Picture(key, picture));
            }
            if !more {
                return text(terminal.backend());
            }
        }
    }

    /// Answers the query for the predictions of the selected image.
    fn label(&mut self) {
        if let Some(path) = self.state.selected_picture() {
            let prediction = |class, label: &str, probability| crate::backbone::Prediction {
                class,
                label: label.into(),
                probability,
            };
            let labels = Labels {
                width: 256,
                height: 171,
                own: vec![prediction(0, "fish", 0.7)],
                imagenet: vec![
                    prediction(0, "tench, Tinca tinca", 0.451),
                    prediction(1, "goldfish, Carassius auratus", 0.14),
                ],
            };
            self.tell(Answer::Labels(path, Ok(labels)));
        }
    }
}

/// Stripes instead of a photo, whose pixels could differ between processors.
fn striped(key: &PictureKey) -> Option<Protocol> {
    let path = match &key.source {
        PictureSource::File(path) => root().join("datasets/tiny").join(path),
        PictureSource::View(settings, path, _) => settings.root.join(path),
    };
    if !path.exists() {
        return None;
    }
    // The cells of this picker have 10×20 pixels.
    let (width, height) = (u32::from(key.width) * 10, u32::from(key.height) * 20);
    let width = width.min(height * 4 / 3) / 10 * 10;
    let stripes = image::RgbImage::from_fn(width, height, |_, y| {
        image::Rgb([if y / 10 % 2 == 0 { 200 } else { 40 }; 3])
    });
    let size = ratatui::layout::Size::new(key.width, key.height);
    Picker::halfblocks()
        .new_protocol(stripes.into(), size, ratatui_image::Resize::Fit(None))
        .ok()
}

fn text(backend: &TestBackend) -> String {
    let buffer = backend.buffer();
    let lines = buffer.content().chunks(usize::from(buffer.area.width));
    lines
        .map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}

/// A screen in the five states of a run.
fn states_of(screen: Screen, size: (u16, u16)) -> String {
    let running_until = |event: &progress::Event| match screen {
        Screen::Train | Screen::Runs | Screen::Predict => {
            matches!(event, progress::Event::Epoch { stats, .. } if stats.epoch == 5)
        }
        Screen::Verify | Screen::Log => {
            matches!(event, progress::Event::Check(check) if check.name == "probe")
        }
        _ => matches!(event, progress::Event::ImageDone { done: 15, .. }),
    };
    let mut all = String::new();
    for state in ["empty", "running", "finished", "failed", "cancelled"] {
        let mut player = Player::opened(THEME);
        match state {
            "running" => player.play_until(FIT, running_until),
            "finished" => player.play(FIT),
            "failed" => player.play(FAILED),
            "cancelled" => player.play(CANCELLED),
            _ => {}
        }
        player.state.screen = screen;
        player.label();
        all += &format!("=== {state}\n{}", player.screen(size.0, size.1));
    }
    // Only the last part of the dataset's path is shown, so no path of this machine may appear.
    assert!(!all.contains(env!("CARGO_MANIFEST_DIR")));
    all
}

fn check(screen: Screen) {
    for size in [(80, 24), (120, 40)] {
        let name = format!("{}_{}x{}", screen.name(), size.0, size.1);
        insta::assert_snapshot!(name, states_of(screen, size));
    }
}

#[test]
fn the_data_screen() {
    check(Screen::Data);
}

#[test]
fn augmented_views_are_a_sheet() {
    let mut all = String::new();
    for size in [(80, 24), (120, 40)] {
        let mut player = Player::opened(THEME);
        player.press('l');
        player.press('a');
        all += &format!("=== as they would be\n{}", player.screen(size.0, size.1));
        player.state.config.augment.augment = "RandomFlip=horizontal".parse().unwrap();
        player.state.config.augment.views = crate::job::views::Views::Kept(2);
        all += &format!("=== as they are\n{}", player.screen(size.0, size.1));
        player.press('a');
        assert!(!player.screen(size.0, size.1).contains("view 1"));
    }
    insta::assert_snapshot!("Views", all);
}

#[test]
fn the_extract_screen() {
    check(Screen::Extract);
}

#[test]
fn the_train_screen() {
    check(Screen::Train);
}

#[test]
fn the_predict_screen() {
    check(Screen::Predict);
}

#[test]
fn the_verify_screen() {
    check(Screen::Verify);
}

#[test]
fn the_model_screen() {
    check(Screen::Model);
}

#[test]
fn the_runs_screen() {
    check(Screen::Runs);
}

#[test]
fn the_log_screen() {
    check(Screen::Log);
}

fn folder() -> Folder {
    let entry = |name: &str, classes, pictures| FolderEntry {
        name: name.into(),
        classes,
        pictures,
    };
    Folder {
        path: "/home/ada/photos".into(),
        entries: vec![
            entry("letters", 0, 0),
            entry("holidays", 0, 1240),
            entry("animals", 12, 3600),
        ],
        problem: None,
    }
}

#[test]
fn the_start_screen() {
    for size in [(80, 24), (120, 40)] {
        let mut player = Player::new(THEME);
        player.tell(Answer::Folder(folder()));
        player.tell(Answer::Backbones(backbones()));
        let name = format!("Start_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, player.screen(size.0, size.1));
    }
}

#[test]
fn overlays() {
    let mut all = String::new();
    let mut player = Player::opened(THEME);
    player.state.config.dataset = "photos".into();
    for key in ['?', 's'] {
        player.press(key);
        all += &format!("=== {key}\n{}", player.screen(80, 24));
        player.key(KeyCode::Esc);
    }
    player.tell(Answer::OutputExists("photos-2.onnx".into()));
    all += &format!("=== replace\n{}", player.screen(80, 24));
    player.key(KeyCode::Esc);
    player.play_until(FIT, |event| matches!(event, progress::Event::Saved { .. }));
    for key in ['x', 'q'] {
        player.press(key);
        all += &format!("=== {key}\n{}", player.screen(80, 24));
        player.key(KeyCode::Esc);
    }
    insta::assert_snapshot!("Overlay_80x24", all);
}

#[test]
fn a_terminal_that_is_too_small_gets_a_message_and_every_size_is_safe() {
    let mut player = Player::opened(THEME);
    player.play(FIT);
    assert!(player.screen(59, 20).contains("too small: 59×20"));
    for screen in Screen::NUMBERED.into_iter().chain([Screen::Start]) {
        player.state.screen = screen;
        for size in [(1, 1), (60, 20), (61, 50), (200, 20), (200, 60), (400, 100)] {
            let drawn = player.screen(size.0, size.1);
            assert_eq!(drawn.lines().count(), usize::from(size.1));
        }
        for key in ['?', 's'] {
            player.press(key);
            player.screen(60, 20);
            player.key(KeyCode::Esc);
        }
    }
}

/// Class names and paths can be anything; a wrong width must not crash the program.
#[test]
fn names_that_are_hard_to_measure_are_drawn_at_every_size() {
    let hard = [
        "♻\u{fe0f} recycling",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦🇩🇪🇫 1\u{fe0f}\u{20e3}",
        "写真ｶﾞ한국어 e\u{301}\u{302} लम्बा क्षि",
        "\u{202e}שלום لا إله\u{200b}",
        "a\tb\nc\u{7}\u{0}",
        "",
    ];
    for name in hard {
        let json = serde_json::to_string(name).unwrap();
        let recording = FIT.replace("fish", json.trim_matches('"'));
        let mut player = Player::opened(THEME);
        let mut overview = Overview::clone(&tiny());
        overview.classes[0] = name.to_owned();
        overview.warnings.push(name.repeat(9));
        overview.pictures[0].path = name.into();
        player.tell(Answer::Overview(Ok(Arc::new(overview))));
        player.play(&recording);
        player.label();
        for screen in Screen::NUMBERED.into_iter().chain([Screen::Start]) {
            player.state.screen = screen;
            for size in [
                (1, 1),
                (2, 3),
                (60, 20),
                (61, 21),
                (77, 24),
                (99, 29),
                (160, 45),
            ] {
                let drawn = player.screen(size.0, size.1);
                assert_eq!(
                    drawn.lines().count(),
                    usize::from(size.1),
                    "{screen:?} {name:?}"
                );
            }
        }
    }
}

/// The theme without colours draws no colours, and the same words as the theme with colours.
#[test]
fn without_colours_the_screens_say_the_same() {
    let plain = Theme {
        depth: Depth::None,
        ..THEME
    };
    for screen in Screen::NUMBERED {
        let drawn = [THEME, plain].map(|theme| {
            let mut player = Player::opened(theme);
            player.state.pictures = false;
            player.play(FIT);
            player.state.screen = screen;
            let mut terminal = Terminal::new(TestBackend::new(100, 35)).unwrap();
            update(&mut player.state, Event::Resize(100, 35));
            terminal
                .draw(|frame| drop(view(&player.state, frame)))
                .unwrap();
            terminal.backend().buffer().clone()
        });
        let coloured = |cell: &&ratatui::buffer::Cell| {
            use ratatui::style::Color::Reset;
            cell.fg != Reset || cell.bg != Reset
        };
        assert_eq!(drawn[1].content().iter().find(coloured), None, "{screen:?}");
        let words = |buffer: &ratatui::buffer::Buffer| -> String {
            let letters = buffer.content().iter().map(|cell| cell.symbol());
            letters.filter(|s| !"░▒▓█ ".contains(s)).collect()
        };
        assert_eq!(words(&drawn[0]), words(&drawn[1]), "{screen:?}");
    }
}

#[test]
fn a_console_font_gets_characters_that_it_has() {
    let console = Theme {
        font: Font::Console,
        depth: Depth::Sixteen,
        ..THEME
    };
    for screen in Screen::NUMBERED {
        let mut player = Player::opened(console);
        player.state.pictures = false;
        player.play(FIT);
        player.state.screen = screen;
        let drawn = player.screen(100, 35);
        // Code page 437 and Latin-1 are in every console font.
        let odd = drawn.chars().find(|c| {
            !(c.is_ascii()
                || "─│┌┐└┘█▄▀░▒▓■·×…–→↑↓←↔".contains(*c)
                || ('\u{a0}'..'\u{100}').contains(c))
        });
        assert_eq!(odd, None, "{screen:?}\n{drawn}");
    }
}
