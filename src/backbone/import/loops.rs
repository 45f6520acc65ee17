//! Unrolls `Loop` and `Scan` operators with a known number of rounds. No file access.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::build::{int, integers, ints, operator, value};
use crate::backbone::attributes::Attributes;
use crate::backbone::onnx::walk::{self, each_of, rename};

/// Maximum number of operators of one unrolled loop.
const MOST_NODES: usize = 1 << 15;
/// Maximum bytes of one unrolled loop, without weights.
const MOST_BYTES: usize = 1 << 26;
/// The operator set in which the axes of `Unsqueeze` became an input.
const AXES_ARE_INPUT: i64 = 13;

/// Known facts about the tensors of a graph.
pub(in crate::backbone) struct Known<'a> {
    /// The value of a tensor of one truth value or integer.
    pub number: &'a dyn Fn(&str) -> Option<i64>,
    /// The length of an axis, counted from the end where it is negative.
    pub length: &'a dyn Fn(&str, i64) -> Option<usize>,
}

/// Writes out the `Loop`s and `Scan`s of `graph`, written in version `version` of ONNX's operator set, whose number of
/// rounds is `known`; those inside them come to the top, to be written out by another call. Returns whether there was one.
pub(in crate::backbone) fn unroll(graph: &mut pb::GraphProto, version: i64, known: &Known) -> bool {
    let is_loop = |node: &pb::NodeProto| matches!(node.op_type.as_str(), "Loop" | "Scan");
    if !graph.node.iter().any(is_loop) {
        return false;
    }
    let mut taken = HashSet::new();
    walk::names(graph, &mut taken);
    let mut changed = false;
    for node in std::mem::take(&mut graph.node) {
        let rounds = match node.op_type.as_str() {
            "Loop" => Rounds::of_loop(&node, known),
            "Scan" => Rounds::of_scan(&node, known),
            _ => None,
        };
        match rounds.and_then(|rounds| rounds.written_out(&node, version, &taken)) {
            Some((nodes, weights)) => {
                changed = true;
                graph.node.extend(nodes);
                graph.initializer.extend(weights);
            }
            None => graph.node.push(node),
        }
    }
    changed
}

/// A loop as rounds of its body.
struct Rounds<'a> {
    body: &'a pb::GraphProto,
    count: usize,
    /// Inputs of the body before those that go from round to round: the number of the round, and whether to continue.
    leading: usize,
    /// What goes from round to round: its values before the first.
    states: Vec<&'a str>,
    /// Inputs that are sliced, one slice per round.
    sliced: Vec<Sliced<'a>>,
    /// What is combined of the rounds: axis, and whether the last comes first.
    collected: Vec<(i64, bool)>,
}

struct Sliced<'a> {
    tensor: &'a str,
    axis: i64,
    is_reversed: bool,
}

