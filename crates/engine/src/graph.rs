//! The engine's own graph of feature maps.

use std::ops::Range;

use super::activation::Curve;
use super::attention::Heads;
use super::copy::Moves;
use super::geometry::{Window, floats, padded_to, product};
use super::integer::{IntegerWeights, QUAD, Steps};
use super::map::{Element, Shape};
use super::pixelwise::Pair;
use super::pool::Pooling;
use super::simd::MOST_LANES;
use super::step::Clamp;

/// Number of a node in a [`Graph`].
pub(super) type NodeId = usize;

/// What a node does to its inputs, which are maps.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// Input of the graph by number; values from one row, column and channel to the next.
    Input {
        number: usize,
        strides: [usize; 3],
        element: Element,
    },
    /// Convolution; weights `[output][input / groups][row][column]`.
    Convolution {
        rows: Window,
        columns: Window,
        weights: Vec<f32>,
        bias: Vec<f32>,
        groups: usize,
    },
    /// `x · scale + shift`, by channel.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    Clamp(Clamp),
    Curve(Curve),
    Pool {
        rows: Window,
        columns: Window,
        pooling: Pooling,
    },
    /// Pooling of all pixels to one.
    PoolAll(Pooling),
    Pair(Pair),
    Concat,
    /// A map put together from parts of its inputs.
    Copy(Vec<Moves>),
    /// Values that do not depend on an input, `[row][column][channel]`.
    Constant(Vec<f32>),
    /// Layer normalisation over the channels of each pixel, scaled and shifted by channel; that by the root mean square
    /// if it is not centred.
    Normalize {
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
        is_centred: bool,
    },
    /// Attention from maps of queries, keys and values.
    Attention(Heads),
    /// Floats to bytes.
    Quantize(Steps),
    /// Bytes to floats.
    Dequantize(Steps),
    /// Convolution of bytes. One group, or one for each channel.
    IntegerConvolution {
        rows: Window,
        columns: Window,
        weights: IntegerWeights,
        depthwise: bool,
    },
    /// Sum of two maps of bytes; their steps and the sum's.
    SumBytes([Steps; 3]),
    /// The largest byte of each window.
    MaxBytes {
        rows: Window,
        columns: Window,
    },
}

impl Operation {
    /// What the values of its output are.
    pub(super) fn element(&self) -> Element {
        match self {
            Operation::Input { element, .. } => *element,
            Operation::Quantize(_)
            | Operation::IntegerConvolution { .. }
            | Operation::SumBytes(_)
            | Operation::MaxBytes { .. } => Element::Byte,
            _ => Element::Float,
        }
    }

    /// Bytes that its weights take at most when they are packed, for an output of `outputs` channels; none if a step
    /// could not be made: if weights, or a copy of the input with its padding, are too large.
    fn packed_bytes(&self, inputs: usize, outputs: usize) -> Option<usize> {
        /// By Winograd's algorithm, 9 weights become 36 sums; these are made before they are packed.
        const WINOGRAD: usize = 2 * 36 / 9;
        let outputs = padded_to(outputs, MOST_LANES)?;
        let padded = padded_to(inputs, MOST_LANES)?;
        let extents = |rows: &Window, columns: &Window| product(&[rows.extent(), columns.extent()]);
        match self {
            Operation::Convolution {
                rows,
                columns,
                weights,
                bias,
                groups,
            } => {
                let taps = product(&[rows.size, columns.size])?;
                let depthwise = is_depthwise(*groups, inputs, bias.len());
                floats(&[
                    extents(rows, columns)?,
                    if depthwise { MOST_LANES } else { padded },
                ])?;
                // Groups of few channels are packed several at a time, as far as whole vectors ask for it.
                let depth = match *groups {
                    1 => inputs,
                    _ if depthwise => 1,
                    groups => product(&[inputs / groups, MOST_LANES])?.min(inputs),
                };
                let packed = floats(&[taps, depth, outputs])?;
                let times = if taps == 9 && *groups == 1 {
                    WINOGRAD
                } else {
                    2
                };
                let counted = product(&[taps, inputs / groups.max(&1), bias.len()])?;
                if counted != weights.len() {
                    return None;
                }
                packed.checked_mul(times * size_of::<f32>())
            }
            Operation::IntegerConvolution {
                rows,
                columns,
                depthwise,
                ..
            } => {
                let taps = product(&[rows.size, padded_to(columns.size, QUAD)?])?;
                let depth = if *depthwise {
                    1
                } else {
                    padded_to(inputs, QUAD)?
                };
                product(&[extents(rows, columns)?, padded])?;
                if *depthwise {
                    let row = columns
                        .extent()
                        .checked_add(padded_to(columns.size, QUAD)?)?;
                    floats(&[rows.size, row, MOST_LANES])?;
                }
                product(&[taps, depth, outputs]).map(|bytes| 2 * bytes)
            }
            Operation::Copy(moves) => {
                let places = moves.iter().map(|moves| moves.places.len()).sum();
                product(&[places, 2 * size_of::<[usize; 4]>()])
            }
            Operation::Constant(values) => product(&[values.len(), size_of::<f32>()]),
            Operation::Attention(heads) => {
                let [queries, keys] = heads.counts();
                let keys = padded_to(keys, MOST_LANES)?;
                let width = padded_to(heads.width, MOST_LANES)?;
                for part in [
                    [heads.depth, keys],
                    [keys, width],
                    [queries, heads.depth],
                    [queries, width],
                ] {
                    floats(&part)?;
                }
                product(&[heads.bias_len()?, 2, size_of::<f32>()])
            }
            _ => Some(0),
        }
    }

