//! Parses label lists: encoding, separator, columns.

use std::path::Path;

use super::encoding::decode;
use super::names::{path_of_bytes, with_bytes_shown};
use crate::counts::count;
use crate::error::shown;
use crate::foreign::table_fault;

/// Names of the column of paths, the surest first; in lower case, with `_` between words.
const PATH_COLUMNS: [&str; 22] = [
    "path",
    "filepath",
    "file_path",
    "relative_path",
    "image_path",
    "img_path",
    "filename",
    "file_name",
    "file",
    "files",
    "image_name",
    "image_file",
    "img_name",
    "image",
    "images",
    "img",
    "picture",
    "photo",
    "image_id",
    "img_id",
    "name",
    "id",
];

/// Names of the column of labels, likewise.
const LABEL_COLUMNS: [&str; 14] = [
    "class_name",
    "classname",
    "label_name",
    "label",
    "labels",
    "class",
    "classes",
    "category",
    "category_name",
    "target",
    "species",
    "breed",
    "tag",
    "y",
];

/// Names of the column of splits.
const SPLIT_COLUMNS: [&str; 6] = ["split", "set", "subset", "partition", "usage", "phase"];

/// Separators, the usual one first, with their names.
const SEPARATORS: [(u8, &str); 5] = [
    (b',', "commas"),
    (b';', "semicolons"),
    (b'\t', "tabs"),
    (b'|', "vertical bars"),
    (b' ', "blanks"),
];

/// Lines that are looked at to find out how a list is written.
const LOOKED_AT: usize = 200;

/// What is wrong with a list: the line, from 1 on, where it is one; and what to do.
pub(super) type Problem = (Option<usize>, String);

/// The lines of a list.
pub(super) struct List {
    pub lines: Vec<Line>,
    /// How it was read, where that is not plain.
    pub notes: Vec<String>,
    /// What looks like a mistake.
    pub warnings: Vec<String>,
}

/// One line; its fields have no white space around them.
pub(super) struct Line {
    /// Its number, from 1 on.
    pub number: usize,
    /// The path as bytes, not empty.
    pub path: Vec<u8>,
    /// The label, not empty.
    pub label: String,
    /// The name of the split, if there is one.
    pub split: Option<String>,
}

/// Places of the columns.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

struct Record {
    number: usize,
    fields: Vec<Vec<u8>>,
}

