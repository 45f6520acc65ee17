//! Jobs: one configuration in, one report out.
//!
//! Each combines the modules above and reports to a [`Progress`](crate::progress::Progress). Both programs start their
//! work only here.

pub mod augment_preview;

pub mod bench;

pub mod best;

pub mod budget;

pub mod classify;

pub mod evaluate;

pub mod export;

pub mod extract;

pub mod finetune;

pub mod fit;

mod hub;

pub mod install;

pub mod labeller;

pub mod layers;

pub mod models;

pub mod overview;

pub mod predict;

pub mod probe;

pub mod quantize;

pub mod recipe;

pub mod summary;

pub mod train;

pub mod verify;

pub mod views;

#[cfg(target_os = "linux")]
pub mod watch;

#[cfg(target_os = "linux")]
mod live_model;

#[cfg(target_os = "linux")]
mod trigger;

#[cfg(target_os = "linux")]
mod drop_oldest_queue;

mod copies;

mod runner;

mod heat;

mod record;

mod save;

mod uses;

pub use augment_preview::{AugmentPreviewConfig, Previewer, ViewSettings, augment_preview};
pub use bench::{BenchConfig, bench};
pub use best::{BestReport, Tried, best};
pub use budget::Budget;
pub use classify::{ClassifyConfig, classify};
pub use evaluate::{EvaluateConfig, Evaluation, evaluate};
pub use export::{ExportConfig, export_head};
pub use extract::{ExtractConfig, extract};
pub use finetune::{FinetuneConfig, FinetuneReport, finetune};
pub use fit::{FitConfig, fit};
pub use install::{InstallConfig, InstallReport, install};
pub use labeller::{Labeller, Labels};
pub use layers::{BaseLayers, layers};
#[cfg(target_os = "linux")]
pub use live_model::ModelNews;
pub use models::{
    AddConfig, FetchConfig, Fetched, ModelFacts, ModelOrder, add_model, fetch_model, list_models,
    show_model,
};
pub use overview::{DatasetImage, Finding, Overview, audit, overview};
pub use predict::{PictureResult, PredictConfig, predict};
pub use probe::{LayerScore, ProbeConfig, ProbeReport, probe_layers};
pub use quantize::{Comparison, QuantizeConfig, QuantizeReport, quantize};
pub use recipe::Recipe;
pub use record::{EVENTS_FILE, EventTail};
pub use runner::{JobInfo, JobKind, run_job};
pub use summary::{SummaryConfig, summary};
pub use train::{TrainConfig, TrainReport, train};
#[cfg(target_os = "linux")]
pub use trigger::Trigger;
pub use verify::{VerifyConfig, verify};
pub use views::{AugmentParams, USUAL_VIEWS, Views};
#[cfg(target_os = "linux")]
pub use watch::{WatchConfig, WatchLine, WatchRecord, WatchReport, watch};
