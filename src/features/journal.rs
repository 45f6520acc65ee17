//! An unfinished store: the folder `partial` inside the store's folder.
//!
//! | file | what |
//! | --- | --- |
//! | `plan.json` | what is to be computed, [`Plan`]; written first, never changed |
//! | `features.npy` | space for one row per image of the plan, header included; `features-<cut>.npy` with several cuts |
//! | `journal.jsonl` | one [`Record`] per line for each finished row |
//! | `compact-*.npy` | the arrays without gaps, if some images have no row |
//! | `commit` | written when all final files are in this folder and synced |
//!
//! A row counts only when its record is in the journal, and a record is appended only after the row was
//! synced: a run that dies at any instant loses at most the rows since its last checkpoint. Once `commit`
//! is there, the files are renamed into the store's folder, by this run or the next.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::matrix::Dtype;
use super::npy;
use super::store::{ArrayMeta, ERRORS, FEATURES, INDEX, META, SourceFacts, array_bytes, is_array};
use super::view::View;
use crate::backbone::BackboneId;
use crate::dataset::Split;
use crate::disk::{
    DataFile, create_new_folder, is_there, parent, read_own, remove_file, remove_folder,
    rename_synced, sync_folder, write_atomic,
};
use crate::error::{Error, Result};

pub(super) const PARTIAL: &str = "partial";

/// A new `partial` being built, when the images changed since an unfinished run; it takes the rows of the old one, then
/// its name.
pub(super) const FRESH: &str = "partial.new";

/// The `partial` whose rows were copied to a new one; while it exists, the new one is complete.
pub(super) const OLD: &str = "partial.old";

/// Prefix of the names of arrays without gaps.
const COMPACT: &str = "compact-";

const PLAN: &str = "plan.json";
const JOURNAL: &str = "journal.jsonl";
const COMMIT: &str = "commit";

/// Maximum bytes of `plan.json`, and of a line of the journal: anything larger was not written by this program.
const MAX_PLAN_BYTES: u64 = 1 << 20;
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The final tables, in the order in which they get their names, after the arrays; `meta.json` comes
/// last and completes the store.
const TABLES: [&str; 3] = [INDEX, ERRORS, META];

/// An image that is to get a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub path: PathBuf,
    pub class: Option<usize>,
    pub split: Option<Split>,
    pub bytes: u64,
    pub modified_ns: i64,
}

/// The plan of an unfinished store.
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
    /// Number of images.
    pub pictures: usize,
    /// SHA-256 over the images' paths, sizes and times.
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

    /// The plan of the unfinished store in the folder `dir`; `None` if there is none that this program wrote.
    pub fn read(dir: &Path) -> Result<Option<Plan>> {
        let path = dir.join(PLAN);
        if !is_there(&path) {
            return Ok(None);
        }
        let text = read_own(&path, MAX_PLAN_BYTES)?;
        let plan = serde_json::from_slice::<Plan>(&text).ok();
        Ok(plan.filter(Plan::is_sound))
    }

    /// Returns whether its files are files of a store, each another, and of a size that a file can have.
    fn is_sound(&self) -> bool {
        let files = self.files();
        let pictures = self.pictures as u64;
        files.iter().enumerate().all(|(i, (name, shape))| {
            is_array(name)
                && files[..i].iter().all(|(other, _)| other != name)
                && array_bytes(pictures, shape, self.dtype).is_some()
        })
    }
}

/// SHA-256 over the images' paths, sizes and times, in their order.
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

/// The outcome for one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its place in the plan.
    pub slot: usize,
    /// Its path, for runs with another plan; `None` if it is not UTF-8.
    pub path: Option<String>,
    /// Its metadata, or why it has no row.
    pub outcome: std::result::Result<SourceFacts, String>,
}

/// The folder of an unfinished store, open for writing.
pub(super) struct Partial {
    dir: PathBuf,
    arrays: Vec<ArrayFile>,
    journal: DataFile,
    /// Bytes of complete lines in the journal.
    journal_bytes: u64,
    pending: Vec<Record>,
    /// One entry per image of the plan; `None` until it is done.
    outcomes: Vec<Option<std::result::Result<SourceFacts, String>>>,
}

/// The rows of an unfinished store of other images, for those that are the same.
pub(super) struct Leftover {
    arrays: Vec<ArrayFile>,
    rows: Vec<(PathBuf, SourceFacts)>,
    /// The place of each row in the arrays.
    slots: Vec<usize>,
}

