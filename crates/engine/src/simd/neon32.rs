//! 128-bit vectors of 32-bit ARM.
//!
//! Rust's vectors for this processor are not stable, and the compiler puts no arithmetic of floats into vectors by
//! itself, since NEON takes numbers below 2^-126 for zero. So each operation is an instruction written out, on pairs of
//! floats in 64-bit registers: the units of the Cortex-A5 to A9 are 64 bits wide in any case.

use std::arch::asm;
use std::array::from_fn;
use std::mem::transmute;

use super::{Kernel, Simd};

/// NEON: 16 registers of 4 values, each as two halves.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// The kernel `K` compiled for this instruction set.
///
/// # Safety
/// The processor must have NEON; the pointers must be valid as the arguments say.
pub(super) unsafe fn run<K: Kernel>(args: &K::Args) {
    // SAFETY: the processor is the caller's, and so are the pointers.
    unsafe { K::run::<Neon>(args) }
}

/// Tells whether this processor has NEON, by what the system tells every program that it starts; where it tells
/// nothing, no.
pub(super) fn is_here() -> bool {
    super::tells_of_neon(&std::fs::read("/proc/self/auxv").unwrap_or_default())
}

/// Two floats in a 64-bit register, of which the compiler knows only the bits.
pub(super) type Pair = f64;

/// An instruction of two pairs.
macro_rules! binary {
    ($instruction:literal, $a:expr, $b:expr) => {{
        let ([a0, a1], [b0, b1]): ([Pair; 2], [Pair; 2]) = ($a, $b);
        let (r0, r1): (Pair, Pair);
        // SAFETY: arithmetic in registers. Some callers are `unsafe` blocks themselves.
        #[allow(unused_unsafe)]
        unsafe {
            asm!(concat!($instruction, " {0}, {1}, {2}"), out(dreg) r0, in(dreg) a0, in(dreg) b0,
                options(pure, nomem, nostack, preserves_flags));
            asm!(concat!($instruction, " {0}, {1}, {2}"), out(dreg) r1, in(dreg) a1, in(dreg) b1,
                options(pure, nomem, nostack, preserves_flags));
        }
        [r0, r1]
    }};
}

/// An instruction of one pair.
macro_rules! unary {
    ($instruction:literal, $a:expr) => {{
        let [a0, a1]: [Pair; 2] = $a;
        let (r0, r1): (Pair, Pair);
        // SAFETY: arithmetic in registers. Some callers are `unsafe` blocks themselves.
        #[allow(unused_unsafe)]
        unsafe {
            asm!(concat!($instruction, " {0}, {1}"), out(dreg) r0, in(dreg) a0,
                options(pure, nomem, nostack, preserves_flags));
            asm!(concat!($instruction, " {0}, {1}"), out(dreg) r1, in(dreg) a1,
                options(pure, nomem, nostack, preserves_flags));
        }
        [r0, r1]
    }};
}

pub(super) use {binary, unary};

#[inline(always)]
fn lanes(v: [Pair; 2]) -> [f32; 4] {
    // SAFETY: both are 16 bytes that may hold anything.
    unsafe { transmute(v) }
}

#[inline(always)]
fn of_lanes(v: [f32; 4]) -> [Pair; 2] {
    // SAFETY: both are 16 bytes that may hold anything.
    unsafe { transmute(v) }
}

#[inline(always)]
pub(super) fn of_integers(v: [i32; 4]) -> [Pair; 2] {
    // SAFETY: both are 16 bytes that may hold anything.
    unsafe { transmute(v) }
}

/// The bits of `a` where those of `mask` are 1, else those of `b`.
#[inline(always)]
fn select(mask: [Pair; 2], a: [Pair; 2], b: [Pair; 2]) -> [Pair; 2] {
    let [mut r0, mut r1] = mask;
    // SAFETY: bits in registers.
    unsafe {
        asm!("vbsl {0}, {1}, {2}", inout(dreg) r0, in(dreg) a[0], in(dreg) b[0],
            options(pure, nomem, nostack, preserves_flags));
        asm!("vbsl {0}, {1}, {2}", inout(dreg) r1, in(dreg) a[1], in(dreg) b[1],
            options(pure, nomem, nostack, preserves_flags));
    }
    [r0, r1]
}

