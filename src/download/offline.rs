//! Stand-in for a build without network access: every address is an error.

use super::{Part, Source, fail};
use crate::error::Result;
use crate::progress::Progress;

/// Says that there is no network.
pub(super) fn transfer(url: &str, _part: &mut Part, _progress: &Progress) -> Result<()> {
    Err(fail(
        &Source::Url(url.to_owned()),
        "this program was built without network support; use --from with a folder that has the file",
    ))
}
