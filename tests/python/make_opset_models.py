"""Makes a small network in each opset from 7 to 21, layout and batch, and runs them in ONNX Runtime.

    make_opset_models.py make DIR    writes DIR/<opset>-<nchw|nhwc>-<free|fixed>.onnx
    make_opset_models.py run DIR     runs each on DIR/<name>-in.npy; the tensor `features` goes to DIR/<name>-out.npy

The network has the operators whose form has changed between the opsets: BatchNormalization, Clip, Pad, Dropout,
Slice, Squeeze, Unsqueeze, Softmax, pooling and reductions.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from onnx_session import open_session

SIZE = 32
# The first IR version that knows the opset.
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


class Network:
    """Nodes and weights of one network; every method adds a node and returns its output."""

    def __init__(self, opset):
        self.opset = opset
        self.random = np.random.default_rng(11)
        self.nodes = []
        self.weights = []

    def weight(self, name, *shape, values=None):
        values = self.random.normal(0, 0.3, shape) if values is None else values
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def ints(self, name, values):
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def told(self, op, x, name, since, inputs, **attributes):
        """A node whose attributes are inputs from opset `since` on."""
        if self.opset < since:
            return self.node(op, [x], name, **attributes)
        return self.node(op, [x, *inputs()], name)

    def clip(self, x, name):
        def bounds():
            return [self.weight(name + "_low", values=0.0), self.weight(name + "_high", values=6.0)]

        return self.told("Clip", x, name, 11, bounds, min=0.0, max=6.0)

    def batch_norm(self, x, name, channels):
        inputs = [self.weight(f"{name}_{part}", channels) for part in ("scale", "shift", "mean")]
        variance = self.weight(name + "_variance", values=self.random.uniform(0.5, 2, channels))
        return self.node("BatchNormalization", [x, *inputs, variance], name, epsilon=1e-3)

    def dropout(self, x, name):
        return self.told("Dropout", x, name, 12, lambda: [self.weight(name + "_ratio", values=0.4)], ratio=0.4)

    def mean(self, x, name):
        def axes():
            return [self.ints(name + "_axes", [2, 3])]

        if self.opset < 18:
            return self.node("ReduceMean", [x], name, axes=[2, 3], keepdims=1)
        return self.node("ReduceMean", [x, *axes()], name, keepdims=1)


def build(opset, layout, batch):
    n = Network(opset)
    lead = 1 if batch == "fixed" else "N"
    sides = [SIZE, SIZE] if batch == "fixed" else ["H", "W"]
    x = "image"
    dims = [lead, 3, *sides]
    if layout == "nhwc":
        dims = [lead, *sides, 3]
        x = n.node("Transpose", [x], "image_nchw", perm=[0, 3, 1, 2])
    pads = [0, 0, 0, 0, 0, 0, 1, 1]
    x = n.told("Pad", x, "pad", 11, lambda: [n.ints("pad_pads", pads)], pads=pads)
    x = n.node("Conv", [x, n.weight("conv1_kernel", 6, 3, 3, 3)], "conv1", strides=[2, 2])
    x = n.clip(n.batch_norm(x, "bn1", 6), "relu6")
    x = n.node("Conv", [x, n.weight("depthwise_kernel", 6, 1, 3, 3)], "depthwise", group=6, pads=[1, 1, 1, 1])
    x = n.node("LeakyRelu", [n.batch_norm(x, "bn2", 6)], "leaky", alpha=0.1)
    x = n.node("MaxPool", [x], "max_pool", kernel_shape=[2, 2], strides=[2, 2])
    left = n.node("Conv", [x, n.weight("left_kernel", 8, 6, 1, 1), n.weight("left_bias", 8)], "left")
    right = n.node("AveragePool", [x], "average", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)
    x = n.node("Concat", [left, right], "concat", axis=1)
    ends = [2, 12]
    x = n.told(
        "Slice",
        x,
        "slice",
        10,
        lambda: [n.ints("slice_begin", [2]), n.ints("slice_end", [12]), n.ints("slice_axes", [1])],
        starts=ends[:1],
        ends=ends[1:],
        axes=[1],
    )
    gate = n.node("HardSigmoid", [n.mean(x, "squeeze_mean")], "gate", alpha=0.2, beta=0.5)
    x = n.dropout(n.node("Mul", [x, gate], "excite"), "dropout")
    x = n.node("GlobalAveragePool", [x], "pool")
    axes = {"axes": [2, 3]}
    x = n.told("Squeeze", x, "squeeze", 13, lambda: [n.ints("squeeze_axes", [2, 3])], **axes)
    x = n.told("Unsqueeze", x, "unsqueeze", 13, lambda: [n.ints("unsqueeze_axes", [2, 3])], **axes)
    features = n.node("Flatten", [x], "features", axis=1)
    x = n.node("Gemm", [features, n.weight("dense_kernel", 10, 5), n.weight("dense_bias", 5)], "logits")
    x = n.node("Softmax", [x], "probabilities", axis=1)
    graph = helper.make_graph(
        n.nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [lead, 5])],
        n.weights,
    )
    if opset < 9:
        # Before IR version 4, weights are listed among the inputs.
        for tensor in n.weights:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS[opset])
    checker.check_model(model)
    return model


def main():
    verb, folder = sys.argv[1], Path(sys.argv[2])
    if verb == "make":
        for opset in IR_VERSIONS:
            for layout in ("nchw", "nhwc"):
                for batch in ("free", "fixed"):
                    save(build(opset, layout, batch), folder / f"{opset}-{layout}-{batch}.onnx")
        return
    for path in sorted(folder.glob("*-*.onnx")):
        session = open_session(str(path), ["features"])
        values = np.load(folder / f"{path.stem}-in.npy")
        (features,) = session.run(["features"], {"image": values})
        np.save(folder / f"{path.stem}-out.npy", features)


if __name__ == "__main__":
    main()
