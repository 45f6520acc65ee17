//! The feature layers of a backbone, usually one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cut::find_cut;
use super::onnx::OnnxGraph;
use crate::error::{Error, Result};

/// One or more feature layers, in the order in which their features are concatenated. Serialises to a string, or
/// to a list of strings if there are several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OneOrMany", into = "OneOrMany")]
pub struct Cuts(Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "it must be the name of a layer, or a list of names"
)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for Cuts {
    type Error = &'static str;

    fn try_from(value: OneOrMany) -> std::result::Result<Cuts, &'static str> {
        match value {
            OneOrMany::One(cut) => Ok(Cuts(vec![cut])),
            OneOrMany::Many(cuts) if cuts.is_empty() => Err("give at least one feature layer"),
            OneOrMany::Many(cuts) => Ok(Cuts(cuts)),
        }
    }
}

impl From<Cuts> for OneOrMany {
    fn from(cuts: Cuts) -> OneOrMany {
        match <[String; 1]>::try_from(cuts.0) {
            Ok([cut]) => OneOrMany::One(cut),
            Err(cuts) => OneOrMany::Many(cuts),
        }
    }
}

impl From<&str> for Cuts {
    fn from(cut: &str) -> Cuts {
        Cuts(vec![cut.to_owned()])
    }
}

impl From<String> for Cuts {
    fn from(cut: String) -> Cuts {
        Cuts(vec![cut])
    }
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" + "))
    }
}

impl Cuts {
    /// Takes several layers; `None` if there is not one.
    pub fn several(cuts: Vec<String>) -> Option<Cuts> {
        (!cuts.is_empty()).then_some(Cuts(cuts))
    }

    /// The layers.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Resolves the user's layer names to tensors.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a layer does not exist, or is given twice.
    pub(super) fn resolve(&self, graph: &OnnxGraph) -> Result<Cuts> {
        let mut tensors: Vec<String> = Vec::new();
        for cut in &self.0 {
            let tensor = find_cut(graph, cut)?;
            if tensors.contains(&tensor) {
                return Err(Error::Parameter {
                    name: "--feature-layer",
                    value: cut.clone(),
                    problem: format!("`{tensor}` is given twice"),
                });
            }
            tensors.push(tensor);
        }
        Ok(Cuts(tensors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cut_is_a_string_and_several_are_a_list() {
        let json = |cuts: &Cuts| serde_json::to_string(cuts).unwrap();
        let one = Cuts::from("a");
        let two = Cuts::several(vec!["a".into(), "b".into()]).unwrap();
        assert_eq!(json(&one), r#""a""#);
        assert_eq!(json(&two), r#"["a","b"]"#);
        for cuts in [one, two] {
            assert_eq!(serde_json::from_str::<Cuts>(&json(&cuts)).unwrap(), cuts);
        }
        assert_eq!(
            serde_json::from_str::<Cuts>(r#"["a"]"#).unwrap(),
            Cuts::from("a")
        );
        assert!(serde_json::from_str::<Cuts>("[]").is_err());
    }
}
