//! The fuzzers' targets on their seeds, on what fuzzing found, and on more than a thousand files made of them: a short
//! run of what `tests/fuzz/run` does for hours.

use std::fs;
use std::path::PathBuf;

use crate::program::repository;

#[path = "fuzz/src/lib.rs"]
mod targets;

/// Files made of each seed, and all of them at the least; `TL_CAMPAIGN` gives another number, and the time to go with it.
const MADE: usize = 40;
const LEAST: usize = 1_000;

/// Seeds and earlier findings of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut folders: Vec<PathBuf> = vec![
        repository("tests/fuzz/seeds").join(target),
        repository("tests/fuzz/found").join(target),
    ];
    if target == "picture" {
        folders.push(repository("tests/data/pictures"));
    }
    let files = folders.iter().filter_map(|dir| fs::read_dir(dir).ok());
    let mut paths: Vec<PathBuf> = files.flatten().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One seed with some bytes changed, taken out, doubled or set to their largest value.
fn changed(seed: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random(6) {
        let at = random(bytes.len().max(1));
        let end = (at + 1 + random(8)).min(bytes.len());
        if at >= end {
            continue;
        }
        match random(5) {
            0 => bytes[at] ^= 1 << random(8),
            1 => bytes[at] = random(256) as u8,
            2 => bytes[at..end].fill(0xff),
            3 => drop(bytes.drain(at..end)),
            _ => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// A source of numbers below a bound: Knuth's MMIX.
fn random(mut state: u64) -> impl FnMut(usize) -> usize {
    move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    }
}

/// Random graphs, a quarter of them with numbers that no map is made for: the engine gives what tract gives, or an error.
#[test]
fn random_graphs_give_what_tract_gives() {
    let made = std::env::var("TL_CAMPAIGN").map_or(300, |text| text.parse().unwrap());
    for seed in 0..made {
        let mut random = random(seed);
        let bytes: Vec<u8> = (0..24 + random(120)).map(|_| random(256) as u8).collect();
        let run = std::panic::catch_unwind(|| targets::graph(&bytes));
        assert!(run.is_ok(), "graph {seed}");
    }
}

#[test]
fn no_file_from_elsewhere_makes_the_library_panic() {
    let mut random = random(1);
    let made = std::env::var("TL_CAMPAIGN").map_or(MADE, |text| text.parse().unwrap());
    let mut all = 0;
    for (name, run) in targets::TARGETS {
        let seeds = seeds(name);
        let started = std::time::Instant::now();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in &seeds {
            run(seed);
            for _ in 0..made {
                run(&changed(seed, &mut random));
            }
        }
        let (files, seconds) = (seeds.len() * (made + 1), started.elapsed().as_secs());
        eprintln!("{name}: {files} files in {seconds} s");
        all += files;
    }
    assert!(all >= LEAST, "{all}");
}

#[test]
fn zz_write_plan_seeds() {
    targets::write_plan_seeds(&repository("tests/fuzz/seeds/plan"));
}
