"""Makes random small networks that end as networks end, and says which tensor holds their features.

    make_tails.py make FOLDER FIRST LAST
    make_tails.py run FOLDER
    make_tails.py tokens FOLDER

`make` writes FOLDER/<number>.onnx for each number from FIRST up to LAST, and FOLDER/networks.jsonl with a line on each:
what the maker knows of it. `tokens` writes two transformers: FOLDER/tokens.onnx gives last_hidden_state alone, FOLDER/pooler.onnx
pooler_output, too. `run` reads FOLDER/<number>-in.npy and writes what ONNX Runtime makes of it as
FOLDER/<number>-out.npy: the features, pooled as the line says.

A network is a body (convolutions, or tokens with attention), a pooling, what lies before the classifier, the classifier
in one of the forms that exporters write, and what lies behind it; or it has no classifier. Its weights may be floats,
constants of nodes, float16 numbers with a Cast, or integers, as onnxruntime.quantization writes them.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

SIDE = 32
OPSET = 13


class Net:
    """A graph in the making. Methods add nodes and return the name of the tensor that they make."""

    def __init__(self, random, kind):
        self.random = random
        self.kind = kind
        self.weights_by = kind if kind in ("node", "half", "mixed") else "plain"
        self.has_tokens = False
        self.nodes = []
        self.initializers = []
        self.count = 0
        self.shapes = {}

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def name(self, what):
        self.count += 1
        return f"{what}_{self.count}"

    def node(self, op, inputs, name=None, **attributes):
        output = self.name(name or op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node/{output}", **attributes))
        return output

    def constant(self, values, name="constant"):
        name = self.name(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64), "shape")

    def weight(self, *shape, scale=None):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        scale = scale or 1.4 / np.sqrt(max(fan_in, 1))
        return self.as_weight(self.random.normal(0, scale, shape).astype(np.float32))

    def as_weight(self, values):
        """A weight in the way in which this network has its weights."""
        by = self.weights_by
        if by == "mixed":
            by = self.pick("plain", "node", "half", "identity", "reshape", "transpose")
        if by == "node":
            name = self.name("weight")
            value = numpy_helper.from_array(values, "value")
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=value))
            return name
        if by == "half":
            stored = self.constant(values.astype(np.float16), "half")
            return self.node("Cast", [stored], "weight", to=TensorProto.FLOAT)
        if by == "identity":
            return self.node("Identity", [self.constant(values, "stored")], "weight")
        if by == "reshape":
            flat = self.constant(values.reshape(-1), "stored")
            return self.node("Reshape", [flat, self.ints(*values.shape)], "weight")
        if by == "transpose" and values.ndim > 1:
            turned = self.constant(np.ascontiguousarray(values.T), "stored")
            return self.node("Transpose", [turned], "weight", perm=list(range(values.ndim))[::-1])
        return self.constant(values, "weight")

    # Layers.

    def conv(self, x, inputs, outputs, kernel=3, stride=1, group=1, bias=True):
        weights = [self.weight(outputs, inputs // group, kernel, kernel)]
        if bias:
            weights.append(self.as_weight(self.random.normal(0, 0.1, outputs).astype(np.float32)))
        pad = kernel // 2
        return self.node(
            "Conv", [x, *weights], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=group
        )

    def batch_norm(self, x, width):
        scale = self.constant(self.random.uniform(0.5, 1.5, width).astype(np.float32), "scale")
        rest = [self.constant(self.random.normal(0, 0.2, width).astype(np.float32), n) for n in ("shift", "mean")]
        variance = self.constant(self.random.uniform(0.5, 2, width).astype(np.float32), "variance")
        return self.node("BatchNormalization", [x, scale, *rest, variance])

    def layer_norm(self, x, width):
        """Written out, as exporters do below opset 17."""
        mean = self.node("ReduceMean", [x], axes=[-1])
        centred = self.node("Sub", [x, mean])
        square = self.node("Pow", [centred, self.constant(np.float32(2))])
        variance = self.node("ReduceMean", [square], axes=[-1])
        raised = self.node("Add", [variance, self.constant(np.float32(1e-5))])
        normed = self.node("Div", [centred, self.node("Sqrt", [raised])])
        scaled = self.node("Mul", [normed, self.constant(self.random.uniform(0.5, 1.5, width).astype(np.float32))])
        shift = self.constant(self.random.normal(0, 0.2, width).astype(np.float32))
        return self.node("Add", [scaled, shift], "layernorm")

    def activation(self, x, kind=None):
        kind = kind or self.pick("relu", "relu6", "leaky", "swish", "hardswish", "gelu", "tanh")
        if kind == "relu6":
            bounds = [self.constant(np.float32(v), "bound") for v in (0, 6)]
            return self.node("Clip", [x, *bounds])
        if kind == "leaky":
            return self.node("LeakyRelu", [x], alpha=0.1)
        if kind == "swish":
            return self.node("Mul", [x, self.node("Sigmoid", [x])], "swish")
        if kind == "hardswish":
            return self.node("Mul", [x, self.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)], "hardswish")
        if kind == "gelu":
            erf = self.node("Erf", [self.node("Div", [x, self.constant(np.float32(np.sqrt(2)))])])
            gate = self.node("Mul", [x, self.node("Add", [erf, self.constant(np.float32(1))])])
            return self.node("Mul", [gate, self.constant(np.float32(0.5))], "gelu")
        return self.node({"relu": "Relu", "tanh": "Tanh"}[kind], [x])

    def dense(self, x, inputs, outputs, form=None, bias=True):
        """A dense layer in one of the forms that exporters write."""
        form = form or self.pick("gemm", "gemm-t", "matmul", "einsum")
        if form == "gemm-t":
            rest = [self.weight(outputs, inputs), self.weight(outputs, scale=0.1)]
            return self.node("Gemm", [x, *rest], "dense", transB=1)
        if form == "gemm":
            rest = [self.weight(inputs, outputs, scale=1.4 / np.sqrt(inputs)), self.weight(outputs, scale=0.1)]
            return self.node("Gemm", [x, *rest], "dense")
        kernel = self.weight(inputs, outputs, scale=1.4 / np.sqrt(inputs))
        if form == "einsum":
            made = self.node("Einsum", [x, kernel], "dense", equation="...d,dc->...c")
        else:
            made = self.node("MatMul", [x, kernel], "dense")
        if not bias:
            return made
        operands = [made, self.weight(outputs, scale=0.1)]
        return self.node("Add", operands if self.random.random() < 0.7 else operands[::-1], "dense")

    def normalised(self, x):
        """Divided by its length."""
        form = self.pick("lp", "l2", "multiplied", "clipped")
        if form == "lp":
            return self.node("LpNormalization", [x], axis=1, p=2)
        length = self.node("ReduceL2", [x], axes=[1], keepdims=1)
        if form == "clipped":
            floor = self.constant(np.float32(1e-6))
            length = self.node("Max", [length, floor])
        if form == "multiplied":
            return self.node("Mul", [x, self.node("Reciprocal", [length])], "unit")
        return self.node("Div", [x, length], "unit")

    def squeeze_excite(self, x, width):
        gate = self.node("GlobalAveragePool", [x])
        gate = self.activation(self.conv(gate, width, 4, 1), "relu")
        gate = self.node("Sigmoid", [self.conv(gate, 4, width, 1)])
        return self.node("Mul", [x, gate], "excited")

    # Bodies.

    def convolutions(self, x):
        """Maps of 8 x 8; returns them with their number of channels."""
        width = self.pick(6, 8, 12)
        x = self.activation(self.conv(x, 3, width, 3, 2), self.pick("relu", "relu6", "swish"))
        if self.random.random() < 0.5:
            x = self.activation(self.conv(x, width, width, 3, 1, group=width))
        if self.random.random() < 0.4:
            inner = self.activation(self.batch_norm(self.conv(x, width, width, 3, bias=False), width), "relu")
            x = self.node("Add", [self.conv(inner, width, width, 3), x])
        if self.random.random() < 0.3:
            x = self.squeeze_excite(x, width)
        outputs = self.pick(10, 14, 16)
        x = self.conv(x, width, outputs, self.pick(1, 3), 2)
        if self.random.random() < 0.3:
            x = self.batch_norm(x, outputs)
        return self.activation(x), outputs

    def tokens(self, x, class_tokens):
        """Tokens [N, T, 12] behind a block of a transformer and a normalisation."""
        width = 12
        self.has_tokens = True
        x = self.conv_patch(x, width)
        x = self.node("Reshape", [x, self.ints(0, width, 16)])
        x = self.node("Transpose", [x], perm=[0, 2, 1])
        for _ in range(class_tokens):
            token = self.constant(self.random.normal(0, 1, (1, 1, width)).astype(np.float32), "class_token")
            if self.random.random() < 0.7:
                batch = self.node("Gather", [self.node("Shape", [x]), self.ints(0)], axis=0)
                sizes = self.node("Concat", [batch, self.ints(1, width)], axis=0)
                token = self.node("Expand", [token, sizes])
            else:
                token = self.node("Expand", [token, self.ints(1, 1, width)])
            x = self.node("Concat", [token, x], axis=1)
        positions = self.random.normal(0, 0.3, (1, 16 + class_tokens, width)).astype(np.float32)
        x = self.node("Add", [x, self.constant(positions, "positions")])
        normed = self.layer_norm(x, width)
        q, k, v = (self.dense(normed, width, width, "matmul") for _ in range(3))
        scores = self.node("MatMul", [q, self.node("Transpose", [k], perm=[0, 2, 1])])
        scores = self.node("Softmax", [self.node("Mul", [scores, self.constant(np.float32(0.3))])], axis=-1)
        mixed = self.dense(self.node("MatMul", [scores, v]), width, width, "matmul")
        x = self.node("Add", [x, mixed])
        inner = self.dense(self.layer_norm(x, width), width, 16, "matmul")
        inner = self.dense(self.activation(inner, "gelu"), 16, width, "matmul")
        x = self.node("Add", [inner, x])
        return self.layer_norm(x, width), width

    def conv_patch(self, x, width):
        kernel = self.weight(width, 3, 8, 8)
        return self.node("Conv", [x, kernel], kernel_shape=[8, 8], strides=[8, 8])

    def pooled(self, x, width):
        """One vector a picture, from maps of 8 x 8; returns it with its length."""
        form = self.pick("gap", "gap-squeeze", "gap-reshape", "mean", "average", "max", "flatten", "both")
        if form == "mean":
            return self.node("ReduceMean", [x], axes=[2, 3], keepdims=0), width
        if form == "average":
            x = self.node("AveragePool", [x], kernel_shape=[8, 8])
            return self.node("Flatten", [x]), width
        if form == "flatten":
            return self.node("Flatten", [x]), width * 64
        if form == "both":
            parts = [self.node("Flatten", [self.node(op, [x])]) for op in ("GlobalAveragePool", "GlobalMaxPool")]
            return self.node("Concat", parts, axis=1), 2 * width
        x = self.node("GlobalMaxPool" if form == "max" else "GlobalAveragePool", [x])
        if form == "gap-squeeze":
            return self.node("Squeeze", [x, self.ints(2, 3)]), width
        if form == "gap-reshape":
            return self.node("Reshape", [x, self.ints(-1, width)]), width
        return self.node("Flatten", [x]), width

    # What lies behind a classifier.

    def probabilities(self, logits):
        form = self.pick("none", "none", "softmax", "log", "sigmoid", "formula", "identity", "scaled", "clip")
        if form == "softmax":
            return self.node("Softmax", [logits], axis=-1)
        if form == "log":
            return self.node("LogSoftmax", [logits], axis=-1)
        if form == "sigmoid":
            return self.node("Sigmoid", [logits])
        if form == "formula":
            if self.random.random() < 0.5:
                logits = self.node("Sub", [logits, self.node("ReduceMax", [logits], axes=[-1])])
            powers = self.node("Exp", [logits])
            total = self.node("ReduceSum", [powers, self.ints(-1)])
            return self.node("Div", [powers, total], "softmax")
        if form == "identity":
            return self.node("Identity", [self.node("Softmax", [logits], axis=-1)])
        if form == "scaled":
            scaled = self.node("Div", [logits, self.constant(np.float32(1.7))])
            return self.node("Softmax", [scaled], axis=-1)
        if form == "clip":
            bounds = [self.constant(np.float32(v), "bound") for v in (1e-7, 1)]
            return self.node("Clip", [self.node("Softmax", [logits], axis=-1), *bounds])
        return logits


def classified(net, x):
    """A network with a classifier: its output, the tensor of its features, and whether they are tokens or maps."""
    # Of two or three logits that are rounded, none might be negative by chance: then they look like activations.
    classes = net.pick(10, 37) if net.kind == "qdq" else net.pick(2, 5, 10, 37)
    form = net.pick(
        "dense", "dense", "dense", "hidden", "conv-behind", "conv-behind-hidden", "conv-before", "cosine", "two-heads",
        "two-norms", "class-token", "mean-token", "token-classes", "norm", "dropout", "wide",
    )
    if form == "wide":
        classes = net.pick(1000, 1001)
    if form in ("class-token", "mean-token", "token-classes"):
        tokens, width = net.tokens(x, 1 if form == "class-token" else net.pick(0, 1))
        if form == "token-classes":
            made = net.dense(tokens, width, classes, net.pick("matmul", "einsum"))
            made = net.node("ReduceMean", [made], axes=[1], keepdims=0)
            return net.probabilities(made), tokens, "avg"
        if form == "class-token":
            features = net.node("Gather", [tokens, net.constant(np.int64(0), "first")], axis=1)
        else:
            features = net.node("ReduceMean", [tokens], axes=[1], keepdims=0)
            if net.random.random() < 0.5:
                features = net.layer_norm(features, width)
        return net.probabilities(net.dense(features, width, classes)), features, None
    maps, width = net.convolutions(x)
    if form in ("conv-behind", "conv-behind-hidden"):
        features = net.node(net.pick("GlobalAveragePool", "ReduceMean"), [maps], **{})
        if net.nodes[-1].op_type == "ReduceMean":
            net.nodes[-1].attribute.extend([helper.make_attribute("axes", [2, 3])])
        if net.random.random() < 0.4:
            features = net.node("Reshape", [features, net.ints(-1, width, 1, 1)])
        if form == "conv-behind-hidden":
            features = net.activation(net.conv(features, width, 20, 1))
            width = 20
        read = net.node("Dropout", [features]) if net.random.random() < 0.4 else features
        made = net.conv(read, width, classes, 1)
        shape = net.pick("flatten", "squeeze", "reshape")
        if shape == "squeeze":
            made = net.node("Squeeze", [made, net.ints(2, 3)])
        elif shape == "reshape":
            made = net.node("Reshape", [made, net.ints(-1, classes)])
        else:
            made = net.node("Flatten", [made])
        return net.probabilities(made), features, "avg"
    if form == "conv-before":
        read = net.node("Dropout", [maps]) if net.random.random() < 0.4 else maps
        made = net.conv(read, width, classes, 1)
        bent = net.random.random() < 0.5
        made = net.activation(made, "relu") if bent else made
        made = net.node("Flatten", [net.node("GlobalAveragePool", [made])])
        made = net.node("Softmax", [made], axis=-1) if bent else net.probabilities(made)
        return made, maps, "avg"
    features, width = net.pooled(maps, width)
    if form == "hidden":
        features = net.activation(net.dense(features, width, 24))
        width = 24
    if form == "norm":
        features = net.batch_norm(features, width) if net.random.random() < 0.5 else net.layer_norm(features, width)
    if form == "two-norms":
        heads = [net.dense(net.batch_norm(features, width), width, classes) for _ in range(2)]
    elif form == "two-heads":
        heads = [net.dense(features, width, classes) for _ in range(2)]
    if form in ("two-heads", "two-norms"):
        made = net.node("Add", heads)
        made = net.node("Div", [made, net.constant(np.float32(2))])
        return net.probabilities(made), features, None
    if form == "cosine":
        features = net.normalised(features)
        values = net.random.normal(0, 1, (width, classes)).astype(np.float32)
        kernel = net.as_weight(values)
        length = net.node("ReduceL2", [kernel], axes=[0], keepdims=1)
        made = net.node("MatMul", [features, net.node("Div", [kernel, length])])
        made = net.node("Mul", [made, net.constant(np.float32(16))])
        return net.probabilities(made), features, None
    read = features
    if form == "dropout":
        read = net.node("Identity", [net.node("Dropout", [features])])
    return net.probabilities(net.dense(read, width, classes, bias=net.random.random() < 0.8)), features, None


def headless(net, x):
    """A network without a classifier: its output is its features."""
    form = net.pick("pooled", "maps", "dense-bent", "dense-norm", "unit", "conv-bent", "class-token", "mean-token", "tokens")
    if form in ("class-token", "mean-token", "tokens"):
        class_tokens = 1 if form == "class-token" else net.pick(0, 1)
        tokens, width = net.tokens(x, class_tokens)
        if form == "tokens":
            return tokens, "cls" if class_tokens else "avg"
        if form == "class-token":
            return net.node("Gather", [tokens, net.constant(np.int64(0), "first")], axis=1), None
        return net.node("ReduceMean", [tokens], axes=[1], keepdims=0), None
    maps, width = net.convolutions(x)
    if form == "maps":
        return maps, "avg"
    if form == "conv-bent":
        maps = net.activation(net.conv(maps, width, 20, 1), net.pick("relu", "relu6", "swish", "hardswish"))
        return net.node("Flatten", [net.node("GlobalAveragePool", [maps])]), None
    features, width = net.pooled(maps, width)
    if form == "dense-bent":
        return net.activation(net.dense(features, width, 24)), None
    if form == "dense-norm":
        return net.batch_norm(net.dense(features, width, 24), 24), None
    if form == "unit":
        return net.normalised(net.dense(features, width, 24)), None
    return features, None


def make(number):
    """A network and what is known of it; before its weights become integers."""
    random = np.random.default_rng([number, 77])
    kind = str(random.choice(["plain", "plain", "node", "half", "mixed", "qdq", "dynamic"]))
    net = Net(random, kind)
    channels_last = random.random() < 0.25
    x = "image"
    if channels_last:
        x = net.node("Transpose", [x], perm=[0, 3, 1, 2])
    has_classifier = random.random() < 0.75
    pool = None
    if has_classifier:
        output, features, pool = classified(net, x)
    else:
        output, pool = headless(net, x)
        features = output
    outputs = [output]
    renamed = {}
    if not has_classifier and pool is None and random.random() < 0.4:
        # Called by a name that says what it is; a dense layer alone could be a classifier.
        renamed[output] = net.pick("pooler_output", "image_embeds", "embedding")
    # Further outputs, before or behind it.
    extra = net.pick("none", "none", "none", "maps", "labels", "features", "hidden")
    first = next(n.output[0] for n in net.nodes if n.op_type in ("Conv",))
    place = int(random.integers(2))
    if extra == "maps" and pool != "cls" and (has_classifier or pool is None):
        outputs.insert(place, first)
    if extra == "labels" and has_classifier:
        label = net.node("ArgMax", [output], "label", axis=1, keepdims=0)
        outputs.insert(place, label)
    if extra == "features" and has_classifier and pool is None:
        renamed[features] = net.pick("pre_logits", "features", "pooler_output")
        outputs.insert(place, features)
    if extra == "hidden" and not has_classifier and pool in ("cls", "avg") and features in outputs:
        renamed[features] = "last_hidden_state"
        outputs.insert(place, first)
    graph = helper.make_graph(
        net.nodes,
        f"tail{number}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", SIDE, SIDE, 3] if channels_last else ["N", 3, SIDE, SIDE])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        net.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    rename(model, renamed)
    declared = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(declared)
    known = {value.name: value for value in declared.graph.output}
    for value in model.graph.output:
        value.CopyFrom(known[value.name])
        # Half of the files do not say which shapes their outputs have.
        if random.random() < 0.5:
            value.type.tensor_type.ClearField("shape")
    facts = {
        "number": number,
        "kind": kind,
        "tokens": net.has_tokens,
        "features": renamed.get(features, features),
        "classifier": has_classifier,
        "pool": pool,
        "channels_last": bool(channels_last),
        "outputs": [renamed.get(name, name) for name in outputs],
    }
    return model, facts


def rename(model, names):
    for node in model.graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
    for value in model.graph.output:
        value.name = names.get(value.name, value.name)


class Pictures(CalibrationDataReader):
    def __init__(self, shape):
        random = np.random.default_rng(3)
        self.inputs = iter([{"image": random.normal(0, 1, shape).astype(np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.inputs, None)


def rounded(model, features):
    """The tensor that is read in the place of `features` in a quantised graph."""
    if features in {output.name for output in model.graph.output}:
        return features
    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, {})[node.op_type] = node
    tensor = found = features
    while True:
        quantize = readers.get(tensor, {}).get("QuantizeLinear")
        if quantize:
            tensor = found = readers[quantize.output[0]]["DequantizeLinear"].output[0]
        nothing = readers.get(tensor, {})
        nothing = nothing.get("Dropout") or nothing.get("Identity")
        if not nothing:
            return found
        tensor = nothing.output[0]


def write(number, folder):
    model, facts = make(number)
    path = str(folder / f"{number}.onnx")
    shape = [1, SIDE, SIDE, 3] if facts["channels_last"] else [1, 3, SIDE, SIDE]
    if facts["kind"] == "qdq":
        random = np.random.default_rng([number, 5])
        quantize_static(
            model,
            path,
            Pictures(shape),
            quant_format=QuantFormat.QDQ,
            per_channel=bool(random.integers(2)),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The formulas of a normalisation would go wild in 8 bits.
            op_types_to_quantize=["Conv", "MatMul", "Gemm"] if facts["tokens"] else None,
        )
        facts["features"] = rounded(onnx.load(path), facts["features"])
    elif facts["kind"] == "dynamic":
        quantize_dynamic(model, path, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    else:
        onnx.save(model, path)
    return facts


def write_transformers(folder):
    net = Net(np.random.default_rng(8), "plain")
    tokens, width = net.tokens("image", 1)
    token = net.node("Gather", [tokens, net.constant(np.int64(0), "first")], axis=1)
    pooled = net.activation(net.dense(token, width, width, "gemm"), "tanh")
    names = {tokens: "last_hidden_state", pooled: "pooler_output"}
    for file, outputs in (("tokens", [tokens]), ("pooler", [tokens, pooled])):
        graph = helper.make_graph(
            net.nodes,
            file,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            net.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        rename(model, names)
        onnx.save(model, str(folder / f"{file}.onnx"))


def run(folder):
    for line in (folder / "networks.jsonl").read_text().splitlines():
        facts = json.loads(line)
        number = facts["number"]
        path = folder / f"{number}-in.npy"
        if not path.exists():
            continue
        model = onnx.load(str(folder / f"{number}.onnx"))
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=facts["features"]))
        options = SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (values,) = session.run(None, {"image": np.load(path)})
        if facts["pool"] == "cls":
            values = values[:, 0]
        elif facts["pool"] == "avg" and values.ndim == 3:
            values = values.mean(1)
        elif facts["pool"] == "avg":
            values = values.mean((2, 3))
        np.save(folder / f"{number}-out.npy", values.astype(np.float32).reshape(-1))


def main():
    warnings.simplefilter("ignore")
    # The quantiser recommends a preparation that these small networks do not need.
    logging.disable(logging.WARNING)
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "run":
        return run(folder)
    if mode == "tokens":
        return write_transformers(folder)
    first, last = map(int, sys.argv[3:])
    with open(folder / "networks.jsonl", "w") as file:
        for number in range(first, last):
            file.write(json.dumps(write(number, folder)) + "\n")


if __name__ == "__main__":
    main()
