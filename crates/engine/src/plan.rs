//! The order, memory and strips in which the steps of a graph run.
//!
//! Consecutive steps whose intermediate maps would not stay in the second-level cache form a *chain*: they
//! run a strip of rows at a time, and each map between them exists only as the rows that are still needed.

use std::ops::Range;
use std::time::{Duration, Instant};

use tract_onnx::tract_core::internal::*;

use super::activation::Activation;
use super::buffer::Buffer;
use super::geometry::padded_to;
use super::map::{Map, Shape};
use super::refusal::Refusal;
use super::step::{Scratch, Step};
use team::Helper;

mod team;

/// Maps larger than this are made strip by strip where they can be.
const LARGE_MAP_BYTES: usize = 768 << 10;
/// Weights of a step in a chain are read again for every strip: they must stay in the cache.
const CHAIN_WEIGHT_BYTES: usize = 512 << 10;
/// Bytes of the maps inside a chain together.
const STRIP_BYTES: usize = 384 << 10;

/// Maps with more rows than this are made whole: going through their strips, to plan them, would take too long.
const MOST_STRIPS: usize = 1 << 14;

/// Where a map comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Input of the graph, by number.
    Input(usize),
    /// Output of a step, by number.
    Step(usize),
}

/// A step with its place in the graph.
pub(super) struct PlacedStep {
    pub name: String,
    pub step: Box<dyn Step>,
    /// A curve that is applied to what the step has computed.
    pub activation: Activation,
    pub inputs: Vec<Value>,
    pub shape: Shape,
}

/// Steps in an order in which they can run, with a place in memory for every map.
pub(super) struct Plan {
    steps: Vec<PlacedStep>,
    inputs: Vec<Shape>,
    outputs: Vec<Value>,
    chains: Vec<Chain>,
    /// Where each step's map, or those of its rows that are kept, lies in the arena, in bytes.
    places: Vec<Range<usize>>,
    arena_bytes: usize,
    scratch_len: usize,
}

/// Steps that run strip by strip, each but the last read by the next alone.
struct Chain {
    steps: Range<usize>,
    /// Rows of the last map in a strip.
    strip: usize,
    /// Rows of each step's map that are kept; all for the last.
    rows: Vec<usize>,
}

/// Memory of one worker.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    arena: Buffer,
    scratch: Scratch,
    /// Memory of the threads beside the first, and how many of them work.
    helpers: Vec<Helper>,
    working: usize,
    /// Time spent in each step, if it is being measured.
    pub profile: Option<Vec<Duration>>,
}

impl Plan {
    /// # Errors
    /// If a step reads what was not made before, is not one for its maps, or if the maps are too large together.
    pub(super) fn new(
        steps: Vec<PlacedStep>,
        inputs: Vec<Shape>,
        outputs: Vec<Value>,
    ) -> TractResult<Plan> {
        check_steps(&steps, &inputs, &outputs)?;
        let chains = chains(&steps, &outputs);
        let places = arrange(&steps, &chains, &outputs)
            .context("its maps are too large for the memory of this machine")?;
        check_places(&steps, &chains, &places)?;
        let arena_bytes = places.iter().map(|place| place.end).max().unwrap_or(0);
        let scratch_len = steps.iter().map(|s| s.step.scratch_len()).max();
        Ok(Plan {
            steps,
            inputs,
            outputs,
            chains,
            places,
            arena_bytes,
            scratch_len: scratch_len.unwrap_or(0),
        })
    }

    pub(super) fn steps(&self) -> &[PlacedStep] {
        &self.steps
    }

    /// Shapes of the inputs.
    pub(super) fn inputs(&self) -> &[Shape] {
        &self.inputs
    }

    /// Bytes of memory that one worker needs.
    pub(super) fn workspace_bytes(&self) -> usize {
        let scratch = self.scratch_len.saturating_mul(size_of::<f32>());
        self.arena_bytes.saturating_add(scratch)
    }

