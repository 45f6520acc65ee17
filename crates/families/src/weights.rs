//! The weights of a network by the names of its modules, wherever they stand in the file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::safetensors::{SafeTensors, Tensor};

/// Where a weight stands in the file.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// A tensor of the file.
    One(String),
    /// Tensors of the file, one behind the other along their first axis.
    Stacked(Vec<String>),
    /// A part of a tensor of the file.
    Part(String, Part),
}

/// A part of a tensor along its first axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    FirstThird,
    LastTwoThirds,
}

impl Part {
    /// Which of `rows` rows it is.
    fn rows(self, rows: usize) -> std::ops::Range<usize> {
        match self {
            Part::FirstThird => 0..rows / 3,
            Part::LastTwoThirds => rows / 3..rows,
        }
    }
}

/// The weights of a network of `architecture`.
#[derive(Debug)]
pub(crate) struct Weights {
    architecture: String,
    file: SafeTensors,
    places: BTreeMap<String, Place>,
    used: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// Opens the file `path`; the names in it are those of the modules.
    ///
    /// # Errors
    /// As [`SafeTensors::open`].
    pub fn open(path: &Path, architecture: &str) -> Result<Weights> {
        let file = SafeTensors::open(path)?;
        // Counters of BatchNorm, which only training reads.
        let names = file
            .names()
            .filter(|name| !name.ends_with("num_batches_tracked"));
        let places = names.map(|name| (name.to_owned(), Place::One(name.to_owned())));
        Ok(Weights {
            architecture: architecture.to_owned(),
            places: places.collect(),
            file,
            used: RefCell::default(),
        })
    }

    /// Renames every weight by `rename`; those for which it gives nothing are left out.
    pub fn renamed(mut self, rename: impl Fn(&str) -> Option<String>) -> Weights {
        let places = std::mem::take(&mut self.places);
        let renamed = places
            .into_iter()
            .filter_map(|(name, place)| Some((rename(&name)?, place)));
        self.places = renamed.collect();
        self
    }

    /// Joins three weights, one behind the other, wherever all of them are there: `PREFIX` + `parts[i]` + `SUFFIX`
    /// become `PREFIX` + `whole` + `SUFFIX`.
    pub fn joined(mut self, parts: [&str; 3], whole: &str) -> Weights {
        let firsts: Vec<String> = self
            .places
            .keys()
            .filter(|n| n.contains(parts[0]))
            .cloned()
            .collect();
        for first in firsts {
            let names = parts.map(|part| first.replacen(parts[0], part, 1));
            let place = |name: &String| match self.places.get(name) {
                Some(Place::One(place)) => Some(place.clone()),
                _ => None,
            };
            let places: Option<Vec<String>> = names.iter().map(place).collect();
            if let Some(places) = places {
                for name in &names {
                    self.places.remove(name);
                }
                self.places
                    .insert(first.replacen(parts[0], whole, 1), Place::Stacked(places));
            }
        }
        self
    }

    /// Takes weights whose names begin with `whole` apart.
    pub fn parted(mut self, whole: &str, parts: [(&str, Part); 2]) -> Weights {
        let names: Vec<String> = self
            .places
            .keys()
            .filter(|n| n.starts_with(whole))
            .cloned()
            .collect();
        for name in names {
            if let Some(Place::One(place)) = self.places.remove(&name) {
                for (start, part) in parts {
                    let own = name.replacen(whole, start, 1);
                    self.places.insert(own, Place::Part(place.clone(), part));
                }
            }
        }
        self
    }

    /// The architecture, as its configuration names it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The names of all weights, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a weight of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Number of modules `PREFIX.0`, `PREFIX.1` … that have weights.
    pub fn count(&self, prefix: &str) -> usize {
        (0..)
            .take_while(|i| self.has_module(&format!("{prefix}.{i}")))
            .count()
    }

    /// Whether a module of this name has weights.
    pub fn has_module(&self, module: &str) -> bool {
        let start = format!("{module}.");
        self.places
            .range(start.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&start))
    }

    /// The dimensions of a weight.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not there.
    pub fn dims(&self, name: &str) -> Result<Vec<usize>> {
        let missing = || self.mismatch(format!("the file has no weight `{name}`"));
        match self.places.get(name).ok_or_else(missing)? {
            Place::One(place) => self.file.dims(place).ok_or_else(missing),
            Place::Part(place, part) => {
                let mut dims = self.file.dims(place).ok_or_else(missing)?;
                if let Some(first) = dims.first_mut() {
                    *first = part.rows(*first).len();
                }
                Ok(dims)
            }
            Place::Stacked(places) => {
                let parts: Option<Vec<Vec<usize>>> =
                    places.iter().map(|p| self.file.dims(p)).collect();
                let parts = parts.ok_or_else(missing)?;
                let mut dims = parts[0].clone();
                let is_even = parts.iter().all(|d| !d.is_empty() && d[1..] == dims[1..]);
                if !is_even {
                    return Err(self.mismatch(format!("the parts of `{name}` have unlike shapes")));
                }
                dims[0] = parts.iter().map(|d| d[0]).sum();
                Ok(dims)
            }
        }
    }

    /// The dimensions of a weight with `N` dimensions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not there, has another number of dimensions, or no values.
    pub fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let dims = self.dims(name)?;
        match <[usize; N]>::try_from(dims.as_slice()) {
            Ok(shape) if !shape.contains(&0) => Ok(shape),
            _ => Err(self.mismatch(format!(
                "`{name}` has the shape {dims:?}, not {N} dimensions"
            ))),
        }
    }

    /// Reads a weight.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it is not there, [`Error::Weights`] if it holds no floats, [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let dims = self.dims(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        match &self.places[name] {
            Place::One(place) => self.file.read(place),
            Place::Part(place, part) => {
                let whole = self.file.read(place)?;
                let rows = whole.dims.first().copied().unwrap_or(0).max(1);
                let row = whole.values.len() / rows;
                let range = part.rows(rows);
                let values = whole.values[range.start * row..range.end * row].to_vec();
                Ok(Tensor { dims, values })
            }
            Place::Stacked(places) => {
                let mut values = Vec::new();
                for place in places {
                    values.extend(self.file.read(place)?.values);
                }
                Ok(Tensor { dims, values })
            }
        }
    }

    /// Checks that every weight was read: otherwise the network has a part that was not built.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first that was not.
    pub fn all_used(&self) -> Result<()> {
        let used = self.used.borrow();
        match self.names().find(|name| !used.contains(*name)) {
            Some(name) => Err(self.mismatch(format!("nothing in it reads the weight `{name}`"))),
            None => Ok(()),
        }
    }

    /// An error that names the architecture.
    pub fn mismatch(&self, problem: impl Into<String>) -> Error {
        Error::Mismatch {
            architecture: self.architecture.clone(),
            problem: problem.into(),
        }
    }

    /// An error for a part of this architecture that is not built.
    pub fn unknown(&self, part: impl std::fmt::Display) -> Error {
        Error::Unknown {
            what: format!("{} with {part}", self.architecture),
        }
    }
}
