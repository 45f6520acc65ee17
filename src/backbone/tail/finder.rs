//! Finds the classifier at the end of a graph. No file access.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use super::is_imagenet_width;
use super::operators::{is_bending, is_convolution, is_passing, is_product};
use crate::backbone::card::Pool;
use crate::backbone::flow::Flow;
use crate::backbone::network::tensor_shapes;
use crate::backbone::onnx::{DeclaredOutput, OnnxGraph, OnnxNode};
use crate::backbone::outputs;

/// How many nodes back a formula such as a softmax or a normalisation reaches.
const FORMULA: usize = 24;

/// More dense layers than this that make one output together are not a classifier.
const MOST_HEADS: usize = 16;

/// A classifier that was found at the end of a graph.
pub(super) struct End {
    /// The tensor before the softmax.
    pub logits: String,
    /// What it reads; several tensors if it has heads that read different ones.
    pub features: Vec<String>,
    /// How what it makes is pooled.
    pub pool: Option<Pool>,
}

impl End {
    /// A message about the choice, if there was one.
    pub fn note(&self) -> Option<String> {
        (self.features.len() > 1).then(|| {
            let cuts: Vec<String> = self.features.iter().map(|f| format!("--feature-layer {f}")).collect();
            format!(
                "its classifier has {} heads that read different tensors; the features are {}, the input of the first; {} uses all",
                self.features.len(),
                self.features[0],
                cuts.join(" ")
            )
        })
    }
}

/// What lies between an output and a node.
#[derive(Clone, Copy, Default)]
struct Path {
    /// A softmax or what else makes probabilities.
    classified: bool,
    /// An activation or a normalisation with nothing that makes probabilities after it.
    bent: bool,
    /// A product of two tensors, in which a sigmoid is a gate.
    gated: bool,
    /// A pooling over all places.
    pooled: bool,
}

/// A layer that multiplies by weights, found on the way back.
struct Head<'a> {
    place: usize,
    input: &'a str,
    path: Path,
    /// Whether it is computed at every place of maps, and pooled afterwards.
    is_on_maps: bool,
}

/// A graph to search for classifiers.
pub(super) struct Finder<'a> {
    graph: &'a OnnxGraph,
    pub flow: Flow<'a>,
    weights: HashMap<String, Vec<usize>>,
    input: Option<[usize; 4]>,
    shapes: OnceCell<HashMap<String, Vec<usize>>>,
}

