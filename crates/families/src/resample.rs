//! Learnt positions for another number of patches. Touches no file.

use crate::safetensors::Tensor;

/// Resamples positions `[1, side·side, D]` to `[1, new·new, D]` by cubic interpolation, widened where there are fewer
/// than before (`antialias`), as timm does it, or never widened and with a steeper curve, as transformers does it for
/// some networks.
pub(crate) fn positions(old: &Tensor, side: usize, new: usize, antialias: bool) -> Tensor {
    let width = old.dims.last().copied().unwrap_or(0);
    let taps = taps(side, new, antialias);
    // Along each row, then along each column.
    let mut rows = vec![0.0; side * new * width];
    for y in 0..side {
        for (x, taps) in taps.iter().enumerate() {
            let target = &mut rows[(y * new + x) * width..][..width];
            for &(from, weight) in taps {
                add_scaled(
                    target,
                    &old.values[(y * side + from) * width..][..width],
                    weight,
                );
            }
        }
    }
    let mut values = vec![0.0; new * new * width];
    for (y, taps) in taps.iter().enumerate() {
        for x in 0..new {
            let target = &mut values[(y * new + x) * width..][..width];
            for &(from, weight) in taps {
                add_scaled(target, &rows[(from * new + x) * width..][..width], weight);
            }
        }
    }
    Tensor {
        dims: vec![1, new * new, width],
        values,
    }
}

fn add_scaled(target: &mut [f32], values: &[f32], weight: f32) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += weight * value;
    }
}

/// For each new place the old ones that it is made of, with their weights, which sum to 1.
fn taps(side: usize, new: usize, antialias: bool) -> Vec<Vec<(usize, f32)>> {
    let scale = side as f64 / new as f64;
    let (widening, steepness) = match antialias {
        true => (scale.max(1.0), -0.5),
        false => (1.0, -0.75),
    };
    let last = side as i64 - 1;
    let one = |place: usize| {
        let centre = (place as f64 + 0.5) * scale - 0.5;
        let reach = 2.0 * widening;
        let from = (centre - reach).floor() as i64;
        let to = (centre + reach).ceil() as i64;
        let weighted =
            (from..=to).map(|at| (at, cubic((at as f64 - centre) / widening, steepness)));
        // Beyond the edge there is nothing, or the edge again.
        let seen: Vec<(i64, f64)> = match antialias {
            true => weighted.filter(|(at, _)| (0..=last).contains(at)).collect(),
            false => weighted
                .map(|(at, weight)| (at.clamp(0, last), weight))
                .collect(),
        };
        let sum: f64 = seen.iter().map(|(_, weight)| weight).sum();
        let taps = seen.into_iter().filter(|(_, weight)| *weight != 0.0);
        taps.map(|(at, weight)| (at as usize, (weight / sum) as f32))
            .collect()
    };
    (0..new).map(one).collect()
}

/// Keys' cubic convolution kernel.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_gives_the_same_positions() {
        let old = Tensor {
            dims: vec![1, 9, 2],
            values: (0..18).map(|i| (i * i) as f32).collect(),
        };
        for antialias in [true, false] {
            assert_eq!(positions(&old, 3, 3, antialias), old);
        }
    }
}
