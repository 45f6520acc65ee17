"""Makes small networks with the parts of larger ones that do not depend on the picture.

    make_constant_models.py OUT_DIR [NAME...]

Each has random weights, an input `image` [N, 3, 32, 32], `features` [N, 24] before a dense classifier of 10 classes, and is
written from the paper of the network that it is named after, in the way in which exporters write such a part: shapes
that are computed, tokens that are expanded to the batch, positions that are resized, masks, products of constants.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

WIDTH, HEADS, PATCH, SIDE = 24, 2, 8, 4
TOKENS = SIDE * SIDE


class Net:
    def __init__(self, opset=17):
        self.random = np.random.default_rng(5)
        self.opset = opset
        self.nodes, self.weights, self.count = [], [], 0

    def new(self, wanted):
        self.count += 1
        return f"{wanted}_{self.count}"

    def node(self, op, *inputs, out=None, **attributes):
        name = out or self.new(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def floats(self, values, name=None):
        name = name or self.new("weight")
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def ints(self, *values):
        """A list of integers, by a node as exporters write it; a single one for a scalar."""
        name = self.new("ints")
        value = numpy_helper.from_array(np.array(values[0] if isinstance(values[0], int) else list(values[0]), np.int64))
        self.nodes.append(helper.make_node("Constant", [], [name], value=value))
        return name

    def normal(self, *shape, size=None):
        deviation = size or shape[-2 if len(shape) > 1 else -1] ** -0.5
        return self.floats(self.random.normal(0, deviation, shape))

    # Parts of a transformer.

    def linear(self, x, inputs, outputs, transposed=False):
        weights = self.normal(outputs, inputs, size=inputs**-0.5) if transposed else self.normal(inputs, outputs)
        if transposed:
            weights = self.node("Transpose", weights, perm=[1, 0])
        return self.node("Add", self.node("MatMul", x, weights), self.normal(outputs, size=0.1))

    def norm(self, x):
        mean = self.node("ReduceMean", x, axes=[-1])
        centred = self.node("Sub", x, mean)
        square = self.node("Pow", centred, self.floats(2.0))
        deviation = self.node("Sqrt", self.node("Add", self.node("ReduceMean", square, axes=[-1]), self.floats(1e-6)))
        scaled = self.node("Mul", self.node("Div", centred, deviation), self.normal(WIDTH, size=1.0))
        return self.node("Add", scaled, self.normal(WIDTH, size=0.1))

    def gelu(self, x):
        erf = self.node("Erf", self.node("Div", x, self.floats(2**0.5)))
        return self.node("Mul", self.node("Mul", x, self.node("Add", erf, self.floats(1.0))), self.floats(0.5))

    def heads(self, x, tokens, axes):
        """[N, T, D] as [N, heads, T, D / heads], or its last two axes changed."""
        split = self.node("Reshape", x, self.ints([-1, tokens, HEADS, WIDTH // HEADS]))
        return self.node("Transpose", split, perm=axes)

    def attention(self, x, tokens, queries=None, query_tokens=None, bias=None, transposed=False):
        query_tokens = query_tokens or tokens
        q = self.heads(self.linear(queries or x, WIDTH, WIDTH, transposed), query_tokens, [0, 2, 1, 3])
        k = self.heads(self.linear(x, WIDTH, WIDTH, transposed), tokens, [0, 2, 3, 1])
        v = self.heads(self.linear(x, WIDTH, WIDTH, transposed), tokens, [0, 2, 1, 3])
        scale = self.node("Sqrt", self.node("Cast", self.ints(WIDTH // HEADS), to=TensorProto.FLOAT))
        scores = self.node("Div", self.node("MatMul", q, k), scale)
        if bias:
            scores = self.node("Add", scores, bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        joined = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = self.node("Reshape", joined, self.ints([-1, query_tokens, WIDTH]))
        return self.linear(joined, WIDTH, WIDTH, transposed)

    def block(self, x, tokens, layer_scale=False, transposed=False, bias=None):
        def scaled(part):
            return self.node("Mul", part, self.normal(WIDTH, size=0.5)) if layer_scale else part

        x = self.node("Add", x, scaled(self.attention(self.norm(x), tokens, bias=bias, transposed=transposed)))
        hidden = self.gelu(self.linear(self.norm(x), WIDTH, 2 * WIDTH, transposed))
        return self.node("Add", x, scaled(self.linear(hidden, 2 * WIDTH, WIDTH, transposed)))

    def patches(self):
        """The picture as [N, tokens, D]."""
        maps = self.node(
            "Conv", "image", self.normal(WIDTH, 3, PATCH, PATCH, size=0.1), self.normal(WIDTH), strides=[PATCH] * 2
        )
        flat = self.node("Reshape", maps, self.ints([0, WIDTH, -1]))
        return self.node("Transpose", flat, perm=[0, 2, 1])

    def batch(self, x):
        """The batch as a list of one, out of the shape."""
        size = self.node("Gather", self.node("Shape", x), self.ints(0), axis=0)
        return self.node("Unsqueeze", size, self.ints([0]))

    def expanded(self, token, x):
        """A token [1, 1, D] for each picture, as PyTorch's `expand` becomes."""
        wanted = self.node("Concat", self.batch(x), self.ints([-1]), self.ints([-1]), axis=0)
        ones = self.node("ConstantOfShape", self.ints([3]), value=helper.make_tensor("one", TensorProto.INT64, [1], [1]))
        minus = self.node("Mul", ones, self.ints(-1))
        target = self.node("Where", self.node("Equal", wanted, minus), ones, wanted)
        return self.node("Expand", token, target)

    def with_class_token(self, x):
        return self.node("Concat", self.expanded(self.normal(1, 1, WIDTH, size=1.0), x), x, axis=1)

    def first_token(self, x):
        return self.node("Gather", x, self.ints(0), axis=1, out="features")

    def finish(self, path):
        self.node("Gemm", "features", self.normal(10, WIDTH), self.normal(10), transB=1, out="logits")
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"image": self.random.normal(0, 1, (2, 3, 32, 32)).astype(np.float32)})
        assert np.isfinite(logits).all() and logits.std() > 0.01, path
        path.write_bytes(model.SerializeToString())


