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
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vsqrtq_f32(v) }
    }
    #[inline(always)]
    unsafe fn two_to_the(n: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn at_least(bound: float32x4_t, v: float32x4_t) -> float32x4_t {
        // The instruction gives NaN if either is NaN.
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vmaxq_f32(bound, v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> float32x4_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: float32x4_t, zero: i32) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            // The instruction gives the number if the other is NaN.
            let v = vmaxnmq_f32(v, vdupq_n_f32(-zero as f32));
            // Conversion and sum stop at the largest i32, the narrowing at 0 and 255.
            let q = vqaddq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(zero));
            let words = vqmovun_s32(q);
            let bytes = vqmovn_u16(vcombine_u16(words, words));
            let four = vget_lane_u32::<0>(vreinterpret_u32_u8(bytes));
            to.cast::<u32>().write_unaligned(four);
        }
    }
    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> float32x4_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vcvtq_f32_s32(vld1q_s32(from)) }
    }
    #[inline(always)]
    unsafe fn at_most(bound: float32x4_t, v: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vminq_f32(bound, v) }
    }
}
