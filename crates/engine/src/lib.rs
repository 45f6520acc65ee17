//! Convolutional networks at the speed of the processor: a pass over tract's graph that puts our own
//! kernels in the place of its operators.
//!
//! ```text
//! tract's graph ─► lower ─► graph ─► plan ─► region, an operator of tract
//!                  which     fused    order,  with one workspace
//!                  nodes     steps    memory  a worker
//! ```
//!
//! Inside a region maps lie channels last, padded to whole vectors; BatchNorm, clamps and residual sums
//! are parts of the convolutions; 3 x 3 convolutions with stride 1 go by Winograd's algorithm. A graph that
//! has operators which the engine does not know keeps them, between regions.
//!
//! The environment variable `TL_ENGINE` chooses the kernels: `avx512`, `avx2`, `neon` or `portable`, or
//! `tract` for a graph that tract runs alone. Without it, the fastest that the processor has.

#[allow(unsafe_code)]
mod activation;
#[allow(unsafe_code)]
mod buffer;
#[allow(unsafe_code)]
mod convolution;
#[allow(unsafe_code)]
mod depthwise;
mod fuse;
#[allow(unsafe_code)]
mod gemm;
mod geometry;
mod graph;
#[allow(unsafe_code)]
mod integer;
mod lower;
mod map;
mod operator;
#[allow(unsafe_code)]
mod peak;
#[allow(unsafe_code)]
mod pixelwise;
#[allow(unsafe_code)]
mod plan;
#[allow(unsafe_code)]
mod pool;
mod products;
pub mod proto;
mod quantized;
mod refusal;
#[allow(unsafe_code)]
mod region;
mod rounding;
#[allow(unsafe_code)]
mod simd;
#[allow(unsafe_code)]
mod step;
#[allow(unsafe_code)]
mod winograd;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, MaxPool, SumPool};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use lower::Lowering;
use operator::IntegerOp;
pub use operator::{framework, named_in};
use plan::Workspace;
pub use refusal::Refusal;
use region::{Output, Region, RegionState};
pub use rounding::canonical;
use simd::InstructionSet;

/// Name of the environment variable that chooses the kernels.
const VARIABLE: &str = "TL_ENGINE";

/// Who runs the convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// tract alone.
    Tract,
    /// Our kernels, for this instruction set.
    Kernels(InstructionSet),
}

impl Engine {
    /// What the user asked for, or else the fastest.
    fn chosen() -> Result<Engine, String> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => Engine::parse(&name),
            _ => Ok(Engine::Kernels(InstructionSet::best())),
        }
    }

    fn parse(name: &str) -> Result<Engine, String> {
        if name == "tract" {
            return Ok(Engine::Tract);
        }
        let sets = InstructionSet::available();
        let found = sets.iter().find(|set| set.name() == name);
        found.map(|&set| Engine::Kernels(set)).ok_or_else(|| {
            let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
            format!(
                "{VARIABLE} is `{name}`; this processor has tract, {}",
                names.join(", ")
            )
        })
    }

    fn name(self) -> &'static str {
        match self {
            Engine::Tract => "tract",
            Engine::Kernels(set) => set.name(),
        }
    }
}

/// The kernels that networks run with: `avx512`, `avx2`, `neon`, `portable` or `tract`. Results are the
/// same to the bit only where this is the same.
pub fn kernels() -> &'static str {
    Engine::chosen().map_or("tract", Engine::name)
}

/// Floating-point operations in a second that one core reaches in registers with the chosen kernels; none
/// where tract runs alone.
pub fn peak_flops() -> Option<f64> {
    match Engine::chosen() {
        Ok(Engine::Kernels(isa)) => Some(peak::peak_flops(isa)),
        _ => None,
    }
}

/// A quantised model with operators on bytes where there can be, for [`optimize`]; none where there is none, or where
/// tract runs alone.
pub fn in_integers(model: &pb::ModelProto) -> Option<pb::ModelProto> {
    match Engine::chosen() {
        Ok(Engine::Kernels(_)) => quantized::in_integers(model),
        _ => None,
    }
}

/// Puts our operators in the place of those that they can replace in a decluttered model of batch 1. Of a model whose
/// packed weights take more than `most_weight_bytes` in a region, nothing is packed.
///
/// # Errors
/// [`Refusal::Weights`] if they take more, and what tract says of a graph that it cannot wire. If `TL_ENGINE` names
/// what this processor has not.
pub fn optimize(model: TypedModel, most_weight_bytes: u64) -> TractResult<TypedModel> {
    match Engine::chosen() {
        Ok(Engine::Tract) => Ok(model),
        Ok(Engine::Kernels(isa)) => {
            let model = replace(model, isa, most_weight_bytes)?;
            let left = model.nodes().iter().find(|node| node.op_is::<IntegerOp>());
            match left {
                Some(node) => bail!("{} is not in a region", node.name),
                None => Ok(model),
            }
        }
        Err(problem) => bail!("{problem}"),
    }
}

