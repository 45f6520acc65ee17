"""Writes ONNX files that a loader must refuse, or mend: make_broken_models.py DIR."""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KERNEL = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "k")


def node(op, inputs, output, name=None, **attributes):
    return helper.make_node(op, inputs, [output], name=name or output, **attributes)


def picture(name="x", kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, ["N", 3, 32, 32])


def write(folder, name, nodes, weights=(), inputs=None):
    """Writes the file without any check."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, name, inputs or [picture()], [output], weights)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("my", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def main():
    folder = Path(sys.argv[1])
    conv, relu = node("Conv", ["x", "k"], "c"), node("Relu", ["c"], "y")
    write(folder, "custom", [conv, node("FancyOp", ["c"], "y", "fancy7", domain="my")], [KERNEL])
    write(folder, "unsorted", [relu, conv], [KERNEL])
    write(folder, "circle", [node("Add", ["x", "b"], "a"), node("Add", ["a", "x"], "b"), node("Relu", ["b"], "y")])

    shape = numpy_helper.from_array(np.array([1, 100_000, 100_000, 100]), "s")
    write(folder, "fill", [node("ConstantOfShape", ["s"], "z"), node("Add", ["x", "z"], "y")], [shape])

    claim = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[10**6, 10**6, 3, 3], raw_data=bytes(16))
    write(folder, "claim", [conv, relu], [claim])
    write(folder, "pads", [node("Conv", ["x", "k"], "c", pads=[100_000] * 4), relu], [KERNEL])

    external = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3])
    external.data_location = TensorProto.EXTERNAL
    external.external_data.add(key="location", value="../../../../etc/passwd")
    write(folder, "external", [conv, relu], [external])

    write(folder, "two-inputs", [node("Add", ["x", "x2"], "y")], inputs=[picture(), picture("x2")])
    integers = [node("Cast", ["x"], "f", to=TensorProto.FLOAT), node("Relu", ["f"], "y")]
    write(folder, "integers", integers, inputs=[picture(kind=TensorProto.INT32)])


if __name__ == "__main__":
    main()
