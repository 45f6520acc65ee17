//! Finds the ranks of a graph's tensors and the shapes of its constants, in one pass over the nodes, without their values
//! and without the engine.

use std::collections::HashMap;

use tract_onnx::pb;

/// Number of dimensions of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    /// An upper bound.
    pub most: usize,
    /// Whether it is exact.
    pub exact: bool,
}

impl Rank {
    /// Of a tensor of which nothing is known: a batch of maps, or less.
    pub const UNKNOWN: Rank = Rank {
        most: 4,
        exact: false,
    };

    const fn exactly(most: usize) -> Rank {
        Rank { most, exact: true }
    }

    fn at_most(most: usize) -> Rank {
        Rank { most, exact: false }
    }

    fn plus(self, more: usize) -> Rank {
        let most = self.most.saturating_add(more);
        Rank { most, ..self }
    }

    fn minus(self, fewer: usize) -> Rank {
        let most = self.most.saturating_sub(fewer);
        Rank { most, ..self }
    }
}

/// Known ranks and shapes of the tensors of a graph.
pub(super) struct Facts<'a> {
    /// What is known of the graph around it, whose tensors it may read.
    outer: Option<&'a Facts<'a>>,
    ranks: HashMap<&'a str, Rank>,
    /// Dimensions of constants.
    dims: HashMap<&'a str, Vec<i64>>,
    /// Lengths of vectors that may be read as shapes.
    lengths: HashMap<&'a str, usize>,
}

impl<'a> Facts<'a> {
    /// What is known of the inputs and weights of `graph`, which stands in the graph of `outer`.
    pub fn of(graph: &'a pb::GraphProto, outer: Option<&'a Facts<'a>>) -> Facts<'a> {
        let mut facts = Facts {
            outer,
            ranks: HashMap::new(),
            dims: HashMap::new(),
            lengths: HashMap::new(),
        };
        for input in &graph.input {
            let shape = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
                Some(pb::type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
                _ => None,
            };
            if let Some(shape) = shape {
                let rank = Rank::exactly(shape.dim.len());
                facts.ranks.insert(input.name.as_str(), rank);
            }
        }
        for tensor in &graph.initializer {
            facts.constant(&tensor.name, tensor.dims.clone());
        }
        facts
    }

    pub fn rank(&self, tensor: &str) -> Rank {
        let outer = || Some(self.outer?.rank(tensor));
        let own = self.ranks.get(tensor).copied();
        own.or_else(outer).unwrap_or(Rank::UNKNOWN)
    }

    /// Dimensions of a constant; `None` of other tensors.
    pub fn dims(&self, tensor: &str) -> Option<&[i64]> {
        let own = self.dims.get(tensor).map(Vec::as_slice);
        own.or_else(|| self.outer?.dims(tensor))
    }

    /// Length of a vector that may be read as a shape; `None` of other tensors.
    fn vector(&self, tensor: &str) -> Option<usize> {
        let own = self.lengths.get(tensor).copied();
        own.or_else(|| self.outer?.vector(tensor))
    }

    fn constant(&mut self, name: &'a str, dims: Vec<i64>) {
        self.ranks.insert(name, Rank::exactly(dims.len()));
        if let [length] = dims[..]
            && let Ok(length) = usize::try_from(length)
        {
            self.lengths.insert(name, length);
        }
        self.dims.insert(name, dims);
    }

    /// Records the outputs of `node`; returns the number of dimensions of its first output.
    pub fn learn(&mut self, node: &'a pb::NodeProto) -> Option<Rank> {
        let first = node.output.first()?;
        if node.op_type == "Constant" {
            let dims = constant_dims(node);
            self.constant(first, dims.unwrap_or_default());
            return Some(self.rank(first));
        }
        if let Some(dims) = keeps_shape(&node.op_type)
            .then(|| self.dims(node.input.first()?).map(<[i64]>::to_vec))
            .flatten()
        {
            self.dims.insert(first, dims);
        }
        if let Some(length) = self.length(node) {
            self.lengths.insert(first, length);
        }
        let rank = self.result(node);
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            self.ranks.insert(output, rank);
        }
        Some(rank)
    }

    /// Length of the vector that a node makes, where it is one and that is known.
    fn length(&self, node: &pb::NodeProto) -> Option<usize> {
        let input = |place: usize| self.vector(node.input.get(place)?);
        match node.op_type.as_str() {
            "Shape" if node.attribute.is_empty() => {
                let rank = self.rank(node.input.first()?);
                rank.exact.then_some(rank.most)
            }
            "Concat" => {
                let mut places = 0..node.input.len();
                places.try_fold(0_usize, |length, place| length.checked_add(input(place)?))
            }
            "Unsqueeze" if self.rank(node.input.first()?) == Rank::exactly(0) => Some(1),
            "Gather" if self.rank(node.input.first()?) == Rank::exactly(1) => input(1),
            "Cast" | "Identity" => input(0),
            "Add" | "Sub" | "Mul" | "Div" => Some(input(0)?.max(input(1)?)),
            _ => None,
        }
    }

