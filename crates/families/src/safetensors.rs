//! Files of weights in the format safetensors: eight bytes that say how long the header is, the header in JSON, and
//! the values, little-endian. Only what is asked for is read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// Longest header in bytes: the longest of real networks have less than one hundredth of it.
const MOST_HEADER: u64 = 16 << 20;
/// Most tensors: real networks have some thousand.
const MOST_TENSORS: usize = 50_000;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }
}

/// What the header says of a tensor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header: tensors by name.
#[derive(Debug)]
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry a tensor")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() == MOST_TENSORS {
                        return Err(A::Error::custom(format!(
                            "it lists more than {MOST_TENSORS} tensors"
                        )));
                    }
                    let entry = map.next_value::<Entry>()?;
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("it lists `{name}` twice")));
                    }
                    entries.insert(name, entry);
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A tensor of floats with its values in the order of its dimensions, the last one fastest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

impl Tensor {
    /// A matrix with rows and columns exchanged; so are the channels of a 1 × 1 kernel.
    pub fn transposed(self) -> Tensor {
        let (&[rows, columns] | &[rows, columns, 1, 1]) = self.dims.as_slice() else {
            return self;
        };
        let mut values = Vec::with_capacity(self.values.len());
        for column in 0..columns {
            values.extend((0..rows).map(|row| self.values[row * columns + column]));
        }
        Tensor {
            dims: vec![columns, rows],
            values,
        }
    }
}

/// A file of weights, opened.
#[derive(Debug)]
pub(crate) struct SafeTensors {
    path: PathBuf,
    file: File,
    /// Where the values begin.
    start: u64,
    entries: BTreeMap<String, Entry>,
}

