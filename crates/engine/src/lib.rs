//! Convolutional networks at the speed of the processor: a pass over tract's graph that puts our own
//! kernels in the place of its operators.
//!
//! ```text
//! tract's graph ─► lower ─► graph ─► fuse ─► assemble ─► plan ─► region, an operator of tract
//!                  which     of maps  into    a step     order,  with one workspace
//!                  nodes              one     each       memory  a worker
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
mod assemble;
#[allow(unsafe_code)]
mod attention;
#[allow(unsafe_code)]
mod buffer;
#[allow(unsafe_code)]
mod convolution;
#[allow(unsafe_code)]
mod copy;
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
#[allow(unsafe_code)]
mod normalize;
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
mod profile;
pub mod proto;
mod quantized;
mod refusal;
#[allow(unsafe_code)]
mod region;
mod replace;
mod rounding;
#[allow(unsafe_code)]
mod simd;
#[allow(unsafe_code)]
mod step;
mod strided;
#[allow(unsafe_code)]
mod winograd;

#[cfg(test)]
mod tests;

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, MaxPool, SumPool};

use operator::IntegerOp;
pub use operator::{framework, named_in};
use plan::Workspace;
pub use profile::{LayerTime, Profile};
pub use refusal::Refusal;
use region::{Region, RegionState};
use replace::replace;
pub use rounding::canonical;
use simd::InstructionSet;
pub use strided::declutter;

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

/// Lets so many threads compute each picture of `state` together; one of them is the caller's. Results are the same to the
/// bit for any number.
///
/// # Errors
/// If the system has not as much memory.
pub fn set_threads(state: &mut TypedSimpleState, threads: usize) -> TractResult<()> {
    let model = state.plan().model().clone();
    for node in model.nodes() {
        if let (Some(region), Some(workspace)) = (node.op_as::<Region>(), workspace(state, node.id))
        {
            region.plan().set_threads(workspace, threads)?;
        }
    }
    Ok(())
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
