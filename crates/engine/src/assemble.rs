//! From a graph of maps to a plan: operations are fused, and each of what is left becomes a step.

use tract_onnx::tract_core::internal::*;

use super::activation::Activation;
use super::attention::Attention;
use super::convolution::{Convolution, Order, Weights};
use super::copy::{Constant, Copy};
use super::depthwise::Depthwise;
use super::fuse::fuse;
use super::geometry::{Window, product};
use super::graph::{Graph, Node, NodeId, Operation, is_depthwise, needed};
use super::integer::{
    Dequantize, IntegerConvolution, IntegerDepthwise, IntegerWeights, MaxBytes, QUAD, Quantize,
    SumBytes,
};
use super::map::{Element, Shape};
use super::normalize::Normalize;
use super::pixelwise::{Affine, Binary, Concat, Import};
use super::plan::{PlacedStep, Plan, Value};
use super::pool::Pool;
use super::products::join_products;
use super::simd::{DotSet, InstructionSet};
use super::step::{Clamp, Step};
use super::winograd::Winograd;

/// Fuses what can be fused in `graph`, and makes steps of the rest.
///
/// # Errors
/// If a map, a matrix or all maps together are too large.
pub(super) fn assemble(graph: Graph, isa: InstructionSet, outputs: &[NodeId]) -> TractResult<Plan> {
    let mut outputs = outputs.to_vec();
    let nodes = needed(graph.into_nodes(), &mut outputs);
    let nodes = needed(join_products(nodes, &mut outputs), &mut outputs);
    let nodes = fuse(nodes, &mut outputs);
    let mut assembly = Assembly {
        isa,
        nodes: &nodes,
        outputs: &outputs,
        inputs: Vec::new(),
        steps: Vec::new(),
        values: vec![None; nodes.len()],
    };
    for (id, node) in nodes.iter().enumerate() {
        match node.operation {
            Operation::Input {
                number, strides, ..
            } => assembly.add_input(id, number, strides)?,
            _ => assembly.add_step(id)?,
        }
    }
    let results = outputs.iter().map(|&id| assembly.read(id));
    let results = results.collect::<TractResult<Vec<Value>>>()?;
    Plan::new(assembly.steps, assembly.inputs, results)
}

/// The steps that are there so far.
struct Assembly<'a> {
    isa: InstructionSet,
    nodes: &'a [Node],
    outputs: &'a [NodeId],
    /// Shapes of the tensors from outside, by number.
    inputs: Vec<Shape>,
    steps: Vec<PlacedStep>,
    /// Where the output of each node is, in the engine's layout; unset for inputs not imported yet.
    values: Vec<Option<Value>>,
}

