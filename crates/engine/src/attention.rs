//! Scaled dot-product attention: `softmax(scale · q·kᵀ + bias) · v` for each head, some queries at a time, so that
//! no more scores are in memory than those of a few queries.

use std::ops::Range;

use super::buffer::Buffer;
use super::gemm::{Multiplier, Rows};
use super::geometry::{floats, padded_to};
use super::map::{Element, Map, Shape};
use super::normalize::sum;
use super::simd::{Entry, InstructionSet, Kernel, MOST_LANES, Simd};
use super::step::{Scratch, Step};

/// Pixel and channel of a value.
type Place = [usize; 2];

/// Scores in memory at a time, if they are those of some queries at least.
const SCORES: usize = 16 << 10;
const LEAST_QUERIES: usize = 12;
const MOST_QUERIES: usize = 48;

/// Where the tokens of all heads are: a token is as many channels as its head is deep, in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    pub heads: Vec<Head>,
    /// Where tokens are, from the first of their head: queries, keys, values, and results for the queries.
    pub tokens: [Vec<Place>; 4],
    /// Channels of a query and of a key.
    pub depth: usize,
    /// Channels of a value and of a result.
    pub width: usize,
    /// What is added to scores, `[query][key]`.
    pub biases: Vec<Vec<f32>>,
}

/// One head of one set of tokens.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Where its first query, key, value and result are.
    pub first: [Place; 4],
    /// Factor of the scores.
    pub scale: f32,
    /// Which biases are added.
    pub biases: Vec<usize>,
}

impl Heads {
    /// Numbers of queries and of keys.
    pub(super) fn counts(&self) -> [usize; 2] {
        [self.tokens[0].len(), self.tokens[1].len()]
    }

    /// Values of all biases, padded for any vector; none if they are too many.
    pub(super) fn bias_len(&self) -> Option<usize> {
        let [queries, keys] = self.counts();
        floats(&[self.biases.len(), queries, padded_to(keys, MOST_LANES)?])
    }
}

/// Attention from one map of queries, one of keys and one of values.
pub(super) struct Attention {
    heads: Vec<ScaledHead>,
    /// Values from the first token of a head to each: queries, keys, values, results.
    tokens: [Vec<usize>; 4],
    depth: usize,
    width: usize,
    /// `[bias][query][key]`, keys padded to whole vectors.
    biases: Buffer,
    /// Pixels, channels and values of a pixel that the maps of queries, keys, values and results must have.
    least: [[usize; 3]; 4],
    height: usize,
    multiplier: Multiplier,
    key_panels: Vec<(usize, usize)>,
    value_panels: Vec<(usize, usize)>,
    softmax: Entry<SoftmaxArgs>,
    /// Keys and channels of a value, padded to whole vectors.
    padded: [usize; 2],
    lanes: usize,
    /// Queries that are worked on at a time.
    block: usize,
    parts: [usize; 6],
}

/// A [`Head`] with places counted in values.
struct ScaledHead {
    first: [usize; 4],
    scale: f32,
    /// Where its biases begin.
    biases: Vec<usize>,
}

