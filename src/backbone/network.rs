//! Running a graph: tract's plan, shared by all workers, and one session a worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use tract_onnx::Onnx;
use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact, InferenceModel, InferenceModelExt};
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use super::check;
use super::engine::{self, LayerTime};
use super::memory;
use super::onnx::OnnxGraph;
use super::rounding::canonical;
use crate::error::{Error, Result};

/// A graph made ready to run on one picture at a time; its weights are shared by all sessions.
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    name: String,
    input_shape: [usize; 4],
    output_shapes: Vec<Vec<usize>>,
    run_bytes: u64,
}

impl Network {
    /// Prepares `graph` for an input of shape `input_shape`, batch included.
    ///
    /// # Errors
    /// [`Error::Model`] with the operator and node that cannot be run, with the tensor that is too large, or with the
    /// memory that a run would take, if this machine has less.
    pub fn load(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<Network> {
        require_sizes(graph, input_shape)?;
        let load = |framework: Onnx, proto: &pb::ModelProto| {
            let model = guarded(graph, || {
                let model = analysed(framework, proto, input_shape)?.into_typed()?;
                check_tensors(&model)?;
                engine::check_windows(&model)?;
                let model = model.into_decluttered()?;
                check_tensors(&model)?;
                engine::optimize(model)
            })?;
            let tensors = guarded(graph, || memory::tensor_bytes(&model))?;
            let run_bytes = tensors.saturating_add(engine::workspace_bytes(&model) as u64);
            if let Some(refusal) = memory::refusal(run_bytes) {
                return Err(graph.fail(refusal));
            }
            let plan = guarded(graph, || model.into_optimized()?.into_runnable())?;
            Ok((plan, run_bytes))
        };
        let proto = canonical(graph.proto());
        // What cannot be computed with integers is computed in floats, as any runtime may.
        let integers = guarded(graph, || Ok(engine::in_integers(&proto)));
        let integers = integers.ok().flatten();
        let loaded = integers.map(|proto| load(engine::framework(), &proto));
        let (plan, run_bytes) = match loaded {
            Some(Ok(loaded)) => loaded,
            _ => load(tract_onnx::onnx(), &proto)?,
        };
        let model = plan.model();
        let output_shapes = (0..model.outputs.len())
            .map(|i| Some(model.output_fact(i).ok()?.shape.as_concrete()?.to_vec()))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| graph.fail("its output has no fixed shape; give --input-size"))?;
        Ok(Network {
            plan,
            name: graph.name().to_owned(),
            input_shape,
            output_shapes,
            run_bytes,
        })
    }

    /// Shape of the input, batch included.
    pub fn input_shape(&self) -> [usize; 4] {
        self.input_shape
    }

    /// Shapes of the outputs, batch included.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Bytes of buffers that a session keeps between pictures.
    pub fn session_bytes(&self) -> usize {
        engine::workspace_bytes(self.plan.model())
    }

    /// Bytes that a session takes at most when it runs: its buffers, and the tensors between operators.
    pub fn run_bytes(&self) -> u64 {
        self.run_bytes
    }

    /// Makes the state that one worker needs to run this network.
    ///
    /// # Errors
    /// [`Error::Model`] if tract cannot make it.
    pub fn session(&self) -> Result<Session> {
        let state = self.plan.spawn().map_err(|e| self.fail(&e))?;
        Ok(Session {
            state,
            name: self.name.clone(),
            input_shape: self.input_shape,
        })
    }

    fn fail(&self, error: &TractError) -> Error {
        Error::Model {
            model: self.name.clone(),
            problem: format!("cannot be run: {error:#}"),
        }
    }
}

/// One worker's state of a [`Network`].
pub struct Session {
    state: TypedSimpleState,
    name: String,
    input_shape: [usize; 4],
}

