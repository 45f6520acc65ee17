//! Operators that are one to the engine and many to tract: layer normalisation, attention and curves, by what they compute.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Erf, Mul, Sub, Tanh};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind};

use super::curves::curve;
use crate::activation::Curve;

/// Nodes that the engine takes over together.
pub(crate) struct Pattern {
    /// All but the last; nothing else reads them.
    pub inside: Vec<usize>,
    /// Tensors that it is computed from.
    pub inputs: Vec<OutletId>,
    pub form: Form,
}

pub(crate) enum Form {
    Norm(Norm),
    Attention(Attention),
    /// A curve of a tensor, written out as arithmetic.
    Curve(OutletId, Curve),
}

/// Layer normalisation over one axis.
pub(crate) struct Norm {
    pub from: OutletId,
    pub axis: usize,
    pub epsilon: f32,
    /// Whether the mean is taken away.
    pub is_centred: bool,
}

/// What an axis of a tensor is in attention. Queries and keys may lie along several axes, one within the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// One long, without meaning.
    Unit,
    /// Heads, or sets of tokens of their own, by number.
    Batch(usize),
    Query,
    Key,
    /// Channels of queries and keys.
    Depth,
    /// Channels of values.
    Value,
}

/// `softmax(scale · q·kᵀ + biases) · v`.
pub(crate) struct Attention {
    /// Queries, keys and values, and what their axes are.
    pub inputs: [(OutletId, Vec<Role>); 3],
    pub output: Vec<Role>,
    /// The queries of which there are results, if not all.
    pub queries: Option<Range<usize>>,
    pub scale: f32,
    /// Factors of the scores, then what is added: constants, and what their axes are.
    pub factors: Vec<(Vec<Role>, Arc<Tensor>)>,
    pub biases: Vec<(Vec<Role>, Arc<Tensor>)>,
}

/// All patterns of a model, by the node in which they end.
#[derive(Default)]
pub(crate) struct Patterns {
    by_last: HashMap<usize, Pattern>,
    inside: HashSet<usize>,
}

impl Patterns {
    pub(crate) fn find(model: &TypedModel) -> TractResult<Patterns> {
        let mut patterns = Patterns::default();
        let outputs: HashSet<usize> = model.output_outlets()?.iter().map(|o| o.node).collect();
        for node in model.nodes() {
            let found = if let Some(op) = node.op_as::<RmsNorm>() {
                norm(model, node, op)
            } else if let Some(op) = node.op_as::<Softmax>() {
                attention(model, node, op)
            } else if node
                .op_as::<ElementWiseOp>()
                .is_some_and(|op| op.0.is::<Erf>() || op.0.is::<Tanh>())
            {
                curve(model, node)
            } else {
                None
            };
            let Some((last, pattern)) = found else {
                continue;
            };
            let free = |id: &usize| !outputs.contains(id) && !patterns.inside.contains(id);
            if pattern.inside.iter().all(free) && !patterns.inside.contains(&last) {
                patterns.inside.extend(&pattern.inside);
                patterns.by_last.insert(last, pattern);
            }
        }
        Ok(patterns)
    }

    /// The pattern that ends in a node.
    pub(crate) fn ending(&self, node: usize) -> Option<&Pattern> {
        self.by_last.get(&node)
    }

    /// Whether a node is in a pattern, before its end.
    pub(crate) fn is_inside(&self, node: usize) -> bool {
        self.inside.contains(&node)
    }

    /// Forgets the pattern of which `node` is a part.
    pub(crate) fn forget(&mut self, node: usize) {
        let part = |last: usize, pattern: &Pattern| last == node || pattern.inside.contains(&node);
        let inside = &mut self.inside;
        self.by_last.retain(|&last, pattern| {
            let is_part = part(last, pattern);
            if is_part {
                pattern.inside.iter().for_each(|id| {
                    inside.remove(id);
                });
            }
            !is_part
        });
    }
}

/// The constant of an operator with two inputs, and its other input.
fn with_constant<'a>(
    model: &'a TypedModel,
    node: &TypedNode,
) -> Option<(OutletId, &'a Arc<Tensor>, bool)> {
    let [a, b] = node.inputs[..] else {
        return None;
    };
    let constant = |outlet| model.outlet_fact(outlet).ok()?.konst.as_ref();
    match (constant(a), constant(b)) {
        (None, Some(right)) => Some((a, right, false)),
        (Some(left), None) => Some((b, left, true)),
        _ => None,
    }
}

fn single(tensor: &Tensor) -> Option<f32> {
    (tensor.len() == 1).then(|| tensor.cast_to_scalar::<f32>().ok())?
}

/// Whether nothing but one node reads the output of `node`.
fn has_one_reader(node: &TypedNode) -> bool {
    node.outputs.len() == 1 && node.outputs[0].successors.len() == 1
}