impl Attention {
    /// The step for maps of queries, keys and values and for an output of these shapes; none where a place lies
    /// outside of them, where there are no tokens, or where it takes too much memory.
    pub(super) fn new(
        isa: InstructionSet,
        heads: &Heads,
        inputs: &[Shape],
        output: &Shape,
    ) -> Option<Attention> {
        let lanes = isa.lanes();
        let [query, key, value] = inputs else {
            return None;
        };
        let maps = [query, key, value, output];
        let [queries, keys] = heads.counts();
        let (depth, width) = (heads.depth, heads.width);
        let counts = heads.tokens.each_ref().map(Vec::len);
        if counts != [queries, keys, keys, queries] || [queries, keys, depth, width].contains(&0) {
            return None;
        }
        let mut least = [[0; 3]; 4];
        for (i, least) in least.iter_mut().enumerate() {
            let of_token = |what: usize| heads.tokens[i].iter().map(|token| token[what]).max();
            let of_head = |what: usize| heads.heads.iter().map(|head| head.first[i][what]).max();
            let most = |what: usize| of_token(what)?.checked_add(of_head(what)?);
            let channels = if i < 2 { depth } else { width };
            *least = [
                most(0)?.checked_add(1)?,
                most(1)?.checked_add(channels)?,
                maps[i].pixel,
            ];
            if !maps[i].holds(*least) {
                return None;
            }
        }
        let padded = [padded_to(keys, lanes)?, padded_to(width, lanes)?];
        heads.bias_len()?;
        let mut biases = Buffer::try_zeros(floats(&[heads.biases.len(), queries, padded[0]])?)?;
        for (i, bias) in heads.biases.iter().enumerate() {
            if bias.len() != queries * keys {
                return None;
            }
            for (query, bias) in bias.chunks_exact(keys).enumerate() {
                let start = (i * queries + query) * padded[0];
                biases.as_mut_slice()[start..start + keys].copy_from_slice(bias);
            }
        }
        let values = |i: usize, [pixel, channel]: Place| pixel * maps[i].pixel + channel;
        let scaled = heads.heads.iter().map(|head| {
            let known = head.biases.iter().all(|&bias| bias < heads.biases.len());
            known.then(|| ScaledHead {
                first: [0, 1, 2, 3].map(|i| values(i, head.first[i])),
                scale: head.scale,
                biases: head
                    .biases
                    .iter()
                    .map(|b| b * queries * padded[0])
                    .collect(),
            })
        });
        let most = (SCORES / padded[0]).clamp(LEAST_QUERIES, MOST_QUERIES);
        let block = queries.div_ceil(queries.div_ceil(most));
        let multiplier = Multiplier::new(isa);
        // Keys, values, queries, scores, results, and what the results are divided by.
        let parts = [
            floats(&[depth, padded[0]])?,
            floats(&[keys, padded[1]])?,
            floats(&[block, depth])?,
            floats(&[block, padded[0]])?,
            floats(&[block, padded[1]])?,
            block,
        ];
        let parts = parts.map(|part| part.next_multiple_of(MOST_LANES));
        let total = parts
            .iter()
            .try_fold(0_usize, |sum, &part| sum.checked_add(part))?;
        floats(&[total])?;
        Some(Attention {
            heads: scaled.collect::<Option<_>>()?,
            tokens: [0, 1, 2, 3].map(|i| heads.tokens[i].iter().map(|&t| values(i, t)).collect()),
            depth,
            width,
            biases,
            least,
            height: output.height,
            key_panels: multiplier.panels(padded[0]),
            value_panels: multiplier.panels(padded[1]),
            multiplier,
            softmax: isa.entry::<Softmax>(),
            padded,
            lanes,
            block,
            parts,
        })
    }
}

/// Rows that are no groups.
fn one_group<P>(data: P, stride: usize) -> Rows<P> {
    Rows {
        data,
        stride,
        group: 0,
    }
}

impl Step for Attention {
    fn kind(&self) -> &'static str {
        "attention"
    }

    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        rows.clone()
    }

    fn needs_all_rows(&self) -> bool {
        true
    }

    fn granule(&self) -> usize {
        self.height
    }

    fn multiply_adds(&self, _: &Shape) -> usize {
        let [queries, keys] = [self.tokens[0].len(), self.tokens[1].len()];
        self.heads.len() * queries * keys * (self.depth + self.width)
    }

    fn fits(&self, inputs: &[Shape], output: &Shape) -> bool {
        let [query, key, value] = inputs else {
            return false;
        };
        let maps = [query, key, value, output];
        output.height == self.height
            && maps
                .iter()
                .zip(self.least)
                .all(|(map, least)| map.element == Element::Float && map.holds(least))
    }

    fn scratch_len(&self) -> usize {
        self.parts.iter().sum()
    }

    fn weight_bytes(&self) -> usize {
        self.biases.len() * size_of::<f32>()
    }

    fn parts(&self) -> usize {
        self.heads.len()
    }

    unsafe fn run(&self, inputs: &[Map], output: Map, rows: Range<usize>, scratch: &mut Scratch) {
        assert!(rows == (0..self.height), "attention is computed at once");
        // SAFETY: the caller's.
        unsafe { self.run_parts(inputs, output, 0..self.heads.len(), scratch) };
    }

    unsafe fn run_parts(
        &self,
        inputs: &[Map],
        output: Map,
        parts: Range<usize>,
        scratch: &mut Scratch,
    ) {
        assert!(self.scratch_len() <= scratch.values.len());
        let mut place = scratch.values.as_mut_ptr();
        let [keys, values, queries, scores, results, inverse] = self.parts.map(|part| {
            let start = place;
            place = place.wrapping_add(part);
            start
        });
        let maps = [inputs[0], inputs[1], inputs[2], output].map(|map| map.row(0));
        let count = self.tokens[0].len();
        for head in &self.heads[parts] {
            let [from, key, value, to] = [0, 1, 2, 3].map(|i| maps[i].wrapping_add(head.first[i]));
            // SAFETY: `fits` held the farthest place of all heads and tokens against the maps; scratch has room for
            // all parts, as was just asked, each as large as `new` counted it for a block of queries.
            unsafe {
                self.pack_keys(key, keys);
                self.pack_values(value, values);
                for start in (0..count).step_by(self.block) {
                    let block = start..(start + self.block).min(count);
                    for (i, token) in self.tokens[0][block.clone()].iter().enumerate() {
                        for c in 0..self.depth {
                            *queries.add(i * self.depth + c) = *from.add(token + c) * head.scale;
                        }
                    }
                    self.multiplier.multiply(
                        &self.key_panels,
                        self.depth,
                        block.len(),
                        one_group(queries.cast_const(), self.depth),
                        keys,
                        one_group(scores, self.padded[0]),
                    );
                    (self.softmax)(&SoftmaxArgs {
                        scores,
                        rows: block.len(),
                        keys: self.tokens[1].len(),
                        stride: self.padded[0],
                        tables: self.biases.as_ptr().wrapping_add(start * self.padded[0]),
                        biases: head.biases.as_ptr(),
                        bias_count: head.biases.len(),
                        inverse,
                    });
                    self.multiplier.multiply(
                        &self.value_panels,
                        self.tokens[2].len(),
                        block.len(),
                        one_group(scores.cast_const(), self.padded[0]),
                        values,
                        one_group(results, self.padded[1]),
                    );
                    for (i, token) in self.tokens[3][block].iter().enumerate() {
                        let (result, factor) = (results.add(i * self.padded[1]), *inverse.add(i));
                        for c in 0..self.width {
                            *to.add(token + c) = *result.add(c) * factor;
                        }
                    }
                }
            }
        }
    }
}

