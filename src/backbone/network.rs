//! Runs a graph: tract's plan, shared by all workers, and one session per worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use cnn_engine::{LayerTime, Profile, Refusal, canonical};
use tract_onnx::Onnx;
use tract_onnx::pb;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact, InferenceModel, InferenceModelExt};

use super::check;
use super::faults::{mend_model, mend_nodes};
use super::import::{NEWEST_KNOWN, unsupported};
use super::memory;
use super::onnx::OnnxGraph;
use super::quantize::unrounded;
use crate::error::{Error, Result};

/// Why there is no session.
const NO_ROOM: &str =
    "not enough memory or threads to run it; close other programs, or use fewer --workers";

/// A graph prepared to run on one image at a time; its weights are shared by all sessions.
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
        if let Some(problem) = unsupported(graph) {
            return Err(graph.fail(problem));
        }
        require_sizes(graph, input_shape)?;
        let load = |framework: Onnx, proto: &pb::ModelProto| {
            let model = guarded(graph, || {
                let model = analysed(framework, proto, input_shape)?.into_typed()?;
                check_tensors(&model)?;
                cnn_engine::check_windows(&model)?;
                let model = cnn_engine::declutter(mend_model(model)?)?;
                check_tensors(&model)?;
                cnn_engine::optimize(model, memory::free_bytes().unwrap_or(u64::MAX))
            })?;
            let tensors = guarded(graph, || memory::tensor_bytes(&model))?;
            let run_bytes = tensors.saturating_add(cnn_engine::workspace_bytes(&model) as u64);
            if let Some(refusal) = memory::refusal(run_bytes) {
                return Err(graph.fail(refusal));
            }
            let plan = guarded(graph, || model.into_optimized()?.into_runnable())?;
            Ok((plan, run_bytes))
        };
        let proto = mend_nodes(canonical(graph.proto()));
        // What cannot be computed with integers is computed in floats, as any runtime may.
        let integers = guarded(graph, || Ok(cnn_engine::in_integers(&proto)));
        let integers = integers.ok().flatten();
        let loaded = integers.map(|proto| load(cnn_engine::framework(), &proto));
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

    /// Bytes of buffers that a session keeps between images.
    pub fn session_bytes(&self) -> usize {
        cnn_engine::workspace_bytes(self.plan.model())
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
        let state = self.plan.spawn().map_err(|e| Error::Engine {
            model: self.name.clone(),
            problem: NO_ROOM.to_owned(),
            detail: format!("{e:#}"),
        })?;
        Ok(Session {
            profile: None,
            state,
            name: self.name.clone(),
            input_shape: self.input_shape,
        })
    }
}

