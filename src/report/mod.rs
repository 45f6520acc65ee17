//! Results as tables and images. Pure text, except for `plot` and `sheet`.

mod bench;
mod metrics;
mod phrases;
#[cfg_attr(not(feature = "plot"), path = "no_plot.rs")]
pub mod plot;
mod quantize;
mod sheet;
mod summary;
mod table;
mod text;
mod timestamp;

pub(crate) use crate::counts::grouped;
pub use crate::error::printable;
pub use bench::{BenchHeat, BenchLayer, BenchRate, BenchReport, bench_text};
pub use metrics::{confusion_table, metrics_table, scores_table};
pub use phrases::{difference, duration, recipe_line};
pub use quantize::{QuantizeSummary, quantize_text};
pub use sheet::save_sheet;
pub use summary::{Columns, summary_table};
pub(crate) use table::Table;
pub use text::Text;
pub use timestamp::timestamp;
