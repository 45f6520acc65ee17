//! How a tensor lies in a map: a graph reshapes, moves and cuts its tensors while the map stays as it is.

use super::NodeId;

/// What the next element along a part of an axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stride {
    /// So many pixels further, row after row.
    Pixel(usize),
    /// So many channels further.
    Channel(usize),
}

impl Stride {
    fn times(self, n: usize) -> Stride {
        match self {
            Stride::Pixel(stride) => Stride::Pixel(stride * n),
            Stride::Channel(stride) => Stride::Channel(stride * n),
        }
    }
}

/// Elements of an axis that are equally far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub count: usize,
    pub stride: Stride,
}

/// Where the elements along an axis are: its parts, the outermost first; none for an axis of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Axis(Vec<Part>);

/// Pixel and channel of a value in a map.
pub(crate) type Place = [usize; 2];

impl Axis {
    /// An axis of one.
    pub(crate) const ONE: Axis = Axis(Vec::new());

    pub(crate) fn new(count: usize, stride: Stride) -> Axis {
        Axis::ONE.then(Part { count, stride })
    }

    pub(crate) fn pixels(count: usize, stride: usize) -> Axis {
        Axis::new(count, Stride::Pixel(stride))
    }

    pub(crate) fn channels(count: usize, stride: usize) -> Axis {
        Axis::new(count, Stride::Channel(stride))
    }

    /// Adds an innermost part.
    fn then(mut self, part: Part) -> Axis {
        match self.0.last_mut() {
            _ if part.count == 1 => {}
            Some(last) if last.stride == part.stride.times(part.count) => {
                last.count *= part.count;
                last.stride = part.stride;
            }
            _ => self.0.push(part),
        }
        self
    }

    /// Axes behind each other as one.
    pub(crate) fn joined<'a>(axes: impl Iterator<Item = &'a Axis>) -> Axis {
        axes.flat_map(|axis| axis.0.iter().copied())
            .fold(Axis::ONE, Axis::then)
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|part| part.count).product()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether all its elements are of one pixel.
    pub(crate) fn is_in_pixel(&self) -> bool {
        let channel = |part: &Part| matches!(part.stride, Stride::Channel(_));
        self.0.iter().all(channel)
    }

    /// Whether all its elements have the same channel.
    pub(crate) fn is_across_pixels(&self) -> bool {
        let pixel = |part: &Part| matches!(part.stride, Stride::Pixel(_));
        self.0.iter().all(pixel)
    }

    /// Channels that follow each other at its inner end; 1 if it ends otherwise.
    pub(crate) fn run(&self) -> usize {
        match self.0.last() {
            Some(Part {
                count,
                stride: Stride::Channel(1),
            }) => *count,
            _ => 1,
        }
    }

    /// Where its elements are, from the first.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = vec![[0, 0]];
        for part in &self.0 {
            let step = match part.stride {
                Stride::Pixel(stride) => [stride, 0],
                Stride::Channel(stride) => [0, stride],
            };
            let next = |[pixel, channel]: Place| {
                (0..part.count).map(move |i| [pixel + i * step[0], channel + i * step[1]])
            };
            places = places.into_iter().flat_map(next).collect();
        }
        places
    }

    /// Axes of `counts` that together are this axis, row-major; none if its parts are cut otherwise.
    fn split(&self, counts: &[usize]) -> Option<Vec<Axis>> {
        let mut left = self.0.clone();
        let mut axes = Vec::with_capacity(counts.len());
        for &count in counts.iter().rev() {
            let mut wanted = count;
            let mut parts = Vec::new();
            while wanted > 1 {
                let last = left.last_mut()?;
                if wanted.is_multiple_of(last.count) {
                    wanted /= last.count;
                    parts.extend(left.pop());
                } else if last.count.is_multiple_of(wanted) {
                    parts.push(Part {
                        count: wanted,
                        stride: last.stride,
                    });
                    last.count /= wanted;
                    last.stride = last.stride.times(wanted);
                    wanted = 1;
                } else {
                    return None;
                }
            }
            axes.push(parts.into_iter().rev().fold(Axis::ONE, Axis::then));
        }
        axes.reverse();
        left.is_empty().then_some(axes)
    }
}

