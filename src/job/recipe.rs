//! Settings that go well together, in one word.

use serde::{Deserialize, Serialize};

/// A way to train, from the simplest to the one that learns most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// One dense softmax layer on the features of the frozen base.
    #[default]
    Linear,
    /// A hidden layer with dropout on the same features.
    Mlp,
    /// The dense layer, trained on augmented views, too.
    Augment,
    /// The end of the base trained with the head.
    Finetune,
}

impl Recipe {
    /// The settings in which the recipe differs from the defaults, as a configuration file has them; what a
    /// user gives goes before them.
    pub fn settings(self) -> &'static str {
        match self {
            Recipe::Linear => "",
            Recipe::Mlp => "hidden = [256]\ndropout = 0.5\n",
            Recipe::Augment => "augment = 'default'\n",
            Recipe::Finetune => "unfreeze-from = '50%'\n",
        }
    }
}