impl Leftover {
    /// Opens the unfinished store in the folder `dir`, whose plan is `plan`; `None` if it is not usable.
    pub fn open(dir: &Path, plan: &Plan) -> Result<Option<Leftover>> {
        let mut found = BTreeMap::new();
        let take = |record: Record| {
            let is_planned = record.slot < plan.pictures;
            match (record.outcome, record.path) {
                (Ok(facts), Some(path)) if is_planned => {
                    found.insert(record.slot, (PathBuf::from(path), facts));
                }
                _ => drop(found.remove(&record.slot)),
            }
            is_planned
        };
        if read_journal(dir, take)?.is_none() {
            return Ok(None);
        }
        let arrays = ArrayFile::open_all(dir, plan)?;
        let (slots, rows) = found.into_iter().unzip();
        Ok(arrays.map(|arrays| Leftover {
            arrays,
            rows,
            slots,
        }))
    }

    /// Path and facts of each image that has a row.
    pub fn rows(&self) -> &[(PathBuf, SourceFacts)] {
        &self.rows
    }

    /// Reads the bytes of the row `place`, those of all arrays one after the other.
    pub fn read_row(&mut self, place: usize, row: &mut Vec<u8>) -> Result<()> {
        row.resize(self.arrays.iter().map(|array| array.row_bytes).sum(), 0);
        let mut rest = &mut row[..];
        for array in &mut self.arrays {
            let (own, others) = rest.split_at_mut(array.row_bytes);
            let offset = array.offset(self.slots[place]);
            array.file.read_at(offset, own)?;
            rest = others;
        }
        Ok(())
    }
}

/// The file of one array: the header, then space for one row per image of the plan.
struct ArrayFile {
    name: String,
    file: DataFile,
    /// Bytes of one row.
    row_bytes: usize,
}

impl ArrayFile {
    /// Opens the file, or creates it.
    fn create(dir: &Path, name: &str, shape: &[usize], dtype: Dtype) -> Result<ArrayFile> {
        let (folder, below) = split(dir, name);
        Ok(ArrayFile {
            name: name.to_owned(),
            file: DataFile::open_below(folder, &below)?,
            row_bytes: shape.iter().product::<usize>() * dtype.bytes(),
        })
    }

    /// Opens the files of an unfinished store; `None` if one is not there, or not as long as `plan` says.
    fn open_all(dir: &Path, plan: &Plan) -> Result<Option<Vec<ArrayFile>>> {
        let mut arrays = Vec::new();
        for (name, shape) in plan.files() {
            let (folder, below) = split(dir, name);
            let Some(file) = DataFile::open_existing(folder, &below)? else {
                return Ok(None);
            };
            if Some(file.len()?) != array_bytes(plan.pictures as u64, shape, plan.dtype) {
                return Ok(None);
            }
            arrays.push(ArrayFile {
                name: name.to_owned(),
                file,
                row_bytes: shape.iter().product::<usize>() * plan.dtype.bytes(),
            });
        }
        Ok(Some(arrays))
    }

    fn offset(&self, slot: usize) -> u64 {
        npy::HEADER_BYTES as u64 + slot as u64 * self.row_bytes as u64
    }
}

/// The folder of the store, and the file `name` of the folder `dir` in it, for opening; `dir` must not be a link.
fn split<'a>(dir: &'a Path, name: &str) -> (&'a Path, PathBuf) {
    let own = Path::new(dir.file_name().unwrap_or_default());
    (parent(dir), own.join(name))
}

/// Opens the journal in the folder `dir`; passes each of its records to `take` until that says no. The number of
/// bytes in whole lines that were taken; `None` if there is no journal.
fn read_journal(
    dir: &Path,
    mut take: impl FnMut(Record) -> bool,
) -> Result<Option<(DataFile, u64)>> {
    let (folder, below) = split(dir, JOURNAL);
    let Some(mut journal) = DataFile::open_existing(folder, &below)? else {
        return Ok(None);
    };
    let fail = |e| Error::io("read", dir.join(JOURNAL))(e);
    let mut reader = BufReader::new(journal.reader()?);
    let (mut valid, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let mut bounded = std::io::Read::take(&mut reader, MAX_LINE_BYTES);
        let count = bounded.read_until(b'\n', &mut line).map_err(fail)? as u64;
        // A kill or power cut may have truncated the last line; all lines before it are valid.
        let whole = line.ends_with(b"\n");
        let record = serde_json::from_slice::<Record>(&line).ok();
        if !whole || !record.is_some_and(&mut take) {
            break;
        }
        valid += count;
    }
    drop(reader);
    Ok(Some((journal, valid)))
}

impl Partial {
    /// Starts an unfinished store in the folder `dir`, which is created or replaced.
    pub fn create(dir: PathBuf, plan: &Plan) -> Result<Partial> {
        remove_folder(&dir)?;
        create_new_folder(&dir)?;
        let mut arrays = Vec::new();
        for (name, shape) in plan.files() {
            let mut array = ArrayFile::create(&dir, name, shape, plan.dtype)?;
            let header = npy::header(plan.dtype, plan.pictures as u64, shape);
            array.file.write_at(0, &header)?;
            array.file.reserve(array.offset(plan.pictures))?;
            array.file.sync()?;
            arrays.push(array);
        }
        let (folder, below) = split(&dir, JOURNAL);
        let journal = DataFile::open_below(folder, &below)?;
        let json = serde_json::to_vec_pretty(plan).unwrap_or_default();
        write_atomic(&dir.join(PLAN), &json)?;
        Ok(Partial {
            dir,
            arrays,
            journal,
            journal_bytes: 0,
            pending: Vec::new(),
            outcomes: vec![None; plan.pictures],
        })
    }

