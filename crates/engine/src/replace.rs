//! Which nodes of tract's graph run together, and the graph with a region in the place of each such part.

use std::collections::{HashMap, HashSet};

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use super::assemble::assemble;
use super::lower::Lowering;
use super::lower::patterns::Patterns;
use super::refusal::Refusal;
use super::region::{Output, Region};
use super::simd::InstructionSet;

/// A region and the tensors at its borders.
struct Found {
    region: Region,
    name: String,
    inputs: Vec<OutletId>,
    outputs: Vec<OutletId>,
}

/// What the new model is made of.
enum Part {
    /// A node of the old model, as it is.
    Node(usize),
    Region(Found),
}

/// `model` with regions in the place of what the engine knows, of which none has packed weights of more than `most` bytes.
///
/// # Errors
/// [`Refusal::Weights`] if one would have more.
pub(super) fn replace(
    model: TypedModel,
    isa: InstructionSet,
    most: u64,
) -> TractResult<TypedModel> {
    let parts = find_parts(&model, isa, most)?;
    if !parts.iter().any(|part| matches!(part, Part::Region(_))) {
        return Ok(model);
    }
    let mut target = TypedModel {
        symbols: model.symbols.clone(),
        properties: model.properties.clone(),
        ..TypedModel::default()
    };
    let mut known: HashMap<OutletId, OutletId> = HashMap::new();
    for &input in model.input_outlets()? {
        let name = &model.node(input.node).name;
        let fact = model.outlet_fact(input)?.clone();
        known.insert(input, target.add_source(name.clone(), fact)?);
    }
    let given = model.nodes().iter().filter(|n| n.op_is::<Const>());
    let given: Vec<Part> = given.map(|node| Part::Node(node.id)).collect();
    let find = |outlet: &OutletId, known: &HashMap<OutletId, OutletId>| {
        let found = known.get(outlet).copied();
        found.with_context(|| format!("{outlet:?} is used before it is made"))
    };
    for part in given.into_iter().chain(parts) {
        let (name, op, inputs, outputs): (_, Box<dyn TypedOp>, _, _) = match part {
            Part::Node(id) => {
                let node = model.node(id);
                let outputs = (0..node.outputs.len()).map(|slot| OutletId::new(id, slot));
                let inputs = node.inputs.to_vec();
                (
                    node.name.clone(),
                    node.op.clone(),
                    inputs,
                    outputs.collect(),
                )
            }
            Part::Region(found) => {
                let region = Box::new(found.region);
                (found.name, region, found.inputs, found.outputs)
            }
        };
        let inputs = inputs.iter().map(|i| find(i, &known));
        let inputs = inputs.collect::<TractResult<TVec<_>>>()?;
        let wires = target.wire_node(name, op, &inputs)?;
        known.extend(outputs.into_iter().zip(wires));
    }
    let outputs = model.output_outlets()?.iter().map(|o| find(o, &known));
    let outputs = outputs.collect::<TractResult<Vec<_>>>()?;
    target.select_output_outlets(&outputs)?;
    target.compact()?;
    Ok(target)
}

/// Gathers nodes into regions such that each can run as one operator: nodes are taken in an order of
/// evaluation in which those that the engine knows come together.
fn find_parts(model: &TypedModel, isa: InstructionSet, most: u64) -> TractResult<Vec<Part>> {
    let order = model.eval_order()?;
    let mut waiting: Vec<usize> = order
        .into_iter()
        .filter(|&id| !is_given(model.node(id)))
        .collect();
    let mut pending: HashSet<usize> = waiting.iter().copied().collect();
    let mut parts = Vec::new();
    let mut patterns = Patterns::find(model)?;
    while !waiting.is_empty() {
        let ready = |id: usize, pending: &HashSet<usize>| {
            let inputs = &model.node(id).inputs;
            inputs.iter().all(|i| !pending.contains(&i.node))
        };
        let mut lowering = Lowering::new(model);
        let mut members = Vec::new();
        for &id in &waiting {
            let node = model.node(id);
            if let Some(pattern) = patterns.ending(id) {
                let is_ready = pattern.inputs.iter().all(|i| !pending.contains(&i.node));
                let whole = pattern.inside.iter().all(|inner| pending.contains(inner));
                if is_ready && whole && lowering.take_pattern(node, pattern) {
                    for &id in pattern.inside.iter().chain([&id]) {
                        pending.remove(&id);
                        members.push(id);
                    }
                }
            } else if !patterns.is_inside(id) && ready(id, &pending) && lowering.take(node) {
                pending.remove(&id);
                members.push(id);
            }
        }
        waiting.retain(|id| pending.contains(id));
        if lowering.graph.is_worthwhile() {
            parts.push(Part::Region(close(model, isa, most, lowering, &members)?));
        } else {
            parts.extend(members.into_iter().map(Part::Node));
        }
        // What is ready now is none of the engine's; patterns are cut only where nothing else is.
        let is_free = |id: usize| ready(id, &pending) && !patterns.is_inside(id);
        let cut = !waiting.iter().any(|&id| is_free(id));
        let (others, rest): (Vec<usize>, Vec<usize>) = waiting
            .into_iter()
            .partition(|&id| is_free(id) || cut && ready(id, &pending));
        ensure!(
            !others.is_empty() || rest.is_empty(),
            "the graph has a cycle"
        );
        for &id in &others {
            pending.remove(&id);
            patterns.forget(id);
        }
        parts.extend(others.into_iter().map(Part::Node));
        waiting = rest;
    }
    Ok(parts)
}

/// Whether a node's value is there before the graph runs.
fn is_given(node: &TypedNode) -> bool {
    node.op_is::<Const>() || node.op_is::<TypedSource>()
}

fn close(
    model: &TypedModel,
    isa: InstructionSet,
    most: u64,
    mut lowering: Lowering,
    members: &[usize],
) -> TractResult<Found> {
    let mut outputs = Vec::new();
    let mut nodes = Vec::new();
    let mut tensors = Vec::new();
    for &id in members {
        let outlet = OutletId::new(id, 0);
        let is_output = model.output_outlets()?.contains(&outlet);
        let successors = &model.node(id).outputs[0].successors;
        if is_output || successors.iter().any(|s| !members.contains(&s.node)) {
            let view = lowering.result(outlet);
            let view = view.with_context(|| format!("{} is not known", model.node(id).name))?;
            outputs.push(outlet);
            nodes.push(view.node);
            tensors.push(Output {
                element: lowering.graph.element(view.node),
                view,
            });
        }
    }
    let name = outputs.first().map_or("", |o| &model.node(o.node).name);
    let bytes = lowering.graph.packed_bytes() as u64;
    if bytes > most {
        return Err(Refusal::Weights {
            region: name.to_owned(),
            bytes,
            most,
        }
        .into());
    }
    Ok(Found {
        name: format!("{name}.region"),
        region: Region::new(assemble(lowering.graph, isa, &nodes)?, tensors),
        inputs: lowering.inputs,
        outputs,
    })
}
