//! Limits the size of tensors computed from constants. An engine computes them when it loads the graph: 40 nodes that each
//! double a weight need 2⁴⁰ values.
//!
//! Follows the shapes of all tensors as far as they are known, and the values of small ones, since shapes depend on them.
//! Numbers are floating-point, so that none can overflow.

use std::collections::HashMap;

use tract_onnx::pb;

use super::ranks::{is_broadcast, keeps_shape};
use super::shapes::{broadcast, reshaped, squeezed, unsqueezed};
use super::{constants, graphs, inner_graphs, said};
use crate::backbone::attributes::small_values;

/// Maximum number of values of a tensor: 1 GiB of float32, some hundred times the largest tensor of any backbone.
const MOST_VALUES: f64 = (1_u64 << 28) as f64;

/// Maximum number of values that a graph may make of constants, for each value that is in the file, and beside those.
const MOST_MADE_OF_EACH: f64 = 16.0;
const MOST_MADE: f64 = (1_u64 << 26) as f64;

/// Values of tensors of at most this many are followed.
const FOLLOWED: usize = 64;

/// Most places of a window: 1,024 x 1,024.
const MOST_TAPS: f64 = (1_u64 << 20) as f64;

/// No axis is as far as this.
const MOST_DIMENSIONS: f64 = 32.0;

/// Largest padding, on a side.
const MOST_PADDING: f64 = (1_u64 << 20) as f64;

/// Known facts about a tensor.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its shape.
    dims: Option<Vec<f64>>,
    /// Its values, of a number or a vector.
    values: Option<Vec<f64>>,
    /// Whether it does not depend on the image.
    constant: bool,
    /// The number of its values, if it is constant and its shape is not known: not more than this.
    most: f64,
}

impl Known {
    fn of_dims(dims: Vec<f64>) -> Known {
        Known {
            dims: Some(dims),
            ..Known::default()
        }
    }

    fn of_values(values: Vec<f64>) -> Known {
        Known {
            dims: Some(vec![values.len() as f64]),
            values: Some(values),
            ..Known::default()
        }
    }

    /// As many values as these, or fewer, of an unknown shape.
    fn at_most(most: f64) -> Known {
        Known {
            most,
            ..Known::default()
        }
    }

    fn of_tensor(tensor: &pb::TensorProto) -> Known {
        let dims: Vec<f64> = tensor.dims.iter().map(|&d| d as f64).collect();
        let count: f64 = dims.iter().product();
        Known {
            values: (dims.len() < 2 && count <= FOLLOWED as f64)
                .then(|| small_values(tensor))
                .flatten(),
            dims: Some(dims),
            constant: true,
            most: count,
        }
    }

    /// Number of its values, as far as that is known.
    fn count(&self) -> f64 {
        // `max` would pass over what is not a number.
        let at_least_1 = |&d: &f64| if d < 1.0 { 1.0 } else { d };
        let product = |dims: &Vec<f64>| dims.iter().map(at_least_1).product();
        self.dims.as_ref().map_or(self.most, product)
    }
}

/// Known facts about the tensors of a graph, and of the graphs around it.
struct Sizes<'a> {
    outer: Option<&'a Sizes<'a>>,
    known: HashMap<&'a str, Known>,
}

/// Says, as a clause, which node of `graph` makes too much of constants, or too large a tensor, for an image of the
/// shape `picture`, batch included. Nodes must be in an order of execution.
pub(in crate::backbone) fn oversize(graph: &pb::GraphProto, picture: [usize; 4]) -> Option<String> {
    let in_file: f64 = graphs(graph)
        .into_iter()
        .flat_map(|(graph, _)| constants(graph))
        .map(|(_, tensor)| Known::of_tensor(tensor).most)
        .sum();
    let mut left = MOST_MADE + MOST_MADE_OF_EACH * in_file;
    let [_, a, b, c] = picture;
    let picture = picture.map(|dim| dim as f64).to_vec();
    if exceeds(picture.iter().product(), MOST_VALUES) {
        return Some(format!("its input of {a} x {b} x {c} values is too large"));
    }
    look_at(graph, Some(picture), None, &mut left)
}

