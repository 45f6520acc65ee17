//! Crash-safe files: everything that must survive a kill, a power cut or a full disk is written here.
//!
//! | what | guarantee |
//! | --- | --- |
//! | `write_atomic` | a reader sees the old file or the complete new one |
//! | `rename_synced` | the new name survives a power cut |
//! | `DataFile` | what was written before `DataFile::sync` survives a power cut |
//! | `RotatingFile` | lines are never split; full files are rotated, old ones deleted |
//! | `lock` | one process at a time; released when its process ends in any way |
//!
//! All files are opened as `open` says: planted links, FIFOs and devices are never followed, waited for or written
//! to.
//!
//! Builds with debug assertions can be made to fail at every single step, see `fault`.

mod data_file;
mod fault;
mod open;
mod rotating;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path};

pub use data_file::DataFile;
pub use open::{
    Access, BoundedLines, is_there, open_own, open_own_below, open_own_to_read, open_to_read, read,
    read_exact_at, read_given, read_given_text, read_own, read_text,
};
pub use rotating::RotatingFile;

use crate::error::{Error, Result};

/// How the temporary files of [`write_atomic`] are named: `.tl-` + random + `.tmp`.
const TEMPORARY: (&str, &str) = (".tl-", ".tmp");

/// Writes `bytes` to `path` such that a reader sees the old file or the whole new one, also after a
/// power cut.
///
/// # Errors
/// [`Error::Io`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = parent(path);
    let fail = || Error::io("write", path);
    let mut file = loop {
        let file = create_temporary(folder).map_err(fail())?;
        file.as_file().lock().map_err(fail())?;
        // Between its making and its lock another process may have taken it for an orphan.
        if file.path().exists() {
            break file;
        }
    };
    remove_orphans(folder, file.as_file());
    let temporary = file.path().to_owned();
    fault::write(&temporary, 0, bytes, |part| file.write_all(part)).map_err(fail())?;
    fault::sync(&temporary)
        .and_then(|()| file.as_file().sync_all())
        .map_err(fail())?;
    fault::synced(&temporary);
    fault::rename(&temporary, path).map_err(fail())?;
    file.persist(path).map_err(|e| fail()(e.error))?;
    sync_folder(folder)
}

/// Renames a file or folder that is already synced; the new name survives a power cut.
///
/// # Errors
/// [`Error::Io`].
pub fn rename_synced(from: &Path, to: &Path) -> Result<()> {
    fault::rename(from, to)
        .and_then(|()| fs::rename(from, to))
        .map_err(Error::io("rename", from))?;
    sync_folder(parent(to))
}

/// Makes the folder `path`, which must not be there, nor a link of this name.
///
/// # Errors
/// [`Error::Io`].
pub fn create_new_folder(path: &Path) -> Result<()> {
    fault::step("create", path)
        .and_then(|()| fs::create_dir(path))
        .map_err(Error::io("create", path))
}

/// Makes the folder `path` and those around it.
///
/// # Errors
/// [`Error::Io`].
pub fn create_folder(path: &Path) -> Result<()> {
    fault::step("create", path)
        .and_then(|()| fs::create_dir_all(path))
        .map_err(Error::io("create", path))
}

/// Removes the folder `path` with all that is in it, if it is there. Links are removed, not followed.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_folder(path: &Path) -> Result<()> {
    if !is_there(path) {
        return Ok(());
    }
    fault::step("remove", path)
        .and_then(|()| fs::remove_dir_all(path))
        .map_err(Error::io("remove", path))
}

/// Removes the file `path`, if it is there; a link is removed, not followed.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_file(path: &Path) -> Result<()> {
    if !is_there(path) {
        return Ok(());
    }
    fault::step("remove", path)
        .and_then(|()| fs::remove_file(path))
        .map_err(Error::io("remove", path))
}

/// Takes the lock file `path`, which is made if it is not there; `None` if another process has it. The lock
/// ends when the file is dropped, or with this process. What is in the file stays as it is.
///
/// # Errors
/// [`Error::Io`].
pub fn lock(path: &Path) -> Result<Option<File>> {
    loop {
        let file = open_own(path, Access::Lock).map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            // Whoever had it removed it: the name is free, or stands for another file.
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
        }
    }
}

/// The folder that `path` lies in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns whether `path`, a name that came from elsewhere, stays in the folder that it is joined to.
pub fn stays_below(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Returns whether the name `path` still stands for the open file.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(ours), Ok(named)) if is_same_file(&ours, &named))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Returns whether the facts of two files are those of one.
#[cfg(unix)]
pub fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn create_temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    // A temporary file is private by default; this one becomes an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    fault::step("create", folder)?;
    builder.tempfile_in(folder)
}

/// Removes the temporary files of this user's processes that were killed: those that nobody has locked, and that
/// belong to whoever owns `own`, which this process made just now.
fn remove_orphans(folder: &Path, own: &File) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let is_temporary = |name: &str| name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary)
            && let Ok(file) = open_own_to_read(&entry.path())
            && has_same_owner(&file, own)
            && file.try_lock().is_ok()
        {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn has_same_owner(one: &File, other: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let owner = |file: &File| file.metadata().map(|facts| facts.uid()).ok();
        owner(one).is_some() && owner(one) == owner(other)
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        true
    }
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_folder(folder: &Path) -> Result<()> {
    fault::sync(folder).map_err(Error::io("sync", folder))?;
    // Other systems cannot open a folder as a file, and sync its names by themselves.
    #[cfg(unix)]
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(Error::io("sync", folder))?;
    fault::names_synced(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_of_dead_processes_go_and_those_in_work_stay() {
        let dir = tempfile::tempdir().unwrap();
        let orphan = dir.path().join(".tl-abc.tmp");
        let in_work = dir.path().join(".tl-def.tmp");
        let foreign = dir.path().join("notes.tmp");
        for path in [&orphan, &in_work, &foreign] {
            fs::write(path, b"x").unwrap();
        }
        let held = File::open(&in_work).unwrap();
        held.lock().unwrap();
        let path = dir.path().join("result");
        write_atomic(&path, b"all").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert!(!orphan.exists() && in_work.exists() && foreign.exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_that_somebody_planted_is_waited_for_followed_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(at(".tl-x.tmp"))
            .status();
        assert!(made.unwrap().success());
        fs::write(at("precious"), b"precious").unwrap();
        std::os::unix::fs::symlink(at("precious"), at(".tl-y.tmp")).unwrap();
        std::os::unix::fs::symlink(at("precious"), at("result")).unwrap();
        std::os::unix::fs::symlink(at("precious"), at(".lock")).unwrap();
        write_atomic(&at("result"), b"all").unwrap();
        assert!(!at("result").is_symlink());
        assert_eq!(fs::read(at("result")).unwrap(), b"all");
        assert!(is_there(&at(".tl-x.tmp")) && is_there(&at(".tl-y.tmp")));
        assert!(lock(&at(".lock")).is_err());
        assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        remove_file(&at("dangling")).unwrap();
        assert!(!is_there(&at("dangling")));
    }

    #[test]
    fn a_lock_is_had_once_and_again_when_it_is_dropped_or_its_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let first = lock(&path).unwrap();
        assert!(first.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        let second = lock(&path).unwrap();
        assert!(second.is_some());
        fs::remove_file(&path).unwrap();
        assert!(lock(&path).unwrap().is_some());
    }
}
