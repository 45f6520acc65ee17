//! Transfer learning on folders of images, headless. All is in [`tl::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tl::cli::main())
}
