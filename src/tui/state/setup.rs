//! How choices on the screens change the settings for the next run. Pure.

use std::path::{Path, PathBuf};

use super::start::Side;
use super::{Screen, State};
use crate::backbone::{KnownModel, Weights};
use crate::dataset::Layout;
use crate::job::FitConfig;

impl State {
    pub(super) fn take_dataset(&mut self, path: PathBuf) {
        if self.is_busy() {
            return;
        }
        // An output named after the previous dataset is renamed after the new one.
        let made = default_output(&self.config.dataset);
        if self.config.output == made || self.config.output.as_os_str().is_empty() {
            self.config.output = default_output(&path);
            self.config.features = None;
        }
        self.config.dataset = path;
        self.config.labels = None;
        self.config.layout = Layout::default();
        self.open_dataset();
        self.go(Screen::Data);
    }

    pub(super) fn take_backbone(&mut self, model: String) {
        if self.is_busy() {
            return;
        }
        let is_missing = |backbone: &&KnownModel| {
            backbone.card.name == model && backbone.weights == Weights::Missing
        };
        if let Some(backbone) = self.start.backbones.iter().find(is_missing) {
            let name = &backbone.card.name;
            self.notify(match backbone.card.urls.is_empty() {
                false => {
                    format!("{name} is not on this machine; run `tl-batch models fetch {name}`")
                }
                true => format!("{name} is not on this machine; see `tl-batch models show {name}`"),
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

    /// Uses the selected layer as the feature layer from the next run on.
    pub(super) fn set_feature_layer(&mut self) {
        if self.is_busy() {
            return;
        }
        match self.model.selected_feature_layer() {
            Some(cut) => {
                let mut config = self.config.clone();
                config.backbone.cut = Some(cut.into());
                self.take_config(config);
                self.notify("feature layer set for the next run");
            }
            None => self.notify(
                "cannot use this layer: its output is not a vector, tokens or feature maps",
            ),
        }
    }

    /// Uses these settings for the next run.
    pub(super) fn take_config(&mut self, mut config: FitConfig) {
        if config.backbone != self.config.backbone && config.features == self.config.features {
            config.features = self.store_for(&config);
        }
        let dataset_changed = (
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
        let backbone_changed = config.backbone != self.config.backbone;
        self.config = config;
        if dataset_changed {
            self.open_dataset();
        }
        if backbone_changed {
            self.list_layers();
        }
    }

    /// A feature store that fits a changed backbone: features of different backbones, feature layers or input sizes
    /// cannot share one. None for the default store.
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
                self.notify("the next run will use these settings");
            }
            None => self.notify("only the settings of a fit can be reused"),
        }
    }
}

/// Default output: named after the dataset, in the current folder.
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
