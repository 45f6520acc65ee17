//! Visits every tensor that a node reads and every graph inside it, at any depth. No file access.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb;

/// The graphs that a node holds: the branches of an `If`, the body of a `Loop` or a `Scan`.
pub(in crate::backbone) fn subgraphs(
    node: &pb::NodeProto,
) -> impl Iterator<Item = &pb::GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// Like [`subgraphs`], to be changed.
pub(in crate::backbone) fn subgraphs_mut(
    node: &mut pb::NodeProto,
) -> impl Iterator<Item = &mut pb::GraphProto> {
    let attributes = node.attribute.iter_mut();
    attributes.flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
}

/// Calls `visit` on `graph` and on every graph inside it. Protobuf messages are nested a hundred deep at most, which
/// bounds the recursion here and below.
pub(in crate::backbone) fn each_graph_mut(
    graph: &mut pb::GraphProto,
    visit: &mut impl FnMut(&mut pb::GraphProto),
) {
    visit(graph);
    for node in &mut graph.node {
        subgraphs_mut(node).for_each(|inner| each_graph_mut(inner, visit));
    }
}

/// Calls `visit` on every node of `graph` and of the graphs inside it.
pub(in crate::backbone) fn each_node<'a>(
    graph: &'a pb::GraphProto,
    visit: &mut impl FnMut(&'a pb::NodeProto),
) {
    each_of(&graph.node, visit);
}

/// Like [`each_node`], of a list of nodes.
pub(in crate::backbone) fn each_of<'a>(
    nodes: &'a [pb::NodeProto],
    visit: &mut impl FnMut(&'a pb::NodeProto),
) {
    for node in nodes {
        visit(node);
        subgraphs(node).for_each(|inner| each_of(&inner.node, visit));
    }
}

/// Calls `visit` on every constant of `nodes` and of the graphs inside them, with the name that messages give it.
pub(in crate::backbone) fn each_constant_mut<E>(
    nodes: &mut [pb::NodeProto],
    visit: &mut impl FnMut(&str, &mut pb::TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for node in nodes {
        let name = node.output.first().cloned().unwrap_or_default();
        for attribute in &mut node.attribute {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                visit(&name, tensor)?;
            }
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                for tensor in &mut graph.initializer {
                    visit(&tensor.name.clone(), tensor)?;
                }
                each_constant_mut(&mut graph.node, visit)?;
            }
        }
    }
    Ok(())
}

/// What the graphs inside a node read from outside it, each name once.
pub(in crate::backbone) fn captures(node: &pb::NodeProto) -> Vec<String> {
    let mut found = Vec::new();
    subgraphs(node).for_each(|graph| free_names(graph, &mut found));
    let mut seen = HashSet::new();
    found.retain(|name| seen.insert(*name));
    found.into_iter().map(str::to_owned).collect()
}

/// Names that `graph` reads and does not define.
fn free_names<'a>(graph: &'a pb::GraphProto, found: &mut Vec<&'a str>) {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let weights = graph.initializer.iter().map(|t| t.name.as_str());
    let mut own: HashSet<&str> = inputs.chain(weights).collect();
    let made = graph.node.iter().flat_map(|node| &node.output);
    own.extend(made.map(String::as_str));
    let mut read: Vec<&str> = Vec::new();
    for node in &graph.node {
        read.extend(node.input.iter().map(String::as_str));
        subgraphs(node).for_each(|inner| free_names(inner, &mut read));
    }
    read.extend(graph.output.iter().map(|output| output.name.as_str()));
    found.extend(
        read.into_iter()
            .filter(|name| !name.is_empty() && !own.contains(name)),
    );
}

/// Adds the names of all tensors and nodes that `graph` and the graphs inside it define.
pub(in crate::backbone) fn names(graph: &pb::GraphProto, found: &mut HashSet<String>) {
    found.extend(graph.input.iter().map(|input| input.name.clone()));
    found.extend(graph.initializer.iter().map(|t| t.name.clone()));
    each_node(graph, &mut |node| {
        found.insert(node.name.clone());
        found.extend(node.output.iter().cloned());
        for inner in subgraphs(node) {
            found.extend(inner.input.iter().map(|input| input.name.clone()));
            found.extend(inner.initializer.iter().map(|t| t.name.clone()));
        }
    });
}

/// Gives the tensors of `node`, at any depth, the names that `names` has for them.
pub(in crate::backbone) fn rename(node: &mut pb::NodeProto, names: &HashMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(new) = names.get(name.as_str()) {
            name.clone_from(new);
        }
    };
    node.input.iter_mut().for_each(change);
    node.output.iter_mut().for_each(change);
    for graph in subgraphs_mut(node) {
        graph.value_info.clear();
        graph
            .initializer
            .iter_mut()
            .for_each(|t| change(&mut t.name));
        let values = graph.input.iter_mut().chain(&mut graph.output);
        values.for_each(|value| change(&mut value.name));
        graph.node.iter_mut().for_each(|inner| rename(inner, names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
        pb::NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        }
    }

    fn holding(mut node: pb::NodeProto, inner: Vec<pb::NodeProto>, result: &str) -> pb::NodeProto {
        node.attribute.push(pb::AttributeProto {
            name: "then_branch".into(),
            g: Some(pb::GraphProto {
                node: inner,
                output: vec![pb::ValueInfoProto {
                    name: result.into(),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        });
        node
    }

    #[test]
    fn what_graphs_inside_of_graphs_read_from_outside_is_found_and_renamed() {
        let deep = holding(
            node("If", &["flag"], "d"),
            vec![node("Add", &["own", "far"], "sum")],
            "sum",
        );
        let mut outer = holding(
            node("If", &["cond"], "y"),
            vec![node("Mul", &["near", "near"], "own"), deep],
            "d",
        );
        assert_eq!(captures(&outer), ["near", "flag", "far"]);
        let names = HashMap::from([("far".to_owned(), "farther".to_owned())]);
        rename(&mut outer, &names);
        assert_eq!(captures(&outer), ["near", "flag", "farther"]);
    }
}
