//! Where the time of a network goes: the steps of its regions, and what tract runs between them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::eval;

use super::region::Region;
use super::workspace;

/// What one step of a region does and how long it took, or one operator that tract runs.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// Name of the layer, as the graph has it.
    pub name: String,
    /// What it does, in a word; for what tract runs, the name of its operator. `export` is what a region takes beside its
    /// steps: its results are copied into tensors.
    pub kind: Cow<'static, str>,
    /// Shape of its output: height, width, channels.
    pub shape: [usize; 3],
    /// Multiply-adds for one picture, as its definition has them; 0 for what tract runs.
    pub multiply_adds: usize,
    /// Bytes of its weights, as they are kept; 0 for what tract runs.
    pub weight_bytes: usize,
    /// Time that it took in all runs since measuring began.
    pub time: Duration,
}

/// Measures the steps and operators of a network.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Time of each node.
    nodes: Vec<Duration>,
}

impl Profile {
    /// Starts to measure `state`, which from now on runs on one thread.
    pub fn start(state: &mut TypedSimpleState) -> Profile {
        let model = state.plan().model().clone();
        for node in model.nodes() {
            if let (Some(region), Some(workspace)) =
                (node.op_as::<Region>(), workspace(state, node.id))
            {
                workspace.profile = Some(vec![Duration::ZERO; region.plan().steps().len()]);
            }
        }
        Profile {
            nodes: vec![Duration::ZERO; model.nodes().len()],
        }
    }

    /// Runs the state that it was [started](Self::start) for on `inputs`.
    ///
    /// # Errors
    /// Those of the operators.
    pub fn run(
        &mut self,
        state: &mut TypedSimpleState,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            let start = Instant::now();
            let outputs = eval(context, state, node, inputs);
            if let Some(time) = self.nodes.get_mut(node.id) {
                *time += start.elapsed();
            }
            outputs
        })
    }

    /// What was measured, in the order in which it runs.
    ///
    /// # Errors
    /// If the graph has no order.
    pub fn layers(&self, state: &mut TypedSimpleState) -> TractResult<Vec<LayerTime>> {
        let model = state.plan().model().clone();
        let mut layers = Vec::new();
        for id in model.eval_order()? {
            let node = model.node(id);
            let mut rest = self.nodes.get(id).copied().unwrap_or_default();
            let (Some(region), Some(workspace)) = (node.op_as::<Region>(), workspace(state, id))
            else {
                if !node.inputs.is_empty() {
                    layers.push(other(node, node.op.name(), rest));
                }
                continue;
            };
            let times = workspace.profile.iter().flatten();
            for (placed, &time) in region.plan().steps().iter().zip(times) {
                let shape = placed.shape;
                layers.push(LayerTime {
                    name: placed.name.clone(),
                    kind: placed.step.kind().into(),
                    shape: [shape.height, shape.width, shape.channels],
                    multiply_adds: placed.step.multiply_adds(&shape),
                    weight_bytes: placed.step.weight_bytes(),
                    time,
                });
                rest = rest.saturating_sub(time);
            }
            layers.push(other(node, "export".into(), rest));
        }
        Ok(layers)
    }
}

/// The row of a node, or of what a region takes beside its steps.
fn other(node: &TypedNode, kind: Cow<'static, str>, time: Duration) -> LayerTime {
    let fact = node.outputs.first().map(|output| &output.fact);
    let shape = fact.and_then(|fact| fact.shape.as_concrete());
    LayerTime {
        name: node.name.clone(),
        kind,
        shape: match shape {
            Some(&[_, channels, height, width]) => [height, width, channels],
            Some(&[.., height, width, channels]) => [height, width, channels],
            Some(&[.., width, channels]) => [1, width, channels],
            Some(&[channels]) => [1, 1, channels],
            _ => [1, 1, 1],
        },
        multiply_adds: 0,
        weight_bytes: 0,
        time,
    }
}
