//! Loads external weights: those in other files beside an ONNX file, as PyTorch's exporter writes them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

use super::functions::Function;
use crate::backbone::check::value_bytes;
use crate::backbone::memory::{free_bytes, gigabytes};
use crate::backbone::onnx::walk::each_constant_mut;
use crate::disk::{open_to_read, stays_below};
use crate::error::{Error, Result, shown};
use crate::foreign::system_error;

/// Weights may be the same bytes of a file, as tied ones are: they may have this many times the bytes of their files.
const MOST_SHARED: u64 = 8;
/// Or this many bytes in all.
const FEW_BYTES: u64 = 1 << 28;
/// Maximum values of one weight, as of every tensor.
const MOST_VALUES: u64 = 1 << 28;

/// Loads the weights in files of `folder` into the model, including those of `Constant` nodes, subgraphs and `functions`;
/// returns whether there were any. `name` is the model's name in error messages.
///
/// The place of a weight is `location` (a path below the folder), `offset` and `length` in bytes, as in the ONNX
/// specification (`onnx.proto`, `external_data`).
///
/// # Errors
/// [`Error::Model`] if a location is not below `folder`, if a file has fewer bytes than it should, or if the weights
/// have many more bytes than their files.
pub(super) fn inline(
    model: &mut pb::ModelProto,
    functions: &mut [Function],
    folder: &Path,
    name: &str,
) -> Result<bool> {
    let mut files: HashMap<PathBuf, DataFile> = HashMap::new();
    let mut wanted: u64 = 0;
    each_external(model, functions, name, &mut |tensor| {
        let place = Place::of(tensor, folder, &mut files)?;
        wanted = wanted.saturating_add(place.length);
        Ok(())
    })?;
    let there = files
        .values()
        .fold(0_u64, |sum, f| sum.saturating_add(f.length));
    if wanted > there.saturating_mul(MOST_SHARED).max(FEW_BYTES) {
        return Err(Error::Model {
            model: name.to_owned(),
            problem: format!(
                "its weights need {wanted} bytes from files that have {there}: the file is damaged; download it again"
            ),
        });
    }
    // They are held as they are read, and again in the graph that is made of them.
    let needed = wanted.saturating_mul(2);
    if let Some(free) = free_bytes().filter(|&free| needed > free) {
        return Err(Error::Model {
            model: name.to_owned(),
            problem: format!(
                "its weights in other files need {} of memory, and {} are free",
                gigabytes(needed),
                gigabytes(free)
            ),
        });
    }
    each_external(model, functions, name, &mut |tensor| {
        tensor.raw_data = Place::of(tensor, folder, &mut files)?.read(&mut files)?;
        tensor.external_data.clear();
        tensor.data_location = None;
        Ok(())
    })?;
    Ok(!files.is_empty())
}

/// Calls `visit` on every weight and constant that is kept in another file; a clause of it becomes an error.
fn each_external(
    model: &mut pb::ModelProto,
    functions: &mut [Function],
    name: &str,
    visit: &mut impl FnMut(&mut pb::TensorProto) -> std::result::Result<(), String>,
) -> Result<()> {
    let mut checked = |which: &str, tensor: &mut pb::TensorProto| {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        visit(tensor).map_err(|problem| Error::Model {
            model: name.to_owned(),
            problem: format!("the weights of `{which}` are in another file, {problem}"),
        })
    };
    for graph in model.graph.iter_mut() {
        for tensor in &mut graph.initializer {
            checked(&tensor.name.clone(), tensor)?;
        }
        each_constant_mut(&mut graph.node, &mut checked)?;
    }
    for function in functions {
        each_constant_mut(&mut function.nodes, &mut checked)?;
    }
    Ok(())
}

/// A file of weights, open.
struct DataFile {
    file: File,
    length: u64,
}

/// Where the bytes of a weight are.
struct Place {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Place {
    fn of(
        tensor: &pb::TensorProto,
        folder: &Path,
        files: &mut HashMap<PathBuf, DataFile>,
    ) -> std::result::Result<Place, String> {
        let entry = |key: &str| {
            let entry = tensor.external_data.iter().find(|entry| entry.key == key);
            entry.map(|entry| entry.value.as_str())
        };
        let number = |key: &str| match entry(key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(format!("whose `{key}` is not a number")),
        };
        let location = entry("location").ok_or("which is not named")?;
        let path = below(folder, location)?;
        let whole = match files.get(&path) {
            Some(file) => file.length,
            None => {
                let unreadable = |e| {
                    format!(
                        "{}, which cannot be read: {}",
                        shown(&path),
                        system_error(&e)
                    )
                };
                let (file, facts) = open_to_read(&path).map_err(unreadable)?;
                let length = facts.len();
                files.insert(path.clone(), DataFile { file, length });
                length
            }
        };
        let offset = number("offset")?.unwrap_or(0);
        let rest = whole.saturating_sub(offset);
        // Without a length it is as long as the tensor.
        let length = match number("length")? {
            Some(length) => length,
            None => bytes_of(tensor).unwrap_or(rest),
        };
        if let Some(needed) = bytes_of(tensor)
            && needed != length
        {
            return Err(format!(
                "{}, in {length} bytes, but their shape {:?} needs {needed}; the file is damaged, download it again",
                shown(&path),
                tensor.dims
            ));
        }
        // Before they are read.
        if values_of(tensor).is_none_or(|values| values > MOST_VALUES) {
            return Err(format!(
                "{}, and are too large: {:?}",
                shown(&path),
                tensor.dims
            ));
        }
        if length > rest {
            return Err(format!(
                "{}, which is too short; download it again",
                shown(&path)
            ));
        }
        Ok(Place {
            path,
            offset,
            length,
        })
    }

