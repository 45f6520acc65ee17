//! Attention in the engine's graph: where the tokens of its heads are.

use tract_onnx::tract_core::internal::*;

use super::patterns::{Attention, Role};
use super::view::{Axis, Place, View};
use super::{Lowering, row_major};
use crate::attention::{Head, Heads};
use crate::graph::Operation;

/// Heads times sets of tokens at most.
const MOST_HEADS: usize = 1 << 16;

impl Lowering<'_> {
    pub(super) fn attention(&mut self, node: &TypedNode, attention: &Attention) -> Option<View> {
        let [(query, query_roles), (key, key_roles), (value, value_roles)] = &attention.inputs;
        let query = self.tokens(&node.name, *query, query_roles, Role::Depth)?;
        let key = self.tokens(&node.name, *key, key_roles, Role::Depth)?;
        let value = self.tokens(&node.name, *value, value_roles, Role::Value)?;
        let views = [
            (&query, query_roles),
            (&key, key_roles),
            (&value, value_roles),
        ];
        let axis = |i: usize, role: Role| {
            let (view, roles): (&View, &Vec<Role>) = views[i];
            let axes = view.axes.iter().zip(roles);
            Axis::joined(axes.filter(|&(_, &r)| r == role).map(|(axis, _)| axis))
        };
        let (queries, keys) = (axis(0, Role::Query), axis(1, Role::Key));
        let all = 0..queries.len();
        let wanted = attention.queries.clone().unwrap_or(all.clone());
        let query_tokens = queries.places().get(wanted.clone())?.to_vec();
        let (depth, width) = (axis(0, Role::Depth).len(), axis(2, Role::Value).len());
        if axis(1, Role::Depth).len() != depth || axis(2, Role::Key).len() != keys.len() {
            return None;
        }
        // Heads, and sets of tokens of their own: along some of their axes the results lie in the pixels.
        let roles = query_roles.iter().chain(key_roles).chain(value_roles);
        let count = roles.filter_map(|role| match role {
            Role::Batch(i) => Some(i + 1),
            _ => None,
        });
        let batches: Vec<[Axis; 3]> = (0..count.max().unwrap_or(0))
            .map(|i| [0, 1, 2].map(|input| axis(input, Role::Batch(i))))
            .collect();
        let extent = |axes: &[Axis; 3]| axes.iter().map(Axis::len).max().unwrap_or(1);
        let extents: Vec<usize> = batches.iter().map(extent).collect();
        let alike =
            |(axes, &n): (&[Axis; 3], &usize)| axes.iter().all(|a| a.len() == n || a.len() == 1);
        let count = extents.iter().try_fold(1_usize, |p, &n| p.checked_mul(n))?;
        if !batches.iter().zip(&extents).all(alike) || count > MOST_HEADS {
            return None;
        }
        let in_pixel = |axes: &[Axis; 3]| axes.iter().any(|a| a.len() > 1 && a.is_in_pixel());
        let mut shape = extents.clone();
        shape.extend([query_tokens.len(), width]);
        let mut is_channel: Vec<bool> = batches.iter().map(in_pixel).collect();
        is_channel.extend([false, true]);
        let (mut axes, pixels, channels) = row_major(&shape, &is_channel);
        let mut map = [pixels, 1, channels];
        // Results lie where their queries do, if these are all pixels of their map.
        let mut in_place = axes.clone();
        for (i, (axis, &channel)) in in_place.iter_mut().zip(&is_channel).enumerate() {
            match batches.get(i) {
                Some([query, ..]) if !channel => *axis = query.clone(),
                None if !channel => *axis = queries.clone(),
                _ => {}
            }
        }
        let [height, columns, _] = self.graph.shape(query.node);
        let candidate = View::new(0, in_place.clone());
        if candidate.shape() == shape
            && query.first[0] == 0
            && candidate.is_whole([height, columns, channels])
        {
            (axes, map) = (in_place, [height, columns, channels]);
        }
        let (result_width, results) = (axes.pop()?, axes.pop()?);
        let firsts = |place: Place, all: Vec<Axis>| -> Vec<Place> {
            let mut firsts = vec![place];
            for (axis, &n) in all.iter().zip(&extents) {
                let along = axis.places();
                let next = |[pixel, channel]: Place| {
                    let step = |i: usize| along[if along.len() == 1 { 0 } else { i }];
                    (0..n)
                        .map(|i| [pixel + step(i)[0], channel + step(i)[1]])
                        .collect::<Vec<_>>()
                };
                firsts = firsts.into_iter().flat_map(next).collect();
            }
            firsts
        };
        let of_input = |i: usize| {
            firsts(
                views[i].0.first,
                batches.iter().map(|b| b[i].clone()).collect(),
            )
        };
        let all = [
            of_input(0),
            of_input(1),
            of_input(2),
            firsts([0, 0], axes.clone()),
        ];
        let mut heads = Heads {
            heads: Vec::with_capacity(count),
            tokens: [
                query_tokens,
                keys.places(),
                axis(2, Role::Key).places(),
                results.places(),
            ],
            depth,
            width,
            biases: Vec::new(),
        };
        let scale = attention.scale * query.factor * key.factor;
        heads.heads.extend((0..count).map(|i| Head {
            first: all.each_ref().map(|firsts| firsts[i]),
            scale,
            biases: Vec::new(),
        }));
        let lengths = [queries.len(), keys.len()];
        for (roles, tensor) in &attention.factors {
            let tables = tables(roles, tensor, &extents, [1, 1])?;
            for (head, (_, values)) in heads.heads.iter_mut().zip(tables.iter()) {
                head.scale *= values.first()?;
            }
        }
        for (roles, tensor) in &attention.biases {
            let mut numbers = std::collections::HashMap::new();
            for (head, (table, values)) in heads
                .heads
                .iter_mut()
                .zip(tables(roles, tensor, &extents, lengths)?)
            {
                let next = heads.biases.len();
                let number = *numbers.entry(table).or_insert(next);
                if number == next {
                    let rows = wanted.start * keys.len()..wanted.end * keys.len();
                    heads.biases.push(values.get(rows)?.to_vec());
                }
                head.biases.push(number);
            }
        }
        let operation = Operation::Attention(heads);
        let inputs = [query.node, key.node, value.node];
        let result = self.graph.add(&node.name, operation, &inputs, map)?;
        // Queries may lie along several axes of the result, one behind the other.
        let mut axes_of_result = Vec::new();
        let mut counts: Vec<usize> = Vec::new();
        let mut at = None;
        for (&role, n) in attention.output.iter().zip(self.shape(node.id.into())?) {
            match role {
                Role::Batch(i) => axes_of_result.push(axes.get(i)?.clone()),
                Role::Query => {
                    counts.push(n);
                    match at {
                        None => {
                            at = Some(axes_of_result.len());
                            axes_of_result.push(results.clone());
                        }
                        Some(at) if at + 1 == axes_of_result.len() => {}
                        Some(_) => return None,
                    }
                }
                Role::Value => axes_of_result.push(result_width.clone()),
                Role::Unit => axes_of_result.push(Axis::ONE),
                Role::Key | Role::Depth => return None,
            }
        }
        let view = View {
            factor: value.factor,
            ..View::new(result, axes_of_result)
        };
        match at {
            Some(at) if counts.len() > 1 => view.reshaped(at, 1, &counts),
            _ => Some(view),
        }
    }

    /// A tensor of tokens whose channels, the axis of the role `channels`, lie in a row: a copy, if they did not.
    fn tokens(
        &mut self,
        name: &str,
        outlet: OutletId,
        roles: &[Role],
        channels: Role,
    ) -> Option<View> {
        let is_channel: Vec<bool> = roles.iter().map(|&role| role == channels).collect();
        if self.constant(outlet).is_some() {
            return self.constant_map(outlet, &is_channel);
        }
        let Some(view) = self.known(outlet) else {
            return self.operand(name, outlet, &is_channel);
        };
        let in_row = |(axis, &channel): (&Axis, &bool)| !channel || axis.run() == axis.len();
        if view.axes.len() != roles.len() || view.axes.iter().zip(&is_channel).all(in_row) {
            return (view.axes.len() == roles.len()).then_some(view);
        }
        let factor = view.factor;
        let copy = self.arranged(
            name,
            &View {
                factor: 1.0,
                ..view
            },
            &is_channel,
        )?;
        Some(View { factor, ..copy })
    }
}

