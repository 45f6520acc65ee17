//! Chooses the augmented view of an image for each epoch.

use rand::{Rng, RngExt};

use crate::features::FeatureMatrix;

/// The view of a row that `epoch`, counted from 1, sees: the next, where `matrix` has its views taken in turn; else
/// one of them or the row itself, 0, drawn from `rng`.
pub(super) fn draw_view(matrix: &FeatureMatrix, epoch: usize, rng: &mut impl Rng) -> usize {
    match matrix.views() {
        0 => 0,
        views if matrix.views_in_turn() => epoch.saturating_sub(1) % views + 1,
        views => rng.random_range(0..=views),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array2;
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;

    #[test]
    fn views_are_taken_in_turn_or_drawn() {
        let rows = || FeatureMatrix::from_array(Array2::zeros((1, 1)));
        let mut matrix = rows();
        let mut rng = Pcg32::seed_from_u64(1);
        assert_eq!(draw_view(&matrix, 1, &mut rng), 0);
        for _ in 0..3 {
            matrix.add_view(Arc::new(rows()), vec![Some(0)]).unwrap();
        }
        let mut drawn: Vec<usize> = (1..=100).map(|_| draw_view(&matrix, 1, &mut rng)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [0, 1, 2, 3]);
        matrix.take_views_in_turn();
        let taken: Vec<usize> = (1..=4)
            .map(|epoch| draw_view(&matrix, epoch, &mut rng))
            .collect();
        assert_eq!(taken, [1, 2, 3, 1]);
    }
}
