//! Works around faults of tract 0.23.9: nodes and pairs of nodes for which it computes something other than ONNX defines,
//! without an error. tests/operators.rs compares each with ONNX Runtime.
//!
//! | fault | what is done |
//! | --- | --- |
//! | a convolution takes over a subtraction or division whose first operand has a number per channel, as if that was the second | `c - x` is `-1 · x + c`, `c / x` is `1/x · c` |
//! | a slice with a stride moves before what makes its input: a convolution drops its start, a softmax along its axis sums what is left | `cnn_engine::declutter` leaves it where it is; one that goes backwards gathers |
//! | a convolution of 1 x 1 with a stride becomes such a slice and one without | a softmax that it reads is made of single steps |
//! | a convolution with `auto_pad` takes over the stride of what follows, and pads for the new stride | its padding is stated |
//! | `Pad` with a constant value pads with it in every mode | modes other than `constant` have no value |
//! | `Celu` scales its exponent wrongly | α is taken out of it |
//!
//! An operator that is wrong whatever its numbers is refused: see [`WRONG`].

use std::borrow::Cow;
use std::collections::HashSet;

use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{self, Div, Sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, Softmax, SoftmaxKind};

use super::onnx::walk::{each_graph_mut, each_node};

/// Operators that tract computes wrongly: `GlobalLpPool` has a mean in place of a sum.
pub(super) const WRONG: [&str; 1] = ["GlobalLpPool"];

/// Rewrites the nodes of a file.
pub(super) fn mend_nodes(model: Cow<'_, pb::ModelProto>) -> Cow<'_, pb::ModelProto> {
    let mut concerned = false;
    if let Some(graph) = &model.graph {
        each_node(graph, &mut |node| {
            concerned |= matches!(node.op_type.as_str(), "Pad" | "Celu");
        });
    }
    if !concerned {
        return model;
    }
    let mut model = model.into_owned();
    if let Some(graph) = &mut model.graph {
        each_graph_mut(graph, &mut |graph| {
            graph.node.iter_mut().for_each(mend_pad);
            mend_celu(graph);
        });
    }
    Cow::Owned(model)
}

/// Removes the constant value of a `Pad` that has no use for it.
fn mend_pad(node: &mut pb::NodeProto) {
    const VALUE: usize = 2;
    let mode = node.attribute.iter().find(|a| a.name == "mode");
    let is_constant = mode.is_none_or(|mode| mode.s == b"constant");
    if node.op_type != "Pad" || is_constant {
        return;
    }
    if let Some(value) = node.input.get_mut(VALUE) {
        value.clear();
    }
    while node.input.pop_if(|name| name.is_empty()).is_some() {}
}

/// Writes `Celu(x, α)` as `α · Celu(x / α, 1)`.
fn mend_celu(graph: &mut pb::GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let alpha = node.attribute.iter().find(|a| a.name == "alpha");
        let alpha = alpha.map_or(1.0, |a| a.f);
        if node.op_type != "Celu" || alpha == 1.0 || node.input.is_empty() || node.output.is_empty()
        {
            nodes.push(node);
            continue;
        }
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        let [scale, small, bent] =
            ["alpha", "divided", "bent"].map(|part| format!("{output}/celu.{part}"));
        graph.initializer.push(pb::TensorProto {
            name: scale.clone(),
            data_type: pb::tensor_proto::DataType::Float as i32,
            float_data: vec![alpha],
            ..Default::default()
        });
        let binary = |op: &str, left: &str, right: &str, made: &str| pb::NodeProto {
            op_type: op.to_owned(),
            name: made.to_owned(),
            input: vec![left.to_owned(), right.to_owned()],
            output: vec![made.to_owned()],
            ..Default::default()
        };
        node.attribute.clear();
        node.input = vec![small.clone()];
        node.output = vec![bent.clone()];
        nodes.push(binary("Div", &input, &scale, &small));
        nodes.push(node);
        nodes.push(binary("Mul", &bent, &scale, &output));
    }
    graph.node = nodes;
}

/// Rewrites the nodes of a model with shapes, before tract declutters it.
pub(super) fn mend_model(mut model: TypedModel) -> TractResult<TypedModel> {
    for id in model.eval_order()? {
        let node = model.node(id);
        let patch = if let Some(op) = node.op_as::<TypedBinOp>() {
            reversed(&model, node, op)?
        } else if let Some(op) = node.op_as::<Downsample>() {
            strided(&model, node, op)?
        } else if let Some(op) = node.op_as::<Conv>() {
            padded(&model, node, op)?
        } else if let Some(op) = node
            .op_as::<Softmax>()
            .filter(|_| reaches_slice(&model, node))
        {
            in_steps(&model, node, op)?
        } else {
            None
        };
        if let Some(patch) = patch {
            patch.apply(&mut model)?;
        }
    }
    model.into_compact()
}