/// Reads a list of paths and labels. `is_file` tells whether a field is the path of an image: that decides where the
/// columns could be taken for each other.
///
/// # Errors
/// A [`Problem`].
pub(super) fn read_list(bytes: &[u8], is_file: impl Fn(&[u8]) -> bool) -> Result<List, Problem> {
    let text = decode(bytes).map_err(|problem| (None, problem))?;
    let (text, first_line, said) = after_separator_line(&text);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err((
            None,
            "the list is empty; it must have the columns path and label".into(),
        ));
    }
    let separator = match said {
        Some(separator) => separator,
        None => separator_of(text, &is_file),
    };
    let mut records = records(text, separator, first_line, usize::MAX)?;
    let mut list = List {
        lines: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
    };
    if let Some((_, name)) = SEPARATORS[1..].iter().find(|(s, _)| *s == separator) {
        list.notes
            .push(format!("the list's columns are separated by {name}"));
    }
    let header = header_of(&records, &is_file).then(|| records.remove(0));
    let unnamed = |h: &&Record| {
        let known = [&PATH_COLUMNS[..], &LABEL_COLUMNS].map(|names| place_of(&h.fields, names));
        known == [None, None]
    };
    if let Some(header) = header.as_ref().filter(unnamed) {
        let names = header.fields.iter();
        let names = names.map(|f| shown(Path::new(&*String::from_utf8_lossy(f))).to_string());
        list.notes.push(format!(
            "reading line {} of the list as the names of its columns: {}",
            header.number,
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    if records.is_empty() {
        let problem = "the list has only a header; add lines of path,label";
        return Err((None, problem.into()));
    }
    let columns = match &header {
        Some(header) => named_columns(header, &records, &mut list)?,
        None => places(&records, &is_file, &mut list),
    };
    for record in records {
        if header.as_ref().is_some_and(|h| h.fields == record.fields) {
            let number = record.number;
            list.warnings.push(format!(
                "ignored line {number} of the list: it repeats the header"
            ));
            continue;
        }
        list.lines.push(line(record, &columns, separator)?);
    }
    let missing = ["nan", "null", "n/a", "#n/a", "<na>"];
    let is_missing = |line: &&Line| missing.contains(&line.label.to_lowercase().as_str());
    if let Some(line) = list.lines.iter().find(is_missing) {
        list.warnings.push(format!(
            "the label `{}` in line {} of the list looks like a missing value; it is read as a class",
            line.label, line.number
        ));
    }
    let broken: Vec<usize> = list
        .lines
        .iter()
        .filter(|line| line.label.contains(['\n', '\r']))
        .map(|line| line.number)
        .collect();
    if let Some(number) = broken.first() {
        list.warnings.push(format!(
            "{} in the list {} a line break in {}, the first at line {number}; is a quotation mark missing?",
            count(broken.len(), "label"),
            if broken.len() == 1 { "has" } else { "have" },
            if broken.len() == 1 { "it" } else { "them" },
        ));
    }
    Ok(list)
}

/// What is after a line such as `sep=;`, which spreadsheets write; the number of the line, and the separator.
fn after_separator_line(text: &[u8]) -> (&[u8], usize, Option<u8>) {
    match text {
        [
            b's' | b'S',
            b'e' | b'E',
            b'p' | b'P',
            b'=',
            separator,
            rest @ ..,
        ] if matches!(rest.first(), None | Some(b'\r' | b'\n')) => (rest, 0, Some(*separator)),
        text => (text, 0, None),
    }
}

/// The separator with which most lines have an image's path, and all of them more than one field.
fn separator_of(text: &[u8], is_file: &impl Fn(&[u8]) -> bool) -> u8 {
    let score = |separator: u8| {
        let Ok(records) = records(text, separator, 0, LOOKED_AT) else {
            return (0, false);
        };
        let files = |r: &&Record| r.fields.iter().take(2).any(|field| is_file(field));
        let wide = |r: &Record| r.fields.len() > 1;
        let wide_files = records.iter().filter(|r| wide(r)).filter(files).count();
        (wide_files, records.iter().all(wide))
    };
    let mut best = (b',', score(b','));
    for (separator, _) in &SEPARATORS[1..] {
        let found = score(*separator);
        // Names have blanks in them: without a file to prove it, these separate nothing.
        if found > best.1 && (*separator != b' ' || (found.0 > 0 && found.1)) {
            best = (*separator, found);
        }
    }
    best.0
}

fn records(
    text: &[u8],
    separator: u8,
    first_line: usize,
    most: usize,
) -> Result<Vec<Record>, Problem> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .from_reader(text);
    let mut found = Vec::new();
    for (i, record) in reader.byte_records().enumerate() {
        let record = record.map_err(|e| (Some(i + 1), table_fault(&e)))?;
        let number = record.position().map_or(i + 1, |p| p.line() as usize) + first_line;
        let mut fields: Vec<Vec<u8>> = record.iter().map(|f| trimmed(f).to_vec()).collect();
        // Spreadsheets end every line with as many separators as the longest has.
        while fields.last().is_some_and(Vec::is_empty) {
            fields.pop();
        }
        if !fields.is_empty() {
            found.push(Record { number, fields });
        }
        if found.len() == most {
            break;
        }
    }
    Ok(found)
}

fn trimmed(field: &[u8]) -> &[u8] {
    match std::str::from_utf8(field) {
        Ok(text) => text
            .trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
            .as_bytes(),
        Err(_) => field.trim_ascii(),
    }
}

/// A field as the name of a column.
fn column_name(field: &[u8]) -> String {
    let name = String::from_utf8_lossy(field).to_lowercase();
    name.replace([' ', '-'], "_")
}

/// The place of the column that has the surest of `names`.
fn place_of(header: &[Vec<u8>], names: &[&str]) -> Option<usize> {
    let columns: Vec<String> = header.iter().map(|field| column_name(field)).collect();
    names
        .iter()
        .find_map(|name| columns.iter().position(|column| column == name))
}

/// Returns whether the first line names the columns.
fn header_of(records: &[Record], is_file: &impl Fn(&[u8]) -> bool) -> bool {
    let Some(first) = records.first() else {
        return false;
    };
    if first.fields.iter().any(|field| is_file(field)) {
        return false;
    }
    let path = place_of(&first.fields, &PATH_COLUMNS);
    let label = place_of(&first.fields, &LABEL_COLUMNS);
    let no_path = |field: &Vec<u8>| !field.contains(&b'.') && !field.contains(&b'/');
    match (path, label) {
        (Some(0), _) | (Some(_), Some(_)) => true,
        (None, Some(_)) if first.fields.iter().all(no_path) => true,
        _ => {
            // Names that nobody foresaw, above lines of which each has an image.
            let rest = &records[1..records.len().min(LOOKED_AT)];
            let is_picture = |r: &Record| r.fields.iter().take(2).any(|field| is_file(field));
            rest.len() > 1 && rest.iter().all(is_picture) && first.fields.iter().all(no_path)
        }
    }
}

fn named_columns(header: &Record, records: &[Record], list: &mut List) -> Result<Columns, Problem> {
    let fields = &header.fields;
    let path = place_of(fields, &PATH_COLUMNS);
    let label = place_of(fields, &LABEL_COLUMNS).filter(|place| Some(*place) != path);
    let split = place_of(fields, &SPLIT_COLUMNS);
    let path = path.unwrap_or(match label {
        Some(0) => 1,
        _ => 0,
    });
    let others: Vec<usize> = (0..fields.len())
        .filter(|&i| i != path && Some(i) != split)
        .collect();
    let columns = Columns {
        path,
        label: label.or(others.first().copied()).unwrap_or(1),
        split,
    };
    let name = |place: usize| {
        let field = fields.get(place).map_or(&[][..], Vec::as_slice);
        match field {
            [] => format!("column {}", place + 1),
            field => shown(Path::new(&*String::from_utf8_lossy(field))).to_string(),
        }
    };
    if label.is_none() && others.len() > 1 {
        if is_one_hot(records, &others) {
            let names: Vec<String> = others.iter().take(3).map(|&i| name(i)).collect();
            let problem = format!(
                "it has a column of 0 and 1 for each class ({}{}); give one column with the name of the class",
                names.join(", "),
                if others.len() > 3 { ", …" } else { "" }
            );
            return Err((Some(header.number), problem));
        }
        list.warnings.push(format!(
            "no column of the list is named label or class; reading column {} ({}) as the class",
            columns.label + 1,
            name(columns.label)
        ));
    }
    if columns.path > columns.label {
        list.notes.push(format!(
            "the list's columns are swapped: the label is in column {} ({}), the path in column {} ({})",
            columns.label + 1,
            name(columns.label),
            columns.path + 1,
            name(columns.path)
        ));
    }
    let used = [Some(columns.path), Some(columns.label), columns.split];
    let unused: Vec<String> = (0..fields.len())
        .filter(|place| !used.contains(&Some(*place)))
        .map(name)
        .collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        list.notes
            .push(format!("ignored columns of the list: {unused}"));
    }
    Ok(columns)
}

