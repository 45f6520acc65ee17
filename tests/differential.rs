//! Thousands of pictures of every kind that a format allows, made by chance, against Pillow: the pixels are Pillow's or
//! the file is refused as a kind that is not supported. Short in the suite; `TL_CAMPAIGN` gives the number of files of
//! each kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use tl::pixels::{DecodeLimits, Picture, Rendering};

use crate::program::Workplace;
use crate::python::{python, run_python};

/// Files of each kind in the suite.
const FILES: usize = 250;

/// The background of the scripts.
const BACKGROUND: [u8; 3] = [255; 3];

/// What Pillow makes of a file; width 0 if it refuses it.
#[derive(Deserialize)]
struct Case {
    file: String,
    width: u32,
    height: u32,
}

fn count() -> usize {
    std::env::var("TL_CAMPAIGN").map_or(FILES, |text| text.parse().unwrap())
}

/// A file: what it is, its bytes, and Pillow's pixels, `[height, width, 3]`.
type Made = (Case, Vec<u8>, Vec<u8>);

/// A script's files.
fn made(folder: &Path, script: &str, seed: &str) -> Option<Vec<Made>> {
    let python = python()?;
    run_python(&python, script, &[folder], &[&count().to_string(), seed]);
    let cases: Vec<Case> =
        serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let pixels = fs::read(folder.join("pixels")).unwrap();
    let mut at = 0;
    let mut take = |case: Case| {
        let end = at + (case.width * case.height * 3) as usize;
        let part = pixels[at..end].to_vec();
        at = end;
        let bytes = fs::read(folder.join(&case.file)).unwrap();
        (case, bytes, part)
    };
    Some(cases.into_iter().map(&mut take).collect())
}

/// Mean and largest difference of levels.
fn distance(a: &[u8], b: &[u8]) -> (f64, u8) {
    let distances = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = distances().map(f64::from).sum();
    (sum / a.len() as f64, distances().max().unwrap_or(0))
}

/// Pillow's picture with each square of `divisor` pixels a side as one pixel, its mean. What is missing at the right and
/// lower edge is as the last pixel there.
fn shrunk(pixels: &[u8], (width, height): (u32, u32), divisor: u32) -> Vec<u8> {
    let (across, down) = (width.div_ceil(divisor), height.div_ceil(divisor));
    let mean = |x: u32, y: u32, c: u32| {
        let square = (0..divisor * divisor).map(|i| {
            let x = (x * divisor + i % divisor).min(width - 1);
            let y = (y * divisor + i / divisor).min(height - 1);
            u32::from(pixels[((y * width + x) * 3 + c) as usize])
        });
        let area = divisor * divisor;
        ((square.sum::<u32>() + area / 2) / area) as u8
    };
    (0..down)
        .flat_map(|y| (0..across).flat_map(move |x| (0..3).map(move |c| (x, y, c))))
        .map(|(x, y, c)| mean(x, y, c))
        .collect()
}

/// What is wrong about one file, decoded for a `least_side` or whole; none if nothing is. Also notes a refusal in
/// `refused`.
fn problem(
    (case, bytes, pixels): &(Case, Vec<u8>, Vec<u8>),
    least_side: Option<u32>,
    (mean, max): (f64, u8),
    refused: &mut BTreeMap<String, usize>,
) -> Option<String> {
    let rendering = Rendering {
        least_side,
        ..BACKGROUND.into()
    };
    let path = Path::new(&case.file);
    let found = match Picture::decode(bytes, path, &DecodeLimits::default(), rendering) {
        Ok(found) => found,
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.trim_start_matches(&case.file).to_owned();
            let named = reason.contains("not supported") || case.width == 0;
            *refused.entry(reason.clone()).or_default() += 1;
            return (!named).then_some(reason);
        }
    };
    if case.width == 0 {
        return None;
    }
    let divisor = case.width.div_ceil(found.width);
    let expected = (case.width.div_ceil(divisor), case.height.div_ceil(divisor));
    if (found.width, found.height) != expected {
        return Some(format!(
            "is {} x {}, not {} x {}",
            found.width, found.height, expected.0, expected.1
        ));
    }
    let theirs = shrunk(pixels, (case.width, case.height), divisor);
    let (found_mean, found_max) = distance(&found.rgb, &theirs);
    (found_mean > mean || found_max > max)
        .then(|| format!("1/{divisor}: mean {found_mean:.2}, largest {found_max}"))
}

/// The size that the file's header says is the one that decoding gives.
fn measured(folder: &Path, case: &Case) -> Option<String> {
    let path = folder.join(&case.file);
    let decoded = Picture::open(&path, &DecodeLimits::default(), BACKGROUND).ok()?;
    let size = Picture::measure(&path).ok();
    (size != Some((decoded.width, decoded.height))).then(|| format!("is measured as {size:?}"))
}

#[test]
fn jpegs_of_every_kind_are_those_of_pillow_whole_and_reduced() {
    let work = Workplace::new();
    let Some(cases) = made(&work.path("."), "odd_jpegs.py", "1") else {
        return;
    };
    let mut refused = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        // Decoders round the inverse transform in their own ways, and enlarge chroma by other filters; the pictures
        // are soft, so that this is little.
        let whole = problem(case, None, (1.5, 12), &mut refused);
        // The transform of 4, 2 or 1 pixels is no mean, and the edge of a block is not the edge of the picture.
        let least = case.0.width.min(case.0.height).div_ceil(4).max(1);
        let reduced = [2, 4, 8].into_iter().filter_map(|divisor| {
            let least = case.0.width.min(case.0.height).div_ceil(divisor).max(1);
            problem(case, Some(least), (3.0, 40), &mut BTreeMap::new())
        });
        let _ = least;
        let all = whole
            .into_iter()
            .chain(reduced)
            .chain(measured(&work.path("."), &case.0));
        wrong.extend(all.map(|problem| format!("{}: {problem}", case.0.file)));
    }
    eprintln!(
        "{} files, {} problems; refused: {refused:#?}",
        cases.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn pictures_of_other_formats_are_those_of_pillow() {
    let work = Workplace::new();
    let Some(cases) = made(&work.path("."), "odd_pictures.py", "1") else {
        return;
    };
    let mut refused = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let found = problem(case, None, (0.5, 2), &mut refused);
        let all = found.into_iter().chain(measured(&work.path("."), &case.0));
        wrong.extend(all.map(|problem| format!("{}: {problem}", case.0.file)));
    }
    let refusals: usize = refused.values().sum();
    eprintln!(
        "{} files, {} problems; refused: {refused:#?}",
        cases.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refusals * 3 < cases.len(), "{refused:#?}");
}
