"""Makes small random networks in the forms in which programs export them, and runs them in ONNX Runtime.

    make_import_forms.py DIR SEED COUNT

Writes COUNT networks of each form, NAME.onnx, with an input tensor NAME-in.npy and the tensor `features` for it,
NAME-out.npy. Prints a line for each: NAME, height, width, tolerance.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from onnx_session import open_session

FLOAT = TensorProto.FLOAT


class Network:
    """Nodes and weights of one network; every method adds a node and returns its output."""

    def __init__(self, random, opset=17):
        self.random = random
        self.opset = opset
        self.nodes = []
        self.weights = []
        self.functions = []
        self.count = 0
        self.halvings = 0

    def name(self, stem):
        self.count += 1
        return f"{stem}{self.count}"

    def weight(self, *shape, scale=0.3):
        name = self.name("w")
        values = self.random.normal(0, scale, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, values):
        name = self.name("shape")
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op, inputs, name=None, domain="", **attributes):
        name = name or self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def conv(self, x, inputs, outputs, size=3, stride=1):
        kernel = self.weight(outputs, inputs, size, size)
        pads = [size // 2] * 4
        return self.node("Conv", [x, kernel, self.weight(outputs)], pads=pads, strides=[stride, stride])

    def activation(self, x):
        op = self.random.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish"])
        return self.node(str(op), [x])

    def body(self, x, channels=3):
        """Two or three blocks of convolutions, each of which halves the sides; returns the maps and their channels."""
        self.halvings = int(self.random.integers(2, 4))
        for _ in range(self.halvings):
            outputs = int(self.random.integers(4, 9))
            x = self.activation(self.conv(x, channels, outputs, stride=2))
            if self.random.random() < 0.5:
                x = self.node("Add", [x, self.activation(self.conv(x, outputs, outputs))])
            channels = outputs
        return x, channels

    def head(self, x, channels):
        """Pooling, features and a classifier."""
        pooled = self.node("GlobalAveragePool", [x])
        features = self.node("Flatten", [pooled], "features", axis=1)
        return self.node("Gemm", [features, self.weight(channels, 5), self.weight(5)], "logits")

    def model(self, sides, batch="N", kind=FLOAT, opsets=()):
        outputs = [helper.make_tensor_value_info("logits", kind, [batch, 5])]
        inputs = [helper.make_tensor_value_info("image", kind, [batch, 3, *sides])]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, self.weights)
        own = helper.make_opsetid("", self.opset)
        ir_version = 11 if self.opset > 21 else 8
        return helper.make_model(graph, opset_imports=[own, *opsets], ir_version=ir_version, functions=self.functions)


def plain(random, sides):
    n = Network(random)
    n.head(*n.body("image"))
    return n.model(sides)


def function(random, sides):
    """A block as a function that uses another; attributes are given, or defaults."""
    n = Network(random)
    channels = int(random.integers(4, 9))
    own = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    leaky = helper.make_node("LeakyRelu", ["c"], ["y"], "act")
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    conv = helper.make_node("Conv", ["x", "k", "b"], ["c"], "conv", pads=[1, 1, 1, 1])
    conv.attribute.append(onnx.AttributeProto(name="strides", ref_attr_name="steps", type=onnx.AttributeProto.INTS))
    block = helper.make_function("local", "Block", ["x", "k", "b"], ["y"], [conv, leaky], own, ["steps"])
    block.attribute_proto.append(helper.make_attribute("slope", 0.3))
    inner = helper.make_node("Block", ["x", "k1", "b1"], ["c"], "first", domain="local", steps=[2, 2], slope=0.1)
    again = helper.make_node("Block", ["c", "k2", ""], ["d"], "second", domain="local", steps=[1, 1])
    total = helper.make_node("Add", ["c", "d"], ["y"], "sum")
    stage = helper.make_function("local", "Stage", ["x", "k1", "b1", "k2"], ["y"], [inner, again, total], own)
    n.functions = [stage, block]
    x = "image"
    inputs = 3
    for _ in range(int(random.integers(1, 4))):
        weights = [n.weight(channels, inputs, 3, 3), n.weight(channels), n.weight(channels, channels, 3, 3)]
        x = n.node("Stage", [x, *weights], domain="local")
        inputs = channels
    n.head(x, channels)
    return n.model(sides, opsets=own[1:])


def branch(nodes, output):
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(output, FLOAT, None)])


def conditional(random, sides):
    """Operators behind an If whose branches read weights and maps from outside."""
    n = Network(random)
    x, channels = n.body("image")
    kernel, bias, two = n.weight(channels, channels, 1, 1), n.weight(channels), n.name("two")
    n.weights.append(numpy_helper.from_array(np.float32(2), two))
    value = bool(random.random() < 0.5)
    how = random.choice(["initializer", "constant", "not", "shape"])
    flag = n.name("flag")
    if how == "initializer":
        n.weights.append(numpy_helper.from_array(np.array(value), flag))
    elif how == "shape":
        # The number of channels, which the shape of the input decides.
        shape = n.node("Shape", [x])
        n.node("Equal", [n.node("Gather", [shape, n.ints([1])]), n.ints([channels if value else 1])], flag)
    else:
        given = value if how == "constant" else not value
        tensor = numpy_helper.from_array(np.array(given))
        name = flag if how == "constant" else n.name("other")
        n.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor))
        if how == "not":
            n.node("Not", [name], flag)
    conv = helper.make_node("Conv", [x, kernel, bias], ["inner"], "inner")
    deep = helper.make_node(
        "If",
        [flag],
        ["result"],
        "deep",
        then_branch=branch([helper.make_node("Relu", ["inner"], ["r"], "r")], "r"),
        else_branch=branch([helper.make_node("Mul", ["inner", two], ["r"], "r")], "r"),
    )
    then = branch([conv, deep], "result")
    other = branch([helper.make_node("Mul", [x, two], ["result"], "scaled")], "result")
    x = n.node("If", [flag], then_branch=then, else_branch=other)
    n.head(x, channels)
    return n.model(sides)


def looped(random, sides):
    """Rounds of a Loop or a Scan whose body reads weights and maps from outside."""
    n = Network(random)
    x, channels = n.body("image")
    gain = n.weight(channels, 1, 1)
    values = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("state", "slice", "next", "part")]
    if random.random() < 0.5:
        trips, flag = n.name("trips"), n.name("flag")
        n.weights.append(numpy_helper.from_array(np.array(int(random.integers(1, 5))), trips))
        n.weights.append(numpy_helper.from_array(np.array(True), flag))
        bias = numpy_helper.from_array(random.normal(0, 1, (channels, 1, 1)).astype(np.float32), "bias")
        nodes = [
            helper.make_node("Mul", ["state", gain], ["scaled"], "scaled"),
            helper.make_node("Add", ["scaled", "bias"], ["moved"], "moved"),
            helper.make_node("Add", ["moved", x], ["next"], "next"),
            helper.make_node("Cast", ["round"], ["number"], "number", to=FLOAT),
            helper.make_node("Mul", ["next", "number"], ["part"], "part"),
            helper.make_node("Identity", ["on"], ["still"], "still"),
        ]
        number = helper.make_tensor_value_info("round", TensorProto.INT64, [])
        on, still = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still"))
        body = helper.make_graph(nodes, "body", [number, on, values[0]], [still, *values[2:]], [bias])
        inputs, attributes = [trips, flag if random.random() < 0.5 else "", x], {}
    else:
        nodes = [
            helper.make_node("Add", ["state", "slice"], ["sum"], "sum"),
            helper.make_node("Tanh", ["sum"], ["next"], "next"),
            helper.make_node("Mul", ["next", gain], ["part"], "part"),
        ]
        body = helper.make_graph(nodes, "body", values[:2], values[2:])
        # Over the rows of the maps, or from the last to the first.
        attributes = {"num_scan_inputs": 1, "scan_input_axes": [2], "scan_output_axes": [1]}
        if random.random() < 0.5:
            attributes |= {"scan_input_directions": [1], "scan_output_directions": [1]}
        first = n.node("ReduceMean", [x], axes=[2], keepdims=0)
        inputs = [first, x]
        # A slice has no rows: [N, channels, columns].
        gain_node = helper.make_node("Squeeze", [gain, n.ints([2])], ["thin"], "thin")
        body.node.insert(0, gain_node)
        body.node[3].input[1] = "thin"
    op = "Scan" if attributes else "Loop"
    n.nodes.append(helper.make_node(op, inputs, ["end", "all"], "loop", body=body, **attributes))
    # The parts are a new axis: [rounds, N, channels, ...] or [N, rounds, channels, columns].
    axis = 1 if attributes else 0
    parts = n.node("ReduceMean", ["all"], axes=[axis], keepdims=0)
    if attributes:
        parts = n.node("Unsqueeze", [n.node("Add", [parts, "end"]), n.ints([3])])
    else:
        parts = n.node("Add", [parts, "end"])
    n.head(parts, channels)
    return n.model(sides)


def static(random, sides):
    """One picture at a time, as the graph's Reshapes have it."""
    n = Network(random)
    x, channels = n.body("image")
    area = int(np.prod([side >> n.halvings for side in sides]))
    x = n.node("Reshape", [x, n.ints([1, channels, area])])
    x = n.node("Transpose", [x], perm=[2, 0, 1])
    x = n.node("Reshape", [x, n.ints([area, 1, channels])])
    x = n.node("Transpose", [x], perm=[1, 2, 0])
    x = n.node("ReduceMean", [x], axes=[2], keepdims=0)
    x = n.node("Reshape", [x, n.ints([1, channels])], "features")
    n.node("Gemm", [x, n.weight(channels, 5), n.weight(5)], "logits")
    return n.model(sides, batch=1)


