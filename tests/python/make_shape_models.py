"""Writes bases whose shapes need care: make_shape_models.py DIR [lie].

flat         takes pictures of 48 x 64
free         takes pictures of any size
one-reshape  one picture at a time, as a Reshape to [1, 8] has it
one-token    one picture at a time, as the token that is put before the others has it
mixes        gives results for each of two pictures, but of both

`lie` writes saved.onnx again, which then states that it takes any number of pictures.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(3)


def weight(name, *shape):
    return numpy_helper.from_array(RANDOM.normal(0, 0.3, shape).astype(np.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], output, **attributes)


def write(folder, name, nodes, weights, dims):
    """A convolution, `nodes` from its maps `maps` to `features`, and a classifier."""
    nodes = [
        node("Conv", ["image", "kernel"], "conv", strides=[4, 4]),
        node("Relu", ["conv"], "maps"),
        *nodes,
        node("Gemm", ["features", "dense"], "logits"),
    ]
    weights = [weight("kernel", 8, 3, 4, 4), weight("dense", 8, 5), *weights]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, name, [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / f"{name}.onnx")


def main():
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["lie"]:
        model = onnx.load(folder / "saved.onnx")
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.save(model, folder / "saved.onnx")
        return
    pooled = [node("GlobalAveragePool", ["maps"], "pooled")]
    flat = [*pooled, node("Flatten", ["pooled"], "features")]
    write(folder, "flat", flat, [], ["N", 3, 48, 64])
    write(folder, "free", flat, [], ["N", 3, "H", "W"])
    reshaped = [*pooled, node("Reshape", ["pooled", "shape"], "features")]
    write(folder, "one-reshape", reshaped, [ints("shape", 1, 8)], [1, 3, 32, 32])
    tokens = [
        node("Reshape", ["maps", "shape"], "columns"),
        node("Transpose", ["columns"], "patches", perm=[0, 2, 1]),
        node("Concat", ["token", "patches"], "tokens", axis=1),
        node("ReduceMean", ["tokens"], "features", axes=[1], keepdims=0),
    ]
    write(folder, "one-token", tokens, [weight("token", 1, 1, 8), ints("shape", 0, 8, -1)], [1, 3, 32, 32])
    mixed = [
        *pooled,
        node("Flatten", ["pooled"], "vectors"),
        node("ReduceMean", ["vectors"], "mean", axes=[0], keepdims=1),
        node("Sub", ["vectors", "mean"], "centred"),
        node("Add", ["vectors", "centred"], "features"),
    ]
    write(folder, "mixes", mixed, [], ["N", 3, 32, 32])


if __name__ == "__main__":
    main()