fn look_at<'a>(
    graph: &'a pb::GraphProto,
    mut picture: Option<Vec<f64>>,
    outer: Option<&'a Sizes<'a>>,
    left: &mut f64,
) -> Option<String> {
    let mut sizes = Sizes {
        outer,
        known: HashMap::new(),
    };
    for tensor in &graph.initializer {
        sizes.known.insert(&tensor.name, Known::of_tensor(tensor));
    }
    for input in &graph.input {
        if !sizes.known.contains_key(input.name.as_str()) {
            let known = picture.take().map_or_else(Known::default, Known::of_dims);
            sizes.known.insert(&input.name, known);
        }
    }
    for node in &graph.node {
        let inputs: Vec<Known> = node.input.iter().map(|name| sizes.of(name)).collect();
        let mut made = match made_by(node, &inputs) {
            Ok(made) => made,
            Err(problem) => return Some(format!("{} {problem}", said(node))),
        };
        let given = || {
            node.input
                .iter()
                .zip(&inputs)
                .filter(|(n, _)| !n.is_empty())
        };
        let has_graphs = inner_graphs(node).next().is_some();
        made.constant = !has_graphs && given().all(|(_, known)| known.constant) || is_shape(node);
        let (count, constant) = (made.count(), made.constant);
        let is_too_large = made.dims.is_some() && exceeds(count, MOST_VALUES);
        if constant {
            *left -= count;
        }
        if is_too_large || constant && exceeds(0.0, *left) {
            return Some(format!(
                "{} creates {} a tensor of {count:.3e} values, too large for an image network",
                said(node),
                if constant {
                    "from constants"
                } else {
                    "from the image"
                },
            ));
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            sizes.known.insert(output, made.clone());
            // Only the first output of an operator is followed exactly.
            made = Known {
                constant,
                ..Known::at_most(count)
            };
        }
        let inner = inner_graphs(node).find_map(|g| look_at(g, None, Some(&sizes), left));
        if inner.is_some() {
            return inner;
        }
    }
    None
}

/// Whether a number is larger than another; what is not a number is.
fn exceeds(number: f64, most: f64) -> bool {
    number.is_nan() || most.is_nan() || number > most
}

fn is_shape(node: &pb::NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Shape" | "Size")
}

impl Sizes<'_> {
    fn of(&self, tensor: &str) -> Known {
        let own = self.known.get(tensor).cloned();
        let outer = || Some(self.outer?.of(tensor));
        own.or_else(outer).unwrap_or_default()
    }
}

