//! Feature maps as the engine keeps them: pixel after pixel, channels last.

use std::ops::Range;

/// What a value of a feature map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// A float32.
    Float,
    /// An integer from 0 to 255.
    Byte,
}

impl Element {
    /// Bytes of a value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::Float => size_of::<f32>(),
            Element::Byte => 1,
        }
    }
}

/// Height, width and channels of a feature map.
///
/// In memory the channels of a pixel are padded to whole vectors ([`pixel`](Self::pixel) values), then the
/// next pixel of the row follows, then the next row. Padding holds finite values that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Values from one pixel to the next.
    pub pixel: usize,
    pub element: Element,
}

impl Shape {
    /// A map of floats for vectors of `lanes` values.
    pub(super) fn new(size: [usize; 3], lanes: usize) -> Shape {
        Shape::of(Element::Float, size, lanes)
    }

    /// A map for vectors of `lanes` values.
    pub(super) fn of(
        element: Element,
        [height, width, channels]: [usize; 3],
        lanes: usize,
    ) -> Shape {
        Shape {
            height,
            width,
            channels,
            pixel: channels.next_multiple_of(lanes),
            element,
        }
    }

    /// Values from one row to the next.
    pub(super) fn row(&self) -> usize {
        self.width * self.pixel
    }

    /// Bytes from one row to the next.
    pub(super) fn row_bytes(&self) -> usize {
        self.row() * self.element.bytes()
    }

    /// Bytes of the whole map.
    pub(super) fn bytes(&self) -> usize {
        self.height * self.row_bytes()
    }
}

/// A feature map in memory, or those of its rows that are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    /// Where row 0 is, or would be.
    origin: *mut u8,
    pub shape: Shape,
}

impl Map {
    /// The map whose row `first_row` lies at `data`.
    pub(super) fn new(data: *mut u8, first_row: usize, shape: Shape) -> Map {
        Map {
            origin: data.wrapping_sub(first_row * shape.row_bytes()),
            shape,
        }
    }

    /// Where row `y` of a map of floats is.
    pub(super) fn row(&self, y: usize) -> *mut f32 {
        self.bytes(y).cast()
    }

    /// Where row `y` is.
    pub(super) fn bytes(&self, y: usize) -> *mut u8 {
        self.origin.wrapping_add(y * self.shape.row_bytes())
    }
}

/// How a window of `size` x `size` slides over rows or columns of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub size: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Rows or columns of padding before the first.
    pub before: usize,
    /// Rows or columns of the input.
    pub input: usize,
    /// Rows or columns of the output.
    pub output: usize,
}

impl Window {
    /// The taps that meet the input for output `o`.
    #[inline(always)]
    pub(super) fn taps(&self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.input + self.before)
            .saturating_sub(start)
            .div_ceil(self.dilation);
        first.min(self.size)..end.min(self.size).max(first.min(self.size))
    }

    /// The input that tap `t` of output `o` meets, which must be one of [`taps`](Self::taps).
    #[inline(always)]
    pub(super) fn at(&self, o: usize, t: usize) -> usize {
        o * self.stride + t * self.dilation - self.before
    }

    /// The outputs whose every tap meets the input.
    pub(super) fn inner(&self) -> Range<usize> {
        let reach = (self.size - 1) * self.dilation;
        let first = self.before.div_ceil(self.stride).min(self.output);
        let end = (self.input + self.before)
            .checked_sub(reach + 1)
            .map_or(0, |last| last / self.stride + 1);
        first..end.min(self.output).max(first)
    }

    /// Rows or columns of the input, padding included, that `outputs` of the output in a row span.
    pub(super) fn span(&self, outputs: usize) -> usize {
        (outputs - 1) * self.stride + (self.size - 1) * self.dilation + 1
    }

    /// Whether it reaches over an edge of the map.
    pub(super) fn reaches_outside(&self) -> bool {
        self.before > 0 || self.span(self.output) > self.input
    }

    /// The inputs that the outputs `rows` need.
    pub(super) fn reach(&self, rows: &Range<usize>) -> Range<usize> {
        let first = (rows.start * self.stride).saturating_sub(self.before);
        let last = (rows.end.saturating_sub(1)) * self.stride + (self.size - 1) * self.dilation + 1;
        let end = last.saturating_sub(self.before).min(self.input);
        first.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_and_reach_agree_with_their_definition() {
        for size in 1..6 {
            for stride in 1..4 {
                for dilation in 1..4 {
                    for before in 0..4 {
                        for input in 1..9 {
                            let window = Window {
                                size,
                                stride,
                                dilation,
                                before,
                                input,
                                output: 7,
                            };
                            let meets = |o: usize, t: usize| {
                                let i = (o * stride + t * dilation).wrapping_sub(before);
                                (i < input).then_some(i)
                            };
                            let mut inner = Vec::new();
                            for o in 0..7 {
                                let met: Vec<usize> =
                                    (0..size).filter(|&t| meets(o, t).is_some()).collect();
                                assert_eq!(window.taps(o).collect::<Vec<_>>(), met, "{window:?}");
                                if met.len() == size {
                                    inner.push(o);
                                }
                                let reach = window.reach(&(o..o + 1));
                                for t in met {
                                    let i = window.at(o, t);
                                    assert_eq!(Some(i), meets(o, t));
                                    assert!(reach.contains(&i), "{window:?} {o} {reach:?}");
                                }
                            }
                            assert_eq!(window.inner().collect::<Vec<_>>(), inner, "{window:?}");
                        }
                    }
                }
            }
        }
    }
}
