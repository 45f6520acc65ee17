//! Convolutions and products of matrices, of floats and of bytes.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::{Axes, Axis, Lowered, Lowering, broadcast};
use crate::geometry::{MOST_EXTENT, Sliding, Window, product};
use crate::graph::Operation;
use crate::map::Element;
use crate::operator::{Geometry, Kind};

impl Lowering<'_> {
    /// Axes of a tensor in the format of a convolution or pooling over two dimensions.
    pub(super) fn spatial_axes(spec: &PoolSpec) -> Option<Axes> {
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

    /// The windows over rows and columns of a map; none if one is empty or too large.
    pub(super) fn windows(spec: &PoolSpec, shape: [usize; 3]) -> Option<[Window; 2]> {
        // tract's arithmetic on them is not checked: they have to be small enough before.
        let most = |pads: &[usize]| pads.iter().all(|&pad| pad <= MOST_EXTENT);
        let small = match &spec.padding {
            PaddingSpec::Explicit(before, after)
            | PaddingSpec::ExplicitOnnxPool(before, after, _) => most(before) && most(after),
            _ => true,
        };
        if !small {
            return None;
        }
        let before = |i: usize| Sliding {
            size: spec.kernel_shape[i],
            stride: spec.stride(i),
            dilation: spec.dilation(i),
            before: 0,
            input: shape[i],
            output: 1,
        };
        for i in 0..2 {
            Window::new(before(i))?;
        }
        let padding = spec.computed_padding(&shape[..2]);
        let window = |i: usize| {
            Window::new(Sliding {
                before: padding[i].pad_before,
                output: padding[i].convoluted,
                ..before(i)
            })
        };
        Some([window(0)?, window(1)?])
    }

    pub(super) fn convolution(&mut self, node: &TypedNode, op: &Conv) -> Option<Lowered> {
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
        if kernel_shape.len() != 4 || Some(kernel.len()) != product(&kernel_shape) {
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
        if self.graph.shape(from)[2] != inputs {
            return None;
        }
        let [rows, columns] = Self::windows(spec, self.graph.shape(from))?;
        let operation = Operation::Convolution {
            rows,
            columns,
            weights,
            bias,
            depthwise,
        };
        let shape = [rows.output, columns.output, outputs];
        let node = self.graph.add(&node.name, operation, &[from], shape)?;
        Some(Lowered { node, axes })
    }

    /// An operator on bytes.
    pub(super) fn integer(&mut self, node: &TypedNode, kind: &Kind) -> Option<Lowered> {
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
        let element = match kind {
            Kind::Quantize(_) => Element::Float,
            _ => Element::Byte,
        };
        if self.graph.element(from) != element {
            return None;
        }
        let windows = |geometry: &Geometry| geometry.windows([height, width]).ok();
        let mut inputs = vec![from];
        let mut to = [height, width, channels];
        let operation = match kind {
            Kind::Quantize(steps) => Operation::Quantize(*steps),
            Kind::Dequantize(steps) => Operation::Dequantize(*steps),
            Kind::Sum(steps) => {
                inputs.push(self.read(*node.inputs.get(1)?, &axes)?);
                if self.graph.shape(inputs[1]) != to || self.graph.element(inputs[1]) != element {
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
                if !weights.sums_fit() {
                    return None;
                }
                Operation::IntegerConvolution {
                    rows,
                    columns,
                    weights: weights.clone(),
                    depthwise: *depthwise,
                }
            }
        };
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &inputs, to)?,
            axes,
        })
    }

    /// A product with a constant matrix: a convolution of one pixel.
    pub(super) fn product(&mut self, node: &TypedNode, op: &EinSum) -> Option<Lowered> {
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
        let (from, rows, columns) = match self.graph.subsampled(from) {
            Some(found) => found,
            None => (from, Window::every(1, height)?, Window::every(1, width)?),
        };
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
            node: self.graph.add(&node.name, operation, &[from], shape)?,
            axes: out_axes,
        })
    }
}