/// The outputs of a node for `inputs`; or the problem, as the rest of a sentence.
fn made_by(node: &pb::NodeProto, inputs: &[Known]) -> Result<Known, String> {
    let empty = Known::default();
    let input = |place: usize| inputs.get(place).unwrap_or(&empty);
    let dims = |place: usize| input(place).dims.as_ref();
    let values = |place: usize| input(place).values.as_ref();
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let all: f64 = inputs.iter().map(|known| known.count().max(1.0)).product();
    // The place of an axis among `rank`.
    let axis = |default: i64, rank: usize| {
        let axis = attribute("axis").map_or(default, |a| a.i);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).ok().filter(|&axis| axis < rank)
    };
    let sizes = |values: &[f64]| match values.iter().find(|&&v| v.is_nan() || v < 0.0) {
        Some(v) => Err(format!("has {v} as a size, which must not be negative")),
        None => Ok(values.to_vec()),
    };
    let same = || Known::at_most(input(0).count());
    // Axes that stand in a constant; an engine that takes them at their word counts up to them.
    let axes = axes_input(&node.op_type).and_then(&values);
    if let Some(far) = axes.and_then(|axes| axes.iter().find(|a| exceeds(a.abs(), MOST_DIMENSIONS)))
    {
        return Err(format!("has the invalid axis {far}"));
    }
    Ok(match node.op_type.as_str() {
        "Constant" => match node.attribute.first() {
            Some(a) if a.t.is_some() => a.t.as_ref().map_or_else(Known::default, Known::of_tensor),
            Some(a) if a.name == "value_ints" && a.ints.len() <= FOLLOWED => {
                Known::of_values(a.ints.iter().map(|&i| i as f64).collect())
            }
            Some(a) if a.name == "value_int" => Known {
                dims: Some(Vec::new()),
                ..Known::of_values(vec![a.i as f64])
            },
            Some(a) => Known::at_most((a.ints.len() + a.floats.len() + 1) as f64),
            None => Known::default(),
        },
        "Shape" => match dims(0) {
            Some(dims) if attribute("start").is_none() && attribute("end").is_none() => {
                Known::of_values(dims.clone())
            }
            _ => Known::at_most(FOLLOWED as f64),
        },
        "Size" => Known::at_most(1.0),
        "ConstantOfShape" => match values(0) {
            Some(values) => Known::of_dims(sizes(values)?),
            None => Known::default(),
        },
        "RandomNormal" | "RandomUniform" => {
            let shape = attribute("shape").map_or(&[][..], |a| &a.ints);
            let shape: Vec<f64> = shape.iter().map(|&d| d as f64).collect();
            Known::of_dims(sizes(&shape)?)
        }
        "Cast" | "Identity" => input(0).clone(),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(&node.op_type, input(0), input(1)),
        op if is_broadcast(op) => {
            let shapes: Option<Vec<_>> = inputs.iter().map(|known| known.dims.clone()).collect();
            match shapes.map(|shapes| shapes.into_iter().reduce(|a, b| broadcast(&a, &b))) {
                Some(Some(dims)) => Known::of_dims(dims),
                _ => Known::at_most(inputs.iter().map(Known::count).fold(0.0, f64::max)),
            }
        }
        "Expand" => match (dims(0), values(1)) {
            (Some(dims), Some(shape)) => Known::of_dims(broadcast(dims, shape)),
            (None, Some(shape)) => {
                let product: f64 = shape.iter().map(|d| d.max(1.0)).product();
                Known::at_most(input(0).count().max(1.0) * product)
            }
            _ => Known::default(),
        },
        "Tile" => match values(1).map(|repeats| sizes(repeats)).transpose()? {
            Some(repeats) => match dims(0) {
                Some(dims) if dims.len() == repeats.len() => {
                    Known::of_dims(dims.iter().zip(repeats).map(|(d, r)| d * r).collect())
                }
                _ => Known::at_most(input(0).count() * repeats.iter().product::<f64>()),
            },
            None => Known::default(),
        },
        "Pad" => {
            let pads: Vec<f64> = match (attribute("pads"), values(1)) {
                (Some(a), _) => a.ints.iter().map(|&i| i as f64).collect(),
                (None, Some(values)) => values.clone(),
                (None, None) => return Ok(same()),
            };
            if let Some(wrong) = pads.iter().find(|p| exceeds(p.abs(), MOST_PADDING)) {
                return Err(format!("pads by {wrong}; the limit is {MOST_PADDING}"));
            }
            let has_axes = node.input.get(3).is_some_and(|axes| !axes.is_empty());
            match dims(0).filter(|dims| 2 * dims.len() == pads.len() && !has_axes) {
                Some(dims) => {
                    let (before, after) = pads.split_at(dims.len());
                    let sides = before.iter().zip(after);
                    Known::of_dims(
                        dims.iter()
                            .zip(sides)
                            .map(|(d, (b, a))| d + b + a)
                            .collect(),
                    )
                }
                None => Known::at_most(
                    pads.iter()
                        .fold(input(0).count(), |n, p| n * (1.0 + p.abs())),
                ),
            }
        }
        "Range" => match (values(0), values(1), values(2)) {
            (Some(start), Some(limit), Some(delta)) => {
                let first = |values: &[f64]| values.first().copied().unwrap_or(f64::NAN);
                let steps = (first(limit) - first(start)) / first(delta);
                Known::of_dims(vec![steps.ceil().max(0.0)])
            }
            _ => Known::default(),
        },
        "Resize" | "Upsample" => {
            let scales = if node.op_type == "Upsample" { 1 } else { 2 };
            match (dims(0), values(3), values(scales).filter(|s| !s.is_empty())) {
                (Some(dims), Some(wanted), _) if wanted.len() == dims.len() => {
                    Known::of_dims(sizes(wanted)?)
                }
                (Some(dims), None, Some(factors)) if factors.len() == dims.len() => {
                    let wanted: Vec<f64> = dims.iter().zip(factors).map(|(d, f)| d * f).collect();
                    Known::of_dims(sizes(&wanted)?)
                }
                (_, Some(wanted), _) => Known::at_most(sizes(wanted)?.iter().product()),
                _ => Known::default(),
            }
        }
        "TopK" => match (dims(0), values(1).and_then(|k| k.first())) {
            (Some(dims), Some(&k)) => match axis(-1, dims.len()) {
                Some(place) if k <= dims[place] => {
                    let mut dims = dims.clone();
                    dims[place] = k;
                    Known::of_dims(dims)
                }
                _ => return Err(format!("takes the top {k} of fewer values")),
            },
            _ => same(),
        },
        "OneHot" => match (dims(0), values(1).and_then(|depth| depth.first())) {
            (Some(dims), Some(&depth)) => {
                let place = axis(-1, dims.len() + 1).unwrap_or(0);
                let mut dims = dims.clone();
                dims.insert(place, depth);
                Known::of_dims(dims)
            }
            (None, Some(depth)) => Known::at_most(input(0).count() * depth),
            _ => Known::default(),
        },
        // Of a kernel that other nodes make, only here is the window known.
        "Conv" | "ConvTranspose" | "ConvInteger" => {
            let window = dims(1).and_then(|dims| dims.get(2..));
            let taps: f64 = window.unwrap_or(&[]).iter().product();
            if exceeds(taps, MOST_TAPS) {
                return Err(format!("has a window of {taps:.3e} places"));
            }
            Known::at_most(all)
        }
        "Concat" => concat(inputs, axis(0, dims(0).map_or(0, Vec::len))),
        "Gather" => match (values(0), values(1)) {
            (Some(data), Some(indices)) => {
                let at = |&i: &f64| {
                    let i = if i < 0.0 { i + data.len() as f64 } else { i };
                    data.get(i as usize).copied()
                };
                match indices.iter().map(at).collect::<Option<Vec<f64>>>() {
                    Some(found) => Known {
                        dims: input(1).dims.clone(),
                        ..Known::of_values(found)
                    },
                    None => return Err("reads past the end of a vector".to_owned()),
                }
            }
            _ => match (dims(0), dims(1)) {
                (Some(data), Some(indices)) => match axis(0, data.len()) {
                    Some(place) => {
                        let parts = [&data[..place], indices, &data[place + 1..]];
                        Known::of_dims(parts.concat())
                    }
                    None => same(),
                },
                _ => Known::at_most(all),
            },
        },
        "Unsqueeze" | "Squeeze" => {
            let axes: Option<Vec<f64>> = match (attribute("axes"), values(1)) {
                (Some(a), _) => Some(a.ints.iter().map(|&i| i as f64).collect()),
                (None, values) => values.cloned(),
            };
            let dims = dims(0)
                .zip(axes)
                .and_then(|(dims, axes)| match node.op_type.as_str() {
                    "Unsqueeze" => unsqueezed(dims, &axes),
                    _ => squeezed(dims, &axes),
                });
            let is_vector = dims.as_ref().is_some_and(|dims| dims.len() < 2);
            Known {
                dims,
                values: input(0).values.clone().filter(|_| is_vector),
                most: input(0).count(),
                ..Known::default()
            }
        }
        "Reshape" => match values(1).and_then(|shape| reshaped(dims(0)?, shape)) {
            Some(dims) => Known {
                values: input(0).values.clone().filter(|_| dims.len() < 2),
                ..Known::of_dims(dims)
            },
            None => same(),
        },
        "Transpose" => match (dims(0), attribute("perm").map(|a| &a.ints)) {
            (Some(dims), Some(perm)) if perm.len() == dims.len() => {
                let place = |&axis: &i64| dims.get(usize::try_from(axis).ok()?).copied();
                perm.iter()
                    .map(place)
                    .collect::<Option<Vec<f64>>>()
                    .map_or_else(same, Known::of_dims)
            }
            (Some(dims), None) => Known::of_dims(dims.iter().rev().copied().collect()),
            _ => same(),
        },
        "MatMul" => match (dims(0).map(Vec::as_slice), dims(1).map(Vec::as_slice)) {
            (Some([a @ .., rows, _]), Some([b @ .., _, columns])) => {
                let mut dims = broadcast(a, b);
                dims.extend([rows, columns]);
                Known::of_dims(dims)
            }
            _ => Known::at_most(all),
        },
        op if keeps_shape(op) => Known {
            dims: input(0).dims.clone(),
            most: input(0).count(),
            ..Known::default()
        },
        op if op.starts_with("Reduce") || op.starts_with("Arg") || is_not_larger(op) => same(),
        _ => Known::at_most(all),
    })
}

