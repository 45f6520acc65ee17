//! Pictures against Pillow: the same files, decoded and resized, give the same pixels.

use std::path::Path;

use serde::Deserialize;
use tl::pixels::{DecodeLimits, Filter, Picture, Preprocess, Preprocessor, ResizeRule};

use crate::program::repository;
use crate::python::{python, run_python};

/// The background of `pillow_reference.py`.
const BACKGROUND: [u8; 3] = [250, 120, 10];

#[derive(Deserialize)]
struct Cases {
    decode: Vec<Expected>,
    resize: Vec<Resized>,
}

/// What Pillow makes of a file.
#[derive(Deserialize)]
struct Expected {
    file: String,
    pixels: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Resized {
    resize: ResizeRule,
    filter: Filter,
    crop_pct: Option<f64>,
    #[serde(flatten)]
    expected: Expected,
}

/// How far the levels (0 to 255) of two pictures may be from each other.
struct Tolerance {
    mean: f64,
    max: u8,
}

/// Runs `tests/python/pillow_reference.py`; none without a Python.
fn pillow(folder: &Path) -> Option<Cases> {
    let python = python()?;
    let photo = repository("datasets/tiny/fish/fish1.jpg");
    run_python(&python, "pillow_reference.py", &[folder, &photo], &[]);
    let cases = std::fs::read(folder.join("cases.json")).unwrap();
    Some(serde_json::from_slice(&cases).unwrap())
}

/// What is wrong with `found`; none if it is as expected.
fn difference(
    found: &Picture,
    expected: &Expected,
    folder: &Path,
    tolerance: &Tolerance,
) -> Option<String> {
    if (found.width, found.height) != (expected.width, expected.height) {
        return Some(format!(
            "{} x {}, not {} x {}",
            found.width, found.height, expected.width, expected.height
        ));
    }
    let pixels = std::fs::read(folder.join(&expected.pixels)).unwrap();
    assert_eq!(found.rgb.len(), pixels.len());
    let distances = || found.rgb.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b));
    let max = distances().max().unwrap();
    let mean = distances().map(f64::from).sum::<f64>() / pixels.len() as f64;
    (mean > tolerance.mean || max > tolerance.max)
        .then(|| format!("mean difference {mean:.3}, largest {max}"))
}

/// Lossless formats are equal to the bit. JPEG leaves the rounding of the inverse transform, and of the
/// interpolation of reduced chroma, to the decoder; CMYK the rounding of its products.
fn decode_tolerance(file: &str) -> Tolerance {
    let (mean, max) = match file {
        "jpeg-420.jpg" | "jpeg-422.jpg" => (0.5, 4),
        "tiff-cmyk.tif" => (0.5, 1),
        // Decoded as YCbCr files with a scan for each component are: where luma and blue chroma are rounded another way by the
        // inverse transform, blue is 1 + 1.772 levels off.
        "jpeg-ycck.jpg" => (0.05, 3),
        "tiff-jpeg.tif" => (0.05, 2),
        _ if file.ends_with(".jpg") => (0.05, 2),
        _ => (0.0, 0),
    };
    Tolerance { mean, max }
}

#[test]
fn decoded_pixels_are_those_of_pillow() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cases) = pillow(folder.path()) else {
        return;
    };
    let mut wrong = Vec::new();
    for expected in &cases.decode {
        let path = folder.path().join(&expected.file);
        let problem = match Picture::open(&path, &DecodeLimits::default(), BACKGROUND) {
            Ok(found) => difference(
                &found,
                expected,
                folder.path(),
                &decode_tolerance(&expected.file),
            ),
            Err(error) => Some(error.to_string()),
        };
        wrong.extend(problem.map(|problem| format!("{}: {problem}", expected.file)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn resized_pixels_are_those_of_pillow() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cases) = pillow(folder.path()) else {
        return;
    };
    let mut wrong = Vec::new();
    for case in &cases.resize {
        let path = folder.path().join(&case.expected.file);
        let picture = Picture::open(&path, &DecodeLimits::default(), BACKGROUND).unwrap();
        let preprocess = Preprocess {
            resize: case.resize,
            crop_pct: case.crop_pct,
            filter: case.filter,
            background: BACKGROUND,
            ..Preprocess::torch()
        };
        let (width, height) = (case.expected.width, case.expected.height);
        let found = Preprocessor::new(&preprocess, width, height)
            .resize(&picture)
            .unwrap();
        let tolerance = Tolerance { mean: 0.5, max: 2 };
        if let Some(problem) = difference(&found, &case.expected, folder.path(), &tolerance) {
            wrong.push(format!(
                "{} {:?} {:?} {:?} to {width} x {height}: {problem}",
                case.expected.file, case.resize, case.crop_pct, case.filter
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn odd_files_have_the_size_the_mean_and_the_corners_that_pillow_gives_them() {
    let folder = repository("tests/data/odd");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let levels =
            |field: &str| -> Vec<f64> { field.split(',').map(|v| v.parse().unwrap()).collect() };
        let path = folder.join(fields[0]);
        let found = Picture::open(&path, &DecodeLimits::default(), [255; 3]).unwrap();
        let size = (found.width, found.height);
        assert_eq!(Picture::measure(&path).unwrap(), size, "{line}");
        let pixels: Vec<&[u8]> = found.rgb.chunks_exact(3).collect();
        let of = |pixel: &[u8]| -> Vec<f64> { pixel.iter().map(|&v| v.into()).collect() };
        let count = pixels.len() as f64;
        let mean = |c: usize| pixels.iter().map(|p| f64::from(p[c])).sum::<f64>() / count;
        let near = |found: &[f64], expected: &str, distance: f64| {
            let expected = levels(expected);
            found.len() == 3
                && found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() <= distance)
        };
        let right = size == (fields[1].parse().unwrap(), fields[2].parse().unwrap())
            // JPEG and lossy WebP leave some rounding to the decoder.
            && near(&[mean(0), mean(1), mean(2)], fields[3], 0.6)
            && near(&of(pixels[0]), fields[4], 4.0)
            && near(&of(pixels[found.width as usize - 1]), fields[5], 4.0);
        if !right {
            wrong.push(format!(
                "{line}: {size:?}, {:?}",
                [mean(0), mean(1), mean(2)]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
