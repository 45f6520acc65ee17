//! Replaces a model's head, or the whole model: verified before and after the swap; the old model is restored if
//! anything is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneParams, MAX_ONNX_BYTES, hex_sha256};
use crate::disk::{is_there, read, remove_file, rename_synced, write_atomic};
use crate::error::Result;
use crate::progress::{Event, Progress};
use crate::saved_model::{DetachedHead, SavedModel, Verification, verify, verify_bytes};

/// Configuration of [`install`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstallConfig {
    /// A head, or a whole saved model.
    pub head: PathBuf,
    /// The saved model to replace.
    pub model: PathBuf,
    /// Name or path of the backbone, if `model` does not exist yet; by default the one that the head names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Result of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct InstallReport {
    /// Bytes of the head's file.
    pub head_bytes: u64,
    /// Bytes of the installed model.
    pub bytes: u64,
    /// SHA-256 of the installed model.
    pub sha256: String,
    /// Whether it is byte for byte the model from which the head was exported.
    pub same_file: bool,
    /// Verification of the installed file.
    pub verification: Verification,
}

/// Joins the head `config.head` and the backbone of `config.model`, verifies the result, and atomically replaces
/// `config.model`. If the new file does not verify, the old model is restored.
///
/// # Errors
/// [`crate::Error::Mismatch`] if the head belongs to another backbone; [`crate::Error::NotSame`] if the new model does
/// not give the recorded results; those of opening and writing. In all cases the old model stays in place.
pub fn install(config: &InstallConfig, progress: &Progress) -> Result<InstallReport> {
    let place = &config.model;
    let (bytes, same_as) = match DetachedHead::open(&config.head)? {
        Some(head) => {
            let model = match place.exists() {
                true => head.on_model(&SavedModel::open(place)?)?,
                false => head.on_base(&base_of(&head, config)?)?,
            };
            (model.graph().to_bytes(), head.model_sha256().to_owned())
        }
        None => {
            let bytes = read(&config.head, MAX_ONNX_BYTES)?;
            let sha256 = hex_sha256(&bytes);
            (bytes, sha256)
        }
    };
    let sha256 = hex_sha256(&bytes);
    verify_bytes(&bytes, place, None, &progress.muted())?.require_same(&config.head)?;
    let verification = swap(place, &bytes, |path| {
        let verification = verify(path, None, progress)?;
        verification.require_same(path)?;
        Ok(verification)
    })?;
    progress.emit(Event::Saved {
        path: place.clone(),
        bytes: bytes.len() as u64,
    });
    Ok(InstallReport {
        head_bytes: fs::metadata(&config.head).map_or(0, |facts| facts.len()),
        bytes: bytes.len() as u64,
        same_file: sha256 == same_as,
        sha256,
        verification,
    })
}

/// The backbone that the head was trained on, from this machine.
fn base_of(head: &DetachedHead, config: &InstallConfig) -> Result<Backbone> {
    let record = head.record();
    let wanted = &record.backbone;
    let model = match &config.base {
        Some(base) => base.clone(),
        None => record.base_source(&config.head)?,
    };
    Backbone::open(&BackboneParams {
        model,
        input_size: Some(wanted.input_size),
        cut: Some(wanted.cut.clone()),
        pool: Some(wanted.pool),
        prefix_tokens: wanted.prefix_tokens,
    })
}

/// Writes `bytes` to `place` and checks them there with `check`; if that fails, restores the previous file.
fn swap<T>(place: &Path, bytes: &[u8], check: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let mut previous = place.as_os_str().to_owned();
    previous.push(".previous");
    let previous = PathBuf::from(previous);
    let had = is_there(place);
    if had {
        remove_file(&previous)?;
        // A hard link to the same file; a copy where the file system has none. Neither follows a link that
        // has the name.
        if fs::hard_link(place, &previous).is_err() {
            write_atomic(&previous, &read(place, MAX_ONNX_BYTES)?)?;
        }
    }
    let checked = write_atomic(place, bytes).and_then(|()| check(place));
    match (&checked, had) {
        (Ok(_), true) => remove_file(&previous)?,
        (Ok(_), false) => {}
        (Err(_), true) => rename_synced(&previous, place)?,
        (Err(_), false) => remove_file(place)?,
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_does_not_verify_in_its_place_makes_room_for_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("model.onnx");
        let wrong = |path: &Path| -> Result<()> {
            assert_eq!(fs::read(path).unwrap(), b"new");
            Err(Error::Cancelled)
        };
        assert!(swap(&place, b"new", wrong).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        fs::write(&place, b"old").unwrap();
        assert!(swap(&place, b"new", wrong).is_err());
        assert_eq!(fs::read(&place).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        #[cfg(unix)]
        std::os::unix::fs::symlink(
            dir.path().join("victim"),
            dir.path().join("model.onnx.previous"),
        )
        .unwrap();
        swap(&place, b"new", |_| Ok(())).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
