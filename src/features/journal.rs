//! An unfinished store: the folder `partial` inside the store's folder.
//!
//! | file | what |
//! | --- | --- |
//! | `plan.json` | what is to be computed, [`Plan`]; written first, never changed |
//! | `features.npy` | room for a row for every picture of the plan, header included; `features-<cut>.npy` with several cuts |
//! | `journal.jsonl` | one [`Record`] a line for each row that is done |
//! | `compact-*.npy` | the arrays without the places of pictures that have no row, where there are such |
//! | `commit` | written when all final files stand in this folder, synced |
//!
//! A row counts only when its record is in the journal, and a record is appended only after the row was
//! synced: a run that dies at any instant loses at most the rows since its last checkpoint. Once `commit`
//! is there, the files are renamed into the store's folder, by this run or the next.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::matrix::Dtype;
use super::npy;
use super::store::{ArrayMeta, ERRORS, FEATURES, INDEX, META, SourceFacts};
use super::view::View;
use crate::backbone::BackboneId;
use crate::dataset::Split;
use crate::disk::{
    DataFile, create_folder, remove_file, remove_folder, rename_synced, sync_folder, write_atomic,
};
use crate::error::{Error, Result};

pub(super) const PARTIAL: &str = "partial";

/// A new `partial` in the making, when the pictures changed since an unfinished run; it takes the rows of
/// the old one, then its name.
pub(super) const FRESH: &str = "partial.new";

/// The `partial` that gave its rows to a new one; while it is there, the new one is whole.
pub(super) const OLD: &str = "partial.old";

/// Before the names of arrays without gaps.
const COMPACT: &str = "compact-";

const PLAN: &str = "plan.json";
const JOURNAL: &str = "journal.jsonl";
const COMMIT: &str = "commit";

/// The final tables, in the order in which they get their names, behind the arrays; `meta.json` last makes
/// the store whole.
const TABLES: [&str; 3] = [INDEX, ERRORS, META];

/// A picture that is to get a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub path: PathBuf,
    pub class: Option<usize>,
    pub split: Option<Split>,
    pub bytes: u64,
    pub modified_ns: i64,
}

/// What an unfinished store is to become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub format_version: u32,
    pub backbone: BackboneId,
    pub feature_shape: Vec<usize>,
    /// As in [`super::store::StoreMeta::arrays`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayMeta>,
    pub dtype: Dtype,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// Number of pictures.
    pub pictures: usize,
    /// SHA-256 over the pictures' paths, sizes and times.
    pub digest: String,
}

impl Plan {
    /// File and shape of a row of each array.
    fn files(&self) -> Vec<(&str, &[usize])> {
        if self.arrays.is_empty() {
            return vec![(FEATURES, &self.feature_shape)];
        }
        let arrays = self.arrays.iter();
        arrays.map(|a| (a.file.as_str(), &a.shape[..])).collect()
    }
}

