//! What people look at afterwards: tables and pictures. Pure text, but for `plot` and `sheet`.

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

pub use crate::error::printable;
pub use bench::{BenchHeat, BenchLayer, BenchRate, BenchReport, bench_text};
pub use metrics::{confusion_table, metrics_table, scores_table};
pub use phrases::{difference, duration, pictures_in, recipe_line};
pub use quantize::{QuantizeSummary, quantize_text};
pub use sheet::save_sheet;
pub(crate) use summary::grouped;
pub use summary::{Columns, summary_table};
pub(crate) use table::Table;
pub use text::Text;
pub use timestamp::timestamp;
