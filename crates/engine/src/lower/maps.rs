//! What rearranges maps or makes them smaller: pooling, reductions, parts, axes.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, Slice, TypedConcat};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::view::{Axis, Stride, View, row_major};
use super::{Lowering, moves};
use crate::geometry::Window;
use crate::graph::Operation;
use crate::pool::Pooling;

impl Lowering<'_> {
    /// Every n-th element along an axis: of rows or columns, as windows of one pixel; else seen so.
    pub(super) fn downsampling(&mut self, node: &TypedNode, op: &Downsample) -> Option<View> {
        let stride = usize::try_from(op.stride).ok().filter(|&s| s > 0)?;
        if self.known(node.inputs[0]).is_none()
            && let [1, channels, height, width] = self.shape(node.inputs[0])?[..]
        {
            let axes = [
                Axis::ONE,
                Axis::channels(channels, 1),
                Axis::pixels(height, width),
                Axis::pixels(width, 1),
            ];
            self.read(node.inputs[0], &axes, [height, width, channels])?;
        }
        if let Some(view) = self.subsampling(node, op, stride) {
            return Some(view);
        }
        self.known(node.inputs[0])?
            .strided(op.axis, op.modulo, stride)
    }

    /// Every n-th row or column.
    fn subsampling(&mut self, node: &TypedNode, op: &Downsample, stride: usize) -> Option<View> {
        let from = self.known(node.inputs[0])?;
        let [height, width, channels] = self.graph.shape(from.node);
        // The map's rows and columns have to be axes of the tensor.
        let axis = from.axes.get(op.axis)?;
        let (is_row, is_column) = (Axis::pixels(height, width), Axis::pixels(width, 1));
        if !from.is_whole([height, width, channels])
            || !from.axes.contains(&is_row)
            || !from.axes.contains(&is_column)
            || op.modulo != 0
        {
            return None;
        }
        let (base, mut rows, mut columns) = match self.graph.subsampled(from.node) {
            Some(found) => found,
            None => {
                let [rows, columns] = [Window::every(1, height)?, Window::every(1, width)?];
                (from.node, rows, columns)
            }
        };
        let window = match axis {
            axis if axis.len() == 1 => return None,
            axis if *axis == is_row => &mut rows,
            axis if *axis == is_column => &mut columns,
            _ => return None,
        };
        *window = Window::every(window.stride.checked_mul(stride)?, window.input)?;
        let map = [rows.output, columns.output, channels];
        let axes = from.axes.iter().map(|axis| match axis {
            axis if axis.len() == 1 || axis.is_in_pixel() => axis.clone(),
            axis if *axis == is_row => Axis::pixels(map[0], map[1]),
            _ => Axis::pixels(map[1], 1),
        });
        let axes = axes.collect();
        let operation = Operation::Pool {
            rows,
            columns,
            pooling: Pooling::Max,
        };
        let node = self.graph.add(&node.name, operation, &[base], map)?;
        Some(View::new(node, axes))
    }

    pub(super) fn pool(
        &mut self,
        node: &TypedNode,
        spec: &PoolSpec,
        pooling: Pooling,
    ) -> Option<View> {
        let (from, shape) = self.spatial(node.inputs[0], spec)?;
        let [rows, columns] = Self::windows(spec, shape)?;
        let operation = Operation::Pool {
            rows,
            columns,
            pooling,
        };
        let map = [rows.output, columns.output, shape[2]];
        let node = self.graph.add(&node.name, operation, &[from], map)?;
        Some(View::new(node, Self::spatial_axes(spec, map)?))
    }

    pub(super) fn reduction(&mut self, node: &TypedNode, op: &Reduce) -> Option<View> {
        let pooling = match op.reducer {
            Reducer::Sum => Pooling::Sum { scale: 1.0 },
            Reducer::Max => Pooling::Max,
            _ => return None,
        };
        let from = self.whole(&node.name, node.inputs[0])?;
        // Which axes are summed up, and which are kept, are of pixels and which are of channels.
        let (mut pixels, mut channels) = ([false; 2], [false; 2]);
        for (i, axis) in from.axes.iter().enumerate() {
            let is_reduced = usize::from(op.axes.contains(&i));
            pixels[is_reduced] |= !axis.is_in_pixel();
            channels[is_reduced] |= !axis.is_across_pixels();
        }
        let ([kept_pixels, pixels], [kept_channels, channels]) = (pixels, channels);
        let map = self.graph.shape(from.node);
        let mut at = from.node;
        if pixels {
            if kept_pixels {
                return None;
            }
            let to = [1, 1, map[2]];
            let operation = Operation::PoolAll(pooling);
            at = self.graph.add(&node.name, operation, &[at], to)?;
        }
        if channels {
            if kept_channels || pooling == Pooling::Max {
                return None;
            }
            at = self.channel_sum(&node.name, at, 1.0)?;
        }
        let axes = from.axes.into_iter().enumerate();
        let axes = axes.map(|(i, axis)| match op.axes.contains(&i) {
            true => Axis::ONE,
            false => axis,
        });
        Some(View::new(at, axes.collect()))
    }

    /// Maps side by side; tensors put behind each other along any other axis are copied into a new map.
    pub(super) fn concat(&mut self, node: &TypedNode, op: &TypedConcat) -> Option<View> {
        let known = node.inputs.iter().find_map(|&outlet| self.known(outlet))?;
        let side_by_side = self.side_by_side(node, op, &known);
        side_by_side.or_else(|| self.joined(node, op, &known))
    }

    fn side_by_side(&mut self, node: &TypedNode, op: &TypedConcat, known: &View) -> Option<View> {
        let axis = known.axes.get(op.axis)?;
        let [height, width, _] = self.graph.shape(known.node);
        if !matches!(axis.parts(), [part] if part.stride == Stride::Channel(1)) {
            return None;
        }
        let mut inputs = Vec::new();
        let mut channels = 0;
        for &outlet in &node.inputs {
            let count = self.shape(outlet)?[op.axis];
            let mut axes = known.axes.clone();
            axes[op.axis] = Axis::channels(count, 1);
            if self.constant(outlet).is_some() {
                return None;
            }
            inputs.push(self.read(outlet, &axes, [height, width, count])?);
            channels += count;
        }
        let map = [height, width, channels];
        let mut axes = known.axes.clone();
        axes[op.axis] = Axis::channels(channels, 1);
        let node = self
            .graph
            .add(&node.name, Operation::Concat, &inputs, map)?;
        Some(View::new(node, axes))
    }

    fn joined(&mut self, node: &TypedNode, op: &TypedConcat, known: &View) -> Option<View> {
        let shape = self.shape(node.id.into())?;
        let is_channel = known.in_pixel();
        let (axes, pixels, channels) = row_major(&shape, &is_channel);
        let (mut inputs, mut parts) = (Vec::new(), Vec::new());
        let mut start = 0;
        for &outlet in &node.inputs {
            let from = match self.constant(outlet) {
                Some(_) => self.constant_map(outlet, &is_channel)?,
                None => self.settled(&node.name, outlet)?,
            };
            let count = from.axes.get(op.axis)?.len();
            let to = View::new(0, axes.clone()).sliced(op.axis, start, start + count)?;
            parts.push(moves(&from, &to)?);
            inputs.push(from.node);
            start += count;
        }
        let operation = Operation::Copy(parts);
        let map = [pixels, 1, channels];
        let node = self.graph.add(&node.name, operation, &inputs, map)?;
        Some(View::new(node, axes))
    }

    pub(super) fn slice(&mut self, node: &TypedNode, op: &Slice) -> Option<View> {
        let whole = self.known(node.inputs[0])?;
        let (start, end) = (op.start.to_usize().ok()?, op.end.to_usize().ok()?);
        // One of the maps that were put side by side before.
        let axis = whole.axes.get(op.axis)?;
        if axis.run() == axis.len()
            && whole.is_whole(self.graph.shape(whole.node))
            && let Some(part) = self.graph.part(whole.node, start..end)
        {
            let mut axes = whole.axes;
            axes[op.axis] = Axis::channels(end - start, 1);
            return Some(View::new(part, axes));
        }
        whole.sliced(op.axis, start, end)
    }

    /// One element along an axis, or some that follow each other.
    pub(super) fn gather(&mut self, node: &TypedNode, op: &Gather) -> Option<View> {
        let whole = self.known(node.inputs[0])?;
        let index = self.model.outlet_fact(node.inputs[1]).ok()?.konst.clone()?;
        let shape = index.shape().to_vec();
        let index = index.cast_to::<i64>().ok()?;
        let indices = index.as_plain_ram()?.as_slice::<i64>().ok()?;
        let index = *indices.first()?;
        if !indices
            .windows(2)
            .all(|pair| pair[0].checked_add(1) == Some(pair[1]))
        {
            return None;
        }
        let count = whole.axes.get(op.axis)?.len();
        let index = if index < 0 {
            index + i64::try_from(count).ok()?
        } else {
            index
        };
        let index = usize::try_from(index).ok()?;
        let view = whole.sliced(op.axis, index, index.checked_add(indices.len())?)?;
        view.reshaped(op.axis, 1, &shape)
    }

    /// A change of axes moves nothing: the map is the same, seen otherwise.
    pub(super) fn axes(&mut self, node: &TypedNode, op: &AxisOp) -> Option<View> {
        let mut view = self.known(node.inputs[0])?;
        match op {
            AxisOp::Add(at) => {
                view.axes.insert(*at, Axis::ONE);
                Some(view)
            }
            AxisOp::Rm(at) => {
                view.axes.remove(*at);
                Some(view)
            }
            AxisOp::Move(from, to) => {
                let axis = view.axes.remove(*from);
                view.axes.insert(*to, axis);
                Some(view)
            }
            AxisOp::Reshape(at, from, to) => {
                let counts = to.iter().map(|n| n.to_usize().ok());
                let counts = counts.collect::<Option<Vec<usize>>>()?;
                view.reshaped(*at, from.len(), &counts)
            }
        }
    }
}

pub(super) fn sum_pooling(op: &SumPool) -> Option<Pooling> {
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
