//! Convolutions and products of matrices, of floats and of bytes.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::view::{Axis, View, row_major};
use super::{Lowering, broadcast};
use crate::geometry::{MOST_EXTENT, Sliding, Window, product};
use crate::graph::{NodeId, Operation};
use crate::map::Element;
use crate::operator::{Geometry, Kind};

impl Lowering<'_> {
    /// Axes of a tensor in the format of a convolution or pooling over two dimensions, for a map of a size.
    pub(super) fn spatial_axes(
        spec: &PoolSpec,
        [height, width, channels]: [usize; 3],
    ) -> Option<Vec<Axis>> {
        if spec.rank() != 2 {
            return None;
        }
        let mut axes = vec![Axis::pixels(height, width), Axis::pixels(width, 1)];
        let channel = Axis::channels(channels, 1);
        if spec.data_format.c_is_last() {
            axes.push(channel);
        } else {
            axes.insert(0, channel);
        }
        if spec.data_format.has_n() {
            axes.insert(0, Axis::ONE);
        }
        Some(axes)
    }

    /// The map over which windows slide, and its rows, columns and channels.
    pub(super) fn spatial(
        &mut self,
        outlet: OutletId,
        spec: &PoolSpec,
    ) -> Option<(NodeId, [usize; 3])> {
        let shape = self.shape(outlet)?;
        let shape = match spec.data_format.has_n() {
            true => shape.strip_prefix(&[1])?,
            false => &shape[..],
        };
        let map = match (shape, spec.data_format.c_is_last()) {
            (&[height, width, channels], true) | (&[channels, height, width], false) => {
                [height, width, channels]
            }
            _ => return None,
        };
        let axes = Self::spatial_axes(spec, map)?;
        Some((self.read(outlet, &axes, map)?, map))
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

    pub(super) fn convolution(&mut self, node: &TypedNode, op: &Conv) -> Option<View> {
        let spec = &op.pool_spec;
        let (inputs, outputs) = (op.input_channels(), op.output_channels());
        let groups = op.group;
        let whole = |n: usize| n.checked_rem(groups) == Some(0);
        if op.q_params.is_some() || !whole(inputs) || !whole(outputs) {
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
        let depth = inputs / groups;
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
        let (from, map) = self.spatial(node.inputs[0], spec)?;
        if map[2] != inputs {
            return None;
        }
        let [rows, columns] = Self::windows(spec, map)?;
        let operation = Operation::Convolution {
            rows,
            columns,
            weights,
            bias,
            groups,
        };
        let map = [rows.output, columns.output, outputs];
        let node = self.graph.add(&node.name, operation, &[from], map)?;
        Some(View::new(node, Self::spatial_axes(spec, map)?))
    }

    /// An operator on bytes.
    pub(super) fn integer(&mut self, node: &TypedNode, kind: &Kind) -> Option<View> {
        let shape = self.shape(node.inputs[0])?;
        let maps = |[height, width, channels]: [usize; 3]| {
            let rows = Axis::pixels(height, width);
            let channels = Axis::channels(channels, 1);
            vec![Axis::ONE, channels, rows, Axis::pixels(width, 1)]
        };
        let has_windows = matches!(kind, Kind::Convolution { .. } | Kind::MaxPool(_));
        let known = self.known(node.inputs[0]).filter(|_| !has_windows);
        let (axes, map) = match (known, &shape[..]) {
            (Some(known), _) => {
                let map = self.graph.shape(known.node);
                (known.axes, map)
            }
            (None, &[1, channels, height, width]) => {
                let map = [height, width, channels];
                (maps(map), map)
            }
            (None, &[1, channels]) => {
                let axes = vec![Axis::ONE, Axis::channels(channels, 1)];
                (axes, [1, 1, channels])
            }
            _ => return None,
        };
        let from = self.read(node.inputs[0], &axes, map)?;
        let [height, width, channels] = map;
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
                inputs.push(self.read(*node.inputs.get(1)?, &axes, map)?);
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
        let axes = if has_windows { maps(to) } else { axes };
        let node = self.graph.add(&node.name, operation, &inputs, to)?;
        Some(View::new(node, axes))
    }

    /// A product with a constant matrix: a convolution of one pixel.
    pub(super) fn product(&mut self, node: &TypedNode, op: &EinSum) -> Option<View> {
        if op.q_params.is_some() || node.inputs.len() != 2 {
            return None;
        }
        let matrix = (0..2).find(|&i| self.constant(node.inputs[i]).is_some())?;
        let map = 1 - matrix;
        let (matrix_shape, values) = self.constant(node.inputs[matrix])?;
        let shape = self.shape(node.inputs[map])?;
        let out_shape = self.shape(node.id.into())?;
        // Axes that are summed up, in the map and in the matrix; that the output has of the matrix; and of the map.
        let (mut summed, mut kept, mut free) = (Vec::new(), Vec::new(), Vec::new());
        for axis in op.axes.iter_all_axes() {
            let in_map = axis.inputs[map].first().copied();
            let in_matrix = axis.inputs[matrix].first().copied();
            let in_output = axis.outputs[0].first().copied();
            match (in_map, in_matrix, in_output) {
                (Some(m), Some(k), None) if shape[m] == matrix_shape[k] => summed.push((m, k)),
                (None, Some(n), Some(o)) => kept.push((n, o)),
                (Some(m), None, Some(o)) => free.push((m, o)),
                (Some(m), None, None) if shape[m] == 1 => {}
                (None, None, Some(o)) if out_shape[o] == 1 => {}
                (Some(m), Some(k), Some(_)) if shape[m] == 1 && matrix_shape[k] == 1 => {}
                _ => return None,
            }
        }
        if summed.is_empty() || shape.contains(&0) || matrix_shape.contains(&0) {
            return None;
        }
        kept.sort_by_key(|&(n, _)| n);
        let counts = |axes: &[(usize, usize)]| axes.iter().map(|&(n, _)| matrix_shape[n]).product();
        let outputs: usize = counts(&kept);
        let is_channel: Vec<bool> = (0..shape.len())
            .map(|i| summed.iter().any(|&(m, _)| m == i))
            .collect();
        let from = self.operand(&node.name, node.inputs[map], &is_channel)?;
        let [height, width, inputs] = self.graph.shape(from.node);
        // Where the values of each input channel and of each output channel are in the matrix.
        let stride = |axis: usize| matrix_shape[axis + 1..].iter().product::<usize>();
        let mut input_at = vec![0; inputs];
        let mut reached: Vec<(usize, usize)> = vec![(0, 0)];
        for &(m, k) in &summed {
            let along = from.axes[m].places();
            let next = |(channel, at): (usize, usize)| {
                let step =
                    |(i, place): (usize, &[usize; 2])| (channel + place[1], at + i * stride(k));
                along.iter().enumerate().map(step).collect::<Vec<_>>()
            };
            reached = reached.into_iter().flat_map(next).collect();
        }
        if reached.len() != inputs {
            return None;
        }
        for (channel, at) in reached {
            *input_at.get_mut(channel)? = at;
        }
        let mut output_at = vec![0];
        for &(n, _) in &kept {
            let next = |at: usize| (0..matrix_shape[n]).map(move |i| at + i * stride(n));
            output_at = output_at.into_iter().flat_map(next).collect();
        }
        let mut axes = vec![Axis::ONE; out_shape.len()];
        for &(m, o) in &free {
            axes[o] = from.axes[m].clone();
        }
        let mut channels = outputs;
        for &(n, o) in &kept {
            channels /= matrix_shape[n];
            axes[o] = Axis::channels(matrix_shape[n], channels);
        }
        // What a stride leaves out is not read.
        let (base, rows, columns) = match self.graph.subsampled(from.node) {
            Some(found) => found,
            None => (
                from.node,
                Window::every(1, height)?,
                Window::every(1, width)?,
            ),
        };
        // Some outputs at a time, as they lie side by side in a line of the cache.
        const SIDE_BY_SIDE: usize = 16;
        let mut weights = vec![0.0; product(&[outputs, inputs])?];
        for (o, all) in output_at
            .chunks(SIDE_BY_SIDE)
            .zip(weights.chunks_mut(SIDE_BY_SIDE * inputs))
        {
            for (k, i) in input_at.iter().enumerate() {
                for (weights, o) in all.chunks_exact_mut(inputs).zip(o) {
                    weights[k] = values[o + i];
                }
            }
        }
        let operation = Operation::Convolution {
            rows,
            columns,
            weights,
            bias: vec![0.0; outputs],
            groups: 1,
        };
        let to = [height, width, outputs];
        let node = self.graph.add(&node.name, operation, &[base], to)?;
        Some(View::new(node, axes))
    }

    /// A tensor whose axes of `is_channel` are the channels of its map, and all others its pixels; a copy, if they
    /// were not.
    pub(super) fn operand(
        &mut self,
        name: &str,
        outlet: OutletId,
        is_channel: &[bool],
    ) -> Option<View> {
        let Some(view) = self.settled(name, outlet) else {
            let shape = self.shape(outlet)?;
            if is_channel.len() != shape.len() {
                return None;
            }
            let (axes, pixels, channels) = row_major(&shape, is_channel);
            let node = self.read(outlet, &axes, [pixels, 1, channels])?;
            return Some(View::new(node, axes));
        };
        let fits = |(axis, &channel): (&Axis, &bool)| match channel {
            true => axis.is_in_pixel(),
            false => axis.is_across_pixels(),
        };
        let in_place = view.axes.iter().zip(is_channel).all(fits);
        if in_place && view.is_whole(self.graph.shape(view.node)) {
            return Some(view);
        }
        self.arranged(name, &view, is_channel)
    }
}