impl<'a> Finder<'a> {
    /// Of `graph`, whose nodes are `nodes`; shapes are those for the input shape `input`.
    pub fn new(
        graph: &'a OnnxGraph,
        nodes: &'a [OnnxNode],
        input: Option<[usize; 4]>,
    ) -> Finder<'a> {
        Finder {
            graph,
            flow: Flow::of(graph, nodes),
            weights: graph.weight_shapes(),
            input,
            shapes: OnceCell::new(),
        }
    }

    /// Shape of a tensor, batch included, where it can be found.
    fn shape(&self, tensor: &str) -> Option<&[usize]> {
        let input = self.input?;
        let shapes = self
            .shapes
            .get_or_init(|| tensor_shapes(self.graph, input).unwrap_or_default());
        shapes.get(tensor).map(Vec::as_slice)
    }

    /// `output` with the dimensions that the file does not declare.
    pub fn completed(&self, output: DeclaredOutput) -> DeclaredOutput {
        if output.dims.is_some() {
            return output;
        }
        let dims = self.shape(&output.name);
        DeclaredOutput {
            dims: dims.map(|dims| dims.iter().map(|&d| Some(d)).collect()),
            ..output
        }
    }

    /// The classifier that makes `output`; `None` if it is not a classifier's.
    pub fn end(&self, output: &str) -> Option<End> {
        let mut logits = output.to_owned();
        let mut heads = self.heads(output, &mut logits)?;
        heads.sort_by_key(|head| head.place);
        let is_called_features = outputs::is_called_features(output);
        let accepted =
            |head: &Head| self.is_classifier(head) && (head.path.classified || !is_called_features);
        let is_classifier = !heads.is_empty()
            && heads.len() <= MOST_HEADS
            && heads.iter().all(accepted)
            && !self.is_chain(&heads);
        is_classifier.then(|| End {
            logits,
            features: self.read_by(&heads),
            pool: heads[0].path.pooled.then_some(Pool::Avg),
        })
    }

    /// The layers with weights that `output` is made by, with nothing but simple formulas after them; `None` if
    /// anything else is on the way. The tensor before the softmax goes to `logits`.
    fn heads(&self, output: &str, logits: &mut String) -> Option<Vec<Head<'a>>> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let (start, _) = self.flow.maker(output)?;
        let mut todo = vec![(start, Path::default())];
        while let Some((place, path)) = todo.pop() {
            if !seen.insert(place) {
                continue;
            }
            let node = &self.flow.nodes[place];
            let inputs = self.flow.data_inputs(node);
            let (read, path) = match self.role(node, &inputs, path)? {
                Role::Head { is_on_maps } => {
                    found.push(Head {
                        place,
                        input: inputs.first()?,
                        path,
                        is_on_maps,
                    });
                    continue;
                }
                Role::Classifies(read) => {
                    // Where several ways lead to the output, no tensor on one of them is all of the logits.
                    if !path.gated && todo.is_empty() {
                        *logits = read.to_owned();
                    }
                    let classified = path.classified || !path.gated;
                    let bent = path.bent && path.gated;
                    (
                        vec![read],
                        Path {
                            classified,
                            bent,
                            ..path
                        },
                    )
                }
                Role::Bends(read) => {
                    let bent = path.bent || !path.classified;
                    let gated = path.gated || inputs.len() > 1;
                    (
                        read,
                        Path {
                            bent,
                            gated,
                            ..path
                        },
                    )
                }
                Role::Pools => {
                    let pooled = true;
                    (inputs, Path { pooled, ..path })
                }
                Role::Passes(read) => (read, path),
            };
            for tensor in read {
                todo.push((self.flow.maker(tensor)?.0, path));
            }
        }
        Some(found)
    }

    /// What `node`, which reads the tensors `inputs`, does after a classifier; `None` if it cannot stand there.
    fn role(&self, node: &'a OnnxNode, inputs: &[&'a str], path: Path) -> Option<Role<'a>> {
        let op = node.op_type.as_str();
        let op = op.strip_prefix("QLinear").unwrap_or(op);
        let first = *inputs.first()?;
        let all = || inputs.to_vec();
        Some(match op {
            "Softmax" | "LogSoftmax" | "Hardmax" | "ArgMax" | "TopK" | "ZipMap" => {
                Role::Classifies(first)
            }
            // At the end, one probability a class; elsewhere an activation.
            "Sigmoid" if !path.bent && !path.gated => Role::Classifies(first),
            // No number below 0 gets through: an activation that a quantiser has put into the rounding.
            "QuantizeLinear" if self.graph.is_rounded_from_zero(node) => Role::Bends(all()),
            _ if is_passing(op) => Role::Passes(all()),
            _ if is_bending(op) => Role::Bends(all()),
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax" => Role::Pools,
            "AveragePool" | "MaxPool" if self.is_one_place(node.outputs.first()?)? => Role::Pools,
            "Add" | "Sum" | "Mean" | "Max" | "Min" | "Concat" => Role::Passes(all()),
            "Sub" | "Mul" | "Div" => match *inputs {
                [a, b] => self.formula(op, node, a, b),
                _ => Role::Passes(all()),
            },
            _ if is_product(op) => {
                let is_dense = inputs.len() == 1 && node.inputs.len() > 1;
                is_dense.then_some(Role::Head { is_on_maps: false })?
            }
            _ if is_convolution(op) && node.group == 1 && inputs.len() == 1 => {
                let is_pointwise = self.kernel(node).is_some_and(|k| k.iter().all(|&n| n == 1));
                let is_dense = is_pointwise && self.is_vector(first)
                    || self.is_one_place(node.outputs.first()?).unwrap_or(false);
                let is_pooled = path.pooled && (is_pointwise || path.classified);
                (is_dense || is_pooled).then_some(Role::Head {
                    is_on_maps: !is_dense,
                })?
            }
            _ => return None,
        })
    }

    /// What the difference, product or quotient of two tensors of the image is.
    fn formula(&self, op: &str, node: &'a OnnxNode, a: &'a str, b: &'a str) -> Role<'a> {
        let of_a = self.flow.depends(b, a, FORMULA);
        if op == "Div" && of_a {
            return match self.is_softmax(a, b) {
                Some(logits) => Role::Classifies(logits),
                // Divided by its own length.
                None => Role::Bends(vec![a]),
            };
        }
        match op {
            "Sub" if of_a => Role::Passes(vec![a]),
            "Sub" => Role::Passes(vec![a, b]),
            "Mul" if of_a => Role::Bends(vec![a]),
            "Mul" if self.flow.depends(a, b, FORMULA) => Role::Bends(vec![b]),
            "Mul" => Role::Bends(vec![a, b]),
            // Cosines: a product divided by the length of what it is a product of.
            _ => Role::Passes(
                node.inputs
                    .first()
                    .map(String::as_str)
                    .into_iter()
                    .collect(),
            ),
        }
    }

    /// The logits of a decomposed softmax: e^x, with or without subtracting the maximum, divided by its sum.
    fn is_softmax(&self, numerator: &'a str, denominator: &str) -> Option<&'a str> {
        let (_, sum) = self.flow.maker(denominator)?;
        let (_, exp) = self.flow.maker(numerator)?;
        let is_softmax = sum.op_type == "ReduceSum"
            && self.flow.data_input(sum) == Some(numerator)
            && exp.op_type == "Exp";
        let x = exp.inputs.first().filter(|_| is_softmax)?;
        match self.flow.maker(x) {
            Some((_, less)) if less.op_type == "Sub" && self.flow.data_inputs(less).len() == 2 => {
                less.inputs.first().map(String::as_str)
            }
            _ => Some(x),
        }
    }

    /// Whether a layer with weights is a classifier, by what follows it.
    fn is_classifier(&self, head: &Head) -> bool {
        let Path {
            classified, bent, ..
        } = head.path;
        let is_imagenet = || {
            let node = &self.flow.nodes[head.place];
            let dims = node.inputs.get(1).and_then(|w| self.weight_dims(w));
            dims.is_some_and(|dims| is_imagenet_width(dims[0]))
        };
        // The features of a network without its classifier are activations, pooled; so are SqueezeNet's logits.
        classified || !bent || head.is_on_maps && is_imagenet()
    }

    /// Whether one of the layers reads what another makes: then they are not heads side by side.
    fn is_chain(&self, heads: &[Head]) -> bool {
        heads.iter().any(|above| {
            let made = self.flow.nodes[above.place].outputs.first();
            let reads = |below: &Head| {
                below.place != above.place
                    && made.is_some_and(|m| self.flow.depends(below.input, m, usize::MAX))
            };
            heads.iter().any(reads)
        })
    }

    /// The tensors that the heads read: one, if there is one that all read, each through a normalisation of its own
    /// or not.
    fn read_by(&self, heads: &[Head<'a>]) -> Vec<String> {
        let mut read: Vec<&str> = Vec::new();
        for head in heads {
            let tensor = self.flow.plain(head.input);
            if !read.contains(&tensor) {
                read.push(tensor);
            }
        }
        if read.len() > 1 {
            let ways: Vec<Vec<&str>> = read.iter().map(|tensor| self.way_up(tensor)).collect();
            let common = ways[0].iter().find(|t| ways.iter().all(|w| w.contains(t)));
            if let Some(common) = common {
                return vec![(*common).to_owned()];
            }
        }
        read.into_iter().map(str::to_owned).collect()
    }

    /// `tensor` and those from which it is made by normalisations and changes of shape.
    fn way_up(&self, tensor: &'a str) -> Vec<&'a str> {
        let mut way = vec![tensor];
        let mut tensor = tensor;
        while let Some((_, node)) = self.flow.maker(tensor)
            && let Some(input) = self.flow.data_input(node)
            && (matches!(
                node.op_type.as_str(),
                "BatchNormalization"
                    | "LayerNormalization"
                    | "Flatten"
                    | "Reshape"
                    | "Squeeze"
                    | "QuantizeLinear"
                    | "DequantizeLinear"
            ) || matches!(
                node.op_type.as_str(),
                "Mul" | "Add" | "Sub" | "Div" | "Dropout" | "Identity" | "Cast"
            ))
        {
            way.push(input);
            tensor = input;
        }
        way
    }

    /// Whether `tensor` has one value a channel, a pooling over all places lying before it.
    fn is_vector(&self, tensor: &str) -> bool {
        let mut seen = HashSet::new();
        let mut todo = vec![tensor.to_owned()];
        let mut is_pooled = false;
        while let Some(tensor) = todo.pop() {
            let Some((place, node)) = self.flow.maker(&tensor) else {
                return false;
            };
            if !seen.insert(place) {
                continue;
            }
            let op = node.op_type.as_str();
            let op = op.strip_prefix("QLinear").unwrap_or(op);
            let is_pool = matches!(
                op,
                "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax"
            );
            if is_pool || self.is_one_place(&tensor) == Some(true) {
                is_pooled = true;
                continue;
            }
            let is_pointwise = is_passing(op)
                || is_bending(op)
                || matches!(op, "Add" | "Mul" | "Sub" | "Div")
                || op == "DynamicQuantizeLinear"
                || is_convolution(op)
                    && self.kernel(node).is_some_and(|k| k.iter().all(|&n| n == 1));
            if !is_pointwise {
                return false;
            }
            let inputs = self.flow.data_inputs(node);
            todo.extend(inputs.into_iter().map(str::to_owned));
        }
        is_pooled
    }

    /// Whether the maps `tensor` are 1 × 1; `None` if that cannot be found.
    fn is_one_place(&self, tensor: &str) -> Option<bool> {
        match *self.shape(tensor)? {
            [_, _, height, width] => Some(height == 1 && width == 1),
            _ => Some(false),
        }
    }

    /// Height and width of a convolution's window.
    fn kernel(&self, node: &OnnxNode) -> Option<Vec<usize>> {
        if !node.kernel_shape.is_empty() {
            let sides = node.kernel_shape.iter();
            return sides.map(|&n| usize::try_from(n).ok()).collect();
        }
        let mut inputs = node.inputs.iter().skip(1);
        let dims = inputs.find_map(|input| self.weight_dims(input).filter(|d| d.len() == 4))?;
        Some(dims[2..].to_vec())
    }

    /// Dimensions of a weight, which may come through operators that change its numbers alone.
    fn weight_dims(&self, tensor: &str) -> Option<Vec<usize>> {
        let mut tensor = tensor;
        loop {
            if let Some(dims) = self.weights.get(tensor) {
                return Some(dims.clone()).filter(|dims| !dims.is_empty());
            }
            let (_, node) = self.flow.maker(tensor)?;
            match node.op_type.as_str() {
                "DequantizeLinear" | "QuantizeLinear" | "Cast" | "Identity" | "Mul" | "Div" => {
                    tensor = node.inputs.first()?;
                }
                _ => return None,
            }
        }
    }
}

/// What a node does between a classifier and the output.
enum Role<'a> {
    /// It is the classifier, or one of its heads.
    Head { is_on_maps: bool },
    /// It makes probabilities of this tensor.
    Classifies(&'a str),
    /// It is an activation or a normalisation of these tensors.
    Bends(Vec<&'a str>),
    /// It pools over all places.
    Pools,
    /// It leaves the values of these tensors what they are, or adds them up.
    Passes(Vec<&'a str>),
}