def vit(net, transposed=False):
    x = net.with_class_token(net.patches())
    x = net.node("Add", x, net.normal(1, TOKENS + 1, WIDTH, size=0.5))
    for _ in range(2):
        x = net.block(x, TOKENS + 1, transposed=transposed)
    net.first_token(net.norm(x))


def vit_transposed(net):
    """As PyTorch's newer exporter writes it: kernels behind a Transpose."""
    vit(net, transposed=True)


def vit_opset12(net):
    """In an operator set that is older than scales for channels."""
    x = net.patches()
    batch = net.node("Gather", net.node("Shape", x), net.ints(0), axis=0)
    nodes = [batch, net.ints(1), net.ints(WIDTH)]
    wanted = net.node("Concat", *[net.node("Unsqueeze", n, axes=[0]) for n in nodes], axis=0)
    x = net.node("Concat", net.node("Expand", net.normal(1, 1, WIDTH, size=1.0), wanted), x, axis=1)
    x = net.node("Add", x, net.normal(1, TOKENS + 1, WIDTH, size=0.5))
    net.first_token(net.norm(net.block(x, TOKENS + 1)))


vit_opset12.opset = 12


def dinov2(net):
    """Positions are resized to the grid; blocks have layer scales."""
    x = net.patches()
    positions = net.normal(1, 3 * 3 + 1, WIDTH, size=0.5)
    first = net.node("Slice", positions, net.ints([0]), net.ints([1]), net.ints([1]))
    rest = net.node("Slice", positions, net.ints([1]), net.ints([2**31]), net.ints([1]))
    grid = net.node("Transpose", net.node("Reshape", rest, net.ints([1, 3, 3, WIDTH])), perm=[0, 3, 1, 2])
    sizes = net.node("Concat", net.ints([1, WIDTH]), net.ints([SIDE, SIDE]), axis=0)
    grid = net.node("Resize", grid, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    rest = net.node("Reshape", net.node("Transpose", grid, perm=[0, 2, 3, 1]), net.ints([1, -1, WIDTH]))
    x = net.node("Add", net.with_class_token(x), net.node("Concat", first, rest, axis=1))
    net.first_token(net.norm(net.block(net.block(x, TOKENS + 1, True), TOKENS + 1, True)))


def clip(net):
    """Positions by their numbers, a norm before the blocks, a projection behind."""
    x = net.patches()
    token = net.node("Reshape", net.normal(WIDTH, size=1.0), net.ints([1, 1, -1]))
    x = net.node("Concat", net.expanded(token, x), x, axis=1)
    numbers = net.node("Unsqueeze", net.node("Range", net.ints(0), net.ints(TOKENS + 1), net.ints(1)), net.ints([0]))
    x = net.node("Add", x, net.node("Gather", net.normal(TOKENS + 1, WIDTH, size=0.5), numbers, axis=0))
    x = net.norm(net.block(net.norm(x), TOKENS + 1))
    token = net.node("Gather", x, net.ints(0), axis=1)
    net.node("MatMul", token, net.normal(WIDTH, WIDTH), out="features")


def siglip(net):
    """Pools by attention with a query that is learnt: it goes through a dense layer of its own."""
    x = net.node("Add", net.patches(), net.normal(1, TOKENS, WIDTH, size=0.5))
    x = net.norm(net.block(x, TOKENS))
    probe = net.node("Tile", net.normal(1, 1, WIDTH, size=1.0), net.node("Concat", net.batch(x), net.ints([1, 1]), axis=0))
    pooled = net.attention(x, TOKENS, probe, 1)
    pooled = net.node("Add", pooled, net.linear(net.gelu(net.linear(net.norm(pooled), WIDTH, 48)), 48, WIDTH))
    net.node("Squeeze", pooled, net.ints([1]), out="features")


def siglip_constant(net):
    """The query alone depends on nothing: a product of two constants."""
    x = net.norm(net.block(net.patches(), TOKENS))
    probe = net.normal(1, 1, WIDTH, size=1.0)
    pooled = net.attention(x, TOKENS, probe, 1)
    net.node("Reshape", pooled, net.ints([-1, WIDTH]), out="features")


def mobilevit(net):
    """Convolutions, then patches unfolded into tokens by computed shapes, and folded again."""
    maps = net.node("Conv", "image", net.normal(WIDTH, 3, 3, 3, size=0.2), strides=[4, 4], pads=[1, 1, 1, 1])
    maps = net.node("Mul", maps, net.node("Sigmoid", maps))
    shape = net.node("Shape", maps)
    sides = [net.node("Slice", shape, net.ints([i]), net.ints([i + 1])) for i in (1, 2, 3)]
    unfolded = net.node("Concat", net.batch(maps), sides[0], net.node("Mul", sides[1], sides[2]), axis=0)
    x = net.node("Reshape", maps, unfolded)
    x = net.block(net.node("Transpose", x, perm=[0, 2, 1]), 64)
    x = net.node("Transpose", net.norm(x), perm=[0, 2, 1])
    folded = net.node("Reshape", x, net.node("Concat", net.batch(maps), net.node("Slice", shape, net.ints([1]), net.ints([4])), axis=0))
    maps = net.node("Conv", net.node("Concat", maps, folded, axis=1), net.normal(WIDTH, 2 * WIDTH, 3, 3, size=0.05))
    net.node("Flatten", net.node("GlobalAveragePool", maps), out="features")


def swinv2(net):
    """Windows that are rolled, cosine attention, positions out of a small network of constants, a mask."""
    x = net.node("Reshape", net.patches(), net.ints([-1, SIDE, SIDE, WIDTH]))
    for axis in (1, 2):
        parts = [net.node("Slice", x, net.ints([a]), net.ints([b]), net.ints([axis])) for a, b in ((1, SIDE), (0, 1))]
        x = net.node("Concat", *parts, axis=axis)
    windows = net.node("Reshape", x, net.ints([-1, 2, 2, 2, 2, WIDTH]))
    windows = net.node("Reshape", net.node("Transpose", windows, perm=[0, 1, 3, 2, 4, 5]), net.ints([-1, 4, WIDTH]))

    def unit(part):
        length = net.node("Sqrt", net.node("ReduceSum", net.node("Mul", part, part), net.ints([-1]), keepdims=1))
        length = net.node("Clip", length, net.floats(1e-6), "")
        return net.node("Div", part, net.node("Expand", length, net.node("Shape", part)))

    q, k, v = (net.heads(net.linear(windows, WIDTH, WIDTH), 4, [0, 2, 1, 3]) for _ in range(3))
    scores = net.node("MatMul", unit(q), net.node("Transpose", unit(k), perm=[0, 1, 3, 2]))
    limit = net.node("Min", net.normal(HEADS, 1, 1, size=1.0), net.node("Log", net.floats(100.0)))
    scores = net.node("Mul", scores, net.node("Exp", limit))
    steps = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1)[None] * 8 / 3
    table = net.floats(np.sign(steps) * np.log2(np.abs(steps) + 1) / 3)
    table = net.node("Relu", net.linear(table, 2, 16))
    table = net.node("Reshape", net.node("MatMul", table, net.normal(16, HEADS)), net.ints([-1, HEADS]))
    place = np.array([(i // 2, i % 2) for i in range(4)])
    between = place[:, None] - place[None] + 1
    chosen = net.node("Gather", table, net.ints((between[..., 0] * 3 + between[..., 1]).ravel().tolist()), axis=0)
    chosen = net.node("Transpose", net.node("Reshape", chosen, net.ints([4, 4, HEADS])), perm=[2, 0, 1])
    bias = net.node("Mul", net.node("Sigmoid", chosen), net.floats(16.0))
    scores = net.node("Add", scores, net.node("Unsqueeze", bias, net.ints([0])))
    parts = net.node("Reshape", scores, net.ints([-1, 4, HEADS, 4, 4]))
    mask = np.zeros((4, 4, 4), np.float32)
    mask[3] = np.where(np.eye(4), 0, -100)
    mask = net.node("Unsqueeze", net.node("Unsqueeze", net.floats(mask), net.ints([1])), net.ints([0]))
    parts = net.node("Add", parts, mask)
    scores = net.node("Softmax", net.node("Reshape", parts, net.ints([-1, HEADS, 4, 4])), axis=-1)
    mixed = net.node("Reshape", net.node("Transpose", net.node("MatMul", scores, v), perm=[0, 2, 1, 3]), net.ints([-1, TOKENS, WIDTH]))
    x = net.norm(net.linear(mixed, WIDTH, WIDTH))
    net.node("ReduceMean", x, axes=[1], keepdims=0, out="features")


def computed_pads(net):
    """Keras by PyTorch's exporter: paddings out of shapes, casts that do nothing, a bias that is reshaped."""
    shape = net.node("Shape", "image")
    total = []
    for axis in (2, 3):
        size = net.node("Gather", shape, net.ints(axis), axis=0)
        rows = net.node("Div", net.node("Sub", net.node("Add", size, net.ints(2)), net.ints(1)), net.ints(2))
        need = net.node("Sub", net.node("Add", net.node("Mul", net.node("Sub", rows, net.ints(1)), net.ints(2)), net.ints(3)), size)
        half = net.node("Cast", net.node("Cast", net.node("Div", need, net.ints(2)), to=TensorProto.INT64), to=TensorProto.INT64)
        total.append([net.node("Unsqueeze", part, net.ints([0])) for part in (half, net.node("Sub", need, half))])
    zeros = net.node("ConstantOfShape", net.ints([2]), value=helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
    pads = net.node("Concat", zeros, total[0][0], total[1][0], zeros, total[0][1], total[1][1], axis=0)
    x = net.node("Cast", net.node("Pad", "image", pads, ""), to=TensorProto.FLOAT)
    x = net.node("Conv", x, net.normal(16, 3, 3, 3, size=0.2), strides=[2, 2])
    bias = net.node("Reshape", net.normal(16), net.node("Concat", net.ints([1, 16]), net.ints([1, 1]), axis=0))
    x = net.node("Relu", net.node("Add", net.node("Cast", x, to=TensorProto.FLOAT), bias))
    scale = net.node("Identity", net.normal(1, 16, 1, 1, size=1.0))
    x = net.node("Mul", net.node("Sub", x, net.normal(1, 16, 1, 1, size=0.1)), scale)
    kernel = net.node("Transpose", net.normal(3, 3, 16, WIDTH, size=0.1), perm=[3, 2, 0, 1])
    x = net.node("Relu", net.node("Conv", x, kernel))
    net.node("Flatten", net.node("GlobalAveragePool", x), out="features")


def joined_constants(net):
    """Maps of coordinates beside the picture, a map of constants added, weights behind a Reshape."""
    batch = net.node("Concat", net.batch("image"), net.ints([2, 32, 32]), axis=0)
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    coordinates = net.node("Expand", net.floats(np.stack(np.meshgrid(ramp, ramp))[None]), batch)
    x = net.node("Concat", "image", coordinates, axis=1)
    x = net.node("Relu", net.node("Conv", x, net.normal(16, 5, 3, 3, size=0.2), pads=[1, 1, 1, 1]))
    constant = net.node("Conv", net.normal(1, 5, 32, 32, size=1.0), net.normal(16, 5, 1, 1, size=0.2))
    constant = net.node("MaxPool", net.node("Add", constant, constant), kernel_shape=[1, 1])
    x = net.node("Add", x, constant)
    kernel = net.node("Reshape", net.normal(WIDTH, 16 * 9, size=0.1), net.ints([WIDTH, 16, 3, 3]))
    x = net.node("Conv", x, kernel, strides=[2, 2])
    highest = net.node("Cast", net.node("ArgMax", x, axis=1, keepdims=1), to=TensorProto.INT64)
    both = net.node("Concat", highest, highest, axis=1)
    extra = net.node("ReduceMean", net.node("Cast", both, to=TensorProto.FLOAT), axes=[1], keepdims=1)
    x = net.node("Add", x, net.node("Mul", extra, net.floats(0.01)))
    net.node("Flatten", net.node("GlobalAveragePool", x), out="features")


MODELS = [
    vit,
    vit_transposed,
    vit_opset12,
    dinov2,
    clip,
    siglip,
    siglip_constant,
    mobilevit,
    swinv2,
    computed_pads,
    joined_constants,
]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in MODELS:
        if sys.argv[2:] and make.__name__ not in sys.argv[2:]:
            continue
        net = Net(getattr(make, "opset", 17))
        make(net)
        net.finish(folder / f"{make.__name__}.onnx")


if __name__ == "__main__":
    main()
