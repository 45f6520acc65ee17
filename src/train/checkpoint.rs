//! A checkpoint of fine-tuning: one file, complete or absent.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `tl-tune2` |
//! | 8 | length of the header, little-endian |
//! | … | the header, JSON |
//! | … | tensors, f32 little-endian, one after another, with the lengths that the header says |

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{is_there, open_own_to_read, write_atomic};
use crate::error::{Error, Result};
use crate::progress::EpochStats;

/// Maximum bytes of the header: epochs, and two numbers for each feature.
const MAX_HEADER_BYTES: u64 = 1 << 28;

const MAGIC: &[u8; 8] = b"tl-tune2";

/// Everything in a checkpoint except its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Identifies the run: another run's checkpoint is not used.
    pub fingerprint: String,
    /// Number of finished joint epochs.
    pub epoch: usize,
    /// Number of optimiser steps so far.
    pub steps: i32,
    /// The best epoch so far; 0 is the head alone.
    pub best_epoch: usize,
    /// Score of the best epoch; `None` before the first.
    pub best_value: Option<f32>,
    /// Epochs of the head alone.
    pub warmup: Vec<EpochStats>,
    /// Epoch that the head alone was taken from.
    pub warmup_best: usize,
    /// Joint epochs.
    pub history: Vec<EpochStats>,
    /// Bits of the mean, then of the scale, of each feature, as f64.
    pub standardizer: Vec<u64>,
    /// Lengths of the tensors.
    pub lengths: Vec<usize>,
}

/// Writes a checkpoint, replacing an earlier one.
pub(super) fn write(path: &Path, header: &Header, tensors: &[&[f32]]) -> Result<()> {
    let mut header = header.clone();
    header.lengths = tensors.iter().map(|t| t.len()).collect();
    let json = serde_json::to_vec(&header).unwrap_or_default();
    let values: usize = header.lengths.iter().sum();
    let mut bytes = Vec::with_capacity(16 + json.len() + 4 * values);
    bytes.extend(MAGIC);
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(&json);
    for tensor in tensors {
        bytes.extend(tensor.iter().flat_map(|v| v.to_le_bytes()));
    }
    write_atomic(path, &bytes)
}

/// Reads the checkpoint `path` of the run `fingerprint`; `None` if there is none, or one of another run.
pub(super) fn read(path: &Path, fingerprint: &str) -> Result<Option<(Header, Vec<Vec<f32>>)>> {
    if !is_there(path) {
        return Ok(None);
    }
    open_own_to_read(path)
        .and_then(|file| {
            let bytes = file.metadata()?.len();
            parse(file, bytes, fingerprint)
        })
        .map_err(Error::io("read", path))
}

/// Reads a file of `bytes` bytes. Its sizes are trusted only if they add up to that, and its tensors are read
/// only if it is of the run `fingerprint`.
fn parse(
    mut file: impl Read,
    bytes: u64,
    fingerprint: &str,
) -> io::Result<Option<(Header, Vec<Vec<f32>>)>> {
    let mut start = [0; 16];
    if bytes < 16 {
        return Ok(None);
    }
    file.read_exact(&mut start)?;
    let (magic, length) = start.split_at(8);
    let length = length
        .iter()
        .rev()
        .fold(0, |sum, &b| sum << 8 | u64::from(b));
    if magic != MAGIC || length > MAX_HEADER_BYTES.min(bytes - 16) {
        return Ok(None);
    }
    let mut json = Vec::new();
    file.by_ref().take(length).read_to_end(&mut json)?;
    let header = serde_json::from_slice::<Header>(&json).ok();
    let Some(header) = header.filter(|header| header.fingerprint == fingerprint) else {
        return Ok(None);
    };
    let values = header.lengths.iter().try_fold(0u64, |sum, &length| {
        sum.checked_add(u64::try_from(length).ok()?)
    });
    if values.and_then(|values| values.checked_mul(4)) != Some(bytes - 16 - length) {
        return Ok(None);
    }
    let mut tensors = Vec::with_capacity(header.lengths.len());
    for &length in &header.lengths {
        let mut tensor = vec![0; 4 * length];
        file.read_exact(&mut tensor)?;
        let (values, _) = tensor.as_chunks::<4>();
        tensors.push(values.iter().map(|b| f32::from_le_bytes(*b)).collect());
    }
    Ok(Some((header, tensors)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn comes_back_as_it_was_and_only_to_its_own_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let header = Header {
            fingerprint: "a".into(),
            epoch: 3,
            best_value: Some(0.1),
            standardizer: vec![0.1f64.to_bits()],
            ..Header::default()
        };
        assert!(read(&path, "a").unwrap().is_none());
        write(&path, &header, &[&[1.5, -2.0], &[], &[3.25]]).unwrap();
        let (found, tensors) = read(&path, "a").unwrap().unwrap();
        assert_eq!(tensors, [vec![1.5, -2.0], vec![], vec![3.25]]);
        assert_eq!(found.lengths, [2, 0, 1]);
        assert_eq!((found.epoch, found.best_value), (3, Some(0.1)));
        assert!(read(&path, "b").unwrap().is_none());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path, "a").unwrap().is_none());
    }
}
