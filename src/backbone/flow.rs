//! Data flow of a graph: which tensors depend on the image, and which node computes each. No file access.

use std::collections::{HashMap, HashSet};

use super::onnx::{OnnxGraph, OnnxNode};

/// The makers of a graph's tensors, and the tensors that are the same for every image.
pub(super) struct Flow<'a> {
    pub nodes: &'a [OnnxNode],
    makers: HashMap<&'a str, usize>,
    fixed: HashSet<String>,
}

impl<'a> Flow<'a> {
    /// Of `graph`, whose nodes are `nodes`.
    ///
    /// Fixed are weights, whatever is computed from fixed tensors alone (a kernel after `DequantizeLinear`, `Cast`
    /// or `Transpose`), and what depends on the shape of a tensor but not on its values. The scale and zero point
    /// that `DynamicQuantizeLinear` finds count as fixed, too: they say how values are written, not what they are.
    pub fn of(graph: &OnnxGraph, nodes: &'a [OnnxNode]) -> Flow<'a> {
        let mut fixed = graph.weight_names();
        let mut makers = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            makers.extend(node.outputs.iter().map(|output| (output.as_str(), i)));
            let is_fixed = match node.op_type.as_str() {
                "Shape" | "Size" => true,
                // Their bodies may read the image without naming it as an input.
                "If" | "Loop" | "Scan" => false,
                _ => node
                    .inputs
                    .iter()
                    .all(|i| i.is_empty() || fixed.contains(i)),
            };
            let first = match node.op_type.as_str() {
                "DynamicQuantizeLinear" => 1,
                _ => 0,
            };
            let known = node.outputs.iter().skip(if is_fixed { 0 } else { first });
            if is_fixed || first > 0 {
                fixed.extend(known.cloned());
            }
        }
        Flow {
            nodes,
            makers,
            fixed,
        }
    }

    /// Whether `tensor` is the same for every image.
    pub fn is_fixed(&self, tensor: &str) -> bool {
        self.fixed.contains(tensor)
    }

    /// Index of the node that computes `tensor`, and the node; `None` for the image.
    pub fn maker(&self, tensor: &str) -> Option<(usize, &'a OnnxNode)> {
        let place = *self.makers.get(tensor)?;
        Some((place, &self.nodes[place]))
    }

    /// The inputs of `node` that depend on the image, each once.
    pub fn data_inputs(&self, node: &'a OnnxNode) -> Vec<&'a str> {
        let mut inputs: Vec<&str> = Vec::new();
        for input in &node.inputs {
            let is_new = !input.is_empty() && !self.is_fixed(input);
            if is_new && !inputs.contains(&input.as_str()) {
                inputs.push(input);
            }
        }
        inputs
    }

    /// The one input of `node` that depends on the image; `None` if there are several.
    pub fn data_input(&self, node: &'a OnnxNode) -> Option<&'a str> {
        match self.data_inputs(node)[..] {
            [input] => Some(input),
            _ => None,
        }
    }

    /// Whether `tensor` is computed from `source`, or is it, as far as `most` nodes back.
    pub fn depends(&self, tensor: &str, source: &str, most: usize) -> bool {
        if tensor == source {
            return true;
        }
        let mut seen: HashSet<usize> = HashSet::new();
        let mut todo: Vec<usize> = self.maker(tensor).map(|(i, _)| i).into_iter().collect();
        while let Some(place) = todo.pop() {
            if !seen.insert(place) || seen.len() > most {
                continue;
            }
            for input in self.data_inputs(&self.nodes[place]) {
                if input == source {
                    return true;
                }
                todo.extend(self.maker(input).map(|(i, _)| i));
            }
        }
        false
    }

    /// `tensor` without operators that do nothing in inference, such as dropout; dynamically quantised integers are
    /// replaced by the floats that they stand for.
    ///
    /// `DequantizeLinear` is not such a thing: what `QuantizeLinear` before it rounds and bounds may be an activation.
    pub fn plain(&self, tensor: &'a str) -> &'a str {
        let mut tensor = tensor;
        while let Some((_, node)) = self.maker(tensor)
            && matches!(
                node.op_type.as_str(),
                "Dropout" | "Identity" | "DynamicQuantizeLinear"
            )
            && let Some(input) = self.data_input(node)
        {
            tensor = input;
        }
        tensor
    }
}
