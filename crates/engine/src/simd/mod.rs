//! Vectors of f32 behind one trait, so that each kernel is written once and compiled for every
//! instruction set.
//!
//! A kernel is a type that implements [`Kernel`]; [`InstructionSet::entry`] gives it as compiled for a set
//! that was chosen at run time. Everything that a kernel calls must be `#[inline(always)]`, so that it is
//! compiled with the features of the function that calls it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dot;
#[cfg(target_arch = "aarch64")]
mod neon;
// A feature, since stable Rust does not tell a program that it is built by `-C target-feature=+neon`.
#[cfg(all(target_arch = "arm", feature = "neon32"))]
#[path = "neon32.rs"]
mod neon;
mod portable;

pub(super) use dot::{Dot, DotEntry, DotKernel, DotSet};

/// Whether the words by which Linux describes a 32-bit ARM processor to a program, pairs of a key and a value, tell of
/// NEON.
#[cfg(any(test, all(target_arch = "arm", feature = "neon32")))]
fn tells_of_neon(auxiliary: &[u8]) -> bool {
    /// Key of what the processor can do.
    const AT_HWCAP: u32 = 16;
    const HWCAP_NEON: u32 = 1 << 12;
    let (words, _) = auxiliary.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().any(|[key, value]| {
        u32::from_ne_bytes(*key) == AT_HWCAP && u32::from_ne_bytes(*value) & HWCAP_NEON != 0
    })
}

/// Lanes of the widest vector.
pub(super) const MOST_LANES: usize = 16;

/// A vector of f32 in registers.
///
/// # Safety
/// The processor must have the instruction set. Pointers must be valid for [`LANES`](Self::LANES) values;
/// they need no alignment.
pub(super) trait Simd: Copy + 'static {
    /// The register.
    type V: Copy;
    /// Values in a register.
    const LANES: usize;
    /// Rows of a tile of the matrix product that is one, two or three registers wide: as many as the
    /// registers hold. None for three where tiles of two are better.
    const TILE_ROWS: [usize; 3];

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` values from `from`.
    unsafe fn load(from: *const f32) -> Self::V;
    /// `LANES` values to `to`.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The value of the first lane.
    #[inline(always)]
    unsafe fn first(v: Self::V) -> f32 {
        let mut lanes = [0.0; MOST_LANES];
        // SAFETY: no vector has more lanes than the array.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        lanes[0]
    }
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The square root.
    unsafe fn sqrt(v: Self::V) -> Self::V;
    /// `2^n` for lanes that hold whole numbers from -126 to 127.
    unsafe fn two_to_the(n: Self::V) -> Self::V;
    /// `a · b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of a bound and `v`; a NaN in `v` stays.
    unsafe fn at_least(bound: Self::V, v: Self::V) -> Self::V;
    /// The smaller of a bound and `v`; a NaN in `v` stays.
    unsafe fn at_most(bound: Self::V, v: Self::V) -> Self::V;

    /// `LANES` bytes from `from` as numbers from 0 to 255.
    unsafe fn load_bytes(from: *const u8) -> Self::V;
    /// `LANES` numbers to `to` as bytes: rounded to the nearest, halves to the even one, plus `zero`, held within 0
    /// and 255. NaN becomes 0.
    unsafe fn store_bytes(to: *mut u8, v: Self::V, zero: i32);
    /// `LANES` integers from `from` as numbers, rounded to the nearest.
    unsafe fn load_integers(from: *const i32) -> Self::V;

    /// The same pointer, of which the compiler knows nothing: it then addresses rows from one register
    /// instead of moving a pointer for each.
    #[inline(always)]
    unsafe fn opaque(at: *const f32) -> *const f32 {
        at
    }

    /// Asks for the cache line at `at`, which need not be valid, to be brought to the second-level cache.
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        let _ = at;
    }

    /// `exp(x)` to 2 units in the last place; arguments are held within ±87, NaN stays.
    ///
    /// Cody and Waite's reduction to ±ln 2 / 2, then the Taylor polynomial of degree 7.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // Added and taken away again, it leaves a whole number.
        const WHOLE: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        // SAFETY: the caller's processor has the instruction set.
        unsafe {
            let x = Self::at_most(Self::splat(87.0), Self::at_least(Self::splat(-87.0), x));
            let whole = Self::splat(WHOLE);
            let n = Self::mul_add(x, Self::splat(std::f32::consts::LOG2_E), whole);
            let n = Self::sub(n, whole);
            let r = Self::mul_add(n, Self::splat(-LN_2_HIGH), x);
            let r = Self::mul_add(n, Self::splat(-LN_2_LOW), r);
            let mut sum = Self::splat(1.0 / 5040.0);
            for term in [
                1.0 / 720.0,
                1.0 / 120.0,
                1.0 / 24.0,
                1.0 / 6.0,
                0.5,
                1.0,
                1.0,
            ] {
                sum = Self::mul_add(sum, r, Self::splat(term));
            }
            Self::mul(sum, Self::two_to_the(n))
        }
    }
}

