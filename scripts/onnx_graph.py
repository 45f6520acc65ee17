"""Shared by the builders of both networks: a list of ONNX nodes with their weights."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8


class Graph:
    """Collects nodes and weights in execution order.

    Each layer's name is also the name of its node and of its output tensor.
    """

    def __init__(self, name, input_shape):
        self.name = name
        self.input_shape = input_shape
        self.nodes = []
        self.weights = []

    def weight(self, name, values):
        """Adds constant values and returns their name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, op, inputs, output, name=None, **attributes):
        """Adds a node and returns the name of its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attributes))
        return output

    def model(self, output, output_shape, **metadata):
        """Returns the checked model, whose input is `image` and whose one output is `output`."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tl")
        onnx.checker.check_model(model, full_check=True)
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model