/// A tensor that lies in the output of a node: all of it or a part, its axes in any order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub node: NodeId,
    /// Where the first element is.
    pub first: Place,
    /// What the map's values are to be multiplied by, to be the tensor's.
    pub factor: f32,
    pub axes: Vec<Axis>,
}

impl View {
    /// A tensor from the first value of a map on.
    pub(crate) fn new(node: NodeId, axes: Vec<Axis>) -> View {
        View {
            node,
            first: [0, 0],
            factor: 1.0,
            axes,
        }
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(Axis::len).collect()
    }

    /// Which of its axes, of those longer than one, lie in the pixels.
    pub(crate) fn in_pixel(&self) -> Vec<bool> {
        let in_pixel = |axis: &Axis| axis.len() > 1 && axis.is_in_pixel();
        self.axes.iter().map(in_pixel).collect()
    }

    /// Whether every value of the map, of so many rows, columns and channels, is in the tensor just once.
    pub(crate) fn is_whole(&self, [height, width, channels]: [usize; 3]) -> bool {
        let parts = || self.axes.iter().flat_map(Axis::parts);
        let pixels = parts().filter_map(|part| match part.stride {
            Stride::Pixel(stride) => Some((stride, part.count)),
            Stride::Channel(_) => None,
        });
        let in_pixel = parts().filter_map(|part| match part.stride {
            Stride::Channel(stride) => Some((stride, part.count)),
            Stride::Pixel(_) => None,
        });
        self.first == [0, 0]
            && self.factor == 1.0
            && covers(pixels.collect(), height * width)
            && covers(in_pixel.collect(), channels)
    }

    /// Puts the axes `counts` in the place of `taken` axes from `at` on.
    pub(crate) fn reshaped(mut self, at: usize, taken: usize, counts: &[usize]) -> Option<View> {
        if at + taken > self.axes.len() {
            return None;
        }
        let parts = self.axes[at..at + taken]
            .iter()
            .flat_map(|axis| axis.0.clone());
        let joined = parts.fold(Axis::ONE, Axis::then);
        self.axes.splice(at..at + taken, joined.split(counts)?);
        Some(self)
    }

    /// Every `stride`-th element along an axis, from the element `first` on.
    pub(crate) fn strided(mut self, axis: usize, first: usize, stride: usize) -> Option<View> {
        let whole = self.axes.get_mut(axis)?;
        let count = whole.len().checked_sub(first)?.div_ceil(stride);
        let [pixel, channel] = *whole.places().get(first)?;
        *whole = match whole.0[..] {
            _ if count == 1 => Axis::ONE,
            [part] => Axis::new(count, part.stride.times(stride)),
            // Of several parts, whole elements of the outer ones, or elements of the innermost.
            [.., last] if last.count.is_multiple_of(stride) && first < stride => {
                let mut parts = whole.0.clone();
                let inner = parts.pop()?;
                let inner = Part {
                    count: inner.count / stride,
                    stride: inner.stride.times(stride),
                };
                parts.into_iter().chain([inner]).fold(Axis::ONE, Axis::then)
            }
            _ => return None,
        };
        self.first = [self.first[0] + pixel, self.first[1] + channel];
        Some(self)
    }

    /// The elements `start..end` along an axis.
    pub(crate) fn sliced(mut self, axis: usize, start: usize, end: usize) -> Option<View> {
        let whole = self.axes.get_mut(axis)?;
        if start >= end || end > whole.len() {
            return None;
        }
        let count = end - start;
        if count == whole.len() {
            return Some(self);
        }
        let [pixel, channel] = whole.places()[start];
        // Of several parts, only whole elements of the outermost can be told apart, or one element.
        *whole = match whole.0[..] {
            _ if count == 1 => Axis::ONE,
            [part] => Axis::new(count, part.stride),
            [first, ..] => {
                let inner = whole.len() / first.count;
                if !start.is_multiple_of(inner) || !count.is_multiple_of(inner) {
                    return None;
                }
                let mut parts = whole.0.clone();
                parts[0].count = count / inner;
                parts.into_iter().fold(Axis::ONE, Axis::then)
            }
            [] => return None,
        };
        self.first = [self.first[0] + pixel, self.first[1] + channel];
        Some(self)
    }
}

