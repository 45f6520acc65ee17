//! The engine's own graph of feature maps, and how its operations are fused into steps.

use std::ops::Range;

use tract_onnx::tract_core::internal::*;

use super::activation::{Activation, Curve};
use super::convolution::{Convolution, Order, Weights};
use super::depthwise::Depthwise;
use super::fuse::{fuse, needed};
use super::geometry::{Window, floats, padded_to, product};
use super::integer::{
    Dequantize, IntegerConvolution, IntegerDepthwise, IntegerWeights, MaxBytes, QUAD, Quantize,
    Steps, SumBytes,
};
use super::map::{Element, Shape};
use super::pixelwise::{Affine, Binary, Concat, Import, Pair};
use super::plan::{PlacedStep, Plan, Value};
use super::pool::{Pool, Pooling};
use super::products::join_products;
use super::simd::{DotSet, InstructionSet, MOST_LANES};
use super::step::{Clamp, Step};
use super::winograd::Winograd;

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
    /// Convolution; weights `[output][input / groups][row][column]`. One group, or one for each channel.
    Convolution {
        rows: Window,
        columns: Window,
        weights: Vec<f32>,
        bias: Vec<f32>,
        depthwise: bool,
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
    fn element(&self) -> Element {
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
                depthwise,
                ..
            } => {
                let taps = product(&[rows.size, columns.size])?;
                let depth = if *depthwise { 1 } else { inputs };
                floats(&[
                    extents(rows, columns)?,
                    if *depthwise { MOST_LANES } else { padded },
                ])?;
                let weights = floats(&[taps, depth, outputs])?;
                let times = if taps == 9 && !depthwise { WINOGRAD } else { 2 };
                weights.checked_mul(times * size_of::<f32>())
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
            _ => Some(0),
        }
    }

    /// Whether it makes or takes bytes.
    pub(super) fn is_integer(&self) -> bool {
        self.element() == Element::Byte || matches!(self, Operation::Dequantize(_))
    }
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

    /// The map of which a node's output is every so manieth row and column, if it is that.
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

    /// What the values of a node's output are.
    pub(super) fn element(&self, id: NodeId) -> Element {
        self.nodes[id].operation.element()
    }

    /// Whether there is a convolution in it, or an operation that tract does not have.
    pub(super) fn is_worthwhile(&self) -> bool {
        self.nodes.iter().any(|n| {
            matches!(n.operation, Operation::Convolution { .. }) || n.operation.is_integer()
        })
    }

    /// Fuses what can be fused, and makes steps of the rest.
    ///
    /// # Errors
    /// If a map, a matrix or all maps together are too large.
    pub(super) fn into_plan(self, isa: InstructionSet, outputs: &[NodeId]) -> TractResult<Plan> {
        let mut outputs = outputs.to_vec();
        let nodes = needed(self.nodes, &mut outputs);
        let nodes = needed(join_products(nodes, &mut outputs), &mut outputs);
        let nodes = fuse(nodes, &mut outputs);
        place(isa, nodes, &outputs)
    }
}

/// Whether all that read node `id` are products of bytes, which take pixels of any length.
fn read_by_products(nodes: &[Node], id: NodeId) -> bool {
    let mut readers = nodes.iter().filter(|node| node.inputs.contains(&id));
    readers.all(|node| {
        matches!(
            node.operation,
            Operation::IntegerConvolution {
                depthwise: false,
                ..
            }
        )
    })
}

