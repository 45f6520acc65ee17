//! What people look at afterwards: tables and pictures. Pure text, but for `plot`.

mod metrics;
pub mod plot;
mod printable;
mod summary;
mod table;

pub use metrics::{confusion_table, metrics_table, scores_table};
pub use printable::{duration, printable};
pub(crate) use summary::grouped;
pub use summary::{Columns, summary_table};
pub(crate) use table::{finish, plain};
