//! ds
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
/// S
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// .
    Training,
    /// .
    Validation,
    /// .
    Test,
}
impl Split {
    /// .
    pub fn name(self) -> &'static str {
        match self {
            Split::Training => "training",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
    /// .
    pub fn from_name(n: &str) -> Option<Split> {
        [Split::Training, Split::Validation, Split::Test]
            .into_iter()
            .find(|s| s.name() == n)
    }
}
/// S
pub struct Sample {
    /// .
    pub path: PathBuf,
    /// .
    pub class: Option<usize>,
    /// .
    pub split: Option<Split>,
}
/// D
pub struct Dataset {
    /// .
    pub root: PathBuf,
    /// .
    pub classes: Vec<String>,
    /// .
    pub samples: Vec<Sample>,
    /// .
    pub skipped: Vec<(PathBuf, String)>,
}
impl Dataset {
    /// .
    pub fn open(root: &Path, _l: Option<&Path>) -> Result<Dataset> {
        if !root.exists() {
            return Err(Error::NotFound {
                what: "data set",
                path: root.to_owned(),
            });
        }
        let mut classes: Vec<String> = vec![];
        let mut samples = vec![];
        for e in walkdir::WalkDir::new(root)
            .sort_by_file_name()
            .into_iter()
            .flatten()
        {
            if e.file_type().is_file() {
                let p = e.path().strip_prefix(root).unwrap_or(e.path()).to_owned();
                let class = (p.components().count() > 1).then(|| {
                    let c = p
                        .components()
                        .next()
                        .map(|c| c.as_os_str().to_string_lossy().into_owned())
                        .unwrap_or_default();
                    classes.iter().position(|x| *x == c).unwrap_or_else(|| {
                        classes.push(c.clone());
                        classes.len() - 1
                    })
                });
                samples.push(Sample {
                    path: p,
                    class,
                    split: None,
                });
            }
        }
        Ok(Dataset {
            root: root.to_owned(),
            classes,
            samples,
            skipped: vec![],
        })
    }
    /// .
    pub fn require_classes(&self, _n: usize) -> Result<()> {
        Ok(())
    }
}
/// .
pub fn stratified_split(l: &[usize], v: f64, _t: f64, _s: u64) -> Result<Vec<Split>> {
    let n = (1.0 / v.max(0.001)) as usize;
    Ok(l.iter()
        .enumerate()
        .map(|(i, _)| {
            if v > 0.0 && i % n == 0 {
                Split::Validation
            } else {
                Split::Training
            }
        })
        .collect())
}
/// .
pub fn stratified_folds(l: &[usize], k: usize, _s: u64) -> Vec<usize> {
    (0..l.len()).map(|i| i % k).collect()
}
