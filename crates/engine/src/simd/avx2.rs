//! 256-bit vectors of x86-64.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// AVX2 with FMA: 16 registers of 8 values.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// The kernel `K` compiled for this instruction set.
///
/// # Safety
/// The processor must have AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Avx2>(args) }
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid for 8 values; the instructions need no alignment.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: [usize; 3] = [12, 6, 0];

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_sqrt_ps(v) }
    }
    #[inline(always)]
    unsafe fn two_to_the(n: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn at_least(bound: __m256, v: __m256) -> __m256 {
        // The instruction gives its second operand if either is NaN.
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_max_ps(bound, v) }
    }
    #[inline(always)]
    unsafe fn at_most(bound: __m256, v: __m256) -> __m256 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm256_min_ps(bound, v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m256 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: __m256, zero: i32) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            // The instructions give their second operand if the first is NaN.
            let v = _mm256_max_ps(v, _mm256_set1_ps(-zero as f32));
            let v = _mm256_min_ps(v, _mm256_set1_ps((255 - zero) as f32));
            let q = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(zero));
            let words =
                _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> __m256 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) }
    }
    // The block neither reads nor writes what the pointer points to.
    #[allow(clippy::pointers_in_nomem_asm_block)]
    #[inline(always)]
    unsafe fn opaque(mut at: *const f32) -> *const f32 {
        // SAFETY: no instruction is emitted; the register keeps its value.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(reg) at,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        at
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of an address that is not valid does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}
