"""Writes ONNX files that a loader must refuse, or mend: make_broken_models.py DIR."""

import math
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


def external(name, location, offset, dims=(4, 3, 3, 3)):
    """A kernel that is kept in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in [("location", location), ("offset", offset), ("length", str(4 * math.prod(dims)))]:
        tensor.external_data.add(key=key, value=value)
    return tensor


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

    (folder / "link.bin").symlink_to("/etc/passwd")
    (folder / "short.bin").write_bytes(bytes(432))
    for name, location, offset in [
        ("outside", "../../../../etc/passwd", "0"),
        ("absolute", "/etc/passwd", "0"),
        ("link", "link.bin", "0"),
        ("offset", "short.bin", "18446744073709551615"),
        ("number", "short.bin", "-1"),
        ("folder", ".", "0"),
    ]:
        write(folder, name, [conv, relu], [external("k", location, offset)])
    # Many weights that are the same bytes of one file: small on disk, huge in memory.
    length = 35_000_000
    with open(folder / "holes.bin", "wb") as file:
        file.truncate(length)
    many = [node("Conv", ["x", "k0"], "c"), *(node("Add", ["c", f"k{i}"], f"c{i}") for i in range(1, 9)), relu]
    write(folder, "repeated", many, [external(f"k{i}", "holes.bin", "0", [length // 4]) for i in range(9)])
    sides = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 10**6, 10**6])
    write(folder, "huge-picture", [conv, relu], [KERNEL], inputs=[sides])
    write(folder, "still", [node("Conv", ["x", "k"], "c", strides=[0, 0]), relu], [KERNEL])
    write(folder, "groups", [node("Conv", ["x", "k"], "c", group=0), relu], [KERNEL])
    scales = numpy_helper.from_array(np.array([1, 1, 1e5, 1e5], np.float32), "s")
    write(folder, "resize", [conv, node("Resize", ["c", "", "s"], "y")], [KERNEL, scales])
    window = [10**9, 10**9]
    write(folder, "window", [conv, node("MaxPool", ["c"], "y", kernel_shape=window, pads=[10**9] * 4)], [KERNEL])

    write(folder, "two-inputs", [node("Add", ["x", "x2"], "y")], inputs=[picture(), picture("x2")])
    integers = [node("Cast", ["x"], "f", to=TensorProto.FLOAT), node("Relu", ["f"], "y")]
    write(folder, "integers", integers, inputs=[picture(kind=TensorProto.INT32)])


if __name__ == "__main__":
    main()
