//! The settings for the next run: every setting of `tl-batch fit`, with the same name and help, edited as text and
//! parsed like a configuration file. Pure.

use toml::{Table, Value};

use super::cursor::Cursor;
use crate::cli::{Setting, settings};
use crate::error::{Error, Result};
use crate::foreign::data_fault;
use crate::job::{FitConfig, Recipe};
use crate::tui::keys::Action;

/// A setting and its value as text; empty for a default that depends on other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its description.
    pub setting: Setting,
    /// Its value.
    pub text: String,
}

/// The settings form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The settings in the order of `--help`.
    pub fields: Vec<Field>,
    /// The selected line.
    pub cursor: Cursor,
    /// The text of the selected value while it is being edited.
    pub editing: Option<String>,
    /// Why the last value was rejected.
    pub problem: Option<String>,
}

impl Form {
    /// A form with the settings of `config`.
    pub fn new(config: &FitConfig) -> Form {
        let table = Table::try_from(config).unwrap_or_default();
        let fields = settings("fit")
            .into_iter()
            .map(|setting| Field {
                text: table.get(&setting.name).map_or_else(String::new, as_text),
                setting,
            })
            .collect();
        Form {
            fields,
            cursor: Cursor::default(),
            editing: None,
            problem: None,
        }
    }

    /// The selected setting.
    pub fn selected(&self) -> Option<&Field> {
        self.fields.get(self.cursor.at)
    }

    /// Moves, starts editing, or chooses another value of a setting. Returns the configuration if it changed.
    pub fn act(&mut self, action: Action, page: u16) -> Option<FitConfig> {
        match action {
            Action::Enter => {
                let field = self.selected()?;
                if field.setting.choices.is_empty() {
                    self.editing = Some(field.text.clone());
                    return None;
                }
                self.step(1)
            }
            Action::Right => self.step(1),
            Action::Left => self.step(-1),
            action => {
                self.cursor.act(action, self.fields.len(), page);
                None
            }
        }
    }

    /// Chooses the next or previous value of a setting.
    fn step(&mut self, by: isize) -> Option<FitConfig> {
        let field = self.selected()?;
        let choices = match field.text.as_str() {
            "true" | "false" => &["true".to_owned(), "false".to_owned()][..],
            _ => &field.setting.choices,
        };
        if choices.is_empty() {
            return None;
        }
        let len = choices.len() as isize;
        let place = choices.iter().position(|c| *c == field.text);
        let next = match place {
            Some(place) => (place as isize + by).rem_euclid(len),
            None => 0,
        };
        let text = choices[next as usize].clone();
        self.take(text)
    }

    /// Ends editing and takes the text.
    pub fn finish_editing(&mut self) -> Option<FitConfig> {
        let text = self.editing.take()?;
        self.take(text.trim().to_owned())
    }

    fn take(&mut self, text: String) -> Option<FitConfig> {
        let place = self.cursor.at;
        let kept = self.fields.clone();
        self.fields.get_mut(place)?.text = text;
        if self.fields[place].setting.name == "recipe" {
            self.follow_recipe(&kept[place].text);
        }
        match self.config() {
            Ok(config) => {
                self.problem = None;
                *self = Form {
                    cursor: self.cursor,
                    ..Form::new(&config)
                };
                Some(config)
            }
            Err(error) => {
                self.fields = kept;
                self.problem = Some(error.to_string());
                None
            }
        }
    }

    /// Replaces the settings of the previous recipe with those of the chosen one.
    fn follow_recipe(&mut self, before: &str) {
        let settings = |name: &str| -> Table {
            let recipe: Option<Recipe> = Value::String(name.to_owned()).try_into().ok();
            let text = recipe.map_or("", Recipe::settings);
            text.parse().unwrap_or_default()
        };
        let defaults = Table::try_from(FitConfig::default()).unwrap_or_default();
        let (old, new) = (
            settings(before),
            settings(&self.fields[self.cursor.at].text),
        );
        for field in &mut self.fields {
            let name = &field.setting.name;
            if let Some(value) = new.get(name) {
                field.text = as_text(value);
            } else if old.contains_key(name) {
                field.text = defaults.get(name).map_or_else(String::new, as_text);
            }
        }
    }

    /// The configuration with the values of the fields.
    fn config(&self) -> Result<FitConfig> {
        let mut table = Table::new();
        for field in &self.fields {
            if !field.text.is_empty() {
                table.insert(field.setting.name.clone(), as_value(field));
            }
        }
        let config: FitConfig = Value::Table(table)
            .try_into()
            .map_err(|e| self.refuse(&data_fault(&e)))?;
        config.head.clone().check()?;
        Ok(config)
    }

    fn refuse(&self, problem: &str) -> Error {
        let name = self.selected().map_or("", |f| f.setting.name.as_str());
        let first = problem.lines().next().unwrap_or_default();
        Error::Config {
            path: name.into(),
            problem: first.to_owned(),
        }
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(as_text).collect::<Vec<_>>().join(", "),
        // As float32, to hide the digits that float64 adds.
        Value::Float(number) => (*number as f32).to_string(),
        other => other.to_string(),
    }
}

