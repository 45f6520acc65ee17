use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::*;

fn attribute(name: &str, ints: &[i64]) -> pb::AttributeProto {
    let mut attribute = pb::AttributeProto {
        name: name.to_owned(),
        ..Default::default()
    };
    match ints {
        [one] if matches!(name, "axis" | "group") => {
            (attribute.i, attribute.r#type) = (*one, AttributeType::Int as i32);
        }
        list => (attribute.ints, attribute.r#type) = (list.to_vec(), AttributeType::Ints as i32),
    }
    attribute
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> pb::NodeProto {
    let attributes = attributes.iter();
    pb::NodeProto {
        op_type: op.to_owned(),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attributes
            .map(|(name, ints)| attribute(name, ints))
            .collect(),
        ..Default::default()
    }
}

fn vector(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// A graph of an image `x` of four dimensions.
fn graph(nodes: Vec<pb::NodeProto>, weights: Vec<pb::TensorProto>) -> pb::GraphProto {
    let dims = vec![Default::default(); 4];
    let tensor = pb::type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim: dims }),
    };
    pb::GraphProto {
        node: nodes,
        initializer: weights,
        input: vec![pb::ValueInfoProto {
            name: "x".into(),
            r#type: Some(pb::TypeProto {
                value: Some(pb::type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What is said of a graph of one node that reads `x`.
fn said_of(op: &str, attributes: &[(&str, &[i64])]) -> Option<String> {
    excess(&graph(vec![node(op, &["x"], "y", attributes)], vec![]))
}

#[test]
fn windows_of_real_networks_pass_and_others_do_not() {
    let pool = |window: &[i64], pads: &[i64], dilations: &[i64]| {
        let attributes = [
            ("kernel_shape", window),
            ("pads", pads),
            ("dilations", dilations),
        ];
        said_of("MaxPool", &attributes)
    };
    // ResNet's first pooling, RepLKNet's largest kernel, DeepLab's dilations, the mean of a whole map.
    for (window, pads, dilations) in [
        ([3, 3], [1; 4], [1, 1]),
        ([31, 31], [15; 4], [1, 1]),
        ([3, 3], [36; 4], [36, 36]),
        ([128, 128], [0; 4], [1, 1]),
    ] {
        assert_eq!(pool(&window, &pads, &dilations), None, "{window:?}");
    }
    for (window, pads, dilations) in [
        ([1 << 31, 32], [0; 4], [1, 1]),
        ([60_000, 60_000], [0; 4], [1, 1]),
        ([255, 255], [254; 4], [1, 1]),
        ([3, 3], [0; 4], [1 << 60, 1]),
        ([3, 3], [1 << 40; 4], [1, 1]),
        ([0, 3], [0; 4], [1, 1]),
    ] {
        assert!(pool(&window, &pads, &dilations).is_some(), "{window:?}");
    }
    // Together, too.
    let large = |i: usize| {
        node(
            "MaxPool",
            &["x"],
            &format!("y{i}"),
            &[("kernel_shape", &[2_000, 2_000])],
        )
    };
    assert_eq!(excess(&graph((0..4).map(large).collect(), vec![])), None);
    assert!(excess(&graph((0..400).map(large).collect(), vec![])).is_some());
}

#[test]
fn an_axis_must_be_there() {
    for (op, axis, is_right) in [
        ("LayerNormalization", -1, true),
        ("LayerNormalization", -4, true),
        ("LayerNormalization", 3, true),
        ("LayerNormalization", -5, false),
        ("LayerNormalization", -9, false),
        ("LayerNormalization", 4, false),
        ("Softmax", -4, true),
        ("Softmax", -9, false),
        ("Flatten", 4, true),
        ("Concat", i64::MIN, false),
    ] {
        let found = said_of(op, &[("axis", &[axis])]);
        assert_eq!(found.is_none(), is_right, "{op} {axis}: {found:?}");
    }
    // Tokens after a convolution, as vision transformers have them: [N, tokens, width].
    let tokens = |axis: i64| {
        let nodes = vec![
            node("Reshape", &["x", "shape"], "flat", &[]),
            node("Transpose", &["flat"], "tokens", &[("perm", &[0, 2, 1])]),
            node("Add", &["tokens", "tokens"], "sum", &[]),
            node(
                "LayerNormalization",
                &["sum", "x"],
                "y",
                &[("axis", &[axis])],
            ),
        ];
        excess(&graph(nodes, vec![vector("shape", &[0, 192, -1])]))
    };
    assert_eq!(tokens(-3), None);
    assert!(
        tokens(-4)
            .unwrap()
            .contains("the axis -4, but its input has 3 dimensions")
    );
}

#[test]
fn an_order_of_axes_names_each_once() {
    assert_eq!(said_of("Transpose", &[("perm", &[0, 2, 3, 1])]), None);
    for wrong in [&[0, 1, 1, 2][..], &[0, 1, 2, 9], &[0, -1, 2, 3]] {
        let found = said_of("Transpose", &[("perm", wrong)]).unwrap();
        assert!(found.contains("each axis must occur once"), "{found}");
    }
}

#[test]
fn tensors_do_not_grow_dimensions_without_end() {
    let wider = |i: usize| {
        let from = if i == 0 {
            "x".to_owned()
        } else {
            format!("y{i}")
        };
        node("Unsqueeze", &[&from, "axes"], &format!("y{}", i + 1), &[])
    };
    let chain = |count: usize| {
        excess(&graph(
            (0..count).map(wider).collect(),
            vec![vector("axes", &[0])],
        ))
    };
    assert_eq!(chain(20), None);
    assert!(chain(40).unwrap().contains("33 dimensions"));
}

#[test]
fn numbers_of_nodes_and_tensors_are_bounded_and_names_given_once() {
    let relu = |i: usize| node("Relu", &["x"], &format!("y{i}"), &[]);
    assert_eq!(
        excess(&graph((0..MOST_NODES).map(relu).collect(), vec![])),
        None
    );
    let found = excess(&graph((0..=MOST_NODES).map(relu).collect(), vec![])).unwrap();
    assert!(found.contains("more than 10000 nodes"), "{found}");
    let concat = |inputs: usize| {
        excess(&graph(
            vec![node("Concat", &vec!["x"; inputs], "y", &[("axis", &[1])])],
            vec![],
        ))
    };
    assert_eq!(concat(MOST_TENSORS), None);
    assert!(concat(MOST_TENSORS + 1).unwrap().contains("1025 inputs"));
    let twice = excess(&graph(vec![relu(1), relu(1)], vec![])).unwrap();
    assert!(twice.contains("define the tensor `y1`"), "{twice}");
    let twice = excess(&graph(
        vec![relu(1)],
        vec![vector("w", &[1]), vector("w", &[2])],
    ));
    assert!(twice.unwrap().contains("define the tensor `w`"));
}

#[test]
fn graphs_in_nodes_are_looked_at_as_well() {
    let inner = graph(
        vec![node(
            "LayerNormalization",
            &["x", "x"],
            "z",
            &[("axis", &[-9])],
        )],
        vec![],
    );
    let mut outer = node("If", &["x"], "y", &[]);
    outer.attribute.push(pb::AttributeProto {
        name: "then_branch".into(),
        g: Some(inner),
        ..Default::default()
    });
    let found = excess(&graph(vec![outer.clone()], vec![])).unwrap();
    assert!(found.contains("the axis -9"), "{found}");
    for _ in 0..5 {
        let inner = graph(vec![outer.clone()], vec![]);
        outer.attribute[0].g = Some(inner);
    }
    let found = excess(&graph(vec![outer], vec![])).unwrap();
    assert!(found.contains("more than 4 deep"), "{found}");
}
