//! The number of workers and the maximum image size for a memory limit.

use crate::backbone::{PictureSession, free_bytes, gigabytes};
use crate::error::{Error, Result};
use crate::pixels::DecodeLimits;

/// Maximum bytes per pixel of an 8-bit image: its file, what the decoder holds (of a progressive JPEG all
/// coefficients, of 16 bits), the image.
const BYTES_PER_PIXEL: u64 = 9;

/// Most of these that are the decoded pixels as the file stores them.
const STORED_BYTES_PER_PIXEL: u64 = 4;

/// Workers are added as long as each can decode images of this many pixels, the size of a phone photo.
const COMMON_PICTURE: u64 = 12_300_000;

/// Smallest image limit with which a run makes sense, in pixels.
const LEAST_PICTURE: u64 = 1_000_000;

/// What a worker holds beside its session and its image, in bytes: stacks, rows that wait.
const WORKER_BYTES: u64 = 2 << 20;

/// Workers, and what an image may cost to decode, so that the program takes at most `most` bytes.
///
/// What the backbone takes is measured, and so is what a session takes, by running one if the tensors and buffers that
/// it is known to need fit.
///
/// # Errors
/// [`Error::Parameter`] if that is not enough, or if the system does not tell how much memory a program takes; those of
/// `open_session`.
pub(super) fn share(
    most: u64,
    workers: usize,
    limits: DecodeLimits,
    open_session: impl Fn() -> Result<PictureSession>,
) -> Result<(usize, DecodeLimits)> {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let refuse = |problem: String| Error::Parameter {
        name: "--memory",
        value: format!("{}M", megabytes(most)),
        problem,
    };
    let unknown = || {
        refuse(
            "this system does not report a program's memory use; use --workers and --max-megapixels instead"
                .into(),
        )
    };
    let base = status_bytes("VmRSS:").ok_or_else(unknown)?;
    let mut session = open_session()?;
    // Check the known requirements before measuring.
    let known = base + session.run_bytes() + LEAST_PICTURE * BYTES_PER_PIXEL;
    if known > most {
        return Err(refuse(format!(
            "the program and one worker need {0} MB with this backbone; use at least {0}M, a smaller --input-size or \
             another backbone",
            megabytes(known)
        )));
    }
    session.infer()?;
    let with_session = status_bytes("VmRSS:").ok_or_else(unknown)?;
    drop(session);
    let each = with_session.saturating_sub(base) + WORKER_BYTES;
    let peak = peak_memory_bytes().unwrap_or(with_session);
    let least = peak.max(base + each + LEAST_PICTURE * BYTES_PER_PIXEL);
    match divide(most.saturating_sub(base), each, workers, limits.max_pixels) {
        Some((workers, max_pixels)) if most >= least => {
            let max_bytes = limits.max_bytes.min(max_pixels * STORED_BYTES_PER_PIXEL);
            Ok((
                workers,
                DecodeLimits {
                    max_pixels,
                    max_bytes,
                },
            ))
        }
        _ => Err(refuse(format!(
            "this backbone needs at least {}M",
            megabytes(least)
        ))),
    }
}

/// How many of `workers` have room in the memory that this machine has free, where each needs `each` bytes; all if the
/// system does not report it. At least one: a network too large for one worker was not loaded.
///
/// # Errors
/// [`Error::Parameter`] if they do not all fit, and `asked` says that the user requested this number.
pub(super) fn with_room(each: u64, workers: usize, asked: bool) -> Result<usize> {
    let Some(free) = free_bytes() else {
        return Ok(workers);
    };
    let fitting = usize::try_from(free / each.max(1))
        .unwrap_or(usize::MAX)
        .max(1);
    if fitting >= workers || !asked {
        return Ok(fitting.min(workers));
    }
    Err(Error::Parameter {
        name: "--workers",
        value: workers.to_string(),
        problem: format!(
            "each worker needs {} for this backbone, and {} are free; use {fitting} or fewer",
            gigabytes(each),
            gigabytes(free)
        ),
    })
}

/// How many workers, at most `workers`, share `left` bytes, each of which takes `each` beside its image, and how many
/// pixels that image may have, at most `max_pixels`; `None` if one worker has too little.
fn divide(left: u64, each: u64, workers: usize, max_pixels: u64) -> Option<(usize, u64)> {
    let pixels = |workers: usize| {
        let own = (left / workers as u64).saturating_sub(each);
        max_pixels.min(own / BYTES_PER_PIXEL)
    };
    let workers = (2..=workers)
        .rev()
        .find(|&n| pixels(n) >= COMMON_PICTURE.min(max_pixels))
        .unwrap_or(1);
    let found = pixels(workers);
    (found >= LEAST_PICTURE.min(max_pixels)).then_some((workers, found))
}

/// Peak memory of this process, if the system reports it.
pub fn peak_memory_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// A number of bytes from this process's status in Linux.
fn status_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    #[test]
    fn workers_are_given_up_before_pictures_of_a_telephone_are() {
        // 12.3 million pixels take 110.7 MB.
        assert_eq!(
            divide(500 * MB, 10 * MB, 4, 100 * MB),
            Some((4, 12_777_777))
        );
        assert_eq!(
            divide(480 * MB, 10 * MB, 4, 100 * MB),
            Some((3, 16_666_666))
        );
        assert_eq!(
            divide(120 * MB, 10 * MB, 4, 100 * MB),
            Some((1, 12_222_222))
        );
        assert_eq!(divide(20 * MB, 10 * MB, 4, 100 * MB), Some((1, 1_111_111)));
        assert_eq!(divide(18 * MB, 10 * MB, 4, 100 * MB), None);
        assert_eq!(divide(5 * MB, 10 * MB, 4, 100 * MB), None);
    }

    #[test]
    fn more_workers_than_there_is_memory_for_are_refused_if_they_were_asked_for() {
        assert_eq!(with_room(1, 4, true).unwrap(), 4);
        if free_bytes().is_some() {
            assert_eq!(with_room(u64::MAX / 8, 4, false).unwrap(), 1);
            let refused = with_room(u64::MAX / 8, 4, true).unwrap_err().to_string();
            assert!(refused.contains("use 1 or fewer"), "{refused}");
        }
    }

    #[test]
    fn a_smaller_limit_of_pixels_leaves_room_for_workers() {
        assert_eq!(divide(120 * MB, 10 * MB, 4, 2 * MB), Some((4, 2 * MB)));
        assert_eq!(divide(20 * MB, 10 * MB, 4, MB / 2), Some((1, MB / 2)));
    }
}