/// Makes a step of each node.
fn place(isa: InstructionSet, nodes: Vec<Node>, outputs: &[NodeId]) -> TractResult<Plan> {
    let lanes = isa.lanes();
    let mut inputs: Vec<Shape> = Vec::new();
    let mut steps: Vec<PlacedStep> = Vec::new();
    // Where the output of each node is, in the engine's layout; unset for inputs not imported yet.
    let mut values: Vec<Option<Value>> = vec![None; nodes.len()];
    let raw = |id: NodeId| match nodes[id].operation {
        Operation::Input {
            number, strides, ..
        } => Some((number, strides)),
        _ => None,
    };
    let shape_of = |node: &Node| {
        let shape = Shape::of(node.operation.element(), node.shape, lanes);
        shape.with_context(|| format!("the map of {} is too large", node.name))
    };
    let read = |input: NodeId,
                values: &mut Vec<Option<Value>>,
                steps: &mut Vec<PlacedStep>|
     -> TractResult<Value> {
        if let Some(value) = values[input] {
            return Ok(value);
        }
        let (number, strides) = raw(input).context("a map is read before it is made")?;
        steps.push(PlacedStep {
            name: nodes[input].name.clone(),
            step: Box::new(Import { strides }),
            activation: Activation::new(isa, None),
            inputs: vec![Value::Input(number)],
            shape: shape_of(&nodes[input])?,
        });
        let value = Value::Step(steps.len() - 1);
        values[input] = Some(value);
        Ok(value)
    };
    for (id, node) in nodes.iter().enumerate() {
        let mut shape = shape_of(node)?;
        if let Operation::Input {
            number, strides, ..
        } = node.operation
        {
            let [height, width, channels] = node.shape;
            let [row, column, channel] = strides;
            // Tensors from outside are not padded.
            let is_planar = strides == [width, 1, height * width];
            let outer = shape.with_pixel(if is_planar { 1 } else { channels });
            let outer = outer.context("a tensor is too large")?;
            inputs.resize(inputs.len().max(number + 1), outer);
            inputs[number] = outer;
            if row == width * column && channel == 1 && column == shape.pixel && channels == column
            {
                values[id] = Some(Value::Input(number));
            }
            continue;
        }
        let first = node.inputs[0];
        // A convolution can read a tensor from outside as it is.
        let direct = match (&node.operation, raw(first)) {
            (Operation::Convolution { depthwise, .. }, Some((number, strides)))
                if !depthwise && values[first].is_none() =>
            {
                let [height, width, channels] = nodes[first].shape;
                match strides {
                    s if s == [width, 1, height * width] => Some((number, Order::Planar)),
                    s if s == [width * channels, channels, 1] => {
                        Some((number, Order::ChannelsLast))
                    }
                    _ => None,
                }
            }
            // So can a rounding; a few channels then need not be padded to a whole vector.
            (Operation::Quantize(_), Some((number, _))) if values[first].is_none() => {
                if read_by_products(&nodes, id) && !outputs.contains(&id) {
                    let quads = shape.channels.next_multiple_of(QUAD);
                    shape = shape.with_pixel(quads).context("a map is too large")?;
                }
                Some((number, Order::Planar))
            }
            _ => None,
        };
        let mut from: Vec<Value> = Vec::new();
        for (i, &input) in node.inputs.iter().chain(&node.residual).enumerate() {
            from.push(match direct {
                Some((number, _)) if i == 0 => Value::Input(number),
                _ => read(input, &mut values, &mut steps)?,
            });
        }
        let step = make(isa, &nodes, node, direct, &from, &steps);
        let step = step.with_context(|| format!("{} takes too much memory", node.name))?;
        let own_curve = match &node.operation {
            Operation::Curve(curve) => Some(*curve),
            _ => node.curve,
        };
        steps.push(PlacedStep {
            name: node.name.clone(),
            step,
            activation: Activation::new(isa, own_curve),
            inputs: from,
            shape,
        });
        values[id] = Some(Value::Step(steps.len() - 1));
    }
    let outputs = outputs
        .iter()
        .map(|&id| read(id, &mut values, &mut steps))
        .collect::<TractResult<Vec<Value>>>()?;
    Plan::new(steps, inputs, outputs)
}

