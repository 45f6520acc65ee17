//! Curves that exporters write out as arithmetic on one tensor: known by their values, whatever the order of the operators.

use std::collections::{HashMap, HashSet};

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;

use super::patterns::{Form, Pattern};
use crate::activation::Curve;

/// Operators before and behind the one that the search begins with.
const MOST_BEFORE: usize = 12;
const MOST_BEHIND: usize = 6;
/// Values of the argument at which curves are compared lie within this.
const MOST: f64 = 6.0;
const SAMPLES: usize = 97;
/// Largest difference of a curve from what the operators give.
const TOLERANCE: f64 = 3e-6;

/// The curve of which `core`, an operator on single values, is a part.
pub(super) fn curve(model: &TypedModel, core: &TypedNode) -> Option<(usize, Pattern)> {
    let mut ends = vec![core];
    while ends.len() <= MOST_BEHIND {
        let last = ends[ends.len() - 1];
        let [successor] = last.outputs[0].successors[..] else {
            break;
        };
        let next = model.node(successor.node);
        if !is_by_value(next) {
            break;
        }
        ends.push(next);
    }
    for end in ends.into_iter().rev() {
        for from in before(model, core) {
            let Some(inside) = between(model, from, end) else {
                continue;
            };
            let Some(curve) = known(model, from, end) else {
                continue;
            };
            let inside = inside.into_iter().filter(|&id| id != end.id).collect();
            let pattern = Pattern {
                inside,
                inputs: vec![from],
                form: Form::Curve(from, curve),
            };
            return Some((end.id, pattern));
        }
    }
    None
}

/// Whether an operator makes each value of values in the same place alone.
fn is_by_value(node: &TypedNode) -> bool {
    node.outputs.len() == 1 && (node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>())
}

fn constant(model: &TypedModel, outlet: OutletId) -> Option<&Arc<Tensor>> {
    model.outlet_fact(outlet).ok()?.konst.as_ref()
}

/// The tensors from which `core` may be computed value by value.
fn before(model: &TypedModel, core: &TypedNode) -> Vec<OutletId> {
    let mut found: Vec<OutletId> = Vec::new();
    let mut waiting = vec![core];
    while let Some(node) = waiting.pop() {
        for &input in &node.inputs {
            if constant(model, input).is_some() || found.contains(&input) {
                continue;
            }
            found.push(input);
            let node = model.node(input.node);
            if is_by_value(node) && found.len() < MOST_BEFORE {
                waiting.push(node);
            }
        }
    }
    found
}

/// The operators that lead from the tensor `from` alone to `end`, and whose results nothing else reads.
fn between(model: &TypedModel, from: OutletId, end: &TypedNode) -> Option<HashSet<usize>> {
    let mut inside = HashSet::new();
    let mut waiting = vec![end];
    let shape = &model.outlet_fact(from).ok()?.shape;
    while let Some(node) = waiting.pop() {
        if !inside.insert(node.id) {
            continue;
        }
        let same = &node.outputs[0].fact.shape == shape;
        if !is_by_value(node) || !same || inside.len() > MOST_BEFORE + MOST_BEHIND {
            return None;
        }
        for &input in &node.inputs {
            match constant(model, input) {
                Some(constant) if constant.len() == 1 => {}
                Some(_) => return None,
                None if input == from => {}
                None => waiting.push(model.node(input.node)),
            }
        }
    }
    let outputs = model.output_outlets().ok()?;
    let is_free = |&id: &usize| {
        let successors = &model.node(id).outputs[0].successors;
        id == end.id
            || successors.iter().all(|s| inside.contains(&s.node))
                && outputs.iter().all(|output| output.node != id)
    };
    inside.iter().all(is_free).then_some(inside)
}

/// The curve that the operators from `from` to `end` compute, if it is a known one.
fn known(model: &TypedModel, from: OutletId, end: &TypedNode) -> Option<Curve> {
    let rank = model.outlet_fact(from).ok()?.rank();
    let mut shape = vec![1; rank];
    *shape.last_mut()? = SAMPLES;
    let arguments: Vec<f32> = (0..SAMPLES)
        .map(|i| (MOST * (2.0 * i as f64 / (SAMPLES - 1) as f64 - 1.0)) as f32)
        .collect();
    let argument = Tensor::from_shape(&shape, &arguments).ok()?.into_tvalue();
    let mut values = HashMap::from([(from, argument)]);
    let result = value(model, OutletId::new(end.id, 0), &mut values)?;
    let result = result.cast_to::<f32>().ok()?;
    let result = result
        .try_as_plain_ram()
        .ok()?
        .as_slice::<f32>()
        .ok()?
        .to_vec();
    let is_here = |curve: &Curve| {
        let near = |(&x, &y): (&f32, &f32)| {
            let expected = definition(*curve, f64::from(x));
            (expected - f64::from(y)).abs() <= TOLERANCE
        };
        arguments.len() == result.len() && arguments.iter().zip(&result).all(near)
    };
    [Curve::Gelu, Curve::GeluTanh].into_iter().find(is_here)
}

/// A curve that this module looks for, by its definition.
fn definition(curve: Curve, x: f64) -> f64 {
    match curve {
        Curve::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        _ => 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())),
    }
}

/// What a tensor is, given those that are known.
fn value(
    model: &TypedModel,
    outlet: OutletId,
    known: &mut HashMap<OutletId, TValue>,
) -> Option<TValue> {
    if let Some(value) = known.get(&outlet) {
        return Some(value.clone());
    }
    if let Some(constant) = constant(model, outlet) {
        return Some(constant.clone().into_tvalue());
    }
    let node = model.node(outlet.node);
    let inputs = node.inputs.iter().map(|&input| value(model, input, known));
    let inputs = inputs.collect::<Option<TVec<TValue>>>()?;
    let outputs = node.op.eval_out_of_plan(inputs).ok()??;
    let value = outputs.into_iter().next()?;
    known.insert(outlet, value.clone());
    Some(value)
}

/// The error function to 1.5e-7: Abramowitz and Stegun, formula 7.1.26.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let terms = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let sum = terms.iter().fold(0.0, |sum, term| (sum + term) * t);
    (1.0 - sum * (-x * x).exp()).copysign(x)
}
