//! The values that a flag takes, read from the enum that its setting is read into.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use clap::builder::PossibleValuesParser;

/// A parser for the names that serde knows the variants of `T` by; none if `T` is not an enum.
pub(super) fn values_of<'de, T: Deserialize<'de>>() -> PossibleValuesParser {
    let mut names = VariantNames(&[]);
    // It fails on purpose, once the names are known.
    let _ = T::deserialize(&mut names);
    PossibleValuesParser::new(names.0.iter().copied())
}

/// Reads no value: keeps the names of the variants that are asked for.
struct VariantNames(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut VariantNames {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.0 = variants;
        Err(Error::custom("only the names are wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not an enum"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser;

    use super::*;
    use crate::backbone::{Pool, Preparation};

    fn names<'de, T: Deserialize<'de>>() -> Vec<String> {
        let values = values_of::<T>();
        let values = values.possible_values().into_iter().flatten();
        values.map(|value| value.get_name().to_owned()).collect()
    }

    #[test]
    fn an_enum_says_its_names() {
        assert_eq!(
            names::<Pool>(),
            ["avg", "mean", "max", "cls", "cls+mean", "none", "flatten"]
        );
        assert_eq!(
            names::<Preparation>(),
            ["torch", "tf", "caffe", "raw", "unit"]
        );
    }
}
