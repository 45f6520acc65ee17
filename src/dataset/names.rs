//! Class names: near-duplicates, and names that are not valid text.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::error::shown;

/// What is left of a name when everything is taken away in which people write the same name in different ways:
/// Unicode normalisation, upper and lower case, white space and characters that are not seen, separators between
/// words, and the form of a number.
pub(crate) fn name_key(name: &str) -> String {
    let letters: Vec<char> = name
        .nfkc()
        .flat_map(char::to_lowercase)
        .nfkc()
        .filter(|&c| !is_invisible(c))
        .collect();
    let mut key = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let is_word = |at: Option<usize>| {
            at.and_then(|at| letters.get(at))
                .is_some_and(|c| c.is_alphanumeric())
        };
        match c {
            '_' | '-' if is_word(i.checked_sub(1)) && is_word(Some(i + 1)) => key.push(' '),
            'ß' => key.push_str("ss"),
            'ς' => key.push('σ'),
            c if c.is_whitespace() => key.push(' '),
            c => key.push(c),
        }
    }
    let key = key.split(' ').filter(|word| !word.is_empty());
    let key = key.collect::<Vec<_>>().join(" ");
    match key.parse::<f64>() {
        Ok(number) if key.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            number.to_string()
        }
        _ => key,
    }
}

/// Invisible characters: zero-width spaces and joiners, the byte order mark, the soft hyphen, variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// A warning for each group of `classes` whose names nearly agree; `counts` has their images, `place` says where
/// the names come from: `folder` or `label`.
pub(super) fn near_names(classes: &[String], counts: &[usize], place: &str) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (class, name) in classes.iter().enumerate() {
        groups.entry(name_key(name)).or_default().push(class);
    }
    let mut warnings = Vec::new();
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let look_alike = group.iter().any(|&a| {
            let same = |b: &usize| *b != a && look(&classes[*b]) == look(&classes[a]);
            group.iter().any(same)
        });
        let named: Vec<String> = group
            .iter()
            .map(|&class| {
                let name = &classes[class];
                let spelt = match look_alike {
                    true => format!(" (spelled {})", spelt_out(name)),
                    false => String::new(),
                };
                let count = counts.get(class).copied().unwrap_or(0);
                let pictures = crate::counts::count(count, "image");
                format!("`{}`{spelt} with {pictures}", shown(Path::new(name)))
            })
            .collect();
        let alike = match look_alike {
            true => "look alike but are spelled differently",
            false => "have almost the same name",
        };
        warnings.push(format!(
            "the classes {} {alike}; if they are the same class, rename {}",
            named.join(" and "),
            match place {
                "label" => "the labels in the list",
                _ => "the folders",
            }
        ));
    }
    warnings
}

/// A name as it looks.
fn look(name: &str) -> String {
    let seen = name.nfkc().filter(|&c| !is_invisible(c));
    seen.collect::<String>().trim().to_owned()
}

/// A name with every character that is not plain ASCII as its number, in quotes so that blanks are seen.
fn spelt_out(name: &str) -> String {
    let chars = name.chars().flat_map(char::escape_default);
    format!("\"{}\"", chars.collect::<String>())
}

/// Number of names listed before the others are only counted.
const TOLD: usize = 5;

/// Names in backticks, the first of them if there are many; characters that a terminal obeys are written out.
pub(super) fn names_shown<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> = names
        .by_ref()
        .take(TOLD)
        .map(|name| format!("`{}`", shown(Path::new(name))))
        .collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The path that is written as `bytes`.
pub(crate) fn path_of_bytes(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(OsStr::new(String::from_utf8_lossy(bytes).as_ref()))
    }
}

/// A name with the bytes that are no UTF-8 as `\xE4`.
pub(super) fn with_bytes_shown(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    chunks
        .map(|chunk| {
            let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}"));
            let valid = shown(Path::new(chunk.valid())).to_string();
            valid + &invalid.collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_take_for_one_have_one_key() {
        for (a, b) in [
            ("Fish", "fish"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("fish ", " fish"),
            ("hot dog", "hot_dog"),
            ("hot-dog", "Hot  Dog"),
            ("ﬁsh", "fish"),
            ("Ｆｉｓｈ", "fish"),
            ("straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("fish\u{200b}", "fish"),
            ("fish\u{a0}a", "fish a"),
            ("1", "1.0"),
            ("01", "1"),
            ("☀\u{fe0f}", "☀"),
        ] {
            assert_eq!(name_key(a), name_key(b), "{a} {b}");
        }
        for (a, b) in [
            ("fish", "fisch"),
            ("a+", "a-"),
            ("a", "a-"),
            ("1", "11"),
            ("café", "cafe"),
            ("nan", "inf"),
            ("1e1", "e1"),
        ] {
            assert_ne!(name_key(a), name_key(b), "{a} {b}");
        }
    }

    #[test]
    fn both_names_are_told_and_names_that_look_alike_are_spelt_out() {
        let classes = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let found = near_names(&classes(&["Fish", "cat", "fish"]), &[1, 5, 8], "folder");
        assert_eq!(
            found,
            [
                "the classes `Fish` with 1 image and `fish` with 8 images have almost the same name; if they are the same class, rename the folders"
            ]
        );
        let found = near_names(&classes(&["caf\u{e9}", "cafe\u{301}"]), &[2, 2], "label");
        assert!(
            found[0].contains("(spelled \"caf\\u{e9}\")") && found[0].contains("look alike"),
            "{found:?}"
        );
        assert!(near_names(&classes(&["a", "b"]), &[1, 1], "folder").is_empty());
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(names_shown(["a\n", "b"]), "`a\\n`, `b`");
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(names_shown(many), "`a`, `b`, `c`, `d`, `e` and 2 more");
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_shown() {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"K\xe4fer\n");
        assert_eq!(with_bytes_shown(name), "K\\xE4fer\\n");
    }
}
