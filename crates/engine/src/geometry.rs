//! Sizes that were checked: every number by which a kernel moves a pointer comes from here.
//!
//! A file may ask for any window. What passes the constructors of this module can be added and multiplied by the
//! kernels without a check, on processors of 32 bits too; what does not pass never reaches a kernel.

use std::ops::{Deref, Range};

use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec};

/// Most bytes of one map, copy or matrix: as far as a pointer of 32 bits may move.
pub(super) const MOST_BYTES: usize = i32::MAX as usize;

/// Most rows or columns, padding included, and most of any number that describes a window.
pub(super) const MOST_EXTENT: usize = 1 << 28;

/// The product of `sizes`; none above [`MOST_BYTES`].
pub(super) fn product(sizes: &[usize]) -> Option<usize> {
    let product = sizes.iter().try_fold(1_usize, |p, &n| p.checked_mul(n))?;
    (product <= MOST_BYTES).then_some(product)
}

/// The product of `sizes` as a number of f32; none if they take more than [`MOST_BYTES`].
pub(super) fn floats(sizes: &[usize]) -> Option<usize> {
    product(&[product(sizes)?, size_of::<f32>()]).map(|bytes| bytes / size_of::<f32>())
}

/// `n` rounded up to a multiple of `step`; none above [`MOST_BYTES`].
pub(super) fn padded_to(n: usize, step: usize) -> Option<usize> {
    n.checked_next_multiple_of(step)
        .filter(|&n| n <= MOST_BYTES)
}

/// Asks whether windows go with a map of `size`, one number for each of their dimensions; says in a clause why not. Of a
/// transposed convolution only whether its numbers can be computed with.
///
/// What is empty is left to the operator.
pub(super) fn check(spec: &PoolSpec, size: &[usize], is_transposed: bool) -> Result<(), String> {
    let (strides, dilations) = (spec.strides(), spec.dilations());
    let pads = |axis: usize| match &spec.padding {
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
            (before[axis], after[axis])
        }
        _ => (0, 0),
    };
    for (axis, &input) in size.iter().enumerate() {
        let (size, stride, dilation) = (spec.kernel_shape[axis], strides[axis], dilations[axis]);
        let (before, after) = pads(axis);
        if [size, stride, dilation, input].contains(&0) {
            continue;
        }
        let most = [size, stride, dilation, input, before, after];
        let window = |before: usize| {
            Window::new(Sliding {
                size,
                stride,
                dilation,
                before,
                input,
                output: 1,
            })
        };
        let small = most.iter().all(|&n| n <= MOST_EXTENT);
        let sound = small && (is_transposed || window(before).is_some() && window(after).is_some());
        if !sound {
            return Err(format!(
                "of {size} with stride {stride}, dilation {dilation} and padding {before} and {after} do not go with \
                 maps of {input}"
            ));
        }
    }
    Ok(())
}

/// How a window of taps slides over the rows or columns of a map, as a file describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sliding {
    /// Taps.
    pub size: usize,
    /// Rows or columns from one output to the next.
    pub stride: usize,
    /// Rows or columns from one tap to the next.
    pub dilation: usize,
    /// Rows or columns of padding before the first.
    pub before: usize,
    /// Rows or columns of the input.
    pub input: usize,
    /// Rows or columns of the output.
    pub output: usize,
}

impl Sliding {
    /// Rows or columns from the first tap to the last, both included.
    fn length(&self) -> Option<usize> {
        (self.size.checked_sub(1)?)
            .checked_mul(self.dilation)?
            .checked_add(1)
    }

    /// Rows or columns that `outputs` in a row span.
    fn spanned(&self, outputs: usize) -> Option<usize> {
        (outputs.checked_sub(1)?)
            .checked_mul(self.stride)?
            .checked_add(self.length()?)
    }
}

/// A window whose numbers were checked: none is 0 but the padding, and all that can be computed of them is at most
/// twice [`MOST_EXTENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window(Sliding);

impl Deref for Window {
    type Target = Sliding;

    #[inline(always)]
    fn deref(&self) -> &Sliding {
        &self.0
    }
}

impl Window {
    /// The window; none if a number is 0 or too large, if it is far larger than its map, or if it slides through
    /// more padding than map and window are long.
    pub(super) fn new(window: Sliding) -> Option<Window> {
        /// Windows of wide dilation over the small maps of a small picture reach over them by far.
        const MOST_TIMES_LARGER: usize = 16;
        /// As above, for maps of a few pixels.
        const ALWAYS_ALLOWED: usize = 256;
        const ALWAYS_PADDED: usize = 16;
        let Sliding {
            size,
            stride,
            dilation,
            before,
            input,
            output,
        } = window;
        let numbers = [size, stride, dilation, input, output];
        let sound = |&n: &usize| (1..=MOST_EXTENT).contains(&n);
        if !numbers.iter().all(sound) {
            return None;
        }
        let reach = window.length()?;
        // A strip ends where the output after its last would begin.
        let end = output.checked_add(1).and_then(|n| window.spanned(n))?;
        let most = input
            .saturating_mul(MOST_TIMES_LARGER)
            .saturating_add(ALWAYS_ALLOWED);
        let fits = end <= 2 * MOST_EXTENT
            && reach <= most
            && before <= input + reach + ALWAYS_PADDED
            && window.spanned(output)? <= before + 2 * input + reach + ALWAYS_PADDED + stride;
        fits.then_some(Window(window))
    }

