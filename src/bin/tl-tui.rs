//! Transfer learning on folders of images, as a dashboard. All is in [`tl::tui`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tl::tui::main())
}
