//! Inlines functions defined in the file. No file access.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb;

use super::build::is_own_domain;
use crate::backbone::onnx::walk::{self, each_node, each_of, rename, subgraphs_mut};

/// Maximum nesting of functions.
const MOST_NESTED: usize = 64;
/// Maximum number of operators after inlining functions.
const MOST_NODES: usize = 1 << 17;
/// Maximum bytes after inlining functions.
const MOST_BYTES: usize = 1 << 28;

/// A function defined in the file; `FunctionProto` of the ONNX specification.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub outputs: Vec<String>,
    /// Attributes without a default.
    #[prost(string, repeated, tag = "6")]
    pub attributes: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<pb::NodeProto>,
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<pb::OperatorSetIdProto>,
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub defaults: Vec<pb::AttributeProto>,
    #[prost(string, tag = "13")]
    pub overload: String,
}

/// Versions of ONNX's operator set from which on an operator means something else, or is written otherwise.
const CHANGES: [(&str, &[i64]); 24] = [
    ("AveragePool", &[7, 19]),
    ("BatchNormalization", &[7, 9, 14]),
    ("Clip", &[11]),
    ("Dropout", &[12]),
    ("Gemm", &[7]),
    ("GridSample", &[20]),
    ("GroupNormalization", &[21]),
    ("Hardmax", &[13]),
    ("LogSoftmax", &[13]),
    ("Pad", &[11]),
    ("ReduceL1", &[18]),
    ("ReduceL2", &[18]),
    ("ReduceMax", &[18]),
    ("ReduceMean", &[18]),
    ("ReduceMin", &[18]),
    ("ReduceProd", &[18]),
    ("ReduceSum", &[13]),
    ("Resize", &[11, 13]),
    ("Slice", &[10]),
    ("Softmax", &[13]),
    ("Split", &[13]),
    ("Squeeze", &[13]),
    ("Unsqueeze", &[13]),
    ("Upsample", &[9, 10]),
];

/// Inlines every use of `functions` in the graph of `model`.
///
/// # Errors
/// A clause that names a function which calls itself, is defined twice, is written in an operator set that does not
/// go with the file's, or becomes too large.
pub(super) fn inline(
    model: &mut pb::ModelProto,
    functions: Vec<Function>,
) -> std::result::Result<(), String> {
    let Some(graph) = model.graph.as_mut().filter(|_| !functions.is_empty()) else {
        return Ok(());
    };
    let version = own_version(&model.opset_import);
    let mut known: HashMap<(String, String), &Function> = HashMap::new();
    for function in &functions {
        let key = key(&function.domain, &function.name);
        if known.insert(key, function).is_some() {
            return Err(format!(
                "it defines the function {} more than once; export it without overloads",
                function.name
            ));
        }
    }
    let mut taken = HashSet::new();
    walk::names(graph, &mut taken);
    let mut inliner = Inliner {
        version,
        known,
        sizes: HashMap::new(),
        taken,
        uses: HashMap::new(),
        nodes: 0,
        bytes: 0,
    };
    let nodes = std::mem::take(&mut graph.node);
    graph.node = inliner.written_out(nodes, &mut Vec::new())?;
    if version.is_none() {
        // The file itself uses functions alone: they say which operators they mean.
        let sets = functions.iter().flat_map(|f| &f.opset_import);
        let own = sets.filter(|set| is_own_domain(&set.domain));
        model
            .opset_import
            .extend(own.max_by_key(|s| s.version).cloned());
    }
    let mut used: HashSet<&str> = HashSet::new();
    each_node(graph, &mut |node| {
        used.insert(&node.domain);
    });
    let defined: HashSet<&str> = functions.iter().map(|f| f.domain.as_str()).collect();
    model.opset_import.retain(|set| {
        let domain = set.domain.as_str();
        is_own_domain(domain) || used.contains(domain) || !defined.contains(domain)
    });
    for set in functions.iter().flat_map(|f| &f.opset_import) {
        let has = |s: &pb::OperatorSetIdProto| s.domain == set.domain;
        if used.contains(set.domain.as_str()) && !model.opset_import.iter().any(has) {
            model.opset_import.push(set.clone());
        }
    }
    Ok(())
}

fn key(domain: &str, name: &str) -> (String, String) {
    let domain = if is_own_domain(domain) { "" } else { domain };
    (domain.to_owned(), name.to_owned())
}

fn own_version(sets: &[pb::OperatorSetIdProto]) -> Option<i64> {
    let own = sets.iter().find(|set| is_own_domain(&set.domain));
    own.map(|set| set.version)
}

struct Inliner<'a> {
    /// Version of the operator set that the file is written in.
    version: Option<i64>,
    known: HashMap<(String, String), &'a Function>,
    /// Operators and bytes of each function's body.
    sizes: HashMap<(String, String), (usize, usize)>,
    /// Names of tensors and nodes that are in use.
    taken: HashSet<String>,
    /// How often each prefix was used.
    uses: HashMap<String, usize>,
    nodes: usize,
    bytes: usize,
}