impl Session {
    /// Runs one picture; `input` is f32 in the network's layout, row-major. Appends each output's values,
    /// row-major, to `outputs`, which is emptied first.
    ///
    /// # Errors
    /// [`Error::Model`] if the input has a wrong length or an operator fails.
    pub fn run(&mut self, input: &[f32], outputs: &mut Vec<Vec<f32>>) -> Result<()> {
        let mut run = || -> TractResult<Vec<Vec<f32>>> {
            let tensor = Tensor::from_shape(&self.input_shape, input)?;
            let values = self.state.run(tvec!(tensor.into()))?;
            let vectors = values.iter().map(|v| {
                let v = v.cast_to::<f32>()?;
                Ok(v.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
            });
            vectors.collect()
        };
        let problem = match quietly(|| catch_unwind(AssertUnwindSafe(&mut run))) {
            Ok(Ok(results)) => {
                *outputs = results;
                return Ok(());
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the engine stopped at an operator".to_owned(),
        };
        Err(Error::Model {
            model: self.name.clone(),
            problem: format!("cannot be run: {problem}"),
        })
    }
}

impl Session {
    /// Starts to measure how long each layer takes.
    pub fn start_profile(&mut self) {
        engine::start_profile(&mut self.state);
    }

    /// What the layers took since [`start_profile`](Self::start_profile), in the order in which they run;
    /// nothing for what tract runs.
    pub fn profile(&mut self) -> Vec<LayerTime> {
        engine::profile(&mut self.state)
    }
}

/// Calls into tract for `graph`: an error, and a panic over a graph that it did not expect, become
/// [`Error::Model`].
pub(super) fn guarded<T>(graph: &OnnxGraph, call: impl FnOnce() -> TractResult<T>) -> Result<T> {
    match quietly(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(graph.fail(format!("cannot be run: {error:#}"))),
        Err(_) => {
            Err(graph.fail("cannot be run: it has a graph that the engine does not understand"))
        }
    }
}

thread_local! {
    /// Whether a panic of this thread is an answer, not a fault.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call` without the message and trace that a panic in it would write.
fn quietly<T>(call: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = call();
    QUIET.set(false);
    result
}

/// An operator of `graph` that cannot be run, with its node's name.
pub(super) fn unknown_operator(graph: &OnnxGraph) -> Option<String> {
    let parsed = guarded(graph, || tract_onnx::onnx().parse(graph.proto(), None)).ok()?;
    let mut nodes = parsed.model.nodes.iter();
    nodes.find_map(|node| {
        let op = node.op_as::<UnimplementedOp>()?;
        // The engine calls it `Unimplemented(Name)`.
        let shown = op.name();
        let inner = shown
            .strip_prefix("Unimplemented(")
            .and_then(|name| name.strip_suffix(')'));
        Some(format!(
            "the operator {} of the node `{}`",
            inner.unwrap_or(&shown),
            node.name
        ))
    })
}

/// Refuses a graph that would make too much of its constants, which the engine computes before anything else is known.
fn require_sizes(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<()> {
    let proto = graph.proto().graph.as_ref();
    match proto.and_then(|proto| check::oversize(proto, input_shape)) {
        Some(problem) => Err(graph.fail(problem)),
        None => Ok(()),
    }
}

/// Most values of one tensor: 1 GiB of float32, some hundred times what any base makes of a picture.
const MOST_VALUES: usize = 1 << 28;

fn is_too_large(shape: &[usize]) -> bool {
    // A dimension of 0 makes no other one harmless: parts of a shape are multiplied, too.
    let values = shape
        .iter()
        .try_fold(1_usize, |values, &dim| values.checked_mul(dim.max(1)));
    values.is_none_or(|values| values > MOST_VALUES)
}

/// The model of `proto` for an input of shape `input_shape`, with the shapes that can be found front to back.
fn analysed(
    framework: Onnx,
    proto: &pb::ModelProto,
    input_shape: [usize; 4],
) -> TractResult<InferenceModel> {
    ensure!(
        !is_too_large(&input_shape),
        "its input is too large: {input_shape:?}"
    );
    let mut model = framework
        .model_for_proto_model(proto)?
        .with_input_fact(0, f32::fact(input_shape).into())?;
    check_constants(&mut model)?;
    Ok(model)
}

/// Finds shapes front to back, and stops before tract computes a tensor of constants that is too large. What cannot be
/// found so is left to tract's own analysis.
fn check_constants(model: &mut InferenceModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let (inputs, outputs) = model.node_facts(id)?;
        let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        let (inputs, outputs) = (inputs.iter().collect(), outputs.iter().collect());
        let given: TVec<&InferenceFact> = inputs;
        let known: TVec<&InferenceFact> = outputs;
        if given.is_empty() {
            continue;
        }
        let node = model.node_mut(id);
        let found = node.op.infer_facts(given.clone(), known.clone(), tvec!());
        let Ok((_, found, _)) = found else {
            continue;
        };
        for fact in &found {
            if let Some(shape) = fact.shape.concretize() {
                let dims = shape.iter().map(|dim| dim.to_usize().ok());
                let dims = dims.collect::<Option<Vec<usize>>>();
                let sound = dims.is_some_and(|dims| !is_too_large(&dims));
                // A dimension with a symbol has no size yet.
                let open = shape.iter().any(|dim| dim.to_i64().is_err());
                ensure!(
                    sound || open,
                    "the tensor that `{}` makes cannot be so large: {shape:?}",
                    node.name
                );
            }
        }
        // With the values of constants, which later shapes may depend on.
        if let Ok((_, found, _)) = node.op.infer(given, known, tvec!()) {
            for (slot, fact) in found.into_iter().enumerate() {
                model.set_outlet_fact(OutletId::new(id, slot), fact)?;
            }
        }
    }
    Ok(())
}

/// Refuses a model with a tensor that is too large.
fn check_tensors(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            if let Some(shape) = output.fact.shape.as_concrete() {
                ensure!(
                    !is_too_large(shape),
                    "the tensor that `{}` makes is too large: {shape:?}",
                    node.name
                );
            }
        }
    }
    Ok(())
}

/// Shapes of all tensors of `graph`, batch included, for an input of shape `input_shape`; tensors whose
/// shape depends on values are left out.
pub(super) fn tensor_shapes(
    graph: &OnnxGraph,
    input_shape: [usize; 4],
) -> Result<HashMap<String, Vec<usize>>> {
    require_sizes(graph, input_shape)?;
    let shapes: HashMap<String, Vec<usize>> = guarded(graph, || {
        let parsed = tract_onnx::onnx().parse(&canonical(graph.proto()), None)?;
        let mut model = parsed.model;
        model.set_input_fact(0, f32::fact(input_shape).into())?;
        check_constants(&mut model)?;
        // Shapes are wanted for as many tensors as can be had: a tensor that cannot be analysed has none.
        let _ = model.analyse(false);
        let mut shapes = HashMap::new();
        for (name, outlet) in parsed.outlets_by_name {
            if let Some(shape) = model.outlet_fact(outlet)?.shape.as_concrete_finite()? {
                shapes.insert(name, shape.to_vec());
            }
        }
        Ok(shapes)
    })?;
    match shapes.iter().find(|(_, shape)| is_too_large(shape)) {
        Some((name, shape)) => {
            Err(graph.fail(format!("its tensor `{name}` is too large: {shape:?}")))
        }
        None => Ok(shapes),
    }
}
