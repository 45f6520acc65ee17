//! Downloads files by HTTP(S) or copies them from a folder: resumable, verified, atomic. The only module that uses the
//! network.
//!
//! ```text
//! url or file ─► <name>.part (grows, survives a stop) ─► size and SHA-256 right? ─► <name>
//! ```

#[cfg_attr(not(feature = "download"), path = "download/offline.rs")]
mod http;
mod hub;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::disk::{DataFile, create_folder, open_to_read, parent, remove_file, rename_synced};
use crate::error::{Error, PathRole, Result};
use crate::progress::{Event, Phase, Progress};

pub use hub::{Hub, HubFile, HubListing};

/// Minimum time between two events about the bytes that came.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// Expected size and SHA-256 of a file.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
    /// Size in bytes.
    pub bytes: u64,
    /// Who says so, for error messages: `the card`.
    pub said_by: &'a str,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An `http://` or `https://` address. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    Url(String),
    /// Such an address, for those who know a secret.
    Private(String, Token),
    /// A file on this machine, such as on a memory stick.
    File(PathBuf),
}

/// A secret that goes to one server only and into no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Source {
    /// The place of the file `name` in `base`: below an address, or in a folder.
    pub fn within(base: &str, name: &str) -> Source {
        match base.starts_with("http://") || base.starts_with("https://") {
            true => {
                let name = percent_encoded(name);
                Source::Url(format!("{}/{name}", base.trim_end_matches('/')))
            }
            false => Source::File(Path::new(base).join(name)),
        }
    }
}

/// A file's name as a part of an address (RFC 3986, 2.1).
fn percent_encoded(name: &str) -> String {
    name.bytes()
        .map(
            |b| match b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                true => char::from(b).to_string(),
                false => format!("%{b:02X}"),
            },
        )
        .collect()
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Url(url) | Source::Private(url, _) => f.write_str(url),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Fetches the file of `source` to `to`, which gets its name only when size and SHA-256 match.
///
/// The part received before a stop or a broken connection is kept in `<to>.part` and not fetched again.
/// Emits [`Phase::Download`] and [`Event::BytesDone`].
///
/// # Errors
/// [`Error::Download`] if the server cannot be reached, refuses, or sends something else;
/// [`Error::InUse`]; [`Error::NotFound`] for a missing local file; [`Error::Io`]; [`Error::Cancelled`].
pub fn download(source: &Source, wanted: Wanted, to: &Path, progress: &Progress) -> Result<()> {
    let mut part = Part::open(to, wanted)?;
    progress.phase(Phase::Download, Some(wanted.bytes));
    if part.length > 0 {
        part.tell(progress, true);
    }
    match source {
        Source::File(path) => copy(path, &mut part, progress)?,
        Source::Url(_) | Source::Private(..) => {
            let resumed = part.length > 0;
            http::transfer(source, &mut part, progress)?;
            // The partial file may belong to another file: then restart from the beginning.
            if resumed && !part.is_right(progress)? {
                progress.warn("the partial download does not match; restarting");
                part.truncate(0)?;
                http::transfer(source, &mut part, progress)?;
            }
        }
    }
    part.finish(source, to, progress)
}

/// The partial file.
struct Part<'a> {
    file: DataFile,
    length: u64,
    wanted: Wanted<'a>,
    told: Instant,
}

impl<'a> Part<'a> {
    fn open(to: &Path, wanted: Wanted<'a>) -> Result<Part<'a>> {
        create_folder(parent(to))?;
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = DataFile::open(path)?;
        if !file.try_lock()? {
            return Err(Error::InUse {
                path: file.path().to_owned(),
            });
        }
        let length = file.len()?;
        let mut part = Part {
            file,
            length,
            wanted,
            told: Instant::now(),
        };
        if length > wanted.bytes {
            part.truncate(0)?;
        }
        Ok(part)
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        self.length = length;
        self.file.set_len(length)
    }

    fn append(&mut self, bytes: &[u8], progress: &Progress) -> Result<()> {
        self.file.write_at(self.length, bytes)?;
        self.length += bytes.len() as u64;
        let whole = self.length >= self.wanted.bytes;
        self.tell(progress, whole);
        Ok(())
    }

    fn tell(&mut self, progress: &Progress, at_once: bool) {
        if at_once || self.told.elapsed() >= EVENT_INTERVAL {
            self.told = Instant::now();
            progress.emit(Event::BytesDone {
                done: self.length,
                total: self.wanted.bytes,
            });
        }
    }

    fn is_right(&mut self, progress: &Progress) -> Result<bool> {
        let found = self.sha256(progress)?;
        Ok(self.length == self.wanted.bytes && found == self.wanted.sha256)
    }

    fn sha256(&mut self, progress: &Progress) -> Result<String> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.length {
            progress.checkpoint()?;
            let left = self.length - offset;
            let piece = match usize::try_from(left) {
                Ok(left) if left < piece.len() => &mut piece[..left],
                _ => &mut piece[..],
            };
            self.file.read_at(offset, piece)?;
            hash.update(&*piece);
            offset += piece.len() as u64;
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Gives the file its name if it matches, and removes it if not.
    fn finish(mut self, source: &Source, to: &Path, progress: &Progress) -> Result<()> {
        let found = self.sha256(progress)?;
        if self.length != self.wanted.bytes || found != self.wanted.sha256 {
            remove_file(self.file.path())?;
            return Err(fail(
                source,
                format!(
                    "the file ({} bytes, SHA-256 {found}) is not the one that {} describes ({} bytes, {})",
                    self.length, self.wanted.said_by, self.wanted.bytes, self.wanted.sha256
                ),
            ));
        }
        self.file.sync()?;
        rename_synced(self.file.path(), to)
    }
}

fn fail(source: &Source, problem: impl Into<String>) -> Error {
    Error::Download {
        from: source.to_string(),
        problem: problem.into(),
    }
}

fn copy(path: &Path, part: &mut Part, progress: &Progress) -> Result<()> {
    if !path.exists() {
        return Err(Error::NotFound {
            what: PathRole::ModelFile,
            path: path.to_owned(),
        });
    }
    part.truncate(0)?;
    let (mut file, _) = open_to_read(path).map_err(Error::io("read", path))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        progress.checkpoint()?;
        let count = file.read(&mut piece).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(());
        }
        part.append(&piece[..count], progress)?;
        if part.length > part.wanted.bytes {
            return Ok(());
        }
    }
}
