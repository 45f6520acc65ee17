//! Feature maps as the engine keeps them: pixel after pixel, channels last.

use std::ops::{Deref, Range};

use super::geometry::{Window, padded_to, product};

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
/// In memory the channels of a pixel are padded to whole vectors ([`pixel`](Extents::pixel) values), then the
/// next pixel of the row follows, then the next row. Padding holds finite values that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Values from one pixel to the next.
    pub pixel: usize,
    pub element: Element,
}

/// The [`Extents`] of a map that is not empty and takes at most [`MOST_BYTES`](super::geometry::MOST_BYTES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape(Extents);

impl Deref for Shape {
    type Target = Extents;

    #[inline(always)]
    fn deref(&self) -> &Extents {
        &self.0
    }
}

impl Shape {
    /// A map of floats for vectors of `lanes` values; none if it is empty or too large.
    pub(super) fn new(size: [usize; 3], lanes: usize) -> Option<Shape> {
        Shape::of(Element::Float, size, lanes)
    }

    /// A map for vectors of `lanes` values; none if it is empty or too large.
    pub(super) fn of(
        element: Element,
        [height, width, channels]: [usize; 3],
        lanes: usize,
    ) -> Option<Shape> {
        let pixel = padded_to(channels, lanes)?;
        Shape::checked(Extents {
            height,
            width,
            channels,
            pixel,
            element,
        })
    }

    /// The same map with `pixel` values from one pixel to the next; none if it is too large.
    pub(super) fn with_pixel(self, pixel: usize) -> Option<Shape> {
        Shape::checked(Extents { pixel, ..self.0 })
    }

    fn checked(extents: Extents) -> Option<Shape> {
        let Extents {
            height,
            width,
            channels,
            pixel,
            element,
        } = extents;
        let bytes = product(&[height, width, pixel.max(channels), element.bytes()])?;
        (bytes > 0 && channels > 0 && pixel > 0).then_some(Shape(extents))
    }

    /// Whether another map has the same rows, columns and channels.
    pub(super) fn is_as_large_as(&self, other: &Shape) -> bool {
        [self.height, self.width, self.channels] == [other.height, other.width, other.channels]
    }

    /// Whether another map has the same pixels: as many channels, as far apart, of the same element.
    pub(super) fn has_pixels_of(&self, other: &Shape) -> bool {
        (self.channels, self.pixel, self.element) == (other.channels, other.pixel, other.element)
    }

    /// Whether windows slide over the rows and columns of a map of this shape.
    pub(super) fn is_input_of(&self, rows: &Window, columns: &Window) -> bool {
        [self.height, self.width] == [rows.input, columns.input]
    }

    /// Whether windows give as many rows and columns as a map of this shape has.
    pub(super) fn is_output_of(&self, rows: &Window, columns: &Window) -> bool {
        [self.height, self.width] == [rows.output, columns.output]
    }

    /// Whether the map has as many pixels and channels, and just as many values in a pixel.
    pub(super) fn holds(&self, [pixels, channels, pixel]: [usize; 3]) -> bool {
        pixels <= self.height * self.width && channels <= self.channels && pixel == self.pixel
    }

    /// Values of a tensor from outside: without padding.
    pub(super) fn tensor_len(&self) -> usize {
        self.height * self.width * self.channels
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
    /// Rows that are there: the first, and that after the last.
    first: usize,
    end: usize,
    pub shape: Shape,
}

impl Map {
    /// The map whose `rows` lie at `data`.
    pub(super) fn new(data: *mut u8, rows: Range<usize>, shape: Shape) -> Map {
        assert!(
            rows.start <= rows.end && rows.end <= shape.height,
            "rows that the map does not have"
        );
        Map {
            origin: data.wrapping_sub(rows.start * shape.row_bytes()),
            first: rows.start,
            end: rows.end,
            shape,
        }
    }

    /// Whether all of `rows` are there.
    pub(super) fn holds(&self, rows: &Range<usize>) -> bool {
        rows.is_empty() || self.first <= rows.start && rows.end <= self.end
    }

    /// Where row `y` of a map of floats is.
    #[inline(always)]
    pub(super) fn row(&self, y: usize) -> *mut f32 {
        self.bytes(y).cast()
    }

    /// Where row `y` is, which must be there.
    #[inline(always)]
    pub(super) fn bytes(&self, y: usize) -> *mut u8 {
        debug_assert!(self.first <= y && y < self.end, "row {y} is not there");
        self.origin.wrapping_add(y * self.shape.row_bytes())
    }
}
