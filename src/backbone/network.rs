//! Running a graph: tract's plan, shared by all workers, and one session a worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use super::engine::{self, LayerTime};
use super::import::{NEWEST_KNOWN, unsupported};
use super::onnx::OnnxGraph;
use super::quantize::unrounded;
use crate::error::{Error, Result};

/// A graph made ready to run on one picture at a time; its weights are shared by all sessions.
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    name: String,
    input_shape: [usize; 4],
    output_shapes: Vec<Vec<usize>>,
}

impl Network {
    /// Prepares `graph` for an input of shape `input_shape`, batch included.
    ///
    /// # Errors
    /// [`Error::Model`] with the operator and node that cannot be run.
    pub fn load(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<Network> {
        if let Some(problem) = unsupported(graph) {
            return Err(graph.fail(problem));
        }
        let load = |proto: &pb::ModelProto| {
            guarded(graph, || {
                let model = engine::framework()
                    .model_for_proto_model(proto)?
                    .with_input_fact(0, f32::fact(input_shape).into())?
                    .into_typed()?
                    .into_decluttered()?;
                engine::optimize(model)?.into_optimized()?.into_runnable()
            })
        };
        // What cannot be computed with integers is computed in floats, as any runtime may.
        let integers = guarded(graph, || Ok(engine::in_integers(graph.proto())));
        let plan = match integers.ok().flatten().map(|proto| load(&proto)) {
            Some(Ok(plan)) => plan,
            _ => load(graph.proto())?,
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

    /// Makes the state that one worker needs to run this network.
    ///
    /// # Errors
    /// [`Error::Model`] if tract cannot make it.
    pub fn session(&self) -> Result<Session> {
        let state = self.plan.spawn().map_err(|e| Error::Engine {
            model: self.name.clone(),
            problem: "no memory or thread could be had to run it; close other programs, or give fewer --workers"
                .to_owned(),
            detail: format!("{e:#}"),
        })?;
        Ok(Session {
            state,
            name: self.name.clone(),
            input_shape: self.input_shape,
        })
    }
}

/// What `graph` gives for several pictures at once, row-major, as a plain runtime computes it: without the engine, and in
/// floats where integers would be rounded. `input` is of the shape `input_shape`, batch included.
///
/// # Errors
/// [`Error::Engine`] if it cannot be run on so many.
pub(crate) fn run_batch(
    graph: &OnnxGraph,
    input_shape: [usize; 4],
    input: &[f32],
) -> Result<Vec<f32>> {
    let floats = graph.is_quantized().then(|| unrounded(graph));
    let graph = floats.as_ref().unwrap_or(graph);
    guarded(graph, || {
        let plan = engine::framework()
            .model_for_proto_model(graph.proto())?
            .with_input_fact(0, f32::fact(input_shape).into())?
            .into_optimized()?
            .into_runnable()?;
        let tensor = Tensor::from_shape(&input_shape, input)?;
        let values = plan.run(tvec!(tensor.into()))?;
        let values = values[0].cast_to::<f32>()?;
        Ok(values.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    })
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
        let detail = match quietly(|| catch_unwind(AssertUnwindSafe(&mut run))) {
            Ok(Ok(results)) => {
                *outputs = results;
                return Ok(());
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => panic_text(&*panic),
        };
        let place = match quoted_node(&detail) {
            Some(node) => format!("the node `{node}`"),
            None => "one of its nodes".to_owned(),
        };
        Err(Error::Engine {
            model: self.name.clone(),
            problem: format!(
                "{place} failed while a picture was run; export the model again, or give a --cut before it"
            ),
            detail,
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
/// [`Error::Engine`].
pub(super) fn guarded<T>(graph: &OnnxGraph, call: impl FnOnce() -> TractResult<T>) -> Result<T> {
    let detail = match quietly(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic_text(&*panic),
    };
    let place = match blamed(graph, &detail) {
        Some((node, op)) => format!("the operator {op} of the node `{node}`"),
        None => "one of its operators".to_owned(),
    };
    let advice = match graph.operator_set() {
        version if version > NEWEST_KNOWN => format!(
            "export the model with opset {NEWEST_KNOWN} or below (it is written in {version}), or give a --cut before \
             it"
        ),
        _ => "give a --cut before it, another --input-size, or export the model again".to_owned(),
    };
    Err(Error::Engine {
        model: graph.name().to_owned(),
        problem: format!("{place} cannot be run in this form; {advice}"),
        detail,
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

/// What a panic said.
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
        let mut model = tract_onnx::onnx().parse(graph.proto(), None)?.model;
        model.set_input_fact(0, f32::fact(input_shape).into())?;
        model.analyse(false)?;
        model.into_typed()
    });
    strict.err().unwrap_or_else(|| {
        let [_, a, b, c] = input_shape;
        graph.fail(format!(
            "the shape of `{tensor}` for an input of {a}x{b}x{c} depends on the picture, so that it cannot be features; \
             give another --cut"
        ))
    })
}

/// What is known of the tensors of a graph once its input has a shape.
#[derive(Default)]
pub(super) struct KnownTensors {
    /// The values of truth values and integers that depend on no picture.
    pub numbers: HashMap<String, i64>,
    /// Shapes, batch included.
    pub shapes: HashMap<String, Vec<usize>>,
}

/// What is known of the tensors of `graph` once the input has the shape `input_shape`.
pub(super) fn known(graph: &OnnxGraph, input_shape: [usize; 4]) -> Result<KnownTensors> {
    guarded(graph, || {
        let parsed = tract_onnx::onnx().parse(graph.proto(), None)?;
        let mut model = parsed.model;
        model.set_input_fact(0, f32::fact(input_shape).into())?;
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

/// Most values of one tensor: 1 GiB of float32, some hundred times what any base makes of a picture.
const MOST_VALUES: usize = 1 << 28;

/// Shapes of all tensors of `graph`, batch included, for an input of shape `input_shape`; tensors whose
/// shape depends on values are left out.
pub(super) fn tensor_shapes(
    graph: &OnnxGraph,
    input_shape: [usize; 4],
) -> Result<HashMap<String, Vec<usize>>> {
    let shapes: HashMap<String, Vec<usize>> = guarded(graph, || {
        let parsed = tract_onnx::onnx().parse(graph.proto(), None)?;
        let mut model = parsed.model;
        model.set_input_fact(0, f32::fact(input_shape).into())?;
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
    let is_too_large = |shape: &[usize]| {
        let values = shape
            .iter()
            .try_fold(1_usize, |values, &dim| values.checked_mul(dim));
        values.is_none_or(|values| values > MOST_VALUES)
    };
    match shapes.iter().find(|(_, shape)| is_too_large(shape)) {
        Some((name, shape)) => {
            Err(graph.fail(format!("its tensor `{name}` is too large: {shape:?}")))
        }
        None => Ok(shapes),
    }
}