fn norm(model: &TypedModel, node: &TypedNode, op: &RmsNorm) -> Option<(usize, Pattern)> {
    let epsilon = op.eps.cast_to_scalar::<f32>().ok()?;
    let pattern = |from: OutletId, inside: Vec<usize>| {
        let form = Form::Norm(Norm {
            from,
            axis: op.axis,
            epsilon,
            is_centred: !inside.is_empty(),
        });
        let inputs = vec![from];
        Pattern {
            inside,
            inputs,
            form,
        }
    };
    let centred = centred(model, node.inputs[0], op.axis);
    let (from, inside) = centred.unwrap_or((node.inputs[0], Vec::new()));
    Some((node.id, pattern(from, inside)))
}

/// The tensor from which `outlet` is the difference to the mean over `axis`, and the nodes that compute that.
fn centred(model: &TypedModel, outlet: OutletId, axis: usize) -> Option<(OutletId, Vec<usize>)> {
    let difference = model.node(outlet.node);
    let op = difference.op_as::<TypedBinOp>()?;
    let [from, mean] = difference.inputs[..] else {
        return None;
    };
    let mean = model.node(mean.node);
    let mean_op = mean.op_as::<TypedBinOp>()?;
    let (sum, count, first) = with_constant(model, mean)?;
    let count = single(count)?;
    let factor = if mean_op.0.is::<Mul>() {
        count
    } else if mean_op.0.is::<Div>() && !first {
        1.0 / count
    } else {
        return None;
    };
    let sum = model.node(sum.node);
    let reduce = sum.op_as::<Reduce>()?;
    let n = model
        .outlet_fact(from)
        .ok()?
        .shape
        .get(axis)?
        .to_usize()
        .ok()?;
    let sound = op.0.is::<Sub>()
        && reduce.reducer == Reducer::Sum
        && reduce.axes[..] == [axis]
        && sum.inputs[..] == [from]
        && (factor * n as f32 - 1.0).abs() < 1e-5
        && [difference, mean, sum].into_iter().all(has_one_reader);
    sound.then(|| (from, vec![sum.id, mean.id, difference.id]))
}

/// The node that reads the output of `node`, if it is only one.
fn reader<'a>(model: &'a TypedModel, node: &TypedNode) -> Option<&'a TypedNode> {
    has_one_reader(node).then(|| model.node(node.outputs[0].successors[0].node))
}

fn is_number(outlet: OutletId, model: &TypedModel) -> bool {
    let fact = model.outlet_fact(outlet);
    fact.is_ok_and(|f| f.datum_type == f32::datum_type() && f.shape.is_concrete())
}