def attention(random, sides):
    """One operator Attention, in one of its many ways."""
    n = Network(random, opset=int(random.choice([23, 24])))
    x, channels = n.body("image")
    n.node("Reshape", [x, n.ints([0, channels, -1])], "columns")
    tokens = n.node("Transpose", ["columns"], perm=[0, 2, 1])
    groups, size = int(random.integers(1, 3)), 4
    keys = int(random.integers(1, 3))
    heads = keys * groups
    is_flat = random.random() < 0.5
    query = n.node("MatMul", [tokens, n.weight(channels, heads * size)])
    key, value = (n.node("MatMul", [tokens, n.weight(channels, keys * size)]) for _ in range(2))
    attributes = {}
    if is_flat:
        attributes |= {"q_num_heads": heads, "kv_num_heads": keys}
    else:

        def split(x, heads):
            x = n.node("Reshape", [x, n.ints([0, -1, heads, size])])
            return n.node("Transpose", [x], perm=[0, 2, 1, 3])

        query, key, value = split(query, heads), split(key, keys), split(value, keys)
    if random.random() < 0.5:
        attributes["scale"] = float(random.uniform(0.2, 1))
    if random.random() < 0.5:
        attributes["softcap"] = float(random.uniform(1, 3))
    if random.random() < 0.5:
        attributes["is_causal"] = 1
    inputs = [query, key, value]
    mask = random.choice(["none", "float", "flags"])
    if mask != "none":
        # Of each pair of tokens, from their number.
        shape = n.node("Shape", [tokens])
        count = n.node("Gather", [shape, n.ints([1])])
        square = n.node("Concat", [count, count], axis=0)
        ones = helper.make_tensor("value", FLOAT, [1], [1.0])
        near = n.node("Trilu", [n.node("ConstantOfShape", [square], value=ones)], upper=1)
        near = n.node("Trilu", [near, n.ints(3)], upper=0)
        if mask == "flags" and "is_causal" not in attributes:
            near = n.node("Cast", [near], to=TensorProto.BOOL)
        inputs.append(near)
    x = n.node("Attention", inputs, **attributes)
    if not is_flat:
        x = n.node("Transpose", [x], perm=[0, 2, 1, 3])
        x = n.node("Reshape", [x, n.ints([0, 0, heads * size])])
    if random.random() < 0.5:
        gain = n.weight(heads * size)
        x = n.node("RMSNormalization", [x, gain], axis=-1)
    x = n.node("ReduceMean", [x, n.ints([1])], "features", keepdims=0)
    n.node("Gemm", [x, n.weight(heads * size, 5), n.weight(5)], "logits")
    return n.model(sides)


