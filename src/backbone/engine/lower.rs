//! From tract's decluttered operators to the engine's graph.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{
    Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool,
};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{HardSwish, LeakyRelu, Reduce, Reducer, Sigmoid};

use super::activation::Curve;
use super::graph::{Graph, NodeId, Operation};
use super::map::{Element, Window};
use super::operator::{IntegerOp, Kind};
use super::pixelwise::Pair;
use super::pool::Pooling;
use super::step::Clamp;

/// What an axis of a tensor is in the feature map that the tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// One long, without meaning: the batch of one.
    Unit,
    Height,
    Width,
    Channel,
}

/// The axes of a tensor in order; height or width may be missing where it is one.
pub(super) type Axes = Vec<Axis>;

/// A tensor that is a map of the engine's graph.
#[derive(Clone, Debug)]
pub(super) struct Lowered {
    pub node: NodeId,
    pub axes: Axes,
}

/// Nodes of a tract model that were taken over into a [`Graph`].
pub(super) struct Lowering<'a> {
    model: &'a TypedModel,
    pub graph: Graph,
    pub known: HashMap<OutletId, Lowered>,
    /// Tensors that come from outside, by the graph's input number.
    pub inputs: Vec<OutletId>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(model: &'a TypedModel) -> Lowering<'a> {
        Lowering {
            model,
            graph: Graph::default(),
            known: HashMap::new(),
            inputs: Vec::new(),
        }
    }

    /// Takes `node` over if the engine can compute it; whether it did.
    pub(super) fn take(&mut self, node: &TypedNode) -> bool {
        let float = |outlet: &OutletId| {
            self.model
                .outlet_fact(*outlet)
                .is_ok_and(|f| f.datum_type == f32::datum_type() && f.shape.is_concrete())
        };
        let integer = node.op_as::<IntegerOp>();
        if node.outputs.len() != 1
            || integer.is_none()
                && !(node.inputs.iter().all(float) && float(&OutletId::new(node.id, 0)))
        {
            return false;
        }
        let (inputs, nodes) = (self.inputs.len(), self.graph.len());
        let lowered = if let Some(op) = integer {
            self.integer(node, &op.kind)
        } else if let Some(op) = node.op_as::<Conv>() {
            self.convolution(node, op)
        } else if let Some(op) = node.op_as::<EinSum>() {
            self.product(node, op)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            let plain = op.with_index_outputs.is_none();
            plain
                .then(|| self.pool(node, &op.pool_spec, Pooling::Max))
                .flatten()
        } else if let Some(op) = node.op_as::<SumPool>() {
            sum_pooling(op).and_then(|pooling| self.pool(node, &op.pool_spec, pooling))
        } else if let Some(op) = node.op_as::<Reduce>() {
            self.reduction(node, op)
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            self.binary(node, op)
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            self.curve(node, op)
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            self.concat(node, op)
        } else if let Some(op) = node.op_as::<Slice>() {
            self.part(node, op)
        } else if let Some(op) = node.op_as::<Downsample>() {
            self.downsampling(node, op)
        } else if let Some(op) = node.op_as::<AxisOp>() {
            self.axes(node, op)
        } else {
            None
        };
        let Some(lowered) = lowered else {
            // Inputs that were taken in for it alone.
            for outlet in self.inputs.drain(inputs..) {
                self.known.remove(&outlet);
            }
            self.graph.truncate(nodes);
            return false;
        };
        self.known.insert(node.id.into(), lowered);
        true
    }

    fn shape(&self, outlet: OutletId) -> Option<Vec<usize>> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        Some(fact.shape.as_concrete()?.to_vec())
    }

    /// The values of a constant float tensor, row-major.
    fn constant(&self, outlet: OutletId) -> Option<(Vec<usize>, &'a [f32])> {
        let tensor = self.model.outlet_fact(outlet).ok()?.konst.as_ref()?;
        let values = tensor.as_plain_ram()?.as_slice::<f32>().ok()?;
        Some((tensor.shape().to_vec(), values))
    }

    /// The map of `outlet` with the given axes; a tensor from outside becomes an input of the graph.
    fn read(&mut self, outlet: OutletId, axes: &Axes) -> Option<NodeId> {
        let shape = self.shape(outlet)?;
        let extent = |axis| {
            let place = axes.iter().position(|&a| a == axis);
            place.map_or(1, |i| shape[i])
        };
        let map = [
            extent(Axis::Height),
            extent(Axis::Width),
            extent(Axis::Channel),
        ];
        let sound = shape.len() == axes.len()
            && axes.contains(&Axis::Channel)
            && map.iter().product::<usize>() == shape.iter().product::<usize>()
            && map.iter().all(|&n| n > 0);
        if !sound {
            return None;
        }
        if let Some(known) = self.known.get(&outlet) {
            // Axes of one are alike.
            let agrees = known
                .axes
                .iter()
                .zip(axes)
                .zip(&shape)
                .all(|((a, b), &n)| a == b || n == 1);
            return (agrees && self.graph.shape(known.node) == map).then_some(known.node);
        }
        let fact = self.model.outlet_fact(outlet).ok()?;
        let element = match fact.datum_type {
            DatumType::F32 => Element::Float,
            DatumType::U8 => Element::Byte,
            _ => return None,
        };
        if fact.konst.is_some() {
            return None;
        }
        let stride = |axis| {
            let place = axes.iter().position(|&a| a == axis);
            place.map(|i| shape[i + 1..].iter().product::<usize>())
        };
        let channel = stride(Axis::Channel)?;
        let column = stride(Axis::Width).unwrap_or(if channel == 1 { map[2] } else { 1 });
        let row = stride(Axis::Height).unwrap_or(column * map[1]);
        let number = self.inputs.len();
        self.inputs.push(outlet);
        let name = &self.model.node(outlet.node).name;
        let operation = Operation::Input {
            number,
            strides: [row, column, channel],
            element,
        };
        let node = self.graph.add(name, operation, &[], map);
        let axes = axes.clone();
        self.known.insert(outlet, Lowered { node, axes });
        Some(node)
    }

    /// The map of a tensor that was taken over before.
    fn known(&self, outlet: OutletId) -> Option<Lowered> {
        self.known.get(&outlet).cloned()
    }

    /// Axes of a tensor in the format of a convolution or pooling over two dimensions.
    fn spatial_axes(spec: &PoolSpec) -> Option<Axes> {
        if spec.rank() != 2 {
            return None;
        }
        let mut axes = vec![Axis::Height, Axis::Width];
        if spec.data_format.c_is_last() {
            axes.push(Axis::Channel);
        } else {
            axes.insert(0, Axis::Channel);
        }
        if spec.data_format.has_n() {
            axes.insert(0, Axis::Unit);
        }
        Some(axes)
    }

    fn windows(spec: &PoolSpec, shape: [usize; 3]) -> Option<[Window; 2]> {
        let padding = spec.computed_padding(&shape[..2]);
        let window = |i: usize| Window {
            size: spec.kernel_shape[i],
            stride: spec.stride(i),
            dilation: spec.dilation(i),
            before: padding[i].pad_before,
            input: shape[i],
            output: padding[i].convoluted,
        };
        let windows = [window(0), window(1)];
        let sound = |w: &Window| w.size > 0 && w.stride > 0 && w.dilation > 0 && w.output > 0;
        windows.iter().all(sound).then_some(windows)
    }

    fn convolution(&mut self, node: &TypedNode, op: &Conv) -> Option<Lowered> {
        let spec = &op.pool_spec;
        let axes = Self::spatial_axes(spec)?;
        let (inputs, outputs) = (op.input_channels(), op.output_channels());
        let depthwise = op.group > 1 && op.group == inputs && inputs == outputs;
        if op.q_params.is_some() || (op.group != 1 && !depthwise) {
            return None;
        }
        let (kernel_shape, kernel) = self.constant(node.inputs[1])?;
        let (_, bias) = self.constant(*node.inputs.get(2)?)?;
        let bias = broadcast(bias, outputs)?;
        if kernel_shape.len() != 4 || kernel.len() != kernel_shape.iter().product::<usize>() {
            return None;
        }
        // Strides of output channel, input channel, row and column.
        let order: [usize; 4] = match op.kernel_fmt {
            KernelFormat::OIHW => [0, 1, 2, 3],
            KernelFormat::HWIO => [3, 2, 0, 1],
            KernelFormat::OHWI => [0, 3, 1, 2],
        };
        let stride = |axis: usize| kernel_shape[axis + 1..].iter().product::<usize>();
        let [o, i, h, w] = order.map(|axis| kernel_shape[axis]);
        let depth = if depthwise { 1 } else { inputs };
        // In the formats with channels last, a depthwise kernel may have its channels on either axis.
        if [o, i] != [outputs, depth] || [h, w] != spec.kernel_shape[..] {
            return None;
        }
        let [so, si, sh, sw] = order.map(stride);
        let mut weights = Vec::with_capacity(kernel.len());
        for output in 0..o {
            for input in 0..i {
                for y in 0..h {
                    for x in 0..w {
                        weights.push(kernel[output * so + input * si + y * sh + x * sw]);
                    }
                }
            }
        }
        let from = self.read(node.inputs[0], &axes)?;
        let [rows, columns] = Self::windows(spec, self.graph.shape(from))?;
        let operation = Operation::Convolution {
            rows,
            columns,
            weights,
            bias,
            depthwise,
        };
        let shape = [rows.output, columns.output, outputs];
        let node = self.graph.add(&node.name, operation, &[from], shape);
        Some(Lowered { node, axes })
    }

    /// An operator on bytes.
    fn integer(&mut self, node: &TypedNode, kind: &Kind) -> Option<Lowered> {
        let shape = self.shape(node.inputs[0])?;
        let maps = vec![Axis::Unit, Axis::Channel, Axis::Height, Axis::Width];
        let axes = match (kind, self.known(node.inputs[0])) {
            (Kind::Convolution { .. } | Kind::MaxPool(_), _) => maps,
            (_, Some(known)) => known.axes,
            _ if shape.len() == 4 => maps,
            _ if shape.len() == 2 => vec![Axis::Unit, Axis::Channel],
            _ => return None,
        };
        let from = self.read(node.inputs[0], &axes)?;
        let [height, width, channels] = self.graph.shape(from);
        let windows = |geometry: &super::operator::Geometry| geometry.windows([height, width]).ok();
        let mut inputs = vec![from];
        let mut to = [height, width, channels];
        let operation = match kind {
            Kind::Quantize(steps) => Operation::Quantize(*steps),
            Kind::Dequantize(steps) => Operation::Dequantize(*steps),
            Kind::Sum(steps) => {
                inputs.push(self.read(node.inputs[1], &axes)?);
                if self.graph.shape(inputs[1]) != to {
                    return None;
                }
                Operation::SumBytes(*steps)
            }
            Kind::MaxPool(geometry) => {
                let [rows, columns] = windows(geometry)?;
                to = [rows.output, columns.output, channels];
                Operation::MaxBytes { rows, columns }
            }
            Kind::Convolution {
                weights,
                depthwise,
                geometry,
            } => {
                let [rows, columns] = windows(geometry)?;
                to = [rows.output, columns.output, weights.bias.len()];
                Operation::IntegerConvolution {
                    rows,
                    columns,
                    weights: weights.clone(),
                    depthwise: *depthwise,
                }
            }
        };
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &inputs, to),
            axes,
        })
    }

    /// A product with a constant matrix: a convolution of one pixel.
    fn product(&mut self, node: &TypedNode, op: &EinSum) -> Option<Lowered> {
        if op.q_params.is_some() || node.inputs.len() != 2 {
            return None;
        }
        let is_matrix = |i: usize| {
            let found = self.constant(node.inputs[i]);
            found.is_some_and(|(shape, _)| shape.len() == 2)
        };
        let matrix = (0..2).find(|&i| is_matrix(i))?;
        let (map, matrix_outlet) = (1 - matrix, node.inputs[matrix]);
        let (matrix_shape, values) = self.constant(matrix_outlet)?;
        let shape = self.shape(node.inputs[map])?;
        let known = self.known(node.inputs[map]);
        let mut axes = vec![Axis::Unit; shape.len()];
        let out_shape = self.shape(node.id.into())?;
        let mut out_axes = vec![Axis::Unit; out_shape.len()];
        let mut free = vec![Axis::Width, Axis::Height];
        let (mut summed, mut kept) = (None, None);
        for axis in op.axes.iter_all_axes() {
            let in_map = axis.inputs[map].first().copied();
            let in_matrix = axis.inputs[matrix].first().copied();
            let in_output = axis.outputs[0].first().copied();
            match (in_map, in_matrix, in_output) {
                (Some(m), Some(k), None) if summed.is_none() => {
                    summed = Some(k);
                    axes[m] = Axis::Channel;
                }
                (None, Some(n), Some(o)) if kept.is_none() => {
                    kept = Some(n);
                    out_axes[o] = Axis::Channel;
                }
                (Some(m), None, Some(o)) if shape[m] > 1 => {
                    let role = match &known {
                        Some(known) => known.axes[m],
                        None => free.pop()?,
                    };
                    if role == Axis::Channel {
                        return None;
                    }
                    axes[m] = role;
                    out_axes[o] = role;
                }
                (Some(m), None, None) if shape[m] > 1 => return None,
                (Some(_), None, _) | (None, None, Some(_)) => {}
                _ => return None,
            }
        }
        let (summed, kept) = (summed?, kept?);
        let (inputs, outputs) = (matrix_shape[summed], matrix_shape[kept]);
        let at = |output: usize, input: usize| {
            if kept == 0 {
                output * inputs + input
            } else {
                input * outputs + output
            }
        };
        let from = self.read(node.inputs[map], &axes)?;
        let [height, width, channels] = self.graph.shape(from);
        if channels != inputs {
            return None;
        }
        // What a stride leaves out is not read.
        let whole = || (from, every(1, height), every(1, width));
        let (from, rows, columns) = self.graph.subsampled(from).unwrap_or_else(whole);
        let operation = Operation::Convolution {
            rows,
            columns,
            weights: (0..outputs)
                .flat_map(|o| (0..inputs).map(move |i| (o, i)))
                .map(|(o, i)| values[at(o, i)])
                .collect(),
            bias: vec![0.0; outputs],
            depthwise: false,
        };
        let shape = [height, width, outputs];
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from], shape),
            axes: out_axes,
        })
    }

    /// Every so manieth row or column.
    fn downsampling(&mut self, node: &TypedNode, op: &Downsample) -> Option<Lowered> {
        let from = self.known(node.inputs[0])?;
        let stride = usize::try_from(op.stride).ok().filter(|&s| s > 0)?;
        let shape = self.graph.shape(from.node);
        let whole = || (from.node, every(1, shape[0]), every(1, shape[1]));
        let (base, mut rows, mut columns) = self.graph.subsampled(from.node).unwrap_or_else(whole);
        let window = match from.axes.get(op.axis)? {
            Axis::Height => &mut rows,
            Axis::Width => &mut columns,
            _ => return None,
        };
        if op.modulo != 0 {
            return None;
        }
        *window = every(window.stride * stride, window.input);
        let shape = [rows.output, columns.output, shape[2]];
        let operation = Operation::Pool {
            rows,
            columns,
            pooling: Pooling::Max,
        };
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[base], shape),
            axes: from.axes,
        })
    }

    fn pool(&mut self, node: &TypedNode, spec: &PoolSpec, pooling: Pooling) -> Option<Lowered> {
        let axes = Self::spatial_axes(spec)?;
        let from = self.read(node.inputs[0], &axes)?;
        let shape = self.graph.shape(from);
        let [rows, columns] = Self::windows(spec, shape)?;
        let operation = Operation::Pool {
            rows,
            columns,
            pooling,
        };
        let shape = [rows.output, columns.output, shape[2]];
        let node = self.graph.add(&node.name, operation, &[from], shape);
        Some(Lowered { node, axes })
    }

    fn reduction(&mut self, node: &TypedNode, op: &Reduce) -> Option<Lowered> {
        let pooling = match op.reducer {
            Reducer::Sum => Pooling::Sum { scale: 1.0 },
            Reducer::Max => Pooling::Max,
            _ => return None,
        };
        let from = self.known(node.inputs[0])?;
        let shape = self.shape(node.inputs[0])?;
        for (i, (axis, &extent)) in from.axes.iter().zip(&shape).enumerate() {
            let spatial = matches!(axis, Axis::Height | Axis::Width);
            if extent > 1 && spatial != op.axes.contains(&i) {
                return None;
            }
        }
        let channels = self.graph.shape(from.node)[2];
        let operation = Operation::PoolAll(pooling);
        let to = [1, 1, channels];
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from.node], to),
            axes: from.axes,
        })
    }

    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Option<Lowered> {
        let [a, b] = node.inputs[..] else {
            return None;
        };
        match (self.constant(a), self.constant(b)) {
            (None, Some(right)) => self.with_constant(node, op, a, right, false),
            (Some(left), None) => self.with_constant(node, op, b, left, true),
            (None, None) => self.pair(node, op, a, b),
            _ => None,
        }
    }

    /// An operation with a constant that has one value, or one for each channel.
    fn with_constant(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        outlet: OutletId,
        (shape, values): (Vec<usize>, &[f32]),
        constant_first: bool,
    ) -> Option<Lowered> {
        let from = self.known(outlet)?;
        let map = self.graph.shape(from.node);
        if shape.len() != from.axes.len() || self.shape(outlet)? != self.shape(node.id.into())? {
            return None;
        }
        let by_channel = |(axis, &n): (&Axis, &usize)| n == 1 || *axis == Axis::Channel;
        if !from.axes.iter().zip(&shape).all(by_channel) {
            return None;
        }
        let c = broadcast(values, map[2])?;
        let uniform = c.iter().all(|x| x == &c[0]).then_some(c[0]);
        let affine = |scale: Vec<f32>, shift: Vec<f32>| Operation::Affine { scale, shift };
        let (ones, zeros) = (vec![1.0; map[2]], vec![0.0; map[2]]);
        let negative = |values: Vec<f32>| values.into_iter().map(|x| -x).collect();
        let operation = if op.0.is::<Add>() {
            affine(ones, c)
        } else if op.0.is::<Mul>() {
            affine(c, zeros)
        } else if op.0.is::<Sub>() && constant_first {
            affine(negative(ones), c)
        } else if op.0.is::<Sub>() {
            affine(ones, negative(c))
        } else if op.0.is::<Div>() && !constant_first {
            affine(c.into_iter().map(|x| 1.0 / x).collect(), zeros)
        } else if op.0.is::<Max>() {
            Operation::Clamp(Clamp {
                low: uniform?,
                ..Clamp::NONE
            })
        } else if op.0.is::<Min>() {
            Operation::Clamp(Clamp {
                high: uniform?,
                ..Clamp::NONE
            })
        } else {
            return None;
        };
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from.node], map),
            axes: from.axes,
        })
    }

    fn pair(
        &mut self,
        node: &TypedNode,
        op: &TypedBinOp,
        a: OutletId,
        b: OutletId,
    ) -> Option<Lowered> {
        let pair = if op.0.is::<Add>() {
            Pair::Sum
        } else if op.0.is::<Mul>() {
            Pair::Product
        } else {
            return None;
        };
        let axes = self.known(a).or_else(|| self.known(b))?.axes;
        let (left, right) = (self.read(a, &axes)?, self.read(b, &axes)?);
        let (left_shape, right_shape) = (self.graph.shape(left), self.graph.shape(right));
        // A single pixel may go with all pixels of the other.
        let pixel = [1, 1, left_shape[2]];
        let inputs = if left_shape == right_shape || right_shape == pixel {
            [left, right]
        } else if left_shape == [1, 1, right_shape[2]] {
            [right, left]
        } else {
            return None;
        };
        let shape = self.graph.shape(inputs[0]);
        Some(Lowered {
            node: self
                .graph
                .add(&node.name, Operation::Pair(pair), &inputs, shape),
            axes,
        })
    }

    fn curve(&mut self, node: &TypedNode, op: &ElementWiseOp) -> Option<Lowered> {
        let curve = if op.0.is::<Sigmoid>() {
            Curve::Sigmoid
        } else if op.0.is::<Silu>() {
            Curve::Silu
        } else if op.0.is::<HardSwish>() {
            Curve::HardSwish
        } else {
            let alpha = op.0.downcast_ref::<LeakyRelu>()?.alpha;
            Curve::LeakyRelu { alpha }
        };
        let from = self.known(node.inputs[0])?;
        let shape = self.graph.shape(from.node);
        let operation = Operation::Curve(curve);
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[from.node], shape),
            axes: from.axes,
        })
    }

    fn concat(&mut self, node: &TypedNode, op: &TypedConcat) -> Option<Lowered> {
        let known = node.inputs.iter().find_map(|&outlet| self.known(outlet))?;
        if known.axes.get(op.axis) != Some(&Axis::Channel) {
            return None;
        }
        let mut inputs = Vec::new();
        for &outlet in &node.inputs {
            inputs.push(self.read(outlet, &known.axes)?);
        }
        let [height, width, _] = self.graph.shape(inputs[0]);
        let channels = inputs.iter().map(|&i| self.graph.shape(i)[2]).sum();
        let shape = [height, width, channels];
        Some(Lowered {
            node: self
                .graph
                .add(&node.name, Operation::Concat, &inputs, shape),
            axes: known.axes,
        })
    }

    /// A change of axes moves nothing: the map is the same, seen otherwise.
    /// One of the maps that were put side by side before.
    fn part(&mut self, node: &TypedNode, op: &Slice) -> Option<Lowered> {
        let whole = self.known(node.inputs[0])?;
        if whole.axes.get(op.axis) != Some(&Axis::Channel) {
            return None;
        }
        let (start, end) = (op.start.to_usize().ok()?, op.end.to_usize().ok()?);
        let node = self.graph.part(whole.node, start..end)?;
        let axes = whole.axes;
        Some(Lowered { node, axes })
    }

    fn axes(&mut self, node: &TypedNode, op: &AxisOp) -> Option<Lowered> {
        let from = self.known(node.inputs[0])?;
        let before = self.shape(node.inputs[0])?;
        let after = self.shape(node.id.into())?;
        let mut axes = from.axes;
        match op {
            AxisOp::Add(at) => axes.insert(*at, Axis::Unit),
            AxisOp::Rm(at) => {
                axes.remove(*at);
            }
            AxisOp::Move(from, to) => {
                let axis = axes.remove(*from);
                axes.insert(*to, axis);
            }
            AxisOp::Reshape(..) => {
                let long = |shape: &[usize]| -> Vec<usize> {
                    shape.iter().copied().filter(|&n| n > 1).collect()
                };
                if long(&before) != long(&after) {
                    return None;
                }
                let mut roles = axes.iter().zip(&before).filter(|(_, n)| **n > 1);
                axes = after
                    .iter()
                    .map(|&n| match n {
                        1 => Some(Axis::Unit),
                        _ => roles.next().map(|(&axis, _)| axis),
                    })
                    .collect::<Option<Axes>>()?;
            }
        }
        (axes.len() == after.len() && axes.contains(&Axis::Channel)).then_some(Lowered {
            node: from.node,
            axes,
        })
    }
}

/// Every `stride`-th of `input` rows or columns.
fn every(stride: usize, input: usize) -> Window {
    Window {
        size: 1,
        stride,
        dilation: 1,
        before: 0,
        input,
        output: input.div_ceil(stride),
    }
}

/// One value, or one for each of `channels`, as one for each.
fn broadcast(values: &[f32], channels: usize) -> Option<Vec<f32>> {
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n if n == channels => Some(values.to_vec()),
        _ => None,
    }
}

fn sum_pooling(op: &SumPool) -> Option<Pooling> {
    let taps: usize = op.pool_spec.kernel_shape.iter().product();
    match (op.normalize, op.count_include_pad) {
        (false, _) => Some(Pooling::Sum { scale: 1.0 }),
        (true, false) => Some(Pooling::MeanInside),
        // Windows that stick out of the padding count otherwise.
        (true, true)
            if matches!(
                op.pool_spec.padding,
                PaddingSpec::ExplicitOnnxPool(_, _, true)
            ) =>
        {
            None
        }
        (true, true) => Some(Pooling::Sum {
            scale: 1.0 / taps as f32,
        }),
    }
}
