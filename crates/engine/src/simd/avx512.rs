//! 512-bit vectors of x86-64.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// AVX-512F: 32 registers of 16 values.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// The kernel `K` compiled for this instruction set.
///
/// # Safety
/// The processor must have AVX-512F, AVX2 and FMA; the pointers must be valid as the arguments say.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(args: &K::Args) {
    // SAFETY: this function has the features; the pointers are the caller's.
    unsafe { K::run::<Avx512>(args) }
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid for 16 values; the instructions need no alignment.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: [usize; 3] = [12, 12, 9];

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(v: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_sqrt_ps(v) }
    }
    #[inline(always)]
    unsafe fn two_to_the(n: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn at_least(bound: __m512, v: __m512) -> __m512 {
        // The instruction gives its second operand if either is NaN.
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_max_ps(bound, v) }
    }
    #[inline(always)]
    unsafe fn at_most(bound: __m512, v: __m512) -> __m512 {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { _mm512_min_ps(bound, v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: __m512, zero: i32) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            // The instruction gives its second operand if the first is NaN. What is too large for an i32 becomes
            // its least value, which is too large again without a sign.
            let v = _mm512_max_ps(v, _mm512_set1_ps(-zero as f32));
            let q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(zero));
            _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(q));
        }
    }
    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> __m512 {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) }
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
