//! Shape inference of operators. Dimensions are floating-point numbers, so that none can overflow.

/// The shape that two shapes are stretched to.
pub(super) fn broadcast(a: &[f64], b: &[f64]) -> Vec<f64> {
    let rank = a.len().max(b.len());
    let at = |dims: &[f64], place: usize| {
        let missing = rank - dims.len();
        place.checked_sub(missing).map_or(1.0, |place| dims[place])
    };
    (0..rank)
        .map(|place| at(a, place).max(at(b, place)))
        .collect()
}

/// `dims` with a 1 at each of `axes` of the result.
pub(super) fn unsqueezed(dims: &[f64], axes: &[f64]) -> Option<Vec<f64>> {
    let rank = dims.len() + axes.len();
    let mut is_new = vec![false; rank];
    for &axis in axes {
        let axis = if axis < 0.0 { axis + rank as f64 } else { axis };
        *is_new.get_mut(axis as usize)? = true;
    }
    let mut rest = dims.iter();
    is_new
        .iter()
        .map(|&new| if new { Some(1.0) } else { rest.next().copied() })
        .collect()
}

/// `dims` without `axes`.
pub(super) fn squeezed(dims: &[f64], axes: &[f64]) -> Option<Vec<f64>> {
    let mut stays = vec![true; dims.len()];
    for &axis in axes {
        let axis = if axis < 0.0 {
            axis + dims.len() as f64
        } else {
            axis
        };
        *stays.get_mut(axis as usize)? = false;
    }
    let kept = dims.iter().zip(stays).filter(|(_, stays)| *stays);
    Some(kept.map(|(dim, _)| *dim).collect())
}

/// The shape that `shape` asks for, where 0 is the old dimension and -1 the rest.
pub(super) fn reshaped(dims: &[f64], shape: &[f64]) -> Option<Vec<f64>> {
    let places = shape.iter().enumerate();
    let wanted: Option<Vec<f64>> = places
        .map(|(place, &d)| {
            if d == 0.0 {
                dims.get(place).copied()
            } else {
                Some(d)
            }
        })
        .collect();
    let mut wanted = wanted?;
    let others: f64 = wanted.iter().filter(|&&d| d > 0.0).product();
    let free = wanted.iter_mut().filter(|d| **d < 0.0);
    let all: f64 = dims.iter().product();
    free.for_each(|d| *d = (all / others).floor());
    Some(wanted)
}