/// The step of `node`, which reads `from`: its first input as it comes from outside if `direct`. None if its weights,
/// or a copy of its input with the padding, are too large.
fn make(
    isa: InstructionSet,
    nodes: &[Node],
    node: &Node,
    direct: Option<(usize, Order)>,
    from: &[Value],
    steps: &[PlacedStep],
) -> Option<Box<dyn Step>> {
    let lanes = isa.lanes();
    let set = DotSet::best(isa);
    let first = *node.inputs.first()?;
    let clamp = node.clamp;
    Some(match &node.operation {
        Operation::Convolution {
            rows,
            columns,
            weights,
            bias,
            depthwise: true,
        } => {
            let taps = product(&[rows.size, columns.size])?;
            if product(&[bias.len(), taps])? != weights.len() {
                return None;
            }
            let weight = |channel, y, x| weights[(channel * rows.size + y) * columns.size + x];
            Box::new(Depthwise::new(isa, *rows, *columns, weight, bias, clamp)?)
        }
        Operation::Convolution {
            rows,
            columns,
            weights,
            bias,
            ..
        } => {
            let [_, _, outputs] = node.shape;
            let [_, _, inputs] = nodes[first].shape;
            let weights = Weights {
                values: weights,
                outputs,
                inputs,
                bias,
            };
            let mut step: Option<Box<dyn Step>> = None;
            if direct.is_none() && Winograd::suits(rows, columns, inputs, outputs) {
                let winograd = Winograd::new(isa, *rows, *columns, &weights, clamp);
                step = winograd.map(|winograd| -> Box<dyn Step> { Box::new(winograd) });
            }
            if let Some(winograd) = step {
                winograd
            } else {
                let mut input = Shape::new(nodes[first].shape, lanes)?;
                let order = direct.map_or(Order::ChannelsLast, |(_, order)| order);
                if direct.is_some() {
                    let planar = order == Order::Planar;
                    input = input.with_pixel(if planar { 1 } else { input.channels })?;
                }
                Box::new(Convolution::new(
                    isa, *rows, *columns, order, &input, &weights, clamp,
                )?)
            }
        }
        Operation::Affine { scale, shift } => Box::new(Affine::new(isa, scale, shift, clamp)),
        Operation::Clamp(own) => {
            let ones = vec![1.0; node.shape[2]];
            let low = own.low.max(clamp.low).min(clamp.high);
            let high = own.high.max(clamp.low).min(clamp.high);
            let zeros = vec![0.0; node.shape[2]];
            Box::new(Affine::new(isa, &ones, &zeros, Clamp { low, high }))
        }
        Operation::Curve(_) => {
            let channels = node.shape[2];
            Box::new(Affine::new(
                isa,
                &vec![1.0; channels],
                &vec![0.0; channels],
                Clamp::NONE,
            ))
        }
        Operation::Pool {
            rows,
            columns,
            pooling,
        } => Box::new(Pool::new(isa, *rows, *columns, *pooling, clamp)),
        Operation::PoolAll(pooling) => {
            let whole = Shape::new(nodes[first].shape, lanes)?;
            Box::new(Pool::whole(isa, &whole, *pooling, clamp)?)
        }
        Operation::Pair(pair) => Box::new(Binary::new(isa, *pair, clamp)),
        Operation::Quantize(steps) => {
            let strides = match nodes[first].operation {
                Operation::Input { strides, .. } if direct.is_some() => Some(strides),
                _ => None,
            };
            Box::new(Quantize::new(isa, *steps, strides))
        }
        Operation::Dequantize(steps) => Box::new(Dequantize::new(isa, *steps)),
        Operation::IntegerConvolution {
            rows,
            columns,
            weights,
            depthwise: true,
        } => Box::new(IntegerDepthwise::new(isa, set, *rows, *columns, weights)?),
        Operation::IntegerConvolution {
            rows,
            columns,
            weights,
            ..
        } => {
            let mut input = Shape::of(Element::Byte, nodes[first].shape, lanes)?;
            if let Some(Value::Step(i)) = from.first() {
                input = steps[*i].shape;
            }
            Box::new(IntegerConvolution::new(
                isa, set, *rows, *columns, &input, weights,
            )?)
        }
        Operation::SumBytes(steps) => Box::new(SumBytes::new(isa, *steps)),
        Operation::MaxBytes { rows, columns } => Box::new(MaxBytes::new(isa, *rows, *columns)),
        Operation::Concat | Operation::Input { .. } => Box::new(Concat),
    })
}