/// Whether steps of `(stride, count)` come to each number below `n` just once.
fn covers(mut steps: Vec<(usize, usize)>, n: usize) -> bool {
    steps.sort_unstable();
    let mut reached = 1;
    for (stride, count) in steps {
        if stride != reached {
            return false;
        }
        reached *= count;
    }
    reached == n
}

/// Axes of a tensor of `shape` in a map of its own, row-major: those of `is_channel` in the pixels, the others across
/// them; with the numbers of pixels and of channels.
pub(crate) fn row_major(shape: &[usize], is_channel: &[bool]) -> (Vec<Axis>, usize, usize) {
    let (mut pixels, mut channels) = (1, 1);
    let mut axes = vec![Axis::ONE; shape.len()];
    for (i, &count) in shape.iter().enumerate().rev() {
        if is_channel[i] {
            axes[i] = Axis::channels(count, channels);
            channels *= count;
        } else {
            axes[i] = Axis::pixels(count, pixels);
            pixels *= count;
        }
    }
    (axes, pixels, channels)
}

/// Where each element of a tensor is, in row-major order.
pub(crate) fn places(first: Place, axes: &[Axis]) -> Vec<Place> {
    axes.iter().fold(vec![first], |outer, axis| {
        let inner = axis.places();
        let along =
            |[pixel, channel]: Place| inner.iter().map(move |[p, c]| [pixel + p, channel + c]);
        outer.into_iter().flat_map(along).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of 2 x 3 pixels of a map of 4 x 6 pixels and 5 channels, and back.
    #[test]
    fn windows_are_views() {
        let whole = [Axis::pixels(4, 6), Axis::pixels(6, 1), Axis::channels(5, 1)];
        let view = View::new(0, whole.to_vec());
        let mut windows = view.clone().reshaped(0, 1, &[2, 2]).unwrap();
        windows = windows.reshaped(2, 1, &[2, 3]).unwrap();
        windows.axes.swap(1, 2);
        windows = windows
            .reshaped(2, 2, &[6])
            .unwrap()
            .reshaped(0, 2, &[4])
            .unwrap();
        assert_eq!(windows.shape(), [4, 6, 5]);
        assert!(windows.is_whole([4, 6, 5]));
        // The last pixel of the second window is in row 1, column 5.
        assert_eq!(places([0, 0], &windows.axes)[(6 + 5) * 5 + 2], [11, 2]);
        let mut back = windows
            .reshaped(1, 1, &[2, 3])
            .unwrap()
            .reshaped(0, 1, &[2, 2])
            .unwrap();
        back.axes.swap(1, 2);
        let back = back
            .reshaped(2, 2, &[6])
            .unwrap()
            .reshaped(0, 2, &[4])
            .unwrap();
        assert_eq!(back, view);
    }

    #[test]
    fn a_part_of_an_axis_is_not_whole() {
        let view = View::new(0, vec![Axis::pixels(7, 1), Axis::channels(6, 1)]);
        let part = view.clone().sliced(1, 2, 4).unwrap();
        assert_eq!((part.first, part.shape()), ([0, 2], vec![7, 2]));
        assert!(view.is_whole([7, 1, 6]) && !part.is_whole([7, 1, 6]));
        assert!(!part.is_whole([7, 1, 2]) && view.clone().sliced(0, 5, 8).is_none());
        let token = view.sliced(0, 3, 4).unwrap();
        assert_eq!((token.first, token.shape()), ([3, 0], vec![1, 6]));
    }
}