/// For each head, the part of a constant of scores that is its own, of so many queries and keys, and a number by which
/// parts that are the same are known.
fn tables(
    roles: &[Role],
    tensor: &Tensor,
    extents: &[usize],
    [queries, keys]: [usize; 2],
) -> Option<Vec<(usize, Vec<f32>)>> {
    let values = tensor.as_plain_ram()?.as_slice::<f32>().ok()?;
    let shape = tensor.shape();
    // Values from one head, query and key to the next.
    let mut batch_strides = vec![0; extents.len()];
    let (mut query_stride, mut key_stride) = (0, 0);
    let mut stride = 1;
    for (role, &n) in roles.iter().zip(shape).rev() {
        match role {
            _ if n == 1 => {}
            Role::Batch(i) if extents.get(*i) == Some(&n) => batch_strides[*i] = stride,
            Role::Query if n == queries => query_stride = stride,
            Role::Key if n == keys => key_stride = stride,
            _ => return None,
        }
        stride *= n;
    }
    let mut starts = vec![0];
    for (&n, &stride) in extents.iter().zip(&batch_strides) {
        let next = |start: usize| (0..n).map(move |i| start + i * stride);
        starts = starts.into_iter().flat_map(next).collect();
    }
    let table = |start: usize| {
        let rows = (0..queries).flat_map(|q| (0..keys).map(move |k| (q, k)));
        let value = |(q, k)| values[start + q * query_stride + k * key_stride];
        (start, rows.map(value).collect())
    };
    Some(starts.into_iter().map(table).collect())
}