def narrow(model, kind):
    """The model with all its numbers of another width."""
    narrowed = onnx.ModelProto()
    narrowed.CopyFrom(model)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in narrowed.graph.initializer:
        if tensor.data_type == FLOAT:
            values = numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in [*narrowed.graph.input, *narrowed.graph.output]:
        value.type.tensor_type.elem_type = kind
    return narrowed


def rounded(model, kind):
    """The float32 model with the weights that `narrow` gives."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in copy.graph.initializer:
        if tensor.data_type == FLOAT:
            values = numpy_helper.to_array(tensor).astype(dtype).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copy


def with_casts(model, kind):
    """Float32 outside, other numbers inside."""
    model = narrow(model, kind)
    graph = model.graph
    graph.input[0].type.tensor_type.elem_type = FLOAT
    graph.output[0].type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        node.input[:] = ["image_inside" if name == "image" else name for name in node.input]
        node.output[:] = ["logits_inside" if name == "logits" else name for name in node.output]
    before = helper.make_node("Cast", ["image"], ["image_inside"], "before", to=kind)
    after = helper.make_node("Cast", ["logits_inside"], ["logits"], "after", to=FLOAT)
    nodes = [before, *graph.node, after]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def external(model, path, random):
    """Weights in another file: some as constants, the first two the same bytes where they are as long."""
    graph = model.graph
    data = bytearray(b"\0" * int(random.integers(0, 100)))
    places = {}
    nodes = []
    kept = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).tobytes()
        place = places.get(values)
        if place is None:
            place = places[values] = len(data)
            data += values + b"\0" * int(random.integers(0, 8))
        outside = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        outside.data_location = TensorProto.EXTERNAL
        outside.external_data.add(key="location", value=path.name + ".data")
        outside.external_data.add(key="offset", value=str(place))
        if random.random() < 0.8:
            outside.external_data.add(key="length", value=str(len(values)))
        if random.random() < 0.3:
            nodes.append(helper.make_node("Constant", [], [tensor.name], tensor.name, value=outside))
        else:
            kept.append(outside)
    rest = list(graph.node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(kept)
    path.with_name(path.name + ".data").write_bytes(data)


def tied(random, sides):
    """Two convolutions whose weights are equal, so that a file of weights has them once."""
    n = Network(random)
    x = n.conv("image", 3, 6)
    first, second = n.node("Relu", [n.conv(x, 6, 6)]), n.node("Relu", [x])
    n.node("Conv", [second, n.nodes[1].input[1], n.nodes[1].input[2]], "again", pads=[1, 1, 1, 1])
    for i in (1, 2):
        copy = TensorProto()
        copy.CopyFrom(next(t for t in n.weights if t.name == n.nodes[1].input[i]))
        copy.name = n.nodes[-1].input[i] = f"tied{i}"
        n.weights.append(copy)
    x = n.node("Add", [first, "again"])
    n.head(x, 6)
    return n.model(sides)


class Tensors(CalibrationDataReader):
    def __init__(self, tensors):
        self.rest = iter({"image": tensor} for tensor in tensors)

    def get_next(self):
        return next(self.rest, None)


def integers(model, path, random, sides):
    """QOperator form: operators on integers."""
    source = path.with_suffix(".float")
    onnx.save(model, source)
    tensors = [random.normal(0, 1, (1, 3, *sides)).astype(np.float32) for _ in range(4)]
    quantize_static(
        source,
        path,
        Tensors(tensors),
        quant_format=QuantFormat.QOperator,
        per_channel=bool(random.random() < 0.5),
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        nodes_to_exclude=["features", "logits"],
    )
    source.unlink()


def expected(model, tensor):
    return open_session(model, ["features"]).run(["features"], {"image": tensor})[0]


def main():
    # The quantiser advises a preparation that these networks have no need of.
    logging.disable(logging.WARNING)
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for number in range(count):
        for form in [
            "plain", "function", "if", "loop", "static", "attention", "float16", "float16-casts", "bfloat16", "double",
            "external", "tied", "qoperator",
        ]:  # fmt: skip
            random = np.random.default_rng([seed, number, sum(map(ord, form))])
            sides = [int(side) for side in random.choice([24, 32, 40, 48], 2)]
            name = f"{number}-{form}"
            path = folder / f"{name}.onnx"
            tensor = random.normal(0, 1, (1, 3, *sides)).astype(np.float32)
            tolerance, reference = 1e-5, path
            if form in ("float16", "float16-casts", "bfloat16", "double"):
                model = plain(random, sides)
                kind = {"double": TensorProto.DOUBLE, "bfloat16": TensorProto.BFLOAT16}.get(form, TensorProto.FLOAT16)
                onnx.save((with_casts if form == "float16-casts" else narrow)(model, kind), path)
                # Not every runtime computes in these: with the same weights, float32 is the reference.
                reference = folder / f"{name}-float32.onnx"
                onnx.save(rounded(model, kind), reference)
                if form == "float16-casts":
                    theirs = expected(path, tensor)
                    assert np.allclose(theirs, expected(reference, tensor), atol=1e-2), name
            elif form == "qoperator":
                integers(plain(random, sides), path, random, sides)
                tolerance = 1e-1
            else:
                makers = {
                    "plain": plain, "function": function, "if": conditional, "loop": looped, "static": static,
                    "attention": attention, "external": plain, "tied": tied,
                }  # fmt: skip
                model = makers[form](random, sides)
                if form in ("external", "tied"):
                    reference = folder / f"{name}-whole.onnx"
                    onnx.save(model, reference)
                    external(model, path, random)
                    onnx.save(model, path)
                else:
                    onnx.save(model, path)
            np.save(folder / f"{name}-in.npy", tensor)
            np.save(folder / f"{name}-out.npy", expected(reference, tensor))
            print(name, *sides, tolerance)


if __name__ == "__main__":
    main()
