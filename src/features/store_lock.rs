//! Ownership and locking of a store folder: one run at a time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use super::journal::{FRESH, OLD, PARTIAL};
use super::store::META;
use crate::disk::{self, create_folder, is_there, remove_folder};
use crate::error::{Error, Result};

const LOCK: &str = ".lock";

/// Takes the store's lock, which is released when this process ends in any way.
pub(super) fn open_and_lock(out: &Path) -> Result<File> {
    if is_foreign(out)? {
        return Err(Error::Store {
            path: out.to_owned(),
            problem: "this folder is not a feature store; give --out a new folder".into(),
        });
    }
    create_folder(out)?;
    lock_store(out)
}

/// Returns whether `out` is there and is neither a store, finished or not, nor what is left of the beginning of
/// one.
fn is_foreign(out: &Path) -> Result<bool> {
    if !is_there(out) {
        return Ok(false);
    }
    if !out.is_dir() {
        return Ok(true);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(out).map_err(Error::io("read", out))? {
        names.push(entry.map_err(Error::io("read", out))?.file_name());
    }
    let is_store = [META, PARTIAL, FRESH, OLD]
        .iter()
        .any(|own| names.iter().any(|name| name == own));
    let is_ours = |name: &OsString| {
        let ours = [LOCK, "run.toml", "events.jsonl"];
        ours.iter().any(|own| name == own)
    };
    Ok(!is_store && !names.iter().all(is_ours))
}

/// The lock of the store in the folder `out`.
pub(super) fn lock_store(out: &Path) -> Result<File> {
    disk::lock(&out.join(LOCK))?.ok_or_else(|| Error::InUse {
        path: out.to_owned(),
    })
}

/// Removes the feature store in `out`, if there is one.
///
/// # Errors
/// [`Error::Store`] if `out` is something else; [`Error::InUse`] if another run is using it; [`Error::Io`].
pub fn remove_store(out: &Path) -> Result<()> {
    if !is_there(out) {
        return Ok(());
    }
    if is_foreign(out)? {
        return Err(Error::Store {
            path: out.to_owned(),
            problem:
                "this is not a feature store, so --force does not remove it; use another folder"
                    .into(),
        });
    }
    let _lock = lock_store(out)?;
    remove_folder(out)
}
