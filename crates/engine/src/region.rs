//! Part of a tract model that the engine runs: one operator in place of many.

use std::fmt;
use std::sync::Arc;

use tract_onnx::tract_core::internal::*;

use super::lower::{Axes, Axis};
use super::map::{Element, Map};
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

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps", self.plan.steps().len())
    }
}

/// A tensor that the region gives.
pub(super) struct Output {
    pub shape: TVec<usize>,
    pub axes: Axes,
    pub element: Element,
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
            content: self.content.clone(),
            workspace: self.plan().workspace()?,
        })))
    }
}

impl TypedOp for Region {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let outputs = self.content.outputs.iter();
        let facts = outputs.map(|output| match output.element {
            Element::Float => f32::fact(&output.shape),
            Element::Byte => u8::fact(&output.shape),
        });
        Ok(facts.collect())
    }
}

/// One worker's memory for a [`Region`].
#[derive(Clone, Debug)]
pub(super) struct RegionState {
    /// What the workspace was made for.
    content: Arc<Content>,
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
        ensure!(
            Arc::ptr_eq(content, &self.content),
            "a region's state was given to another region"
        );
        ensure!(inputs.len() == content.plan.inputs().len());
        let mut pointers: TVec<*const u8> = tvec!();
        for (value, shape) in inputs.iter().zip(content.plan.inputs()) {
            let plain = value.try_as_plain_ram()?;
            let (at, len): (*const u8, usize) = match shape.element {
                Element::Float => {
                    let values = plain.as_slice::<f32>()?;
                    (values.as_ptr().cast(), values.len())
                }
                Element::Byte => {
                    let values = plain.as_slice::<u8>()?;
                    (values.as_ptr(), values.len())
                }
            };
            ensure!(len == shape.tensor_len());
            pointers.push(at);
        }
        // SAFETY: every input has as many values as its shape, as was just asked, and lives as long as this call.
        let maps = unsafe { content.plan.run(&pointers, &mut self.workspace)? };
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
    match output.element {
        Element::Float => export_values::<f32>(map, output),
        Element::Byte => export_values::<u8>(map, output),
    }
}

/// As [`export`], for a map of `T`.
fn export_values<T: Datum + Copy>(map: &Map, output: &Output) -> TractResult<TValue> {
    let mut tensor = Tensor::zero_dt(T::datum_type(), &output.shape)?;
    let mut plain = tensor.try_as_plain_ram_mut()?;
    let values = plain.as_slice_mut::<T>()?;
    let shape = map.shape;
    ensure!(
        shape.element.bytes() == size_of::<T>() && shape.tensor_len() == values.len(),
        "a map has another shape than its tensor"
    );
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
            // SAFETY: the map is whole, of `T` as the caller chose by its element, and lies in the workspace, which nobody
            // else holds; a pixel has at least as many values as channels, and its row is aligned as the arena is.
            let pixel = unsafe {
                let at = map.bytes(y).cast::<T>().add(x * shape.pixel);
                std::slice::from_raw_parts(at, shape.channels)
            };
            for (c, &value) in pixel.iter().enumerate() {
                values[y * row + x * column + c * channel] = value;
            }
        }
    }
    Ok(tensor.into_tvalue())
}
