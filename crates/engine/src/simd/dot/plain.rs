//! One product at a time, beside vectors of floats of any width.

use std::array::from_fn;
use std::marker::PhantomData;

use super::super::portable::Portable;
use super::super::{MOST_LANES, Simd};
use super::{Dot, DotKernel};

/// Lanes of `S` in arrays, of which the first are used.
#[derive(Clone, Copy)]
pub(super) struct Plain<S>(PhantomData<S>);

/// The kernel `K` compiled for the target's baseline.
///
/// # Safety
/// The pointers must be valid as the arguments say.
pub(super) unsafe fn portable<K: DotKernel>(args: &K::Args) {
    // SAFETY: the pointers are the caller's.
    unsafe { K::run::<Plain<Portable>>(args) }
}

// SAFETY of all bodies: pointers are valid for all lanes, as the trait asks.
impl<S: Simd> Dot for Plain<S> {
    type Floats = S;
    type Sums = [i32; MOST_LANES];
    type Bytes = [[u8; 4]; MOST_LANES];
    type Weights = [[i8; 4]; MOST_LANES];
    const TILE_ROWS: [usize; 3] = [4, 0, 0];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> Self::Sums {
        let mut sums = [0; MOST_LANES];
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { sums.as_mut_ptr().copy_from_nonoverlapping(from, S::LANES) };
        sums
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> Self::Bytes {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        [unsafe { from.cast::<[u8; 4]>().read() }; MOST_LANES]
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        let mut bytes = [[0; 4]; MOST_LANES];
        let to: *mut u8 = bytes.as_mut_ptr().cast();
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { to.copy_from_nonoverlapping(from, 4 * S::LANES) };
        bytes
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> Self::Weights {
        let mut weights = [[0; 4]; MOST_LANES];
        let to: *mut i8 = weights.as_mut_ptr().cast();
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { to.copy_from_nonoverlapping(from, 4 * S::LANES) };
        weights
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums {
        from_fn(|lane| {
            let pairs = bytes[lane].iter().zip(&weights[lane]);
            let products = pairs.map(|(&a, &w)| i32::from(a) * i32::from(w));
            sums[lane].wrapping_add(products.sum::<i32>())
        })
    }
    #[inline(always)]
    unsafe fn floats(sums: Self::Sums) -> S::V {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe { S::load_integers(sums.as_ptr()) }
    }
}
