//! Part of a tract model that the engine runs: one operator in place of many.

use std::fmt;
use std::sync::Arc;

use tract_onnx::tract_core::internal::*;

use super::lower::{Axes, Axis};
use super::map::Map;
use super::plan::{Plan, Workspace};

/// An operator that runs a [`Plan`].
#[derive(Clone)]
pub(super) struct Region {
    content: Arc<Content>,
}

struct Content {
    plan: Plan,
    outputs: Vec<Output>,
}

/// A tensor that the region gives.
pub(super) struct Output {
    pub shape: TVec<usize>,
    pub axes: Axes,
}

impl Region {
    pub(super) fn new(plan: Plan, outputs: Vec<Output>) -> Region {
        Region {
            content: Arc::new(Content { plan, outputs }),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.content.plan
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region of {} steps", self.plan().steps().len())
    }
}

impl PartialEq for Region {
    fn eq(&self, other: &Region) -> bool {
        Arc::ptr_eq(&self.content, &other.content)
    }
}

impl Eq for Region {}

impl Op for Region {
    fn name(&self) -> StaticName {
        "Region".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Region {
    not_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(RegionState {
            workspace: self.plan().workspace(),
        })))
    }
}

impl TypedOp for Region {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let outputs = self.content.outputs.iter();
        Ok(outputs.map(|o| f32::fact(&o.shape)).collect())
    }
}

/// One worker's memory for a [`Region`].
#[derive(Clone, Debug)]
pub(super) struct RegionState {
    pub workspace: Workspace,
}

impl OpState for RegionState {
    fn eval(
        &mut self,
        _: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let region = op
            .downcast_ref::<Region>()
            .context("a region's state was given to another operator")?;
        let content = &region.content;
        let mut tensors: TVec<&[f32]> = tvec!();
        for (value, shape) in inputs.iter().zip(content.plan.inputs()) {
            let values = value.try_as_plain_ram()?.as_slice::<f32>()?;
            ensure!(values.len() == shape.height * shape.width * shape.channels);
            tensors.push(values);
        }
        ensure!(tensors.len() == content.plan.inputs().len());
        let pointers: TVec<*const f32> = tensors.iter().map(|t| t.as_ptr()).collect();
        // SAFETY: every input has as many values as its shape; the workspace was made by this plan in
        // `state`, since tract keeps a state with its node.
        let maps = unsafe { content.plan.run(&pointers, &mut self.workspace) };
        maps.iter()
            .zip(&content.outputs)
            .map(|(map, output)| export(map, output))
            .collect()
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        Ok(())
    }
}

/// Copies a map into a tensor with the axes that the model wants.
fn export(map: &Map, output: &Output) -> TractResult<TValue> {
    let mut tensor = Tensor::zero::<f32>(&output.shape)?;
    let mut plain = tensor.try_as_plain_ram_mut()?;
    let values = plain.as_slice_mut::<f32>()?;
    let shape = map.shape;
    let stride = |axis| {
        let place = output.axes.iter().position(|&a| a == axis);
        place.map_or(0, |i| output.shape[i + 1..].iter().product())
    };
    let (row, column, channel): (usize, usize, usize) = (
        stride(Axis::Height),
        stride(Axis::Width),
        stride(Axis::Channel),
    );
    for y in 0..shape.height {
        for x in 0..shape.width {
            // SAFETY: the map has been computed whole and lies in the workspace, which nobody else holds.
            let pixel = unsafe {
                let at = map.row(y).add(x * shape.pixel);
                std::slice::from_raw_parts(at, shape.channels)
            };
            for (c, &value) in pixel.iter().enumerate() {
                values[y * row + x * column + c * channel] = value;
            }
        }
    }
    Ok(tensor.into_tvalue())
}