/// The text parsed as TOML, else as a string; lists are written without brackets.
fn as_value(field: &Field) -> Value {
    const TEXTS: [&str; 6] = ["dataset", "labels", "output", "features", "model", "cut"];
    let name = field.setting.name.as_str();
    let text = &field.text;
    let written = match name {
        "hidden" => format!("x = [{text}]"),
        _ => format!("x = {text}"),
    };
    if let (Ok(yes), "true" | "false") = (text.parse(), text.as_str()) {
        return Value::Boolean(yes);
    }
    // Several feature layers are a list.
    if name == "cut" && text.contains(',') {
        let cuts = text
            .split(',')
            .map(|cut| Value::String(cut.trim().to_owned()));
        return Value::Array(cuts.collect());
    }
    let parsed = (!TEXTS.contains(&name) && field.setting.choices.is_empty())
        .then(|| written.parse::<Table>().ok()?.remove("x"))
        .flatten();
    match parsed {
        // Fractions may be written as whole numbers.
        Some(Value::Integer(number)) if is_float(name) => Value::Float(number as f64),
        Some(value) => value,
        None => Value::String(text.clone()),
    }
}

/// Whether a setting is a floating-point number.
fn is_float(name: &str) -> bool {
    let table = Table::try_from(FitConfig::default()).unwrap_or_default();
    matches!(table.get(name), Some(Value::Float(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form::new(&FitConfig {
            dataset: "photos".into(),
            output: "photos.onnx".into(),
            ..FitConfig::default()
        })
    }

    fn set(form: &mut Form, name: &str, text: &str) -> Option<FitConfig> {
        form.cursor.at = form
            .fields
            .iter()
            .position(|f| f.setting.name == name)
            .unwrap();
        form.editing = Some(text.to_owned());
        form.finish_editing()
    }

    #[test]
    fn every_setting_of_a_configuration_is_there_with_its_help() {
        let form = form();
        let table = Table::try_from(FitConfig::default()).unwrap();
        for name in table.keys() {
            assert!(
                form.fields.iter().any(|f| f.setting.name == *name),
                "{name}"
            );
        }
        assert!(form.fields.iter().all(|f| !f.setting.help.is_empty()));
    }

    #[test]
    fn values_of_every_type_are_taken() {
        let mut form = form();
        assert_eq!(set(&mut form, "epochs", "7").unwrap().head.epochs, 7);
        assert_eq!(
            set(&mut form, "hidden", "64, 8").unwrap().head.hidden,
            [64, 8]
        );
        assert_eq!(set(&mut form, "l2", "1").unwrap().head.l2, 1.0);
        assert_eq!(
            set(&mut form, "dataset", "12").unwrap().dataset,
            std::path::Path::new("12")
        );
        let config = set(&mut form, "cut", "-3").unwrap();
        assert_eq!(config.backbone.cut, Some("-3".into()));
        let config = set(&mut form, "cut", "a, b").unwrap();
        let both = crate::backbone::Cuts::several(vec!["a".into(), "b".into()]);
        assert_eq!(config.backbone.cut, both);
        assert_eq!(form.selected().unwrap().text, "a, b");
        assert_eq!(set(&mut form, "cut", "").unwrap().backbone.cut, None);
        assert_eq!(config.head.epochs, 7, "what was set before stays");
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_reason_and_the_old_one_stays() {
        let mut form = form();
        assert_eq!(set(&mut form, "epochs", "many"), None);
        assert!(form.problem.is_some());
        assert_eq!(form.selected().unwrap().text, "100");
        assert_eq!(set(&mut form, "dropout", "2"), None);
        assert!(
            form.problem.as_ref().unwrap().contains("dropout"),
            "{form:?}"
        );
    }

    #[test]
    fn a_recipe_brings_its_settings_and_takes_them_away() {
        let mut form = form();
        let config = set(&mut form, "recipe", "mlp").unwrap();
        assert_eq!((config.head.hidden, config.head.dropout), (vec![256], 0.5));
        let config = set(&mut form, "recipe", "augment").unwrap();
        assert_eq!((config.head.hidden, config.head.dropout), (vec![], 0.0));
        let text = |form: &Form, name: &str| {
            let field = form.fields.iter().find(|f| f.setting.name == name);
            field.unwrap().text.clone()
        };
        assert!(text(&form, "augment").starts_with("RandomFlip="));
        set(&mut form, "recipe", "linear");
        assert_eq!(
            text(&form, "augment"),
            text(&super::Form::new(&FitConfig::default()), "augment")
        );
    }

    #[test]
    fn choices_go_round() {
        let mut form = form();
        set(&mut form, "optimizer", "adam");
        let names: Vec<String> = (0..3)
            .map(|_| {
                form.act(Action::Right, 5).unwrap();
                form.selected().unwrap().text.clone()
            })
            .collect();
        assert_eq!(names, ["adamw", "sgd", "adam"]);
    }
}
