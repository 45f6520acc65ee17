//! Safe opening of files in shared or untrusted folders.
//!
//! Anyone who can write to a folder can put a link, a FIFO or a device where a file is expected. So a file is opened
//! without waiting, checked through its open handle, and only then read or changed:
//!
//! | function | links | for |
//! | --- | --- | --- |
//! | [`open_to_read`], [`read`], [`read_text`] | followed | files that the user names: models, images, lists |
//! | [`read_given`] | followed | the same, where `/dev/stdin` or `<(command)` makes sense, too |
//! | [`open_own_to_read`], [`read_own`] | refused | the program's own files, to read |
//! | [`open_own`], [`open_own_below`] | refused | the program's own files, to change |

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::parent;
use crate::error::{Error, Result};

/// Kind of access to one of the program's own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it in place.
    Change,
    /// Like [`Change`](Access::Change); it is made if it is not there.
    ChangeOrCreate,
    /// Add to its end, and read it; it is made if it is not there.
    Append,
    /// Lock it; it is made if it is not there. Nothing is written.
    Lock,
}

impl Access {
    fn writes(self) -> bool {
        !matches!(self, Access::Read | Access::Lock)
    }
}

/// Opens the regular file `path` to read, through links if need be.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for a folder, FIFO, socket or device. A FIFO is not
/// waited for.
pub fn open_to_read(path: &Path) -> io::Result<(File, Metadata)> {
    regular(system::open(path).map_err(clear)?)
}

/// The bytes of the regular file `path`, which may have at most `most`.
///
/// # Errors
/// [`Error::Io`], also for anything else than a regular file, and for a file that is larger.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    open_to_read(path)
        .and_then(|(file, facts)| read_all(file, &facts, most))
        .map_err(Error::io("read", path))
}

/// Like [`read`], as UTF-8 text.
///
/// # Errors
/// Like [`read`], and for bytes that are not text.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    text(read(path, most)?, path)
}

/// Like [`read`] for a file that the user names on the command line, which may also be one that was opened for
/// this process: `/dev/stdin`, or the pipe of the shell's `<(command)`. That one is read to its end.
///
/// # Errors
/// Like [`read`].
pub fn read_given(path: &Path, most: u64) -> Result<Vec<u8>> {
    if !is_handed_over(path) {
        return read(path, most);
    }
    File::open(path)
        .and_then(|file| {
            let facts = file.metadata()?;
            read_all(file, &facts, most)
        })
        .map_err(Error::io("read", path))
}

/// Like [`read_given`], as UTF-8 text.
///
/// # Errors
/// Like [`read_text`].
pub fn read_given_text(path: &Path, most: u64) -> Result<String> {
    text(read_given(path, most)?, path)
}

/// Opens one of the program's own files to read.
///
/// # Errors
/// Like [`open_own`].
pub fn open_own_to_read(path: &Path) -> io::Result<File> {
    open_own(path, Access::Read)
}

/// Like [`read`], for one of the program's own files.
///
/// # Errors
/// Like [`read`], and for a link.
pub fn read_own(path: &Path, most: u64) -> Result<Vec<u8>> {
    open_own_to_read(path)
        .and_then(|file| {
            let facts = file.metadata()?;
            read_all(file, &facts, most)
        })
        .map_err(Error::io("read", path))
}

/// Opens one of the program's own files. Nothing in it is changed by that.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for a link, for anything else than a regular file,
/// and, if it is to be written, for a file that has a second name elsewhere (a hard link).
pub fn open_own(path: &Path, access: Access) -> io::Result<File> {
    let name = path.file_name().ok_or_else(no_name)?;
    open_own_below(parent(path), Path::new(name), access)
}

/// Like [`open_own`] for the file `below` of `folder`. `folder` may be reached through links, since the user names
/// it; the folders in `below` may not.
///
/// # Errors
/// Like [`open_own`].
pub fn open_own_below(folder: &Path, below: &Path, access: Access) -> io::Result<File> {
    let opened = match system::open_below(folder, below, access) {
        // Another user's lock can be taken, though not written.
        Err(e) if access == Access::Lock && e.kind() == io::ErrorKind::PermissionDenied => {
            system::open_below(folder, below, Access::Read)
        }
        opened => opened,
    };
    let (file, facts) = regular(opened.map_err(clear)?)?;
    match access.writes() && system::names(&facts) > 1 {
        true => Err(refuse(
            "it is a hard link, so writing to it would change another file; remove it",
        )),
        false => Ok(file),
    }
}

