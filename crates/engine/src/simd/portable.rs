//! Plain Rust, which the compiler turns into what every processor of its target has.

use std::array::from_fn;

use super::{Kernel, Simd};

/// Four values, the vector of most targets' baseline.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// The kernel `K` compiled for the target's baseline.
///
/// # Safety
/// The pointers must be valid as the arguments say.
pub(super) unsafe fn run<K: Kernel>(args: &K::Args) {
    // SAFETY: the pointers are the caller's.
    unsafe { K::run::<Portable>(args) }
}

// SAFETY of all bodies: the trait asks that pointers are valid for 4 values; arrays of f32 need no more
// alignment than f32.
impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const TILE_ROWS: [usize; 3] = [12, 6, 4];

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; 4]) {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { *to.cast() = v }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn sqrt(v: [f32; 4]) -> [f32; 4] {
        v.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn two_to_the(n: [f32; 4]) -> [f32; 4] {
        from_fn(|i| f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn at_least(bound: [f32; 4], v: [f32; 4]) -> [f32; 4] {
        from_fn(|i| if bound[i] > v[i] { bound[i] } else { v[i] })
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [f32; 4] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let bytes: [u8; 4] = unsafe { *from.cast() };
        bytes.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: [f32; 4], zero: i32) {
        let (low, high) = (-zero as f32, (255 - zero) as f32);
        let bytes: [u8; 4] = from_fn(|i| {
            let v = if v[i] > low { v[i] } else { low };
            let v = if v < high { v } else { high };
            (v.round_ties_even() as i32 + zero) as u8
        });
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { *to.cast() = bytes }
    }
    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> [f32; 4] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        from_fn(|i| unsafe { from.add(i).read() } as f32)
    }
    #[inline(always)]
    unsafe fn at_most(bound: [f32; 4], v: [f32; 4]) -> [f32; 4] {
        from_fn(|i| if bound[i] < v[i] { bound[i] } else { v[i] })
    }
}