/// `c - x` and `c / x`, where `c` has a number per channel or a single one.
fn reversed(
    model: &TypedModel,
    node: &TypedNode,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    let (subtracts, divides) = (op.0.is::<Sub>(), op.0.is::<Div>());
    let &[first, second] = &*model.node_input_facts(node.id)? else {
        return Ok(None);
    };
    let wide = first.shape.iter().filter(|dim| !dim.is_one()).count();
    let is_first_small = wide <= 1 && second.konst.is_none();
    if !(subtracts || divides) || !is_first_small || !first.datum_type.is_float() {
        return Ok(None);
    }
    let (kind, rank) = (second.datum_type, second.rank());
    let wire = |patch: &mut TypedModelPatch, taps: &[OutletId]| {
        let name = &node.name;
        if divides {
            let inverse = patch.wire_node(format!("{name}.inverse"), math::recip(), &taps[1..])?;
            return patch.wire_node(name, math::mul(), &[inverse[0], taps[0]]);
        }
        let minus = tensor0(-1.0_f32).cast_to_dt(kind)?.into_owned();
        let minus = minus.broadcast_into_rank(rank)?;
        let minus = patch.add_const(format!("{name}.minus"), minus)?;
        let negative =
            patch.wire_node(format!("{name}.negative"), math::mul(), &[taps[1], minus])?;
        patch.wire_node(name, math::add(), &[negative[0], taps[0]])
    };
    let outlet = OutletId::new(node.id, 0);
    TypedModelPatch::rewire(model, &node.inputs, &[outlet], &wire).map(Some)
}

/// Returns whether a convolution of which tract makes a slice and another convolution may take that slice back to `node`:
/// over all operators but products, whose inputs do not all have the axes of the result.
fn reaches_slice(model: &TypedModel, node: &TypedNode) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![node];
    while let Some(node) = waiting.pop() {
        for successor in node.outputs.iter().flat_map(|output| &output.successors) {
            let next = model.node(successor.node);
            if becomes_slice(next) {
                return true;
            }
            if !next.op_is::<EinSum>() && seen.insert(next.id) {
                waiting.push(next);
            }
        }
    }
    false
}

/// Returns whether tract makes a slice and another convolution of a convolution.
fn becomes_slice(node: &TypedNode) -> bool {
    let spec = node.op_as::<Conv>().map(|op| &op.pool_spec);
    spec.is_some_and(|spec| {
        (0..spec.rank()).any(|axis| {
            let (stride, dilation) = (spec.stride(axis), spec.dilation(axis));
            stride > 1 && (spec.kernel_shape[axis] == 1 || dilation.is_multiple_of(stride))
        })
    })
}

/// A softmax of feature maps as its definition: maxima, differences, exponentials, sums.
fn in_steps(
    model: &TypedModel,
    node: &TypedNode,
    op: &Softmax,
) -> TractResult<Option<TypedModelPatch>> {
    const MAPS: usize = 4;
    let fact = model.outlet_fact(node.inputs[0])?;
    if fact.rank() != MAPS || !fact.datum_type.is_float() {
        return Ok(None);
    }
    let reduced = |reducer: Reducer| Reduce::new(op.axes.clone(), reducer);
    let wire = |patch: &mut TypedModelPatch, taps: &[OutletId]| {
        let name = |part: &str| format!("{}.{part}", node.name);
        let most = patch.wire_node(name("most"), reduced(Reducer::Max), taps)?[0];
        let less = patch.wire_node(name("less"), math::sub(), &[taps[0], most])?[0];
        let exponential = patch.wire_node(name("exp"), math::exp(), &[less])?[0];
        let sum = patch.wire_node(name("sum"), reduced(Reducer::Sum), &[exponential])?[0];
        match op.kind {
            SoftmaxKind::Softmax => patch.wire_node(&node.name, math::div(), &[exponential, sum]),
            SoftmaxKind::LogSoftmax => {
                let logarithm = patch.wire_node(name("ln"), math::ln(), &[sum])?[0];
                patch.wire_node(&node.name, math::sub(), &[less, logarithm])
            }
        }
    };
    let outlet = OutletId::new(node.id, 0);
    TypedModelPatch::rewire(model, &node.inputs, &[outlet], &wire).map(Some)
}

/// A slice that goes backwards, as a gathering of its places.
fn strided(
    model: &TypedModel,
    node: &TypedNode,
    op: &Downsample,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = model.outlet_fact(node.inputs[0])?;
    let (Ok(length), stride) = (fact.shape[op.axis].to_usize(), op.stride.unsigned_abs()) else {
        return Ok(None);
    };
    if fact.konst.is_some() || op.stride >= 0 {
        return Ok(None);
    }
    let places = (0..length).rev().step_by(stride);
    let places: Vec<i64> = places.map(|place| place as i64).collect();
    let wire = |patch: &mut TypedModelPatch, taps: &[OutletId]| {
        let places = patch.add_const(format!("{}.places", node.name), tensor1(&places))?;
        patch.wire_node(&node.name, Gather::new(op.axis), &[taps[0], places])
    };
    let outlet = OutletId::new(node.id, 0);
    TypedModelPatch::rewire(model, &node.inputs, &[outlet], &wire).map(Some)
}

/// A convolution whose padding follows from its stride, with the padding that it has.
fn padded(model: &TypedModel, node: &TypedNode, op: &Conv) -> TractResult<Option<TypedModelPatch>> {
    if !matches!(
        op.pool_spec.padding,
        PaddingSpec::SameUpper | PaddingSpec::SameLower
    ) {
        return Ok(None);
    }
    let fact = model.outlet_fact(node.inputs[0])?;
    let Some(shape) = fact.shape.as_concrete() else {
        return Ok(None);
    };
    let shape = op.pool_spec.data_format.shape(shape)?;
    let sides = op.pool_spec.computed_padding(shape.hw_dims());
    let before = sides.iter().map(|side| side.pad_before).collect();
    let after = sides.iter().map(|side| side.pad_after).collect();
    let mut stated = op.clone();
    stated.pool_spec.padding = PaddingSpec::Explicit(before, after);
    TypedModelPatch::replace_single_op(model, node, &node.inputs, stated).map(Some)
}
