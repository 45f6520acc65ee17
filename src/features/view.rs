//! Augmented views of a dataset, each in a separate store.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone::hex_sha256;
use crate::pixels::Augment;

/// Determines the augmented view of every image of a dataset: the same view gives the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct View {
    /// The augmentation.
    pub augment: Augment,
    /// Seed of all views.
    pub seed: u64,
    /// Number of this view, from 1.
    pub number: u32,
}

impl View {
    /// The seed of the view of one image, named relative to its dataset.
    pub fn seed_of(&self, path: &Path) -> u64 {
        let mut key = path.as_os_str().as_encoded_bytes().to_vec();
        key.extend(self.seed.to_le_bytes());
        key.extend(self.number.to_le_bytes());
        let digest = hex_sha256(&key);
        u64::from_str_radix(&digest[..16], 16).unwrap_or(self.seed)
    }

    /// A short name of all views that differ in their number alone, for folders.
    pub fn family(&self) -> String {
        let key = format!("{} {}", self.augment, self.seed);
        hex_sha256(key.as_bytes())[..8].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_numbers_and_seeds_have_views_of_their_own() {
        let view = |seed, number| View {
            augment: Augment::photographs(),
            seed,
            number,
        };
        let of = |view: View, path: &str| view.seed_of(Path::new(path));
        let seeds = [
            of(view(0, 1), "a.jpg"),
            of(view(0, 1), "b.jpg"),
            of(view(0, 2), "a.jpg"),
            of(view(1, 1), "a.jpg"),
        ];
        for (i, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..i].contains(seed));
        }
        assert_eq!(seeds[0], of(view(0, 1), "a.jpg"));
        assert_eq!(view(0, 1).family(), view(0, 2).family());
        assert_ne!(view(0, 1).family(), view(1, 1).family());
    }
}
