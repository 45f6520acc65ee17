//! Recipes: training presets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fit::FitConfig;
use crate::error::{Error, Result};
use crate::foreign::data_fault;

/// A training preset, from the simplest to the one that trains most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// One dense softmax layer on the features of the frozen backbone.
    #[default]
    Linear,
    /// A hidden layer with dropout on the same features.
    Mlp,
    /// The dense layer, also trained on augmented views.
    Augment,
    /// The end of the backbone trained with the head, also on augmented views.
    Finetune,
    /// Tries the others in turn and uses the most accurate one.
    Best,
}

impl Recipe {
    /// The recipes that train one model, simplest first.
    pub const PLAIN: [Recipe; 4] = [
        Recipe::Linear,
        Recipe::Mlp,
        Recipe::Augment,
        Recipe::Finetune,
    ];

    /// The name of the recipe.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Linear => "linear",
            Recipe::Mlp => "mlp",
            Recipe::Augment => "augment",
            Recipe::Finetune => "finetune",
            Recipe::Best => "best",
        }
    }

    /// `config` with this recipe's settings wherever `config` has the default.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be taken over.
    pub fn applied_to(self, config: &FitConfig) -> Result<FitConfig> {
        let fail = |problem: String| Error::Config {
            path: PathBuf::from("of a recipe"),
            problem,
        };
        let table = |config: &FitConfig| toml::Table::try_from(config);
        let mut taken = table(config).map_err(|e| fail(data_fault(&e)))?;
        let defaults = table(&FitConfig::default()).map_err(|e| fail(data_fault(&e)))?;
        let settings: toml::Table = self
            .settings()
            .parse()
            .map_err(|e: toml::de::Error| fail(data_fault(&e)))?;
        // `FinetuneConfig::of_recipe` adds the settings that `fit` does not have.
        for (name, value) in settings {
            if taken.get(&name) == defaults.get(&name) {
                taken.insert(name, value);
            }
        }
        let taken: FitConfig = taken.try_into().map_err(|e| fail(data_fault(&e)))?;
        Ok(FitConfig {
            recipe: self,
            force: config.force,
            ..taken
        })
    }

    /// Adds the recipe's settings to a configuration that does not set them.
    ///
    /// # Errors
    /// If the settings are not valid TOML.
    pub(crate) fn fill(
        self,
        configuration: &mut toml::Table,
    ) -> std::result::Result<(), toml::de::Error> {
        let settings: toml::Table = self.settings().parse()?;
        for (name, value) in settings {
            configuration.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// The recipe's differences from the defaults, in configuration file form; the user's settings take precedence.
    pub fn settings(self) -> &'static str {
        match self {
            Recipe::Linear | Recipe::Best => "",
            Recipe::Mlp => "hidden = [256]\ndropout = 0.5\n",
            Recipe::Augment => "augment = 'default'\n",
            Recipe::Finetune => {
                "unfreeze-from = '50%'\naugment = 'default'\nviews = 4\nwise-ft = 0.5\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_user_go_before_those_of_a_recipe() {
        let mut config = FitConfig {
            recipe: Recipe::Best,
            force: true,
            ..FitConfig::default()
        };
        let mlp = Recipe::Mlp.applied_to(&config).unwrap();
        assert_eq!((mlp.recipe, mlp.force), (Recipe::Mlp, true));
        assert_eq!((&mlp.head.hidden[..], mlp.head.dropout), (&[256][..], 0.5));
        config.head.dropout = 0.25;
        assert_eq!(Recipe::Mlp.applied_to(&config).unwrap().head.dropout, 0.25);
        let linear = Recipe::Linear.applied_to(&config).unwrap();
        assert!(linear.head.hidden.is_empty());
        Recipe::Finetune.applied_to(&config).unwrap();
    }
}
