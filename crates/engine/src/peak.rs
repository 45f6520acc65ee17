//! The most that one core can do, to hold kernels against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{InstructionSet, Kernel, Simd};

/// Chains of multiply-adds side by side: enough to hide the time that one takes.
const CHAINS: usize = 12;
const ROUNDS: usize = 200_000;

/// Measures the floating-point operations in a second that one core reaches with the vectors of `isa` when
/// it does nothing but multiply and add in registers: the best of some runs.
pub(super) fn peak_flops(isa: InstructionSet) -> f64 {
    let run = isa.entry::<Chains>();
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let mut sums = [0.0; CHAINS];
        let start = Instant::now();
        // SAFETY: the set is one that this processor has; the kernel has no pointers but `sums`.
        unsafe { run(&(&raw mut sums)) };
        best = best.min(start.elapsed());
        black_box(sums);
    }
    (2 * isa.lanes() * CHAINS * ROUNDS) as f64 / best.as_secs_f64().max(1e-9)
}

struct Chains;

impl Kernel for Chains {
    type Args = *mut [f32; CHAINS];

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Self::Args) {
        // SAFETY: the caller's array holds a value for each chain.
        unsafe {
            let mut sums = [S::splat(0.0); CHAINS];
            let (x, y) = (S::splat(black_box(0.5)), S::splat(black_box(0.25)));
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = S::mul_add(x, y, *sum);
                }
            }
            for (&sum, to) in sums.iter().zip(&mut **args) {
                *to = S::first(sum);
            }
        }
    }
}
