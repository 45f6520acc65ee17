use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

use super::*;

fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.to_owned(),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn with_axis(mut node: pb::NodeProto, axis: i64) -> pb::NodeProto {
    node.attribute.push(pb::AttributeProto {
        name: "axis".into(),
        r#type: AttributeType::Int as i32,
        i: axis,
        ..Default::default()
    });
    node
}

fn ints(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: vec![1.0; dims.iter().product::<i64>() as usize],
        ..Default::default()
    }
}

/// What is said of a graph of an image `x` of 1 x 3 x 32 x 32.
fn said_of(node: Vec<pb::NodeProto>, initializer: Vec<pb::TensorProto>) -> Option<String> {
    let graph = pb::GraphProto {
        node,
        initializer,
        input: vec![pb::ValueInfoProto {
            name: "x".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    oversize(&graph, [1, 3, 32, 32])
}

#[test]
fn what_is_made_of_constants_is_bounded() {
    // Doubled again and again.
    let double = |i: i32| {
        let (from, to) = (format!("d{i}"), format!("d{}", i + 1));
        with_axis(node("Concat", &[&from, &from], &to), 0)
    };
    let doubled = |times: i32| said_of((0..times).map(double).collect(), vec![floats("d0", &[64])]);
    assert_eq!(doubled(16), None);
    assert!(
        doubled(40)
            .unwrap()
            .contains("creates from constants a tensor")
    );
    // Each with each.
    let outer = |n: i64| {
        let weights = vec![floats("a", &[n, 1]), floats("b", &[1, n])];
        said_of(vec![node("Add", &["a", "b"], "y")], weights)
    };
    assert_eq!(outer(1_000), None);
    assert!(outer(20_000).is_some());
    // Sizes that are computed of the image's.
    let filled = |power: usize| {
        let mut nodes = vec![node("Shape", &["x"], "s0")];
        nodes.extend(
            (0..power).map(|i| node("Mul", &[&format!("s{i}"), "s0"], &format!("s{}", i + 1))),
        );
        nodes.push(node("ConstantOfShape", &[&format!("s{power}")], "y"));
        said_of(nodes, vec![])
    };
    assert_eq!(filled(0), None);
    assert!(filled(3).is_some());
    // Steps from a number to another.
    let range = |limit: i64| {
        let scalar = |name: &str, value: i64| pb::TensorProto {
            dims: vec![],
            ..ints(name, &[value])
        };
        let weights = vec![scalar("a", 0), scalar("b", limit), scalar("c", 1)];
        said_of(vec![node("Range", &["a", "b", "c"], "y")], weights)
    };
    assert_eq!(range(1_000), None);
    assert!(range(1 << 60).is_some());
}

#[test]
fn sizes_that_a_constant_gives_are_bounded() {
    let with = |op: &str, values: &[i64]| {
        said_of(vec![node(op, &["x", "v"], "y")], vec![ints("v", values)])
    };
    for (op, right, wrong) in [
        ("Tile", [1, 1, 2, 2], [1, 1, 1 << 30, 1 << 30]),
        ("Tile", [1, 1, 2, 2], [1, 1, -1, 1]),
        ("Expand", [8, 3, 32, 32], [1 << 40, 3, 32, 32]),
    ] {
        assert_eq!(with(op, &right), None, "{op}");
        assert!(with(op, &wrong).is_some(), "{op}");
    }
    assert_eq!(with("Pad", &[0, 0, 1, 1, 0, 0, 1, 1]), None);
    assert!(with("Pad", &[0, 0, 1 << 40, 1, 0, 0, 1, 1]).is_some());
    assert_eq!(with("Reshape", &[0, 3, -1]), None);
}
