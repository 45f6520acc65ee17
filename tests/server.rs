//! A small HTTP server with bad manners, for one file.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// Serves the file, and parts of it.
    Honest,
    /// Serves the whole file whatever part is asked for.
    WithoutRanges,
    /// Ends each connection after this many bytes.
    CutAfter(usize),
    /// Sends this many bytes, then nothing, and keeps the connection.
    StallAfter(usize),
    /// Says that the file is longer than it is.
    WrongLength,
    /// Does not say how long it is, and sends more.
    Endless,
    /// Sends other bytes of the same length.
    WrongBytes,
    /// Sends to `/elsewhere/…` first.
    Redirect,
    /// Has no such file.
    Missing,
}

/// A running server; its thread ends with the test's process.
pub struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `file` under every path, by `manner`.
    pub fn start(file: Vec<u8>, manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (file, noted) = (file.clone(), noted.clone());
                // A client that goes away is no fault of the server.
                std::thread::spawn(move || drop(serve(stream, &file, manner, &noted)));
            }
        });
        Server { address, requests }
    }

    /// Heads of all requests so far, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head.to_lowercase())
}

fn serve(
    mut stream: TcpStream,
    file: &[u8],
    manner: Manner,
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let head = read_head(&mut reader)?;
        noted.lock().unwrap().push(head.clone());
        if head.starts_with("connect ") {
            // As a proxy: the tunnel ends here.
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            continue;
        }
        return answer(&mut stream, &head, file, manner);
    }
}

fn answer(stream: &mut TcpStream, head: &str, file: &[u8], manner: Manner) -> std::io::Result<()> {
    if manner == Manner::Missing {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    if manner == Manner::Redirect && !head.contains("/elsewhere/") {
        return stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /elsewhere/file.onnx\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let asked = head.split("range: bytes=").nth(1);
    let start: usize = asked
        .filter(|_| manner != Manner::WithoutRanges)
        .and_then(|range| range.split('-').next()?.parse().ok())
        .unwrap_or(0);
    let mut body = file[start..].to_vec();
    if manner == Manner::WrongBytes {
        body.iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    let length = body.len();
    let mut answer = match start {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
            file.len() - 1,
            file.len()
        ),
    };
    match manner {
        Manner::WrongLength => answer += &format!("Content-Length: {}\r\n", length + 7),
        Manner::Endless => body.extend_from_slice(file),
        _ => answer += &format!("Content-Length: {length}\r\n"),
    }
    answer += "Connection: close\r\n\r\n";
    stream.write_all(answer.as_bytes())?;
    let sent = match manner {
        Manner::CutAfter(bytes) | Manner::StallAfter(bytes) => bytes.min(body.len()),
        _ => body.len(),
    };
    stream.write_all(&body[..sent])?;
    stream.flush()?;
    if matches!(manner, Manner::StallAfter(_)) {
        std::thread::sleep(Duration::from_secs(600));
    }
    Ok(())
}
