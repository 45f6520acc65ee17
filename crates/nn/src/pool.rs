//! Pooling of feature maps: largest and mean values of windows, and of whole maps.
//!
//! Maps are `[channels, images, height, width]`, see [`super::maps`].

use super::maps::Maps;

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Its largest value; padding is smaller than any.
    Max,
    /// The mean of its values that lie inside the input.
    Mean,
    /// The sum of its values over the size of the window, padding counted as 0.
    MeanWithPadding,
}

/// The geometry of a pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What it reads.
    pub input: Maps,
    /// What it makes; windows may reach beyond the input's padding, where rounding was upwards.
    pub output: Maps,
    /// Height and width of a window.
    pub window: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows above and columns to the left of the input.
    pub pad_before: [usize; 2],
    /// What becomes of a window.
    pub reduce: Reduce,
}

impl Pool {
    /// The pooling of whole maps to one value a channel.
    pub fn global(input: Maps, reduce: Reduce) -> Pool {
        Pool {
            input,
            output: Maps::vector(input.channels),
            window: [input.height, input.width],
            stride: [1, 1],
            pad_before: [0, 0],
            reduce,
        }
    }

    /// Y for `input` of `images` pictures.
    ///
    /// # Panics
    /// If a slice has another length than the shapes say; so in the other functions here.
    pub fn forward(&self, images: usize, input: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; self.output.values() * images];
        self.for_each_window(images, |place, window| {
            output[place] = match self.reduce {
                Reduce::Max => largest(input, &window).1,
                _ => window.places().map(|p| input[p]).sum::<f32>() / self.divisor(&window),
            };
        });
        output
    }

    /// ∂L/∂X for G = ∂L/∂Y: G at the first largest value of a window, or spread over the window.
    pub fn input_gradient(
        &self,
        images: usize,
        input: &[f32],
        output_gradient: &[f32],
    ) -> Vec<f32> {
        let mut gradient = vec![0.0; self.input.values() * images];
        self.for_each_window(images, |place, window| match self.reduce {
            Reduce::Max => gradient[largest(input, &window).0] += output_gradient[place],
            _ => {
                let share = output_gradient[place] / self.divisor(&window);
                for place in window.places() {
                    gradient[place] += share;
                }
            }
        });
        gradient
    }

    fn divisor(&self, window: &Window) -> f32 {
        match self.reduce {
            Reduce::MeanWithPadding => (self.window[0] * self.window[1]) as f32,
            _ => (window.rows * window.columns) as f32,
        }
    }

    /// Calls `work` with the place of each output value and the part of its window inside the input.
    fn for_each_window(&self, images: usize, mut work: impl FnMut(usize, Window)) {
        let clip = |axis: usize, place: usize, size: usize| {
            let begin = place * self.stride[axis];
            let end = (begin + self.window[axis]).saturating_sub(self.pad_before[axis]);
            let begin = begin.saturating_sub(self.pad_before[axis]).min(size);
            (begin, end.min(size).max(begin) - begin)
        };
        let mut place = 0;
        for plane in 0..self.input.channels * images {
            for y in 0..self.output.height {
                let (top, rows) = clip(0, y, self.input.height);
                for x in 0..self.output.width {
                    let (left, columns) = clip(1, x, self.input.width);
                    let first = plane * self.input.pixels() + top * self.input.width + left;
                    let window = Window {
                        first,
                        rows,
                        columns,
                        width: self.input.width,
                    };
                    work(place, window);
                    place += 1;
                }
            }
        }
    }
}

/// A rectangle of places.
struct Window {
    first: usize,
    rows: usize,
    columns: usize,
    width: usize,
}

impl Window {
    fn places(&self) -> impl Iterator<Item = usize> {
        let (first, columns, width) = (self.first, self.columns, self.width);
        (0..self.rows).flat_map(move |row| {
            let begin = first + row * width;
            begin..begin + columns
        })
    }
}

/// Place and value of the first largest value of a window.
fn largest(input: &[f32], window: &Window) -> (usize, f32) {
    let mut found = (window.first, f32::NEG_INFINITY);
    for place in window.places() {
        if input[place] > found.1 {
            found = (place, input[place]);
        }
    }
    found
}
