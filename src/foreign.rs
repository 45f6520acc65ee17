//! What the system and other libraries say is wrong, in words for a person: without error numbers, names of Rust types and
//! phrases of parsers.

use std::fmt::Display;

/// A system error without its number: `No such file or directory`, not `… (os error 2)`.
pub(crate) fn system_error(error: &impl Display) -> String {
    const NUMBER: &str = " (os error ";
    let mut text = error.to_string();
    while let Some(start) = text.rfind(NUMBER) {
        let digits = &text[start + NUMBER.len()..];
        let length = digits.find(')').unwrap_or(digits.len());
        if length == 0
            || !digits[..length]
                .trim_start_matches('-')
                .bytes()
                .all(|b| b.is_ascii_digit())
        {
            break;
        }
        let end = (start + NUMBER.len() + length + 1).min(text.len());
        text.replace_range(start..end, "");
    }
    match text.as_str() {
        "failed to fill whole buffer" | "unexpected end of file" => "it ends too early".to_owned(),
        "stream did not contain valid UTF-8" => "it is not UTF-8 text".to_owned(),
        _ => text,
    }
}

/// What is wrong with the text of a number, if `fault` is what Rust says of one.
pub(crate) fn number_fault(fault: &str) -> Option<&'static str> {
    Some(match fault {
        "invalid digit found in string" => "this is not a whole number",
        "invalid float literal" => "this is not a number",
        "cannot parse integer from empty string" | "cannot parse float from empty string" => {
            "a number is missing"
        }
        "number too large to fit in target type" => "this number is too large",
        "number too small to fit in target type" => "this number is too small",
        _ => return None,
    })
}

/// What is wrong with a text of settings or data (JSON, TOML), as one clause: with its place and the name of the field,
/// where the parser knows them.
pub(crate) fn data_fault(fault: &impl Display) -> String {
    let text = fault.to_string();
    let mut place = None;
    let mut key = None;
    let mut message = String::new();
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("TOML parse error at ") {
            place = Some(found.to_owned());
        } else if let Some(found) = line.strip_prefix("in `") {
            key = Some(found.trim_end_matches('`').to_owned());
        } else if !is_excerpt(line) && message.is_empty() {
            message = line.trim().to_owned();
        }
    }
    if let Some(at) = message
        .rfind(" at line ")
        .filter(|&at| is_place(&message[at + 4..]))
    {
        // A value that was read before has no place.
        let found = message[at + 4..].replace(" column ", ", column ");
        place = (!found.starts_with("line 0")).then_some(found);
        message.truncate(at);
    }
    let said = in_plain_words(&message);
    let named = match key {
        Some(key) if !said.contains(&format!("`{key}`")) => format!("`{key}`: {said}"),
        _ => said,
    };
    match place {
        Some(place) => format!("{place}: {named}"),
        None => named,
    }
}

/// What is wrong with a table (CSV), as one clause.
pub(crate) fn table_fault(fault: &impl Display) -> String {
    let text = fault.to_string();
    match text.strip_prefix("CSV error: record ") {
        Some(rest) => {
            let line = rest.split_once("line: ").map_or("", |(_, line)| line);
            let digits = line
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(line.len());
            format!(
                "line {} does not have as many fields as the first line",
                &line[..digits]
            )
        }
        None => system_error(&text),
    }
}

/// Whether a line shows the text that is wrong, as TOML's messages do: `3 | epochs = x`, `  |     ^`.
fn is_excerpt(line: &str) -> bool {
    let rest = line.trim_start();
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    rest.starts_with('|')
}

fn is_place(text: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    text.strip_prefix("line ")
        .and_then(|rest| rest.split_once(" column "))
        .is_some_and(|(line, column)| number(line) && number(column))
}