/// Returns whether the columns `places` say with 1 and 0 which class an image has.
fn is_one_hot(records: &[Record], places: &[usize]) -> bool {
    let is_digit = |record: &Record, place: usize| {
        let field = record.fields.get(place).map_or(&b""[..], Vec::as_slice);
        matches!(
            &field.to_ascii_lowercase()[..],
            b"0" | b"1" | b"0.0" | b"1.0" | b"true" | b"false" | b""
        )
    };
    let mut looked_at = records.iter().take(LOOKED_AT);
    looked_at.all(|record| places.iter().all(|&place| is_digit(record, place)))
}

/// The places of columns without names: path, label, split, unless the second column alone has paths.
fn places(records: &[Record], is_file: &impl Fn(&[u8]) -> bool, list: &mut List) -> Columns {
    let looked_at = &records[..records.len().min(LOOKED_AT)];
    let files = |place: usize| {
        let fields = looked_at.iter().filter_map(|r| r.fields.get(place));
        fields.filter(|field| is_file(field)).count()
    };
    let swapped = files(0) == 0 && 2 * files(1) > looked_at.len();
    if swapped {
        list.warnings
            .push("the list's columns are swapped: reading each line as label, path".into());
    }
    Columns {
        path: usize::from(swapped),
        label: usize::from(!swapped),
        split: Some(2),
    }
}