    /// Opens the unfinished store in the folder `dir`, whose plan is `plan`, to continue with it; `None` if it is not
    /// usable. The caller's dataset has as many images as the plan: so no size comes from an untrusted number.
    pub fn open(dir: PathBuf, plan: &Plan) -> Result<Option<Partial>> {
        let mut outcomes = vec![None; plan.pictures];
        let take = |record: Record| match outcomes.get_mut(record.slot) {
            Some(outcome) => {
                *outcome = Some(record.outcome);
                true
            }
            None => false,
        };
        let Some((mut journal, journal_bytes)) = read_journal(&dir, take)? else {
            return Ok(None);
        };
        let Some(arrays) = ArrayFile::open_all(&dir, plan)? else {
            return Ok(None);
        };
        if journal_bytes < journal.len()? {
            journal.set_len(journal_bytes)?;
        }
        Ok(Some(Partial {
            dir,
            arrays,
            journal,
            journal_bytes,
            pending: Vec::new(),
            outcomes,
        }))
    }

    /// Outcomes by position in the plan; `None` until the image is done.
    pub fn outcomes(&self) -> &[Option<std::result::Result<SourceFacts, String>>] {
        &self.outcomes
    }

    /// Records that the folder was renamed.
    pub fn moved_to(&mut self, dir: PathBuf) {
        for array in &mut self.arrays {
            array.file.moved_to(dir.join(&array.name));
        }
        self.journal.moved_to(dir.join(JOURNAL));
        self.dir = dir;
    }

    /// Writes a row's bytes, those of all arrays one after the other; it counts from the next
    /// [`checkpoint`](Self::checkpoint) on.
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

    /// Notes that an image has no row; counts from the next [`checkpoint`](Self::checkpoint) on.
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
        // At the end of the complete lines: the remains of a failed write are overwritten.
        self.journal.write_at(self.journal_bytes, &lines)?;
        self.journal.sync()?;
        self.journal_bytes += lines.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Builds the final files: drops the gaps of images without a row, writes the tables.
    /// After this the store can no longer be lost.
    pub fn commit(mut self, plan: &Plan, index: &[u8], errors: &[u8], meta: &[u8]) -> Result<()> {
        self.checkpoint()?;
        let kept: Vec<usize> = (0..plan.pictures)
            .filter(|&slot| matches!(self.outcomes[slot], Some(Ok(_))))
            .collect();
        for ((name, shape), array) in plan.files().into_iter().zip(&mut self.arrays) {
            let path = self.dir.join(format!("{COMPACT}{name}"));
            // One from a run that died here may have other rows.
            remove_file(&path)?;
            if kept.len() < plan.pictures {
                let (folder, below) = split(&self.dir, &format!("{COMPACT}{name}"));
                let file = DataFile::open_below(folder, &below)?;
                compact(file, (plan.dtype, shape), array, &kept)?;
            }
        }
        write_atomic(&self.dir.join(INDEX), index)?;
        write_atomic(&self.dir.join(ERRORS), errors)?;
        write_atomic(&self.dir.join(META), meta)?;
        write_atomic(&self.dir.join(COMMIT), b"")
    }
}

/// Copies the rows that are kept into a new, empty file. The array itself stays as it is: a run that dies before
/// `commit` is written continues with it.
fn compact(
    mut file: DataFile,
    (dtype, shape): (Dtype, &[usize]),
    array: &mut ArrayFile,
    kept: &[usize],
) -> Result<()> {
    const WRITTEN_AT_ONCE: usize = 1 << 20;
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

/// Returns whether the final files of a store all stand in `partial`.
pub(super) fn is_committed(dir: &Path) -> bool {
    dir.join(PARTIAL).join(COMMIT).exists()
}

/// Finishes a store that [`is_committed`]: renames its files into `dir`. The caller holds its lock.
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
        let is_ours = |name: &String| is_array(name.strip_prefix(COMPACT).unwrap_or(name));
        Ok(names.filter(is_ours).collect())
    };
    if fs::symlink_metadata(&partial).is_ok_and(|facts| facts.is_symlink()) {
        return Err(Error::Store {
            path: dir.to_owned(),
            problem: format!(
                "its folder {PARTIAL} is a link, and links are not followed; remove it"
            ),
        });
    }
    // An array with a compact version is obsolete, and must not be mistaken for it after the rename.
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
        if is_there(&from) {
            rename_synced(&from, &to)?;
        }
    }
    remove_folder(&partial)
}