/// A loop over f32 that is compiled for every instruction set.
pub(super) trait Kernel {
    /// Its arguments.
    type Args;

    /// Runs it with the vectors of `S`; must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor must have the instruction set, and the pointers must be valid as the arguments say.
    unsafe fn run<S: Simd>(args: &Self::Args);
}

/// A kernel compiled for one instruction set. Safe to call where [`Kernel::run`] is.
pub(super) type Entry<A> = unsafe fn(&A);

/// The instruction sets for which kernels exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum InstructionSet {
    /// Plain Rust, for any processor.
    Portable,
    /// 128-bit vectors of every 64-bit ARM, and of most 32-bit ones.
    #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
    Neon,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Calls `$body` with `$S` as the vectors of the instruction set `$isa`. `$body` must not inline kernels.
macro_rules! with_simd {
    ($isa:expr, $S:ident => $body:expr) => {
        match $isa {
            InstructionSet::Portable => {
                type $S = portable::Portable;
                $body
            }
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            InstructionSet::Neon => {
                type $S = neon::Neon;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => {
                type $S = avx2::Avx2;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                type $S = avx512::Avx512;
                $body
            }
        }
    };
}

impl InstructionSet {
    /// Sets that this processor has, the fastest last.
    pub(super) fn available() -> Vec<InstructionSet> {
        let mut sets = vec![InstructionSet::Portable];
        #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
        if neon::is_here() {
            sets.push(InstructionSet::Neon);
        }
        #[cfg(target_arch = "x86_64")]
        {
            let fma = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            if fma {
                sets.push(InstructionSet::Avx2);
            }
            if fma && std::is_x86_feature_detected!("avx512f") {
                sets.push(InstructionSet::Avx512);
            }
        }
        sets
    }

    /// The fastest set that this processor has.
    pub(super) fn best() -> InstructionSet {
        Self::available().pop().unwrap_or(InstructionSet::Portable)
    }

    /// The name by which a user asks for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            InstructionSet::Portable => "portable",
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            InstructionSet::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => "avx512",
        }
    }

    /// Values in a vector.
    pub(super) fn lanes(self) -> usize {
        with_simd!(self, S => S::LANES)
    }

    /// Rows of a tile that is `vectors` (1 to 3) registers wide.
    pub(super) fn tile_rows(self, vectors: usize) -> usize {
        with_simd!(self, S => S::TILE_ROWS)[vectors - 1]
    }

    /// The kernel `K` for this instruction set.
    pub(super) fn entry<K: Kernel>(self) -> Entry<K::Args> {
        match self {
            InstructionSet::Portable => portable::run::<K>,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            InstructionSet::Neon => neon::run::<K>,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::run::<K>,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512::run::<K>,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_tells_nothing_has_no_neon() {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        // A Cortex-A7, then an ARM11.
        assert!(tells_of_neon(&words(&[33, 9, 16, 0x003f_b0d6, 0, 0])));
        assert!(!tells_of_neon(&words(&[16, 0x0000_80d6, 6, 4096, 0, 0])));
        assert!(!tells_of_neon(&words(&[6, 4096, 17, 4096, 0, 0])));
        assert!(!tells_of_neon(&[]));
        assert!(!tells_of_neon(&[16, 0, 0]));
    }
}