// SAFETY of all bodies: the trait asks that the processor has the instruction set and that pointers are
// valid for 4 values; they are read and written without an alignment.
impl Simd for Neon {
    type V = [Pair; 2];
    const LANES: usize = 4;
    const TILE_ROWS: [usize; 3] = [12, 6, 0];

    #[inline(always)]
    unsafe fn splat(x: f32) -> [Pair; 2] {
        let pair: Pair;
        // SAFETY: a move from one register to another.
        unsafe {
            asm!("vdup.32 {0}, {1}", out(dreg) pair, in(reg) x.to_bits(),
                options(pure, nomem, nostack, preserves_flags));
        }
        [pair; 2]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [Pair; 2] {
        let from: *const Pair = from.cast();
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe { [from.read_unaligned(), from.add(1).read_unaligned()] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [Pair; 2]) {
        let to: *mut Pair = to.cast();
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            to.write_unaligned(v[0]);
            to.add(1).write_unaligned(v[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: [Pair; 2], b: [Pair; 2]) -> [Pair; 2] {
        binary!("vadd.f32", a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: [Pair; 2], b: [Pair; 2]) -> [Pair; 2] {
        binary!("vsub.f32", a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: [Pair; 2], b: [Pair; 2]) -> [Pair; 2] {
        binary!("vmul.f32", a, b)
    }
    #[inline(always)]
    unsafe fn div(a: [Pair; 2], b: [Pair; 2]) -> [Pair; 2] {
        // There is no such instruction.
        let (a, b) = (lanes(a), lanes(b));
        of_lanes(from_fn(|i| a[i] / b[i]))
    }
    #[inline(always)]
    unsafe fn sqrt(v: [Pair; 2]) -> [Pair; 2] {
        // There is no such instruction.
        let v = lanes(v);
        of_lanes(from_fn(|i| v[i].sqrt()))
    }
    #[inline(always)]
    unsafe fn two_to_the(n: [Pair; 2]) -> [Pair; 2] {
        let n = lanes(n);
        of_lanes(from_fn(|i| {
            f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23)
        }))
    }
    #[inline(always)]
    unsafe fn mul_add(a: [Pair; 2], b: [Pair; 2], c: [Pair; 2]) -> [Pair; 2] {
        let [mut r0, mut r1] = c;
        // SAFETY: arithmetic in registers. Some callers are `unsafe` blocks themselves.
        #[allow(unused_unsafe)]
        unsafe {
            asm!("vmla.f32 {0}, {1}, {2}", inout(dreg) r0, in(dreg) a[0], in(dreg) b[0],
                options(pure, nomem, nostack, preserves_flags));
            asm!("vmla.f32 {0}, {1}, {2}", inout(dreg) r1, in(dreg) a[1], in(dreg) b[1],
                options(pure, nomem, nostack, preserves_flags));
        }
        [r0, r1]
    }
    #[inline(always)]
    unsafe fn at_least(bound: [Pair; 2], v: [Pair; 2]) -> [Pair; 2] {
        // The instruction gives NaN if either is NaN.
        binary!("vmax.f32", bound, v)
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [Pair; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        let bytes: [u8; 4] = unsafe { from.cast::<[u8; 4]>().read() };
        unary!("vcvt.f32.s32", of_integers(bytes.map(i32::from)))
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: [Pair; 2], zero: i32) {
        // Added, it leaves the number rounded, halves to the even one, in the low bits.
        const WHOLE: f32 = 12_582_912.0;
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unsafe {
            let low = Self::splat(-zero as f32);
            // NaN is above nothing.
            let above = binary!("vcgt.f32", v, low);
            let v = select(above, v, low);
            let v = Self::at_most(Self::splat((255 - zero) as f32), v);
            let v = lanes(Self::add(v, Self::splat(WHOLE)));
            let bytes = v.map(|x| (x.to_bits() as i32 - WHOLE.to_bits() as i32 + zero) as u8);
            to.cast::<[u8; 4]>().write(bytes);
        }
    }
    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> [Pair; 2] {
        // SAFETY: the pointer is valid for all lanes, as the trait asks.
        unary!("vcvt.f32.s32", unsafe { Self::load(from.cast()) })
    }
    #[inline(always)]
    unsafe fn at_most(bound: [Pair; 2], v: [Pair; 2]) -> [Pair; 2] {
        binary!("vmin.f32", bound, v)
    }
}
