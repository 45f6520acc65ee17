//! Downloads by HTTP(S); a broken connection is retried and resumed.

use std::io::Read;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use super::{Part, Source, Token, fail};
use crate::error::{Error, Result};
use crate::foreign::system_error;
use crate::progress::Progress;

/// A server that sends nothing for this long counts as gone.
const STALL: Duration = Duration::from_secs(30);

/// A server that sends fewer than [`LEAST_BYTES`] in this time is too slow to wait for: 1 kB per second.
const PERIOD: Duration = Duration::from_secs(60);
const LEAST_BYTES: u64 = 60_000;

/// Waits before the tries that follow a broken connection; a try that brought [`ENOUGH_BYTES`] starts over with them.
const RETRY_WAITS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
];

/// What a try has to bring for the next one to count as the first.
const ENOUGH_BYTES: u64 = 64 * 1024;

/// Bytes read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Number of pieces that may wait to be written: with [`PIECE_BYTES`], 1 MiB.
const PIECES: usize = 16;

/// Why an attempt ended before the file was complete.
enum Broken {
    /// The connection failed; another attempt may succeed.
    Connection(String),
    /// Another attempt would fail the same way.
    ForGood(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::ForGood(error)
    }
}

/// Retries until the file is complete, or until several attempts in a row receive nothing.
pub(super) fn transfer(source: &Source, part: &mut Part, progress: &Progress) -> Result<()> {
    let mut waits = RETRY_WAITS.iter();
    while part.length < part.wanted.bytes {
        let before = part.length;
        let reason = match attempt(source, part, progress) {
            Ok(()) => continue,
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::Connection(reason)) => reason,
        };
        if part.length.saturating_sub(before) >= ENOUGH_BYTES {
            waits = RETRY_WAITS.iter();
        }
        let Some(&wait) = waits.next() else {
            let problem = match part.length {
                0 => format!(
                    "{reason}; without a network, use --from with a folder that has the file"
                ),
                length => format!(
                    "{reason}; {length} of {} bytes are kept, run the same command again to resume",
                    part.wanted.bytes
                ),
            };
            return Err(fail(source, problem));
        };
        progress.info(format!("{reason}; retrying"));
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

/// One request for the missing bytes. Returns when the file is complete or the connection ends.
fn attempt(
    source: &Source,
    part: &mut Part,
    progress: &Progress,
) -> std::result::Result<(), Broken> {
    let pieces = request(source, part.length)?;
    let mut since = Instant::now();
    let mut pace = Pace::from(since);
    loop {
        progress.checkpoint()?;
        let message = match pieces.recv_timeout(Duration::from_millis(100)) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if since.elapsed() < STALL => continue,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Broken::Connection("the server sends no data".into()));
            }
            // The sender ends without a message only after the last piece.
            Err(RecvTimeoutError::Disconnected) => break,
        };
        since = Instant::now();
        match message {
            Message::Head(head) => begin(&head, part, source)?,
            Message::Piece(bytes) => {
                part.append(&bytes, progress)?;
                if !pace.goes_on(bytes.len(), since) && part.length < part.wanted.bytes {
                    return Err(Broken::ForGood(fail(
                        source,
                        format!(
                            "the server sends less than 1 kB/s; {} of {} bytes are kept, run the same command again to resume, or use --from with another URL",
                            part.length, part.wanted.bytes
                        ),
                    )));
                }
                if part.length > part.wanted.bytes {
                    let sent = part.length;
                    part.truncate(0)?;
                    return Err(Broken::ForGood(fail(
                        source,
                        format!(
                            "the server sends more ({sent} bytes or more) than the {} bytes that {} states",
                            part.wanted.bytes, part.wanted.said_by
                        ),
                    )));
                }
            }
            Message::Broken(reason) => return Err(Broken::Connection(reason)),
        }
    }
    if part.length < part.wanted.bytes {
        return Err(Broken::Connection(
            "the connection ended before the file was complete".into(),
        ));
    }
    Ok(())
}

/// Whether the download is fast enough to continue.
struct Pace {
    /// When the present stretch of [`PERIOD`] began, and what has come in it.
    begin: Instant,
    bytes: u64,
}

impl Pace {
    fn from(begin: Instant) -> Pace {
        Pace { begin, bytes: 0 }
    }

    /// Records `bytes` received at `now`; false if too few were received in the period that this ends.
    fn goes_on(&mut self, bytes: usize, now: Instant) -> bool {
        self.bytes += bytes as u64;
        if now.saturating_duration_since(self.begin) < PERIOD {
            return true;
        }
        let came = self.bytes;
        *self = Pace::from(now);
        came >= LEAST_BYTES
    }
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
                "the server returned status {}",
                head.status
            )));
        }
        status => {
            return Err(Broken::ForGood(fail(
                source,
                format!(
                    "the server returned status {status}; use --from with a mirror, or get the file another way"
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
                "the server's file has {total} bytes, {} says {}",
                part.wanted.said_by, part.wanted.bytes
            ),
        )));
    }
    // A server without ranges sends all again.
    if head.start > part.length {
        return Err(Broken::Connection(
            "the server skipped a part of the file".into(),
        ));
    }
    part.truncate(head.start)?;
    Ok(())
}

