//! Fault injection for tests. Only in builds with debug assertions; a no-op in others.
//!
//! `TL_FAULT=KIND@N` makes the Nth step (1-based; a write, sync, rename … of the process) fail:
//!
//! | kind | what happens |
//! | --- | --- |
//! | `kill` | the process dies before the step |
//! | `torn` | the process dies when half of the bytes of the step are written; other steps are done before |
//! | `power` | as `torn`, and all that was not synced is lost: written bytes, lengths and names |
//! | `full` | from the step on, the disk is full: half of the bytes are written, then ENOSPC |
//! | `quota` | as `full`, but the user's quota is exceeded: EDQUOT |
//! | `io` | the step fails with EIO, the ones after it do not |
//!
//! `TL_FAULT_LOG=FILE` appends a line with the name of each step.

#[cfg(debug_assertions)]
pub(super) use on::*;

#[cfg(not(debug_assertions))]
pub(super) use off::*;

#[cfg(not(debug_assertions))]
mod off {
    use std::io::Result;
    use std::path::Path;

    pub fn step(_: &str, _: &Path) -> Result<()> {
        Ok(())
    }

    pub fn sync(_: &Path) -> Result<()> {
        Ok(())
    }

    pub fn rename(_: &Path, _: &Path) -> Result<()> {
        Ok(())
    }

    pub fn write(
        _: &Path,
        _: u64,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        write(bytes)
    }

    pub fn synced(_: &Path) {}

    pub fn names_synced(_: &Path) {}
}

#[cfg(debug_assertions)]
mod on {
    use std::fs::{self, OpenOptions};
    use std::io::{Error, Result, Seek, SeekFrom, Write};
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::super::parent;

    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        Kill,
        Torn,
        Power,
        /// No space, with the error number.
        Full(i32),
        Io,
    }

    /// What the environment asks for.
    struct Plan {
        fault: Option<(Kind, u64)>,
        log: Option<PathBuf>,
    }

    static PLAN: LazyLock<Plan> = LazyLock::new(|| Plan {
        fault: std::env::var("TL_FAULT").ok().and_then(|text| {
            let (kind, step) = text.split_once('@')?;
            let kind = match kind {
                "kill" => Kind::Kill,
                "torn" => Kind::Torn,
                "power" => Kind::Power,
                "full" => Kind::Full(ENOSPC),
                "quota" => Kind::Full(EDQUOT),
                "io" => Kind::Io,
                _ => return None,
            };
            Some((kind, step.parse().ok()?))
        }),
        log: std::env::var_os("TL_FAULT_LOG").map(PathBuf::from),
    });

    /// What a power cut would take.
    #[derive(Default)]
    struct Unsynced {
        steps: u64,
        /// Path, offset and length of what was written.
        writes: Vec<(PathBuf, u64, u64)>,
        /// Old and new name of what was renamed, and a link to the file that the new name had stood for.
        names: Vec<(PathBuf, PathBuf, Option<PathBuf>)>,
    }

    static UNSYNCED: Mutex<Unsynced> = Mutex::new(Unsynced {
        steps: 0,
        writes: Vec::new(),
        names: Vec::new(),
    });

    fn unsynced() -> std::sync::MutexGuard<'static, Unsynced> {
        UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_power() -> bool {
        matches!(PLAN.fault, Some((Kind::Power, _)))
    }

    /// Counts a step; the fault that it is to have.
    fn count(what: &str, path: &Path) -> Option<Kind> {
        if PLAN.fault.is_none() && PLAN.log.is_none() {
            return None;
        }
        let mut state = unsynced();
        state.steps += 1;
        if let Some(log) = &PLAN.log
            && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(log)
        {
            let _ = writeln!(file, "{what} {}", path.display());
        }
        PLAN.fault
            .filter(|&(kind, at)| {
                state.steps == at || matches!(kind, Kind::Full(_)) && state.steps > at
            })
            .map(|(kind, _)| kind)
    }

    /// A path that a file is known by here, whatever the working folder.
    fn full(path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    /// A step that is whole or not done. `Torn` and `Power` come with the step after it.
    pub fn step(what: &str, path: &Path) -> Result<()> {
        match count(what, path) {
            None => Ok(()),
            Some(Kind::Full(_)) if matches!(what, "remove" | "open") => Ok(()),
            Some(Kind::Full(errno)) => Err(Error::from_raw_os_error(errno)),
            Some(Kind::Io) => Err(Error::from_raw_os_error(EIO)),
            Some(kind) => die(kind),
        }
    }

    pub fn sync(path: &Path) -> Result<()> {
        step("sync", path)
    }

    pub fn rename(from: &Path, to: &Path) -> Result<()> {
        match count("rename", to) {
            // A rename takes no space.
            None | Some(Kind::Full(_)) => {}
            Some(Kind::Io) => return Err(Error::from_raw_os_error(EIO)),
            Some(kind) => die(kind),
        }
        if is_power() {
            let (from, to) = (full(from), full(to));
            let kept = to.is_file().then(|| {
                let kept = to.with_added_extension("before-power-cut");
                let _ = fs::remove_file(&kept);
                let _ = fs::hard_link(&to, &kept);
                kept
            });
            unsynced().names.push((from, to, kept));
        }
        Ok(())
    }

    pub fn write(
        path: &Path,
        offset: u64,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let fault = count("write", path);
        if is_power() {
            let length = bytes.len() as u64;
            unsynced().writes.push((full(path), offset, length));
        }
        match fault {
            None => write(bytes),
            Some(Kind::Kill) => die(Kind::Kill),
            Some(Kind::Io) => Err(Error::from_raw_os_error(EIO)),
            Some(kind) => {
                write(&bytes[..bytes.len() / 2])?;
                match kind {
                    Kind::Full(errno) => Err(Error::from_raw_os_error(errno)),
                    kind => die(kind),
                }
            }
        }
    }

    /// The bytes of a file are safe.
    pub fn synced(path: &Path) {
        if is_power() {
            let path = full(path);
            unsynced().writes.retain(|(written, _, _)| *written != path);
        }
    }

    /// The names in a folder are safe.
    pub fn names_synced(folder: &Path) {
        if is_power() {
            let folder = full(folder);
            unsynced().names.retain(|(_, to, kept)| {
                let safe = parent(to) == folder;
                if let Some(kept) = kept.as_ref().filter(|_| safe) {
                    let _ = fs::remove_file(kept);
                }
                !safe
            });
        }
    }

    fn die(kind: Kind) -> ! {
        if kind == Kind::Power {
            let mut state = unsynced();
            // What was written and not synced is anything; here, zeros.
            for (path, offset, length) in state.writes.drain(..) {
                if let Ok(mut file) = OpenOptions::new().write(true).open(path) {
                    let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
                    let _ = file.seek(SeekFrom::Start(offset));
                    let _ = file.write_all(&zeros);
                }
            }
            for (from, to, kept) in state.names.drain(..).rev() {
                let _ = fs::rename(&to, &from);
                if let Some(kept) = kept {
                    let _ = fs::rename(kept, &to);
                }
            }
        }
        std::process::abort()
    }
}
