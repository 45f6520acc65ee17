//! `tl-tui`: transfer learning on folders of images, in a dashboard. See [`tl::tui`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tl::tui::main())
}