    /// Number of dimensions of what a node makes.
    fn result(&self, node: &pb::NodeProto) -> Rank {
        let ranks = || node.input.iter().filter(|x| !x.is_empty());
        let input = |place: usize| match node.input.get(place) {
            Some(name) if !name.is_empty() => self.rank(name),
            _ => Rank::UNKNOWN,
        };
        let widest = || {
            let all = ranks().map(|x| self.rank(x));
            let widest = all.reduce(|a, b| Rank {
                most: a.most.max(b.most),
                exact: a.exact && b.exact,
            });
            widest.unwrap_or(Rank::UNKNOWN)
        };
        let length = |place: usize| self.vector(node.input.get(place)?);
        let as_long_as = |place: usize| length(place).map_or(Rank::UNKNOWN, Rank::exactly);
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let axes = |place: usize| match attribute("axes") {
            Some(axes) => Some(axes.ints.len()),
            None => length(place),
        };
        let op = node.op_type.as_str();
        match op {
            "Conv" | "ConvInteger" | "ConvTranspose" | "MaxPool" | "AveragePool" | "LpPool" => {
                match attribute("kernel_shape").map_or(0, |a| a.ints.len()) {
                    0 => input(0),
                    axes => Rank::exactly(axes + 2),
                }
            }
            "Transpose" => match attribute("perm").map_or(0, |a| a.ints.len()) {
                0 => input(0),
                axes => Rank::exactly(axes),
            },
            "Gemm" | "Flatten" | "NonZero" => Rank::exactly(2),
            "Shape" | "Range" => Rank::exactly(1),
            "Size" => Rank::exactly(0),
            "Reshape" => match attribute("shape") {
                Some(shape) => Rank::exactly(shape.ints.len()),
                None => as_long_as(1),
            },
            "ConstantOfShape" => as_long_as(0),
            "Expand" => match (input(0), as_long_as(1)) {
                (a, b) if a.exact && b.exact => Rank::exactly(a.most.max(b.most)),
                (a, b) => Rank::at_most(a.most.max(b.most)),
            },
            // Without known axes, more than a batch of maps has nobody added at once.
            "Unsqueeze" => match axes(1) {
                Some(axes) => input(0).plus(axes),
                None => Rank::at_most(input(0).most.saturating_add(Rank::UNKNOWN.most)),
            },
            "Squeeze" => match axes(1) {
                Some(axes) => input(0).minus(axes),
                None => Rank::at_most(input(0).most),
            },
            "OneHot" => input(0).plus(1),
            "Gather" => match (input(0), input(1)) {
                (data, indices) if data.exact && indices.exact => {
                    Rank::exactly((data.most + indices.most).saturating_sub(1))
                }
                (data, indices) => {
                    Rank::at_most(data.most.saturating_add(indices.most).saturating_sub(1))
                }
            },
            "MatMul" | "MatMulInteger" => match widest() {
                rank if input(0).most >= 2 && input(1).most >= 2 => rank,
                rank => Rank::at_most(rank.most),
            },
            _ if op.starts_with("Reduce") || op.starts_with("Arg") => {
                match attribute("keepdims").is_none_or(|a| a.i != 0) {
                    true => input(0),
                    false if op.starts_with("Arg") => input(0).minus(1),
                    false => match axes(1) {
                        Some(axes) => input(0).minus(axes),
                        None => Rank::at_most(input(0).most),
                    },
                }
            }
            "Einsum" => {
                let equation = attribute("equation").map_or(&b""[..], |a| &a.s);
                let letters = equation.iter().filter(|b| b.is_ascii_alphabetic()).count();
                Rank::at_most(letters.max(widest().most))
            }
            _ if keeps_shape(op) || is_as_wide_as_its_first(op) => input(0),
            _ if is_broadcast(op) => widest(),
            _ => Rank::at_most(widest().most),
        }
    }
}

/// Dimensions of what a `Constant` node makes.
fn constant_dims(node: &pb::NodeProto) -> Option<Vec<i64>> {
    let attribute = node.attribute.first()?;
    let lists = [
        attribute.ints.len(),
        attribute.floats.len(),
        attribute.strings.len(),
    ];
    match attribute.name.as_str() {
        "value" => Some(attribute.t.as_ref()?.dims.clone()),
        "value_ints" | "value_floats" | "value_strings" => {
            let length = lists.into_iter().max().unwrap_or(0);
            Some(vec![i64::try_from(length).ok()?])
        }
        _ => Some(Vec::new()),
    }
}

/// Operators whose output has the shape of their first input.
pub(super) fn keeps_shape(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Cast"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "RMSNormalization"
            | "SimplifiedLayerNormalization"
            | "GroupNormalization"
            | "LpNormalization"
            | "MeanVarianceNormalization"
            | "LRN"
            | "Dropout"
            | "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Clip"
            | "Elu"
            | "Selu"
            | "Celu"
            | "Gelu"
            | "Mish"
            | "Swish"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Softplus"
            | "Softsign"
            | "Tanh"
            | "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "Erf"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Abs"
            | "Neg"
            | "Sign"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Not"
            | "CumSum"
            | "Trilu"
    )
}

/// Operators whose output has as many dimensions as their first input.
fn is_as_wide_as_its_first(op: &str) -> bool {
    matches!(
        op,
        "Concat"
            | "Split"
            | "Slice"
            | "Pad"
            | "Tile"
            | "Resize"
            | "Upsample"
            | "TopK"
            | "QLinearConv"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "GlobalLpPool"
            | "DepthToSpace"
            | "SpaceToDepth"
    )
}

/// Operators of two or more tensors of shapes that need only agree.
pub(super) fn is_broadcast(op: &str) -> bool {
    matches!(
        op,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Mod"
            | "Min"
            | "Max"
            | "Mean"
            | "Sum"
            | "Where"
            | "Equal"
            | "Greater"
            | "GreaterOrEqual"
            | "Less"
            | "LessOrEqual"
            | "And"
            | "Or"
            | "Xor"
    )
}
