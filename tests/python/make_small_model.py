"""Makes a small ONNX classifier with random weights.

    make_small_model.py OUT.onnx nhwc-fixed|nchw-free|nchw-external|nchw-opset9-softmax|nchw-lrn|nchw-filled

Two convolutions, a global average pooling to the tensor `features` (8 values), and a dense layer of 5
classes. `nhwc-fixed` takes [1, 32, 32, 3] and transposes inside, as converted TensorFlow models do; `nchw-lrn`
has a local response normalisation and a third convolution before the pooling; `nchw-filled` has there a batch normalisation
whose scale a node fills with ones, and a convolution whose kernel is the output of a node. `nchw-external` is `nchw-free` with
its weights in the file OUT.onnx.data, as PyTorch's exporter writes them.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save


def main():
    path, variant = sys.argv[1:]
    opset = 9 if variant == "nchw-opset9-softmax" else 13
    random = np.random.default_rng(7)
    weights = []

    def weight(name, *shape):
        values = random.normal(0, 0.3, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    nodes = []
    tensor = "image"
    if variant == "nhwc-fixed":
        dims = [1, 32, 32, 3]
        nodes.append(helper.make_node("Transpose", [tensor], ["image_nchw"], perm=[0, 3, 1, 2]))
        tensor = "image_nchw"
    else:
        dims = ["N", 3, "H", "W"]
    nodes += [
        helper.make_node("Conv", [tensor, weight("k1", 6, 3, 3, 3)], ["c1"], name="conv1", strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", weight("k2", 8, 6, 3, 3), weight("b2", 8)], ["c2"], name="conv2"),
        helper.make_node("Sigmoid", ["c2"], ["s2"], name="sigmoid2"),
    ]
    last = "s2"
    if variant == "nchw-lrn":
        nodes += [
            helper.make_node("LRN", ["s2"], ["n2"], name="lrn2", size=3),
            helper.make_node("Conv", ["n2", weight("k4", 8, 8, 1, 1)], ["c3"], name="conv3"),
        ]
        last = "c3"
    if variant == "nchw-filled":
        ones = numpy_helper.from_array(np.ones(1, np.float32), "value")
        kernel = numpy_helper.from_array(random.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32), "value")
        weights.append(numpy_helper.from_array(np.array([8], np.int64), "length"))
        weights.append(numpy_helper.from_array(np.full(8, 0.5, np.float32), "variance"))
        norm = ["s2", "scale", weight("shift", 8), weight("mean", 8), "variance"]
        nodes += [
            helper.make_node("ConstantOfShape", ["length"], ["scale"], name="scale", value=ones),
            helper.make_node("Constant", [], ["k4"], name="k4", value=kernel),
            helper.make_node("BatchNormalization", norm, ["n2"], name="norm2"),
            helper.make_node("Conv", ["n2", "k4"], ["c3"], name="conv3"),
        ]
        last = "c3"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["features"], name="flatten"),
        helper.make_node("MatMul", ["features", weight("k3", 8, 5)], ["m3"], name="matmul3"),
        helper.make_node("Add", ["m3", weight("b3", 5)], ["logits"], name="add3"),
    ]
    output = "logits"
    if variant == "nchw-opset9-softmax":
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
        output = "probabilities"
    graph = helper.make_graph(
        nodes,
        variant,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [dims[0], 5])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model)
    if variant == "nchw-external":
        save(model, path, save_as_external_data=True, location=Path(path).name + ".data", size_threshold=0)
    else:
        save(model, path)


if __name__ == "__main__":
    main()