/// Refuses windows, as a file has them, that no map is made for: far larger than it, or with more padding than map and
/// window together. Neither tract nor the engine checks what it computes of such numbers.
pub fn check_windows(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        let (spec, is_transposed) = if let Some(op) = node.op_as::<Conv>() {
            (&op.pool_spec, false)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            (&op.pool_spec, false)
        } else if let Some(op) = node.op_as::<SumPool>() {
            (&op.pool_spec, false)
        } else if let Some(op) = node.op_as::<Deconv>() {
            (&op.pool_spec, true)
        } else {
            continue;
        };
        let fact = model.outlet_fact(node.inputs[0])?;
        let Some(shape) = fact.shape.as_concrete() else {
            continue;
        };
        let shape = spec.data_format.shape(shape)?;
        if let Err(problem) = geometry::check(spec, shape.hw_dims(), is_transposed) {
            return Err(Refusal::Windows {
                node: node.name.clone(),
                problem,
            }
            .into());
        }
    }
    Ok(())
}

/// What one step of a region does and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// Name of the layer, as the graph has it.
    pub name: String,
    /// What it does, in a word.
    pub kind: &'static str,
    /// Shape of its output: height, width, channels.
    pub shape: [usize; 3],
    /// Multiply-adds for one picture, as its definition has them.
    pub multiply_adds: usize,
    /// Bytes of its weights, as they are kept.
    pub weight_bytes: usize,
    /// Time that it took in all runs since measuring began.
    pub time: Duration,
}

/// Starts to measure the steps of all regions of `state`.
pub fn start_profile(state: &mut TypedSimpleState) {
    let model = state.plan().model().clone();
    for node in model.nodes() {
        let (Some(region), Some(workspace)) = (node.op_as::<Region>(), workspace(state, node.id))
        else {
            continue;
        };
        workspace.profile = Some(vec![Duration::ZERO; region.plan().steps().len()]);
    }
}

/// What was measured since [`start_profile`], in the order in which steps run.
pub fn profile(state: &mut TypedSimpleState) -> Vec<LayerTime> {
    let model = state.plan().model().clone();
    let mut layers = Vec::new();
    for node in model.nodes() {
        let (Some(region), Some(workspace)) = (node.op_as::<Region>(), workspace(state, node.id))
        else {
            continue;
        };
        let times = workspace.profile.iter().flatten();
        for (placed, &time) in region.plan().steps().iter().zip(times) {
            let shape = placed.shape;
            layers.push(LayerTime {
                name: placed.name.clone(),
                kind: placed.step.kind(),
                shape: [shape.height, shape.width, shape.channels],
                multiply_adds: placed.step.multiply_adds(&shape),
                weight_bytes: placed.step.weight_bytes(),
                time,
            });
        }
    }
    layers
}

/// Bytes of buffers that one worker keeps for the regions of `model`.
pub fn workspace_bytes(model: &TypedModel) -> usize {
    let regions = model.nodes().iter().filter_map(|n| n.op_as::<Region>());
    regions.map(|r| r.plan().workspace_bytes()).sum()
}

fn workspace(state: &mut TypedSimpleState, node: usize) -> Option<&mut Workspace> {
    let state = state.op_states.get_mut(node)?.as_mut()?;
    Some(&mut state.downcast_mut::<RegionState>()?.workspace)
}

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

fn replace(model: TypedModel, isa: InstructionSet, most: u64) -> TractResult<TypedModel> {
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
    while !waiting.is_empty() {
        let ready = |id: usize, pending: &HashSet<usize>| {
            let inputs = &model.node(id).inputs;
            inputs.iter().all(|i| !pending.contains(&i.node))
        };
        let mut lowering = Lowering::new(model);
        let mut members = Vec::new();
        waiting.retain(|&id| {
            let taken = ready(id, &pending) && lowering.take(model.node(id));
            if taken {
                pending.remove(&id);
                members.push(id);
            }
            !taken
        });
        if lowering.graph.is_worthwhile() {
            parts.push(Part::Region(close(model, isa, most, lowering, &members)?));
        } else {
            parts.extend(members.into_iter().map(Part::Node));
        }
        // What is ready now is none of the engine's.
        let (others, rest): (Vec<usize>, Vec<usize>) =
            waiting.into_iter().partition(|&id| ready(id, &pending));
        ensure!(
            !others.is_empty() || rest.is_empty(),
            "the graph has a cycle"
        );
        for &id in &others {
            pending.remove(&id);
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
    lowering: Lowering,
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
            let lowered = &lowering.known[&outlet];
            let shape = model.outlet_fact(outlet)?.shape.as_concrete();
            let shape: TVec<usize> = shape.context("a shape is not fixed")?.into();
            let map = lowering.graph.shape(lowered.node);
            ensure!(
                geometry::product(&map) == geometry::product(&shape),
                "{} is another map than its tensor",
                model.node(id).name
            );
            outputs.push(outlet);
            nodes.push(lowered.node);
            tensors.push(Output {
                shape,
                element: lowering.graph.element(lowered.node),
                axes: lowered.axes.clone(),
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
        region: Region::new(lowering.graph.into_plan(isa, &nodes)?, tensors),
        inputs: lowering.inputs,
        outputs,
    })
}
