//! Several threads that compute one picture together: each takes some rows of every map, or some parts of a step, and
//! waits for the others before the next.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, scope, yield_now};

use tract_onnx::tract_core::internal::*;

use super::{Chain, Plan, Value, Workspace};
use crate::buffer::Buffer;
use crate::map::{Map, Shape};
use crate::refusal::Refusal;
use crate::step::Scratch;

/// A step with fewer rows than this is computed in parts where it has some, so that all threads have as much to do.
const FEW_ROWS: usize = 8;

/// Memory of one more thread.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    /// As large as that of all threads; the maps inside chains are here.
    arena: Buffer,
    scratch: Scratch,
}

/// Where threads wait until all have come.
struct Barrier {
    threads: usize,
    waiting: AtomicUsize,
    round: AtomicUsize,
    /// Whether a thread will never come.
    is_broken: AtomicBool,
}

impl Barrier {
    fn new(threads: usize) -> Barrier {
        Barrier {
            threads,
            waiting: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Whether all have come; if not, one never will.
    fn wait(&self) -> bool {
        /// Tries before the processor is left to others, which may keep it for milliseconds.
        const PATIENCE: usize = 1 << 16;
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.waiting.store(0, Ordering::Release);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return !self.is_broken.load(Ordering::Acquire);
        }
        let mut tries = 0;
        while self.round.load(Ordering::Acquire) == round {
            if self.is_broken.load(Ordering::Acquire) {
                return false;
            }
            tries += 1;
            if tries < PATIENCE {
                std::hint::spin_loop();
            } else {
                yield_now();
            }
        }
        true
    }

    fn break_up(&self) {
        self.is_broken.store(true, Ordering::Release);
    }
}

/// Breaks the barrier if its thread ends before its work.
struct Member<'a> {
    barrier: &'a Barrier,
    is_done: bool,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.barrier.break_up();
        }
    }
}

/// What all threads work on.
struct Shared<'a> {
    plan: &'a Plan,
    inputs: &'a [*const u8],
    arena: *mut u8,
    barrier: Barrier,
}

// SAFETY: inputs are only read; in the arena each thread writes rows or parts of its own, and reads only what was written
// before a barrier.
unsafe impl Sync for Shared<'_> {}

/// Memory of one thread.
struct Own<'a> {
    arena: *mut u8,
    scratch: &'a mut Scratch,
}

impl Plan {
    /// Makes `workspace` one of so many threads; memory that it had for more stays.
    ///
    /// # Errors
    /// If the system has not as much memory.
    pub(in super::super) fn set_threads(
        &self,
        workspace: &mut Workspace,
        threads: usize,
    ) -> TractResult<()> {
        let helper = || {
            Some(Helper {
                arena: Buffer::try_zeros(self.arena_bytes.div_ceil(size_of::<f32>()))?,
                scratch: Scratch {
                    values: Buffer::try_zeros(self.scratch_len)?,
                },
            })
        };
        workspace.working = threads.saturating_sub(1);
        while workspace.helpers.len() < workspace.working {
            workspace.helpers.push(helper().ok_or(Refusal::Memory)?);
        }
        Ok(())
    }

    /// Runs all steps on all threads of the workspace.
    ///
    /// # Errors
    /// If the workspace is smaller than this plan's are, or if the system has no thread.
    ///
    /// # Safety
    /// As [`run`](Plan::run), whose checks were made.
    pub(super) unsafe fn run_together(
        &self,
        inputs: &[*const u8],
        workspace: &mut Workspace,
    ) -> TractResult<()> {
        let arena_len = self.arena_bytes.div_ceil(size_of::<f32>());
        let fits = |helper: &Helper| {
            helper.arena.len() >= arena_len && helper.scratch.values.len() >= self.scratch_len
        };
        let working = workspace.working.min(workspace.helpers.len());
        let helpers = &mut workspace.helpers[..working];
        ensure!(helpers.iter().all(fits));
        let threads = 1 + working;
        let shared = Shared {
            plan: self,
            inputs,
            arena: workspace.arena.as_mut_ptr().cast(),
            barrier: Barrier::new(threads),
        };
        let own = Own {
            arena: shared.arena,
            scratch: &mut workspace.scratch,
        };
        let done = scope(|scope| {
            for (i, helper) in helpers.iter_mut().enumerate() {
                let shared = &shared;
                let work = move || {
                    let own = Own {
                        arena: helper.arena.as_mut_ptr().cast(),
                        scratch: &mut helper.scratch,
                    };
                    // SAFETY: the helper's memory was held against the plan's; every thread has another number.
                    unsafe { shared.work(i + 1, threads, own) };
                };
                if Builder::new().spawn_scoped(scope, work).is_err() {
                    shared.barrier.break_up();
                    return false;
                }
            }
            // SAFETY: as above; this thread's memory is the workspace's.
            unsafe { shared.work(0, threads, own) }
        });
        match done {
            true => Ok(()),
            false => Err(Refusal::Memory.into()),
        }
    }
}

