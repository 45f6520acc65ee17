//! tract's rewriting, without the rules for slices with a stride: they move these before operators that do not bear it, which
//! is an error or, worse, another result.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::StridedSlice;
use tract_onnx::tract_core::ops::downsample::Downsample;

/// `model` as tract rewrites it, its slices with a stride left where they are. Where a rule of tract fails, the model as it
/// was: it then runs slower, with the same results.
///
/// # Errors
/// What tract says of a graph that it cannot even wire.
pub fn declutter(model: TypedModel) -> TractResult<TypedModel> {
    let rewritten = without_downsampling(&model)?.into_decluttered();
    Ok(rewritten.unwrap_or(model))
}

/// `model` with operators of our own, which no rule moves, in the place of tract's for strides.
fn without_downsampling(model: &TypedModel) -> TractResult<TypedModel> {
    let mut model = model.clone();
    fix_strides(&mut model);
    for id in 0..model.nodes().len() {
        if let Some(op) = model.node(id).op_as::<StridedSlice>() {
            let op = PartByStrides(op.clone());
            model.node_mut(id).op = Box::new(op);
        }
    }
    model.check_consistency()?;
    Ok(model)
}

fn fix_strides(model: &mut TypedModel) {
    for id in 0..model.nodes().len() {
        if let Some(op) = model.node(id).op_as::<Downsample>() {
            let op = Strided(op.clone());
            model.node_mut(id).op = Box::new(op);
        }
    }
}

/// A [`StridedSlice`] that becomes a [`Slice`](tract_onnx::tract_core::ops::array::Slice) and a [`Strided`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartByStrides(StridedSlice);

impl Op for PartByStrides {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for PartByStrides {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(context, inputs)
    }
}

impl TypedOp for PartByStrides {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    fn declutter(
        &self,
        model: &TypedModel,
        node: &TypedNode,
    ) -> TractResult<Option<TypedModelPatch>> {
        let mut patch = self.0.declutter(model, node)?;
        if let Some(patch) = &mut patch {
            fix_strides(&mut patch.model);
        }
        Ok(patch)
    }

    as_op!();
}

/// Every n-th element along an axis: [`Downsample`] to which no rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strided(pub Downsample);

impl Op for Strided {
    fn name(&self) -> StaticName {
        "Strided".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.0.info()
    }

    op_as_typed_op!();
}

impl EvalOp for Strided {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(context, inputs)
    }
}

impl TypedOp for Strided {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}