fn attention(model: &TypedModel, softmax: &TypedNode, op: &Softmax) -> Option<(usize, Pattern)> {
    let [along] = op.axes[..] else {
        return None;
    };
    if op.quant_output_dt.is_some() || !matches!(op.kind, SoftmaxKind::Softmax) {
        return None;
    }
    // Back to the product of queries and keys.
    let mut inside = vec![softmax.id];
    let mut between = Vec::new();
    let mut at = model.node(softmax.inputs[0].node);
    let scores = loop {
        if !has_one_reader(at) {
            return None;
        }
        inside.push(at.id);
        if at.op_is::<EinSum>() {
            break at;
        }
        let next = if at.op_is::<AxisOp>() {
            at.inputs[0]
        } else {
            with_constant(model, at)?.0
        };
        between.push(at);
        at = model.node(next.node);
    };
    between.reverse();
    let einsum = scores.op_as::<EinSum>()?;
    let [a, b] = scores.inputs[..] else {
        return None;
    };
    let extent = |outlet: OutletId, axis: usize| {
        model
            .outlet_fact(outlet)
            .ok()?
            .shape
            .get(axis)?
            .to_usize()
            .ok()
    };
    // What the axes of the first and of the second input, and those of the scores are. Tokens of the first are
    // queries, for now.
    let rank = |outlet: OutletId| model.outlet_fact(outlet).map(|f| f.rank()).ok();
    let mut of = [vec![Role::Unit; rank(a)?], vec![Role::Unit; rank(b)?]];
    let mut labels = vec![Role::Unit; rank(scores.id.into())?];
    let mut batches = 0;
    let mut pairs = Vec::new();
    for axis in einsum.axes.iter_all_axes() {
        let places =
            [&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]].map(|p| p.first().copied());
        let role = match places {
            [Some(_), Some(_), None] => Role::Depth,
            [Some(_), None, Some(_)] => Role::Query,
            [None, Some(_), Some(_)] => Role::Key,
            [Some(_), Some(_), Some(_)] => {
                batches += 1;
                Role::Batch(batches - 1)
            }
            [None, None, Some(_)] => Role::Unit,
            [Some(i), None, None] if extent(a, i) == Some(1) => Role::Unit,
            [None, Some(i), None] if extent(b, i) == Some(1) => Role::Unit,
            _ => return None,
        };
        for (i, labels) in of.iter_mut().chain([&mut labels]).enumerate() {
            if let Some(place) = places[i] {
                labels[place] = role;
            }
        }
        if let ([Some(from), None, Some(to)] | [None, Some(from), Some(to)], true) =
            (places, role != Role::Unit)
        {
            pairs.push((role, from, to));
        }
    }
    if !in_order(&mut pairs) {
        return None;
    }
    let mut attention = Attention {
        inputs: [(a, Vec::new()), (b, Vec::new()), (a, Vec::new())],
        output: Vec::new(),
        queries: None,
        scale: 1.0,
        factors: Vec::new(),
        biases: Vec::new(),
    };
    let mut shape: Vec<usize> = (0..labels.len())
        .map(|i| extent(scores.id.into(), i))
        .collect::<Option<_>>()?;
    for node in between {
        if let Some(op) = node.op_as::<AxisOp>() {
            labels = moved(labels, &shape, op)?;
        } else {
            let op = node.op_as::<TypedBinOp>()?;
            let (_, constant, first) = with_constant(model, node)?;
            if constant.datum_type() != f32::datum_type() || constant.rank() != labels.len() {
                return None;
            }
            let value = single(constant);
            if let (Some(value), true) = (
                value,
                attention.biases.is_empty() && !first && op.0.is::<Div>(),
            ) {
                attention.scale /= value;
            } else if op.0.is::<Mul>() && attention.biases.is_empty() {
                match value {
                    Some(value) => attention.scale *= value,
                    None => attention.factors.push((labels.clone(), constant.clone())),
                }
            } else if op.0.is::<Add>() {
                attention.biases.push((labels.clone(), constant.clone()));
            } else {
                return None;
            }
        }
        shape = (0..labels.len())
            .map(|i| extent(node.id.into(), i))
            .collect::<Option<_>>()?;
    }
    // The scores become shares over one of the two sets of tokens: those are the keys.
    let swapped = match labels.get(along)? {
        Role::Key => false,
        Role::Query => true,
        _ => return None,
    };
    if labels.iter().filter(|&&role| role == labels[along]).count() > 1 {
        return None;
    }
    let swap = |role: &mut Role| {
        *role = match *role {
            Role::Query if swapped => Role::Key,
            Role::Key if swapped => Role::Query,
            role => role,
        }
    };
    for roles in of.iter_mut().chain([&mut labels]) {
        roles.iter_mut().for_each(swap);
    }
    for (roles, _) in attention.biases.iter_mut().chain(&mut attention.factors) {
        roles.iter_mut().for_each(swap);
    }
    let [mut queries, mut keys] = [(a, of[0].clone()), (b, of[1].clone())];
    if swapped {
        (queries, keys) = (keys, queries);
    }
    // On to the product with the values.
    let mut last = reader(model, softmax)?;
    let mut from = softmax;
    while !last.op_is::<EinSum>() {
        if let Some(op) = last.op_as::<AxisOp>() {
            labels = moved(labels, &shape, op)?;
        } else {
            // A part of the queries.
            let op = last.op_as::<Slice>()?;
            let is_query = *labels.get(op.axis)? == Role::Query
                && labels.iter().filter(|&&role| role == Role::Query).count() == 1;
            if !is_query || attention.queries.is_some() {
                return None;
            }
            attention.queries = Some(op.start.to_usize().ok()?..op.end.to_usize().ok()?);
        }
        shape = (0..labels.len())
            .map(|i| extent(last.id.into(), i))
            .collect::<Option<_>>()?;
        inside.push(last.id);
        from = last;
        last = reader(model, last)?;
    }
    let einsum = last.op_as::<EinSum>()?;
    let [a, b] = last.inputs[..] else {
        return None;
    };
    let shares = usize::from(b.node == from.id);
    let values = if shares == 0 { b } else { a };
    if values.node == from.id {
        return None;
    }
    let mut value_roles = vec![Role::Unit; rank(values)?];
    let mut output = vec![Role::Unit; rank(last.id.into())?];
    let mut pairs = Vec::new();
    for axis in einsum.axes.iter_all_axes() {
        let place = |places: &TVec<usize>| places.first().copied();
        let in_shares = place(&axis.inputs[shares]).map(|i| (labels[i], shape[i]));
        let (in_values, out) = (place(&axis.inputs[1 - shares]), place(&axis.outputs[0]));
        let role = match (in_shares, in_values, out) {
            (Some((Role::Key, _)), Some(_), None) => Role::Key,
            (Some((role @ (Role::Query | Role::Batch(_)), _)), None, Some(_)) => role,
            (Some((role @ Role::Batch(_), _)), Some(_), Some(_)) => role,
            (Some((_, 1)), None, _) => Role::Unit,
            (Some((_, 1)), Some(v), _) if extent(values, v) == Some(1) => Role::Unit,
            (None, Some(_), Some(_)) => Role::Value,
            (None, Some(v), None) if extent(values, v) == Some(1) => Role::Unit,
            (None, None, Some(_)) => Role::Unit,
            _ => return None,
        };
        if let Some(v) = in_values {
            value_roles[v] = role;
        }
        if let Some(o) = out {
            output[o] = role;
        }
        match (place(&axis.inputs[shares]), in_values, out) {
            (Some(from), Some(to), None) if role == Role::Key => pairs.push((role, from, to)),
            (Some(from), None, Some(to)) if role == Role::Query => pairs.push((role, from, to)),
            _ => {}
        }
    }
    if !in_order(&mut pairs) {
        return None;
    }
    let keyed = value_roles.contains(&Role::Key);
    let tensors = [queries.0, keys.0, values];
    if !keyed || !tensors.iter().all(|&t| is_number(t, model)) {
        return None;
    }
    attention.inputs = [queries, keys, (values, value_roles)];
    attention.output = output;
    // Queries, and keys with their values, may lie along several axes, in the same order everywhere; no other role but
    // the unit may be there twice, unless one of the axes is one long.
    for (outlet, roles) in &mut attention.inputs {
        for i in 0..roles.len() {
            if extent(*outlet, i)? == 1 && roles.iter().filter(|&r| *r == roles[i]).count() > 1 {
                roles[i] = Role::Unit;
            }
        }
        let mut seen = HashSet::new();
        for &role in roles.iter() {
            let may_repeat = matches!(role, Role::Unit | Role::Query | Role::Key);
            if !seen.insert(role) && !may_repeat {
                return None;
            }
        }
    }
    let form = Form::Attention(attention);
    let inputs = tensors.to_vec();
    Some((
        last.id,
        Pattern {
            inside,
            inputs,
            form,
        },
    ))
}