impl Shared<'_> {
    /// What thread `number` of `threads` does; whether all came to the end.
    ///
    /// # Safety
    /// `own` must be the thread's own memory, as large as the plan's; inputs and arena must be as [`Plan::run`] asks.
    unsafe fn work(&self, number: usize, threads: usize, own: Own) -> bool {
        let mut member = Member {
            barrier: &self.barrier,
            is_done: false,
        };
        let plan = self.plan;
        for chain in &plan.chains {
            let last = chain.steps.end - 1;
            let place = |value: Value| match value {
                Value::Input(i) => (self.inputs[i].cast_mut(), plan.inputs[i]),
                Value::Step(i) => {
                    let is_inside = chain.steps.contains(&i) && i != last;
                    let arena = if is_inside { own.arena } else { self.arena };
                    (
                        arena.wrapping_add(plan.places[i].start),
                        plan.steps[i].shape,
                    )
                }
            };
            let step = &plan.steps[last];
            let (height, parts) = (step.shape.height, step.step.parts());
            let at_once = step.step.granule() >= height;
            let in_parts =
                chain.steps.len() == 1 && parts >= threads && (at_once || height < FEW_ROWS);
            // SAFETY: as in `Plan::run`, with rows and parts that no other thread computes; what they are made of was
            // made before the last barrier, or is in this thread's own arena.
            unsafe {
                if in_parts {
                    let parts = share(parts, 1, number, threads);
                    plan.run_parts(last, parts, &place, own.scratch);
                    if !self.barrier.wait() {
                        return false;
                    }
                    let rows = share(height, 1, number, threads);
                    let (data, shape) = place(Value::Step(last));
                    bend(plan, last, (data, shape), rows);
                } else {
                    let rows = share(height, unit(chain, plan), number, threads);
                    if !rows.is_empty() {
                        plan.run_chain(chain, rows, &place, own.scratch, &mut None);
                    }
                }
            }
            if !self.barrier.wait() {
                return false;
            }
        }
        member.is_done = true;
        true
    }
}

/// Rows of the last map of a chain that are not divided between threads.
fn unit(chain: &Chain, plan: &Plan) -> usize {
    match chain.steps.len() {
        1 => plan.steps[chain.steps.start].step.granule().max(1),
        _ => chain.strip,
    }
}

/// The share of one of `threads` in `count` rows or parts, of which so many stay together.
fn share(count: usize, unit: usize, number: usize, threads: usize) -> Range<usize> {
    let units = count.div_ceil(unit);
    let bound = |i: usize| (units * i / threads * unit).min(count);
    bound(number)..bound(number + 1)
}

/// Applies the curve of a step to some of its rows.
///
/// # Safety
/// The step must have written them, at `data`.
unsafe fn bend(plan: &Plan, step: usize, (data, shape): (*mut u8, Shape), rows: Range<usize>) {
    if !rows.is_empty() {
        let output = Map::new(data, 0..shape.height, shape);
        let len = rows.len() * shape.row();
        // SAFETY: the caller's rows, of floats and whole vectors, as `check_steps` asked.
        unsafe {
            plan.steps[step]
                .activation
                .bend(output.bytes(rows.start).cast(), len)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_rows_just_once() {
        for (count, unit) in [(1, 1), (7, 1), (7, 4), (14, 4), (112, 13), (3, 8)] {
            for threads in 1..5 {
                let mut next = 0;
                for number in 0..threads {
                    let rows = share(count, unit, number, threads);
                    assert_eq!(rows.start, next);
                    assert!(rows.start.is_multiple_of(unit) || rows.start == count);
                    next = rows.end;
                }
                assert_eq!(next, count);
            }
        }
    }

    #[test]
    fn a_thread_that_never_comes_is_not_waited_for() {
        let barrier = Barrier::new(2);
        scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            drop(Member {
                barrier: &barrier,
                is_done: false,
            });
            assert!(!waiting.join().unwrap());
        });
    }
}
