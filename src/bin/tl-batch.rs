//! `tl-batch`: transfer learning on folders of images, from the command line. See [`tl::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tl::cli::main())
}
