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
    /// `x · Φ(x)`, with the normal distribution's Φ.
    Gelu,
    /// [`Gelu`](Curve::Gelu), Φ by tanh.
    GeluTanh,
    /// `x · sigmoid(factor · x)`.
    QuickGelu {
        /// 1.702 as a rule.
        factor: f32,
    },
    /// `x²`.
    Square,
    /// `√x`.
    SquareRoot,
    /// `1 / x`.
    Reciprocal,
    /// `1 / √x`.
    InverseRoot,
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
            Curve::Gelu => isa.entry::<Gelu>(),
            Curve::GeluTanh => isa.entry::<GeluTanh>(),
            Curve::QuickGelu { .. } => isa.entry::<QuickGelu>(),
            Curve::Square => isa.entry::<Square>(),
            Curve::SquareRoot => isa.entry::<Root<false>>(),
            Curve::Reciprocal => isa.entry::<Reciprocal>(),
            Curve::InverseRoot => isa.entry::<Root<true>>(),
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
                Curve::LeakyRelu { alpha } | Curve::QuickGelu { factor: alpha } => alpha,
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

/// The error function to 4e-7: a quotient of polynomials in `x²` that was fitted to it for the smallest relative
/// difference up to where it is 1 in f32.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    const MOST: f32 = 3.925;
    const ABOVE: [f32; 6] = [
        2.046_036_1e-6,
        2.848_439_6e-4,
        3.772_543_5e-3,
        5.276_927_7e-2,
        1.905_935_3e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const BELOW: [f32; 6] = [
        3.804_789e-5,
        1.163_857_3e-3,
        1.498_318_3e-2,
        1.141_826_1e-1,
        5.022_418_5e-1,
        1.0,
    ];
    // SAFETY: the caller's processor has the instruction set.
    unsafe {
        let x = S::at_most(S::splat(MOST), S::at_least(S::splat(-MOST), x));
        let square = S::mul(x, x);
        let (mut above, mut below) = (S::splat(ABOVE[0]), S::splat(BELOW[0]));
        for (a, b) in ABOVE[1..].iter().zip(&BELOW[1..]) {
            above = S::mul_add(above, square, S::splat(*a));
            below = S::mul_add(below, square, S::splat(*b));
        }
        S::div(S::mul(x, above), below)
    }
}

struct Gelu;

impl Kernel for Gelu {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            replace::<S>(args, |x| {
                let half = S::mul(x, S::splat(0.5));
                let erf = erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
                S::mul_add(half, erf, half)
            });
        }
    }
}

/// `x / (1 + exp(-y))`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn gated<S: Simd>(x: S::V, y: S::V) -> S::V {
    // SAFETY: the caller's processor has the instruction set.
    unsafe {
        let e = S::exp(S::sub(S::splat(0.0), y));
        S::div(x, S::add(S::splat(1.0), e))
    }
}

struct GeluTanh;

impl Kernel for GeluTanh {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        /// Twice the square root of 2 / π, and this times 0.044715.
        const LINEAR: f32 = 1.595_769;
        const CUBIC: f32 = 0.071_354_814;
        // SAFETY: the caller's.
        unsafe {
            replace::<S>(args, |x| {
                let factor = S::mul_add(S::mul(x, x), S::splat(CUBIC), S::splat(LINEAR));
                gated::<S>(x, S::mul(x, factor))
            });
        }
    }
}

struct QuickGelu;

impl Kernel for QuickGelu {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { replace::<S>(args, |x| gated::<S>(x, S::mul(x, S::splat(args.alpha)))) }
    }
}

struct Square;

impl Kernel for Square {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { replace::<S>(args, |x| S::mul(x, x)) }
    }
}

/// The square root, or one over it if `INVERSE`.
struct Root<const INVERSE: bool>;

impl<const INVERSE: bool> Kernel for Root<INVERSE> {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe {
            replace::<S>(args, |x| match INVERSE {
                true => S::div(S::splat(1.0), S::sqrt(x)),
                false => S::sqrt(x),
            });
        }
    }
}

struct Reciprocal;

impl Kernel for Reciprocal {
    type Args = Args;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Args) {
        // SAFETY: the caller's.
        unsafe { replace::<S>(args, |x| S::div(S::splat(1.0), x)) }
    }
}
