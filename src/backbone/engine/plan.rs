//! The order, memory and strips in which the steps of a graph run.
//!
//! Consecutive steps whose intermediate maps would not stay in the second-level cache form a *chain*: they
//! run a strip of rows at a time, and each map between them exists only as the rows that are still needed.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::activation::Activation;
use super::buffer::Buffer;
use super::map::{Map, Shape};
use super::step::{Scratch, Step};

/// Maps larger than this are made strip by strip where they can be.
const LARGE_MAP_BYTES: usize = 768 << 10;
/// Weights of a step in a chain are read again for every strip: they must stay in the cache.
const CHAIN_WEIGHT_BYTES: usize = 512 << 10;
/// Bytes of the maps inside a chain together.
const STRIP_BYTES: usize = 384 << 10;

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
    /// First byte of each step's map in the arena.
    offsets: Vec<usize>,
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
    /// Time spent in each step, if it is being measured.
    pub profile: Option<Vec<Duration>>,
}

impl Plan {
    pub(super) fn new(steps: Vec<PlacedStep>, inputs: Vec<Shape>, outputs: Vec<Value>) -> Plan {
        let chains = chains(&steps, &outputs);
        let (offsets, arena_bytes) = arrange(&steps, &chains, &outputs);
        let scratch_len = steps.iter().map(|s| s.step.scratch_len()).max();
        Plan {
            steps,
            inputs,
            outputs,
            chains,
            offsets,
            arena_bytes,
            scratch_len: scratch_len.unwrap_or(0),
        }
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
        self.arena_bytes + self.scratch_len * size_of::<f32>()
    }

    /// Memory for one worker.
    pub(super) fn workspace(&self) -> Workspace {
        Workspace {
            arena: Buffer::zeros(self.arena_bytes / size_of::<f32>()),
            scratch: Scratch {
                values: Buffer::zeros(self.scratch_len),
            },
            profile: None,
        }
    }

    /// Runs all steps and returns the output maps, which lie in the workspace.
    ///
    /// # Safety
    /// `inputs` must be valid for the shapes of [`inputs`](Self::inputs), and `workspace` be one of this
    /// plan's.
    pub(super) unsafe fn run(&self, inputs: &[*const u8], workspace: &mut Workspace) -> Vec<Map> {
        let arena: *mut u8 = workspace.arena.as_mut_ptr().cast();
        let map = |value: Value| match value {
            Value::Input(i) => Map::new(inputs[i].cast_mut(), 0, self.inputs[i]),
            Value::Step(i) => Map::new(arena.wrapping_add(self.offsets[i]), 0, self.steps[i].shape),
        };
        for chain in &self.chains {
            // SAFETY: maps lie in the arena where `arrange` put them, or are inputs.
            unsafe {
                self.run_chain(chain, &map, &mut workspace.scratch, &mut workspace.profile);
            }
        }
        self.outputs.iter().map(|&value| map(value)).collect()
    }

    /// # Safety
    /// `map` must give maps that are valid as [`arrange`] made room for them.
    unsafe fn run_chain(
        &self,
        chain: &Chain,
        map: &impl Fn(Value) -> Map,
        scratch: &mut Scratch,
        profile: &mut Option<Vec<Duration>>,
    ) {
        let first = chain.steps.start;
        let steps = &self.steps[chain.steps.clone()];
        let mut strips = Strips::new(steps);
        let height = steps.last().map_or(0, |s| s.shape.height);
        // The rows of each map that are in memory start here.
        let mut kept = vec![0; steps.len()];
        let mut maps: Vec<Map> = Vec::with_capacity(3);
        for start in (0..height).step_by(chain.strip) {
            let rows = strips.next(start..(start + chain.strip).min(height));
            for (i, placed) in steps.iter().enumerate() {
                let Rows { new, needed_from } = rows[i].clone();
                let started = profile.is_some().then(Instant::now);
                let base = map(Value::Step(first + i));
                let data = base.bytes(0);
                let is_last = i + 1 == steps.len();
                if !is_last && needed_from > kept[i] {
                    let row = placed.shape.row_bytes();
                    let keep = new.start.saturating_sub(needed_from);
                    // SAFETY: both places lie within the rows that are kept of this map.
                    unsafe { data.copy_from(data.add((needed_from - kept[i]) * row), keep * row) };
                    kept[i] = needed_from;
                }
                let output = Map::new(data, kept[i], placed.shape);
                maps.clear();
                for (j, &value) in placed.inputs.iter().enumerate() {
                    maps.push(if j == 0 && i > 0 {
                        let before = map(value);
                        Map::new(before.bytes(0), kept[i - 1], before.shape)
                    } else {
                        map(value)
                    });
                }
                if !new.is_empty() {
                    // SAFETY: the rows of the first input were made before; further inputs are whole.
                    unsafe {
                        placed.step.run(&maps, output, new.clone(), scratch);
                        let len = new.len() * placed.shape.row();
                        placed.activation.bend(output.row(new.start), len);
                    }
                }
                if let (Some(times), Some(started)) = (profile.as_mut(), started) {
                    times[first + i] += started.elapsed();
                }
            }
        }
    }
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
    fn new(steps: &'a [PlacedStep]) -> Strips<'a> {
        Strips {
            steps,
            done: vec![0; steps.len()],
        }
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
    let mut strips = Strips::new(steps);
    let mut kept = vec![0; steps.len()];
    for start in (0..height).step_by(strip) {
        let rows = strips.next(start..(start + strip).min(height));
        for (kept, rows) in kept.iter_mut().zip(rows) {
            *kept = rows.new.end.saturating_sub(rows.needed_from).max(*kept);
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
    values.map(|(s, rows)| s.shape.row_bytes() * rows).sum()
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

/// Gives every map a place in the arena such that maps that are needed at the same time do not overlap.
/// Returns the places and the length of the arena, in bytes.
fn arrange(steps: &[PlacedStep], chains: &[Chain], outputs: &[Value]) -> (Vec<usize>, usize) {
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
                len: (chain.rows[i] * steps[step].shape.row_bytes())
                    .next_multiple_of(super::buffer::ALIGNMENT),
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
    let mut offsets = vec![0; steps.len()];
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
            if start >= offset + block.len {
                break;
            }
            offset = offset.max(end);
        }
        offsets[block.step] = offset;
        placed.push((offset, block));
    }
    let len = placed.iter().map(|(offset, b)| offset + b.len).max();
    (offsets, len.unwrap_or(0))
}
