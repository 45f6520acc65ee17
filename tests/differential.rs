//! Thousands of pictures of every kind that a format allows, made by chance, against Pillow: the pixels are Pillow's or
//! the file is refused as a kind that is not supported. Short in the suite; `TL_CAMPAIGN` gives the number of files of
//! each kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use tl::pixels::{DecodeLimits, DecodeOptions, Picture};

use crate::program::Workplace;
use crate::python::{python, run_python};

/// Files of each kind in the suite.
const FILES: usize = 250;

/// The longest side of the small JPEGs, in pixels.
const LARGEST: u32 = 70;

/// The background of the scripts.
const BACKGROUND: [u8; 3] = [255; 3];

/// What Pillow makes of a file; width 0 if it refuses it.
#[derive(Deserialize)]
struct Case {
    file: String,
    width: u32,
    height: u32,
    #[serde(skip)]
    bytes: Vec<u8>,
    /// Pillow's, `[height, width, 3]`.
    #[serde(skip)]
    pixels: Vec<u8>,
}

fn count() -> usize {
    std::env::var("TL_CAMPAIGN").map_or(FILES, |text| text.parse().unwrap())
}

/// A script's files; none without a Python.
fn made(folder: &Path, script: &str, seed: &str) -> Option<Vec<Case>> {
    let python = python()?;
    run_python(&python, script, &[folder], &[&count().to_string(), seed]);
    let list = fs::read(folder.join("cases.json")).unwrap();
    let mut cases: Vec<Case> = serde_json::from_slice(&list).unwrap();
    let mut pixels = fs::read(folder.join("pixels")).unwrap();
    for case in &mut cases {
        let rest = pixels.split_off((case.width * case.height * 3) as usize);
        case.pixels = std::mem::replace(&mut pixels, rest);
        case.bytes = fs::read(folder.join(&case.file)).unwrap();
    }
    Some(cases)
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

/// What is wrong about one file, decoded whole or at 1/`divisor` of its size; none if nothing is. A refusal of a kind
/// that is not supported is counted in `refused`.
fn problem(
    case: &Case,
    divisor: u32,
    (mean, max): (f64, u8),
    refused: &mut BTreeMap<String, usize>,
) -> Option<String> {
    let size = (case.width, case.height);
    let decode_options = DecodeOptions {
        least_side: (divisor > 1).then(|| size.0.min(size.1).div_ceil(divisor)),
        ..BACKGROUND.into()
    };
    let path = Path::new(&case.file);
    let found = match Picture::decode(&case.bytes, path, &DecodeLimits::default(), decode_options) {
        Ok(_) if case.width == 0 => return None,
        Ok(found) => found,
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.split(&case.file).last().unwrap().to_owned();
            let named = reason.contains("is an unsupported kind of") || case.width == 0;
            *refused.entry(reason.clone()).or_default() += 1;
            return (!named).then_some(reason);
        }
    };
    let reduced = (size.0.div_ceil(divisor), size.1.div_ceil(divisor));
    let theirs = match (found.width, found.height) {
        found if found == reduced => shrunk(&case.pixels, size, divisor),
        // Of some kinds there are no smaller pictures.
        found if found == size => case.pixels.clone(),
        found => return Some(format!("is {found:?}, not {reduced:?} of {size:?}")),
    };
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

/// Fails if something is wrong, or if more than a few files are of a kind that is refused.
fn report(cases: &[Case], wrong: &[String], refused: &BTreeMap<String, usize>) {
    let refusals: usize = refused.values().sum();
    let (files, problems) = (cases.len(), wrong.len());
    eprintln!("{files} files, {problems} problems, {refusals} refused: {refused:#?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refusals * 5 < files, "{refused:#?}");
}

#[test]
fn jpegs_of_every_kind_are_those_of_pillow_whole_and_reduced() {
    let work = Workplace::new();
    let folder = work.path(".");
    let Some(cases) = made(&folder, "odd_jpegs.py", "1") else {
        return;
    };
    let mut refused = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut large = 0;
    for case in &cases {
        // Decoders round the inverse transform in their own ways, and enlarge chroma by other filters; the pictures
        // are soft, so that this is little.
        let whole = problem(case, 1, (1.5, 12), &mut refused);
        let mut found: Vec<String> = whole.into_iter().collect();
        if case.width.max(case.height) > LARGEST {
            // A pixel of the reduced transform is not quite the mean, and chroma may have half of the pixels.
            let mut unsaid = BTreeMap::new();
            let reduced = |divisor| problem(case, divisor, (2.5, 32), &mut unsaid);
            found.extend([2, 4, 8].into_iter().filter_map(reduced));
            large += 1;
        }
        found.extend(measured(&folder, case));
        wrong.extend(
            found
                .iter()
                .map(|problem| format!("{}: {problem}", case.file)),
        );
    }
    report(&cases, &wrong, &refused);
    assert!(large * 5 > cases.len(), "{large}");
}

#[test]
fn pictures_of_other_formats_are_those_of_pillow() {
    let work = Workplace::new();
    let folder = work.path(".");
    let Some(cases) = made(&folder, "odd_pictures.py", "1") else {
        return;
    };
    let mut refused = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        // Pillow cuts 16 bits to 8 where we round; JPEGs leave rounding to the decoder.
        let found = problem(case, 1, (0.75, 4), &mut refused);
        let all = found.into_iter().chain(measured(&folder, case));
        wrong.extend(all.map(|problem| format!("{}: {problem}", case.file)));
    }
    report(&cases, &wrong, &refused);
}