impl Inliner<'_> {
    /// `nodes` without uses of functions; `inside` names the functions that they are from.
    fn written_out(
        &mut self,
        nodes: Vec<pb::NodeProto>,
        inside: &mut Vec<(String, String)>,
    ) -> std::result::Result<Vec<pb::NodeProto>, String> {
        let mut all = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for graph in subgraphs_mut(&mut node) {
                graph.node = self.written_out(std::mem::take(&mut graph.node), inside)?;
            }
            let key = key(&node.domain, &node.op_type);
            let Some(&function) = self.known.get(&key) else {
                all.push(node);
                continue;
            };
            if inside.contains(&key) {
                return Err(format!("its function {} is recursive", function.name));
            }
            if inside.len() >= MOST_NESTED {
                return Err(format!(
                    "its functions are nested more than {MOST_NESTED} deep"
                ));
            }
            let body = self.body(function, &key, node)?;
            inside.push(key);
            all.extend(self.written_out(body, inside)?);
            inside.pop();
        }
        Ok(all)
    }

    /// What the use `call` of `function` computes.
    fn body(
        &mut self,
        function: &Function,
        key: &(String, String),
        call: pb::NodeProto,
    ) -> std::result::Result<Vec<pb::NodeProto>, String> {
        let (count, bytes) = match self.sizes.get(key) {
            Some(&size) => size,
            None => {
                self.check_version(function)?;
                let mut count = 0;
                each_of(&function.nodes, &mut |_| count += 1);
                let bytes = function.nodes.iter().map(Message::encoded_len).sum();
                self.sizes.insert(key.clone(), (count, bytes));
                (count, bytes)
            }
        };
        self.nodes += count;
        self.bytes += bytes;
        if self.nodes > MOST_NODES || self.bytes > MOST_BYTES {
            return Err(format!(
                "with its functions inlined, it has more than {MOST_NODES} operators or {} MB; the last was {}",
                MOST_BYTES >> 20,
                function.name
            ));
        }
        let own = pb::GraphProto {
            node: function.nodes.clone(),
            ..Default::default()
        };
        let mut inner = HashSet::new();
        walk::names(&own, &mut inner);
        inner.remove("");
        let prefix = self.prefix(&call, &inner).ok_or_else(|| {
            let name = &function.name;
            format!("the names inside its function {name} clash with other tensors")
        })?;
        let mut names: HashMap<String, String> = HashMap::new();
        for name in inner {
            let new = format!("{prefix}/{name}");
            self.taken.insert(new.clone());
            names.insert(name, new);
        }
        let mut nodes = own.node;
        let mut copies = Vec::new();
        for (place, input) in function.inputs.iter().enumerate() {
            let given = call.input.get(place).cloned().unwrap_or_default();
            names.insert(input.clone(), given);
        }
        let mut made: HashSet<&str> = HashSet::new();
        for (place, output) in function.outputs.iter().enumerate() {
            let Some(wanted) = call.output.get(place).filter(|name| !name.is_empty()) else {
                continue;
            };
            // An output that is an input, or an output already, is a copy.
            if function.inputs.contains(output) || !made.insert(output) {
                let from = names.get(output).cloned().unwrap_or_default();
                copies.push(pb::NodeProto {
                    op_type: "Identity".to_owned(),
                    name: wanted.clone(),
                    input: vec![from],
                    output: vec![wanted.clone()],
                    ..Default::default()
                });
            } else {
                names.insert(output.clone(), wanted.clone());
            }
        }
        for node in &mut nodes {
            if !node.name.is_empty() {
                node.name = format!("{prefix}/{}", node.name);
            }
            rename(node, &names);
            fill(node, &call.attribute, &function.defaults);
        }
        nodes.extend(copies);
        Ok(nodes)
    }

    /// What the names of the tensors inside of `call`, which the function calls `inner`, begin with.
    fn prefix(&mut self, call: &pb::NodeProto, inner: &HashSet<String>) -> Option<String> {
        // The beginning of a name that functions inside of functions have made long is enough.
        const LONGEST: usize = 120;
        const MOST_TRIES: usize = 1000;
        let output = call.output.first().map_or("", String::as_str);
        let name = match call.name.is_empty() {
            true => output,
            false => call.name.as_str(),
        };
        let name: String = name.chars().take(LONGEST).collect();
        let uses = self.uses.entry(name.clone()).or_default();
        for _ in 0..MOST_TRIES {
            *uses += 1;
            let prefix = match *uses {
                1 => name.clone(),
                n => format!("{name}_{n}"),
            };
            let is_taken = |inner: &String| self.taken.contains(&format!("{prefix}/{inner}"));
            if !inner.iter().any(is_taken) {
                return Some(prefix);
            }
        }
        None
    }

    fn check_version(&self, function: &Function) -> std::result::Result<(), String> {
        let own = own_version(&function.opset_import);
        let (Some(own), Some(file)) = (own, self.version) else {
            return Ok(());
        };
        let (older, newer) = (own.min(file), own.max(file));
        let mut changed = None;
        each_of(&function.nodes, &mut |node| {
            let versions = CHANGES.iter().find(|(name, _)| *name == node.op_type);
            let mut versions = versions.into_iter().flat_map(|(_, versions)| *versions);
            if is_own_domain(&node.domain) && versions.any(|&v| older < v && v <= newer) {
                changed = Some(node.op_type.clone());
            }
        });
        match changed {
            None => Ok(()),
            Some(op) => Err(format!(
                "its function {} uses opset {own} and the file opset {file}, in which {op} differs; export both with one opset",
                function.name
            )),
        }
    }
}

/// Replaces references to a function's attributes by the values of the call.
fn fill(node: &mut pb::NodeProto, given: &[pb::AttributeProto], defaults: &[pb::AttributeProto]) {
    node.attribute.retain_mut(|attribute| {
        if attribute.ref_attr_name.is_empty() {
            return true;
        }
        let wanted = |a: &&pb::AttributeProto| a.name == attribute.ref_attr_name;
        let value = given.iter().find(wanted);
        match value.or_else(|| defaults.iter().find(wanted)) {
            Some(value) => {
                let name = std::mem::take(&mut attribute.name);
                *attribute = pb::AttributeProto {
                    name,
                    ..value.clone()
                };
                true
            }
            None => false,
        }
    });
    for graph in subgraphs_mut(node) {
        for inner in &mut graph.node {
            fill(inner, given, defaults);
        }
    }
}
