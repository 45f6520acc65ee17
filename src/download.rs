//! Files from elsewhere: by HTTP(S) or from a folder, resumed, checked, whole or not there. The only room
//! that knows the network.
//!
//! ```text
//! url or file ─► <name>.part (grows, survives a stop) ─► size and SHA-256 right? ─► <name>
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use sha2::{Digest, Sha256};

use crate::disk::{DataFile, create_folder, parent, remove_file, rename_synced};
use crate::error::{Error, Result};
use crate::progress::{Event, Phase, Progress};

/// A server that sends nothing for this long counts as gone.
const STALL: Duration = Duration::from_secs(30);

/// Waits before the tries that follow a broken connection; a try that brought bytes starts over with them.
const RETRY_WAITS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
];

/// Bytes read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces that may wait to be written: with [`PIECE_BYTES`], 1 MiB.
const PIECES: usize = 16;

/// Least time between two events about the bytes that came.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// What the file must be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
    /// Size in bytes.
    pub bytes: u64,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An `http://` or `https://` address. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    Url(String),
    /// A file on this machine, such as on a memory stick.
    File(PathBuf),
}

impl Source {
    /// The place of the file `name` in `base`: below an address, or in a folder.
    pub fn within(base: &str, name: &str) -> Source {
        match base.starts_with("http://") || base.starts_with("https://") {
            true => Source::Url(format!("{}/{name}", base.trim_end_matches('/'))),
            false => Source::File(Path::new(base).join(name)),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Url(url) => f.write_str(url),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Brings the file of `source` to `to`, which gets its name only when size and SHA-256 are right.
///
/// What came before a stop or a broken connection lies in `<to>.part` and is not fetched again.
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
        Source::Url(url) => {
            let resumed = part.length > 0;
            transfer(url, &mut part, progress)?;
            // Bytes of an earlier run can be of another file: then once more, from the beginning.
            if resumed && !part.is_right(progress)? {
                progress
                    .warn("what an earlier run left does not fit; fetching it from the beginning");
                part.truncate(0)?;
                transfer(url, &mut part, progress)?;
            }
        }
    }
    part.finish(source, to, progress)
}

/// The file that grows.
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

