"""Builds MobileNetV2 without its classifier as an ONNX file with random weights.

    make_mobilenetv2.py OUT.onnx

The layers of keras.applications.MobileNetV2(include_top=False), by their names there; written from the paper
(Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2) and Keras' list of layers.
"""

import sys

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# Expansion, channels, repeats, stride of the first.
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


class Builder:
    def __init__(self):
        self.random = np.random.default_rng(3)
        self.nodes = []
        self.weights = [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(6), "six"),
            numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1]), "pads"),
        ]

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name, values):
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, x, inputs, outputs, name, norm, kernel=1, stride=1, group=1, relu=None):
        """Convolution and BatchNormalization, and ReLU6 if it is to have a name."""
        deviation = (2 / (inputs // group * kernel * kernel)) ** 0.5
        values = self.random.normal(0, deviation, (outputs, inputs // group, kernel, kernel))
        pads = [0] * 4 if stride == 2 else [kernel // 2] * 4
        k = self.weight(name + "/kernel", values)
        x = self.node("Conv", [x, k], name, strides=[stride] * 2, pads=pads, group=group, kernel_shape=[kernel] * 2)
        uniform, normal = self.random.uniform, self.random.normal
        parts = {
            "gamma": uniform(0.6, 1.4, outputs),
            "beta": normal(0, 0.1, outputs),
            "moving_mean": normal(0, 0.1, outputs),
            "moving_variance": uniform(0.6, 1.4, outputs),
        }
        weights = [self.weight(f"{norm}/{part}", values) for part, values in parts.items()]
        x = self.node("BatchNormalization", [x, *weights], norm, epsilon=1e-3)
        return self.node("Clip", [x, "zero", "six"], relu) if relu else x

    def block(self, x, number, inputs, expansion, outputs, stride):
        """An inverted residual block; block 0 does not expand."""
        name = f"block_{number}_" if number else "expanded_conv_"
        shortcut, channels = x, inputs * expansion
        if number:
            x = self.conv(x, inputs, channels, name + "expand", name + "expand_BN", relu=name + "expand_relu")
        if stride == 2:
            x = self.node("Pad", [x, "pads"], name + "pad")
        x = self.conv(
            x, channels, channels, name + "depthwise", name + "depthwise_BN", 3, stride, channels, name + "depthwise_relu"
        )
        x = self.conv(x, channels, outputs, name + "project", name + "project_BN")
        if stride == 1 and inputs == outputs:
            x = self.node("Add", [shortcut, x], name + "add")
        return x


def main():
    builder = Builder()
    # Keras pads the first convolution below and on the right, without a layer of its own.
    builder.node("Pad", ["input_layer", "pads"], "Conv1/pad")
    x = builder.conv("Conv1/pad", 3, 32, "Conv1", "bn_Conv1", 3, 2, relu="Conv1_relu")
    channels, number = 32, 0
    for expansion, outputs, repeats, stride in STAGES:
        for repeat in range(repeats):
            x = builder.block(x, number, channels, expansion, outputs, stride if repeat == 0 else 1)
            channels, number = outputs, number + 1
    x = builder.conv(x, channels, 1280, "Conv_1", "Conv_1_bn", relu="out_relu")
    graph = helper.make_graph(
        builder.nodes,
        "mobilenetv2",
        [helper.make_tensor_value_info("input_layer", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", 1280, 7, 7])],
        builder.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, sys.argv[1])


if __name__ == "__main__":
    main()