impl Assembly<'_> {
    fn shape_of(&self, node: &Node) -> TractResult<Shape> {
        let shape = Shape::of(node.operation.element(), node.shape, self.isa.lanes());
        shape.with_context(|| format!("the map of {} is too large", node.name))
    }

    /// Number and strides of the tensor from outside that node `id` is, if it is one that nobody has imported.
    fn outside(&self, id: NodeId) -> Option<(usize, [usize; 3])> {
        match self.nodes[id].operation {
            Operation::Input {
                number, strides, ..
            } if self.values[id].is_none() => Some((number, strides)),
            _ => None,
        }
    }

    /// Takes the tensor `number` from outside, as it is if it lies as maps do.
    fn add_input(&mut self, id: NodeId, number: usize, strides: [usize; 3]) -> TractResult<()> {
        let node = &self.nodes[id];
        let shape = self.shape_of(node)?;
        let [_, width, channels] = node.shape;
        let [row, column, channel] = strides;
        // Tensors from outside are not padded.
        let outer = shape.with_pixel(if is_planar(node, strides) {
            1
        } else {
            channels
        });
        let outer = outer.context("a tensor is too large")?;
        self.inputs.resize(self.inputs.len().max(number + 1), outer);
        self.inputs[number] = outer;
        if row == width * column && channel == 1 && column == shape.pixel && channels == column {
            self.values[id] = Some(Value::Input(number));
        }
        Ok(())
    }

    /// The output of node `id` in the engine's layout; a tensor from outside is imported at first.
    fn read(&mut self, id: NodeId) -> TractResult<Value> {
        if let Some(value) = self.values[id] {
            return Ok(value);
        }
        let (number, strides) = self
            .outside(id)
            .context("a map is read before it is made")?;
        let node = &self.nodes[id];
        self.steps.push(PlacedStep {
            name: node.name.clone(),
            step: Box::new(Import { strides }),
            activation: Activation::new(self.isa, None),
            inputs: vec![Value::Input(number)],
            shape: self.shape_of(node)?,
        });
        let value = Value::Step(self.steps.len() - 1);
        self.values[id] = Some(value);
        Ok(value)
    }

    fn shapes(&self, values: &[Value]) -> Vec<Shape> {
        let shape = |value: &Value| match *value {
            Value::Input(i) => self.inputs[i],
            Value::Step(i) => self.steps[i].shape,
        };
        values.iter().map(shape).collect()
    }

    /// The tensor from outside that `node` reads as it is, and how that lies.
    fn direct(&self, node: &Node) -> Option<(usize, Order)> {
        let first = *node.inputs.first()?;
        let (number, strides) = self.outside(first)?;
        match &node.operation {
            Operation::Convolution { groups: 1, .. } => {
                let [_, width, channels] = self.nodes[first].shape;
                match strides {
                    s if is_planar(&self.nodes[first], s) => Some((number, Order::Planar)),
                    s if s == [width * channels, channels, 1] => {
                        Some((number, Order::ChannelsLast))
                    }
                    _ => None,
                }
            }
            Operation::Quantize(_) => Some((number, Order::Planar)),
            _ => None,
        }
    }

    /// Makes the step of node `id`, and imports what it cannot read as it is.
    fn add_step(&mut self, id: NodeId) -> TractResult<()> {
        let node = &self.nodes[id];
        let direct = self.direct(node);
        let mut shape = self.shape_of(node)?;
        // A few channels that products alone read need not be padded to a whole vector.
        if direct.is_some()
            && matches!(node.operation, Operation::Quantize(_))
            && read_by_products(self.nodes, id)
            && !self.outputs.contains(&id)
        {
            let quads = shape.channels.next_multiple_of(QUAD);
            shape = shape.with_pixel(quads).context("a map is too large")?;
        }
        let mut from: Vec<Value> = Vec::new();
        for (i, &input) in node.inputs.iter().chain(&node.residual).enumerate() {
            from.push(match direct {
                Some((number, _)) if i == 0 => Value::Input(number),
                _ => self.read(input)?,
            });
        }
        let order = direct.map(|(_, order)| order);
        let step = self.step(node, order, &from);
        let step = step.with_context(|| format!("{} takes too much memory", node.name))?;
        let own_curve = match &node.operation {
            Operation::Curve(curve) => Some(*curve),
            _ => node.curve,
        };
        self.steps.push(PlacedStep {
            name: node.name.clone(),
            step,
            activation: Activation::new(self.isa, own_curve),
            inputs: from,
            shape,
        });
        self.values[id] = Some(Value::Step(self.steps.len() - 1));
        Ok(())
    }

    /// The step of `node`, which reads `from`: its first input as it comes from outside, in the order `direct`, if
    /// there is one. None if its weights, or a copy of its input with the padding, are too large.
    fn step(&self, node: &Node, direct: Option<Order>, from: &[Value]) -> Option<Box<dyn Step>> {
        let isa = self.isa;
        if let Operation::Constant(values) = &node.operation {
            return Some(Box::new(Constant::new(values)));
        }
        let first = &self.nodes[*node.inputs.first()?];
        let clamp = node.clamp;
        Some(match &node.operation {
            Operation::Convolution {
                rows,
                columns,
                weights,
                bias,
                groups,
            } => {
                let inputs = first.shape[2];
                if is_depthwise(*groups, inputs, bias.len()) {
                    let taps = product(&[rows.size, columns.size])?;
                    if product(&[bias.len(), taps])? != weights.len() {
                        return None;
                    }
                    let weight =
                        |channel, y, x| weights[(channel * rows.size + y) * columns.size + x];
                    let step = Depthwise::new(isa, *rows, *columns, weight, bias, clamp)?;
                    return Some(Box::new(step));
                }
                let weights = Weights {
                    values: weights,
                    outputs: node.shape[2],
                    inputs,
                    groups: *groups,
                    bias,
                };
                return self.convolution([*rows, *columns], &weights, clamp, first, direct);
            }
            Operation::Affine { scale, shift } => Box::new(Affine::new(isa, scale, shift, clamp)),
            Operation::Clamp(own) => {
                let low = own.low.max(clamp.low).min(clamp.high);
                let high = own.high.max(clamp.low).min(clamp.high);
                Box::new(unchanged(isa, node.shape[2], Clamp { low, high }))
            }
            Operation::Curve(_) => Box::new(unchanged(isa, node.shape[2], Clamp::NONE)),
            Operation::Pool {
                rows,
                columns,
                pooling,
            } => Box::new(Pool::new(isa, *rows, *columns, *pooling, clamp)),
            Operation::PoolAll(pooling) => {
                let whole = Shape::new(first.shape, isa.lanes())?;
                Box::new(Pool::whole(isa, &whole, *pooling, clamp)?)
            }
            Operation::Pair(pair) => Box::new(Binary::new(isa, *pair, clamp)),
            Operation::Quantize(steps) => {
                let strides = match first.operation {
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
            } => {
                let set = DotSet::best(isa);
                Box::new(IntegerDepthwise::new(isa, set, *rows, *columns, weights)?)
            }
            Operation::IntegerConvolution {
                rows,
                columns,
                weights,
                ..
            } => return self.integer_convolution([*rows, *columns], weights, first, from),
            Operation::SumBytes(steps) => Box::new(SumBytes::new(isa, *steps)),
            Operation::MaxBytes { rows, columns } => Box::new(MaxBytes::new(isa, *rows, *columns)),
            Operation::Copy(moves) => {
                let output = self.shape_of(node).ok()?;
                Box::new(Copy::new(moves, &self.shapes(from), &output)?)
            }
            Operation::Normalize {
                scale,
                shift,
                epsilon,
                is_centred,
            } => Box::new(Normalize::new(isa, scale, shift, *epsilon, *is_centred)),
            Operation::Attention(heads) => {
                let output = self.shape_of(node).ok()?;
                Box::new(Attention::new(isa, heads, &self.shapes(from), &output)?)
            }
            Operation::Constant(_) => return None,
            Operation::Concat | Operation::Input { .. } => Box::new(Concat),
        })
    }

    /// A dense convolution over the output of `first`: by Winograd's algorithm where that suits.
    fn convolution(
        &self,
        [rows, columns]: [Window; 2],
        weights: &Weights,
        clamp: Clamp,
        first: &Node,
        direct: Option<Order>,
    ) -> Option<Box<dyn Step>> {
        let isa = self.isa;
        if direct.is_none()
            && weights.groups == 1
            && Winograd::suits(&rows, &columns, weights.inputs, weights.outputs)
            && let Some(winograd) = Winograd::new(isa, rows, columns, weights, clamp)
        {
            return Some(Box::new(winograd));
        }
        let mut input = Shape::new(first.shape, isa.lanes())?;
        if let Some(order) = direct {
            let planar = order == Order::Planar;
            input = input.with_pixel(if planar { 1 } else { input.channels })?;
        }
        let order = direct.unwrap_or(Order::ChannelsLast);
        let step = Convolution::new(isa, rows, columns, order, &input, weights, clamp)?;
        Some(Box::new(step))
    }

    /// A dense convolution of bytes over the output of `first`, which may be padded to less than a whole vector.
    fn integer_convolution(
        &self,
        [rows, columns]: [Window; 2],
        weights: &IntegerWeights,
        first: &Node,
        from: &[Value],
    ) -> Option<Box<dyn Step>> {
        let isa = self.isa;
        let mut input = Shape::of(Element::Byte, first.shape, isa.lanes())?;
        if let Some(Value::Step(i)) = from.first() {
            input = self.steps[*i].shape;
        }
        let set = DotSet::best(isa);
        let step = IntegerConvolution::new(isa, set, rows, columns, &input, weights)?;
        Some(Box::new(step))
    }
}

/// A step that bounds values and changes no others.
fn unchanged(isa: InstructionSet, channels: usize, clamp: Clamp) -> Affine {
    Affine::new(isa, &vec![1.0; channels], &vec![0.0; channels], clamp)
}

/// Whether a tensor with these strides has its channels first.
fn is_planar(node: &Node, strides: [usize; 3]) -> bool {
    let [height, width, _] = node.shape;
    strides == [width, 1, height * width]
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
