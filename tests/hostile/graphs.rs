//! Networks that mean harm: one node, or a few, put in front of a small network that is in order.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// What is put in front of a network: nodes from the tensor `image` to the tensor `hostile`, and their weights.
pub struct Front {
    pub name: &'static str,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

impl Front {
    /// Puts it in front of `graph`, whose picture is the tensor `image`.
    pub fn put_before(&self, graph: &mut GraphProto) {
        for input in graph.node.iter_mut().flat_map(|n| &mut n.input) {
            if input == "image" {
                *input = "hostile".to_owned();
            }
        }
        graph.initializer.extend(self.weights.iter().cloned());
        graph.node.splice(0..0, self.nodes.iter().cloned());
    }
}

/// The value of an attribute.
enum Value {
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
    Tensor(TensorProto),
    Graph(GraphProto),
}

use Value::{Graph, Int, Ints, Tensor, Text};

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<(&str, Value)>) -> NodeProto {
    let attribute = attributes.into_iter().map(|(name, value)| {
        let mut proto = AttributeProto {
            name: name.to_owned(),
            ..Default::default()
        };
        match value {
            Int(i) => (proto.i, proto.r#type) = (i, AttributeType::Int as i32),
            Ints(ints) => (proto.ints, proto.r#type) = (ints, AttributeType::Ints as i32),
            Text(s) => (proto.s, proto.r#type) = (s.into(), AttributeType::String as i32),
            Tensor(t) => (proto.t, proto.r#type) = (Some(t), AttributeType::Tensor as i32),
            Graph(g) => (proto.g, proto.r#type) = (Some(g), AttributeType::Graph as i32),
        }
        proto
    });
    NodeProto {
        op_type: op.to_owned(),
        name: format!("{op}-{output}"),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attribute.collect(),
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn scalar(name: &str, value: i64) -> TensorProto {
    TensorProto {
        dims: Vec::new(),
        ..ints(name, &[value])
    }
}

/// One node that reads `image` and `weights`, in this order.
fn one(
    name: &'static str,
    op: &str,
    weights: Vec<TensorProto>,
    attributes: Vec<(&str, Value)>,
) -> Front {
    let names: Vec<String> = weights.iter().map(|w| w.name.clone()).collect();
    let inputs: Vec<&str> = std::iter::once("image")
        .chain(names.iter().map(String::as_str))
        .collect();
    Front {
        name,
        nodes: vec![node(op, &inputs, "hostile", attributes)],
        weights,
    }
}

/// A 1 x 1 kernel from three channels to three.
fn kernel() -> TensorProto {
    floats(
        "hk",
        &[3, 3, 1, 1],
        &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    )
}

const HUGE: i64 = 1 << 40;
const WRAPS: i64 = (1 << 62) - 3;

/// Windows, strides, dilations and paddings.
fn windows() -> Vec<Front> {
    let pool = |name, window: [i64; 2], more: Vec<(&'static str, Value)>| {
        let mut attributes = vec![("kernel_shape", Ints(window.to_vec()))];
        attributes.extend(more);
        one(name, "MaxPool", vec![], attributes)
    };
    let conv = |name, attributes| one(name, "Conv", vec![kernel()], attributes);
    vec![
        pool(
            "pool-of-billions",
            [1 << 31, 32],
            vec![
                ("dilations", Ints(vec![1, 1])),
                ("strides", Ints(vec![3, 1])),
            ],
        ),
        pool("pool-of-10^24", [HUGE, HUGE], vec![]),
        pool("pool-60000", [60_000, 60_000], vec![]),
        pool(
            "pool-4000-same",
            [4_000, 4_000],
            vec![("auto_pad", Text("SAME_UPPER"))],
        ),
        pool("pool-of-0", [0, 0], vec![]),
        pool("pool-negative", [-3, 2], vec![]),
        pool(
            "pool-dilated",
            [3, 3],
            vec![("dilations", Ints(vec![WRAPS, 1]))],
        ),
        pool(
            "pool-padded",
            [255, 255],
            vec![("pads", Ints(vec![254; 4]))],
        ),
        one(
            "mean-60000",
            "AveragePool",
            vec![],
            vec![
                ("kernel_shape", Ints(vec![60_000, 60_000])),
                ("pads", Ints(vec![59_999; 4])),
            ],
        ),
        conv(
            "conv-window",
            vec![("kernel_shape", Ints(vec![HUGE, HUGE]))],
        ),
        conv(
            "conv-stride",
            vec![
                ("strides", Ints(vec![WRAPS, 1])),
                ("pads", Ints(vec![0, 0, WRAPS, 0])),
            ],
        ),
        conv("conv-stride-0", vec![("strides", Ints(vec![0, 0]))]),
        conv(
            "conv-dilation",
            vec![("dilations", Ints(vec![(1 << 60) + 1; 2]))],
        ),
        conv("conv-padding", vec![("pads", Ints(vec![1 << 30; 4]))]),
        conv("conv-padding-8000", vec![("pads", Ints(vec![8_000; 4]))]),
        conv(
            "conv-stride-30-million",
            vec![
                ("strides", Ints(vec![30_000_000, 1])),
                ("pads", Ints(vec![0, 0, 30_000_000, 0])),
            ],
        ),
        conv("conv-group-0", vec![("group", Int(0))]),
        conv("conv-group-negative", vec![("group", Int(-3))]),
        conv("conv-group-huge", vec![("group", Int(HUGE))]),
        one(
            "transposed",
            "ConvTranspose",
            vec![kernel()],
            vec![("strides", Ints(vec![HUGE, HUGE]))],
        ),
        one(
            "transposed-shape",
            "ConvTranspose",
            vec![kernel()],
            vec![("output_shape", Ints(vec![HUGE, HUGE]))],
        ),
        one("response-window", "LRN", vec![], vec![("size", Int(HUGE))]),
        one("response-0", "LRN", vec![], vec![("size", Int(0))]),
        one(
            "depth-0",
            "DepthToSpace",
            vec![],
            vec![("blocksize", Int(0))],
        ),
        one(
            "space-huge",
            "SpaceToDepth",
            vec![],
            vec![("blocksize", Int(HUGE))],
        ),
    ]
}

/// Operators that the engine has for itself.
fn of_the_engine() -> Vec<Front> {
    let kernel = |dims: [i64; 4]| vec![("kernel", Ints(dims.to_vec()))];
    vec![
        one("engine-quantize", "TlQuantize", vec![], vec![]),
        one("engine-pool", "TlMaxPool", vec![], kernel([1, 1, 160, 160])),
        one(
            "engine-convolution",
            "TlConvolution",
            vec![],
            kernel([4, 3, 0, 0]),
        ),
    ]
}

/// Axes that are not there, or twice.
fn axes() -> Vec<Front> {
    let norm = |name, op, axis| {
        let scale = floats("hs", &[32], &[1.0; 32]);
        one(name, op, vec![scale], vec![("axis", Int(axis))])
    };
    let axis = |name, op, axis| one(name, op, vec![], vec![("axis", Int(axis))]);
    let perm = |name, perm: &[i64]| {
        one(
            name,
            "Transpose",
            vec![],
            vec![("perm", Ints(perm.to_vec()))],
        )
    };
    vec![
        norm("layernorm-9", "LayerNormalization", -9),
        norm("layernorm-5", "LayerNormalization", -5),
        norm("layernorm-least", "LayerNormalization", i64::MIN),
        norm("layernorm-most", "LayerNormalization", i64::MAX),
        norm("rmsnorm-9", "RMSNormalization", -9),
        norm("simplified-9", "SimplifiedLayerNormalization", -9),
        axis("softmax-far", "Softmax", 1 << 62),
        axis("softmax-9", "Softmax", -9),
        axis("concat-far", "Concat", -(1 << 62)),
        axis("flatten-far", "Flatten", HUGE),
        axis("flatten-9", "Flatten", -9),
        axis("split-far", "Split", -HUGE),
        axis("argmax-9", "ArgMax", -9),
        axis("gather-far", "Gather", i64::MIN),
        one(
            "mean-least",
            "ReduceMean",
            vec![],
            vec![("axes", Ints(vec![i64::MIN]))],
        ),
        one(
            "mean-twice",
            "ReduceMean",
            vec![],
            vec![("axes", Ints(vec![1, 1, 1, 1]))],
        ),
        one(
            "mean-many",
            "ReduceMean",
            vec![],
            vec![("axes", Ints(vec![1; 10_000]))],
        ),
        one("squeeze-99", "Squeeze", vec![ints("ha", &[99])], vec![]),
        one(
            "unsqueeze-99",
            "Unsqueeze",
            vec![ints("ha", &[-99, 99])],
            vec![],
        ),
        one(
            "unsqueeze-many",
            "Unsqueeze",
            vec![ints("ha", &[0; 5_000])],
            vec![],
        ),
        one(
            "onehot-axis",
            "OneHot",
            vec![scalar("hd", 4), floats("hv", &[2], &[0.0, 1.0])],
            vec![("axis", Int(-20))],
        ),
        one("sum-along-99", "CumSum", vec![scalar("ha", -99)], vec![]),
        perm("perm-twice", &[0, 1, 1, 2]),
        perm("perm-far", &[0, 1, 2, 9]),
        perm("perm-negative", &[0, -1, 2, 3]),
        perm("perm-short", &[1, 0]),
        perm("perm-long", &[0; 4_000]),
    ]
}

/// Constants that ask for much.
fn constants() -> Vec<Front> {
    let with = |name, op: &'static str, weights| one(name, op, weights, vec![]);
    let empty = || floats("h0", &[0], &[]);
    let doubled = {
        let mut nodes = vec![node("Concat", &["hw", "hw"], "d0", vec![("axis", Int(0))])];
        for i in 1..40 {
            let last = format!("d{}", i - 1);
            let next = format!("d{i}");
            nodes.push(node(
                "Concat",
                &[&last, &last],
                &next,
                vec![("axis", Int(0))],
            ));
        }
        nodes.push(node(
            "ReduceSum",
            &["d39"],
            "sum",
            vec![("keepdims", Int(0))],
        ));
        nodes.push(node("Mul", &["image", "sum"], "hostile", vec![]));
        Front {
            name: "doubled-40-times",
            nodes,
            weights: vec![floats("hw", &[64], &[1.0; 64])],
        }
    };
    let filled = |name, dims: &[i64]| Front {
        name,
        nodes: vec![
            node(
                "ConstantOfShape",
                &["hf"],
                "filled",
                vec![("value", Tensor(floats("", &[1], &[1.0])))],
            ),
            node("ReduceSum", &["filled"], "sum", vec![("keepdims", Int(0))]),
            node("Mul", &["image", "sum"], "hostile", vec![]),
        ],
        weights: vec![ints("hf", dims)],
    };
    let range = Front {
        name: "range-2^60",
        nodes: vec![
            node("Range", &["r0", "r1", "r2"], "range", vec![]),
            node("ReduceSum", &["range"], "sum", vec![("keepdims", Int(0))]),
            node("Cast", &["sum"], "cast", vec![("to", Int(1))]),
            node("Mul", &["image", "cast"], "hostile", vec![]),
        ],
        weights: vec![scalar("r0", 0), scalar("r1", 1 << 60), scalar("r2", 1)],
    };
    let spread = Front {
        name: "outer-product",
        nodes: vec![
            node("Add", &["c1", "c2"], "outer", vec![]),
            node("ReduceSum", &["outer"], "sum", vec![("keepdims", Int(0))]),
            node("Mul", &["image", "sum"], "hostile", vec![]),
        ],
        weights: vec![
            floats("c1", &[20_000, 1], &[1.0; 20_000]),
            floats("c2", &[1, 20_000], &[1.0; 20_000]),
        ],
    };
    vec![
        with(
            "pad-2^40",
            "Pad",
            vec![ints("hp", &[0, 0, 0, 0, 0, 0, HUGE, HUGE])],
        ),
        with(
            "pad-2^26",
            "Pad",
            vec![ints("hp", &[0, 0, 0, 0, 0, 0, 1 << 26, 1 << 26])],
        ),
        with(
            "pad-negative",
            "Pad",
            vec![ints("hp", &[0, 0, -WRAPS, 0, 0, 0, 0, 0])],
        ),
        with("pad-odd", "Pad", vec![ints("hp", &[0, 0, 1])]),
        with(
            "pad-100000",
            "Pad",
            vec![ints(
                "hp",
                &[0, 0, 100_000, 100_000, 0, 0, 100_000, 100_000],
            )],
        ),
        with("tile-2^40", "Tile", vec![ints("ht", &[1, 1, HUGE, 1])]),
        with(
            "tile-2^60",
            "Tile",
            vec![ints("ht", &[1, 1, 1 << 30, 1 << 30])],
        ),
        with("tile-negative", "Tile", vec![ints("ht", &[1, 1, -1, 1])]),
        with(
            "expand-2^60",
            "Expand",
            vec![ints("he", &[1 << 30, 1 << 30, 1, 1, 1, 1])],
        ),
        with(
            "expand-negative",
            "Expand",
            vec![ints("he", &[-5, 1, 1, 1])],
        ),
        with(
            "reshape-2^62",
            "Reshape",
            vec![ints("hr", &[1 << 62, 1 << 62])],
        ),
        with("reshape-twice-free", "Reshape", vec![ints("hr", &[-1, -1])]),
        with("reshape-wide", "Reshape", vec![ints("hr", &[1; 3_000])]),
        with(
            "resize-sizes",
            "Resize",
            vec![
                empty(),
                floats("h1", &[0], &[]),
                ints("hz", &[1, 3, HUGE, HUGE]),
            ],
        ),
        with(
            "resize-scales",
            "Resize",
            vec![empty(), floats("hc", &[4], &[1.0, 1.0, 1e30, 1e30])],
        ),
        with(
            "resize-nan",
            "Resize",
            vec![empty(), floats("hc", &[4], &[1.0, 1.0, f32::NAN, -1.0])],
        ),
        with(
            "upsample-scales",
            "Upsample",
            vec![floats("hc", &[4], &[1.0, 1.0, 1e9, 1e9])],
        ),
        with("topk-2^60", "TopK", vec![ints("hq", &[1 << 60])]),
        with(
            "slice-step-0",
            "Slice",
            vec![
                ints("s1", &[0]),
                ints("s2", &[9]),
                ints("s3", &[3]),
                ints("s4", &[0]),
            ],
        ),
        with(
            "slice-least",
            "Slice",
            vec![
                ints("s1", &[i64::MIN]),
                ints("s2", &[i64::MAX]),
                ints("s3", &[3]),
                ints("s4", &[i64::MIN]),
            ],
        ),
        with("gather-2^60", "Gather", vec![ints("hg", &[1 << 60])]),
        with("split-negative", "Split", vec![ints("hx", &[-5, 6])]),
        with(
            "onehot-2^40",
            "OneHot",
            vec![scalar("hd", HUGE), floats("hv", &[2], &[0.0, 1.0])],
        ),
        one(
            "einsum-outer",
            "Einsum",
            vec![floats("hy", &[64, 64, 64], &[1.0; 64 * 64 * 64])],
            vec![("equation", Text("abcd,efg->abcdefg"))],
        ),
        one(
            "random-2^40",
            "RandomNormal",
            vec![],
            vec![("shape", Ints(vec![1 << 20, 1 << 20]))],
        ),
        one(
            "lstm-2^50",
            "LSTM",
            vec![
                floats("l1", &[1, 4, 4], &[0.0; 16]),
                floats("l2", &[1, 4, 1], &[0.0; 4]),
            ],
            vec![("hidden_size", Int(1 << 50))],
        ),
        filled("fill-2^40", &[1 << 20, 1 << 20]),
        filled("fill-negative", &[-7, -9]),
        filled("fill-wide", &[1; 2_000]),
        doubled,
        range,
        spread,
    ]
}

/// Graphs of many nodes, tensors and graphs.
fn numbers() -> Vec<Front> {
    let chain = |name, op: &str, count: usize, more: &[&str], weights: Vec<TensorProto>| {
        let tensor = |i: usize| match i {
            0 => "image".to_owned(),
            i if i == count => "hostile".to_owned(),
            i => format!("t{i}"),
        };
        let nodes = (0..count).map(|i| {
            let input = tensor(i);
            let inputs: Vec<&str> = std::iter::once(input.as_str())
                .chain(more.iter().copied())
                .collect();
            node(op, &inputs, &tensor(i + 1), vec![])
        });
        Front {
            name,
            nodes: nodes.collect(),
            weights,
        }
    };
    let body = |inner: Vec<NodeProto>, output: &str| GraphProto {
        name: "branch".into(),
        node: inner,
        output: vec![tract_onnx::pb::ValueInfoProto {
            name: output.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut inner = node("Relu", &["image"], "n0", vec![]);
    for depth in 1..12 {
        let name = format!("n{depth}");
        let before = format!("n{}", depth - 1);
        let branches = [("then_branch", "a"), ("else_branch", "b")]
            .map(|(branch, _)| (branch, Graph(body(vec![inner.clone()], &before))));
        inner = node("If", &["hb"], &name, branches.into_iter().collect());
    }
    inner.output = vec!["hostile".into()];
    let truth = TensorProto {
        name: "hb".into(),
        data_type: DataType::Bool as i32,
        raw_data: vec![1],
        ..Default::default()
    };
    let mut twice = one("output-twice", "Relu", vec![], vec![]);
    twice
        .nodes
        .push(node("Sigmoid", &["image"], "hostile", vec![]));
    let mut weights_twice = one(
        "weight-twice",
        "Add",
        vec![floats("hw", &[1], &[1.0])],
        vec![],
    );
    weights_twice.weights.push(floats("hw", &[1], &[2.0]));
    let mut circle = one("circle", "Relu", vec![], vec![]);
    circle.nodes[0].input = vec!["hostile".into()];
    let mut many = one("concat-20000", "Concat", vec![], vec![("axis", Int(1))]);
    many.nodes[0].input = vec!["image".into(); 20_000];
    let mut outputs = one("split-20000", "Split", vec![], vec![("axis", Int(1))]);
    outputs.nodes[0]
        .output
        .extend((0..20_000).map(|i| format!("o{i}")));
    let mut lost = one(
        "weights-elsewhere",
        "Add",
        vec![floats("hw", &[1], &[1.0])],
        vec![],
    );
    lost.weights[0].data_location = Some(1);
    lost.weights[0].external_data = vec![tract_onnx::pb::StringStringEntryProto {
        key: "location".into(),
        value: "../../../etc/passwd".into(),
    }];
    vec![
        chain("nodes-100000", "Relu", 100_000, &[], vec![]),
        chain(
            "unsqueezed-400-times",
            "Unsqueeze",
            400,
            &["ha"],
            vec![ints("ha", &[0])],
        ),
        Front {
            name: "nested-12",
            nodes: vec![inner],
            weights: vec![truth],
        },
        twice,
        weights_twice,
        circle,
        many,
        outputs,
        lost,
    ]
}

/// All of them, with names that are all different.
pub fn fronts() -> Vec<Front> {
    [windows(), of_the_engine(), axes(), constants(), numbers()]
        .into_iter()
        .flatten()
        .collect()
}