fn arithmetic(op: &str, a: &Known, b: &Known) -> Known {
    let dims = a.dims.as_ref().zip(b.dims.as_ref());
    let dims = dims.map(|(a, b)| broadcast(a, b));
    let apply = |a: f64, b: f64| match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        _ => (a / b).trunc(),
    };
    let values = match (a.values.as_deref(), b.values.as_deref()) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(&a, &b)| apply(a, b)).collect())
        }
        (Some(a), Some([b])) => Some(a.iter().map(|&a| apply(a, *b)).collect()),
        (Some([a]), Some(b)) => Some(b.iter().map(|&b| apply(*a, b)).collect()),
        _ => None,
    };
    Known {
        // Where a shape is not known, it is most often one of the two; the engine's own shapes decide before it computes.
        most: match dims {
            None => a.count().max(b.count()),
            Some(_) => 0.0,
        },
        dims,
        values,
        ..Known::default()
    }
}

fn concat(inputs: &[Known], axis: Option<usize>) -> Known {
    let most = inputs.iter().map(Known::count).sum();
    let values: Option<Vec<Vec<f64>>> = inputs.iter().map(|known| known.values.clone()).collect();
    let values = values
        .map(|parts| parts.concat())
        .filter(|v| v.len() <= FOLLOWED);
    let first = inputs.first().and_then(|known| known.dims.clone());
    let dims = first.zip(axis).and_then(|(mut dims, axis)| {
        let along = inputs
            .iter()
            .map(|known| known.dims.as_ref()?.get(axis).copied());
        dims[axis] = along.sum::<Option<f64>>()?;
        Some(dims)
    });
    Known {
        dims,
        values,
        most,
        ..Known::default()
    }
}

/// The input of an operator that names axes.
fn axes_input(op: &str) -> Option<usize> {
    match op {
        "Squeeze" | "Unsqueeze" | "CumSum" => Some(1),
        "Slice" | "Pad" => Some(3),
        _ => op.starts_with("Reduce").then_some(1),
    }
}

/// Operators whose outputs have no more values than their first input.
fn is_not_larger(op: &str) -> bool {
    matches!(
        op,
        "Flatten"
            | "Slice"
            | "Split"
            | "Compress"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "ScatterND"
            | "ScatterElements"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "MaxPool"
            | "AveragePool"
            | "EyeLike"
    )
}

#[cfg(test)]
mod tests;