    /// Memory for one worker.
    ///
    /// # Errors
    /// If the system has not as much.
    pub(super) fn workspace(&self) -> TractResult<Workspace> {
        let arena = Buffer::try_zeros(self.arena_bytes.div_ceil(size_of::<f32>()));
        let values = Buffer::try_zeros(self.scratch_len);
        let (Some(arena), Some(values)) = (arena, values) else {
            return Err(Refusal::Memory.into());
        };
        Ok(Workspace {
            arena,
            scratch: Scratch { values },
            helpers: Vec::new(),
            working: 0,
            profile: None,
        })
    }

    /// Runs all steps and returns the output maps, which lie in the workspace.
    ///
    /// # Errors
    /// If there are other numbers of inputs, or if the workspace is smaller than this plan's are.
    ///
    /// # Safety
    /// Each of `inputs` must be valid for as many values as the map of [`inputs`](Self::inputs) with its number has,
    /// padding apart.
    pub(super) unsafe fn run(
        &self,
        inputs: &[*const u8],
        workspace: &mut Workspace,
    ) -> TractResult<Vec<Map>> {
        ensure!(inputs.len() == self.inputs.len());
        ensure!(self.arena_bytes <= workspace.arena.len() * size_of::<f32>());
        ensure!(self.scratch_len <= workspace.scratch.values.len());
        let arena: *mut u8 = workspace.arena.as_mut_ptr().cast();
        let place = |value: Value| match value {
            Value::Input(i) => (inputs[i].cast_mut(), self.inputs[i]),
            Value::Step(i) => (
                arena.wrapping_add(self.places[i].start),
                self.steps[i].shape,
            ),
        };
        if workspace.working > 0 && workspace.profile.is_none() {
            // SAFETY: inputs are the caller's; the workspace was held against this plan.
            unsafe { self.run_together(inputs, workspace)? };
        } else {
            for chain in &self.chains {
                let height = self.steps[chain.steps.end - 1].shape.height;
                // SAFETY: inputs are the caller's; the arena, whose length was just asked, holds all places, and
                // `check_places` saw that each has room for the rows that are kept and lies beside those that are read.
                unsafe {
                    self.run_chain(
                        chain,
                        0..height,
                        &place,
                        &mut workspace.scratch,
                        &mut workspace.profile,
                    );
                }
            }
        }
        let whole = |&value: &Value| {
            let (data, shape) = place(value);
            Map::new(data, 0..shape.height, shape)
        };
        Ok(self.outputs.iter().map(whole).collect())
    }

    /// Computes some of the parts of step `i`; its curve is not applied.
    ///
    /// # Safety
    /// As [`run_chain`](Self::run_chain).
    unsafe fn run_parts(
        &self,
        i: usize,
        parts: Range<usize>,
        place: &impl Fn(Value) -> (*mut u8, Shape),
        scratch: &mut Scratch,
    ) {
        let placed = &self.steps[i];
        let whole = |value: Value| {
            let (data, shape) = place(value);
            Map::new(data, 0..shape.height, shape)
        };
        let maps: Vec<Map> = placed.inputs.iter().map(|&value| whole(value)).collect();
        let output = whole(Value::Step(i));
        // SAFETY: `check_steps` asked whether the step fits the maps, which are there whole, as the caller vouches.
        unsafe { placed.step.run_parts(&maps, output, parts, scratch) };
    }