fn in_plain_words(message: &str) -> String {
    let ended = ["EOF while", "unexpected end of hex escape"];
    if ended.iter().any(|sign| message.starts_with(sign)) {
        return "it ends too early".to_owned();
    }
    if message == "u64 value was too large" {
        return format!("a number is larger than {}", i64::MAX);
    }
    if let Some(found) = number_fault(message) {
        return found.to_owned();
    }
    let of = |prefix: &str| message.strip_prefix(prefix);
    let given = of("invalid type: ").or_else(|| of("invalid value: "));
    if let Some((found, expected)) = given.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("{} is given, but must be {}", thing(found), kind(expected));
    }
    if let Some((found, expected)) = of("invalid length ").and_then(|m| m.split_once(", expected "))
    {
        return format!("{found} values are given, but must be {}", kind(expected));
    }
    if let Some((name, expected)) = of("unknown variant ").and_then(|m| m.split_once(", expected "))
    {
        let names = expected.trim_start_matches("one of ");
        return format!("{name} is unknown; use {}", one_of(names));
    }
    if let Some(rest) = of("unknown field ") {
        let name = rest.split(", ").next().unwrap_or(rest);
        return format!("{name} is unknown");
    }
    if let Some(name) = of("missing field ") {
        return format!("{name} is missing");
    }
    if let Some(name) = of("duplicate field ") {
        return format!("{name} is given twice");
    }
    match message {
        "duplicate key" => "this name is given twice".to_owned(),
        // The rest of what JSON's parser says.
        "expected value"
        | "expected ident"
        | "expected `:`"
        | "expected `,` or `]`"
        | "expected `,` or `}`"
        | "expected `\"`"
        | "trailing comma"
        | "trailing characters"
        | "key must be a string"
        | "invalid escape"
        | "invalid number"
        | "invalid unicode code point"
        | "lone leading surrogate in hex escape"
        | "recursion limit exceeded" => "this is not valid JSON".to_owned(),
        _ if message.starts_with("control character") => "this is not valid JSON".to_owned(),
        _ => message.to_owned(),
    }
}

/// `a`, `b`, `c` → `a`, `b` or `c`.
fn one_of(names: &str) -> String {
    match names.rsplit_once(", ") {
        Some((first, last)) => format!("{first} or {last}"),
        None => names.to_owned(),
    }
}

/// A value as serde names it: `string "x"`, ``integer `3` ``.
fn thing(found: &str) -> String {
    // As TOML names what is too large for it.
    let found = found
        .trim_end_matches(" as i128")
        .trim_end_matches(" as u128");
    let value = |kind: &str| found.strip_prefix(kind).map(|rest| rest.trim().to_owned());
    if let Some(text) = value("string ") {
        return format!("the text {text}");
    }
    if let Some(number) = value("integer ").or_else(|| value("floating point ")) {
        return number;
    }
    match found {
        "boolean `true`" => "`true`",
        "boolean `false`" => "`false`",
        "null" | "unit value" | "Option value" => "nothing",
        "sequence" => "a list",
        "map" | "newtype struct" => "a table",
        other => other,
    }
    .to_owned()
}

