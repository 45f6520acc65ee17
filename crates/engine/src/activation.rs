//! Activations that are curves, applied to values just computed.

use super::map::{Element, Shape};
use super::simd::{Entry, InstructionSet, Kernel, Simd};

/// A curve that bounds cannot express.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Curve {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `x` where positive, `alpha · x` elsewhere.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
}

/// A curve, or none, compiled for an instruction set.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    curve: Option<(Curve, Entry<Args>)>,
    lanes: usize,
}

struct Args {
    values: *mut f32,
    len: usize,
    alpha: f32,
}

impl Activation {
    pub(super) fn new(isa: InstructionSet, curve: Option<Curve>) -> Activation {
        let entry = |curve| match curve {
            Curve::Sigmoid => isa.entry::<Logistic<false>>(),
            Curve::Silu => isa.entry::<Logistic<true>>(),
            Curve::HardSwish => isa.entry::<HardSwish>(),
            Curve::LeakyRelu { .. } => isa.entry::<LeakyRelu>(),
        };
        Activation {
            curve: curve.map(|curve| (curve, entry(curve))),
            lanes: isa.lanes(),
        }
    }

    /// Whether the curve, if there is one, can be applied to a map of this shape.
    pub(super) fn fits(&self, shape: &Shape) -> bool {
        let whole = shape.pixel.is_multiple_of(self.lanes) && shape.element == Element::Float;
        self.curve.is_none() || whole
    }

    /// Applies the curve to `len` values in place.
    ///
    /// # Safety
    /// `values` must be valid for `len` values, a multiple of the instruction set's vector.
    pub(super) unsafe fn bend(&self, values: *mut f32, len: usize) {
        if let Some((curve, kernel)) = self.curve {
            let alpha = match curve {
                Curve::LeakyRelu { alpha } => alpha,
                _ => 0.0,
            };
            // SAFETY: the caller vouches for `len` values, which are whole vectors.
            unsafe { kernel(&Args { values, len, alpha }) }
        }
    }
}

/// Replaces each vector `v` of the values by `f(v)`.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn replace<S: Simd>(args: &Args, f: impl Fn(S::V) -> S::V) {
    let mut i = 0;
    while i < args.len {
        // SAFETY: `i` and `len` are multiples of the vector, and the caller's values are `len`.
        unsafe {
            let at = args.values.add(i);
            S::store(at, f(S::load(at)));
        }
        i += S::LANES;
    }
}

/// The logistic function, times its argument if `TIMES_X`.
struct Logistic<const TIMES_X: bool>;

impl<const TIMES_X: bool> Kernel for Logistic<TIMES_X> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            replace::<S>(args, |x| {
                let one = S::splat(1.0);
                let minus_x = S::sub(S::splat(0.0), x);
                let logistic = S::div(one, S::add(one, S::exp(minus_x)));
                if TIMES_X {
                    S::mul(x, logistic)
                } else {
                    logistic
                }
            });
        }
    }
}

struct HardSwish;

impl Kernel for HardSwish {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            replace::<S>(args, |x| {
                let shifted = S::mul_add(x, S::splat(1.0 / 6.0), S::splat(0.5));
                let gate = S::at_most(S::splat(1.0), S::at_least(S::splat(0.0), shifted));
                S::mul(x, gate)
            });
        }
    }
}

struct LeakyRelu;

impl Kernel for LeakyRelu {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            let alpha = S::splat(args.alpha);
            replace::<S>(args, |x| {
                let zero = S::splat(0.0);
                S::mul_add(alpha, S::at_most(zero, x), S::at_least(zero, x))
            });
        }
    }
}