impl<'a> Rounds<'a> {
    fn of_loop(node: &'a pb::NodeProto, known: &Known) -> Option<Rounds<'a>> {
        let body = body(node)?;
        let given = |place: usize| node.input.get(place).filter(|name| !name.is_empty());
        let count = usize::try_from((known.number)(given(0)?)?).ok()?;
        if given(1).is_some_and(|goes_on| (known.number)(goes_on) != Some(1)) {
            return None;
        }
        let states: Vec<&str> = node.input.iter().skip(2).map(String::as_str).collect();
        let goes_on = &body.output.first()?.name;
        if !always_goes_on(body, goes_on) || body.input.len() != 2 + states.len() {
            return None;
        }
        let collected = body.output.len().checked_sub(1 + states.len())?;
        Some(Rounds {
            body,
            count,
            leading: 2,
            states,
            sliced: Vec::new(),
            collected: vec![(0, false); collected],
        })
    }

    fn of_scan(node: &'a pb::NodeProto, known: &Known) -> Option<Rounds<'a>> {
        let body = body(node)?;
        let attributes = Attributes(&node.attribute);
        let taken_apart = usize::try_from(attributes.int("num_scan_inputs")?).ok()?;
        let states = node.input.len().checked_sub(taken_apart)?;
        let collected = body.output.len().checked_sub(states)?;
        let at = |list: &str, place: usize| attributes.ints(list).get(place).copied();
        let sliced: Vec<Sliced> = node.input[states..]
            .iter()
            .enumerate()
            .map(|(place, tensor)| Sliced {
                tensor,
                axis: at("scan_input_axes", place).unwrap_or(0),
                is_reversed: at("scan_input_directions", place) == Some(1),
            })
            .collect();
        let first = sliced.first()?;
        let count = (known.length)(first.tensor, first.axis)?;
        let collected = (0..collected).map(|place| {
            let axis = at("scan_output_axes", place).unwrap_or(0);
            (axis, at("scan_output_directions", place) == Some(1))
        });
        (body.input.len() == node.input.len()).then(|| Rounds {
            body,
            count,
            leading: 0,
            states: node.input[..states].iter().map(String::as_str).collect(),
            sliced,
            collected: collected.collect(),
        })
    }

    /// The operators that replace `node`, and the weights of its body; `None` if there would be too many.
    fn written_out(
        &self,
        node: &pb::NodeProto,
        version: i64,
        taken: &HashSet<String>,
    ) -> Option<(Vec<pb::NodeProto>, Vec<pb::TensorProto>)> {
        // A round has the operators of the body, and those that give it its inputs.
        let mut size = 1 + self.body.input.len();
        each_of(&self.body.node, &mut |_| size += 1);
        let bytes: usize = self.body.node.iter().map(Message::encoded_len).sum();
        let is_small = size.checked_mul(self.count)? <= MOST_NODES
            && bytes.checked_mul(self.count)? <= MOST_BYTES;
        let is_named = self.body.input.iter().all(|input| !input.name.is_empty());
        // Without rounds there is nothing to combine.
        if !is_small || !is_named || self.count == 0 && !self.collected.is_empty() {
            return None;
        }
        let output = node.output.iter().find(|name| !name.is_empty())?;
        let mut base = if node.name.is_empty() {
            output
        } else {
            &node.name
        }
        .clone();
        while taken
            .iter()
            .any(|name| name.starts_with(&format!("{base}/")))
        {
            base.push('_');
        }
        // Weights are the same in all rounds.
        let mut shared: HashMap<String, String> = HashMap::new();
        let mut weights = self.body.initializer.clone();
        for tensor in &mut weights {
            let name = format!("{base}/{}", tensor.name);
            shared.insert(std::mem::replace(&mut tensor.name, name.clone()), name);
        }
        let mut inner = HashSet::new();
        walk::names(self.body, &mut inner);
        inner.remove("");
        let inputs: Vec<&String> = self.body.input.iter().map(|input| &input.name).collect();
        let mut nodes = Vec::new();
        let mut states: Vec<String> = self.states.iter().map(|&name| name.to_owned()).collect();
        let mut rounds: Vec<Vec<String>> = vec![Vec::new(); self.collected.len()];
        for round in 0..self.count {
            let prefix = format!("{base}/{round}");
            let mut names: HashMap<String, String> = inner
                .iter()
                .map(|name| (name.clone(), format!("{prefix}/{name}")))
                .collect();
            names.extend(shared.clone());
            if self.leading == 2 {
                nodes.push(constant(&names[inputs[0]], integers(&[], &[round as i64])));
                let yes = pb::TensorProto {
                    data_type: DataType::Bool as i32,
                    raw_data: vec![1],
                    ..Default::default()
                };
                nodes.push(constant(&names[inputs[1]], yes));
            }
            for (input, state) in inputs[self.leading..].iter().zip(&states) {
                names.insert((*input).clone(), state.clone());
            }
            for (input, sliced) in inputs[self.leading + states.len()..]
                .iter()
                .zip(&self.sliced)
            {
                let place = match sliced.is_reversed {
                    true => self.count - 1 - round,
                    false => round,
                };
                let index = format!("{}/place", names[*input]);
                nodes.push(constant(&index, integers(&[], &[place as i64])));
                let axis = int("axis", sliced.axis);
                let name = &names[*input];
                nodes.push(operator("Gather", &[sliced.tensor, &index], &[axis], name));
            }
            for node in &self.body.node {
                let mut node = node.clone();
                rename(&mut node, &names);
                if !node.name.is_empty() {
                    node.name = format!("{prefix}/{}", node.name);
                }
                nodes.push(node);
            }
            let results = self.body.output.iter().skip(self.leading.min(1));
            let mut results = results.map(|r| names.get(&r.name).unwrap_or(&r.name).clone());
            states = results.by_ref().take(states.len()).collect();
            for (rounds, result) in rounds.iter_mut().zip(results) {
                rounds.push(result);
            }
        }
        let mut outputs = node.output.iter();
        for (state, output) in states.iter().zip(&mut outputs) {
            if !output.is_empty() {
                nodes.push(operator("Identity", &[state], &[], output));
            }
        }
        for ((mut results, output), (axis, is_reversed)) in
            rounds.into_iter().zip(outputs).zip(&self.collected)
        {
            if output.is_empty() {
                continue;
            }
            if *is_reversed {
                results.reverse();
            }
            let lifted: Vec<String> = (0..results.len())
                .map(|place| format!("{base}/{output}_{place}"))
                .collect();
            for (result, lifted) in results.iter().zip(&lifted) {
                nodes.extend(unsqueeze(result, *axis, version, lifted));
            }
            let lifted: Vec<&str> = lifted.iter().map(String::as_str).collect();
            let axis = int("axis", *axis);
            nodes.push(operator("Concat", &lifted, &[axis], output));
        }
        Some((nodes, weights))
    }
}

fn body(node: &pb::NodeProto) -> Option<&pb::GraphProto> {
    let body = node.attribute.iter().find(|a| a.name == "body")?;
    body.g.as_ref()
}

/// Whether the tensor `flag` of a loop's body is true in every round: what the body was given, or a constant.
fn always_goes_on(body: &pb::GraphProto, flag: &str) -> bool {
    let mut flag = flag;
    // No longer than the body is.
    for _ in 0..=body.node.len() {
        if body.input.get(1).is_some_and(|given| given.name == flag) {
            return true;
        }
        let is_true = |t: &pb::TensorProto| {
            t.data_type == DataType::Bool as i32
                && (t.raw_data == [1] || t.raw_data.is_empty() && t.int32_data == [1])
        };
        if let Some(tensor) = body.initializer.iter().find(|t| t.name == flag) {
            return is_true(tensor);
        }
        let maker = body
            .node
            .iter()
            .find(|n| n.output.iter().any(|o| o == flag));
        match maker.map(|node| (node.op_type.as_str(), node)) {
            Some(("Identity" | "Cast", node)) => match node.input.first() {
                Some(input) => flag = input,
                None => return false,
            },
            Some(("Constant", node)) => {
                let value = node.attribute.iter().find(|a| a.name == "value");
                return value.and_then(|a| a.t.as_ref()).is_some_and(is_true);
            }
            _ => return false,
        }
    }
    false
}

fn constant(output: &str, tensor: pb::TensorProto) -> pb::NodeProto {
    operator("Constant", &[], &[value(tensor)], output)
}

/// Puts an axis of length 1 into `tensor`.
fn unsqueeze(tensor: &str, axis: i64, version: i64, output: &str) -> Vec<pb::NodeProto> {
    if version < AXES_ARE_INPUT {
        let axes = ints("axes", &[axis]);
        return vec![operator("Unsqueeze", &[tensor], &[axes], output)];
    }
    let axes = format!("{output}/axes");
    vec![
        constant(&axes, integers(&[1], &[axis])),
        operator("Unsqueeze", &[tensor, &axes], &[], output),
    ]
}