    /// Computes `rows` of the last map of a chain, from a multiple of its strip on.
    ///
    /// # Safety
    /// `place` must give where the whole map of a value is, or those rows that the chain keeps, without overlap between
    /// a map that is written and those that it is made of. The scratch memory must be this plan's.
    unsafe fn run_chain(
        &self,
        chain: &Chain,
        wanted: Range<usize>,
        place: &impl Fn(Value) -> (*mut u8, Shape),
        scratch: &mut Scratch,
        profile: &mut Option<Vec<Duration>>,
    ) {
        let first = chain.steps.start;
        let steps = &self.steps[chain.steps.clone()];
        let mut strips = Strips::new(steps, wanted.start);
        // The rows of each map that are in memory start here; all of the last are.
        let mut kept = strips.done.clone();
        if let Some(last) = kept.last_mut() {
            *last = 0;
        }
        let mut maps: Vec<Map> = Vec::with_capacity(3);
        for start in wanted.clone().step_by(chain.strip) {
            let rows = strips.next(start..(start + chain.strip).min(wanted.end));
            for (i, placed) in steps.iter().enumerate() {
                let Rows { new, needed_from } = rows[i].clone();
                let started = profile.is_some().then(Instant::now);
                let (data, _) = place(Value::Step(first + i));
                let is_last = i + 1 == steps.len();
                if !is_last && needed_from > kept[i] {
                    let row = placed.shape.row_bytes();
                    let keep = new.start.saturating_sub(needed_from);
                    assert!(needed_from - kept[i] + keep <= chain.rows[i]);
                    // SAFETY: the place of this map has room for `chain.rows` rows, and neither the rows that are moved
                    // nor where they go end behind them, as was just asked.
                    unsafe { data.copy_from(data.add((needed_from - kept[i]) * row), keep * row) };
                    kept[i] = needed_from;
                }
                if !new.is_empty() {
                    assert!(new.end - kept[i] <= chain.rows[i]);
                    let output = Map::new(data, kept[i]..new.end, placed.shape);
                    maps.clear();
                    for (j, &value) in placed.inputs.iter().enumerate() {
                        let (data, shape) = place(value);
                        let in_strips = j == 0 && i > 0;
                        let there = match in_strips {
                            true => kept[i - 1]..rows[i - 1].new.end,
                            false => 0..shape.height,
                        };
                        let map = Map::new(data, there, shape);
                        let needed = match j {
                            0 if !placed.step.needs_all_rows() => placed.step.input_rows(&new),
                            _ => 0..shape.height,
                        };
                        assert!(map.holds(&needed), "rows that were not made");
                        maps.push(map);
                    }
                    // SAFETY: `check_steps` asked whether the step fits the maps. All rows of the inputs that it needs
                    // are there, as was just asked; those of the output have room, and lie apart, as the caller
                    // vouches.
                    unsafe {
                        placed.step.run(&maps, output, new.clone(), scratch);
                    }
                    let len = new.len() * placed.shape.row();
                    // SAFETY: the step wrote these rows, of floats and whole vectors: `check_steps` asked for both.
                    unsafe { placed.activation.bend(output.bytes(new.start).cast(), len) };
                }
                if let (Some(times), Some(started)) = (profile.as_mut(), started) {
                    times[first + i] += started.elapsed();
                }
            }
        }
    }
}

/// Asks whether every step reads only what is there before it, in the shapes that it was made for.
fn check_steps(steps: &[PlacedStep], inputs: &[Shape], outputs: &[Value]) -> TractResult<()> {
    let shape = |value: Value, before: usize| match value {
        Value::Input(i) => inputs.get(i).copied(),
        Value::Step(i) => (i < before).then(|| steps[i].shape),
    };
    for (i, placed) in steps.iter().enumerate() {
        let read = placed.inputs.iter().map(|&value| shape(value, i));
        let read = read.collect::<Option<Vec<Shape>>>();
        let fits = read.is_some_and(|read| placed.step.fits(&read, &placed.shape));
        ensure!(
            fits && placed.activation.fits(&placed.shape),
            "{} ({}) does not fit its maps",
            placed.name,
            placed.step.kind()
        );
    }
    let made = |&value: &Value| shape(value, steps.len()).is_some();
    ensure!(outputs.iter().all(made), "an output is not made");
    Ok(())
}

