//! Bytes widened to words, whose products are summed in pairs: x86-64 without VNNI.
//!
//! The instruction that takes bytes as they are (`vpmaddubsw`) stops at 32,767, which two products of 255 and 127
//! are beyond; that of words is exact. A lane's sum is in two parts until the end.

use std::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::super::avx512::Avx512;
use super::plain::Plain;
use super::{Dot, DotKernel};

/// 256-bit vectors.
#[derive(Clone, Copy)]
pub(super) struct Words256;

/// 512-bit vectors.
#[derive(Clone, Copy)]
pub(super) struct Words512;

/// The kernel `K` compiled for 256-bit vectors.
///
/// # Safety
/// The processor must have AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn words256<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Words256>(args) }
}

/// The kernel `K` compiled for 512-bit vectors.
///
/// # Safety
/// The processor must have AVX-512F, AVX-512BW, AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
pub(super) unsafe fn words512<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Words512>(args) }
}

/// The kernel `K` with one product at a time, compiled for AVX2.
///
/// # Safety
/// As [`words256`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn plain256<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Plain<Avx2>>(args) }
}

/// The kernel `K` with one product at a time, compiled for AVX-512F.
///
/// # Safety
/// The processor must have AVX-512F, AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn plain512<K: DotKernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Plain<Avx512>>(args) }
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid; the instructions need no alignment.
impl Dot for Words256 {
    type Floats = Avx2;
    type Sums = [__m256i; 2];
    type Bytes = [__m256i; 2];
    type Weights = [__m256i; 2];
    const TILE_ROWS: [usize; 3] = [5, 0, 0];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> [__m256i; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let half = |i: usize| unsafe { _mm256_cvtepu32_epi64(_mm_loadu_si128(from.add(i).cast())) };
        [half(0), half(4)]
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { [_mm256_cvtepu8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())); 2] }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let half = |i: usize| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(i).cast())) };
        [half(0), half(16)]
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [__m256i; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let half = |i: usize| unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(i).cast())) };
        [half(0), half(16)]
    }
    #[inline(always)]
    unsafe fn dot(sums: [__m256i; 2], bytes: [__m256i; 2], weights: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the processor has the instructions, as the trait asks.
        let half = |i: usize| unsafe {
            _mm256_add_epi32(sums[i], _mm256_madd_epi16(bytes[i], weights[i]))
        };
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn floats(sums: [__m256i; 2]) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            // Lanes 0, 1, 4, 5, 2, 3, 6, 7.
            let mixed = _mm256_hadd_epi32(sums[0], sums[1]);
            _mm256_cvtepi32_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(mixed))
        }
    }
}

// SAFETY: as above.
impl Dot for Words512 {
    type Floats = Avx512;
    type Sums = [__m512i; 2];
    type Bytes = [__m512i; 2];
    type Weights = [__m512i; 2];
    const TILE_ROWS: [usize; 3] = [12, 5, 0];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> [__m512i; 2] {
        let half =
            // SAFETY: the pointer is valid for all lanes, as the trait asks.
            |i: usize| unsafe { _mm512_cvtepu32_epi64(_mm256_loadu_si256(from.add(i).cast())) };
        [half(0), half(8)]
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> [__m512i; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { [_mm512_cvtepu8_epi16(_mm256_set1_epi32(from.cast::<i32>().read_unaligned())); 2] }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [__m512i; 2] {
        let half =
            // SAFETY: the pointer is valid for all lanes, as the trait asks.
            |i: usize| unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.add(i).cast())) };
        [half(0), half(32)]
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [__m512i; 2] {
        let half =
            // SAFETY: the pointer is valid for all lanes, as the trait asks.
            |i: usize| unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.add(i).cast())) };
        [half(0), half(32)]
    }
    #[inline(always)]
    unsafe fn dot(sums: [__m512i; 2], bytes: [__m512i; 2], weights: [__m512i; 2]) -> [__m512i; 2] {
        // SAFETY: the processor has the instructions, as the trait asks.
        let half = |i: usize| unsafe {
            _mm512_add_epi32(sums[i], _mm512_madd_epi16(bytes[i], weights[i]))
        };
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn floats(sums: [__m512i; 2]) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        let half = |i: usize| unsafe {
            let pairs = _mm512_add_epi32(sums[i], _mm512_srli_epi64::<32>(sums[i]));
            _mm512_cvtepi64_epi32(pairs)
        };
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            let low = _mm512_castsi256_si512(half(0));
            _mm512_cvtepi32_ps(_mm512_inserti64x4::<1>(low, half(1)))
        }
    }
}
