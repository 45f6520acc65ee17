"""Makes random quantised layers, in all the forms in which files have them, with what ONNX Runtime makes of them.

    make_qdq_layers.py OUT_DIR COUNT SEED

For each layer i: OUT_DIR/i.onnx, OUT_DIR/i-in.npy (float32, [1, C, H, W]) and OUT_DIR/i-out.npy. Prints a JSON list with
`form` (words), `shape` (of the input) and `tolerance` of each: the steps of the results by which roundings may differ.

ONNX Runtime runs without any optimisation: what the operators' definitions say, in floats. Inputs lie on the steps
of their own rounding, so that it does not decide.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "int32": (-(2**31), 2**31 - 1),
}
TYPES = {name: getattr(TensorProto, name.upper()) for name in RANGES}


class Layer:
    def __init__(self, random):
        self.random = random
        self.nodes, self.weights, self.words = [], [], []
        self.opset = int(random.choice([13, 17, 21, 23]))
        self.tolerance = 0.0

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def say(self, *words):
        self.words.append(" ".join(str(w) for w in words))

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name, values, kind=None):
        values = np.asarray(values)
        if kind is None:
            tensor = numpy_helper.from_array(values.astype(np.float32), name)
        else:
            tensor = helper.make_tensor(name, TYPES[kind], values.shape, values.astype(np.int64).ravel().tolist())
        if self.random.random() < 0.1:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.weights.append(tensor)
        return name

    def scalar(self, value):
        """A number, as a scalar or as a list of one."""
        return np.array([value]) if self.random.random() < 0.5 else np.array(value)

    def small_types(self):
        return ["int16", "uint16", "int4", "uint4"] if self.opset >= 21 else []

    def rounded(self, x, low, high, name, kind=None):
        """Rounds `x` to integers that span `low` to `high` and back; returns the tensor, the step, the integers."""
        kind = kind or self.pick("uint8", "uint8", "uint8", "int8", "int8", *self.small_types()[:2])
        least, most = RANGES[kind]
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / (most - least))
        zero = int(np.clip(np.round(least - low / scale), least, most))
        missing = kind == "uint8" and self.random.random() < 0.2
        if missing:
            zero = 0
        s = self.constant(name + "/s", self.scalar(scale))
        parameters = [s] if missing else [s, self.constant(name + "/z", self.scalar(zero), kind)]
        extra = {"output_dtype": TYPES[kind]} if self.opset >= 21 and self.random.random() < 0.2 else {}
        self.node("QuantizeLinear", [x, *parameters], name + "/q", **extra)
        self.node("DequantizeLinear", [name + "/q", *parameters], name)
        self.say(name, kind, "without a zero point" if missing else f"zero {zero}")
        return name, float(scale), (least - zero) * float(scale), (most - zero) * float(scale)

    def quantised_weights(self, name, values, channel_axis):
        """A weight tensor that is kept as integers: its name and its scales by channel."""
        form = self.pick("plain", "plain", "single", "asymmetric", "uint8", "uint8 128", "rounded here", "other axis")
        kind = "uint8" if form.startswith("uint8") else "int8"
        if self.opset >= 21 and self.random.random() < 0.3:
            form = self.pick("plain", "asymmetric", "blocks")
            kind = self.pick("int8", "int4", "int16", "uint4")
        least, most = RANGES[kind]
        axis = channel_axis
        if form == "other axis":
            axis = 1 - channel_axis
        others = tuple(i for i in range(values.ndim) if i != axis)
        largest = np.maximum(np.abs(values).max(axis=others), 1e-3)
        if form == "single" or self.random.random() < 0.2:
            largest = largest.max()
        if form == "blocks":
            axis = 1
            block = int(self.pick(1, 2, values.shape[1]))
            pieces = -(-values.shape[1] // block)
            largest = np.stack(
                [np.abs(values[:, i * block : (i + 1) * block]).max(axis=1) for i in range(pieces)], axis=1
            )
            largest = np.maximum(largest, 1e-3)
        span = most if least < 0 else (most - least) / 2
        scale = (largest / span).astype(np.float32)
        zero = np.zeros(scale.shape, np.int64)
        if kind.startswith("uint"):
            zero += (most + 1) // 2
        if form in ("asymmetric", "uint8"):
            zero = self.random.integers(least + (most - least) // 4, most - (most - least) // 4, scale.shape)
        where = {}
        if form == "blocks":
            spread = np.repeat(scale, block, axis=1)[:, : values.shape[1]]
            spread_zero = np.repeat(zero, block, axis=1)[:, : values.shape[1]]
            where = {"axis": axis, "block_size": block}
        elif scale.ndim:
            shape = [1] * values.ndim
            shape[axis] = -1
            spread, spread_zero = scale.reshape(shape), zero.reshape(shape)
            where = {"axis": axis - values.ndim if self.random.random() < 0.3 else axis}
        else:
            spread, spread_zero = scale, zero
            scale, zero = self.scalar(scale), None
            zero = np.full(scale.shape, spread_zero)
        integers = np.clip(np.round(values / spread) + spread_zero, least, most)
        parameters = [self.constant(name + "/s", scale)]
        if zero.any() or kind != "int8" or self.random.random() < 0.7:
            parameters.append(self.constant(name + "/z", zero, kind))
        if form == "rounded here" and kind in ("int8", "uint8") and len(parameters) == 2:
            self.constant(name + "/f", values)
            self.node("QuantizeLinear", [name + "/f", *parameters], name + "/q", **where)
        else:
            self.constant(name + "/q", integers, kind)
        self.node("DequantizeLinear", [name + "/q", *parameters], name, **where)
        self.say("weights", kind, form, where)
        by_channel = form != "blocks" and axis == channel_axis
        return name, (np.ravel(scale) if by_channel else None), (integers - spread_zero) * spread

    def quantised_bias(self, name, values, products):
        """A bias in one of its forms; `products` are the scales that runtimes expect, if there are any."""
        form = self.pick("none", "product", "product", "power", "single", "by channel", "int8", "uint8", "float")
        if form == "none":
            self.say("no bias")
            return None
        if form == "float" or (form == "product" and products is None):
            self.say("bias float32")
            return self.constant(name, values)
        kind = form if form in RANGES else "int32"
        if form == "product":
            scale = np.broadcast_to(products, values.shape).astype(np.float32)
        elif form == "power":
            scale = np.full(values.shape, 2.0 ** -self.random.integers(8, 21), np.float32)
        elif form == "by channel":
            scale = (2.0 ** -self.random.uniform(6, 22, values.shape)).astype(np.float32)
        else:
            scale = self.scalar(max(np.abs(values).max(), 1e-3) / 127)
        least, most = RANGES[kind]
        zero = 0
        parameters = [self.constant(name + "/s", scale)]
        if kind != "int32":
            zero = 128 if kind == "uint8" else self.pick(0, 3)
            parameters.append(self.constant(name + "/z", np.full(np.shape(scale), zero), kind))
        integers = np.clip(np.round(values / scale) + zero, max(least, -(2**30)), min(most, 2**30))
        self.constant(name + "/q", integers, kind)
        where = {"axis": 0} if np.ndim(scale) and self.random.random() < 0.8 else {}
        if np.size(scale) > 1:
            where = {"axis": 0}
        self.node("DequantizeLinear", [name + "/q", *parameters], name, **where)
        self.say("bias", kind, form)
        return name

    def activation(self, x):
        form = self.pick("", "", "Relu", "Clip 0 6", "Clip -1 3", "LeakyRelu")
        if not form:
            return x
        self.say(form)
        if form.startswith("Clip"):
            bounds = zip(("low", "high"), map(float, form.split()[1:]))
            low, high = (self.constant(f"{x}/{name}", np.array(v)) for name, v in bounds)
            return self.node("Clip", [x, low, high], "activated")
        return self.node(form, [x], "activated")

    def convolution(self, x, step, channels, name):
        """A convolution of `x`: its result and the number of its channels."""
        form = self.pick("dense", "dense", "point", "depthwise", "groups")
        outputs = int(self.random.integers(1, 20))
        group = 1
        if form == "depthwise":
            outputs = group = channels
        if form == "groups":
            group = 2 if channels % 2 == 0 else 1
            outputs = 2 * outputs
        size = [1, 1] if form == "point" else [int(n) for n in self.random.integers(1, 4, 2)]
        values = self.random.normal(0, 1, (outputs, channels // group, *size)) * 2.0 ** self.random.integers(-3, 2)
        values *= self.random.uniform(0.2, 1, (outputs, 1, 1, 1))
        weights, scales, exact = self.quantised_weights(name + "/w", values, 0)
        products = None if scales is None else (np.float32(step) * scales).astype(np.float32)
        reach = np.abs(exact).reshape(outputs, -1).sum(axis=1).mean()
        bias = self.quantised_bias(name + "/b", self.random.normal(0, reach / 4 + 0.1, outputs), products)
        attributes = {"group": group, "kernel_shape": size}
        if self.random.random() < 0.5:
            attributes["strides"] = [int(n) for n in self.random.integers(1, 3, 2)]
        if self.random.random() < 0.2:
            attributes["dilations"] = [int(n) for n in self.random.integers(1, 3, 2)]
        padding = self.pick("none", "pads", "same")
        if padding == "pads":
            attributes["pads"] = [int(self.random.integers(0, n)) for n in size * 2]
        elif padding == "same" and "dilations" not in attributes:
            attributes["auto_pad"] = self.pick("SAME_UPPER", "SAME_LOWER")
        inputs = [x, weights] + ([bias] if bias else [])
        self.say("convolution", form, {k: v for k, v in attributes.items() if k != "kernel_shape"}, exact.shape)
        return self.node("Conv", inputs, name, **attributes), outputs

    def dense(self, x, step, inputs):
        outputs = int(self.random.integers(1, 12))
        values = self.random.normal(0, 1, (inputs, outputs))
        flat = self.node("Flatten", [x], "flat")
        if self.random.random() < 0.5:
            weights, _, _ = self.quantised_weights("w", values, 1)
            self.say("MatMul")
            return self.node("MatMul", [flat, weights], "dense")
        weights, scales, _ = self.quantised_weights("w", np.ascontiguousarray(values.T), 0)
        products = None if scales is None else np.float32(step) * scales
        bias = self.quantised_bias("b", self.random.normal(0, 2, outputs), products)
        self.say("Gemm")
        return self.node("Gemm", [flat, weights] + ([bias] if bias else []), "dense", transB=1)

    def finish(self, output):
        graph = helper.make_graph(
            self.nodes,
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def run(model, x, tensors=()):
    """What ONNX Runtime gives for `x`, without any optimisation, with inner tensors behind."""
    for tensor in tensors:
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})
    del model.graph.output[1:]
    return found


def make(seed):
    random = np.random.default_rng(seed)
    layer = Layer(random)
    channels = int(random.integers(1, 24))
    layer.shape = [1, channels, int(random.integers(3, 12)), int(random.integers(3, 12))]
    layer.say("opset", layer.opset)
    x, step, low, high = layer.rounded("x", -random.uniform(0, 2), random.uniform(0.5, 4), "x/d")
    image = random.uniform(low * 1.2, high * 1.2, layer.shape)
    image = (np.round(image / step) * step).astype(np.float32)
    kind = layer.pick("convolution", "convolution", "convolution", "sum", "pool", "dense")
    between = 0.0
    if kind == "dense":
        y = layer.dense(x, step, int(np.prod(layer.shape)))
    elif kind == "pool":
        y, _ = layer.convolution(x, step, channels, "conv")
        (values,) = run(layer.finish(y), image)
        y, between, _, _ = layer.rounded(y, *np.quantile(values, [0.01, 0.99]), "conv/d")
        y = layer.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])
        layer.say("MaxPool")
    else:
        y, outputs = layer.convolution(x, step, channels, "conv")
        if kind == "sum":
            (values,) = run(layer.finish(y), image)
            if layer.random.random() < 0.5 and values.shape[1] == channels and values.shape == image.shape:
                other = x
            else:
                small = layer.pick(True, False)
                shape = (1, values.shape[1], 1, 1) if small else values.shape
                other = layer.constant("other", random.normal(0, np.abs(values).mean() + 0.1, shape))
                layer.say("a constant", shape)
            y, between, _, _ = layer.rounded(y, *np.quantile(values, [0.01, 0.99]), "conv/d")
            y = layer.node("Add", layer.pick([y, other], [other, y]), "sum")
            layer.say("Add")
    y = layer.activation(y)
    (values,) = run(layer.finish(y), image)
    low, high = np.quantile(values, layer.pick([0.0, 1.0], [0.05, 0.95])) * layer.pick(1.0, 1.3)
    y, step, _, _ = layer.rounded(y, float(low), float(max(high, 0.01)), "y")
    model = layer.finish(y)
    (values,) = run(model, image)
    tolerance = 1.01 * (step + between) + 1e-5 * float(np.abs(values).max())
    return model, image, values, {"form": "; ".join(layer.words), "shape": layer.shape, "tolerance": tolerance}


def main():
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    facts, refused = [], 0
    while len(facts) < count:
        seed += 1
        try:
            model, image, values, fact = make(seed)
        except Exception as error:  # What ONNX Runtime has no kernel for.
            if "onnxruntime" not in type(error).__module__:
                raise
            refused += 1
            assert refused < 2 * count + 20, error
            continue
        number = len(facts)
        (folder / f"{number}.onnx").write_bytes(model.SerializeToString())
        np.save(folder / f"{number}-in.npy", image)
        np.save(folder / f"{number}-out.npy", values.astype(np.float32))
        facts.append({"seed": seed, **fact})
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
