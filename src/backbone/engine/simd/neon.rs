//! 128-bit vectors of 64-bit ARM.

use std::arch::aarch64::*;

use super::{Kernel, Simd};

/// NEON: 32 registers of 4 values.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// The kernel `K` compiled for this instruction set.
///
/// # Safety
/// The processor must have NEON; the pointers must be valid as the arguments say.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(args: &K::Args) {
    // SAFETY: this function has the feature; the pointers are the caller's.
    unsafe { K::run::<Neon>(args) }
}

/// Tells whether this processor has NEON.
pub(super) fn is_here() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid for 4 values; the instructions need no alignment beyond that of f32.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const TILE_ROWS: [usize; 3] = [12, 12, 8];

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn two_to_the(n: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(bound: float32x4_t, v: float32x4_t) -> float32x4_t {
        // The instruction gives NaN if either is NaN.
        unsafe { vmaxq_f32(bound, v) }
    }
    #[inline(always)]
    unsafe fn at_most(bound: float32x4_t, v: float32x4_t) -> float32x4_t {
        unsafe { vminq_f32(bound, v) }
    }
}
