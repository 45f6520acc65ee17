//! Maps put together from parts of others, and maps that do not depend on the input.

use std::ops::Range;

use super::geometry::floats;
use super::map::{Element, Map, Shape};
use super::step::{Scratch, Step};

/// What is copied of one input: `run` channels for each pair of places, the first in the input, the second in the
/// output; a place is the number of a pixel and of a channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moves {
    pub run: usize,
    pub places: Vec<[[usize; 2]; 2]>,
}

/// Puts a map together from parts of others.
pub(super) struct Copy {
    inputs: Vec<Part>,
    height: usize,
}

/// [`Moves`] with places counted in values.
struct Part {
    run: usize,
    places: Vec<[u32; 2]>,
    /// Pixels, channels and values of a pixel that the input must have, and that the output must have.
    least: [[usize; 3]; 2],
}

impl Copy {
    /// The step for inputs and an output of these shapes; none where a place lies outside of them.
    pub(super) fn new(moves: &[Moves], inputs: &[Shape], output: &Shape) -> Option<Copy> {
        if moves.len() != inputs.len() {
            return None;
        }
        let part = |(moves, input): (&Moves, &Shape)| {
            let pixels = [input.pixel, output.pixel];
            let most = |side: usize, what: usize| {
                let places = moves.places.iter().map(|place| place[side][what]);
                places.max().unwrap_or(0)
            };
            let least = [0, 1].map(|side| {
                let channels = most(side, 1).saturating_add(moves.run);
                [most(side, 0).saturating_add(1), channels, pixels[side]]
            });
            let sound = input.holds(least[0]) && output.holds(least[1]);
            if !sound {
                return None;
            }
            let at = |place: &[[usize; 2]; 2]| {
                let value = |side: usize| place[side][0] * pixels[side] + place[side][1];
                Some([u32::try_from(value(0)).ok()?, u32::try_from(value(1)).ok()?])
            };
            Some(Part {
                run: moves.run,
                places: moves.places.iter().map(at).collect::<Option<_>>()?,
                least,
            })
        };
        Some(Copy {
            inputs: moves.iter().zip(inputs).map(part).collect::<Option<_>>()?,
            height: output.height,
        })
    }
}

impl Step for Copy {
    fn kind(&self) -> &'static str {
        "copy"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn needs_all_rows(&self) -> bool {
        true
    }

    fn granule(&self) -> usize {
        self.height
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn weight_bytes(&self) -> usize {
        self.inputs
            .iter()
            .map(|part| size_of_val(&part.places[..]))
            .sum()
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let floats = |shape: &Shape| shape.element == Element::Float;
        inputs.len() == self.inputs.len()
            && output.height == self.height
            && inputs.iter().chain([output]).all(floats)
            && self
                .inputs
                .iter()
                .zip(inputs)
                .all(|(part, input)| input.holds(part.least[0]) && output.holds(part.least[1]))
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        assert!(rows == (0..self.height), "a map is put together at once");
        let to = output.row(0);
        for (part, input) in self.inputs.iter().zip(inputs) {
            let from = input.row(0);
            for &[at, place] in &part.places {
                let (at, place) = (at as usize, place as usize);
                // SAFETY: `fits` held the farthest pixel and channel of all places against both maps, which are there
                // whole and do not overlap.
                unsafe {
                    match part.run {
                        1 => *to.add(place) = *from.add(at),
                        run => from.add(at).copy_to_nonoverlapping(to.add(place), run),
                    }
                }
            }
        }
    }
}

/// A map that is the same for every input: `channels` values for each pixel.
pub(super) struct Constant {
    values: Vec<f32>,
}

impl Constant {
    pub(super) fn new(values: &[f32]) -> Constant {
        Constant {
            values: values.to_vec(),
        }
    }
}

impl Step for Constant {
    fn kind(&self) -> &'static str {
        "constant"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        0
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let values = floats(&[output.height, output.width, output.channels]);
        inputs.is_empty() && output.element == Element::Float && values == Some(self.values.len())
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&self.values[..])
    }

    unsafe fn run(&self, _: &[Map], output: Map, rows: Range<usize>, _: &mut Scratch) {
        let (width, channels, pixel) = (
            output.shape.width,
            output.shape.channels,
            output.shape.pixel,
        );
        if rows.is_empty() {
            return;
        }
        let values = &self.values[rows.start * width * channels..rows.end * width * channels];
        let to = output.row(rows.start);
        for (i, values) in values.chunks_exact(channels).enumerate() {
            // SAFETY: the caller's output has `rows`, of `width` pixels each, of at least as many values as channels.
            unsafe {
                values
                    .as_ptr()
                    .copy_to_nonoverlapping(to.add(i * pixel), channels);
            }
        }
    }
}