    /// Outputs of a window of `[size, stride, dilation]` over `padded` rows or columns; none if it is longer than those.
    pub(super) fn outputs(padded: usize, [size, stride, dilation]: [usize; 3]) -> Option<usize> {
        let length = size.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        padded
            .checked_sub(length)?
            .checked_div(stride)?
            .checked_add(1)
    }

    /// All of `input` rows or columns, for one output.
    pub(super) fn whole(input: usize) -> Option<Window> {
        Window::new(Sliding {
            size: input,
            stride: 1,
            dilation: 1,
            before: 0,
            input,
            output: 1,
        })
    }

    /// Every `stride`-th of `input` rows or columns.
    pub(super) fn every(stride: usize, input: usize) -> Option<Window> {
        let output = if stride == 0 {
            0
        } else {
            input.div_ceil(stride)
        };
        Window::new(Sliding {
            size: 1,
            stride,
            dilation: 1,
            before: 0,
            input,
            output,
        })
    }

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

    /// Rows or columns of the input, padding included, that `outputs` of the output in a row span; 0 for none.
    pub(super) fn span(&self, outputs: usize) -> usize {
        match outputs {
            0 => 0,
            n => (n - 1) * self.stride + (self.size - 1) * self.dilation + 1,
        }
    }

    /// Rows or columns of the input, padding included, that the whole output spans.
    pub(super) fn extent(&self) -> usize {
        self.span(self.output)
    }

    /// Whether it reaches over an edge of the map.
    pub(super) fn reaches_outside(&self) -> bool {
        self.before > 0 || self.extent() > self.input
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
                            agree(size, stride, dilation, before, input);
                        }
                    }
                }
            }
        }
    }

    fn agree(size: usize, stride: usize, dilation: usize, before: usize, input: usize) {
        // As many outputs as a window may have.
        let sliding = |output| Sliding {
            size,
            stride,
            dilation,
            before,
            input,
            output,
        };
        let outputs = (1..=7).rev().find(|&n| Window::new(sliding(n)).is_some());
        let Some(outputs) = outputs else {
            panic!("{:?} is refused", sliding(1));
        };
        let window = Window::new(sliding(outputs)).unwrap();
        let meets = |o: usize, t: usize| {
            let i = (o * stride + t * dilation).wrapping_sub(before);
            (i < input).then_some(i)
        };
        let mut inner = Vec::new();
        for o in 0..outputs {
            let met: Vec<usize> = (0..size).filter(|&t| meets(o, t).is_some()).collect();
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

    /// Whatever numbers a file has: a window that is made can be computed with, at its last output and behind it.
    #[test]
    fn no_window_that_is_made_overflows() {
        let odd = [
            0,
            1,
            2,
            3,
            17,
            255,
            1 << 15,
            (1 << 28) - 1,
            1 << 28,
            (1 << 31) - 1,
            1 << 31,
            usize::MAX / 2,
            usize::MAX - 2,
            usize::MAX,
        ];
        let mut made = 0;
        for size in odd {
            for stride in odd {
                for dilation in odd {
                    for before in odd {
                        for input in odd {
                            for output in [1, 2, 7, 1 << 27, usize::MAX] {
                                let window = Window::new(Sliding {
                                    size,
                                    stride,
                                    dilation,
                                    before,
                                    input,
                                    output,
                                });
                                if let Some(window) = window {
                                    made += 1;
                                    let most = i32::MAX as usize;
                                    assert!(
                                        window.extent() <= most && window.span(output + 1) <= most
                                    );
                                    assert!(window.reach(&(output..output + 1)).end <= input);
                                    assert!(window.inner().end <= output);
                                    for tap in window.taps(output - 1).take(3) {
                                        assert!(window.at(output - 1, tap) < input);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert!(made > 100, "{made}");
    }

    #[test]
    fn products_end_where_a_pointer_of_32_bits_does() {
        assert_eq!(product(&[1 << 15, 1 << 15]), Some(1 << 30));
        assert_eq!(product(&[1 << 16, 1 << 15]), None);
        assert_eq!(product(&[usize::MAX, 2]), None);
        assert_eq!(product(&[]), Some(1));
        assert_eq!(floats(&[1 << 28]), Some(1 << 28));
        assert_eq!(floats(&[1 << 29]), None);
        assert_eq!(padded_to(17, 16), Some(32));
        assert_eq!(padded_to(usize::MAX, 16), None);
    }
}
