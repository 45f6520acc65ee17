"""Writes ONNX files that cannot be run here, each for another reason: make_refused_models.py DIR."""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KERNEL = numpy_helper.from_array(np.full((4, 3, 4, 4), 0.1, np.float32), "k")
FLOAT = TensorProto.FLOAT


def node(op, inputs, output, name=None, **attributes):
    return helper.make_node(op, inputs, [output], name or output, **attributes)


def write(folder, name, nodes, weights=(KERNEL,), sides=(32, 32), opset=17, domains=(), functions=()):
    """Writes the file without any check."""
    image = helper.make_tensor_value_info("x", FLOAT, ["N", 3, *sides])
    output = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph(nodes, name, [image], [output], weights)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return model


def function(name, nodes, opset=17):
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, ["x"], ["y"], nodes, opsets)


def main():
    folder = Path(sys.argv[1])
    conv = node("Conv", ["x", "k"], "c", strides=[4, 4])
    # How often depends on the picture.
    trips = [node("ReduceMax", ["x"], "most", keepdims=0), node("Cast", ["most"], "trips", to=TensorProto.INT64)]
    body = helper.make_graph(
        [node("Identity", ["go"], "on"), node("Add", ["v", "c"], "w")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", FLOAT, None),
        ],
    )
    write(folder, "loop", [conv, *trips, node("Loop", ["trips", "", "c"], "y", "again", body=body)])
    slices = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("state", "slice", "next", "part")]
    rounds = [node("Add", ["state", "slice"], "next"), node("Neg", ["next"], "part")]
    body = helper.make_graph(rounds, "body", slices[:2], slices[2:])
    first = numpy_helper.from_array(np.zeros((4, 8, 8), np.float32), "first")
    scan = helper.make_node("Scan", ["first", "c"], ["end", "y"], "pictures", body=body, num_scan_inputs=1)
    write(folder, "rows", [conv, scan], [KERNEL, first])
    foreign = [conv, node("Relu", ["c"], "y", "mine", domain="my.own")]
    write(folder, "foreign", foreign, domains=["my.own"])
    fused = [node("FusedConv", ["x", "k"], "y", "fused", domain="com.microsoft", activation="Relu")]
    write(folder, "microsoft", fused, domains=["com.microsoft"])
    words = numpy_helper.from_array(np.array(["a", "b"], object), "names")
    text = [conv, node("LabelEncoder", ["names", "c"], "y", "words", domain="ai.onnx.ml")]
    write(folder, "text", text, [KERNEL, words], domains=["ai.onnx.ml"])
    sequence = [conv, node("SequenceConstruct", ["c", "c"], "s"), node("ConcatFromSequence", ["s"], "y", axis=1)]
    write(folder, "sequence", sequence)

    model = write(folder, "sparse", [conv, node("Relu", ["c"], "y")], [])
    values = numpy_helper.from_array(np.ones(2, np.float32), "k")
    places = numpy_helper.from_array(np.array([0, 5]), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 3, 4, 4]))
    (folder / "sparse.onnx").write_bytes(model.SerializeToString())

    again = function("Again", [node("Again", ["x"], "z", domain="my"), node("Relu", ["z"], "y")])
    write(folder, "circle", [conv, node("Again", ["c"], "y", domain="my")], domains=["my"], functions=[again])
    squash = function("Squash", [node("Softmax", ["x"], "y", axis=1)], opset=11)
    write(folder, "versions", [conv, node("Squash", ["c"], "y", domain="my")], domains=["my"], functions=[squash])
    # Each function uses the one before it twice.
    functions = [function("F0", [node("Relu", ["x"], "y")])]
    for i in range(1, 40):
        name = f"F{i - 1}"
        functions.append(function(f"F{i}", [node(name, ["x"], "z", domain="my"), node(name, ["z"], "y", domain="my")]))
    write(folder, "explode", [conv, node("F39", ["c"], "y", domain="my")], domains=["my"], functions=functions)

    cache = [conv, node("Attention", ["c", "c", "c", "", "c", "c"], "y")]
    write(folder, "cache", cache, opset=23)
    write(folder, "new", [conv, node("TensorScatter", ["c", "c"], "y")], opset=24)
    flat = [conv, node("Flatten", ["c"], "f"), node("Gemm", ["f", "w"], "y", "dense")]
    kernel = numpy_helper.from_array(np.ones((4 * 8 * 8, 5), np.float32), "w")
    write(folder, "size", flat, [KERNEL, kernel], sides=("H", "W"))
    write(folder, "mismatch", flat, [KERNEL, kernel], sides=(48, 48))


if __name__ == "__main__":
    main()
