//! Part of a tract model that the engine runs: one operator in place of many.

use std::fmt;
use std::sync::Arc;

use tract_onnx::tract_core::internal::*;

use super::lower::view::{View, places};
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
    /// How it lies in its map.
    pub view: View,
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
            Element::Float => f32::fact(output.view.shape()),
            Element::Byte => u8::fact(output.view.shape()),
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
    let View { first, axes, .. } = &output.view;
    let shape = map.shape;
    ensure!(
        shape.element.bytes() == size_of::<T>(),
        "a map has other values than its tensor"
    );
    let mut tensor = Tensor::zero_dt(T::datum_type(), &output.view.shape())?;
    let mut plain = tensor.try_as_plain_ram_mut()?;
    let values = plain.as_slice_mut::<T>()?;
    let inner = axes.last().map_or(vec![[0, 0]], |axis| axis.places());
    let outer = places(*first, &axes[..axes.len().saturating_sub(1)]);
    let pixels = shape.height * shape.width;
    let most = |places: &[[usize; 2]], i: usize| places.iter().map(|place| place[i]).max();
    let end = |i: usize| most(&inner, i).unwrap_or(0) + most(&outer, i).unwrap_or(0);
    ensure!(
        end(0) < pixels && end(1) < shape.channels,
        "a tensor reaches out of its map"
    );
    let at = |place: &[usize; 2]| place[0] * shape.pixel + place[1];
    let inner: Vec<usize> = inner.iter().map(at).collect();
    let from = map.bytes(0).cast::<T>();
    for (start, values) in outer
        .iter()
        .map(at)
        .zip(values.chunks_exact_mut(inner.len()))
    {
        for (value, &offset) in values.iter_mut().zip(&inner) {
            // SAFETY: the map is whole, of `T` as the caller chose by its element, and lies in the workspace, which
            // nobody else holds; all places lie in it, as was just asked, and its row is aligned as the arena is.
            *value = unsafe { *from.add(start + offset) };
        }
    }
    Ok(tensor.into_tvalue())
}