/// Asks whether every map has room for the rows that are kept, beside those that it is made of.
fn check_places(
    steps: &[PlacedStep],
    chains: &[Chain],
    places: &[Range<usize>],
) -> TractResult<()> {
    for chain in chains {
        for (i, &rows) in chain.steps.clone().zip(&chain.rows) {
            let place = &places[i];
            let bytes = rows.checked_mul(steps[i].shape.row_bytes());
            let apart = |value: &Value| match value {
                Value::Input(_) => true,
                Value::Step(j) => places[*j].end <= place.start || place.end <= places[*j].start,
            };
            ensure!(
                bytes.is_some_and(|bytes| bytes <= place.len())
                    && place.start.is_multiple_of(super::buffer::ALIGNMENT)
                    && steps[i].inputs.iter().all(apart),
                "{} has no place of its own",
                steps[i].name
            );
        }
    }
    Ok(())
}

/// What a strip asks of one step.
#[derive(Clone, Debug)]
struct Rows {
    /// Rows to be computed.
    new: Range<usize>,
    /// First row that is still needed.
    needed_from: usize,
}

/// Goes down a chain strip by strip.
struct Strips<'a> {
    steps: &'a [PlacedStep],
    done: Vec<usize>,
}

impl<'a> Strips<'a> {
    /// Begins at the row `first` of the last map.
    fn new(steps: &'a [PlacedStep], first: usize) -> Strips<'a> {
        let mut done = vec![0; steps.len()];
        let mut wanted = first;
        for (done, placed) in done.iter_mut().zip(steps).rev() {
            if wanted == 0 {
                break;
            }
            *done = wanted - wanted % placed.step.granule();
            wanted = placed.step.input_rows(&(*done..*done + 1)).start;
        }
        Strips { steps, done }
    }

    /// The rows of every step for the next rows of the last.
    fn next(&mut self, last: Range<usize>) -> Vec<Rows> {
        let mut wanted = last;
        let mut rows = Vec::with_capacity(self.steps.len());
        for (i, placed) in self.steps.iter().enumerate().rev() {
            let end = wanted
                .end
                .next_multiple_of(placed.step.granule())
                .min(placed.shape.height)
                .max(self.done[i]);
            let new = self.done[i]..end;
            self.done[i] = end;
            rows.push(Rows {
                new: new.clone(),
                needed_from: wanted.start.min(new.start),
            });
            wanted = if new.is_empty() {
                let next = placed.step.input_rows(&(end..end + 1));
                next.start..next.start
            } else {
                placed.step.input_rows(&new)
            };
        }
        rows.reverse();
        rows
    }
}

/// Rows of each map that a chain keeps when it goes `strip` rows at a time.
fn rows_kept(steps: &[PlacedStep], strip: usize) -> Vec<usize> {
    let height = steps.last().map_or(0, |s| s.shape.height);
    let mut strips = Strips::new(steps, 0);
    let mut kept = vec![0; steps.len()];
    for start in (0..height).step_by(strip) {
        let wanted = start..(start + strip).min(height);
        // As part of a sequence, and as the first that a thread computes.
        let first = Strips::new(steps, start).next(wanted.clone());
        for rows in [strips.next(wanted), first] {
            for (kept, rows) in kept.iter_mut().zip(rows) {
                *kept = rows.new.end.saturating_sub(rows.needed_from).max(*kept);
            }
        }
    }
    if let (Some(last), Some(placed)) = (kept.last_mut(), steps.last()) {
        *last = placed.shape.height;
    }
    kept
}

fn bytes_kept(steps: &[PlacedStep], rows: &[usize]) -> usize {
    let inner = steps.len().saturating_sub(1);
    let values = steps.iter().zip(rows).take(inner);
    values.fold(0, |sum: usize, (s, &rows)| {
        sum.saturating_add(s.shape.row_bytes().saturating_mul(rows))
    })
}

/// Cuts the steps into chains.
fn chains(steps: &[PlacedStep], outputs: &[Value]) -> Vec<Chain> {
    let mut readers = vec![0usize; steps.len()];
    let all = steps.iter().flat_map(|s| &s.inputs).chain(outputs);
    for value in all {
        if let Value::Step(i) = value {
            readers[*i] += 1;
        }
    }
    let joins = |i: usize| {
        let (this, next) = (&steps[i], &steps[i + 1]);
        let bytes = this.shape.bytes();
        next.inputs.first() == Some(&Value::Step(i))
            && readers[i] == 1
            && bytes > LARGE_MAP_BYTES
            // What is made at once would be moved for every strip.
            && this.step.granule() < this.shape.height
            && this.shape.height.max(next.shape.height) <= MOST_STRIPS
            && this.step.weight_bytes().max(next.step.weight_bytes()) <= CHAIN_WEIGHT_BYTES
            && !next.step.needs_all_rows()
            && next.step.input_rows(&(0..1)).len() < this.shape.height
    };
    let mut chains = Vec::new();
    let mut start = 0;
    while start < steps.len() {
        let mut end = start + 1;
        while end < steps.len() && joins(end - 1) {
            end += 1;
        }
        let members = &steps[start..end];
        let granule = members.last().map_or(1, |s| s.step.granule());
        let height = members.last().map_or(1, |s| s.shape.height).max(1);
        let mut strip = height;
        if members.len() > 1 {
            strip = granule;
            while strip + granule <= height {
                let rows = rows_kept(members, strip + granule);
                if bytes_kept(members, &rows) > STRIP_BYTES {
                    break;
                }
                strip += granule;
            }
        }
        chains.push(Chain {
            steps: start..end,
            strip,
            rows: rows_kept(members, strip),
        });
        start = end;
    }
    chains
}

/// Gives every map a place in the arena, in bytes, such that maps that are needed at the same time do not overlap; none
/// if there is no room for all.
fn arrange(steps: &[PlacedStep], chains: &[Chain], outputs: &[Value]) -> Option<Vec<Range<usize>>> {
    struct Block {
        step: usize,
        len: usize,
        /// Chains during which it is needed.
        life: Range<usize>,
    }
    let mut blocks: Vec<Block> = Vec::new();
    for (c, chain) in chains.iter().enumerate() {
        for (i, step) in chain.steps.clone().enumerate() {
            blocks.push(Block {
                step,
                len: padded_to(
                    chain.rows[i].checked_mul(steps[step].shape.row_bytes())?,
                    super::buffer::ALIGNMENT,
                )?,
                life: c..c + 1,
            });
        }
    }
    for (c, chain) in chains.iter().enumerate() {
        for value in steps[chain.steps.clone()].iter().flat_map(|s| &s.inputs) {
            if let Value::Step(i) = value {
                blocks[*i].life.end = blocks[*i].life.end.max(c + 1);
            }
        }
    }
    for value in outputs {
        if let Value::Step(i) = value {
            blocks[*i].life.end = chains.len();
        }
    }
    blocks.sort_by(|a, b| b.len.cmp(&a.len).then(a.step.cmp(&b.step)));
    let mut places = vec![0..0; steps.len()];
    let mut placed: Vec<(usize, &Block)> = Vec::new();
    for block in &blocks {
        let mut rivals: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, b)| b.life.start < block.life.end && block.life.start < b.life.end)
            .map(|(offset, b)| (*offset, offset + b.len))
            .collect();
        rivals.sort_unstable();
        let mut offset = 0;
        for (start, end) in rivals {
            if start >= block.len.checked_add(offset)? {
                break;
            }
            offset = offset.max(end);
        }
        let end = block
            .len
            .checked_add(offset)
            .filter(|&end| end <= isize::MAX as usize)?;
        places[block.step] = offset..end;
        placed.push((offset, block));
    }
    Some(places)
}

#[cfg(test)]
mod tests;
