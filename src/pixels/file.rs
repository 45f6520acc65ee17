//! Reads the file of an image. Special files never make the reader wait or fill its memory.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::disk::open_to_read;
use crate::error::{Error, Result};
use crate::foreign::system_error;

/// Maximum size of an image file.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Opens the regular file `path`.
///
/// # Errors
/// [`Error::Image`] if it cannot be read, or is a FIFO, a device or the like.
fn open_file(path: &Path) -> Result<(File, Metadata)> {
    open_to_read(path).map_err(|e| bad(path, format!("cannot be read: {}", system_error(&e))))
}

/// The bytes of the regular file `path`, and its metadata from before reading.
///
/// # Errors
/// Those of [`open_file`]; [`Error::Image`] if it is too large.
pub(crate) fn read_file(path: &Path) -> Result<(Vec<u8>, Metadata)> {
    let too_large = || bad(path, format!("is larger than {} MiB", MAX_FILE_BYTES >> 20));
    let (file, facts) = open_file(path)?;
    if facts.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0));
    // Some files have more in them than they say.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(path, format!("cannot be read: {}", system_error(&e))))?;
    match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(too_large()),
        false => Ok((bytes, facts)),
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Image {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo.jpg");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            let error = read_file(path).unwrap_err().to_string();
            assert!(error.ends_with("it is not a regular file"), "{error}");
        }
    }
}