/// Fills `bytes` from `offset` on, without moving the file's own place: threads may share the file.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let (mut rest, mut offset) = (bytes, offset);
        while !rest.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_read(file, rest, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest = &mut rest[count..];
            offset += count as u64;
        }
        Ok(())
    }
}

/// Returns whether something has the name `path`, be it a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Lets a reader fail at a line that is longer than it may be, so that a file without line breaks does not fill
/// the memory.
pub struct BoundedLines<R> {
    inner: R,
    most: usize,
    since_break: usize,
}

impl<R> BoundedLines<R> {
    /// Reads `inner`, whose lines have at most `most` bytes.
    pub fn new(inner: R, most: usize) -> BoundedLines<R> {
        BoundedLines {
            inner,
            most,
            since_break: 0,
        }
    }
}

impl<R: Read> Read for BoundedLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for line in buffer[..count].split_inclusive(|&b| b == b'\n') {
            self.since_break += line.len();
            if self.since_break > self.most {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line has more than {} bytes", self.most),
                ));
            }
            if line.ends_with(b"\n") {
                self.since_break = 0;
            }
        }
        Ok(count)
    }
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| {
        Error::io("read", path)(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not UTF-8 text",
        ))
    })
}

fn read_all(file: File, facts: &Metadata, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || refuse(format!("it is larger than {most} bytes"));
    if facts.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(usize::try_from(facts.len()).unwrap_or(usize::MAX))
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // Some files have more in them than they say.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

/// Returns whether a path stands for a file that was opened before this process began.
fn is_handed_over(path: &Path) -> bool {
    let is_number = |name: &std::ffi::OsStr| {
        let name = name.as_encoded_bytes();
        !name.is_empty() && name.iter().all(u8::is_ascii_digit)
    };
    let folder = path.parent().map(Path::to_path_buf);
    let of_descriptors = ["/dev/fd", "/proc/self/fd"].map(PathBuf::from);
    path == Path::new("/dev/stdin")
        || folder.is_some_and(|folder| of_descriptors.contains(&folder))
            && path.file_name().is_some_and(is_number)
}

/// By the open file: under the name there may be another one by now.
fn regular(file: File) -> io::Result<(File, Metadata)> {
    let facts = file.metadata()?;
    match facts.is_file() {
        true => Ok((file, facts)),
        false => Err(refuse("it is not a regular file")),
    }
}

fn refuse(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.into())
}

fn no_name() -> io::Error {
    refuse("it is not a file name")
}

/// Says what the system means where its words are about something else.
fn clear(error: io::Error) -> io::Error {
    match system::meaning(&error) {
        Some(problem) => refuse(problem),
        None => error,
    }
}

