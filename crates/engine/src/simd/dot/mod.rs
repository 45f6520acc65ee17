//! Sums of products of bytes behind one trait: activations from 0 to 255 with weights from -127 to 127.
//!
//! A register holds four bytes for each lane; [`Dot::dot`] adds their four products to the lane's sum. All sums are
//! exact, so that results are the same on every instruction set.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "arm", feature = "neon32"))]
#[path = "neon32.rs"]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod words;

use super::{InstructionSet, Simd};

/// Vectors of bytes that are multiplied and summed in fours.
///
/// # Safety
/// As [`Simd`]: the processor must have the instruction set, and pointers be valid for what is read.
pub(crate) trait Dot: Copy + 'static {
    /// The vectors of floats with as many lanes.
    type Floats: Simd;
    /// A sum for each lane.
    type Sums: Copy;
    /// Four activations for each lane.
    type Bytes: Copy;
    /// Four weights for each lane.
    type Weights: Copy;
    /// Rows of a tile of the matrix product that is one, two or three vectors wide; 0 where there is none.
    const TILE_ROWS: [usize; 3];
    /// What is taken from every activation before it is multiplied.
    const OFFSET: i32;

    /// A sum for each lane from `from`.
    unsafe fn sums(from: *const i32) -> Self::Sums;
    /// The same four activations for every lane.
    unsafe fn spread(from: *const u8) -> Self::Bytes;
    /// Four activations for each lane, lane after lane.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Four weights for each lane, lane after lane.
    unsafe fn weights(from: *const i8) -> Self::Weights;
    /// `sums + Σ (bytes − OFFSET) · weights`, over the four of each lane.
    unsafe fn dot(sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums;
    /// The sums as numbers, rounded to the nearest.
    unsafe fn floats(sums: Self::Sums) -> <Self::Floats as Simd>::V;
}

/// A loop over bytes that is compiled for every way of summing their products.
pub(crate) trait DotKernel {
    /// Its arguments.
    type Args;

    /// Runs it with the vectors of `D`; must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor must have the instruction set, and the pointers must be valid as the arguments say.
    unsafe fn run<D: Dot>(args: &Self::Args);
}

/// A kernel compiled for one way of summing. Safe to call where [`DotKernel::run`] is.
pub(crate) type DotEntry<A> = unsafe fn(&A);

/// The ways of summing products of bytes for which kernels exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DotSet {
    /// One product at a time, as the compiler sees fit.
    Plain(InstructionSet),
    /// Pairs of bytes that are widened: every ARM with NEON.
    #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
    Neon,
    /// `sdot`: 64-bit ARM from 2018 on.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// Bytes widened to words, 256 bits.
    #[cfg(target_arch = "x86_64")]
    Words256,
    /// Bytes widened to words, 512 bits.
    #[cfg(target_arch = "x86_64")]
    Words512,
    /// `vpdpbusd`, 256 bits.
    #[cfg(target_arch = "x86_64")]
    Vnni256,
    /// `vpdpbusd`, 512 bits.
    #[cfg(target_arch = "x86_64")]
    Vnni512,
}

impl DotSet {
    /// Those that this processor has and whose vectors are those of `isa`, the fastest last.
    pub(crate) fn available(isa: InstructionSet) -> Vec<DotSet> {
        let mut sets = vec![DotSet::Plain(isa)];
        match isa {
            InstructionSet::Portable => {}
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            InstructionSet::Neon => {
                sets.push(DotSet::Neon);
                #[cfg(target_arch = "aarch64")]
                if std::arch::is_aarch64_feature_detected!("dotprod") {
                    sets.push(DotSet::NeonDot);
                }
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => {
                sets.push(DotSet::Words256);
                if std::is_x86_feature_detected!("avxvnni") {
                    sets.push(DotSet::Vnni256);
                }
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                if std::is_x86_feature_detected!("avx512bw") {
                    sets.push(DotSet::Words512);
                }
                if std::is_x86_feature_detected!("avx512vnni") {
                    sets.push(DotSet::Vnni512);
                }
            }
        }
        sets
    }

    /// The fastest that this processor has, with the vectors of `isa`.
    pub(crate) fn best(isa: InstructionSet) -> DotSet {
        let fastest = Self::available(isa).pop();
        fastest.unwrap_or(DotSet::Plain(isa))
    }

    /// Rows of tiles that are one, two and three vectors wide; 0 where there are none.
    pub(crate) fn tile_rows(self) -> [usize; 3] {
        match self {
            DotSet::Plain(_) => plain::Plain::<super::portable::Portable>::TILE_ROWS,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            DotSet::Neon => neon::Widened::TILE_ROWS,
            #[cfg(target_arch = "aarch64")]
            DotSet::NeonDot => neon::Sdot::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            DotSet::Words256 => words::Words256::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            DotSet::Words512 => words::Words512::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            DotSet::Vnni256 => vnni::Vnni256::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            DotSet::Vnni512 => vnni::Vnni512::TILE_ROWS,
        }
    }

    /// What is taken from every activation before it is multiplied.
    pub(crate) fn offset(self) -> i32 {
        match self {
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            DotSet::Neon => neon::Widened::OFFSET,
            #[cfg(target_arch = "aarch64")]
            DotSet::NeonDot => neon::Sdot::OFFSET,
            _ => plain::Plain::<super::portable::Portable>::OFFSET,
        }
    }

    /// The kernel `K` for this way of summing.
    pub(crate) fn entry<K: DotKernel>(self) -> DotEntry<K::Args> {
        match self {
            DotSet::Plain(InstructionSet::Portable) => plain::portable::<K>,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            DotSet::Plain(InstructionSet::Neon) => neon::plain::<K>,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", feature = "neon32")))]
            DotSet::Neon => neon::widened::<K>,
            #[cfg(target_arch = "aarch64")]
            DotSet::NeonDot => neon::sdot::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Plain(InstructionSet::Avx2) => words::plain256::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Plain(InstructionSet::Avx512) => words::plain512::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Words256 => words::words256::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Words512 => words::words512::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Vnni256 => vnni::vnni256::<K>,
            #[cfg(target_arch = "x86_64")]
            DotSet::Vnni512 => vnni::vnni512::<K>,
        }
    }
}
