//! 128-bit vectors of 64-bit ARM, with and without its instruction for four products of bytes a lane.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::neon::Neon;
use super::plain::Plain;
use super::{Dot, DotKernel};

/// `smull` and `sadalp`: a lane's sum is in two parts until the end. Two products of -128 and 127 fit into a word.
#[derive(Clone, Copy)]
pub(super) struct Widened;

/// `sdot`.
#[derive(Clone, Copy)]
pub(super) struct Sdot;

/// The kernel `K` with `smull` and `sadalp`.
///
/// # Safety
/// The processor must have NEON; the pointers must be valid as the arguments say.
#[target_feature(enable = "neon")]
pub(super) unsafe fn widened<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the feature; the pointers are the caller's.
    unsafe { K::run::<Widened>(args) }
}

/// The kernel `K` with `sdot`.
///
/// # Safety
/// The processor must have NEON and its dot products; the pointers must be valid as the arguments say.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn sdot<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Sdot>(args) }
}

/// The kernel `K` with one product at a time.
///
/// # Safety
/// As [`widened`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn plain<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the feature; the pointers are the caller's.
    unsafe { K::run::<Plain<Neon>>(args) }
}

/// Activations less 128, as signed bytes.
///
/// # Safety
/// The processor must have NEON.
#[inline(always)]
unsafe fn signed(bytes: uint8x16_t) -> int8x16_t {
    // SAFETY: the caller's processor has the instruction set.
    unsafe { vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80))) }
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid; the instructions need no alignment beyond that of the type.
impl Dot for Widened {
    type Floats = Neon;
    type Sums = [int32x4_t; 2];
    type Bytes = int8x16_t;
    type Weights = int8x16_t;
    const TILE_ROWS: [usize; 3] = [8, 5, 0];
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> [int32x4_t; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let (sums, zero) = (vld1q_s32(from), vdupq_n_s32(0));
            [vzip1q_s32(sums, zero), vzip2q_s32(sums, zero)]
        }
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let four = vdupq_n_u32(from.cast::<u32>().read_unaligned());
            signed(vreinterpretq_u8_u32(four))
        }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { signed(vld1q_u8(from)) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vld1q_s8(from) }
    }
    #[inline(always)]
    unsafe fn dot(sums: [int32x4_t; 2], bytes: int8x16_t, weights: int8x16_t) -> [int32x4_t; 2] {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            let low = vmull_s8(vget_low_s8(bytes), vget_low_s8(weights));
            let high = vmull_high_s8(bytes, weights);
            [vpadalq_s16(sums[0], low), vpadalq_s16(sums[1], high)]
        }
    }
    #[inline(always)]
    unsafe fn floats(sums: [int32x4_t; 2]) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vcvtq_f32_s32(vpaddq_s32(sums[0], sums[1])) }
    }
}

// SAFETY: as above.
impl Dot for Sdot {
    type Floats = Neon;
    type Sums = int32x4_t;
    type Bytes = int8x16_t;
    type Weights = int8x16_t;
    const TILE_ROWS: [usize; 3] = [12, 12, 8];
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> int32x4_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vld1q_s32(from) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { Widened::spread(from) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { Widened::bytes(from) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> int8x16_t {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { vld1q_s8(from) }
    }
    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, bytes: int8x16_t, weights: int8x16_t) -> int32x4_t {
        // SAFETY: registers alone are read and written.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) sums,
                in(vreg) bytes,
                in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
    #[inline(always)]
    unsafe fn floats(sums: int32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { vcvtq_f32_s32(sums) }
    }
}
