//! Weights that an ONNX file keeps in other files beside it, as PyTorch's exporter writes them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

use crate::disk::{open_to_read, stays_below};
use crate::error::{Error, Result};

/// Puts the weights that are kept in files of `folder` into the model; says whether there were any. `name`
/// stands for the model in error messages.
///
/// The place of a weight is `location` (a path below the folder), `offset` and `length` in bytes, as the ONNX
/// specification (`onnx.proto`, `external_data`) has them. No more bytes are read than the files have.
///
/// # Errors
/// [`Error::Model`] if a location is not below `folder`, or if a file has fewer bytes than it should.
pub(super) fn inline(model: &mut pb::ModelProto, folder: &Path, name: &str) -> Result<bool> {
    let graph = model.graph.iter_mut();
    let mut files: HashMap<PathBuf, DataFile> = HashMap::new();
    let mut has_some = false;
    for tensor in graph.flat_map(|graph| &mut graph.initializer) {
        if tensor.data_location != Some(DataLocation::External as i32) {
            continue;
        }
        let values = read(tensor, folder, &mut files).map_err(|problem| Error::Model {
            model: name.to_owned(),
            problem: format!(
                "the weights of `{}` are in another file, {problem}",
                tensor.name
            ),
        })?;
        tensor.raw_data = values;
        tensor.external_data.clear();
        tensor.data_location = None;
        has_some = true;
    }
    Ok(has_some)
}

/// A file of weights, open.
struct DataFile {
    file: File,
    length: u64,
    /// Bytes that may still be asked for: no weight is there twice.
    left: u64,
}

fn read(
    tensor: &pb::TensorProto,
    folder: &Path,
    files: &mut HashMap<PathBuf, DataFile>,
) -> std::result::Result<Vec<u8>, String> {
    let entry = |key: &str| {
        let entry = tensor.external_data.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    };
    let number = |key: &str| match entry(key).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(format!("whose `{key}` is no number")),
    };
    let location = entry("location").ok_or("which is not named")?;
    let path = below(folder, location)?;
    if !files.contains_key(&path) {
        let unreadable = |e| format!("{}, which cannot be read: {e}", path.display());
        let (file, facts) = open_to_read(&path).map_err(unreadable)?;
        let length = facts.len();
        let left = length;
        files.insert(path.clone(), DataFile { file, length, left });
    }
    let data = files.get_mut(&path).ok_or("which is not open")?;
    let offset = number("offset")?.unwrap_or(0);
    let rest = data.length.saturating_sub(offset);
    let length = number("length")?.unwrap_or(rest);
    if length > rest || length > data.left {
        return Err(format!(
            "{}, which is too short; get it again",
            path.display()
        ));
    }
    data.left -= length;
    let mut values = vec![0; usize::try_from(length).map_err(|e| e.to_string())?];
    data.file
        .seek(SeekFrom::Start(offset))
        .and_then(|_| data.file.read_exact(&mut values))
        .map_err(|e| format!("{}, which cannot be read: {e}", path.display()))?;
    Ok(values)
}

/// The file `location` of `folder`, links followed.
fn below(folder: &Path, location: &str) -> std::result::Result<PathBuf, String> {
    let relative = Path::new(location);
    let outside = || format!("{location:?}, which is not in the model's folder");
    if location.is_empty() || !stays_below(relative) {
        return Err(outside());
    }
    let missing =
        |e| format!("{location:?}, which is not beside it ({e}); put both into one folder");
    let path = fs::canonicalize(folder.join(relative)).map_err(missing)?;
    let folder = fs::canonicalize(folder).map_err(missing)?;
    match path.starts_with(folder) && path.is_file() {
        true => Ok(path),
        false => Err(outside()),
    }
}
