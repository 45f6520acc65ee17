//! `vpdpbusd`, the instruction of x86-64 for four products of bytes a lane.

use std::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::super::avx512::Avx512;
use super::{Dot, DotKernel};

/// 512-bit vectors.
#[derive(Clone, Copy)]
pub(super) struct Vnni512;

/// 256-bit vectors.
#[derive(Clone, Copy)]
pub(super) struct Vnni256;

/// The kernel `K` compiled for 512-bit vectors.
///
/// # Safety
/// The processor must have AVX-512F, AVX-512VNNI, AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx512f,avx512vnni,avx2,fma")]
pub(super) unsafe fn vnni512<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Vnni512>(args) }
}

/// The kernel `K` compiled for 256-bit vectors.
///
/// # Safety
/// The processor must have AVX-VNNI, AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(super) unsafe fn vnni256<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Vnni256>(args) }
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid; the instructions need no alignment.
impl Dot for Vnni512 {
    type Floats = Avx512;
    type Sums = __m512i;
    type Bytes = __m512i;
    type Weights = __m512i;
    const TILE_ROWS: [usize; 3] = [12, 12, 9];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> __m512i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> __m512i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m512i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }
    #[inline(always)]
    unsafe fn floats(sums: __m512i) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

// SAFETY: as above.
impl Dot for Vnni256 {
    type Floats = Avx2;
    type Sums = __m256i;
    type Bytes = __m256i;
    type Weights = __m256i;
    const TILE_ROWS: [usize; 3] = [12, 6, 4];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> __m256i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> __m256i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m256i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> __m256i {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_dpbusd_avx_epi32(sums, bytes, weights) }
    }
    #[inline(always)]
    unsafe fn floats(sums: __m256i) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}