    /// Whether it makes or takes bytes.
    pub(super) fn is_integer(&self) -> bool {
        self.element() == Element::Byte || matches!(self, Operation::Dequantize(_))
    }
}

/// Whether a convolution of so many groups, inputs and outputs has a window of its own for each channel.
pub(super) fn is_depthwise(groups: usize, inputs: usize, outputs: usize) -> bool {
    groups > 1 && groups == inputs && inputs == outputs
}

/// An operation and what follows it in the same step.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) inputs: Vec<NodeId>,
    /// A map that is added before the clamp.
    pub(super) residual: Option<NodeId>,
    pub(super) clamp: Clamp,
    pub(super) curve: Option<Curve>,
    /// Height, width, channels.
    pub(super) shape: [usize; 3],
}

/// Operations on feature maps in an order in which they can be computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Adds a node whose output has `shape` (height, width, channels); none if that, or what it takes to compute it, is
    /// too large.
    pub(super) fn add(
        &mut self,
        name: &str,
        operation: Operation,
        inputs: &[NodeId],
        shape: [usize; 3],
    ) -> Option<NodeId> {
        Shape::of(operation.element(), shape, MOST_LANES)?;
        let channels = inputs.first().map_or(0, |&input| self.shape(input)[2]);
        operation.packed_bytes(channels, shape[2])?;
        self.nodes.push(Node {
            name: name.to_owned(),
            operation,
            inputs: inputs.to_vec(),
            residual: None,
            clamp: Clamp::NONE,
            curve: None,
            shape,
        });
        Some(self.nodes.len() - 1)
    }

    /// Bytes that the packed weights of all nodes take at most.
    pub(super) fn packed_bytes(&self) -> usize {
        let each = self.nodes.iter().map(|node| {
            let channels = node.inputs.first().map_or(0, |&input| self.shape(input)[2]);
            let bytes = node.operation.packed_bytes(channels, node.shape[2]);
            bytes.unwrap_or(usize::MAX)
        });
        each.fold(0, usize::saturating_add)
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Takes back all nodes but the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.nodes.truncate(len);
    }

    /// Height, width and channels of a node's output.
    pub(super) fn shape(&self, id: NodeId) -> [usize; 3] {
        self.nodes[id].shape
    }

    /// The map of which a node's output is every n-th row and column, if it is that; the windows say which.
    pub(super) fn subsampled(&self, id: NodeId) -> Option<(NodeId, Window, Window)> {
        let node = &self.nodes[id];
        let single = |window: &Window| window.size == 1 && !window.reaches_outside();
        match node.operation {
            Operation::Pool { rows, columns, .. } if single(&rows) && single(&columns) => {
                Some((node.inputs[0], rows, columns))
            }
            _ => None,
        }
    }

    /// The map that is the channels `part` of a node's output, if that is put together of maps.
    pub(super) fn part(&self, id: NodeId, part: Range<usize>) -> Option<NodeId> {
        let node = &self.nodes[id];
        if !matches!(node.operation, Operation::Concat) {
            return None;
        }
        let mut start = 0;
        node.inputs.iter().copied().find(|&input| {
            let first = start;
            start += self.nodes[input].shape[2];
            (first..start) == part
        })
    }

    /// The factor in `x · sigmoid(factor · x)`, if that is the product of these two nodes.
    pub(super) fn quick_gelu(&self, nodes: [NodeId; 2]) -> Option<f32> {
        let [x, gate] = nodes;
        let node = &self.nodes[gate];
        let scaled = match node.operation {
            Operation::Curve(Curve::Sigmoid) => &self.nodes[node.inputs[0]],
            _ => return None,
        };
        match &scaled.operation {
            Operation::Affine { scale, shift } if scaled.inputs[0] == x => {
                let alike = scale.iter().all(|s| s == &scale[0]) && shift.iter().all(|&s| s == 0.0);
                alike.then_some(scale[0])
            }
            _ => None,
        }
    }

    /// What the values of a node's output are.
    pub(super) fn element(&self, id: NodeId) -> Element {
        self.nodes[id].operation.element()
    }

    /// Whether there is a convolution in it, or an operation that tract does not have.
    pub(super) fn is_worthwhile(&self) -> bool {
        self.nodes.iter().any(|n| {
            matches!(
                n.operation,
                Operation::Convolution { .. } | Operation::Attention(_)
            ) || n.operation.is_integer()
        })
    }

    /// The nodes, each behind those that it reads.
    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }
}

/// The nodes on which `outputs` depend, and all inputs. `outputs` are renumbered.
pub(super) fn needed(nodes: Vec<Node>, outputs: &mut [NodeId]) -> Vec<Node> {
    let mut read = vec![false; nodes.len()];
    for &id in outputs.iter() {
        read[id] = true;
    }
    for (id, node) in nodes.iter().enumerate().rev() {
        read[id] |= matches!(node.operation, Operation::Input { .. });
        if read[id] {
            for &input in &node.inputs {
                read[input] = true;
            }
        }
    }
    let mut places = Vec::with_capacity(nodes.len());
    let mut kept: Vec<Node> = Vec::new();
    for (mut node, read) in nodes.into_iter().zip(read) {
        places.push(kept.len());
        if read {
            for input in &mut node.inputs {
                *input = places[*input];
            }
            kept.push(node);
        }
    }
    for output in outputs.iter_mut() {
        *output = places[*output];
    }
    kept
}

/// How often each node's output is read, by nodes and as one of `outputs`.
pub(super) fn readers(nodes: &[Node], outputs: &[NodeId]) -> Vec<usize> {
    let mut readers = vec![0usize; nodes.len()];
    let read = nodes.iter().flat_map(|n| &n.inputs).chain(outputs);
    for &id in read {
        readers[id] += 1;
    }
    readers
}