fn line(record: Record, columns: &Columns, separator: u8) -> Result<Line, Problem> {
    let fail = |problem: String| (Some(record.number), problem);
    let field = |place: usize| record.fields.get(place).filter(|field| !field.is_empty());
    let (Some(path), Some(label)) = (field(columns.path), field(columns.label)) else {
        let between = match separator {
            b';' => "a semicolon",
            b'\t' => "a tab",
            b'|' => "a vertical bar",
            b' ' => "a space",
            _ => "a comma",
        };
        return Err(fail(format!(
            "a line must have a path and a label, separated by {between}"
        )));
    };
    for (field, what, most) in [(path, "path", 4096), (label, "label", 1000)] {
        if field.len() > most {
            return Err(fail(format!(
                "its {what} has {} bytes; is a quotation mark missing?",
                field.len()
            )));
        }
    }
    let text = |field: &Vec<u8>, what: &str| {
        String::from_utf8(field.clone()).map_err(|_| {
            fail(format!(
                "the {what} `{}` is not UTF-8; save the list as UTF-8",
                with_bytes_shown(path_of_bytes(field).as_os_str())
            ))
        })
    };
    Ok(Line {
        number: record.number,
        path: path.clone(),
        label: text(label, "label")?,
        split: match columns.split.and_then(field) {
            Some(split) => Some(text(split, "split")?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, label and split of each line of a list, where files end in `.jpg`.
    fn read(bytes: &[u8]) -> Result<List, Problem> {
        read_list(bytes, |field| field.ends_with(b".jpg"))
    }

    fn rows(bytes: &[u8]) -> Vec<String> {
        let list = read(bytes).unwrap();
        let row = |l: &Line| {
            let path = String::from_utf8_lossy(&l.path).into_owned();
            let split = l
                .split
                .as_deref()
                .map_or(String::new(), |s| format!("/{s}"));
            format!("{path}={}{split}", l.label)
        };
        list.lines.iter().map(row).collect()
    }

    fn wide(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn lists_are_read_however_programs_write_them() {
        let plain = "a.jpg,cat\nsub/b.jpg,dog\n";
        for (about, bytes) in [
            ("plain", plain.as_bytes().to_vec()),
            ("a byte order mark", format!("\u{feff}{plain}").into_bytes()),
            (
                "UTF-16LE",
                wide(&format!("\u{feff}{plain}"), u16::to_le_bytes),
            ),
            (
                "UTF-16BE",
                wide(&format!("\u{feff}{plain}"), u16::to_be_bytes),
            ),
            ("UTF-16LE without a mark", wide(plain, u16::to_le_bytes)),
            ("UTF-16BE without a mark", wide(plain, u16::to_be_bytes)),
            ("semicolons", plain.replace(',', ";").into_bytes()),
            ("tabs", plain.replace(',', "\t").into_bytes()),
            ("bars", plain.replace(',', "|").into_bytes()),
            ("blanks", plain.replace(',', " ").into_bytes()),
            (
                "said separator",
                format!("sep=;\r\n{}", plain.replace(',', ";")).into_bytes(),
            ),
            ("CRLF", plain.replace('\n', "\r\n").into_bytes()),
            ("old Mac", plain.replace('\n', "\r").into_bytes()),
            (
                "white space",
                b" a.jpg , cat \n\n\nsub/b.jpg,\tdog\xc2\xa0\n".to_vec(),
            ),
            (
                "empty columns",
                b"a.jpg,cat,,,\nsub/b.jpg,dog,,,\n,,,,\n".to_vec(),
            ),
            (
                "quotes",
                b"\"a.jpg\",\"cat\"\n\"sub/b.jpg\",\"dog\"\n".to_vec(),
            ),
            ("header", format!("filename,label\n{plain}").into_bytes()),
            (
                "header in capitals",
                format!("Image Path,Class\n{plain}").into_bytes(),
            ),
            ("unknown header", format!("Foto,Art\n{plain}").into_bytes()),
            (
                "header twice",
                b"file,label\na.jpg,cat\nfile,label\nsub/b.jpg,dog\n".to_vec(),
            ),
            ("swapped", b"cat,a.jpg\ndog,sub/b.jpg\n".to_vec()),
            (
                "swapped with header",
                b"label,filename\ncat,a.jpg\ndog,sub/b.jpg\n".to_vec(),
            ),
            (
                "more columns",
                b"id,w,filename,class,class_name\n1,9,a.jpg,0,cat\n2,9,sub/b.jpg,1,dog\n".to_vec(),
            ),
        ] {
            assert_eq!(rows(&bytes), ["a.jpg=cat", "sub/b.jpg=dog"], "{about}");
        }
        assert_eq!(rows(b"x.jpg;a, b\n"), ["x.jpg=a, b"]);
        assert_eq!(rows(b"a, b.jpg;dog;val\n"), ["a, b.jpg=dog/val"]);
        assert_eq!(rows(b"subset,file,y\nTrain,a.jpg,1\n"), ["a.jpg=1/Train"]);
    }

    #[test]
    fn what_was_understood_is_said() {
        let notes = |bytes: &[u8]| {
            let list = read(bytes).unwrap();
            [list.notes, list.warnings].concat().join("; ")
        };
        assert_eq!(notes(b"a.jpg,cat\n"), "");
        assert!(notes(b"a.jpg;cat\n").contains("separated by semicolons"));
        assert!(notes(b"cat,a.jpg\n").contains("swapped"));
        assert!(notes(b"label,file\ncat,a.jpg\n").contains("swapped"));
        assert!(
            notes(b"file,label,who\na.jpg,cat,me\n").contains("ignored columns of the list: who")
        );
        assert!(
            notes(b"file,label\na.jpg,cat\nfile,label\n").contains("ignored line 3 of the list")
        );
        assert!(
            notes(b"file,old,new\na.jpg,cat,puma\n")
                .contains("reading column 2 (old) as the class")
        );
        assert!(
            notes(b",file,label\n0,a.jpg,cat\n").contains("ignored columns of the list: column 1")
        );
        assert!(
            notes(b"Foto,Art\na.jpg,cat\nb.jpg,dog\n")
                .contains("reading line 1 of the list as the names of its columns: Foto, Art")
        );
        assert!(
            notes(b"a.jpg,NaN\nb.jpg,cat\n").contains("`NaN` in line 1 of the list looks like")
        );
        assert!(notes(b"a.jpg,\"c\nat\"\n").contains("1 label in the list has a line break in it"));
    }

    #[test]
    fn what_is_no_list_is_refused_with_what_to_do() {
        for (bytes, expected) in [
            (&b""[..], "is empty"),
            (b"\xef\xbb\xbf \n\n", "is empty"),
            (b"filename,label\n", "has only a header"),
            (b"label,filename\n", "has only a header"),
            (b"PK\x03\x04 and so on", "is a spreadsheet"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not text"),
            (b"a.jpg\n", "a path and a label, separated by a comma"),
            (b"a.jpg,\n", "a path and a label"),
            (
                b"file,cat,dog,cow,pig\na.jpg,1,0,0,0\nb.jpg,0,0,1,0\n",
                "a column of 0 and 1 for each class (cat, dog, cow, …)",
            ),
            (
                b"file,cat,dog\na.jpg,1.0,0.0\nb.jpg,False,True\n",
                "(cat, dog)",
            ),
            (b"a.jpg,K\xe4fer\n", "the label `K\\xE4fer` is not UTF-8"),
        ] {
            let (_, problem) = read(bytes).err().unwrap();
            assert!(problem.contains(expected), "{problem}");
        }
        let open = format!("a.jpg,\"cat\n{}", "b.jpg,dog\n".repeat(200));
        let (line, problem) = read(open.as_bytes()).err().unwrap();
        assert!(
            problem.contains("is a quotation mark missing?"),
            "{problem}"
        );
        assert_eq!(line, Some(1));
    }
}