    fn read(&self, files: &mut HashMap<PathBuf, DataFile>) -> std::result::Result<Vec<u8>, String> {
        let data = files.get_mut(&self.path).ok_or("which is not open")?;
        let mut values = vec![0; usize::try_from(self.length).map_err(|e| e.to_string())?];
        data.file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| data.file.read_exact(&mut values))
            .map_err(|e| {
                format!(
                    "{}, which cannot be read: {}",
                    shown(&self.path),
                    system_error(&e)
                )
            })?;
        Ok(values)
    }
}

/// How many bytes a tensor of this shape and type has; `None` for types of parts of bytes.
fn bytes_of(tensor: &pb::TensorProto) -> Option<u64> {
    let width = u64::try_from(value_bytes(tensor.data_type)?).ok()?;
    values_of(tensor)?.checked_mul(width)
}

/// How many values a tensor of this shape has; `None` for a shape that there is not.
fn values_of(tensor: &pb::TensorProto) -> Option<u64> {
    let mut dims = tensor.dims.iter().map(|&dim| u64::try_from(dim).ok());
    dims.try_fold(1, |values: u64, dim| values.checked_mul(dim?))
}

/// The file `location` of `folder`, links followed.
fn below(folder: &Path, location: &str) -> std::result::Result<PathBuf, String> {
    let relative = Path::new(location);
    let outside = || format!("{location:?}, which is not in the model's folder");
    if location.is_empty() || !stays_below(relative) {
        return Err(outside());
    }
    let missing = |e: io::Error| match e.kind() {
        ErrorKind::NotFound => {
            format!("{location:?}, which is not next to it; put both in one folder")
        }
        _ => format!("{location:?}, which cannot be read ({})", system_error(&e)),
    };
    let path = fs::canonicalize(folder.join(relative)).map_err(missing)?;
    let folder = fs::canonicalize(folder).map_err(missing)?;
    if !path.starts_with(folder) {
        return Err(outside());
    }
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{location:?}, which is not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a weight of 4 floats that is kept outside, with these entries; `w.bin` beside the model has 20 bytes.
    fn loaded(dims: &[i64], entries: &[(&str, &str)]) -> std::result::Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..20).collect();
        fs::write(dir.path().join("w.bin"), data).unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        // A hole takes no room.
        let large = File::create(dir.path().join("large.bin")).unwrap();
        large.set_len(8 << 30).unwrap();
        let entry = |&(key, value): &(&str, &str)| pb::StringStringEntryProto {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let weight = pb::TensorProto {
            name: "w".to_owned(),
            dims: dims.to_vec(),
            data_type: pb::tensor_proto::DataType::Float as i32,
            data_location: Some(DataLocation::External as i32),
            external_data: entries.iter().map(entry).collect(),
            ..Default::default()
        };
        let mut model = pb::ModelProto {
            graph: Some(pb::GraphProto {
                initializer: vec![weight],
                ..Default::default()
            }),
            ..Default::default()
        };
        inline(&mut model, &mut [], dir.path(), "m").map_err(|e| e.to_string())?;
        Ok(model.graph.unwrap().initializer[0].raw_data.clone())
    }

    #[test]
    fn a_weight_is_read_from_any_offset() {
        let all: Vec<u8> = (0..20).collect();
        let at = ("location", "w.bin");
        for (entries, start) in [
            (&[at][..], 0),
            (&[at, ("offset", "0"), ("length", "16")], 0),
            (&[at, ("offset", "3"), ("length", "16")], 3),
            (&[at, ("offset", "4"), ("checksum", "x")], 4),
        ] {
            assert_eq!(loaded(&[2, 2], entries).unwrap(), all[start..start + 16]);
        }
    }

    #[test]
    fn a_place_that_does_not_fit_is_refused_before_anything_is_read() {
        let at = ("location", "w.bin");
        let large = ("location", "large.bin");
        for (dims, entries, expected) in [
            (
                &[4][..],
                &[at, ("length", "15")][..],
                "in 15 bytes, but their shape [4] needs 16",
            ),
            (&[4], &[at, ("length", "0")], "in 0 bytes"),
            (&[4], &[at, ("length", "-1")], "`length` is not a number"),
            (&[4], &[at, ("offset", "-4")], "`offset` is not a number"),
            (&[4], &[at, ("offset", "0x0")], "`offset` is not a number"),
            (&[4], &[at, ("offset", "5")], "too short"),
            (&[4], &[at, ("offset", "18446744073709551615")], "too short"),
            (&[-4], &[at, ("length", "16")], "too large"),
            (&[1 << 40, 1 << 40], &[at, ("length", "16")], "too large"),
            (&[(1 << 28) + 1], &[large], "too large"),
            (&[4], &[("location", "folder")], "not a regular file"),
            (&[4], &[("location", "none.bin")], "not next to it"),
            (
                &[4],
                &[("location", "../w.bin")],
                "not in the model's folder",
            ),
            (
                &[4],
                &[("location", "/dev/zero")],
                "not in the model's folder",
            ),
            (&[4], &[("location", "")], "not in the model's folder"),
            (&[4], &[("location", "w.bin\0")], "cannot be read"),
            (&[4], &[("offset", "0")], "which is not named"),
        ] {
            let error = loaded(dims, entries).unwrap_err();
            assert!(error.contains(expected), "{entries:?}: {error}");
        }
    }
}
