//! What rearranges maps or makes them smaller: pooling, reductions, parts, axes.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::{Axes, Axis, Lowered, Lowering};
use crate::geometry::Window;
use crate::graph::Operation;
use crate::pool::Pooling;

impl Lowering<'_> {
    /// Every n-th row or column.
    pub(super) fn downsampling(&mut self, node: &TypedNode, op: &Downsample) -> Option<Lowered> {
        let from = self.known(node.inputs[0])?;
        let stride = usize::try_from(op.stride).ok().filter(|&s| s > 0)?;
        let shape = self.graph.shape(from.node);
        let (base, mut rows, mut columns) = match self.graph.subsampled(from.node) {
            Some(found) => found,
            None => {
                let [rows, columns] = [Window::every(1, shape[0])?, Window::every(1, shape[1])?];
                (from.node, rows, columns)
            }
        };
        let window = match from.axes.get(op.axis)? {
            Axis::Height => &mut rows,
            Axis::Width => &mut columns,
            _ => return None,
        };
        if op.modulo != 0 {
            return None;
        }
        *window = Window::every(window.stride.checked_mul(stride)?, window.input)?;
        let shape = [rows.output, columns.output, shape[2]];
        let operation = Operation::Pool {
            rows,
            columns,
            pooling: Pooling::Max,
        };
        Some(Lowered {
            node: self.graph.add(&node.name, operation, &[base], shape)?,
            axes: from.axes,
        })
    }

    pub(super) fn pool(
        &mut self,
        node: &TypedNode,
        spec: &PoolSpec,
        pooling: Pooling,
    ) -> Option<Lowered> {
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
        let node = self.graph.add(&node.name, operation, &[from], shape)?;
        Some(Lowered { node, axes })
    }

    pub(super) fn reduction(&mut self, node: &TypedNode, op: &Reduce) -> Option<Lowered> {
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
            node: self.graph.add(&node.name, operation, &[from.node], to)?,
            axes: from.axes,
        })
    }

    pub(super) fn concat(&mut self, node: &TypedNode, op: &TypedConcat) -> Option<Lowered> {
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
                .add(&node.name, Operation::Concat, &inputs, shape)?,
            axes: known.axes,
        })
    }

    /// One of the maps that were put side by side before.
    pub(super) fn part(&mut self, node: &TypedNode, op: &Slice) -> Option<Lowered> {
        let whole = self.known(node.inputs[0])?;
        if whole.axes.get(op.axis) != Some(&Axis::Channel) {
            return None;
        }
        let (start, end) = (op.start.to_usize().ok()?, op.end.to_usize().ok()?);
        let node = self.graph.part(whole.node, start..end)?;
        let axes = whole.axes;
        Some(Lowered { node, axes })
    }

    /// A change of axes moves nothing: the map is the same, seen otherwise.
    pub(super) fn axes(&mut self, node: &TypedNode, op: &AxisOp) -> Option<Lowered> {
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
