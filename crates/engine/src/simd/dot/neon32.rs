//! 64-bit vectors of bytes of 32-bit ARM, whose NEON has no instruction for four products a lane.

use std::arch::asm;

use super::super::neon::{Neon, Pair, binary, of_integers, unary};
use super::plain::Plain;
use super::{Dot, DotKernel};

/// `vmull` and `vpadal`: a lane's sum is in two parts until the end. Two products of -128 and 127 fit into a word.
#[derive(Clone, Copy)]
pub(super) struct Widened;

/// The kernel `K` with `vmull` and `vpadal`.
///
/// # Safety
/// The processor must have NEON; the pointers must be valid as the arguments say.
pub(super) unsafe fn widened<K: DotKernel>(args: &K::Args) {
    // SAFETY: the processor is the caller's, and so are the pointers.
    unsafe { K::run::<Widened>(args) }
}

/// The kernel `K` with one product at a time.
///
/// # Safety
/// As [`widened`].
pub(super) unsafe fn plain<K: DotKernel>(args: &K::Args) {
    // SAFETY: the processor is the caller's, and so are the pointers.
    unsafe { K::run::<Plain<Neon>>(args) }
}

/// Bytes of activations that become signed by what is taken from them.
const SIGNS: u32 = 0x8080_8080;

/// The two parts of two lanes' sums, and the eight products of bytes that are added to them.
///
/// # Safety
/// The processor must have NEON.
#[inline(always)]
unsafe fn dot_pair([mut s0, mut s1]: [Pair; 2], bytes: Pair, weights: Pair) -> [Pair; 2] {
    // SAFETY: registers alone are read and written. The products take a register of 128 bits, for which stable Rust
    // has no type.
    unsafe {
        asm!(
            "vmull.s8 q8, {2}, {3}",
            "vpadal.s16 {0}, d16",
            "vpadal.s16 {1}, d17",
            inout(dreg) s0,
            inout(dreg) s1,
            in(dreg) bytes,
            in(dreg) weights,
            out("q8") _,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [s0, s1]
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are valid; they
// are read without an alignment.
impl Dot for Widened {
    type Floats = Neon;
    type Sums = [[Pair; 2]; 2];
    type Bytes = [Pair; 2];
    type Weights = [Pair; 2];
    const TILE_ROWS: [usize; 3] = [6, 3, 0];
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn sums(from: *const i32) -> [[Pair; 2]; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let [a, b, c, d] = unsafe { from.cast::<[i32; 4]>().read_unaligned() };
        [of_integers([a, 0, b, 0]), of_integers([c, 0, d, 0])]
    }
    #[inline(always)]
    unsafe fn spread(from: *const u8) -> [Pair; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let four = from.cast::<u32>().read_unaligned() ^ SIGNS;
            <Neon as super::Simd>::splat(f32::from_bits(four))
        }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [Pair; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let signs = <Neon as super::Simd>::splat(f32::from_bits(SIGNS));
            binary!("veor", Self::weights(from.cast()), signs)
        }
    }
    #[inline(always)]
    unsafe fn weights(from: *const i8) -> [Pair; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { from.cast::<[Pair; 2]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(sums: [[Pair; 2]; 2], bytes: [Pair; 2], weights: [Pair; 2]) -> [[Pair; 2]; 2] {
        // SAFETY: the processor has the instructions, as the trait asks.
        unsafe {
            [
                dot_pair(sums[0], bytes[0], weights[0]),
                dot_pair(sums[1], bytes[1], weights[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn floats([low, high]: [[Pair; 2]; 2]) -> [Pair; 2] {
        let sums = binary!("vpadd.i32", [low[0], high[0]], [low[1], high[1]]);
        unary!("vcvt.f32.s32", sums)
    }
}