/// SHA-256 over the pictures' paths, sizes and times, in their order.
pub(super) fn digest(pictures: &[Planned]) -> String {
    let mut hash = Sha256::new();
    for picture in pictures {
        let path = picture.path.as_os_str().as_encoded_bytes();
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update(picture.bytes.to_le_bytes());
        hash.update(picture.modified_ns.to_le_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// How one picture ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its place in the plan.
    pub slot: usize,
    /// Its path, for runs with another plan; none if it is not UTF-8.
    pub path: Option<String>,
    /// Its facts, or why it has no row.
    pub outcome: std::result::Result<SourceFacts, String>,
}

/// The folder of an unfinished store, open for writing.
pub(super) struct Partial {
    dir: PathBuf,
    arrays: Vec<ArrayFile>,
    journal: DataFile,
    /// Bytes of the journal that are whole lines.
    journal_bytes: u64,
    pending: Vec<Record>,
    /// One entry for each picture of the plan; none while it is to be done.
    outcomes: Vec<Option<std::result::Result<SourceFacts, String>>>,
    /// The pictures' paths as far as the journal has them.
    paths: Vec<Option<String>>,
}

/// The file of one array: the header, then room for a row for every picture of the plan.
struct ArrayFile {
    name: String,
    file: DataFile,
    /// Bytes of one row.
    row_bytes: usize,
}

impl ArrayFile {
    fn open(dir: &Path, name: &str, shape: &[usize], dtype: Dtype) -> Result<ArrayFile> {
        Ok(ArrayFile {
            name: name.to_owned(),
            file: DataFile::open(dir.join(name))?,
            row_bytes: shape.iter().product::<usize>() * dtype.bytes(),
        })
    }

    fn offset(&self, slot: usize) -> u64 {
        npy::HEADER_BYTES as u64 + (slot * self.row_bytes) as u64
    }
}

impl Partial {
    /// Starts an unfinished store in the folder `dir`, which is made, or replaced.
    pub fn create(dir: PathBuf, plan: &Plan) -> Result<Partial> {
        remove_folder(&dir)?;
        create_folder(&dir)?;
        let mut arrays = Vec::new();
        for (name, shape) in plan.files() {
            let mut array = ArrayFile::open(&dir, name, shape, plan.dtype)?;
            let header = npy::header(plan.dtype, plan.pictures as u64, shape);
            array.file.write_at(0, &header)?;
            array.file.reserve(array.offset(plan.pictures))?;
            array.file.sync()?;
            arrays.push(array);
        }
        let journal = DataFile::open(dir.join(JOURNAL))?;
        let json = serde_json::to_vec_pretty(plan).unwrap_or_default();
        write_atomic(&dir.join(PLAN), &json)?;
        Ok(Partial {
            dir,
            arrays,
            journal,
            journal_bytes: 0,
            pending: Vec::new(),
            outcomes: vec![None; plan.pictures],
            paths: vec![None; plan.pictures],
        })
    }

    /// Opens the unfinished store in the folder `dir` to go on with it; none if there is no usable one.
    pub fn open(dir: PathBuf) -> Result<Option<(Partial, Plan)>> {
        let Ok(text) = fs::read(dir.join(PLAN)) else {
            return Ok(None);
        };
        let Ok(plan) = serde_json::from_slice::<Plan>(&text) else {
            return Ok(None);
        };
        let mut journal = DataFile::open(dir.join(JOURNAL))?;
        let text = journal.read_all()?;
        let mut outcomes = vec![None; plan.pictures];
        let mut paths = vec![None; plan.pictures];
        let mut valid = 0;
        for line in text.split_inclusive(|&b| b == b'\n') {
            // The last line may be torn by a kill or a power cut: all before it stand.
            let whole = line.ends_with(b"\n");
            let Some(record) = serde_json::from_slice::<Record>(line)
                .ok()
                .filter(|r| whole && r.slot < outcomes.len())
            else {
                break;
            };
            valid += line.len() as u64;
            outcomes[record.slot] = Some(record.outcome);
            paths[record.slot] = record.path;
        }
        if valid < text.len() as u64 {
            journal.set_len(valid)?;
        }
        let mut arrays = Vec::new();
        for (name, shape) in plan.files() {
            let array = ArrayFile::open(&dir, name, shape, plan.dtype)?;
            if array.file.len()? != array.offset(plan.pictures) {
                return Ok(None);
            }
            arrays.push(array);
        }
        let partial = Partial {
            dir,
            arrays,
            journal,
            journal_bytes: valid,
            pending: Vec::new(),
            outcomes,
            paths,
        };
        Ok(Some((partial, plan)))
    }

    /// Outcomes by place in the plan; none while a picture is to be done.
    pub fn outcomes(&self) -> &[Option<std::result::Result<SourceFacts, String>>] {
        &self.outcomes
    }

    /// Path and facts of each picture of the plan; empty where there is no row.
    pub fn rows(&self) -> Vec<(PathBuf, SourceFacts)> {
        let known = self.outcomes.iter().zip(&self.paths);
        known
            .map(|pair| match pair {
                (Some(Ok(facts)), Some(path)) => (PathBuf::from(path), facts.clone()),
                _ => (PathBuf::new(), SourceFacts::default()),
            })
            .collect()
    }

    /// Tells that the folder was renamed.
    pub fn moved_to(&mut self, dir: PathBuf) {
        for array in &mut self.arrays {
            array.file.moved_to(dir.join(&array.name));
        }
        self.journal.moved_to(dir.join(JOURNAL));
        self.dir = dir;
    }

    /// Reads a row's bytes, those of all arrays one behind the other.
    pub fn read_row(&mut self, slot: usize, row: &mut Vec<u8>) -> Result<()> {
        row.resize(self.arrays.iter().map(|array| array.row_bytes).sum(), 0);
        let mut rest = &mut row[..];
        for array in &mut self.arrays {
            let (own, others) = rest.split_at_mut(array.row_bytes);
            let offset = array.offset(slot);
            array.file.read_at(offset, own)?;
            rest = others;
        }
        Ok(())
    }

    /// Writes a row's bytes, those of all arrays one behind the other; it counts from the next [`checkpoint`](Self::checkpoint) on.
    pub fn write_row(
        &mut self,
        slot: usize,
        path: &Path,
        row: &[u8],
        facts: SourceFacts,
    ) -> Result<()> {
        let mut rest = row;
        for array in &mut self.arrays {
            let (own, others) = rest.split_at(array.row_bytes);
            let offset = array.offset(slot);
            array.file.write_at(offset, own)?;
            rest = others;
        }
        self.note(slot, path, Ok(facts));
        Ok(())
    }

    /// Notes that a picture has no row; counts from the next [`checkpoint`](Self::checkpoint) on.
    pub fn skip(&mut self, slot: usize, path: &Path, reason: String) {
        self.note(slot, path, Err(reason));
    }

    fn note(
        &mut self,
        slot: usize,
        path: &Path,
        outcome: std::result::Result<SourceFacts, String>,
    ) {
        self.outcomes[slot] = Some(outcome.clone());
        let path = path.to_str().map(str::to_owned);
        self.pending.push(Record {
            slot,
            path,
            outcome,
        });
    }

    /// Syncs the rows, then their records.
    pub fn checkpoint(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        for array in &mut self.arrays {
            array.file.sync()?;
        }
        let mut lines = Vec::new();
        for record in &self.pending {
            // A record of plain data always serialises.
            lines.extend(serde_json::to_vec(record).unwrap_or_default());
            lines.push(b'\n');
        }
        // At the end of the whole lines: what a write that failed left behind is written over.
        self.journal.write_at(self.journal_bytes, &lines)?;
        self.journal.sync()?;
        self.journal_bytes += lines.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Puts the final files together: drops the places of pictures without a row, writes the tables.
    /// After this the store is finished as far as anybody can lose it.
    pub fn commit(mut self, plan: &Plan, index: &[u8], errors: &[u8], meta: &[u8]) -> Result<()> {
        self.checkpoint()?;
        let kept: Vec<usize> = (0..plan.pictures)
            .filter(|&slot| matches!(self.outcomes[slot], Some(Ok(_))))
            .collect();
        for ((name, shape), array) in plan.files().into_iter().zip(&mut self.arrays) {
            let path = self.dir.join(format!("{COMPACT}{name}"));
            // One of a run that died here may have other rows.
            remove_file(&path)?;
            if kept.len() < plan.pictures {
                compact(path, (plan.dtype, shape), array, &kept)?;
            }
        }
        write_atomic(&self.dir.join(INDEX), index)?;
        write_atomic(&self.dir.join(ERRORS), errors)?;
        write_atomic(&self.dir.join(META), meta)?;
        write_atomic(&self.dir.join(COMMIT), b"")
    }
}

/// Copies the rows that are kept into a new file. The array itself stays as it is: a run that dies before
/// `commit` is written goes on with it.
fn compact(
    path: PathBuf,
    (dtype, shape): (Dtype, &[usize]),
    array: &mut ArrayFile,
    kept: &[usize],
) -> Result<()> {
    const WRITTEN_AT_ONCE: usize = 1 << 20;
    let mut file = DataFile::open(path)?;
    let mut held = npy::header(dtype, kept.len() as u64, shape).to_vec();
    let mut written = 0;
    let mut row = vec![0; array.row_bytes];
    for &slot in kept {
        array.file.read_at(array.offset(slot), &mut row)?;
        held.extend_from_slice(&row);
        if held.len() >= WRITTEN_AT_ONCE {
            file.write_at(written, &held)?;
            written += held.len() as u64;
            held.clear();
        }
    }
    file.write_at(written, &held)?;
    file.sync()
}

/// Tells whether the final files of a store all stand in `partial`.
pub(super) fn is_committed(dir: &Path) -> bool {
    dir.join(PARTIAL).join(COMMIT).exists()
}

/// Finishes a store that [`is_committed`]: renames its files into `dir`. Whoever calls holds its lock.
pub(super) fn roll_forward(dir: &Path) -> Result<()> {
    if !is_committed(dir) {
        return Ok(());
    }
    let partial = dir.join(PARTIAL);
    let names = || -> Result<Vec<String>> {
        let entries = fs::read_dir(&partial).map_err(Error::io("read", &partial))?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name.ends_with(".npy")).collect())
    };
    // An array that has a compact one is of no more use, and must not be taken for it once that has its name.
    for name in names()?
        .iter()
        .filter_map(|name| name.strip_prefix(COMPACT))
    {
        remove_file(&partial.join(name))?;
    }
    sync_folder(&partial)?;
    for name in names()?.into_iter().chain(TABLES.map(str::to_owned)) {
        let from = partial.join(&name);
        let to = dir.join(name.strip_prefix(COMPACT).unwrap_or(&name));
        if from.exists() {
            rename_synced(&from, &to)?;
        }
    }
    remove_folder(&partial)
}