impl SafeTensors {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Weights`] if the header is too long or no header, or if tensors overlap, leave gaps,
    /// lie outside the file, or have another length than their shape.
    pub fn open(path: &Path) -> Result<SafeTensors> {
        let fail = |problem: String| Error::Weights {
            path: path.to_owned(),
            problem,
        };
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < 8 {
            return Err(fail(
                "this is no safetensors file: it is too short for a header".into(),
            ));
        }
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(io)?;
        let header = u64::from_le_bytes(word);
        if header > MOST_HEADER {
            return Err(fail(format!(
                "this is no safetensors file: its header would have {header} bytes, more than {MOST_HEADER}"
            )));
        }
        if header > length - 8 {
            return Err(fail(format!(
                "it is cut off: its header has {header} bytes, the file {length}"
            )));
        }
        // Bounded by MOST_HEADER.
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(io)?;
        let Header(entries) = serde_json::from_slice(&text)
            .map_err(|e| fail(format!("its header cannot be read: {e}")))?;
        let start = 8 + header;
        check(&entries, length - start).map_err(fail)?;
        Ok(SafeTensors {
            path: path.to_owned(),
            file,
            start,
            entries,
        })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The dimensions of a tensor; none if there is no such tensor.
    pub fn dims(&self, name: &str) -> Option<Vec<usize>> {
        let entry = self.entries.get(name)?;
        // All shapes were checked against the file's length.
        Some(entry.shape.iter().map(|&n| n as usize).collect())
    }

    /// Reads a tensor of floats, of whatever width they are.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is not there or holds no floats; [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let fail = |problem: String| Error::Weights {
            path: self.path.clone(),
            problem,
        };
        let Some(entry) = self.entries.get(name) else {
            return Err(fail(format!("it has no weight `{name}`")));
        };
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        let [begin, end] = entry.data_offsets;
        let mut bytes = vec![0; (end - begin) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + begin)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        let values = match entry.dtype {
            Dtype::F32 => words(&bytes, f32::from_le_bytes),
            Dtype::F16 => words(&bytes, |w| half::f16::from_le_bytes(w).to_f32()),
            Dtype::Bf16 => words(&bytes, |w| half::bf16::from_le_bytes(w).to_f32()),
            Dtype::F64 => words(&bytes, |w| f64::from_le_bytes(w) as f32),
            other => {
                return Err(fail(format!(
                    "its weight `{name}` holds {other:?}, no floats: quantised weights cannot be used"
                )));
            }
        };
        Ok(Tensor {
            dims: self.dims(name).unwrap_or_default(),
            values,
        })
    }
}

fn words<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&word| read(word))
        .collect()
}

/// Holds the header against the `length` bytes of values; an error is a clause.
fn check(entries: &BTreeMap<String, Entry>, length: u64) -> std::result::Result<(), String> {
    let mut ranges = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let [begin, end] = entry.data_offsets;
        if begin > end || end > length {
            return Err(format!(
                "`{name}` lies in the bytes {begin} to {end} of {length}: the file is cut off, or its header is wrong"
            ));
        }
        if entry.shape.len() > MOST_DIMENSIONS {
            return Err(format!("`{name}` has {} dimensions", entry.shape.len()));
        }
        let count = entry
            .shape
            .iter()
            .try_fold(entry.dtype.bytes(), |n, &d| n.checked_mul(d));
        if count != Some(end - begin) {
            return Err(format!(
                "`{name}` has the shape {:?} in {} bytes",
                entry.shape,
                end - begin
            ));
        }
        ranges.push((begin, end, name));
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(format!("`{}` and `{}` overlap", pair[0].2, pair[1].2));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What opening a file of this header and these values says.
    fn open(header: &str, values: &[u8]) -> Result<SafeTensors> {
        let length = header.len() as u64;
        open_bytes(&[&length.to_le_bytes(), header.as_bytes(), values].concat())
    }

    fn open_bytes(bytes: &[u8]) -> Result<SafeTensors> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        SafeTensors::open(&path)
    }

    #[test]
    fn floats_of_every_width_are_read() {
        let header = r#"{"__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
            "b": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]},
            "c": {"dtype": "BF16", "shape": [], "data_offsets": [12, 14]},
            "d": {"dtype": "I64", "shape": [], "data_offsets": [14, 22]}}"#;
        let mut values = [1.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
        values.extend([0x00, 0x3c, 0x00, 0xc0]);
        values.extend([0x40, 0x40]);
        values.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        let file = open(header, &values).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let tensor = |dims: &[usize], values: &[f32]| Tensor {
            dims: dims.to_vec(),
            values: values.to_vec(),
        };
        assert_eq!(file.read("a").unwrap(), tensor(&[2, 1], &[1.5, -2.0]));
        assert_eq!(file.read("b").unwrap(), tensor(&[2], &[1.0, -2.0]));
        assert_eq!(file.read("c").unwrap(), tensor(&[], &[3.0]));
        assert!(
            file.read("d")
                .unwrap_err()
                .to_string()
                .contains("no floats")
        );
        assert!(
            file.read("e")
                .unwrap_err()
                .to_string()
                .contains("no weight `e`")
        );
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let entry = |shape: &str, offsets: &str| {
            format!(r#"{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}"#)
        };
        let two = |first: &str, second: &str| {
            format!(
                r#"{{"a": {{"dtype": "F32", "shape": [2], "data_offsets": {first}}},
                    "b": {{"dtype": "F32", "shape": [2], "data_offsets": {second}}}}}"#
            )
        };
        for (header, said) in [
            (entry("[2]", "[0, 12]"), "[2] in 12 bytes"),
            (entry("[4]", "[8, 24]"), "8 to 24 of 16"),
            (entry("[4]", "[16, 0]"), "16 to 0 of 16"),
            (
                entry("[4294967296, 4294967296, 2]", "[0, 16]"),
                "in 16 bytes",
            ),
            (entry("[0, 18446744073709551615]", "[0, 16]"), "in 16 bytes"),
            (
                entry("[1, 1, 1, 1, 1, 1, 1, 1, 4]", "[0, 16]"),
                "9 dimensions",
            ),
            (entry("[-1]", "[0, 16]"), "cannot be read"),
            (two("[0, 8]", "[4, 12]"), "`a` and `b` overlap"),
            (two("[0, 8]", "[0, 8]"), "`a` and `b` overlap"),
            (
                two("[0, 8]", "[8, 16]").replace("\"b\"", "\"a\""),
                "`a` twice",
            ),
            ("[]".into(), "one entry a tensor"),
            ("{".into(), "cannot be read"),
            (String::new(), "cannot be read"),
        ] {
            let error = open(&header, &[0; 16]).unwrap_err().to_string();
            assert!(error.contains(said), "{header}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_too_short_for_its_header_is_refused() {
        for (bytes, said) in [
            (vec![], "too short"),
            (vec![0; 7], "too short"),
            (
                u64::MAX.to_le_bytes().to_vec(),
                "would have 18446744073709551615 bytes",
            ),
            (100u64.to_le_bytes().to_vec(), "cut off"),
        ] {
            let error = open_bytes(&bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn two_million_tensors_are_refused_before_they_are_kept() {
        let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
        let most = MOST_HEADER as usize / (entry.len() + 12);
        let some: Vec<String> = (0..most).map(|i| format!("\"{i}\":{entry}")).collect();
        let error = open(&format!("{{{}}}", some.join(",")), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than 50000 tensors"), "{error}");
        let more = "\"a\":0,".repeat(2_000_000 * 2);
        let error = open(&more, &[]).unwrap_err().to_string();
        assert!(error.contains("more than 16777216"), "{error}");
    }
}