    /// Gives the file its name if it is right, and removes it if not.
    fn finish(mut self, source: &Source, to: &Path, progress: &Progress) -> Result<()> {
        let found = self.sha256(progress)?;
        if self.length != self.wanted.bytes || found != self.wanted.sha256 {
            remove_file(self.file.path())?;
            return Err(fail(
                source,
                format!(
                    "this is another file ({} bytes, SHA-256 {found}) than the card describes ({} bytes, {})",
                    self.length, self.wanted.bytes, self.wanted.sha256
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
    if !path.is_file() {
        return Err(Error::NotFound {
            what: "model file",
            path: path.to_owned(),
        });
    }
    part.truncate(0)?;
    let mut file = File::open(path).map_err(Error::io("read", path))?;
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

/// Why a try ended before the file was whole.
enum Broken {
    /// The connection; another try may do better.
    Connection(String),
    /// Another try would end the same way.
    ForGood(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::ForGood(error)
    }
}

/// Tries until the file is whole, or until tries in a row bring nothing.
fn transfer(url: &str, part: &mut Part, progress: &Progress) -> Result<()> {
    let source = Source::Url(url.to_owned());
    let mut waits = RETRY_WAITS.iter();
    while part.length < part.wanted.bytes {
        let before = part.length;
        let reason = match attempt(url, part, progress) {
            Ok(()) => continue,
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::Connection(reason)) => reason,
        };
        if part.length > before {
            waits = RETRY_WAITS.iter();
        }
        let Some(&wait) = waits.next() else {
            let problem = match part.length {
                0 => format!(
                    "{reason}; without a network, give --from with a folder that has the file"
                ),
                length => format!(
                    "{reason}; {length} of {} bytes are kept, run the same command again to go on",
                    part.wanted.bytes
                ),
            };
            return Err(fail(&source, problem));
        };
        progress.info(format!("{reason}; trying again"));
        pause(wait, progress)?;
    }
    Ok(())
}

fn pause(wait: Duration, progress: &Progress) -> Result<()> {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        progress.checkpoint()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One request for the bytes that are missing. Returns when the file is whole or the connection ends.
fn attempt(url: &str, part: &mut Part, progress: &Progress) -> std::result::Result<(), Broken> {
    let pieces = request(url, part.length)?;
    let source = Source::Url(url.to_owned());
    let mut since = Instant::now();
    loop {
        progress.checkpoint()?;
        let message = match pieces.recv_timeout(Duration::from_millis(100)) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if since.elapsed() < STALL => continue,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Broken::Connection("the server sends nothing".into()));
            }
            // The sender ends without a message only after the last piece.
            Err(RecvTimeoutError::Disconnected) => break,
        };
        since = Instant::now();
        match message {
            Message::Head(head) => begin(&head, part, &source)?,
            Message::Piece(bytes) => {
                part.append(&bytes, progress)?;
                if part.length > part.wanted.bytes {
                    let sent = part.length;
                    part.truncate(0)?;
                    return Err(Broken::ForGood(fail(
                        &source,
                        format!(
                            "the server sends more ({sent} bytes and on) than the {} that the card says",
                            part.wanted.bytes
                        ),
                    )));
                }
            }
            Message::Broken(reason) => return Err(Broken::Connection(reason)),
        }
    }
    if part.length < part.wanted.bytes {
        return Err(Broken::Connection(
            "the connection ended before the file was whole".into(),
        ));
    }
    Ok(())
}

/// What the thread that talks to the server tells.
enum Message {
    Head(Head),
    Piece(Vec<u8>),
    Broken(String),
}

/// The head of an answer.
struct Head {
    status: u16,
    /// First byte that is sent, and the size of the whole file, as far as the server says.
    start: u64,
    total: Option<u64>,
}

/// Checks the head of an answer, and puts the file's end where its bytes begin.
fn begin(head: &Head, part: &mut Part, source: &Source) -> std::result::Result<(), Broken> {
    match head.status {
        200 | 206 => {}
        // What is asked for lies behind the end of the server's file.
        416 => {
            part.truncate(0)?;
            return Err(Broken::Connection("the server has a shorter file".into()));
        }
        429 | 500..=599 => {
            return Err(Broken::Connection(format!(
                "the server answers with status {}",
                head.status
            )));
        }
        status => {
            return Err(Broken::ForGood(fail(
                source,
                format!(
                    "the server answers with status {status}; try --from with a mirror, or get the file by other means"
                ),
            )));
        }
    }
    if let Some(total) = head.total
        && total != part.wanted.bytes
    {
        return Err(Broken::ForGood(fail(
            source,
            format!(
                "the server's file has {total} bytes, the card says {}",
                part.wanted.bytes
            ),
        )));
    }
    // A server without ranges sends all again.
    if head.start > part.length {
        return Err(Broken::Connection(
            "the server skips a part of the file".into(),
        ));
    }
    part.truncate(head.start)?;
    Ok(())
}

/// Asks for `url` from byte `start` on; a thread of its own waits for the server, so that a stop or a stall
/// is seen while nothing comes.
fn request(url: &str, start: u64) -> std::result::Result<Receiver<Message>, Broken> {
    let (sender, receiver) = bounded(PIECES);
    let address = url.to_owned();
    std::thread::Builder::new()
        .name("tl-download".into())
        .spawn(move || {
            // Whoever waits for the messages may have given up: then this thread ends, too.
            let _ = answer(&address, start, |message| sender.send(message).is_ok());
        })
        .map_err(|e| Broken::ForGood(Error::io("start a thread for", url)(e)))?;
    Ok(receiver)
}

/// Sends the request and hands the answer on, piece by piece; none if nobody listens any more.
fn answer(url: &str, start: u64, mut send: impl FnMut(Message) -> bool) -> Option<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(STALL))
        .user_agent(concat!("tl/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut asked = agent.get(url);
    if start > 0 {
        asked = asked.header("Range", format!("bytes={start}-"));
    }
    let response = match asked.call() {
        Ok(response) => response,
        Err(error) => {
            send(Message::Broken(format!("no answer ({error})")));
            return None;
        }
    };
    send(Message::Head(read_head(&response, start))).then_some(())?;
    let mut body = response.into_body().into_reader();
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        match body.read(&mut piece) {
            Ok(0) => return Some(()),
            Ok(count) => {
                piece.truncate(count);
                send(Message::Piece(piece)).then_some(())?;
            }
            Err(error) => {
                send(Message::Broken(format!("the connection broke ({error})")));
                return None;
            }
        }
    }
}

fn read_head<T>(response: &ureq::http::Response<T>, asked_start: u64) -> Head {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let status = response.status().as_u16();
    if status != 206 {
        return Head {
            status,
            start: 0,
            total: header("content-length").and_then(|n| n.parse().ok()),
        };
    }
    // As in `bytes 100-199/200`.
    let range = header("content-range").and_then(|r| r.strip_prefix("bytes "));
    let (span, total) = range.and_then(|r| r.split_once('/')).unwrap_or(("", ""));
    Head {
        status,
        start: span
            .split_once('-')
            .and_then(|(first, _)| first.parse().ok())
            .unwrap_or(asked_start),
        total: total.parse().ok(),
    }
}
