//! Numbers and counts as people read them.

/// A number with separators: 14714688 as `14,714,688`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

/// A fraction as a user may have written it: very large and very small ones with an exponent, `1e300`.
pub(crate) fn fraction(number: impl std::fmt::Debug) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A number of things: `1 class`, `12 images`, `788,608 parameters`. `noun` is the singular.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let shown = grouped(number);
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("{shown} {noun}"),
        Some(stem) => format!("{shown} {stem}ies"),
        None if noun.ends_with('s') => format!("{shown} {noun}es"),
        None => format!("{shown} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (14_714_688, "14,714,688"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn fractions_are_as_short_as_they_can_be() {
        let cases = [
            (0.5, "0.5"),
            (30.0, "30"),
            (1e300, "1e300"),
            (-1e-300, "-1e-300"),
            (f64::NAN, "NaN"),
        ];
        for (number, text) in cases {
            assert_eq!(fraction(number), text);
        }
        assert_eq!(fraction(0.1_f32), "0.1");
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!(count(1_u64, "class"), "1 class");
        assert_eq!(count(0_u64, "class"), "0 classes");
        assert_eq!(count(2_u64, "probability"), "2 probabilities");
        assert_eq!(count(788_608_usize, "parameter"), "788,608 parameters");
    }
}
