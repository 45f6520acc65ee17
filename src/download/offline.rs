//! Stand-in for a build without network access: every address is an error.

use super::{Part, Source, Token, fail};
use crate::error::Result;
use crate::progress::Progress;

/// Says that there is no network.
pub(super) fn transfer(source: &Source, _part: &mut Part, _progress: &Progress) -> Result<()> {
    Err(fail(
        source,
        "this program was built without network support; use --from with a folder that has the file",
    ))
}

/// An answer, which never comes.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Method {
    Get,
    Head,
}

/// Says that there is no network.
pub(super) fn ask(
    _method: Method,
    url: &str,
    _token: Option<&Token>,
    _progress: &Progress,
) -> Result<Answer> {
    Err(fail(
        &Source::Url(url.to_owned()),
        "this program was built without network support; use --from with a folder that has the files",
    ))
}