impl Attention {
    /// Packs the keys as the right side `[depth][keys]` of a product.
    ///
    /// # Safety
    /// `from` must be where the first key of a head is, `to` valid for as many values as padded keys have.
    unsafe fn pack_keys(&self, from: *const f32, to: *mut f32) {
        for &(first, vectors) in &self.key_panels {
            let (first, width) = (first * self.lanes, vectors * self.lanes);
            // SAFETY: panels are of padded keys, each of `depth` channels, which the caller's places have.
            unsafe {
                let panel = to.add(self.depth * first);
                for column in 0..width {
                    match self.tokens[1].get(first + column) {
                        Some(token) => {
                            for c in 0..self.depth {
                                *panel.add(c * width + column) = *from.add(token + c);
                            }
                        }
                        None => {
                            for c in 0..self.depth {
                                *panel.add(c * width + column) = 0.0;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Packs the values as the right side `[keys][width]` of a product.
    ///
    /// # Safety
    /// As [`pack_keys`](Self::pack_keys), for values.
    unsafe fn pack_values(&self, from: *const f32, to: *mut f32) {
        let keys = self.tokens[2].len();
        for &(first, vectors) in &self.value_panels {
            let (first, width) = (first * self.lanes, vectors * self.lanes);
            let there = width.min(self.width.saturating_sub(first));
            // SAFETY: panels are of padded values, of which `there` channels are in the caller's places.
            unsafe {
                let panel = to.add(keys * first);
                for (i, token) in self.tokens[2].iter().enumerate() {
                    let row = panel.add(i * width);
                    from.add(token + first).copy_to_nonoverlapping(row, there);
                    std::slice::from_raw_parts_mut(row.add(there), width - there).fill(0.0);
                }
            }
        }
    }
}

struct SoftmaxArgs {
    /// `rows` of `stride` values, whole vectors.
    scores: *mut f32,
    rows: usize,
    keys: usize,
    stride: usize,
    /// Row 0 of the first bias; the others begin at `biases` from it.
    tables: *const f32,
    biases: *const usize,
    bias_count: usize,
    /// One value for each row.
    inverse: *mut f32,
}

/// Adds the biases and replaces each score by its exponential less the largest, and gives one over their sum.
struct Softmax;

impl Kernel for Softmax {
    type Args = SoftmaxArgs;

    #[inline(always)]
    unsafe fn run<S: Simd>(args: &Self::Args) {
        // SAFETY: the caller's rows are whole vectors, and as long are those of the biases.
        unsafe {
            for i in 0..args.rows {
                let row = args.scores.add(i * args.stride);
                for j in 0..args.bias_count {
                    let bias = args.tables.add(*args.biases.add(j) + i * args.stride);
                    for offset in (0..args.stride).step_by(S::LANES) {
                        let x = S::load(row.add(offset));
                        S::store(row.add(offset), S::add(x, S::load(bias.add(offset))));
                    }
                }
                for key in args.keys..args.stride {
                    *row.add(key) = f32::NEG_INFINITY;
                }
                let mut most = S::splat(f32::NEG_INFINITY);
                for offset in (0..args.stride).step_by(S::LANES) {
                    most = S::at_least(most, S::load(row.add(offset)));
                }
                let mut lanes = [f32::NEG_INFINITY; MOST_LANES];
                S::store(lanes.as_mut_ptr(), most);
                let most = S::splat(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max));
                let mut total = S::splat(0.0);
                for offset in (0..args.stride).step_by(S::LANES) {
                    let e = S::exp(S::sub(S::load(row.add(offset)), most));
                    S::store(row.add(offset), e);
                    total = S::add(total, e);
                }
                *args.inverse.add(i) = 1.0 / sum::<S>(total);
            }
        }
    }
}
