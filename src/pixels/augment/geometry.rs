//! Geometry of a view: one affine map about the image's centre.

use crate::pixels::Picture;

/// Maps a pixel of a view to the image, about the image's centre.
pub(super) struct Affine {
    pub(super) x: [f32; 2],
    pub(super) y: [f32; 2],
    /// In pixels, of the view.
    pub(super) shift: [f32; 2],
}

impl Affine {
    /// The view's pixels, `[height, width, 3]`, 0 to 255.
    pub(super) fn map(&self, picture: &Picture) -> Vec<f32> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let centre = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            let v = row as f32 - centre[1] - self.shift[1];
            for column in 0..width {
                let u = column as f32 - centre[0] - self.shift[0];
                let x = self.x[0] * u + self.x[1] * v + centre[0];
                let y = self.y[0] * u + self.y[1] * v + centre[1];
                rgb.extend(sample(picture, x, y));
            }
        }
        rgb
    }
}

/// The colour at a place between pixels; outside, the image is reflected at its edge.
fn sample(picture: &Picture, x: f32, y: f32) -> [f32; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, bottom_share) = (x - left, y - top);
    let columns = [left, left + 1.0].map(|c| mirrored(c as i64, picture.width));
    let rows = [top, top + 1.0].map(|r| mirrored(r as i64, picture.height));
    let mut colour = [0.0f32; 3];
    for (row, row_share) in rows.into_iter().zip([1.0 - bottom_share, bottom_share]) {
        for (column, share) in columns.into_iter().zip([1.0 - right_share, right_share]) {
            let at = (row * picture.width as usize + column) * 3;
            for (value, &byte) in colour.iter_mut().zip(&picture.rgb[at..at + 3]) {
                *value += row_share * share * f32::from(byte);
            }
        }
    }
    colour
}

/// A place on an axis of `size` pixels that is mirrored at both ends: … 1 0 | 0 1 2 … n−1 | n−1 …
fn mirrored(place: i64, size: u32) -> usize {
    let size = i64::from(size);
    let place = place.rem_euclid(2 * size);
    let place = if place < size {
        place
    } else {
        2 * size - 1 - place
    };
    place as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::augment::tests::grey;

    #[test]
    fn an_affine_map_moves_turns_and_mirrors_in_the_rest() {
        let shift = Affine {
            x: [1.0, 0.0],
            y: [0.0, 1.0],
            shift: [2.0, 0.0],
        };
        let ramp = grey(5, 1, |x, _| x as u8 * 10);
        let row: Vec<f32> = shift.map(&ramp).into_iter().step_by(3).collect();
        assert_eq!(row, [10.0, 0.0, 0.0, 10.0, 20.0]);
        let quarter = Affine {
            x: [0.0, -1.0],
            y: [1.0, 0.0],
            shift: [0.0, 0.0],
        };
        let square = grey(2, 2, |x, y| (10 * y + x) as u8);
        let turned: Vec<f32> = quarter.map(&square).into_iter().step_by(3).collect();
        assert_eq!(turned, [1.0, 11.0, 0.0, 10.0]);
        let half = Affine {
            x: [0.5, 0.0],
            y: [0.0, 1.0],
            shift: [0.0, 0.0],
        };
        let row: Vec<f32> = half.map(&ramp).into_iter().step_by(3).collect();
        assert_eq!(row, [10.0, 15.0, 20.0, 25.0, 30.0]);
    }
}
