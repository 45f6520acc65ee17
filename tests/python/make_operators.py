"""Makes small networks of every operator that networks for images use, in the forms that ONNX allows, and of random
sequences of them; and what ONNX Runtime makes of a random input.

    make_operators.py FOLDER COUNT SEED

FOLDER/<number>.onnx, -in.npy and -out.npy; standard output has a line for each: number, height, width and what it is.
The first networks have one operator or a pair each; COUNT random ones follow. ONNX Runtime runs them as they are
written, without its own rewriting.
"""

import random
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

SIDES = (32, 32)


class Net:
    """A graph in the making, with an image of [1, 3, height, width] as `x`."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def constant(self, values, kind=None):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def floats(self, *shape):
        return self.constant(self.random.normal(0, 0.3, shape), np.float32)

    def positive(self, *shape):
        return self.constant(self.random.uniform(0.5, 1.5, shape), np.float32)

    def scalar(self, value):
        return self.constant(value, np.float32)

    def ints(self, *values):
        return self.constant(values, np.int64)

    def node(self, op, *inputs, **attributes):
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def conv(self, x="x", inputs=3, outputs=8, kernel=(3, 3), **attributes):
        weight = self.floats(outputs, inputs // attributes.get("group", 1), *kernel)
        return self.node("Conv", x, weight, self.floats(outputs), **attributes)

    def model(self, output, sides, opset):
        graph = helper.make_graph(
            self.nodes,
            "operators",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *sides])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def unary():
    """Functions of single values, plain and with numbers of their own."""
    plain = "Relu Sigmoid Tanh Abs Neg Exp Softplus Softsign Erf Sign Floor Ceil Round Sin Cos Atan Sinh Asinh HardSwish"
    found = [(name, 14, lambda n, name=name: n.node(name, n.conv())) for name in plain.split()]
    numbered = [
        ("Elu", {"alpha": 0.5}),
        ("Celu", {}),
        ("Celu", {"alpha": 0.5}),
        ("Celu", {"alpha": 2.0}),
        ("Selu", {"alpha": 1.2, "gamma": 0.8}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.7}),
        ("LRN", {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    ]
    found += [(name, 14, lambda n, name=name, a=a: n.node(name, n.conv(), **a)) for name, a in numbered]
    for approximate in ("none", "tanh"):
        found.append(("Gelu", 20, lambda n, a=approximate: n.node("Gelu", n.conv(), approximate=a)))
    for axis in (1, 2, 3, -1):
        for name in ("Softmax", "LogSoftmax", "Hardmax"):
            for opset in (11, 13):
                found.append((name, opset, lambda n, name=name, axis=axis: n.node(name, n.conv(), axis=axis)))
    return found


def arithmetic():
    """Two operands, in either order: maps, numbers per channel, per row and alone; constant and computed."""
    found = []
    shapes = [(8, 1, 1), (1, 8, 1, 1), (1,), (), (30,), (30, 30), (8, 30, 30), (1, 30, 1)]
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        for shape in shapes:
            found.append((f"{op} {shape}", 13, lambda n, op=op, s=shape: n.node(op, n.conv(), n.positive(*s))))
            # Behind a convolution directly, and where it is above 1.
            found.append((f"{op} {shape} first", 13, lambda n, op=op, s=shape: n.node(op, n.positive(*s), above(n))))
        for order in (1, -1):
            name = f"{op} gate {order}"
            found.append((name, 13, lambda n, op=op, order=order: n.node(op, *[above(n), gate(n)][::order])))
    found += [
        ("Sub from one map", 13, lambda n: n.node("Sub", n.scalar(2), n.conv(outputs=1))),
        ("Sub from norm", 13, lambda n: n.node("Sub", n.floats(8, 1, 1), norm(n, n.conv()))),
        ("Sub from, then Relu", 13, lambda n: n.node("Relu", n.node("Sub", n.floats(8, 1, 1), n.conv()))),
        ("Sub from 1 x 1", 13, lambda n: n.node("Sub", n.floats(8, 1, 1), n.conv(kernel=(1, 1)))),
        ("Sub of two", 13, lambda n: n.node("Sub", n.conv(), n.conv())),
        ("Pow", 13, lambda n: n.node("Pow", above(n), n.floats(8, 1, 1))),
        ("Where", 13, lambda n: where(n, n.conv())),
    ]
    return found


def above(n):
    """Maps of a convolution that are well above 0."""
    return n.node("Conv", "x", n.floats(8, 3, 3, 3), n.constant([20] * 8, np.float32))


def gate(n):
    return n.node("Sigmoid", n.node("GlobalAveragePool", n.conv()))


def norm(n, x, width=8):
    return n.node("BatchNormalization", x, n.floats(width), n.floats(width), n.floats(width), n.positive(width))


def where(n, x):
    return n.node("Where", n.node("Greater", x, n.scalar(0)), x, n.scalar(-3))


def windows():
    """Convolutions and pools; what follows a convolution and takes some of its pixels only."""
    found = []
    for pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for kernel in ((3, 3), (4, 4), (5, 2)):
            for stride in (1, 2):
                attributes = {"auto_pad": pad, "strides": [stride] * 2, "kernel": kernel}
                name = f"{pad} {kernel} {stride}"
                found.append((name, 13, lambda n, a=attributes: n.conv(**a)))
                found.append((f"{name}, 1 x 1 by 2", 13, lambda n, a=attributes: pointwise(n, n.node("Relu", n.conv(**a)))))
                depthwise = attributes | {"group": 3, "outputs": 3}
                found.append((f"{name}, depthwise", 13, lambda n, a=depthwise: pointwise(n, n.conv(**a), 3)))
                found.append((f"{name}, slice", 13, lambda n, a=attributes: sliced(n, n.conv(**a), 0, 2)))
            for op in ("MaxPool", "AveragePool"):
                attributes = {"auto_pad": pad, "kernel_shape": kernel, "strides": [2, 2]}
                found.append((f"{op} {pad} {kernel}", 13, lambda n, op=op, a=attributes: n.node(op, n.conv(), **a)))
    for op in ("MaxPool", "AveragePool"):
        for ceil in (0, 1):
            for include in (0, 1) if op == "AveragePool" else (None,):
                attributes = {"kernel_shape": [3, 4], "strides": [2, 3], "pads": [1, 0, 1, 2], "ceil_mode": ceil}
                attributes |= {} if include is None else {"count_include_pad": include}
                found.append((f"{op} {attributes}", 13, lambda n, op=op, a=attributes: n.node(op, n.conv(), **a)))
    for attributes in ({"strides": [2, 2]}, {"strides": [3, 2], "dilations": [2, 1]}, {"strides": [2, 2], "pads": [1, 0, 2, 1]}):
        name = f"ConvTranspose {attributes}"
        found.append((name, 13, lambda n, a=attributes: n.node("ConvTranspose", n.conv(), n.floats(8, 4, 3, 3), n.floats(4), **a)))
    return found


def pointwise(n, x, inputs=8, stride=2):
    return n.conv(x, inputs, 5, (1, 1), strides=[stride, stride])


def sliced(n, x, start, step, axis=2, end=100):
    return n.node("Slice", x, n.ints(start), n.ints(end), n.ints(axis), n.ints(step))


def layouts():
    """Slices, pads, resizing, reductions and what else moves values."""
    found = []
    sources = {
        "conv": lambda n: n.conv(),
        "relu": lambda n: n.node("Relu", n.conv()),
        "image": lambda n: "x",
        "pool": lambda n: n.node("MaxPool", n.conv(), kernel_shape=[2, 2]),
        "softmax": lambda n: n.node("Softmax", n.conv(), axis=2),
        "sum": lambda n: n.node("Add", n.node("Relu", n.conv()), n.scalar(1)),
    }
    for name, source in sources.items():
        for start, step, axis in ((0, 2, 2), (1, 2, 2), (1, 3, 3), (2, 2, 3), (0, 3, 2), (1, 2, 1)):
            place = f"{start} by {step} on {axis}"
            found.append((f"Slice of {name}, {place}", 13, lambda n, s=source, a=(start, step, axis): sliced(n, s(n), *a)))
        found.append((f"Slice of {name}, back", 13, lambda n, s=source: sliced(n, s(n), -1, -2, 2, -(2**40))))
    found.append(("Softmax, 1 x 1 by 2", 13, lambda n: pointwise(n, n.node("Softmax", n.conv(), axis=2))))
    found.append(("LogSoftmax, 1 x 1 by 2", 13, lambda n: pointwise(n, n.node("LogSoftmax", n.conv(), axis=3))))
    for mode in ("constant", "reflect", "edge"):
        for value in ((), (0.7,)):
            def pad(n, mode=mode, value=value):
                places = n.ints(0, 0, 1, 2, 0, 0, 3, 0)
                return n.node("Pad", n.conv(), places, *[n.scalar(v) for v in value], mode=mode)

            found.append((f"Pad {mode} {value}", 13, pad))
            found.append((f"Pad {mode} {value}, conv", 13, lambda n, pad=pad: n.conv(pad(n), 8, 4)))
    for mode, coordinates, rounding in [
        ("nearest", "asymmetric", "floor"),
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "align_corners", "ceil"),
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
        ("linear", "pytorch_half_pixel", "floor"),
        ("cubic", "half_pixel", "floor"),
    ]:
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
        for scales in ((1, 1, 2, 2), (1, 1, 1.5, 0.7)):
            name = f"Resize {mode} {coordinates} {rounding} {scales}"
            resize = lambda n, a=attributes, s=scales: n.node("Resize", n.conv(), "", n.constant(s, np.float32), **a)
            found.append((name, 13, resize))
    for op in ("Mean", "Max", "Min", "Sum", "L1", "L2", "LogSumExp", "SumSquare"):
        for axes in ([1], [2, 3], [-1]):
            reduce = lambda n, op=op, axes=axes: n.node(f"Reduce{op}", n.node("Tanh", n.conv()), axes=axes, keepdims=1)
            found.append((f"Reduce{op} {axes}", 12, reduce))
    moved = [
        lambda n: n.node("Gather", n.conv(), n.ints(-1, 0, 2), axis=1),
        lambda n: n.node("Transpose", n.conv(), perm=[0, 3, 1, 2]),
        lambda n: n.node("DepthToSpace", n.conv(), blocksize=2, mode="CRD"),
        lambda n: n.node("DepthToSpace", n.conv(), blocksize=2),
        lambda n: n.node("SpaceToDepth", n.conv(), blocksize=2),
        lambda n: n.node("InstanceNormalization", n.conv(), n.floats(8), n.floats(8)),
        lambda n: n.node("MatMul", n.conv(), n.floats(30, 7)),
        lambda n: n.node("Einsum", n.conv(), n.floats(8, 6), equation="nchw,cd->ndhw"),
        lambda n: n.node("Tile", n.conv(), n.ints(1, 2, 1, 2)),
        lambda n: n.node("PRelu", n.conv(), n.floats(8, 1, 1)),
        lambda n: n.node("GlobalMaxPool", n.conv()),
        lambda n: norm(n, n.conv()),
    ]
    return found + [(f"moved {i}", 13, build) for i, build in enumerate(moved)]


class Chain(Net):
    """A random sequence of operators on maps; `shapes` has channels, height and width of each tensor."""

    STEPS = "conv conv conv conv act act constant constant constant pair gated normed slice slice pad pool turn".split()
    STEPS += "join cut shuffle pick multiply soft centred enlarge deconv depth bounded".split()

    def __init__(self, seed):
        super().__init__(seed)
        self.chance = random.Random(seed)
        self.shapes = {"x": (3, *SIDES)}

    def add(self, shape, op, *inputs, **attributes):
        self.shapes[self.node(op, *inputs, **attributes)] = shape

    def step(self):
        names = list(self.shapes)
        x = names[-1 - min(len(names) - 1, self.chance.choice([0, 0, 0, 0, 1, 1, 2, 3]))]
        getattr(self, self.chance.choice(self.STEPS))(x, *self.shapes[x])

    def alike(self, *wanted):
        """A tensor with these parts of a shape, `None` for any."""
        fits = lambda shape: all(w in (None, s) for w, s in zip(wanted, shape))
        return self.chance.choice([name for name, shape in self.shapes.items() if fits(shape)])

    def conv(self, x, c, h, w):
        r = self.chance
        kernel, group = r.choice([(1, 1), (3, 3), (3, 1), (2, 4), (5, 5)]), r.choice([1, 1, 1, c])
        outputs = r.choice([4, 8, 5]) if group == 1 else c * r.choice([1, 2])
        strides, dilations = r.choice([[1, 1], [2, 2], [1, 2]]), r.choice([[1, 1], [1, 1], [2, 1]])
        pads = [r.choice([0, 0, 1, 2]) for _ in range(4)]
        free = [(h, w)[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1 for i in (0, 1)]
        if min(free) < 0 or outputs > 48:
            return
        attributes = {"pads": pads}
        made = [f // s + 1 for f, s in zip(free, strides)]
        if r.random() < 0.3 and dilations == [1, 1]:
            attributes = {"auto_pad": r.choice(["SAME_UPPER", "SAME_LOWER"])}
            made = [-(-h // strides[0]), -(-w // strides[1])]
        inputs = [x, self.floats(outputs, c // group, *kernel)] + [self.floats(outputs)] * r.choice([0, 1, 1])
        attributes |= {"strides": strides, "dilations": dilations, "group": group, "kernel_shape": list(kernel)}
        self.add((outputs, *made), "Conv", *inputs, **attributes)

    def act(self, x, *shape):
        self.add(shape, self.chance.choice("Relu Sigmoid Tanh Elu Abs Neg Softsign Selu HardSwish Identity".split()), x)

    def constant_of(self, c, h, w):
        return self.positive(*self.chance.choice([(c, 1, 1), (1, c, 1, 1), (1,), (), (h, w), (1, 1, w), (c, h, w)]))

    def constant(self, *given):
        # The method of the base class makes a tensor.
        if not isinstance(given[0], str):
            return super().constant(*given)
        x, *shape = given
        op, value = self.chance.choice("Add Sub Mul Div Max Min".split()), self.constant_of(*shape)
        first = self.chance.random() < 0.4 and op != "Div"
        return self.add(tuple(shape), op, *([value, x] if first else [x, value]))

    def pair(self, x, *shape):
        self.add(shape, self.chance.choice("Add Sub Mul Max Min".split()), x, self.alike(*shape))

    def gated(self, x, *shape):
        pooled = self.node(self.chance.choice(["GlobalAveragePool", "GlobalMaxPool"]), self.alike(shape[0], None, None))
        operands = [x, self.node("Tanh", pooled)][:: self.chance.choice([1, -1])]
        self.add(shape, self.chance.choice(["Mul", "Add", "Sub"]), *operands)

    def normed(self, x, c, h, w):
        weights = [self.floats(c), self.floats(c), self.floats(c), self.positive(c)]
        self.add((c, h, w), "BatchNormalization", x, *weights)

    def slice(self, x, *shape):
        axis, step = self.chance.choice([1, 2, 3]), self.chance.choice([1, 2, 2, 3, -1, -2])
        start = self.chance.choice([0, 0, 1, 2]) if step > 0 else -1
        kept = len(range(shape[axis - 1])[start::step]) if step > 0 else len(range(shape[axis - 1])[::step])
        if kept:
            made = [kept if i == axis - 1 else side for i, side in enumerate(shape)]
            end = 10**6 if step > 0 else -(2**40)
            self.add(tuple(made), "Slice", x, *map(self.ints, (start, end, axis, step)))

    def pad(self, x, c, h, w):
        if min(h, w) > 2:
            a, b, e, f = (self.chance.choice([0, 1, 2]) for _ in range(4))
            value = [self.scalar(self.chance.choice([0, 1.5]))] * self.chance.choice([0, 1])
            mode = self.chance.choice(["constant", "reflect", "edge"])
            self.add((c, h + a + e, w + b + f), "Pad", x, self.ints(0, 0, a, b, 0, 0, e, f), *value, mode=mode)

    def pool(self, x, c, h, w):
        kernel, strides = self.chance.choice([[2, 2], [3, 3], [1, 3]]), self.chance.choice([[1, 1], [2, 2], [2, 1]])
        if h >= kernel[0] and w >= kernel[1]:
            made = [(side - k) // s + 1 for side, k, s in zip((h, w), kernel, strides)]
            op = self.chance.choice(["MaxPool", "AveragePool"])
            self.add((c, *made), op, x, kernel_shape=kernel, strides=strides)

    def turn(self, x, *shape):
        perm = self.chance.choice([[0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2]])
        self.add(tuple(shape[i - 1] for i in perm[1:]), "Transpose", x, perm=perm)

    def join(self, x, c, h, w):
        other = self.alike(None, h, w)
        if c + self.shapes[other][0] <= 48:
            self.add((c + self.shapes[other][0], h, w), "Concat", x, other, axis=1)

    def cut(self, x, c, h, w):
        if c > 1:
            self.add((c // 2, h, w), "Slice", x, self.ints(c - c // 2), self.ints(c), self.ints(1))

    def shuffle(self, x, c, h, w):
        if c % 2 == 0:
            split = self.node("Reshape", x, self.ints(1, 2, c // 2, h, w))
            self.add((c, h, w), "Reshape", self.node("Transpose", split, perm=[0, 2, 1, 3, 4]), self.ints(1, c, h, w))

    def pick(self, x, c, h, w):
        places = [self.chance.randrange(-c, c) for _ in range(4)]
        self.add((4, h, w), "Gather", x, self.ints(*places), axis=1)

    def multiply(self, x, c, h, w):
        self.add((c, h, 5), "MatMul", x, self.floats(w, 5))

    def soft(self, x, *shape):
        self.add(shape, "Softmax", x, axis=self.chance.choice([1, 2, 3]))

    def centred(self, x, *shape):
        op = self.chance.choice(["ReduceMean", "ReduceMax", "ReduceL2"])
        reduced = self.node(op, x, axes=[self.chance.choice([1, 2, 3])], keepdims=1)
        operands = [x, reduced][:: self.chance.choice([1, -1])]
        self.add(shape, self.chance.choice(["Sub", "Add", "Mul"]), *operands)

    def enlarge(self, x, c, h, w):
        if max(h, w) < 24:
            scales = self.constant([1, 1, 2, 2], np.float32)
            self.add((c, 2 * h, 2 * w), "Resize", x, "", scales, mode=self.chance.choice(["nearest", "linear"]))

    def deconv(self, x, c, h, w):
        if max(h, w) < 24:
            self.add((4, 2 * h + 1, 2 * w + 1), "ConvTranspose", x, self.floats(c, 4, 3, 3), strides=[2, 2])

    def depth(self, x, c, h, w):
        if c % 4 == 0 and max(h, w) < 24:
            self.add((c // 4, 2 * h, 2 * w), "DepthToSpace", x, blocksize=2)
        elif h % 2 == 0 and w % 2 == 0 and c <= 12:
            self.add((4 * c, h // 2, w // 2), "SpaceToDepth", x, blocksize=2)

    def bounded(self, x, *shape):
        self.add(shape, "Clip", x, self.scalar(0), self.scalar(self.chance.choice([1, 6])))


def chain(seed):
    """Returns a random network and the name of its output."""
    net = Chain(seed)
    length = net.chance.choice([4, 6, 9, 14])
    while len(net.shapes) <= length:
        net.step()
    return net, list(net.shapes)[-1]


def main():
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    networks = []
    for name, opset, build in unary() + arithmetic() + windows() + layouts():
        net = Net(len(networks))
        networks.append((name, net, build(net), opset))
    for number in range(count):
        net, output = chain(seed * 100_000 + number)
        networks.append((f"chain {seed * 100_000 + number}", net, output, 14))
    number = 0
    for name, net, output, opset in networks:
        model = net.model(output, SIDES, opset)
        values = net.random.normal(0, 1, (1, 3, *SIDES)).astype(np.float32)
        (made,) = InferenceSession(model.SerializeToString(), options).run(None, {"x": values})
        if not np.isfinite(made).all() or np.abs(made).max() > 1e6:
            continue
        onnx.save(model, folder / f"{number}.onnx")
        np.save(folder / f"{number}-in.npy", values)
        np.save(folder / f"{number}-out.npy", made.astype(np.float32))
        print(number, *SIDES, name)
        number += 1


main()
