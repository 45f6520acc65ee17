//! The settings of the next run: how the choices of the screens change them. Pure.

use std::path::{Path, PathBuf};

use super::start::Side;
use super::{Screen, State};
use crate::backbone::{KnownModel, Weights};
use crate::dataset::Layout;
use crate::job::FitConfig;

impl State {
    pub(super) fn take_data_set(&mut self, path: PathBuf) {
        if self.is_busy() {
            return;
        }
        // A name that was made from the last data set follows the new one.
        let made = default_output(&self.config.dataset);
        if self.config.output == made || self.config.output.as_os_str().is_empty() {
            self.config.output = default_output(&path);
            self.config.features = None;
        }
        self.config.dataset = path;
        self.config.labels = None;
        self.config.layout = Layout::default();
        self.open_data_set();
        self.go(Screen::Data);
    }

    pub(super) fn take_base(&mut self, model: String) {
        if self.is_busy() {
            return;
        }
        let is_missing =
            |base: &&KnownModel| base.card.name == model && base.weights == Weights::Missing;
        if let Some(base) = self.start.bases.iter().find(is_missing) {
            let name = &base.card.name;
            self.notify(match base.card.urls.is_empty() {
                false => format!("{name} is not on this machine; get it with `tl-batch models fetch {name}`"),
                true => format!("{name} is not on this machine; `tl-batch models show {name}` says how to make it"),
            });
            return;
        }
        let mut config = self.config.clone();
        config.backbone.model = model;
        config.backbone.cut = None;
        config.backbone.pool = None;
        config.backbone.input_size = None;
        self.take_config(config);
        let next = if self.config.dataset.as_os_str().is_empty() {
            self.start.side = Side::Folders;
            Screen::Start
        } else {
            Screen::Model
        };
        self.go(next);
    }

    /// Cuts the base at the selected layer from the next run on.
    pub(super) fn cut(&mut self) {
        if self.is_busy() {
            return;
        }
        match self.model.selected_cut() {
            Some(cut) => {
                let mut config = self.config.clone();
                config.backbone.cut = Some(cut.into());
                self.take_config(config);
                self.notify("the next run cuts the base here");
            }
            None => self.notify("the base cannot be cut here: the output is no vector and no maps"),
        }
    }

    /// Takes settings for the next run.
    pub(super) fn take_config(&mut self, mut config: FitConfig) {
        if config.backbone != self.config.backbone && config.features == self.config.features {
            config.features = self.store_for(&config);
        }
        let data_set_changed = (
            &config.dataset,
            &config.labels,
            config.layout,
            &config.split,
            config.head.seed,
        ) != (
            &self.config.dataset,
            &self.config.labels,
            self.config.layout,
            &self.config.split,
            self.config.head.seed,
        );
        let base_changed = config.backbone != self.config.backbone;
        self.config = config;
        if data_set_changed {
            self.open_data_set();
        }
        if base_changed {
            self.list_layers();
        }
    }

    /// The feature store for a base that was not used before on this output: features of different bases,
    /// cuts and sizes cannot be in one store. None for the default place.
    fn store_for(&self, config: &FitConfig) -> Option<PathBuf> {
        let used = |config: &FitConfig| (config.backbone.clone(), config.dataset.clone());
        let same = self.runs.all.iter().rev().find_map(|run| {
            let before = run.config.as_ref()?;
            (used(before) == used(config)).then(|| before.store())
        });
        if same.is_some() {
            return same;
        }
        let default = FitConfig {
            features: None,
            ..config.clone()
        }
        .store();
        let taken = |store: &Path| {
            let mut configs = self.runs.all.iter().filter_map(|run| run.config.as_ref());
            configs.any(|before| before.store() == store)
        };
        if !taken(&default) {
            return None;
        }
        let stem = default.with_extension("");
        (2..)
            .map(|n| PathBuf::from(format!("{}-{n}.features", stem.display())))
            .find(|store| !taken(store))
    }

    pub(super) fn take_run(&mut self) {
        if self.is_busy() {
            return;
        }
        let run = self.runs.all.get(self.runs.cursor.at);
        match run.and_then(|run| run.config.clone()) {
            Some(config) => {
                self.take_config(config);
                self.notify("the next run has the settings of this one");
            }
            None => self.notify("this run has no settings of a whole road"),
        }
    }
}

/// The saved model's name where the user gives none: the data set's, in the working folder.
pub fn default_output(dataset: &Path) -> PathBuf {
    match dataset.file_name() {
        Some(name) => {
            let mut name = name.to_owned();
            name.push(".onnx");
            PathBuf::from(name)
        }
        None => PathBuf::new(),
    }
}