/// The output of `graph` for several images at once, row-major, as a plain runtime computes it: without the engine, and in
/// floats where integers would be rounded. `input` is of the shape `input_shape`, batch included.
///
/// # Errors
/// [`Error::Engine`] if it cannot run on that many.
pub(crate) fn run_batch(
    graph: &OnnxGraph,
    input_shape: [usize; 4],
    input: &[f32],
) -> Result<Vec<f32>> {
    let floats = graph.is_quantized().then(|| unrounded(graph));
    let graph = floats.as_ref().unwrap_or(graph);
    require_sizes(graph, input_shape)?;
    guarded(graph, || {
        let model = analysed(tract_onnx::onnx(), graph.proto(), input_shape)?.into_typed()?;
        check_tensors(&model)?;
        cnn_engine::check_windows(&model)?;
        let plan = model.into_optimized()?.into_runnable()?;
        let tensor = Tensor::from_shape(&input_shape, input)?;
        let values = plan.run(tvec!(tensor.into()))?;
        let values = values[0].cast_to::<f32>()?;
        Ok(values.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    })
}

/// One worker's state of a [`Network`].
pub struct Session {
    state: TypedSimpleState,
    profile: Option<Profile>,
    name: String,
    input_shape: [usize; 4],
}

impl Session {
    /// Runs one image; `input` is f32 in the network's layout, row-major. Appends each output's values,
    /// row-major, to `outputs`, which is emptied first.
    ///
    /// # Errors
    /// [`Error::Model`] if the input has a wrong length or an operator fails.
    pub fn run(&mut self, input: &[f32], outputs: &mut Vec<Vec<f32>>) -> Result<()> {
        let mut run = || -> TractResult<Vec<Vec<f32>>> {
            let tensor = Tensor::from_shape(&self.input_shape, input)?;
            let inputs = tvec!(tensor.into());
            let values = match &mut self.profile {
                Some(profile) => profile.run(&mut self.state, inputs)?,
                None => self.state.run(inputs)?,
            };
            let vectors = values.iter().map(|v| {
                let v = v.cast_to::<f32>()?;
                Ok(v.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
            });
            vectors.collect()
        };
        let detail = match quietly(|| catch_unwind(AssertUnwindSafe(&mut run))) {
            Ok(Ok(results)) => {
                *outputs = results;
                return Ok(());
            }
            Ok(Err(error)) => match own_words(&error) {
                Some(problem) => {
                    return Err(Error::Model {
                        model: self.name.clone(),
                        problem,
                    });
                }
                None => format!("{error:#}"),
            },
            Err(panic) => panic_text(&*panic),
        };
        let place = match quoted_node(&detail) {
            Some(node) => format!("the node `{node}`"),
            None => "one of its nodes".to_owned(),
        };
        Err(Error::Engine {
            model: self.name.clone(),
            problem: format!(
                "{place} failed on an image; export the model again, or choose a --feature-layer before it"
            ),
            detail,
        })
    }
}

impl Session {
    /// Lets so many threads compute each image together; results are the same to the bit.
    ///
    /// # Errors
    /// [`Error::Engine`] if there is not enough memory.
    pub fn set_threads(&mut self, threads: usize) -> Result<()> {
        let set = cnn_engine::set_threads(&mut self.state, threads);
        set.map_err(|e| Error::Engine {
            model: self.name.clone(),
            problem: NO_ROOM.to_owned(),
            detail: format!("{e:#}"),
        })
    }

    /// Starts to measure the time of each layer, on one thread.
    pub fn start_profile(&mut self) {
        self.profile = Some(Profile::start(&mut self.state));
    }

    /// What the layers took since [`start_profile`](Self::start_profile), in the order in which they run.
    pub fn profile(&mut self) -> Vec<LayerTime> {
        let layers = self.profile.as_ref().map(|p| p.layers(&mut self.state));
        layers.and_then(|layers| layers.ok()).unwrap_or_default()
    }
}

/// Calls into tract for `graph`: an error, and a panic over a graph that it did not expect, become
/// [`Error::Engine`].
pub(super) fn guarded<T>(graph: &OnnxGraph, call: impl FnOnce() -> TractResult<T>) -> Result<T> {
    let detail = match quietly(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => match own_words(&error) {
            Some(problem) => return Err(graph.fail(problem)),
            None => format!("{error:#}"),
        },
        Err(panic) => panic_text(&*panic),
    };
    let place = match blamed(graph, &detail) {
        Some((node, op)) => format!("the operator {op} of the node `{node}`"),
        None => "one of its operators".to_owned(),
    };
    let advice = match graph.operator_set() {
        version if version > NEWEST_KNOWN => format!(
            "export the model with opset {NEWEST_KNOWN} or below (this one has {version}), or choose a --feature-layer before it"
        ),
        _ => {
            "choose a --feature-layer before it or another --input-size, or export the model again"
                .to_owned()
        }
    };
    Err(Error::Engine {
        model: graph.name().to_owned(),
        problem: format!("{place} is not supported in this form; {advice}"),
        detail,
    })
}

/// A sentence with which this program itself refuses a graph while the engine works on it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TooLarge(String);

/// The reason of an error, if this program or its engine refuses the graph, and not one of tract's operators.
fn own_words(error: &TractError) -> Option<String> {
    let cause = error.root_cause();
    if let Some(TooLarge(sentence)) = cause.downcast_ref() {
        return Some(sentence.clone());
    }
    Some(match cause.downcast_ref()? {
        Refusal::Weights {
            region,
            bytes,
            most,
        } => format!("the weights of {region}: {}", memory::needs(*bytes, *most)),
        refusal => refusal.to_string(),
    })
}

/// The node of `graph` that a message of the engine names, and its operator.
fn blamed(graph: &OnnxGraph, message: &str) -> Option<(String, String)> {
    let nodes = graph.nodes();
    let find = |name: &str| {
        let node = nodes.iter().find(|node| node.name == name)?;
        Some((node.name.clone(), node.op_type.clone()))
    };
    if let Some(found) = quoted_node(message).and_then(find) {
        return Some(found);
    }
    // "Building node NAME (OPERATOR)"
    let start = message.split("Building node ").nth(1)?;
    find(start.split(" (").next()?)
}

/// The name in a message of the engine such as `#12 "name" Operator`.
fn quoted_node(message: &str) -> Option<&str> {
    message.split('#').skip(1).find_map(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.strip_prefix(" \"")?.split('"').next()
    })
}

/// The message of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the engine stopped without a message".to_owned())
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

/// Why the tensor `tensor` has no shape for an input of shape `input_shape`.
pub(super) fn shape_problem(graph: &OnnxGraph, input_shape: [usize; 4], tensor: &str) -> Error {
    if let Some(problem) = unsupported(graph) {
        return graph.fail(problem);
    }
    let strict = guarded(graph, || {
        let mut model = analysed(tract_onnx::onnx(), graph.proto(), input_shape)?;
        model.analyse(false)?;
        model.into_typed()
    });
    strict.err().unwrap_or_else(|| {
        let [_, a, b, c] = input_shape;
        graph.fail(format!(
            "the shape of `{tensor}` for an input of {a}x{b}x{c} depends on the image, so it cannot be used as features; choose another --feature-layer"
        ))
    })
}

/// Known facts about the tensors of a graph for a given input shape.
#[derive(Default)]
pub(super) struct KnownTensors {
    /// The values of truth values and integers that depend on no image.
    pub numbers: HashMap<String, i64>,
    /// Shapes, batch included.
    pub shapes: HashMap<String, Vec<usize>>,
}

/// What is known of the tensors of `graph` once the input has the shape `input_shape`.
pub(super) fn known(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<KnownTensors> {
    require_sizes(graph, input_shape)?;
    guarded(graph, || {
        let parsed = tract_onnx::onnx().parse(graph.proto(), None)?;
        let mut model = parsed.model;
        model.set_input_fact(0, f32::fact(input_shape).into())?;
        check_constants(&mut model)?;
        let _ = model.analyse(false);
        let mut known = KnownTensors::default();
        for (name, outlet) in parsed.outlets_by_name {
            let fact = model.outlet_fact(outlet)?;
            if let Some(shape) = fact.shape.as_concrete_finite()? {
                known.shapes.insert(name.clone(), shape.to_vec());
            }
            if let Some(value) = fact.value.concretize()
                && value.len() == 1
                && !value.datum_type().is_float()
                && let Ok(number) = value.cast_to_scalar::<i64>()
            {
                known.numbers.insert(name, number);
            }
        }
        Ok(known)
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

/// Maximum number of values of one tensor: 1 GiB of float32, some hundred times the largest tensor of any backbone.
const MOST_VALUES: usize = 1 << 28;

fn is_too_large(shape: &[usize]) -> bool {
    // A dimension of 0 makes no other one harmless: parts of a shape are multiplied, too.
    let values = shape
        .iter()
        .try_fold(1_usize, |values, &dim| values.checked_mul(dim.max(1)));
    values.is_none_or(|values| values > MOST_VALUES)
}

/// Dimensions in words: `[1, 8, 30, 30]`.
fn by(dims: &[impl ToString]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The model of `proto` for an input of shape `input_shape`, with the shapes that can be found front to back.
fn analysed(
    framework: Onnx,
    proto: &pb::ModelProto,
    input_shape: [usize; 4],
) -> TractResult<InferenceModel> {
    if is_too_large(&input_shape) {
        let sentence = format!("its input is too large: {}", by(&input_shape));
        return Err(TooLarge(sentence).into());
    }
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
                if !sound && !open {
                    return Err(tensor_too_large(&node.name, &shape));
                }
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

fn tensor_too_large(node: &str, shape: &[impl std::fmt::Display]) -> TractError {
    let shape = by(shape);
    TooLarge(format!(
        "the tensor that `{node}` makes is too large: {shape}"
    ))
    .into()
}

/// Refuses a model with a tensor that is too large.
fn check_tensors(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            if let Some(shape) = output.fact.shape.as_concrete()
                && is_too_large(shape)
            {
                return Err(tensor_too_large(&node.name, shape));
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
        let parsed = tract_onnx::onnx().parse(&mend_nodes(canonical(graph.proto())), None)?;
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