/// Asks for `source` from byte `start` on; a thread of its own waits for the server, so that a stop or a stall
/// is seen while nothing comes.
fn request(source: &Source, start: u64) -> std::result::Result<Receiver<Message>, Broken> {
    let (sender, receiver) = bounded(PIECES);
    let (address, token) = match source {
        Source::Private(url, token) => (url.clone(), Some(token.clone())),
        other => (other.to_string(), None),
    };
    std::thread::Builder::new()
        .name("tl-download".into())
        .spawn(move || {
            // Whoever waits for the messages may have given up: then this thread ends, too.
            let _ = answer(&address, token.as_ref(), start, |message| {
                sender.send(message).is_ok()
            });
        })
        .map_err(|e| Broken::ForGood(Error::io("start a thread for", source.to_string())(e)))?;
    Ok(receiver)
}

/// Sends the request and hands the answer on, piece by piece; `None` if nobody listens any more.
fn answer(
    url: &str,
    token: Option<&Token>,
    start: u64,
    mut send: impl FnMut(Message) -> bool,
) -> Option<()> {
    let agent = agent(MOST_REDIRECTS);
    let mut asked = agent.get(url);
    if let Some(Token(secret)) = token {
        // Not sent on to where the server redirects.
        asked = asked.header("Authorization", format!("Bearer {secret}"));
    }
    if start > 0 {
        asked = asked.header("Range", format!("bytes={start}-"));
    }
    let response = match asked.call() {
        Ok(response) => response,
        Err(error) => {
            send(Message::Broken(format!(
                "no response ({})",
                system_error(&error)
            )));
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
                send(Message::Broken(format!(
                    "the connection broke ({})",
                    system_error(&error)
                )));
                return None;
            }
        }
    }
}

/// Most redirections of one request.
const MOST_REDIRECTS: u32 = 10;

fn agent(redirects: u32) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(redirects > 0)
        .timeout_connect(Some(STALL))
        .user_agent(concat!("tl/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Method {
    /// All of it; redirections are followed.
    Get,
    /// The headers alone; redirections are not followed.
    Head,
}

/// A whole answer.
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Maximum bytes of an answer that is kept in memory.
const MOST_ANSWER: u64 = 16 << 20;

/// Asks a server for something small, again where the connection breaks or the server is busy.
///
/// # Errors
/// [`Error::Download`] if no answer comes, or a longer one than 16 MiB; [`Error::Cancelled`].
pub(super) fn ask(
    method: Method,
    url: &str,
    token: Option<&Token>,
    progress: &Progress,
) -> Result<Answer> {
    let source = Source::Url(url.to_owned());
    let mut waits = RETRY_WAITS.iter();
    loop {
        let (sender, receiver) = bounded(1);
        let (address, token) = (url.to_owned(), token.cloned());
        std::thread::Builder::new()
            .name("tl-ask".into())
            // Whoever waits for the answer may have given up.
            .spawn(move || drop(sender.send(ask_once(method, &address, token.as_ref()))))
            .map_err(Error::io("start a thread for", url))?;
        let since = Instant::now();
        let answer = loop {
            progress.checkpoint()?;
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => break answer,
                Err(_) if since.elapsed() < STALL => {}
                Err(_) => break Err("the server sends no data".to_owned()),
            }
        };
        let reason = match answer {
            Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                format!("the server returned status {}", answer.status)
            }
            Ok(answer) => return Ok(answer),
            Err(reason) => reason,
        };
        let Some(&wait) = waits.next() else {
            return Err(fail(
                &source,
                format!("{reason}; without a network, use --from with a folder that has the files"),
            ));
        };
        progress.info(format!("{reason}; retrying"));
        pause(wait, progress)?;
    }
}

fn ask_once(
    method: Method,
    url: &str,
    token: Option<&Token>,
) -> std::result::Result<Answer, String> {
    let redirects = if method == Method::Head {
        0
    } else {
        MOST_REDIRECTS
    };
    let agent = agent(redirects);
    let mut asked = match method {
        Method::Get => agent.get(url),
        Method::Head => agent.head(url),
    };
    if let Some(Token(secret)) = token {
        asked = asked.header("Authorization", format!("Bearer {secret}"));
    }
    let response = asked.call().map_err(|e| format!("no response ({e})"))?;
    let status = response.status().as_u16();
    let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = response.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let mut body = Vec::new();
    if method == Method::Get {
        let reader = response.into_body().into_reader();
        let read = reader.take(MOST_ANSWER + 1).read_to_end(&mut body);
        read.map_err(|e| format!("the connection broke ({e})"))?;
        if body.len() as u64 > MOST_ANSWER {
            return Err(format!("the answer is longer than {MOST_ANSWER} bytes"));
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a server that sends `bytes` every `millis` is waited for over ten minutes.
    fn is_waited_for(bytes: usize, millis: u64) -> bool {
        let begin = Instant::now();
        let mut pace = Pace::from(begin);
        let times = (0..).map(|n| Duration::from_millis(n * millis));
        times
            .take_while(|time| time.as_secs() < 600)
            .all(|time| pace.goes_on(bytes, begin + time))
    }

    #[test]
    fn a_server_that_trickles_is_given_up() {
        // A byte per second; just under and over 1 kB per second; a modem.
        assert!(!is_waited_for(1, 1_000));
        assert!(!is_waited_for(900, 1_000));
        assert!(is_waited_for(1_100, 1_000));
        assert!(is_waited_for(700, 100));
        // Much at once and then nearly nothing.
        let begin = Instant::now();
        let mut pace = Pace::from(begin);
        assert!(pace.goes_on(10_000_000, begin));
        assert!(pace.goes_on(1, begin + PERIOD));
        assert!(!pace.goes_on(1, begin + 2 * PERIOD));
    }
}