/// What serde expects, by Rust's names of types.
fn kind(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" | "a boolean" => "true or false",
        "a string" | "str" | "a borrowed string" => "text",
        "a sequence" => "a list",
        "a map" => "a table",
        "any valid TOML value" => "a number from -9223372036854775808 to 9223372036854775807",
        "path string" => "a path",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.starts_with("an array of length ") => {
            return format!("{} values", &expected["an array of length ".len()..]);
        }
        _ if expected.starts_with("enum ") || expected.contains("variant") => "a name",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use serde::Deserialize;
    use toml::Table;

    use super::*;

    #[test]
    fn a_system_error_has_no_number() {
        let missing = std::fs::File::open("/no/such/file").unwrap_err();
        assert!(missing.to_string().contains("os error"), "{missing}");
        let text = system_error(&missing);
        assert!(!text.contains("os error") && !text.is_empty(), "{text}");
        let nested = io::Error::other(format!("a: {missing}; b: {missing}"));
        assert_eq!(system_error(&nested), format!("a: {text}; b: {text}"));
        for own in [
            "it is a link",
            "x (os error y)",
            "x (os error ",
            "x (os error )",
        ] {
            assert_eq!(system_error(&own), own);
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Settings {
        epochs: usize,
        #[serde(default)]
        rate: f32,
        #[serde(default)]
        hidden: Vec<u8>,
        #[serde(default)]
        mean: [f32; 3],
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        inner: BTreeMap<String, bool>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
        Three,
    }

    /// No word of Rust or of a parser is left.
    fn assert_plain(text: &str) {
        let foreign = [
            "usize",
            "u64",
            "f32",
            "struct",
            "enum",
            "variant",
            "invalid type",
            "invalid value",
            "TOML parse",
            "expected",
            "EOF",
            "floating point",
            "sequence",
            " | ",
            "^",
            "i128",
        ];
        for word in foreign {
            assert!(!text.contains(word), "`{word}` in: {text}");
        }
        assert!(!text.contains('\n') && !text.is_empty(), "{text:?}");
    }

    #[test]
    fn what_is_wrong_with_toml_is_said_in_plain_words_and_with_its_place() {
        let cases = [
            (
                "epochs = 'many'",
                "line 1, column 10: the text \"many\" is given, but must be a whole number, 0 or more",
            ),
            (
                "\nepochs = -1",
                "line 2, column 10: `-1` is given, but must be a whole number, 0 or more",
            ),
            ("rate = 1", "`epochs` is missing"),
            (
                "epochs = 1\nrate = true",
                "line 2, column 8: `true` is given, but must be a number",
            ),
            (
                "epochs = 1\nhidden = 'x'",
                "the text \"x\" is given, but must be a list",
            ),
            (
                "epochs = 1\nkind = 'four'",
                "`four` is unknown; use `one`, `two` or `three`",
            ),
            ("epochs = 1\nepoch = 1", "`epoch` is unknown"),
            (
                "epochs = 1\nepochs = 1",
                "line 2, column 1: this name is given twice",
            ),
            ("epochs = 99999999999999999999", "is given, but must be"),
            ("epochs = 1\nmean = [1.0]", "must be 3 values"),
        ];
        for (text, said) in cases {
            let fault = data_fault(&toml::from_str::<Settings>(text).unwrap_err());
            assert!(fault.contains(said), "{text}: {fault}");
            assert_plain(&fault);
        }
        // As flags are read: of values, which have no place but a name.
        let table: Table = "epochs = 1\nrate = 'x'".parse().unwrap();
        let fault = data_fault(&table.try_into::<Settings>().unwrap_err());
        assert_eq!(
            fault,
            "`rate`: the text \"x\" is given, but must be a number"
        );
    }

    #[test]
    fn what_is_wrong_with_json_is_said_in_plain_words_and_with_its_place() {
        let cases = [
            ("", "line 1, column 0: it ends too early"),
            ("{\"epochs\": 1", "it ends too early"),
            ("{epochs: 1}", "line 1, column 2: this is not valid JSON"),
            ("{\"epochs\": 1,}", "this is not valid JSON"),
            ("{\"epochs\": nan}", "this is not valid JSON"),
            (
                "{\"epochs\": 1.5}",
                "`1.5` is given, but must be a whole number, 0 or more",
            ),
            ("{}", "`epochs` is missing"),
            ("{\"epochs\": 1, \"epochs\": 2}", "`epochs` is given twice"),
            ("{\"epochs\": null}", "nothing is given"),
            ("[]", "must be"),
        ];
        for (text, said) in cases {
            let fault = data_fault(&serde_json::from_str::<Settings>(text).unwrap_err());
            assert!(fault.contains(said), "{text}: {fault}");
            assert_plain(&fault);
        }
        let value = serde_json::json!({"epochs": [1]});
        let fault = data_fault(&serde_json::from_value::<Settings>(value).unwrap_err());
        assert_eq!(
            fault,
            "a list is given, but must be a whole number, 0 or more"
        );
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_line() {
        let mut reader = csv::Reader::from_reader("a,b\n1,2\n\"x\ny\",2\n1\n".as_bytes());
        let fault = reader.byte_records().find_map(|record| record.err());
        assert_eq!(
            table_fault(&fault.unwrap()),
            "line 5 does not have as many fields as the first line"
        );
        let own = csv::Error::from(io::Error::other("a line has more than 9 bytes"));
        assert_eq!(table_fault(&own), "a line has more than 9 bytes");
    }

    #[test]
    fn what_is_wrong_with_a_number_is_said() {
        for text in ["", "x", "-1", "1.5", "99999999999999999999999"] {
            let fault = text.parse::<usize>().unwrap_err().to_string();
            assert!(number_fault(&fault).is_some(), "{fault}");
        }
        for text in ["", "x"] {
            let fault = text.parse::<f64>().unwrap_err().to_string();
            assert!(number_fault(&fault).is_some(), "{fault}");
        }
        assert_eq!(number_fault("it is a link"), None);
    }
}