/// The roles of axes after a change of axes; none if it joins axes of several roles, or changes the order of two that
/// have the same.
fn moved(mut roles: Vec<Role>, shape: &[usize], op: &AxisOp) -> Option<Vec<Role>> {
    match op {
        AxisOp::Add(at) => roles.insert(*at, Role::Unit),
        AxisOp::Rm(at) => {
            roles.remove(*at);
        }
        AxisOp::Move(from, to) => {
            let passed = (*from).min(*to)..=(*from).max(*to);
            let role = roles.remove(*from);
            roles.insert(*to, role);
            let alike = roles[passed].iter().filter(|&&r| r == role).count();
            if role != Role::Unit && alike > 1 {
                return None;
            }
        }
        AxisOp::Reshape(at, from, to) => {
            let end = at + from.len();
            let mut left: Vec<(Role, usize)> = (*at..end)
                .filter(|&i| shape[i] > 1)
                .map(|i| (roles[i], shape[i]))
                .rev()
                .collect();
            let mut new = Vec::new();
            for n in to {
                let mut wanted = n.to_usize().ok()?;
                let mut role = None;
                while wanted > 1 {
                    let (next, count) = left.last_mut()?;
                    if role.is_some_and(|role| role != *next) {
                        return None;
                    }
                    role = Some(*next);
                    if wanted.is_multiple_of(*count) {
                        wanted /= *count;
                        left.pop();
                    } else if count.is_multiple_of(wanted) {
                        *count /= wanted;
                        wanted = 1;
                    } else {
                        return None;
                    }
                }
                new.push(role.unwrap_or(Role::Unit));
            }
            if !left.is_empty() {
                return None;
            }
            roles.splice(*at..end, new);
        }
    }
    // Only tokens may lie along several axes.
    let often = |role: &Role| roles.iter().filter(|&r| r == role).count() > 1;
    let tokens = |role: &Role| matches!(role, Role::Query | Role::Key | Role::Unit);
    (!roles.iter().any(|role| often(role) && !tokens(role))).then_some(roles)
}

/// Whether axes of the same role follow each other in the same order in two tensors, by pairs of their places.
fn in_order(pairs: &mut [(Role, usize, usize)]) -> bool {
    pairs.sort_by_key(|&(_, first, _)| first);
    let rises = |role: Role| {
        let places = pairs
            .iter()
            .filter(|pair| pair.0 == role)
            .map(|pair| pair.2);
        places.is_sorted()
    };
    rises(Role::Query) && rises(Role::Key)
}
