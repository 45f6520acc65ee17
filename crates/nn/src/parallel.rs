//! Work that may be done at the same time, without saying on which threads.

use std::sync::Mutex;

/// Runs pieces of work; what they give must not depend on what runs beside them.
pub trait Executor: Sync {
    /// Calls `work` once with each number from 0 to below `count`, in any order, and returns after the last.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// One piece after another.
#[derive(Clone, Copy, Debug)]
pub struct Sequential;

impl Executor for Sequential {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

/// Calls `work` with each item and its number.
pub(crate) fn for_each<T: Send>(
    executor: &dyn Executor,
    items: impl Iterator<Item = T>,
    work: impl Fn(usize, &mut T) + Sync,
) {
    let items: Vec<Mutex<T>> = items.map(Mutex::new).collect();
    executor.run(items.len(), &|index| {
        // Each item is locked once; only a panic, which ends all, could have spoilt it.
        if let Ok(mut item) = items[index].lock() {
            work(index, &mut item);
        }
    });
}

/// What `work` gives for each number from 0 to below `count`, in order.
pub fn map<T: Send>(
    executor: &dyn Executor,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for_each(executor, results.iter_mut(), |index, place| {
        **place = Some(work(index));
    });
    results.into_iter().flatten().collect()
}