#[cfg(unix)]
mod system {
    use std::fs::{File, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::path::{Component, Path};

    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::io::Errno;

    use super::Access;

    pub fn open(path: &Path) -> io::Result<File> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits() as i32);
        options.open(path)
    }

    pub fn open_below(folder: &Path, below: &Path, access: Access) -> io::Result<File> {
        let to_folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = openat(CWD, folder, to_folder, Mode::empty())?;
        let mut parts = below.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(super::no_name());
            };
            if parts.peek().is_some() {
                let flags = to_folder | OFlags::NOFOLLOW;
                folder = openat(folder, name, flags, Mode::empty()).map_err(|e| match e {
                    Errno::LOOP | Errno::NOTDIR => {
                        super::refuse("its parent is a link, or not a folder; remove it")
                    }
                    other => other.into(),
                })?;
                continue;
            }
            let how = match access {
                Access::Read => OFlags::RDONLY,
                Access::Change => OFlags::RDWR,
                Access::ChangeOrCreate | Access::Lock => OFlags::RDWR | OFlags::CREATE,
                Access::Append => OFlags::RDWR | OFlags::APPEND | OFlags::CREATE,
            };
            let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            // As every new file, subject to the umask.
            let file = openat(folder, name, how | careful, Mode::from_raw_mode(0o666))?;
            return Ok(File::from(file));
        }
        Err(super::no_name())
    }

    pub fn names(facts: &Metadata) -> u64 {
        facts.nlink()
    }

    pub fn meaning(error: &io::Error) -> Option<&'static str> {
        match Errno::from_io_error(error)? {
            Errno::LOOP | Errno::MLINK => Some(
                "it is a link, and this program's own files are not opened through links; remove it, or give the path of the file itself",
            ),
            Errno::NXIO | Errno::ISDIR | Errno::NODEV => Some("it is not a regular file"),
            _ => None,
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{File, Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::Access;

    pub fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    pub fn open_below(folder: &Path, below: &Path, access: Access) -> io::Result<File> {
        let path = folder.join(below);
        if path.is_symlink() {
            return Err(super::refuse("it is a link; remove it"));
        }
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Change => drop(options.write(true)),
            Access::ChangeOrCreate | Access::Lock => {
                options.write(true).create(true).truncate(false);
            }
            Access::Append => drop(options.append(true).create(true)),
        }
        options.open(path)
    }

    pub fn names(_: &Metadata) -> u64 {
        1
    }

    pub fn meaning(_: &io::Error) -> Option<&'static str> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    }

    fn said<T>(result: io::Result<T>) -> String {
        result.err().map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting_however_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("fifo");
        fifo(&pipe);
        let socket = dir.path().join("socket");
        let _held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let accesses = [
            Access::Read,
            Access::Change,
            Access::ChangeOrCreate,
            Access::Append,
            Access::Lock,
        ];
        for path in [pipe.as_path(), &socket, dir.path(), Path::new("/dev/zero")] {
            assert_eq!(said(open_to_read(path)), "it is not a regular file");
            for access in accesses {
                let said = said(open_own(path, access));
                assert_eq!(said, "it is not a regular file", "{path:?} {access:?}");
            }
        }
    }

    #[test]
    fn own_files_are_never_opened_through_links_and_those_behind_them_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("precious"), "precious").unwrap();
        symlink(at("precious"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::hard_link(at("precious"), at("second")).unwrap();
        fs::create_dir(at("real")).unwrap();
        symlink(at("real"), at("folder")).unwrap();
        for access in [Access::ChangeOrCreate, Access::Append, Access::Lock] {
            assert!(said(open_own(&at("link"), access)).contains("is a link"));
            assert!(said(open_own(&at("dangling"), access)).contains("is a link"));
            let below = open_own_below(dir.path(), Path::new("folder/x"), access);
            assert!(below.is_err());
            open_own_below(&at("folder"), Path::new("x"), access).unwrap();
        }
        assert!(said(open_own(&at("second"), Access::Change)).contains("hard link"));
        assert!(open_own(&at("second"), Access::Read).is_ok());
        assert!(open_own_below(dir.path(), Path::new("../x"), Access::Read).is_err());
        assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
        assert!(!at("nowhere").exists());
        assert_eq!(read(&at("link"), 100).unwrap(), b"precious");
        assert!(read_own(&at("link"), 100).is_err());
    }

    #[test]
    fn no_more_is_read_than_a_file_may_have() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, 1000).unwrap_err().to_string();
        assert!(error.contains("larger than 1000 bytes"), "{error}");
        // This one says that it is empty.
        let error = read(Path::new("/proc/self/status"), 10).unwrap_err();
        assert!(error.to_string().contains("larger than 10 bytes"));
        let mut lines = BoundedLines::new(&b"12\n1234\n12345\n"[..], 5);
        let mut text = String::new();
        assert!(lines.read_to_string(&mut text).is_err());
        let mut lines = BoundedLines::new(&b"12\n1234\n123"[..], 5);
        lines.read_to_string(&mut text).unwrap();
    }

    #[test]
    fn files_that_were_opened_for_the_process_are_known_by_their_names() {
        for path in ["/dev/stdin", "/dev/fd/63", "/proc/self/fd/0"] {
            assert!(is_handed_over(Path::new(path)), "{path}");
        }
        for path in [
            "/dev/fd/../zero",
            "/dev/zero",
            "fd/3",
            "/dev/fd/x",
            "/tmp/fifo",
        ] {
            assert!(!is_handed_over(Path::new(path)), "{path}");
        }
    }
}
