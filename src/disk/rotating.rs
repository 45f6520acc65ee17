//! A line file with rotation.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Access, is_there, open_own};
use crate::error::{Error, Result};

/// A file to which lines are added; when it is full it becomes `<name>.1`, that `<name>.2`, and so on.
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    most: Option<u64>,
    kept: usize,
}

impl RotatingFile {
    /// Opens `path`, made if it is not there, to add lines after what is in it. It is full at `most` bytes, never
    /// if none; `kept` full ones are kept, at least 1.
    ///
    /// # Errors
    /// [`Error::Io`], also for a link and for anything else than a regular file.
    pub fn open(path: &Path, most: Option<u64>, kept: usize) -> Result<RotatingFile> {
        let (file, bytes) = open(path)?;
        Ok(RotatingFile {
            path: path.to_owned(),
            file,
            bytes,
            most,
            kept: kept.max(1),
        })
    }

    /// Adds `line`, which ends in a line break. A line is never split over two files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, line: &[u8]) -> Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.most.is_some_and(|most| self.bytes + length > most) {
            self.rotate()?;
        }
        self.file
            .write_all(line)
            .map_err(Error::io("write", &self.path))?;
        self.bytes += length;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        for number in (1..self.kept).rev() {
            let from = self.numbered(number);
            if is_there(&from) {
                fs::rename(&from, self.numbered(number + 1)).map_err(Error::io("rename", &from))?;
            }
        }
        fs::rename(&self.path, self.numbered(1)).map_err(Error::io("rename", &self.path))?;
        (self.file, self.bytes) = open(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Opens `path` at its end, which is the end of a line.
fn open(path: &Path) -> Result<(File, u64)> {
    let fail = || Error::io("open", path);
    let mut file = open_own(path, Access::Append).map_err(fail())?;
    let mut bytes = file.metadata().map_err(fail())?.len();
    if bytes > 0 {
        // A power cut may have left half a line.
        let mut last = [0];
        file.seek(SeekFrom::End(-1))
            .and_then(|_| file.read_exact(&mut last))
            .map_err(fail())?;
        if last != *b"\n" {
            file.write_all(b"\n").map_err(fail())?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"half").unwrap();
        let mut log = RotatingFile::open(&path, Some(12), 2).unwrap();
        for line in [
            "one\n",
            "two\n",
            "three\n",
            "four\n",
            "a line too long\n",
            "five\n",
        ] {
            log.add(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("log"), "five\n");
        assert_eq!(read("log.1"), "a line too long\n");
        assert_eq!(read("log.2"), "four\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
