//! A file that is written in place.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Access, fault, open_own_below, parent};
use crate::error::{Error, Result};

/// A file open for reading and writing, which knows its path for messages.
pub struct DataFile {
    file: File,
    path: PathBuf,
}

impl DataFile {
    /// Opens `path`, which is made if it is not there. What is in it stays.
    ///
    /// # Errors
    /// [`Error::Io`], also for a link, for anything else than a regular file, and for a file with a second name.
    pub fn open(path: PathBuf) -> Result<DataFile> {
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        open(parent(&path), &name, Access::ChangeOrCreate, &path)
    }

    /// Like [`open`](Self::open) for the file `below` of `folder`, where no folder in `below` may be a link.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn open_below(folder: &Path, below: &Path) -> Result<DataFile> {
        open(folder, below, Access::ChangeOrCreate, &folder.join(below))
    }

    /// Like [`open_below`](Self::open_below); `None` if the file is not there.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn open_existing(folder: &Path, below: &Path) -> Result<Option<DataFile>> {
        match open(folder, below, Access::Change, &folder.join(below)) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that the file was renamed.
    pub fn moved_to(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn len(&self) -> Result<u64> {
        let facts = self.file.metadata();
        Ok(facts.map_err(Error::io("read", &self.path))?.len())
    }

    /// Returns whether it holds nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes it `bytes` long, with zeros after what is in it, and reserves disk space for them, so
    /// that a full disk shows at once and not after an hour. Where the file system cannot reserve space, the
    /// file is only extended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        fault::step("reserve", &self.path).map_err(Error::io("write", &self.path))?;
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;
            match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(e) => return Err(Error::io("make room for", &self.path)(e.into())),
            }
        }
        self.file
            .set_len(bytes)
            .map_err(Error::io("write", &self.path))
    }

    /// Cuts it, or makes it longer with zeros.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_len(&mut self, bytes: u64) -> Result<()> {
        fault::step("resize", &self.path)
            .and_then(|()| self.file.set_len(bytes))
            .map_err(Error::io("write", &self.path))
    }

    /// Reads it from its start on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reader(&mut self) -> Result<impl Read> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(Error::io("read", &self.path))?;
        Ok(&mut self.file)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`], also if the file ends before.
    pub fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(Error::io("read", &self.path))
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`]; then any part of it may be written.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = &mut self.file;
        fault::write(&self.path, offset, bytes, |part| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(part)
        })
        .map_err(Error::io("write", &self.path))
    }

    /// Locks the file for this process until it is dropped; returns false if another process holds it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_lock(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &self.path)(e)),
        }
    }

    /// Makes all that was written survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`]; then none of it is known to survive.
    pub fn sync(&mut self) -> Result<()> {
        fault::sync(&self.path)
            .and_then(|()| self.file.sync_all())
            .map_err(Error::io("write", &self.path))?;
        fault::synced(&self.path);
        Ok(())
    }
}

fn open(folder: &Path, below: &Path, access: Access, path: &Path) -> Result<DataFile> {
    let file = fault::step("open", path)
        .and_then(|()| open_own_below(folder, below, access))
        .map_err(Error::io("open", path))?;
    Ok(DataFile {
        file,
        path: path.to_owned(),
    })
}
