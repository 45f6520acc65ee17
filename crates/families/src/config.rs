//! What `config.json` says, in timm's form and in that of transformers.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::layers::Activation;

/// How a picture becomes the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Mean of red, green and blue, from 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f64; 3],
    /// How pictures are resized: `bilinear`, `bicubic` …
    pub interpolation: String,
    /// Share of the shorter side that is kept, from 0 to 1.
    pub crop_pct: f64,
    /// What is cut off: `center`, `squash` (nothing) or `border` (nothing, padded).
    pub crop_mode: String,
}

/// An object of JSON whose entries are read one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config(Map<String, Value>);

impl Config {
    /// Reads the text of `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] if it is no object.
    pub fn parse(text: &str) -> Result<Config> {
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Config(map)),
            Ok(_) => Err(Error::Config("it is not an object".into())),
            Err(e) => Err(Error::Config(format!("it is not valid JSON ({e})"))),
        }
    }

    /// An entry that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The names of all entries that are not null.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, _)| key.as_str())
    }

    /// The object `key`; an empty one if there is none.
    pub fn object(&self, key: &str) -> Result<Config> {
        match self.get(key) {
            None => Ok(Config::default()),
            Some(Value::Object(map)) => Ok(Config(map.clone())),
            Some(other) => Err(wrong(key, other, "an object")),
        }
    }

    /// The text `key`.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.read(key, Value::as_str, "a text")
    }

    /// The whole number `key`.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(key, count, "a whole number")
    }

    /// The number `key`.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, Value::as_f64, "a number")
    }

    /// The flag `key`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, Value::as_bool, "true or false")
    }

    /// The list of whole numbers `key`.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let list =
            |value: &Value| -> Option<Vec<usize>> { value.as_array()?.iter().map(count).collect() };
        self.read(key, list, "a list of whole numbers")
    }

    /// The length `key` of a side of a square: a number, two equal ones, or channels and two equal ones.
    pub fn side(&self, key: &str) -> Result<Option<usize>> {
        if let Some(Value::Array(_)) = self.get(key) {
            return match self.counts(key)?.as_deref() {
                Some([.., height, width]) if height == width => Ok(Some(*height)),
                _ => Err(wrong(key, &self.0[key], "the size of a square")),
            };
        }
        self.count(key)
    }

    /// The activation `key`.
    ///
    /// # Errors
    /// [`Error::Unknown`] if it is none that is built.
    pub fn activation(&self, key: &str) -> Result<Option<Activation>> {
        let Some(name) = self.text(key)? else {
            return Ok(None);
        };
        let unknown = || Error::Unknown {
            what: format!("the activation {name}"),
        };
        Activation::named(name).ok_or_else(unknown).map(Some)
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        what: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value).ok_or_else(|| wrong(key, value, what)).map(Some)
    }
}

fn wrong(key: &str, value: &Value, what: &str) -> Error {
    let text: String = value.to_string().chars().take(60).collect();
    Error::Config(format!("`{key}` is {text}; it takes {what}"))
}

/// `config.json` of timm.
#[derive(Clone, Debug)]
pub(crate) struct Timm {
    /// The architecture.
    pub architecture: String,
    /// What it is called with beyond its own values.
    pub args: Config,
    /// Of its weights.
    pub pretrained: Config,
}

impl Timm {
    /// Of the object in `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] if an entry has the wrong kind.
    pub fn of(config: &Config, architecture: &str) -> Result<Timm> {
        // Names may have the tag of the weights behind a full stop.
        let name = architecture.split('.').next().unwrap_or(architecture);
        Ok(Timm {
            architecture: name.to_owned(),
            args: config.object("model_args")?,
            pretrained: config.object("pretrained_cfg")?,
        })
    }

    /// Checks that nothing is asked for beyond `known` and what changes no result.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn only(&self, known: &[&str]) -> Result<()> {
        /// Of training, of the classifier, and what weights tell by their shapes.
        const HARMLESS: [&str; 6] = [
            "num_classes",
            "drop_rate",
            "drop_path_rate",
            "scriptable",
            "exportable",
            "pretrained",
        ];
        match self
            .args
            .keys()
            .find(|key| !known.contains(key) && !HARMLESS.contains(key))
        {
            Some(key) => Err(Error::Unknown {
                what: format!("{} with the argument {key}", self.architecture),
            }),
            None => Ok(()),
        }
    }

    /// The input size that the weights were made for.
    pub fn size(&self) -> Result<Option<usize>> {
        match self.args.side("img_size")? {
            Some(size) => Ok(Some(size)),
            None => self.pretrained.side("input_size"),
        }
    }

    /// How pictures are prepared, where the configuration says so.
    pub fn preprocess(&self) -> Result<Option<Preprocess>> {
        let cfg = &self.pretrained;
        let (Some(mean), Some(std)) = (colours(cfg, "mean")?, colours(cfg, "std")?) else {
            return Ok(None);
        };
        Ok(Some(Preprocess {
            mean,
            std,
            interpolation: cfg.text("interpolation")?.unwrap_or("bicubic").to_owned(),
            crop_pct: cfg.number("crop_pct")?.unwrap_or(0.875),
            crop_mode: cfg.text("crop_mode")?.unwrap_or("center").to_owned(),
        }))
    }
}

fn colours(config: &Config, key: &str) -> Result<Option<[f64; 3]>> {
    let list = |value: &Value| -> Option<[f64; 3]> {
        let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
        numbers?.try_into().ok()
    };
    config.read(key, list, "three numbers")
}
